"""Ions that move: Poisson-Nernst-Planck, steady and in time, in electrochemical potentials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import gas_constant

from continuum.field import gather, points
from continuum.finite_elements import fem
from continuum.inputs import FARADAY, Reaction, Solution, Wall
from continuum.laws import Law
from continuum.meshes import Domain, line, move
from continuum.outcome import Outcome, windows_left
from continuum.time_stepping import march
from continuum.transport_form import Problem, build
from continuum.transport_problem import (
    Profile,
    System,
    check,
    fill,
    first_step,
    nodes,
    reactions_at,
    relax,
    start,
    state_of,
    structure,
)

# share of charge and of enclosed ions (1) that an answer may be out of balance by
BALANCE = 1e-5


def solve(
    solution: Solution,
    walls: Mapping[str, Wall],
    *,
    length: float,
    times: Sequence[float] | None = None,
    domain: Domain | None = None,
    reactions: Sequence[Reaction] = (),
    electroneutral: bool = False,
    initial: Mapping[str, Profile] | None = None,
    tolerance: float = 1e-4,
    order: int = 2,
    cells: int = 200,
    degree: int = 2,
    throw: bool = True,
) -> xr.Dataset:
    r"""Move ions by diffusion and migration between walls, to a steady state or through time.

    .. math::
        \partial_t c_i = -\nabla \cdot N_i + R_i, \quad
        N_i = -\frac{D_i c_i}{RT} \nabla \tilde\mu_i, \quad
        \tilde\mu_i = RT \ln \frac{c_i}{c_i^b} - RT \frac{v_i}{v_0} \delta + z_i F \phi, \quad
        -\nabla \cdot (\varepsilon \nabla \phi) = F \sum_i z_i c_i

    The unknowns are :math:`\tilde\mu_i` and :math:`\phi`: concentrations are positive, and ions
    of finite size leave room, whatever their values. The potentials of the walls are set at
    time 0 on a uniform solution at rest.

    Parameters
    ----------
    solution : Solution
        The ions and their dielectric; its concentrations are the initial ones.
    walls : Mapping
        `Wall` by boundary name; on a line ``left`` and ``right``. Boundaries without a wall are
        blocking and carry no charge.
    length : float
        Length (m) of the line, or of one unit of `domain`.
    times : sequence of float, optional
        Times (s), increasing, at which to report; the steady state if not given.
    domain : Domain, optional
        A mesh in two or three dimensions; a line graded towards its walls if not given.
    reactions : sequence of Reaction
        Reactions in the solution.
    electroneutral : bool
        Put local neutrality in place of Poisson's equation, for :math:`\lambda_D \ll L`. Walls
        then have no double layer: their potentials act through reactions and held concentrations.
    initial : Mapping, optional
        Initial concentrations (mol m-3), by species name, as functions of position (m; xyz,
        point), where they differ from the solution's.
    tolerance : float
        Error (1) allowed in a time step, relative to c + c_bulk and to the potential + RT/F.
    order : int
        Order (1) in time: 2, or 1 for backward Euler, with which the free energy of a closed
        system never rises.
    cells : int
        Cells (1) of the line, even.
    degree : int
        Polynomial degree (1).
    throw : bool
        Raise if the solve fails; otherwise return what was reached, with ``converged`` 0 and the
        reason in ``outcome``.

    Returns
    -------
    xarray.Dataset
        FIELD, each with a leading ``time`` dim (s) if `times` are given, and ``wall_flux`` (wall,
        species; mol m-2 s-1, into the solution), ``surface_charge`` (wall; C m-2, not if
        electroneutral), ``inventory`` (species; mol per m2 of line, per m or in all),
        ``free_energy`` (J, likewise). ``flux`` is the wall flux of the first wall, on a line
        along x. A law that left its window is named in ``outcome``. An answer whose walls do not
        carry the charge that the ions lack, or that made or lost ions which cannot leave, by more
        than 1e-5 counts as failed; ``charge_gap`` and ``ion_gap`` say by how much (1).

    Raises
    ------
    ValueError
        Lists every fault of the input.
    SolverError
        If the equations could not be solved and `throw` is set.

    References
    ----------
    Bazant, Thornton, Ajdari 2004, doi:10.1103/PhysRevE.70.021506. Kilic, Bazant, Ajdari 2007,
    doi:10.1103/PhysRevE.75.021503.
    """
    initial = initial or {}
    on_line = domain is None
    walls = {**({"left": Wall(), "right": Wall()} if on_line else {}), **walls}
    check(solution, walls, length, times, domain, reactions, initial, electroneutral)
    if domain is None:
        domain = line(cells)
        move(domain, nodes(solution, walls, length, cells))
    problem = build(structure(solution, walls, domain, reactions, electroneutral, degree))
    scale = fill(problem, solution, walls, length, reactions, electroneutral)
    start(problem, solution, initial, length)
    system = System(problem, state_of(problem, solution))
    report = _Report(problem, solution, walls, length, scale, reactions, electroneutral, on_line)
    if times is None:
        outcome = relax(system)
        report.record(np.inf)
    else:
        marched = march(
            system,
            [t / scale for t in times],
            first=first_step(times[0] / scale, solution.debye_length / length, electroneutral),
            tolerance=tolerance,
            order=order,
            record=lambda t: report.record(t * scale),
        )
        outcome = marched.outcome
    outcome = report.balanced(outcome).unless_converged(throw=throw)
    return report.dataset(outcome, steady=times is None, times=times)


class _Report:
    """Collects a problem's fields and integrals at each time asked for."""

    def __init__(
        self,
        problem: Problem,
        solution: Solution,
        walls: Mapping[str, Wall],
        length: float,
        scale: float,
        reactions: Sequence[Reaction],
        electroneutral: bool,
        on_line: bool,
    ) -> None:
        self.problem, self.solution, self.walls = problem, solution, walls
        self.length, self.scale = length, scale
        self.electroneutral, self.on_line = electroneutral, on_line
        self.state = state_of(problem, solution)
        self.rows: list[dict[str, np.ndarray]] = []
        self.position = np.empty((0, 3))
        # of ions that can neither leave nor react, what is there at the start is there at the end
        passing = {key for wall in walls.values() for key in wall.concentration}
        passing |= {wall.reaction.species for wall in walls.values() if wall.reaction is not None}
        passing |= {key for each in reactions for key in (*each.reactants, *each.products)}
        self.enclosed = np.array([ion.name not in passing for ion in solution.species])
        self.at_start = self._amount()

    def record(self, time: float) -> None:
        """Keep what the unknowns say now, at `time` (s)."""
        p, solution, length = self.problem, self.solution, self.length
        ions, comm = len(solution.species), p.space.mesh.comm
        volt, thermal = solution.thermal_voltage, gas_constant * solution.temperature
        state = self.state()
        owned = p.unknown.x.array.reshape(-1, p.space.dofmap.index_map_bs)[: state.shape[1]]
        bulk = np.array([ion.concentration for ion in solution.species])
        self.position, c, phi, mu = gather(
            comm,
            points(p.space) * length,
            bulk[:, None] * state[:ions],
            volt * state[ions],
            thermal * owned[:, :ions].T,
        )
        unit, dim = solution.ionic_sum, p.space.mesh.topology.dim
        through = reactions_at(p, self.walls)
        debye_squared = float(p.numbers["debye_squared"].value)
        energy = comm.allreduce(fem.assemble_scalar(p.energy))
        charge = np.zeros(len(self.walls))
        for k, (name, wall) in enumerate(self.walls.items()):
            total = through[k, ions]
            if wall.potential is not None and wall.stern_capacitance is None:
                energy -= float(p.walls[name]["potential"].value) * total
            if not self.electroneutral:
                charge[k] = total / p.area[name] / debye_squared * solution.permittivity * volt
        area = np.array([[p.area[name]] for name in self.walls])
        self.rows.append(
            {
                "time": np.array(time),
                "concentration": c,
                "potential": phi,
                "electrochemical_potential": mu,
                "wall_flux": through[:, :ions] / area * unit * length / self.scale,
                "surface_charge": charge / length,
                "inventory": self._amount(),
                "free_energy": np.array(energy * unit * thermal * length**dim),
            }
        )

    def _amount(self) -> np.ndarray:
        """Amount (mol per m2 of line, per m or in all; species) of ions that there is now."""
        p = self.problem
        whole = [p.space.mesh.comm.allreduce(fem.assemble_scalar(form)) for form in p.inventory]
        return np.array(whole) * self.solution.ionic_sum * self.length**p.space.mesh.topology.dim

    def gaps(self) -> tuple[float, float]:
        """How far (1) charge and enclosed ions are from balance, at the last time recorded.

        The charge is measured by that of the most charged wall, but by no less than a thousandth
        of what one thermal voltage makes.
        """
        last, p, solution = self.rows[-1], self.problem, self.solution
        lost = np.abs(last["inventory"] / self.at_start - 1.0)[self.enclosed].max(initial=0.0)
        if self.electroneutral:
            return 0.0, float(lost)
        size = self.length ** (p.space.mesh.topology.dim - 1)
        area = size * np.array([p.area[name] for name in self.walls])
        carried = last["surface_charge"] * area
        charge = np.array([ion.charge_number for ion in solution.species])
        inside = FARADAY * float(charge @ last["inventory"])
        floor = 1e-3 * solution.permittivity * solution.thermal_voltage / solution.debye_length
        most = np.maximum(np.abs(carried), floor * area).max(initial=0.0)
        return float(abs(carried.sum() + inside) / most) if most > 0 else 0.0, float(lost)

    def balanced(self, outcome: Outcome) -> Outcome:
        """Turn an end whose charge or ions do not balance into a failure that says so."""
        if not outcome.converged:
            return outcome
        charge, ions = self.gaps()
        # nan compares false everywhere
        if charge <= BALANCE and ions <= BALANCE:
            return outcome
        return Outcome(
            False,
            f"{outcome.sentence}, but charge is out of balance by {charge:.1e} of that of a wall "
            f"and enclosed ions by {ions:.1e} of their amount, where {BALANCE:.0e} is allowed: "
            "rounding in too dense a layer; give the ions a diameter, or lower the potentials",
            outcome.iterations,
        )

    def dataset(
        self, outcome: Outcome, *, steady: bool, times: Sequence[float] | None
    ) -> xr.Dataset:
        """Everything recorded, as FIELD."""
        dim = self.problem.space.mesh.topology.dim
        if not self.rows:
            self.record(0.0)
        per = {1: " m-2", 2: " m-1", 3: ""}[dim]
        table = {
            "concentration": (("species", "x"), "mol m-3"),
            "potential": (("x",), "V"),
            "electrochemical_potential": (("species", "x"), "J mol-1"),
            "wall_flux": (("wall", "species"), "mol m-2 s-1"),
            "surface_charge": (("wall",), "C m-2"),
            "inventory": (("species",), "mol" + per),
            "free_energy": ((), "J" + per),
        }
        if self.electroneutral:
            del table["surface_charge"]
        variables: dict[str, Any] = {}
        for name, (dims, units) in table.items():
            stack = np.stack([row[name] for row in self.rows])
            if steady:
                variables[name] = (dims, stack[-1], {"units": units})
            else:
                variables[name] = (("time", *dims), stack, {"units": units})
        flux = np.stack([row["wall_flux"][0] for row in self.rows])
        variables["flux"] = (
            ("species",) if steady else ("time", "species"),
            flux[-1] if steady else flux,
            {"units": "mol m-2 s-1"},
        )
        sentence, T = outcome.sentence, self.solution.temperature
        for i, ion in enumerate(self.solution.species):
            if isinstance(ion.diffusivity, Law):
                taken = [row["concentration"][i] for row in self.rows]
                low, high = (float(f(taken)) for f in (np.min, np.max))
                sentence += windows_left(
                    {f"diffusivity of {ion.name}": ion.diffusivity}, low, high, T
                )
        charge_gap, ion_gap = self.gaps()
        coords: dict[str, Any] = {
            "x": ("x", self.position[:, 0], {"units": "m"}),
            "species": [ion.name for ion in self.solution.species],
            "wall": list(self.walls),
        }
        if not steady:
            coords["time"] = ("time", [float(row["time"]) for row in self.rows], {"units": "s"})
        if not self.on_line:
            coords["position"] = (("x", "xyz"), self.position, {"units": "m"})
        return xr.Dataset(
            variables,
            coords=coords,
            attrs={
                "outcome": sentence,
                "converged": int(outcome.converged),
                "newton_iterations": outcome.iterations,
                "charge_gap": charge_gap,
                "ion_gap": ion_gap,
                "reference": "initial solution"
                if any(wall.potential is not None for wall in self.walls.values())
                else "first node",
            },
        )
