"""A transport problem put into numbers: checked, meshed, filled, started and driven in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from continuum import double_layer
from continuum.finite_elements import MPI, PETSc, fem
from continuum.inputs import Reaction, Solution, Wall
from continuum.laws import Law
from continuum.meshes import Domain, graded
from continuum.outcome import Outcome
from continuum.transport_form import Problem, Structure
from continuum.walls import faults as wall_faults

Profile = Callable[[np.ndarray], np.ndarray]


def check(
    solution: Solution,
    walls: Mapping[str, Wall],
    length: float,
    times: Sequence[float] | None,
    domain: Domain | None,
    reactions: Sequence[Reaction],
    initial: Mapping[str, Profile],
    electroneutral: bool,
) -> None:
    """Refuse, with every fault at once, what cannot be solved."""
    names = [ion.name for ion in solution.species]
    faults = wall_faults(
        solution,
        walls,
        length,
        domain,
        layer=lambda name: (
            np.inf if electroneutral or not _acts(walls[name]) else solution.debye_length
        ),
    )
    if times is not None:
        steps = np.diff([0.0, *times])
        if len(times) == 0 or not np.all(np.isfinite(steps)) or np.any(steps <= 0):
            faults.append("times (s) must be positive, finite and increasing")
    for source, given in (
        *((f"wall {name!r}", wall.concentration) for name, wall in walls.items()),
        *(
            (f"wall {name!r}", [wall.reaction.species])
            for name, wall in walls.items()
            if wall.reaction is not None
        ),
        *(("a reaction", [*r.reactants, *r.products]) for r in reactions),
        ("initial", initial),
    ):
        unknown = sorted(set(given) - set(names))
        if unknown:
            faults.append(f"{source} names {unknown}, but the species are {names}")
    sized = any(ion.diameter > 0 for ion in solution.species)
    charges = {ion.name: ion.charge_number for ion in solution.species}
    for name, wall in walls.items():
        if wall.concentration and (wall.potential is None or wall.stern_capacitance is not None):
            faults.append(f"wall {name!r} holds concentrations, so it must hold the potential too")
        if wall.concentration and sized and set(wall.concentration) != set(names):
            faults.append(f"wall {name!r} must hold all species or none where ions have a size")
        if electroneutral and set(wall.concentration) >= set(names):
            net = sum(charges[k] * v for k, v in wall.concentration.items() if k in charges)
            if abs(net) > 1e-9 * solution.ionic_sum:
                faults.append(
                    f"wall {name!r} holds a charge of {net:g} mol m-3, but must be neutral"
                )
    if not electroneutral and not any(wall.potential is not None for wall in walls.values()):
        total = sum(wall.surface_charge or 0.0 for wall in walls.values())
        if total != 0.0:
            faults.append(
                f"the walls carry {total:g} C m-2 in all and none is at a potential, but the "
                "solution is neutral; let the charges add up to 0"
            )
    if faults:
        raise ValueError("Nernst-Planck: " + "; ".join(faults) + ".")


def _acts(wall: Wall) -> bool:
    return wall.potential is not None or bool(wall.surface_charge)


def nodes(solution: Solution, walls: Mapping[str, Wall], length: float, cells: int) -> np.ndarray:
    """Nodes crowded to a third of the layer that each wall's potential could make at most."""
    level = [wall.potential for wall in walls.values() if wall.potential is not None]
    middle = 0.5 * (min(level) + max(level)) if level else 0.0
    volt = solution.thermal_voltage
    layer = {}
    for name, wall in walls.items():
        zeta = 0.0
        if wall.surface_charge is not None:
            zeta = float(double_layer.surface_potential(solution, wall.surface_charge))
        elif wall.potential is not None:
            zeta = wall.potential - middle
            if wall.stern_capacitance is not None:
                zeta = float(
                    double_layer.diffuse_potential(
                        solution, zeta, stern_capacitance=wall.stern_capacitance
                    )
                )
        zeta = float(np.clip(zeta, -60 * volt, 60 * volt))
        layer[name] = 0.3 * double_layer.layer_thickness(solution, zeta) / length
    return graded(cells, left=layer["left"], right=layer["right"])


def crowded(solution: Solution) -> bool:
    """Whether the free volume is an unknown: where ions have sizes that are not all the cell's."""
    volumes, cell = double_layer.sizes(solution)
    return bool(np.any(volumes > 0) and np.any(np.abs(volumes - cell) > 1e-12 * cell))


