"""Molecular dynamics of many systems in one batch, on whatever device the potential lives on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch_sim as ts
import xarray as xr
from ase import Atoms
from ase.constraints import FixAtoms as FixedAtoms
from ase.data import chemical_symbols
from ase.units import GPa
from torch_sim.constraints import FixAtoms
from torch_sim.integrators.md import MDState
from torch_sim.integrators.npt import (
    NPTCRescaleState,
    npt_crescale_init,
    npt_crescale_isotropic_step,
)
from torch_sim.integrators.nvt import (
    NVTVRescaleState,
    nvt_langevin_step,
    nvt_vrescale_init,
    nvt_vrescale_step,
)
from torch_sim.state import SimState
from torch_sim.units import MetalUnits

from atomistic.observables.scatter import standard_error
from atomistic.observables.streaming import Observer, Watched, check, fingerprint
from atomistic.potentials.load import Potential
from atomistic.units import ANGSTROM, FEMTOSECOND

Progress = Callable[[int, int, str], None]

THERMOSTAT_TIME = 100.0  # fs
BAROSTAT_TIME = 500.0  # fs
COMPRESSIBILITY = 0.04  # 1/GPa, of a soft sulfide; it sets the barostat's pace, not the average
TOO_HOT = 3.0  # times the target temperature


class UnstableDynamics(RuntimeError):
    """A trajectory left what its potential can describe."""


@dataclass(frozen=True)
class Schedule:
    """Lengths of a run.

    Parameters
    ----------
    timestep : float
        Integration step (fs).
    equilibration : float
        Time before the first frame (ps).
    production : float
        Time over which frames are kept (ps).
    frame_interval : float
        Time between frames (fs); rounded to whole steps.

    Raises
    ------
    ValueError
        If a length is not positive or the production run is shorter than two frames.
    """

    timestep: float = 2.5
    equilibration: float = 2.0
    production: float = 20.0
    frame_interval: float = 25.0

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {getattr(self, name)}, but must be positive"
            for name in ("timestep", "production", "frame_interval")
            if not getattr(self, name) > 0
        ]
        if self.equilibration < 0:
            faults.append(f"equilibration is {self.equilibration} ps, but must not be negative")
        if not faults and self.frames < 2:
            faults.append(
                f"production of {self.production} ps holds {self.frames} frame(s) "
                f"{self.frame_interval} fs apart, but needs at least 2"
            )
        if faults:
            raise ValueError("Schedule: " + "; ".join(faults) + ".")

    @property
    def stride(self) -> int:
        """Steps between frames."""
        return max(1, round(self.frame_interval / self.timestep))

    @property
    def frames(self) -> int:
        """Frames kept."""
        return int(self.production * 1000 / (self.stride * self.timestep))

    @property
    def warm_up(self) -> int:
        """Steps before the first frame."""
        return round(self.equilibration * 1000 / self.timestep)


def equilibrate(
    structures: Sequence[Atoms],
    potential: Potential,
    *,
    temperatures: Sequence[float],
    schedule: Schedule,
    pressure: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[list[Atoms]], xr.Dataset]:
    r"""Bring every replica to every temperature at constant pressure and read the cell off.

    Stochastic cell rescaling, isotropic, with a velocity-rescaling thermostat. The replicas of
    a temperature then share the mean scale of the cells over the production part of the run.

    Parameters
    ----------
    structures : sequence of Atoms
        One structure per replica, all of the same size and composition order.
    potential : Potential
        What drives the dynamics.
    temperatures : sequence of float
        Temperature of each condition (K).
    schedule : Schedule
        Lengths of the run.
    pressure : float
        External pressure (GPa).
    seed : int
        Seed of velocities, thermostat and barostat.
    progress : callable, optional
        Called with (steps done, steps in all, what is running).

    Returns
    -------
    structures : list of list of Atoms
        ``[condition][replica]``, thermalised, with momenta and the mean cell of the condition.
    cells : xarray.Dataset
        ``length_scale(condition, replica, frame)`` (1), cell length over that of the given
        structure, and ``volume_per_atom(condition)`` (m3) with ``_std`` over replicas.

    Raises
    ------
    UnstableDynamics
        If the run heats up, breaks or comes closer than the potential was trained for.

    References
    ----------
    Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020), https://doi.org/10.1063/5.0020514
    """
    batch = [atoms for _ in temperatures for atoms in structures]
    state, kT = _initial_state(batch, potential, temperatures, len(structures), seed)
    step_length = _time(schedule.timestep)
    start = npt_crescale_init(
        state,
        potential.model,
        kT=kT,
        dt=torch.tensor(step_length),
        tau_p=torch.tensor(_time(BAROSTAT_TIME), dtype=state.dtype, device=state.device),
        isothermal_compressibility=COMPRESSIBILITY / GPa,
    )
    volume_before = torch.linalg.det(start.cell).abs()
    scales: list[np.ndarray] = []

    def step(state: NPTCRescaleState) -> NPTCRescaleState:
        return npt_crescale_isotropic_step(
            state,
            potential.model,
            dt=step_length,
            kT=kT,
            external_pressure=pressure * GPa,
            tau=_time(THERMOSTAT_TIME),
        )

    def keep(state: NPTCRescaleState, frame: int) -> None:
        volume = torch.linalg.det(state.cell).abs()
        scales.append(((volume / volume_before) ** (1 / 3)).cpu().numpy())

    end = _run(start, step, schedule, potential, kT, keep, progress, "cell at constant pressure")
    replicas = len(structures)
    scale = np.reshape(scales, (-1, len(temperatures), replicas)).transpose(1, 2, 0)
    grouped, thermalised = [], _atoms(end, batch)
    for condition, factor in enumerate(scale.mean((1, 2))):
        row = thermalised[condition * replicas : (condition + 1) * replicas]
        for atoms, given in zip(row, structures, strict=True):
            momenta = atoms.get_momenta()
            atoms.set_cell(given.cell * factor, scale_atoms=True)
            atoms.set_momenta(momenta)
        grouped.append(row)
    per_atom = np.array([atoms.get_volume() / len(atoms) for atoms in structures])
    volume = per_atom * (scale**3).mean(-1) * ANGSTROM**3
    cells = xr.Dataset(
        {
            "temperature": ("condition", np.asarray(temperatures, float), {"units": "K"}),
            "length_scale": (("condition", "replica", "frame"), scale, {"units": "1"}),
            "volume_per_atom": ("condition", volume.mean(1), {"units": "m3"}),
            "volume_per_atom_std": ("condition", standard_error(volume, -1), {"units": "m3"}),
        }
    )
    return grouped, cells


def sample(
    structures: Sequence[Sequence[Atoms]],
    potential: Potential,
    *,
    temperatures: Sequence[float],
    schedule: Schedule,
    observers: Sequence[Observer] = (),
    observe_interval: float = 10.0,
    checkpoint: str | Path | None = None,
    checkpoint_interval: float = 10.0,
    friction: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run NVT dynamics of all temperatures and replicas in one batch.

    Velocity Verlet with the stochastic velocity-rescaling thermostat, whose disturbance of the
    dynamics is one global factor a step, or Langevin dynamics where ions seldom meet and what
    they would meet is left out; positions are never wrapped, and the centre of mass is held at
    rest unless atoms are held fixed (ase.constraints.FixAtoms). Observers see frames while the
    run lasts, so a long run needs few frames of its own: give `schedule` a wide interval and read
    transport from the observers.

    Parameters
    ----------
    structures : sequence of sequence of Atoms
        ``[condition][replica]``; momenta are drawn where a structure has none.
    potential : Potential
        What drives the dynamics.
    temperatures : sequence of float
        Temperature of each condition (K).
    schedule : Schedule
        Lengths of the run.
    observers : sequence of Displacements, Currents or Layers
        What `start` of `correlators`, `currents` or `layers` made for this batch, condition by
        condition; changed in place.
    observe_interval : float
        Time between the frames that observers see (fs); rounded to whole steps.
    checkpoint : path, optional
        File that the run is saved to. If it is there already, the run goes on from it, with what
        its observers had seen, to the bit.
    checkpoint_interval : float
        Time between saves (ps).
    friction : float, optional
        Friction (ps-1) of Langevin dynamics; velocity rescaling if not given.
    seed : int
        Seed of velocities and thermostat.
    progress : callable, optional
        Called with (steps done, steps in all, what is running).

    Returns
    -------
    xarray.Dataset
        A TRAJECTORY, see `atomistic.schema`.

    Raises
    ------
    ValueError
        If the conditions differ in their replicas or the structures in their atoms, an observer
        was started for another batch, or the checkpoint is of another run.
    UnstableDynamics
        If the run heats up, breaks or comes closer than the potential was trained for.

    References
    ----------
    Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007),
    https://doi.org/10.1063/1.2408420
    """
    replicas = len(structures[0])
    if len(structures) != len(temperatures) or any(len(row) != replicas for row in structures):
        raise ValueError(
            f"sample was given {len(temperatures)} temperatures and structures for "
            f"{[len(row) for row in structures]} replicas; give one equally long row per "
            "temperature."
        )
    batch = [atoms for row in structures for atoms in row]
    if len({tuple(atoms.numbers) for atoms in batch}) != 1:
        raise ValueError(
            "sample was given structures whose elements differ or stand in another order; give "
            "replicas of one composition, sorted alike."
        )
    check(observers, batch[0].get_chemical_symbols(), len(batch))
    state, kT = _initial_state(batch, potential, temperatures, replicas, seed)
    step_length = _time(schedule.timestep)
    start = nvt_vrescale_init(state, potential.model, kT=kT)
    atoms_each = len(batch[0])
    position = np.zeros((len(batch), schedule.frames, atoms_each, 3), np.float32)

    def step(state: NVTVRescaleState) -> NVTVRescaleState:
        if friction is not None:
            drag = friction / (1e3 * _time(1.0))
            moved = nvt_langevin_step(state, potential.model, dt=step_length, kT=kT, gamma=drag)
            return cast("NVTVRescaleState", moved)
        return nvt_vrescale_step(
            potential.model, state, dt=step_length, kT=kT, tau=_time(THERMOSTAT_TIME)
        )

    def keep(state: NVTVRescaleState, frame: int) -> None:
        frames = state.positions.reshape(len(batch), atoms_each, 3)
        position[:, frame] = frames.cpu().numpy()

    # not None: runs saved without friction keep their fingerprint
    drags = () if friction is None else (friction,)
    watched = Watched(
        observers,
        stride=max(1, round(observe_interval / schedule.timestep)),
        file=None if checkpoint is None else Path(checkpoint),
        every=max(1, round(checkpoint_interval * 1000 / schedule.timestep)),
        frame_stride=schedule.stride,
        position=position,
        run=fingerprint(
            batch, temperatures, schedule, observe_interval, seed, potential.name, *drags
        ),
    )
    _run(start, step, schedule, potential, kT, keep, progress, "sampling", watched)
    if not state.constraints:
        masses = np.stack([atoms.get_masses() for atoms in batch])
        centre = np.einsum("sa,sfax->sfx", masses / masses.sum(1, keepdims=True), position)
        position -= (centre - centre[:, :1])[:, :, None]
    shape = (len(temperatures), replicas)
    cells = np.stack([atoms.cell.array for atoms in batch]).reshape(*shape, 3, 3)
    times = np.arange(schedule.frames) * schedule.stride * schedule.timestep
    return xr.Dataset(
        {
            "temperature": ("condition", np.asarray(temperatures, float), {"units": "K"}),
            "position": (
                ("condition", "replica", "frame", "atom", "xyz"),
                (position * np.float32(ANGSTROM)).reshape(*shape, *position.shape[1:]),
                {"units": "m", "long_name": "unwrapped atomic position"},
            ),
            "cell": (
                ("condition", "replica", "xyz", "partner"),
                cells * ANGSTROM,
                {"units": "m", "long_name": "cell vectors as rows"},
            ),
            "time": ("frame", times * FEMTOSECOND, {"units": "s"}),
            "symbol": ("atom", batch[0].get_chemical_symbols()),
            "potential_name": ("replica", [potential.name] * replicas),
        }
    )


