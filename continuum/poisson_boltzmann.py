"""Ions at rest: the nonlinear Poisson-Boltzmann equation in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import gas_constant

from continuum import double_layer
from continuum.equilibrium_form import FAR, Problem, build
from continuum.field import gather, points
from continuum.finite_elements import PETSc, fem, ufl
from continuum.inputs import Solution, Wall
from continuum.meshes import Domain, graded, line, move
from continuum.newton import DIRECT
from continuum.outcome import Outcome
from continuum.walls import faults as wall_faults

Profile = Callable[[np.ndarray], np.ndarray]


def solve(
    solution: Solution,
    walls: Mapping[str, Wall],
    *,
    length: float | None = None,
    domain: Domain | None = None,
    mean_force: Mapping[str, Profile] | None = None,
    permittivity_profile: Profile | None = None,
    cells: int | None = None,
    degree: int = 2,
    throw: bool = True,
) -> xr.Dataset:
    r"""Solve for the potential of ions at rest, in equilibrium with their bulk.

    .. math::
        -\nabla \cdot (\varepsilon \nabla \phi) = F \sum_i z_i c_i, \quad
        c_i = c_i^b \exp\left(-\frac{z_i F \phi + U_i}{RT} + \frac{v_i}{v_0}\delta\right), \quad
        e^\delta w^b = 1 - \sum_i v_i c_i

    with :math:`\varepsilon\,\partial\phi/\partial n = \sigma` or :math:`C_S (V - \phi)` on
    walls. Points have :math:`\delta = 0`; for equal volumes :math:`\delta` is explicit
    (Bikerman), for unequal ones (Freise) it is a second unknown. The surface charge is the
    consistent residual of the solved form, and the differential capacitance the derivative of
    that residual along the tangent of the solution, neither a difference quotient.

    Parameters
    ----------
    solution : Solution
        The ions and their dielectric.
    walls : Mapping
        `Wall` by boundary name; on a line ``left`` and ``right``. Boundaries without a wall carry
        no charge.
    length : float, optional
        Length (m) of the line, or of one unit of `domain`. A line without a length and without a
        right wall reaches 30 Debye lengths into the bulk.
    domain : Domain, optional
        A mesh in two or three dimensions; a line graded towards its walls if not given.
    mean_force : Mapping, optional
        Potential of mean force :math:`U_i` (J mol-1) beyond electrostatics, by species name, as a
        function of position (m; xyz, point).
    permittivity_profile : callable, optional
        Relative permittivity (1) as a function of position (m; xyz, point), instead of the
        solution's.
    cells : int, optional
        Cells (1) of the line, even; if not given, 256, or more where a layer is so thin that
        they would be fewer than ten to each e-fold of distance from its wall.
    degree : int
        Polynomial degree (1).
    throw : bool
        Raise if the solve fails; otherwise return the last iterate, with ``converged`` 0 and the
        reason in ``outcome``.

    Returns
    -------
    xarray.Dataset
        FIELD, with ``surface_charge`` (C m-2), ``differential_capacitance`` (F m-2) and
        ``surface_potential`` (V), means over each wall, dims (wall,). In two and three dimensions
        x counts the nodes, and ``position`` (m; x, xyz) tells where they lie.

    Raises
    ------
    ValueError
        Lists every fault of the input, such as a mesh too coarse for the Debye length.
    SolverError
        If the equation could not be solved and `throw` is set.

    References
    ----------
    Borukhov, Andelman, Orland 1997, doi:10.1103/PhysRevLett.79.435.
    """
    mean_force = mean_force or {}
    zeta = _check(solution, walls, length, domain, mean_force)
    debye = solution.debye_length
    names = [ion.name for ion in solution.species]
    kinds = {name: _kind(wall) for name, wall in walls.items()}
    on_line = domain is None
    if domain is None:
        if length is None:
            length, kinds[FAR] = 30.0 * debye, "held"
        layers = _layers(solution, zeta, length)
        if cells is None:
            deepest = max((np.log1p(1 / layer) for layer in layers.values()), default=0.0)
            cells = 256 if deepest < 25.6 else 512 * len(layers)
        domain = line(cells)
        move(domain, graded(cells, left=layers.get("left"), right=layers.get("right")))
    assert length is not None
    volumes, cell = double_layer.sizes(solution)
    crowded = bool(np.ptp(volumes) > 1e-12 * volumes.max()) or bool(
        np.any(volumes > 0) and abs(volumes[0] - cell) > 1e-12 * cell
    )
    wells = tuple(i for i, name in enumerate(names) if name in mean_force)
    problem = build(
        domain,
        len(names),
        crowded,
        tuple(sorted(kinds.items())),
        wells,
        permittivity_profile is not None,
        degree,
    )
    bulk = np.array([ion.concentration for ion in solution.species])
    problem.numbers["charge"].value[:] = [ion.charge_number for ion in solution.species]
    problem.numbers["bulk"].value[:] = bulk / solution.ionic_sum
    problem.numbers["volume"].value[:] = volumes * solution.ionic_sum
    problem.numbers["ratio"].value[:] = volumes / cell
    problem.numbers["free"].value = 1.0 - float(volumes @ bulk)
    problem.numbers["debye_squared"].value = (debye / length) ** 2
    thermal = gas_constant * solution.temperature
    for i, function in zip(wells, problem.well, strict=True):
        given = mean_force[names[i]]
        function.interpolate(lambda x, given=given: given(x * length) / thermal)
    if permittivity_profile is not None:
        problem.stretch.interpolate(
            lambda x: permittivity_profile(x * length) / solution.relative_permittivity
        )

    _apply(problem, solution, walls, length, share=1.0)
    _guess(problem, solution, zeta, length, domain, crowded)
    outcome = problem.newton.solve()
    if not outcome.converged:
        outcome = _ramp(problem, solution, walls, length)
    outcome = outcome.unless_converged(throw=throw)
    return _dataset(problem, solution, walls, length, mean_force, outcome, crowded, on_line)


def _kind(wall: Wall) -> str:
    return "held" if wall.potential is not None and wall.stern_capacitance is None else "robin"


def _check(
    solution: Solution,
    walls: Mapping[str, Wall],
    length: float | None,
    domain: Domain | None,
    mean_force: Mapping[str, Profile],
) -> dict[str, float]:
    """Refuse what cannot be solved; return the potential (V) of each wall's solution side."""
    faults, zeta = [], {}
    reach = 300 * solution.thermal_voltage / max(abs(i.charge_number) for i in solution.species)
    for name, wall in walls.items():
        if wall.concentration or wall.reaction is not None:
            faults.append(f"wall {name!r} lets ions through, but ions at rest do not flow")
        if _kind(wall) == "held" and abs(wall.potential or 0.0) > reach:
            faults.append(
                f"the potential of {name!r} is {wall.potential} V, but {reach:.3g} V is the most "
                "that ions can answer to without a Stern layer"
            )
            continue
        zeta[name] = _zeta(solution, wall)
    faults += wall_faults(
        solution,
        walls,
        length,
        domain,
        layer=lambda name: (
            2 * double_layer.layer_thickness(solution, zeta[name]) if name in zeta else np.inf
        ),
    )
    if length is None and (domain is not None or "right" in walls):
        faults.append("length (m) is needed for two walls and for a mesh")
    names = {ion.name for ion in solution.species}
    unknown = sorted(set(mean_force) - names)
    if unknown:
        faults.append(f"mean_force names {unknown}, but the species are {sorted(names)}")
    if faults:
        raise ValueError("Poisson-Boltzmann: " + "; ".join(faults) + ".")
    return zeta


