"""Concentrated binary electrolytes under current: Newman's equations with the Laws of an MD run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.constants import gas_constant

from continuum.finite_elements import basix, fem, ufl
from continuum.inputs import FARADAY, Electrolyte
from continuum.laws import FORMS, Law
from continuum.meshes import Domain, graded, line, move
from continuum.newton import Newton
from continuum.outcome import windows_left
from continuum.time_stepping import march
from continuum.transport_problem import System, relax

PROPERTIES = ("conductivity", "diffusivity", "transference_number", "thermodynamic_factor")
# nearest to the electrodes, as a share of the thickness: where a step of current is first felt
NEAREST = 1e-3


class _Slab(NamedTuple):
    domain: Domain
    space: Any
    unknown: Any
    last: Any
    older: Any
    numbers: dict[str, Any]
    laws: dict[str, Any]
    newton: Newton
    order: np.ndarray


@lru_cache(maxsize=4)
def _slab(cells: int, forms: tuple[str, ...]) -> _Slab:
    domain = line(cells)
    move(domain, np.linspace(0.0, 1.0, cells + 1))
    grid = domain.mesh
    space = fem.functionspace(grid, basix.ufl.element("Lagrange", grid.basix_cell(), 2, shape=(2,)))
    w, last, older = (fem.Function(space) for _ in range(3))
    q, chi = ufl.TestFunction(space)
    numbers = {
        name: fem.Constant(grid, 1.0)
        for name in ("drive", "concentration", "temperature", "diffusivity", "conductivity")
    }
    numbers["weights"] = fem.Constant(grid, np.zeros(3))
    y, psi = w
    c = ufl.exp(y)
    laws, value = {}, {}
    for name, form in zip(PROPERTIES, forms, strict=True):
        laws[name] = fem.Constant(grid, np.zeros(len(FORMS[form][0])))
        law = Law(form, tuple(laws[name][k] for k in range(len(FORMS[form][0]))), "1")
        value[name] = law(c * numbers["concentration"], numbers["temperature"], exp=ufl.exp)
    kappa = value["conductivity"] / numbers["conductivity"]
    anion = 1 - value["transference_number"]
    current = kappa * (2 * anion * value["thermodynamic_factor"] * ufl.grad(y) - ufl.grad(psi))
    flux = value["transference_number"] * current
    flux -= value["diffusivity"] / numbers["diffusivity"] * c * ufl.grad(y)
    dx = ufl.Measure("dx", grid, metadata={"quadrature_degree": 8})
    ds = ufl.Measure("ds", grid, subdomain_data=domain.facets)
    weights = numbers["weights"]
    rate = weights[0] * c + weights[1] * ufl.exp(last[0]) + weights[2] * ufl.exp(older[0])
    enter, leave = ds(domain.boundaries["left"]), ds(domain.boundaries["right"])
    residual = rate * q * dx - ufl.inner(flux, ufl.grad(q)) * dx
    residual -= ufl.inner(current, ufl.grad(chi)) * dx
    residual += numbers["drive"] * (q + chi) * leave - numbers["drive"] * (q + chi) * enter
    left = fem.locate_dofs_topological(
        space.sub(1), 0, domain.facets.find(domain.boundaries["left"])
    )
    zero = fem.dirichletbc(0.0, left, space.sub(1))
    return _Slab(
        domain=domain,
        space=space,
        unknown=w,
        last=last,
        older=older,
        numbers=numbers,
        laws=laws,
        newton=Newton(residual, w, conditions=[zero], clip=1.0),
        order=np.argsort(space.tabulate_dof_coordinates()[:, 0]),
    )


def polarise(
    electrolyte: Electrolyte,
    *,
    thickness: float,
    current_density: float,
    times: Sequence[float] | None = None,
    temperature: float | None = None,
    tolerance: float = 1e-5,
    cells: int = 128,
    throw: bool = True,
) -> xr.Dataset:
    r"""Pass a current through a layer of binary electrolyte between two cation electrodes.

    .. math::
        \partial_t c = -\nabla \cdot N, \quad N = -D \nabla c + t_+ \frac{i}{F}, \quad
        i = -\kappa \nabla \phi + \frac{2 \kappa R T}{F} (1 - t_+)
        \Bigl(1 + \frac{d \ln f}{d \ln c}\Bigr) \nabla \ln c, \quad \nabla \cdot i = 0

    for a 1:1 salt, with :math:`N = i/F` through both ends and :math:`\phi` as a reference
    electrode of the cation's metal reads it. The unknowns are :math:`\ln c` and :math:`\phi`:
    c is positive, and the salt in the layer is constant to rounding.

    ======================================  =====================================
    symbol                                  variable
    ======================================  =====================================
    :math:`c, \phi, N`                      ``concentration``, ``potential``,
                                            ``flux``
    :math:`\phi(0) - \phi(L)`               ``potential_drop``
    :math:`\kappa, D, t_+`, and 1 + dlnf/…  the Laws of the `Electrolyte`
    ======================================  =====================================

    Parameters
    ----------
    electrolyte : Electrolyte
        The salt solution; its Laws are taken at the local concentration.
    thickness : float
        Thickness (m) of the layer.
    current_density : float
        Current density (A m-2), positive from x = 0 to x = L.
    times : sequence of float, optional
        Times (s) after the current is switched on; the steady state if not given.
    temperature : float, optional
        Temperature (K); the electrolyte's own if not given.
    tolerance : float
        Error (1) allowed in a time step, relative to c + c_0 and to the potential + RT/F.
    cells : int
        Cells (1), even.
    throw : bool
        Raise if the solve fails; otherwise return what was reached, with ``converged`` 0 and the
        reason in ``outcome``.

    Returns
    -------
    xarray.Dataset
        FIELD with the cation as its species, with a leading ``time`` dim (s) if `times` are
        given, and ``potential_drop`` (V). A law that left its window is named in ``outcome``.

    Raises
    ------
    ValueError
        Lists every fault of the input.
    SolverError
        If there is no solution, as above the limiting current, and `throw` is set.

    References
    ----------
    Newman, Thomas-Alyea, Electrochemical Systems, 3rd ed., chapter 12, ISBN 0471477567.
    """
    T = electrolyte.temperature if temperature is None else temperature
    faults = []
    if electrolyte.single_ion:
        faults.append(
            f"electrolyte {electrolyte.name!r} is a single-ion conductor, whose concentration "
            "cannot change; use continuum.conduction.conduct"
        )
    for label, number in (("thickness (m)", thickness), ("temperature (K)", T)):
        if not (np.isfinite(number) and number > 0):
            faults.append(f"{label} is {number}, but must be positive and finite")
    if not np.isfinite(current_density):
        faults.append(f"current_density (A m-2) is {current_density}, but must be finite")
    if times is not None:
        steps = np.diff([0.0, *times])
        if len(steps) == 0 or not np.all(np.isfinite(steps)) or np.any(steps <= 0):
            faults.append("times (s) must be positive, finite and increasing")
    if cells < 8 or cells % 2:
        faults.append(f"cells is {cells}, but must be even and at least 8")
    if faults:
        raise ValueError("polarise: " + "; ".join(faults) + ".")

    c0, volt = electrolyte.concentration, gas_constant * T / FARADAY
    laws = {name: getattr(electrolyte, name) for name in PROPERTIES}
    slab = _slab(cells, tuple(law.form for law in laws.values()))
    move(slab.domain, graded(cells, left=NEAREST, right=NEAREST))
    D = float(laws["diffusivity"](c0, T))
    for name, law in laws.items():
        slab.laws[name].value[:] = law.coefficients
    slab.numbers["drive"].value = current_density * thickness / (FARADAY * D * c0)
    slab.numbers["concentration"].value = c0
    slab.numbers["temperature"].value = T
    slab.numbers["diffusivity"].value = D
    slab.numbers["conductivity"].value = FARADAY * D * c0 / volt
    for function in (slab.unknown, slab.last, slab.older):
        function.x.array[:] = 0.0

    def state() -> np.ndarray:
        values = slab.unknown.x.array.reshape(-1, 2)[slab.order].T
        return np.stack([np.exp(values[0]), values[1]])

    rows: list[tuple[float, np.ndarray]] = []
    system, scale = System(slab, state), thickness**2 / D
    if times is None:
        outcome = relax(system)
        rows.append((np.inf, state()))
    else:
        marched = march(
            system,
            [t / scale for t in times],
            first=1e-4 * min(times[0] / scale, NEAREST**2),
            tolerance=tolerance,
            order=2,
            record=lambda t: rows.append((t * scale, state())),
        )
        outcome = marched.outcome
        if not rows:
            rows.append((0.0, state()))
    outcome = outcome.unless_converged(throw=throw)
    stack = np.stack([values for _, values in rows])
    c, phi = c0 * stack[:, 0], volt * stack[:, 1]
    sentence = outcome.sentence + windows_left(laws, float(c.min()), float(c.max()), T)
    lead: tuple[str, ...] = () if times is None else ("time",)
    pick = 0 if times is None else slice(None)
    flux = np.full((len(rows), 1), current_density / FARADAY)
    x = thickness * np.sort(slab.space.tabulate_dof_coordinates()[:, 0])
    coords: dict[str, Any] = {"x": ("x", x, {"units": "m"}), "species": ["cation"]}
    if times is not None:
        coords["time"] = ("time", [t for t, _ in rows], {"units": "s"})
    return xr.Dataset(
        {
            "concentration": ((*lead, "species", "x"), c[:, None][pick], {"units": "mol m-3"}),
            "potential": ((*lead, "x"), phi[pick], {"units": "V"}),
            "electrochemical_potential": (
                (*lead, "species", "x"),
                FARADAY * phi[:, None][pick],
                {"units": "J mol-1"},
            ),
            "flux": ((*lead, "species"), flux[pick], {"units": "mol m-2 s-1"}),
            "potential_drop": (lead, (phi[:, 0] - phi[:, -1])[pick], {"units": "V"}),
        },
        coords=coords,
        attrs={
            "outcome": sentence,
            "converged": int(outcome.converged),
            "newton_iterations": outcome.iterations,
            "reference": "reference electrode of the cation's metal at x = 0",
            "temperature": T,
            "current_density": current_density,
        },
    )