def _time(femtoseconds: float) -> float:
    return femtoseconds * 1e-3 * float(MetalUnits.time)


def _initial_state(
    batch: Sequence[Atoms],
    potential: Potential,
    temperatures: Sequence[float],
    replicas: int,
    seed: int,
) -> tuple[SimState, torch.Tensor]:
    """Put the structures on the potential's device, with momenta where all of them have some."""
    potential.check_elements(batch)
    model = potential.model
    state = ts.io.atoms_to_state(list(batch), model.device, model.dtype)
    kT = torch.as_tensor(np.repeat(temperatures, replicas), dtype=model.dtype, device=model.device)
    kT = kT * float(MetalUnits.temperature)
    state.rng = seed
    fixed = _fixed(batch)
    if len(fixed):
        state.constraints = FixAtoms(atom_idx=torch.as_tensor(fixed, device=model.device))
    momenta = np.concatenate([atoms.get_momenta() for atoms in batch])
    if momenta.any():
        state.momenta = torch.as_tensor(momenta, dtype=model.dtype, device=model.device)
    return state, kT


def _fixed(batch: Sequence[Atoms]) -> np.ndarray:
    """Return the atoms of a batch that their structures hold fixed, counted through the batch.

    Raises
    ------
    ValueError
        If a structure is constrained in another way.
    """
    found, begin = [np.zeros(0, int)], 0
    for atoms in batch:
        for constraint in atoms.constraints:
            if not isinstance(constraint, FixedAtoms):
                raise ValueError(
                    f"A structure has the constraint {type(constraint).__name__}; dynamics here "
                    "only knows ase.constraints.FixAtoms."
                )
            found.append(np.asarray(constraint.get_indices()) + begin)
        begin += len(atoms)
    return np.unique(np.concatenate(found))