def _zeta(solution: Solution, wall: Wall) -> float:
    """Potential (V) that the solution side of a lone flat wall would have."""
    if wall.surface_charge is not None:
        return float(double_layer.surface_potential(solution, wall.surface_charge))
    if wall.potential is None:
        return 0.0
    if wall.stern_capacitance is None:
        return wall.potential
    return float(
        double_layer.diffuse_potential(
            solution, wall.potential, stern_capacitance=wall.stern_capacitance
        )
    )


def _layers(solution: Solution, zeta: Mapping[str, float], length: float) -> dict[str, float]:
    """Half the thickness (1) of the layer at each wall, which the nodes are crowded to."""
    return {
        name: 0.5 * double_layer.layer_thickness(solution, value) / length
        for name, value in zeta.items()
    }


def _apply(
    problem: Problem,
    solution: Solution,
    walls: Mapping[str, Wall],
    length: float,
    *,
    share: float,
) -> None:
    volt = solution.thermal_voltage
    for name, wall in walls.items():
        if name in problem.held:
            problem.held[name].value = share * (wall.potential or 0.0) / volt
            continue
        given, stiffness = problem.drive[name]
        unit = length / solution.permittivity
        if wall.stern_capacitance is not None and wall.potential is not None:
            stiffness.value = wall.stern_capacitance * unit
            given.value = share * stiffness.value * wall.potential / volt
        else:
            stiffness.value = 0.0
            given.value = share * (wall.surface_charge or 0.0) * unit / volt
    if FAR in problem.held:
        problem.held[FAR].value = 0.0


