"""The double layer as a whole: an inner layer from atomistics matched to an outer one of ions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import epsilon_0

from continuum import double_layer
from continuum.inputs import Interface, Solution, Wall
from couplers import fixed_point

UNITS_OF_MATCH = {
    "surface_charge": "C m-2",
    "surface_charge_std": "C m-2",
    "matching_potential": "V",
    "inner_potential": "V",
    "dipole_potential": "V",
    "coverage": "1",
    "iterations": "1",
    "converged": "1",
    "outcome": None,
}


def dipole_potential(
    coverage: float, *, dipole_moment: float, site_density: float, polarisability: float = 0.0
) -> float:
    r"""Shift of the potential of zero charge by a layer of dipoles (Helmholtz, Topping).

    .. math::
        \Delta\chi = -\frac{\mu N \theta}{\varepsilon_0}
        \frac{1}{1 + 9 \alpha (N \theta)^{3/2} / (4 \pi \varepsilon_0)}

    The work function of the electrode moves by :math:`e\,\Delta\chi`: a dipole whose positive end
    points away from the electrode lowers both.

    Parameters
    ----------
    coverage : float
        Share (1) of the sites that is taken.
    dipole_moment : float
        :math:`\mu` (C m) of one adsorbate, positive if its positive end points to the liquid.
    site_density : float
        :math:`N` (m-2).
    polarisability : float
        :math:`\alpha` (C m2 V-1) along the normal, by which neighbours weaken each other.

    Returns
    -------
    float
        :math:`\Delta\chi` (V).

    References
    ----------
    Topping 1927, https://doi.org/10.1098/rspa.1927.0025.

    Examples
    --------
    >>> debye = 3.33564e-30
    >>> round(dipole_potential(0.5, dipole_moment=debye, site_density=1e19), 3)
    -1.884
    """
    density = site_density * coverage
    weaker = 1 + 9 * polarisability * density**1.5 / (4 * np.pi * epsilon_0)
    return float(-dipole_moment * density / epsilon_0 / weaker)


def finite_element_layer(
    solution: Solution, inner: Interface, *, cells: int = 512
) -> Callable[[float], float]:
    """Outer layer of `match` from the Poisson-Boltzmann solver, with the profiles of an Interface.

    Mean forces give the layer a potential without charge on the electrode. The potential of zero
    charge holds that already, so it is taken off.

    Parameters
    ----------
    solution : Solution
        The ions.
    inner : Interface
        Whose permittivity profile and mean forces the outer layer has.
    cells : int
        Cells (1) of the line.

    Returns
    -------
    callable
        Potential (V) at the plane of closest approach against charge (C m-2) of the electrode.
    """
    from continuum.poisson_boltzmann import solve  # loads dolfinx

    forces = {
        name: (lambda x, name=name: inner.mean_force_profile(name, x)) for name in inner.mean_force
    }
    profile = inner.permittivity_profile if inner.relative_permittivity else None

    def potential(charge: float) -> float:
        found = solve(
            solution,
            {"left": Wall(surface_charge=charge)},
            mean_force=forces,
            permittivity_profile=profile,
            cells=cells,
        )
        return float(found["surface_potential"].sel(wall="left"))

    rest = potential(0.0) if forces else 0.0
    return lambda charge: potential(charge) - rest


def match(
    solution: Solution,
    inner: Interface | Callable[[float], float],
    *,
    potentials: Sequence[float],
    outer: Callable[[float], float] | None = None,
    coverage: Callable[[float, float, float], float] | None = None,
    dipole: Callable[[float], float] | None = None,
    start: float | None = None,
    inner_capacitance: float = 0.2,
    noise: float | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 50,
) -> xr.Dataset:
    r"""Find the charge at which the inner layer and the outer one agree on the potential between.

    .. math::
        V = V_i(\sigma) + \Delta\chi(\theta) + \phi_d(\sigma), \qquad
        \theta = \Theta(V, \sigma, \theta), \qquad
        \sigma \leftarrow \sigma + \frac{V - V_i - \Delta\chi - \phi_d}{1/C_H + 1/C_d}

    iterated by `couplers.fixed_point.solve` on :math:`(\sigma, \theta)`. An inner layer that comes
    from molecular dynamics is asked for one charge an iteration, for no derivative.

    Parameters
    ----------
    solution : Solution
        The ions of the outer layer.
    inner : Interface or callable
        :math:`V_i`: potential (V) from the plane of closest approach to the electrode at a charge
        (C m-2), potential of zero charge inside.
    potentials : sequence of float
        Potentials V (V) of the electrode; the dim ``potential``.
    outer : callable, optional
        :math:`\phi_d` (V) at a charge (C m-2), as of `finite_element_layer`; the closed forms of
        `continuum.double_layer` if not given.
    coverage : callable, optional
        :math:`\Theta` (1): isotherm of adsorbates at a potential (V) of the electrode, a charge
        (C m-2) and the coverage itself (1), which tells how neighbours repel each other.
    dipole : callable, optional
        :math:`\Delta\chi` (V) at a coverage (1), as of `dipole_potential`; needed with `coverage`.
    start : float, optional
        First charge (C m-2); from Stern's closed form if not given, at the cost of one evaluation
        of the inner layer without charge.
    inner_capacitance : float
        Rough :math:`C_H` (F m-2) for the steps if `inner` is a callable.
    noise : float, optional
        Standard deviation (V) of one evaluation of the inner layer: the loop ends at it.
    tolerance : float
        Relative tolerance (1) of the charge.
    max_iterations : int
        Most evaluations of the inner layer for each potential (1).

    Returns
    -------
    xarray.Dataset
        `surface_charge` (C m-2) with `_std`, `matching_potential` (V) against the bulk,
        `inner_potential` (V), `dipole_potential` (V; e times it is the shift of the work
        function), `coverage` (1), `iterations`, `converged` and `outcome` (a sentence), dims
        (potential,).

    Raises
    ------
    ValueError
        Lists every fault of the arguments.
    """
    faults = []
    if (coverage is None) != (dipole is None):
        faults.append("coverage and dipole belong together; give both or neither")
    if not (np.isfinite(inner_capacitance) and inner_capacitance > 0):
        faults.append(f"inner_capacitance is {inner_capacitance}, but must be positive and finite")
    if noise is not None and not (np.isfinite(noise) and noise > 0):
        faults.append(f"noise is {noise}, but must be positive and finite")
    wanted = np.asarray(potentials, dtype=float)
    if wanted.ndim != 1 or not np.all(np.isfinite(wanted)):
        faults.append("potentials must be finite, a list of numbers")
    if faults:
        raise ValueError("Matching: " + "; ".join(faults) + ".")
    drop, stern = _inner(inner, inner_capacitance)
    outer = outer or (lambda charge: float(double_layer.surface_potential(solution, charge)))
    rows = []
    for V in wanted.tolist():
        first = start if start is not None else _guess(solution, V, drop, stern)
        found = _solve(
            solution,
            V,
            first,
            (drop, stern, outer, coverage, dipole),
            noise,
            tolerance,
            max_iterations,
        )
        charge, sentence = float(found.x[0]), found.outcome.sentence
        if isinstance(inner, Interface):
            low, high = inner.surface_charge[0], inner.surface_charge[-1]
            if not low <= charge <= high:
                sentence += (
                    f"; the charge, {charge:.3g} C m-2, lies outside the inner layer's data, "
                    f"{low:.3g} to {high:.3g} C m-2"
                )
        taken = float(found.x[1]) if coverage is not None else 0.0
        shift = dipole(taken) if dipole is not None else 0.0
        between = outer(charge)
        rows.append(
            {
                "surface_charge": charge,
                "surface_charge_std": float(found.x_std[0]),
                "matching_potential": between,
                "inner_potential": V - between - shift,
                "dipole_potential": shift,
                "coverage": taken,
                "iterations": found.outcome.iterations,
                "converged": int(found.outcome.converged),
                "outcome": sentence,
            }
        )
    converged = [bool(row["converged"]) for row in rows]
    return xr.Dataset(
        {
            name: ("potential", [row[name] for row in rows], {"units": units} if units else {})
            for name, units in UNITS_OF_MATCH.items()
        },
        coords={"potential": ("potential", wanted, {"units": "V"})},
        attrs={
            "reference": "bulk solution",
            "outcome": f"{int(sum(converged))} of {len(rows)} converged",
        },
    )


def _inner(
    inner: Interface | Callable[[float], float], rough: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Potential (V) across the inner layer and its capacitance (F m-2) against charge (C m-2)."""
    if isinstance(inner, Interface):
        layer = inner
        return (
            lambda charge: layer.potential_of_zero_charge + float(layer.inner_potential(charge)),
            lambda charge: float(layer.capacitance(charge)),
        )
    seen: dict[float, float] = {}

    def drop(charge: float) -> float:
        seen[charge] = float(inner(charge))
        return seen[charge]

    def capacitance(charge: float) -> float:
        """Chord to the nearest charge that was asked for, once there are two."""
        others = [other for other in seen if other != charge]
        if charge not in seen or not others:
            return rough
        near = min(others, key=lambda other: abs(other - charge))
        rise = (seen[charge] - seen[near]) / (charge - near)
        return 1 / rise if rise > 0 else rough

    return drop, capacitance


