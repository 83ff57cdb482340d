"""Steady conduction through a slab of single-ion solid electrolyte, with its space charge."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.constants import epsilon_0, gas_constant

from continuum.finite_elements import basix, fem, ufl
from continuum.inputs import FARADAY, Electrolyte
from continuum.meshes import Domain, graded, line, move
from continuum.newton import Newton
from continuum.outcome import windows_left


class _Slab(NamedTuple):
    """Compiled forms of the slab, used again by every solve with the same number of cells."""

    domain: Domain
    position: np.ndarray
    drive: Any
    debye_squared: Any
    unknown: Any
    newton: Newton


@lru_cache(maxsize=4)
def _slab(cells: int) -> _Slab:
    domain = line(cells)
    move(domain, np.linspace(0.0, 1.0, cells + 1))
    slab = domain.mesh
    element = basix.ufl.element("Lagrange", slab.basix_cell(), 2, shape=(2,))
    space = fem.functionspace(slab, element)
    w, test = fem.Function(space), ufl.TestFunction(space)
    drive = fem.Constant(slab, 0.0)
    debye_squared = fem.Constant(slab, 1.0)
    dx = ufl.Measure("dx", slab, metadata={"quadrature_degree": 6})
    ds = ufl.Measure("ds", slab, subdomain_data=domain.facets)
    mu, phi = w[0], w[1]
    c = ufl.exp(mu - phi)
    residual = (
        c * ufl.inner(ufl.grad(mu), ufl.grad(test[0])) * dx
        - drive * test[0] * ds(domain.boundaries["left"])
        + drive * test[0] * ds(domain.boundaries["right"])
        + debye_squared * ufl.inner(ufl.grad(phi), ufl.grad(test[1])) * dx
        - (c - 1.0) * test[1] * dx
    )
    # mu and phi are known up to one common constant: hold mu on the left
    left = fem.locate_dofs_topological(
        space.sub(0), 0, domain.facets.find(domain.boundaries["left"])
    )
    held = fem.dirichletbc(0.0, left, space.sub(0))
    return _Slab(
        domain=domain,
        position=np.rint(space.tabulate_dof_coordinates()[:, 0] * 2 * cells).astype(int),
        drive=drive,
        debye_squared=debye_squared,
        unknown=w,
        newton=Newton(residual, w, conditions=[held], tolerance=1e-10),
    )


def conduct(
    electrolyte: Electrolyte,
    *,
    thickness: float,
    current_density: float,
    relative_permittivity: float = 10.0,
    temperature: float | None = None,
    cells: int = 128,
    throw: bool = True,
) -> xr.Dataset:
    r"""Pass a steady current through a slab of single-ion conductor and give its potential drop.

    .. math::
        \nabla \cdot N = 0, \quad
        N = -\frac{D c}{R T} \nabla \tilde\mu, \quad
        \tilde\mu = R T \ln\frac{c}{c_0} + F \phi, \quad
        -\nabla \cdot (\varepsilon_r \varepsilon_0 \nabla \phi) = F (c - c_0), \quad
        D = \frac{R T \sigma(c_0, T)}{F^2 c_0}

    The current enters through :math:`x = 0` and leaves through :math:`x = L` at the rate
    :math:`N = i/F`; neither face carries charge, :math:`\phi' = 0`. A neutral sample of such a
    solid has :math:`c = c_0` throughout, so that its conductivity was measured there; where space
    charge moves :math:`c`, the ions keep their diffusivity, and the local conductivity is
    :math:`\sigma c / c_0`. Ohm's law is then the answer for :math:`L \gg \lambda_D`, where
    :math:`\lambda_D^2 = \varepsilon_r \varepsilon_0 R T / (F^2 c_0)`, and not for a slab as thin
    as its space charge. Poisson's equation is solved at any thickness, on a mesh that is graded
    towards both faces.

    =====================================  ==========================================
    symbol                                 variable
    =====================================  ==========================================
    :math:`i, L, T, \varepsilon_r`         ``current_density``, ``thickness``,
                                           ``temperature``, ``relative_permittivity``
    :math:`c, \phi, \tilde\mu, N`          ``concentration``, ``potential``,
                                           ``electrochemical_potential``, ``flux``
    :math:`[\tilde\mu(0)-\tilde\mu(L)]/F`  ``potential_drop``
    :math:`i L / \sigma`                   ``ohm_potential_drop``
    =====================================  ==========================================

    Parameters
    ----------
    electrolyte : Electrolyte
        A single-ion conductor.
    thickness : float
        Thickness (m) of the slab.
    current_density : float
        Current density (A m-2), positive from x = 0 to x = L: the potential then falls along x.
    relative_permittivity : float
        Relative permittivity (1).
    temperature : float, optional
        Temperature (K); the electrolyte's own if not given.
    cells : int
        Number of cells (1), even.
    throw : bool
        Raise if the solve fails; otherwise return the last iterate, with ``converged`` 0 and the
        reason in ``outcome``.

    Returns
    -------
    xarray.Dataset
        FIELD, with the scalars ``potential_drop`` (V), measured between the electrochemical
        potentials of the ion at the two faces, ``ohm_potential_drop`` (V),
        ``relative_difference`` (1) and ``debye_length`` (m). A law that left its window is named
        in ``outcome``.

    Raises
    ------
    ValueError
        Lists every fault of the input.
    SolverError
        If Newton's method fails and `throw` is set.

    References
    ----------
    Bazant, Thornton, Ajdari 2004, doi:10.1103/PhysRevE.70.021506.
    """
    T = electrolyte.temperature if temperature is None else temperature
    faults = []
    if not electrolyte.single_ion:
        faults.append(
            f"electrolyte {electrolyte.name!r} is not a single-ion conductor, but the slab has a "
            "fixed background of charge"
        )
    for label, number in (
        ("thickness (m)", thickness),
        ("relative_permittivity", relative_permittivity),
        ("temperature (K)", T),
    ):
        if not (np.isfinite(number) and number > 0):
            faults.append(f"{label} is {number}, but must be positive and finite")
    if not np.isfinite(current_density) or current_density == 0:
        faults.append(
            f"current_density (A m-2) is {current_density}, but must be finite and not zero"
        )
    if cells < 8 or cells % 2:
        faults.append(f"cells is {cells}, but must be even and at least 8")
    if faults:
        raise ValueError("conduct: " + "; ".join(faults) + ".")

    c0 = electrolyte.concentration
    sigma = float(electrolyte.conductivity(c0, T))
    volt = gas_constant * T / FARADAY
    debye = np.sqrt(relative_permittivity * epsilon_0 * volt / (FARADAY * c0))
    drive = current_density * thickness / (sigma * volt)
    ratio = debye / thickness

    slab = _slab(cells)
    nodes = graded(cells, left=min(0.3 * ratio, 10.0), right=min(0.3 * ratio, 10.0))
    move(slab.domain, nodes)
    both = np.empty(2 * cells + 1)
    both[::2], both[1::2] = nodes, 0.5 * (nodes[1:] + nodes[:-1])
    slab.drive.value, slab.debye_squared.value = drive, ratio**2
    values = slab.unknown.x.array.reshape(-1, 2)
    values[:, 0] = values[:, 1] = -drive * both[slab.position]
    outcome = slab.newton.solve()
    if not outcome.converged:
        why = (
            f"{outcome.sentence}; the current is {abs(drive) * ratio:.2g} times the one that "
            "empties the space charge at a face, beyond about 1 there is no steady state"
        )
        outcome = replace(outcome, sentence=why).unless_converged(throw=throw)

    mu, phi = np.empty_like(both), np.empty_like(both)
    mu[slab.position], phi[slab.position] = values[:, 0], values[:, 1]
    c = np.exp(mu - phi)
    # exact for P2 mu at Simpson's points: end, middle, end
    slope = np.stack(
        [
            -3 * mu[:-1:2] + 4 * mu[1::2] - mu[2::2],
            mu[2::2] - mu[:-1:2],
            mu[:-1:2] - 4 * mu[1::2] + 3 * mu[2::2],
        ]
    )
    flux = -np.sum((c[:-1:2] * slope[0] + 4 * c[1::2] * slope[1] + c[2::2] * slope[2]) / 6)
    drop = (mu[0] - mu[-1]) * volt
    ohm = current_density * thickness / sigma
    species = ("mobile cation",)
    scale = sigma * volt / (FARADAY * thickness)
    return xr.Dataset(
        {
            "concentration": (("species", "x"), c0 * c[None], {"units": "mol m-3"}),
            "potential": ("x", volt * phi, {"units": "V"}),
            "electrochemical_potential": (
                ("species", "x"),
                gas_constant * T * mu[None],
                {"units": "J mol-1"},
            ),
            "flux": (("species",), [scale * flux], {"units": "mol m-2 s-1"}),
            "potential_drop": ((), drop, {"units": "V"}),
            "ohm_potential_drop": ((), ohm, {"units": "V"}),
            "relative_difference": ((), drop / ohm - 1.0, {"units": "1"}),
            "debye_length": ((), debye, {"units": "m"}),
        },
        coords={"x": ("x", thickness * both, {"units": "m"}), "species": list(species)},
        attrs={
            "outcome": outcome.sentence
            + windows_left({"conductivity": electrolyte.conductivity}, c0, c0, T),
            "converged": int(outcome.converged),
            "reference": "electrochemical potential of the mobile cation at x = 0",
            "temperature": T,
            "current_density": current_density,
        },
    )
