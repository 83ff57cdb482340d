"""Active learning: let a committee walk, label where it does not know, train again, until it does.

Every step leaves its result in a folder, so a loop that was interrupted goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch_sim as ts
from ase import Atoms

from atomistic.learning.baseline import corrected, without
from atomistic.learning.distil import FORCE_LIMIT, errors, label
from atomistic.learning.networks import (
    AtomNetwork,
    Layout,
    as_potential,
    load_network,
    mean_features,
)
from atomistic.learning.store import LabelStore
from atomistic.learning.training import Settings, fit
from atomistic.learning.walks import Plan, Walk, walk, walk_on
from atomistic.potentials.potential import Potential

__all__ = ["Improved", "Plan", "Round", "Walk", "choose", "improve", "walk"]

Progress = Callable[[int, int, str], None]


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
            say(number - 1, f"round {number}: walking")
            walked = walk_on(place, current, structures, plan, seed=seed + number)
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