def _solve(
    solution: Solution,
    V: float,
    first: float,
    parts: tuple[Any, Any, Any, Any, Any],
    noise: float | None,
    tolerance: float,
    max_iterations: int,
) -> fixed_point.FixedPoint:
    """Charge (C m-2), and coverage (1) if there is one, at one potential (V)."""
    drop, stern, outer, coverage, dipole = parts

    def series(charge: float, between: float) -> float:
        diffuse = float(double_layer.capacitance(solution, between))
        return 1 / (1 / stern(charge) + 1 / diffuse)

    # with noise the steps keep one size, or its floor would change with them
    steady = series(first, outer(first)) if noise is not None else np.nan

    def step(x: np.ndarray) -> list[float]:
        charge, taken = float(x[0]), float(x[-1]) if len(x) > 1 else 0.0
        shift = dipole(taken) if dipole is not None else 0.0
        between = outer(charge)
        off = V - drop(charge) - shift - between
        moved = charge + off * (series(charge, between) if noise is None else steady)
        return [moved] if coverage is None else [moved, coverage(V, charge, taken)]

    debye_charge = solution.permittivity / solution.debye_length * solution.thermal_voltage
    begin, scale = [first], [1e-3 * debye_charge]
    floor = None if noise is None else [noise * steady]
    if coverage is not None:
        begin.append(coverage(V, first, 0.0))
        scale.append(1.0)
        if floor is not None:
            floor.append(abs(coverage(V, first + floor[0], begin[1]) - begin[1]))
    return fixed_point.solve(
        step, begin, tolerance=tolerance, scale=scale, noise=floor, max_iterations=max_iterations
    )


def _guess(
    solution: Solution,
    potential: float,
    drop: Callable[[float], float],
    stern: Callable[[float], float],
) -> float:
    """Charge (C m-2) of Stern's closed form, with the capacitance of the uncharged inner layer."""
    uncharged = drop(0.0)
    zeta = double_layer.diffuse_potential(
        solution, potential - uncharged, stern_capacitance=float(stern(0.0))
    )
    return float(double_layer.surface_charge(solution, zeta))