def structure(
    solution: Solution,
    walls: Mapping[str, Wall],
    domain: Domain,
    reactions: Sequence[Reaction],
    electroneutral: bool,
    degree: int,
) -> Structure:
    """Say what the compiled forms of a problem depend on."""
    index = {ion.name: i for i, ion in enumerate(solution.species)}
    rows = []
    for name, wall in sorted(walls.items()):
        held = tuple(index[key] for key in sorted(wall.concentration, key=index.__getitem__))
        fixed = wall.potential is not None and wall.stern_capacitance is None
        if electroneutral:
            fixed = fixed and bool(held)
        reacting = -1 if wall.reaction is None else index[wall.reaction.species]
        rows.append((name, "held" if fixed else "natural", held, reacting))
    if electroneutral:
        anchored = any(kind == "held" or reacting >= 0 for _, kind, _, reacting in rows)
    else:
        anchored = any(wall.potential is not None for wall in walls.values())
    return Structure(
        domain=domain,
        ions=len(index),
        crowded=crowded(solution),
        laws=tuple(
            ion.diffusivity.form if isinstance(ion.diffusivity, Law) else ""
            for ion in solution.species
        ),
        walls=tuple(rows),
        reactions=tuple(
            (
                tuple((index[k], float(v)) for k, v in sorted(r.reactants.items())),
                tuple((index[k], float(v)) for k, v in sorted(r.products.items())),
            )
            for r in reactions
        ),
        pinned=not anchored,
        degree=degree,
    )


def fill(
    problem: Problem,
    solution: Solution,
    walls: Mapping[str, Wall],
    length: float,
    reactions: Sequence[Reaction],
    electroneutral: bool,
) -> float:
    """Put the numbers into the compiled forms; return the unit of time (s)."""
    species, volt, unit = solution.species, solution.thermal_voltage, solution.ionic_sum
    T, numbers = solution.temperature, problem.numbers
    bulk = np.array([ion.concentration for ion in species])
    D = np.array(
        [
            float(ion.diffusivity(ion.concentration, T))
            if isinstance(ion.diffusivity, Law)
            else ion.diffusivity
            for ion in species
        ]
    )
    reference = float(D.max())
    volumes, cell = double_layer.sizes(solution)
    numbers["charge"].value[:] = [ion.charge_number for ion in species]
    numbers["bulk"].value[:] = bulk / unit
    numbers["volume"].value[:] = volumes * unit
    numbers["ratio"].value[:] = volumes / cell
    numbers["cell"].value = cell * unit if np.any(volumes > 0) else 1.0
    numbers["free"].value = 1.0 - float(volumes @ bulk)
    numbers["temperature"].value = T
    numbers["unit"].value = unit
    numbers["debye_squared"].value = (
        0.0 if electroneutral else (solution.debye_length / length) ** 2
    )
    for i, (ion, coefficients) in enumerate(zip(species, problem.laws, strict=True)):
        numbers["diffusivity"].value[i] = D[i] / reference
        if isinstance(ion.diffusivity, Law):
            coefficients.value[:] = ion.diffusivity.coefficients
            numbers["diffusivity"].value[i] = reference
    for (forward, backward), reaction in zip(problem.rates, reactions, strict=True):
        for constant, rate, side in (
            (forward, reaction.forward, reaction.reactants),
            (backward, reaction.backward, reaction.products),
        ):
            constant.value = rate * unit ** (sum(side.values()) - 1) * length**2 / reference
    for name, wall in walls.items():
        value = problem.walls[name]
        potential = (wall.potential or 0.0) / volt
        value["potential"].value = potential
        stiff = 0.0
        if wall.potential is not None and wall.stern_capacitance is not None:
            stiff = wall.stern_capacitance * length / solution.permittivity
        value["stiffness"].value = stiff
        value["given"].value = stiff * potential
        if wall.surface_charge is not None:
            value["given"].value = wall.surface_charge * length / (solution.permittivity * volt)
        names = [ion.name for ion in species]
        taken = {names.index(k): v for k, v in wall.concentration.items()}
        room = 1.0 - sum(volumes[i] * c for i, c in taken.items())
        delta = np.log(room / numbers["free"].value) if len(taken) == len(names) else 0.0
        for i, constant in zip(sorted(taken), value["held"], strict=True):
            constant.value = (
                np.log(taken[i] / bulk[i])
                + species[i].charge_number * potential
                - volumes[i] / cell * delta
            )
        if (transfer := wall.reaction) is not None:
            value["anodic"].value = transfer.anodic_rate * length / (reference * unit)
            value["cathodic"].value = transfer.cathodic_rate * length / reference
            value["up"].value = (1 - transfer.transfer_coefficient) * transfer.electrons
            value["down"].value = transfer.transfer_coefficient * transfer.electrons
    return length**2 / reference


def start(
    problem: Problem, solution: Solution, initial: Mapping[str, Profile], length: float
) -> None:
    """Set the unknowns to the initial concentrations, at zero potential."""
    x = problem.space.tabulate_dof_coordinates().T * length
    ions = len(solution.species)
    values = problem.unknown.x.array.reshape(x.shape[1], -1)
    values[:] = 0.0
    if initial:
        bulk = np.array([ion.concentration for ion in solution.species])
        volumes, cell = double_layer.sizes(solution)
        c = np.stack(
            [
                initial[ion.name](x) if ion.name in initial else np.full(x.shape[1], b)
                for ion, b in zip(solution.species, bulk, strict=True)
            ]
        )
        if np.any(~(c > 0)) or np.any(volumes @ c >= 1):
            raise ValueError(
                "Nernst-Planck: initial concentrations (mol m-3) must be positive and leave room."
            )
        delta = np.log((1 - volumes @ c) / (1 - volumes @ bulk))
        for i in range(ions):
            values[:, i] = np.log(c[i] / bulk[i]) - volumes[i] / cell * delta
        if values.shape[1] > ions + 1:
            values[:, ions + 1] = delta
    problem.unknown.x.scatter_forward()
    for function in (problem.last, problem.older):
        function.x.array[:] = problem.unknown.x.array


