"""Active learning: let a committee walk, label where it does not know, train again, until it does.

Every step leaves its result in a folder, so a loop that was interrupted goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from ase.io import write
from torch_sim.integrators.nvt import nvt_vrescale_init, nvt_vrescale_step
from torch_sim.units import MetalUnits

from atomistic.learning.baseline import corrected, without
from atomistic.learning.distil import FORCE_LIMIT, errors, label
from atomistic.learning.networks import (
    AtomNetwork,
    Layout,
    as_potential,
    load_network,
    mean_features,
)
from atomistic.learning.store import LabelStore, read_frames
from atomistic.learning.training import Settings, fit
from atomistic.potentials.committee import force_spread, members
from atomistic.potentials.potential import Potential

Progress = Callable[[int, int, str], None]

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

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, but must be positive"
            for name, value in asdict(self).items()
            if name != "temperatures" and not value > 0
        ]
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


@dataclass(frozen=True)
class Round:
    """One turn of the loop.

    Parameters
    ----------
    labels : int
        Labels learnt from.
    loss : float
        Of the fit, on the labels held out (1).
    spread : float
        Largest spread met (eV Å-1).
    uncertain : float
        Share of the frames met whose spread is beyond the target (1).
    resets : int
        How often a walker was sent back.
    on_policy : float
        Force error of the frames that were then labelled (eV Å-1); nan if none was.
    """

    labels: int
    loss: float
    spread: float
    uncertain: float
    resets: int
    on_policy: float


@dataclass(frozen=True)
class Improved:
    """A loop that has ended.

    Parameters
    ----------
    potential : Potential
        The last committee, on its baseline if there is one.
    rounds : tuple of Round
        What each turn found.
    reached : bool
        Whether the target held over the test length.
    labels : int
        Labels used in all.
    """

    potential: Potential
    rounds: tuple[Round, ...] = field(default=())
    reached: bool = False
    labels: int = 0

    @property
    def outcome(self) -> str:
        """One sentence."""
        last = self.rounds[-1]
        if self.reached:
            return (
                f"After {len(self.rounds)} rounds and {self.labels} labels the spread stayed below "
                f"the target over the whole walk, at most {last.spread:.3g} eV/Å."
            )
        return (
            f"After {len(self.rounds)} rounds and {self.labels} labels "
            f"{100 * last.uncertain:.0f} % of the frames are still beyond the target, up to "
            f"{last.spread:.3g} eV/Å; go on with more rounds, or choose a larger network or target."
        )


def walk(potential: Potential, structures: Sequence[Atoms], plan: Plan, *, seed: int = 0) -> Walk:
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
    seed : int
        Seed of velocities and thermostat.
    """
    starts = [atoms for _ in plan.temperatures for atoms in structures]
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


def choose(
    frames: Sequence[Atoms],
    spread: np.ndarray,
    known: Sequence[Atoms],
    network: AtomNetwork,
    *,
    count: int,
    above: float = 0.0,
    below: float = np.inf,
) -> list[int]:
    """Choose uncertain frames that differ from each other and from what is known.

    The most uncertain first, then always that which is farthest, in the mean and spread of its
    atoms' descriptors, from all chosen and known.

    Parameters
    ----------
    frames : sequence of Atoms
        To choose from.
    spread : numpy.ndarray
        Of each (eV Å-1).
    known : sequence of Atoms
        Labelled already.
    network : AtomNetwork
        Whose descriptors measure likeness.
    count : int
        How many at most.
    above, below : float
        Spreads between which a frame is worth a label (eV Å-1). Beyond the second the committee
        has gone astray, and nothing that a good one meets is learnt there; such frames are taken
        only if there are no others.

    Returns
    -------
    list of int
        Places of the chosen ones.

    References
    ----------
    Zhang et al., Comput. Phys. Commun. 253, 107206 (2020),
    https://doi.org/10.1016/j.cpc.2020.107206
    """
    worth = np.flatnonzero((spread > above) & (spread < below))
    if len(worth) == 0:
        worth = np.flatnonzero(spread > above)
    if len(worth) == 0 or count < 1:
        return []
    places = _looks(network, [frames[int(i)] for i in worth])
    others = _looks(network, known) if known else np.empty((0, places.shape[1]))
    away = np.full(len(worth), np.inf)
    for other in others:
        away = np.minimum(away, np.linalg.norm(places - other, axis=1))
    # the square root keeps the spread from deciding alone
    weight = np.sqrt(spread[worth] / spread[worth].max())
    chosen = [int(np.argmax(spread[worth]))]
    while len(chosen) < min(count, len(worth)):
        away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
        if away.max() < 1e-9:
            break
        chosen.append(int(np.argmax(away * weight)))
    return [int(worth[i]) for i in chosen]


def _looks(network: AtomNetwork, frames: Sequence[Atoms]) -> np.ndarray:
    rows = []
    for first in range(0, len(frames), 32):
        some = list(frames[first : first + 32])
        rows.append(
            mean_features(network, ts.io.atoms_to_state(some, network.device, network.dtype))
        )
    return np.concatenate(rows)