def _guess(
    problem: Problem,
    solution: Solution,
    zeta: Mapping[str, float],
    length: float,
    domain: Domain,
    crowded: bool,
) -> None:
    """Start from the closed form of each wall alone, at the distance from it."""
    nodes = problem.space.tabulate_dof_coordinates()
    above, below = np.zeros(len(nodes)), np.zeros(len(nodes))
    for name, potential in zeta.items():
        if potential == 0.0:
            continue
        if domain.mesh.topology.dim == 1:
            away = nodes[:, 0] if name == "left" else 1.0 - nodes[:, 0]
            away = away * length
        else:
            away = _distance(domain, name, solution.debye_length / length, nodes) * length
        layer = double_layer.sketch(solution, away, potential=potential)
        # where layers of one sign meet, in a corner, the nearer one rules
        above, below = np.maximum(above, layer), np.minimum(below, layer)
    psi = (above + below) / solution.thermal_voltage
    values = problem.unknown.x.array
    if crowded:
        values[0::2], values[1::2] = psi, double_layer.crowding(solution, psi)
    else:
        values[:] = psi
    for name, constant in problem.held.items():
        dofs = problem.dofs[name]
        values[dofs] = constant.value
    problem.unknown.x.scatter_forward()


def _distance(domain: Domain, name: str, debye: float, nodes: np.ndarray) -> np.ndarray:
    """Distance (1) from a boundary at nodes of the same mesh, as -l ln u of l^2 u'' = u."""
    grid = domain.mesh
    space = fem.functionspace(grid, ("Lagrange", 1))
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    facets = domain.facets.find(domain.boundaries[name])
    wall = fem.dirichletbc(
        1.0, fem.locate_dofs_topological(space, grid.topology.dim - 1, facets), space
    )
    scale = fem.Constant(grid, debye**2)
    problem = fem.petsc.LinearProblem(
        (scale * ufl.inner(ufl.grad(u), ufl.grad(v)) + u * v) * ufl.dx,
        fem.Constant(grid, 0.0) * v * ufl.dx,
        bcs=[wall],
        petsc_options_prefix=f"distance_{name}_",
        petsc_options=DIRECT
        if space.dofmap.index_map.size_global < 100_000
        else {"ksp_type": "cg", "pc_type": "gamg", "ksp_rtol": 1e-8},
    )
    solved = problem.solve()
    fine = fem.functionspace(grid, ("Lagrange", 2))
    function = fem.Function(fine)
    function.interpolate(solved)
    place = fine.tabulate_dof_coordinates()
    value = -debye * np.log(np.clip(function.x.array, 1e-13, 1.0))
    if place.shape == nodes.shape and np.array_equal(place, nodes):
        return value
    coarse = space.tabulate_dof_coordinates()
    assert np.array_equal(coarse, nodes)
    return -debye * np.log(np.clip(solved.x.array, 1e-13, 1.0))


def _ramp(
    problem: Problem, solution: Solution, walls: Mapping[str, Wall], length: float
) -> Outcome:
    """Raise the walls from rest to their full values, in steps as long as Newton can follow."""
    reached, step, total = 0.0, 0.25, 0
    values = problem.unknown.x.array
    values[:] = 0.0
    kept = values.copy()
    outcome = Outcome(False, "nothing was tried")
    while reached < 1.0 and step > 1e-4:
        share = min(1.0, reached + step)
        _apply(problem, solution, walls, length, share=share)
        outcome = problem.newton.solve()
        total += outcome.iterations
        if outcome.converged:
            reached, step = share, 2 * step
            kept[:] = values
        else:
            step /= 4
            values[:] = kept
    if reached < 1.0:
        return Outcome(
            False,
            f"the walls could be raised to {reached:.3g} of their values; then {outcome.sentence}",
            total,
        )
    return Outcome(True, f"{outcome.sentence}, after raising the walls in steps", total)


def _reaction(problem: Problem, form: Any, name: str) -> float:
    """Sum of a residual over the nodes of a wall: the flux through it, consistently."""
    vector = fem.petsc.assemble_vector(form)
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    owned = vector.array
    dofs = problem.dofs[name]
    total = float(owned[dofs[dofs < len(owned)]].sum())
    vector.destroy()
    return problem.space.mesh.comm.allreduce(total) / problem.area[name]