class System:
    """A problem as `time_stepping.march` drives it.

    Parameters
    ----------
    problem : Problem
        Its unknown holds the present state; ``last`` and ``older`` become the history.
    state : callable
        Reads the values (any, kind by point of this process) that errors are measured on.
    """

    def __init__(self, problem: Any, state: Callable[[], np.ndarray]) -> None:
        self.problem, self.state = problem, state
        self.shift = False
        # what a rejected step goes back to
        self.kept = problem.unknown.x.array.copy()

    def advance(self, weights: tuple[float, float, float], ahead: float) -> Outcome:
        """Solve for the new state, from an extrapolation `ahead` (1) last steps on."""
        p = self.problem
        if self.shift:
            p.older.x.array[:] = p.last.x.array
            p.last.x.array[:] = self.kept
            self.shift = False
        p.numbers["weights"].value[:] = weights
        p.unknown.x.array[:] = self.kept
        if ahead > 0:
            p.unknown.x.array[:] += ahead * np.clip(self.kept - p.older.x.array, -1.0, 1.0)
        return p.newton.solve()

    def accept(self) -> None:
        """Make the new state the last one; the history moves on when the next step begins."""
        self.kept = self.problem.unknown.x.array.copy()
        self.shift = True

    def reject(self) -> None:
        """Forget the new state."""
        self.problem.unknown.x.array[:] = self.kept

    def largest(self, ratio: np.ndarray) -> float:
        """Largest value over all processes."""
        comm = self.problem.space.mesh.comm
        return float(comm.allreduce(float(ratio.max(initial=0.0)), op=MPI.MAX))


def state_of(problem: Problem, solution: Solution) -> Callable[[], np.ndarray]:
    """A reader of concentrations over their bulk values, then of the potential over RT/F."""
    ions = len(solution.species)
    charge = np.array([ion.charge_number for ion in solution.species])
    bulk = np.array([ion.concentration for ion in solution.species])
    volumes, cell = double_layer.sizes(solution)
    owned = problem.space.dofmap.index_map.size_local
    block = problem.space.dofmap.index_map_bs

    def read() -> np.ndarray:
        values = problem.unknown.x.array.reshape(-1, block)[:owned].T
        psi = values[ions]
        c = values[:ions] - np.multiply.outer(charge, psi)
        if block > ions + 1:
            c = np.exp(c + np.multiply.outer(volumes / cell, values[ions + 1]))
        else:
            c = np.exp(c)
            c = c / (1.0 + (volumes * bulk) @ (c - 1.0))
        return np.vstack([c, psi])

    return read


def first_step(time: float, debye: float, electroneutral: bool) -> float:
    """First step (1): far below the relaxation of charge, where there is one."""
    return 1e-4 * time if electroneutral else 1e-3 * min(time, 1e-2 * debye**2)


LONGEST = 1e3


def relax(system: System) -> Outcome:
    """Follow backward Euler in steps that grow to infinity: what each step keeps, the end keeps."""
    # from rest one long step may pass through so dense a layer that rounding loses the salt
    h, iterations = 1e-3, 0
    old = system.state()
    for _ in range(60):
        outcome = system.advance((1 / h, -1 / h, 0.0), 0.0)
        iterations += outcome.iterations
        if not outcome.converged:
            system.reject()
            h /= 10
            if h < 1e-14:
                return Outcome(False, f"no steady state: {outcome.sentence}", iterations)
            continue
        new = system.state()
        change = system.largest(np.abs(new - old) / (1 + np.abs(new)))
        system.accept()
        old = new
        if h == LONGEST and change < 1e-9:
            return Outcome(True, f"steady, last change {change:.1e}", iterations)
        # in longer steps what is kept would be lost in rounding: it is weighed by 1 / h
        h = min(10 * h, LONGEST)
    return Outcome(False, f"no steady state: still changing by {change:.1e}", iterations)


def reactions_at(problem: Problem, walls: Mapping[str, Wall]) -> np.ndarray:
    """Residual of all but the walls' own terms, summed over each wall: what passes it (1)."""
    vector = fem.petsc.assemble_vector(problem.net)
    vector.ghostUpdate(addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
    block = problem.space.dofmap.index_map_bs
    rows = vector.array.reshape(-1, block)
    total = np.array(
        [rows[problem.dofs[n][problem.dofs[n] < len(rows)]].sum(axis=0) for n in walls]
    )
    vector.destroy()
    return problem.space.mesh.comm.allreduce(total)