def _run[State: MDState](
    state: State,
    step: Callable[[State], State],
    schedule: Schedule,
    potential: Potential,
    kT: torch.Tensor,
    keep: Callable[[State, int], None],
    progress: Progress | None,
    label: str,
    watched: Watched | None = None,
) -> State:
    """Step through warm-up and production; check and keep every frame."""
    total = schedule.warm_up + schedule.frames * schedule.stride
    guard = _Guard(state, potential, kT)
    try:
        done_before = watched.begin(state, potential.model) if watched is not None else 0
        for done in range(done_before + 1, total + 1):
            state = step(state)
            if done % schedule.stride == 0 or done == total:
                guard.check(state, done * schedule.timestep)
                if progress is not None:
                    progress(done, total, label)
            since = done - schedule.warm_up
            if since > 0 and since % schedule.stride == 0:
                keep(state, since // schedule.stride - 1)
            if watched is not None:
                watched.after(state, done, since)
    finally:
        if watched is not None:
            watched.end()
    return state


class _Guard:
    """Stops a run that its potential cannot vouch for, with a sentence."""

    def __init__(self, state: MDState, potential: Potential, kT: torch.Tensor) -> None:
        self.kT = kT
        self.name = potential.name
        self.limits = None
        counts = torch.bincount(state.system_idx)
        if potential.closest_approach and bool((counts == counts[0]).all()):
            numbers = state.atomic_numbers[: counts[0]].tolist()
            self.symbols = [chemical_symbols[number] for number in numbers]
            self.limits = torch.tensor(
                [[potential.closest(one, other) for other in self.symbols] for one in self.symbols],
                dtype=state.dtype,
                device=state.device,
            )
            self.limits.fill_diagonal_(0.0)

    def check(self, state: MDState, time: float) -> None:
        when = f"after {time / 1000:.2f} ps with {self.name}"
        ratio = state.calc_kT() / self.kT
        if not torch.isfinite(ratio).all() or bool((ratio > TOO_HOT).any()):
            raise UnstableDynamics(
                f"System {int(torch.nan_to_num(ratio, nan=torch.inf).argmax())} of the batch ran "
                f"away {when}: its temperature is {float(ratio.max()):.1f} times the target; "
                "shorten the timestep or retrain the potential on such structures."
            )
        if self.limits is None:
            return
        cell = state.row_vector_cell
        positions = state.positions.reshape(len(cell), -1, 3)
        separation = positions[:, :, None] - positions[:, None]
        fractional = separation @ torch.linalg.inv(cell)[:, None]
        distance = ((fractional - fractional.round()) @ cell[:, None]).norm(dim=-1)
        inside = self.limits - distance
        if bool((inside > 0).any()):
            system, one, other = np.unravel_index(int(inside.argmax()), tuple(inside.shape))
            raise UnstableDynamics(
                f"{self.symbols[one]} and {self.symbols[other]} came as close as "
                f"{float(distance[system, one, other]):.2f} Å in system {system} of the batch "
                f"{when}, closer than the {float(self.limits[one, other]):.2f} Å that the "
                "potential was trained for; retrain it on such structures or lower the "
                "temperature."
            )


def _atoms(state: MDState, batch: Sequence[Atoms]) -> list[Atoms]:
    """Copy positions, cells and momenta back; positions stay unwrapped."""
    cells = state.row_vector_cell.cpu().numpy()
    splits = np.cumsum([len(atoms) for atoms in batch])[:-1]
    positions = np.split(state.positions.cpu().numpy(), splits)
    momenta = np.split(state.momenta.cpu().numpy(), splits)
    copies = []
    for atoms, cell, position, momentum in zip(batch, cells, positions, momenta, strict=True):
        copy = atoms.copy()
        copy.calc = None
        copy.set_cell(cell)
        copy.set_positions(position)
        copy.set_momenta(momentum)
        copies.append(copy)
    return copies