def improve(
    structures: Sequence[Atoms],
    teacher: Potential,
    *,
    folder: Path,
    plan: Plan,
    layout: Layout,
    settings: Settings | None = None,
    start: Sequence[Atoms] = (),
    baseline: Potential | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Improved:
    """Train a committee, let it walk, label what it does not know, until the target holds.

    Parameters
    ----------
    structures : sequence of Atoms
        Where the walkers start.
    teacher : Potential
        What labels; any ASE calculator enters by `load` with an import path.
    folder : Path
        For labels, networks and the account of each round; a loop that was broken off goes on.
    plan : Plan
        Temperatures, target, lengths.
    layout : Layout
        Shape of the committee, of at least two members.
    settings : Settings, optional
        How each fit is done.
    start : sequence of Atoms
        Labelled frames to begin with; if there are none, rattled structures are labelled.
    baseline : Potential, optional
        What the committee is a correction to; the labels are learnt less its part.
    seed : int
        Seed of everything.
    progress : callable, optional
        Called with (rounds done, rounds in all, what is going on).

    Returns
    -------
    Improved

    Raises
    ------
    ValueError
        If the layout has a single member.
    """
    if layout.members < 2:
        raise ValueError("improve needs a committee; give a layout of at least two members.")
    folder = Path(folder)
    store = LabelStore(folder / "labels.extxyz")
    labelled_by = {"labelled_by": teacher.name, "labeller_sha256": teacher.sha256}

    def say(done: int, text: str) -> None:
        if progress is not None:
            progress(done, plan.rounds, text)

    if not store.frames():
        first = list(start)
        if not first:
            rng = np.random.default_rng(seed)
            first = [atoms.copy() for atoms in structures for _ in range(plan.labels)]
            for atoms in first:
                atoms.rattle(0.1, rng=rng)
            first = label(first, teacher)
        store.add(first, provenance={**labelled_by, "round": 0, "reason": "start"})
    history: list[Round] = []
    current, reached = None, False
    for number in range(1, plan.rounds + 1):
        place = folder / f"round_{number}"
        frames = [one for one in store.frames() if one.info["round"] < number]
        file = place / "committee.network.pt"
        if file.is_file():
            network = load_network(file).model
            assert isinstance(network, AtomNetwork)
        else:
            say(number - 1, f"round {number}: training on {len(frames)} labels")
            network = AtomNetwork(layout, seed=seed + number)
            learn, judge = _split(without(frames, baseline), plan.held_out, seed)
            found = fit(
                network,
                learn,
                judge,
                settings=settings or Settings(),
                folder=place,
                seed=seed + number,
            )
            (place / "loss.json").write_text(json.dumps(found.loss))
            network.save(file)
        current = as_potential(network, f"committee of round {number}")
        if baseline is not None:
            current = corrected(baseline, current)
        done = place / "round.json"
        if done.is_file():
            history.append(Round(**json.loads(done.read_text())))
        else:
            met = place / "walk.extxyz"
            if not met.is_file():
                say(number - 1, f"round {number}: walking")
                _write_walk(met, walk(current, structures, plan, seed=seed + number))
            # from the disk, whose digits a loop that goes on has too
            walked = _read_walk(met)
            chosen = choose(
                walked.frames, walked.spread, frames, network,
                count=plan.labels, above=plan.target, below=plan.reset * plan.target,
            )  # fmt: skip
            on_policy = float("nan")
            if chosen:
                say(number - 1, f"round {number}: labelling {len(chosen)} frames")
                new = label([walked.frames[int(i)] for i in chosen], teacher)
                # of atoms on top of each other there is nothing to learn but that it is bad
                new = [one for one in new if np.abs(one.get_forces()).max() < FORCE_LIMIT]
                if new:
                    on_policy = errors(new, current).force
                    store.add(new, provenance={**labelled_by, "round": number, "reason": "spread"})
            history.append(
                Round(
                    labels=len(frames),
                    loss=float(json.loads((place / "loss.json").read_text())),
                    spread=float(walked.spread.max()),
                    uncertain=float((walked.spread > plan.target).mean()),
                    resets=walked.resets,
                    on_policy=on_policy,
                )
            )
            done.write_text(json.dumps(asdict(history[-1])))
        say(number, f"round {number}: spread up to {history[-1].spread:.3g} eV/Å")
        if history[-1].uncertain == 0.0:
            reached = True
            break
    assert current is not None
    return Improved(current, tuple(history), reached, history[-1].labels)


def _split(frames: Sequence[Atoms], held_out: float, seed: int) -> tuple[list[Atoms], list[Atoms]]:
    order = np.random.default_rng(seed).permutation(len(frames))
    count = max(1, round(held_out * len(frames)))
    return [frames[i] for i in order[count:]], [frames[i] for i in order[:count]]


def _write_walk(path: Path, walked: Walk) -> None:
    copies = [frame.copy() for frame in walked.frames]
    for copy, spread in zip(copies, walked.spread, strict=True):
        copy.info.update(spread=float(spread), resets=walked.resets)
    part = path.with_suffix(".part")
    write(part, copies, format="extxyz")
    part.replace(path)


def _read_walk(path: Path) -> Walk:
    frames = read_frames(path)
    spread = np.array([frame.info["spread"] for frame in frames])
    return Walk(tuple(frames), spread, int(frames[0].info["resets"]))
