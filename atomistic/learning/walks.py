"""Walks of a committee: dynamics by its mean, with an eye on its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from ase.io import write
from torch_sim.integrators.nvt import nvt_vrescale_init, nvt_vrescale_step
from torch_sim.units import MetalUnits

from atomistic.learning.store import read_frames
from atomistic.potentials.committee import force_spread, members
from atomistic.potentials.potential import Potential

THERMOSTAT_TIME = 50.0  # fs
BROKEN = 100.0  # eV/Å; a walker with such a force is sent back at once


@dataclass(frozen=True)
class Plan:
    """How far a committee walks, and when it has learnt enough.

    Parameters
    ----------
    temperatures : tuple of float
        Of the walkers (K), one each for every structure.
    target : float
        Spread of a component of an atom's force (eV Å-1) that is small enough.
    picoseconds : float
        Length of each walk: the test length over which the target must hold (ps).
    timestep : float
        Integration step (fs).
    look : int
        Steps between looks at the spread.
    reset : float
        Multiple of the target beyond which a walker is sent back to its start (1).
    labels : int
        Labels a round.
    rounds : int
        Most rounds.
    held_out : float
        Of the labels, what the fit is judged by (1).
    further : int
        Walks, each from where the one before ended, over which the target must hold as well: what
        begins as a crystal has not seen the liquid yet when its first walk ends.
    """

    temperatures: tuple[float, ...]
    target: float
    picoseconds: float = 1.0
    timestep: float = 2.0
    look: int = 10
    reset: float = 5.0
    labels: int = 8
    rounds: int = 10
    held_out: float = 0.2
    further: int = 1

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, but must be positive"
            for name, value in asdict(self).items()
            if name not in ("temperatures", "further") and not value > 0
        ]
        if self.further < 0:
            faults.append(f"further is {self.further}, but must not be negative")
        if not self.temperatures:
            faults.append("temperatures are missing; give at least one")
        if faults:
            raise ValueError("Plan: " + "; ".join(faults) + ".")


@dataclass(frozen=True)
class Walk:
    """What a committee met on its way.

    Parameters
    ----------
    frames : tuple of Atoms
        A frame of each walker at each look.
    spread : numpy.ndarray
        Largest spread over the atoms of each frame (eV Å-1).
    resets : int
        How often a walker was sent back.
    """

    frames: tuple[Atoms, ...]
    spread: np.ndarray
    resets: int


def walk(
    potential: Potential,
    structures: Sequence[Atoms],
    plan: Plan,
    *,
    begin: Sequence[Atoms] | None = None,
    seed: int = 0,
) -> Walk:
    """Run dynamics with the mean of a committee and watch its spread.

    A walker that meets a spread or a force beyond all trust is sent back to its start with new
    velocities; the frame where that happened is kept, for it is one to learn from.

    Parameters
    ----------
    potential : Potential
        With members.
    structures : sequence of Atoms
        Where the walkers start; one walker for each and each temperature.
    plan : Plan
        How far, how hot.
    begin : sequence of Atoms, optional
        Where each walker starts instead, those of the first temperature first.
    seed : int
        Seed of velocities and thermostat.
    """
    starts = list(begin or [atoms for _ in plan.temperatures for atoms in structures])
    potential.check_elements(starts)
    model = potential.model
    kT = torch.tensor(np.repeat(plan.temperatures, len(structures)), dtype=model.dtype)
    kT = (kT * float(MetalUnits.temperature)).to(model.device)
    fresh = ts.io.atoms_to_state(starts, model.device, model.dtype)
    fresh.rng = seed
    state = nvt_vrescale_init(fresh, model, kT=kT)
    begun = state.clone()
    generator = torch.Generator().manual_seed(seed)
    unit = 1e-3 * float(MetalUnits.time)
    system = state.system_idx
    frames: list[Atoms] = []
    spread: list[np.ndarray] = []
    resets = 0
    for done in range(1, round(1000 * plan.picoseconds / plan.timestep) + 1):
        before = state.positions.clone()
        state = nvt_vrescale_step(
            model=model, state=state, dt=plan.timestep * unit, kT=kT, tau=THERMOSTAT_TIME * unit
        )
        force = torch.nan_to_num(state.forces.norm(dim=1), nan=torch.inf)
        broken = _largest(force, system, len(starts)) > BROKEN
        beyond = broken
        if done % plan.look == 0 or bool(broken.any()):
            if bool(broken.any()):  # look at where they came from
                state.positions = torch.where(broken[system][:, None], before, state.positions)
            met = _largest(force_spread(members(model, state)[1]), system, len(starts))
            spread.append(met.cpu().numpy())
            frames += _frames(state, starts)
            beyond = broken | (met > plan.reset * plan.target)
        if bool(beyond.any()):
            resets += int(beyond.sum())
            mask = beyond[system][:, None]
            thermal = torch.sqrt(state.masses * kT[system])[:, None]
            drawn = thermal * torch.randn(
                state.momenta.shape, generator=generator, dtype=model.dtype
            ).to(model.device)
            state.positions = torch.where(mask, begun.positions, state.positions)
            state.momenta = torch.where(mask, drawn, state.momenta)
            results = model(state)
            state.forces, state.energy = results["forces"], results["energy"]
    return Walk(tuple(frames), np.concatenate(spread), resets)


def _largest(values: torch.Tensor, system: torch.Tensor, systems: int) -> torch.Tensor:
    return values.new_zeros(systems).scatter_reduce(0, system, values, "amax")


def _frames(state: ts.SimState, starts: Sequence[Atoms]) -> list[Atoms]:
    positions = np.split(
        state.positions.detach().cpu().numpy(), np.cumsum([len(a) for a in starts])[:-1]
    )
    copies = []
    for atoms, place in zip(starts, positions, strict=True):
        copy = Atoms(atoms.numbers, place, cell=atoms.cell, pbc=atoms.pbc)
        copy.wrap()
        copies.append(copy)
    return copies


def walk_on(
    place: Path, potential: Potential, structures: Sequence[Atoms], plan: Plan, *, seed: int
) -> Walk:
    """Walk, and while nothing uncertain is met, on from there; what is on the disk is kept.

    Parameters
    ----------
    place : Path
        Folder for the parts of the walk.
    potential, structures, plan, seed
        As for `walk`.
    """
    walks: list[Walk] = []
    begin: list[Atoms] | None = None
    for part in range(plan.further + 1):
        met = place / ("walk.extxyz" if part == 0 else f"walk_{part + 1}.extxyz")
        if not met.is_file():
            walked = walk(potential, structures, plan, begin=begin, seed=seed + 1000 * part)
            _write_walk(met, walked)
        # from the disk, whose digits a loop that goes on has too
        walks.append(_read_walk(met))
        if bool((walks[-1].spread > plan.target).any()):
            break
        begin = list(walks[-1].frames[-len(plan.temperatures) * len(structures) :])
    return Walk(
        tuple(frame for one in walks for frame in one.frames),
        np.concatenate([one.spread for one in walks]),
        sum(one.resets for one in walks),
    )


def _write_walk(path: Path, walked: Walk) -> None:
    copies = [frame.copy() for frame in walked.frames]
    for copy, spread in zip(copies, walked.spread, strict=True):
        copy.info.update(spread=float(spread), resets=walked.resets)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    write(part, copies, format="extxyz")
    part.replace(path)


def _read_walk(path: Path) -> Walk:
    frames = read_frames(path)
    spread = np.array([frame.info["spread"] for frame in frames])
    return Walk(tuple(frames), spread, int(frames[0].info["resets"]))