def _tangent(problem: Problem, name: str) -> float:
    """Change of the wall's charge with the value that drives it (1), all else held."""
    newton, held = problem.newton, problem.held
    before = {key: float(constant.value) for key, constant in held.items()}
    for constant in held.values():
        constant.value = 0.0
    vector = newton.vector
    with vector.localForm() as local:
        local.set(0.0)
    if name in held:
        held[name].value = 1.0
    else:
        fem.petsc.assemble_vector(vector, problem.load[name])
    fem.petsc.apply_lifting(vector, [newton.jacobian], [newton.conditions])
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    fem.petsc.set_bc(vector, newton.conditions)
    newton.assemble_jacobian()
    newton.solver.solve(vector, newton.update)
    direction = problem.direction
    direction.x.array[: newton.update.getLocalSize()] = newton.update.array
    direction.x.scatter_forward()
    for key, constant in held.items():
        constant.value = before[key]
    return _reaction(problem, problem.tangent, name)


def _dataset(
    problem: Problem,
    solution: Solution,
    walls: Mapping[str, Wall],
    length: float,
    mean_force: Mapping[str, Profile],
    outcome: Outcome,
    crowded: bool,
    on_line: bool,
) -> xr.Dataset:
    volt, comm = solution.thermal_voltage, problem.space.mesh.comm
    place = points(problem.space)
    owned = problem.unknown.x.array.reshape(-1, 2 if crowded else 1)[: len(place)]
    psi = owned[:, 0]
    exponent = -np.outer([ion.charge_number for ion in solution.species], psi)
    for i, ion in enumerate(solution.species):
        if ion.name in mean_force:
            exponent[i] -= mean_force[ion.name](place.T * length) / (
                gas_constant * solution.temperature
            )
    bulk = np.array([ion.concentration for ion in solution.species])
    volumes, cell = double_layer.sizes(solution)
    c = bulk[:, None] * np.exp(
        exponent + (np.outer(volumes / cell, owned[:, 1]) if crowded else 0.0)
    )
    if not crowded:
        c = c / (1.0 + volumes @ (c - bulk[:, None]))
    position, phi, c = gather(comm, place * length, volt * psi, c)

    unit = solution.permittivity * volt / length
    debye_squared = float(problem.numbers["debye_squared"].value)
    charge, slope, surface = [], [], []
    for name, wall in walls.items():
        charge.append(unit / debye_squared * _reaction(problem, problem.bulk, name))
        change = _tangent(problem, name) / debye_squared
        dofs = problem.dofs[name]
        step = _mean(comm, problem.direction.x.array, dofs, problem.newton.update)
        surface.append(volt * _mean(comm, problem.unknown.x.array, dofs, problem.newton.update))
        if name in problem.held:
            slope.append(unit / volt * change)
        elif wall.stern_capacitance is not None:
            # the tangent is to a charge given beside the Stern layer: to the electrode's
            # potential it is that times the layer's capacitance
            slope.append(wall.stern_capacitance * change)
        else:
            slope.append(unit / volt / step)
    coords: dict[str, Any] = {
        "x": ("x", position[:, 0], {"units": "m"}),
        "species": [ion.name for ion in solution.species],
        "wall": list(walls),
    }
    if not on_line:
        coords["position"] = (("x", "xyz"), position, {"units": "m"})
    rest = np.zeros(len(bulk))
    return xr.Dataset(
        {
            "concentration": (("species", "x"), c, {"units": "mol m-3"}),
            "potential": ("x", phi, {"units": "V"}),
            "electrochemical_potential": (("species", "x"), 0.0 * c, {"units": "J mol-1"}),
            "flux": ("species", rest, {"units": "mol m-2 s-1"}),
            "surface_charge": ("wall", charge, {"units": "C m-2"}),
            "differential_capacitance": ("wall", slope, {"units": "F m-2"}),
            "surface_potential": ("wall", surface, {"units": "V"}),
        },
        coords=coords,
        attrs={
            "outcome": outcome.sentence,
            "converged": int(outcome.converged),
            "newton_iterations": outcome.iterations,
            "reference": "bulk solution",
        },
    )


def _mean(comm: Any, values: np.ndarray, dofs: np.ndarray, owned: Any) -> float:
    mine = values[dofs[dofs < owned.getLocalSize()]]
    return comm.allreduce(float(mine.sum())) / comm.allreduce(len(mine))
