"""What ``multiscale train``, ``distil`` and ``accept`` do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from atomistic.learning.acceptance import Acceptance
    from atomistic.learning.distil import Errors

Progress = Callable[[int, int, str], None]

KINDS = ("nep", "symmetry-functions", "soap")


def read_all(path: Path, what: str) -> list[Atoms]:
    """Read every structure of a file; raise ValueError in a sentence."""
    from ase.io import read

    try:
        found = read(path, ":")
    except Exception as error:  # ASE's readers raise what they like
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"The {what} {path} cannot be read by ASE ({reason}).") from error
    return found if isinstance(found, list) else [found]


def _periodic(path: Path, **positive: float | Sequence[float]) -> list[Atoms]:
    """Read structures to start from; raise ValueError with all that is wrong with what is given."""
    structures = read_all(path, "structure")
    faults = [
        f"{name.replace('_', '-')} is {value}, but must be positive"
        for name, value in positive.items()
        if not np.all(np.asarray(value) > 0)
    ]
    if open_ended := sum(atoms.cell.rank != 3 for atoms in structures):
        faults.append(
            f"{open_ended} of the {len(structures)} structures in {path} have no cell in three "
            "dimensions, but periodic ones are needed"
        )
    if faults:
        raise ValueError("; ".join(faults) + ".")
    return structures


def train(
    labels: Path,
    *,
    output: Path,
    kind: str,
    cutoff: float,
    members: int,
    steps: int,
    held_out: float,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Path, Errors]:
    """Train a potential on labelled frames; return its file and its errors on those held out.

    Parameters
    ----------
    labels : Path
        Labelled frames, in any format that ASE reads.
    output : Path
        Folder to write to; a fit of a network that was interrupted goes on from there.
    kind : str
        One of `KINDS`.
    cutoff : float
        Farthest neighbour (Å).
    members : int
        Networks of a committee.
    steps : int
        Gradient steps.
    held_out : float
        Share of the frames that is not learnt from (1).
    seed : int
        Seed of the split, the weights and the batches.
    progress : callable, optional
        Called with (steps done, steps in all, what is running).

    Raises
    ------
    ValueError
        If the kind is unknown, frames are too few or carry no labels.
    """
    from atomistic.learning import distil, training
    from atomistic.learning.descriptors import PowerSpectrum, SymmetryFunctions
    from atomistic.learning.networks import AtomNetwork, Layout, species_of
    from atomistic.potentials.load import load

    faults = []
    if kind not in KINDS:
        faults.append(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    if not 0 < held_out < 1:
        faults.append(f"held-out is {held_out}, but must lie between 0 and 1")
    for name, value in (("cutoff", cutoff), ("members", members), ("steps", steps)):
        if not value > 0:
            faults.append(f"{name} is {value}, but must be positive")
    if kind == "nep" and members > 1:
        faults.append("a NEP has a single member; train several with different seeds")
    frames = read_all(labels, "file of labels")
    bare = sum(frame.calc is None for frame in frames)
    if bare:
        faults.append(f"{bare} of the {len(frames)} frames in {labels} carry no labels")
    if len(frames) < 5:
        faults.append(f"{labels} holds {len(frames)} frames, but needs at least 5")
    if faults:
        raise ValueError("train: " + "; ".join(faults) + ".")
    order = np.random.default_rng(seed).permutation(len(frames))
    count = max(1, round(held_out * len(frames)))
    judge, learn = ([frames[i] for i in part] for part in (order[:count], order[count:]))
    if kind == "nep":
        if progress is not None:
            progress(0, 1, "training a NEP")
        architecture = distil.Architecture(
            radial_cutoff=cutoff, angular_cutoff=min(cutoff, 0.75 * cutoff + 0.5)
        )
        path = distil.train(learn, folder=output, architecture=architecture, steps=steps, seed=seed)
        closest = {
            pair: round(0.8 * distance, 3)
            for pair, distance in distil.closest_approaches(frames).items()
        }
        card = {"training_frames": len(learn), "closest_approach": closest}
        path.with_name("card.json").write_text(json.dumps(card, indent=1) + "\n")
    else:
        describe = SymmetryFunctions if kind == "symmetry-functions" else PowerSpectrum
        layout = Layout(species_of(frames), describe(cutoff=cutoff), members=members)
        network = AtomNetwork(layout, seed=seed)
        training.fit(
            network, learn, judge, settings=training.Settings(steps=steps), folder=output,
            seed=seed, progress=progress,
        )  # fmt: skip
        path = network.save(output / "model.network.pt")
    return path, distil.errors(judge, load(str(path), device="cpu"))


def distil(
    structure: Path,
    teacher: str,
    *,
    output: Path,
    temperatures: Sequence[float],
    rounds: int,
    steps: int,
    picoseconds: float,
    timestep: float,
    limit: float,
    seed: int,
    device: str,
    progress: Progress | None = None,
) -> tuple[Path, Acceptance]:
    """Distil a student from a teacher; return its file and how it was judged.

    Parameters
    ----------
    structure : Path
        Structures to start from.
    teacher : str
        Name, file or import path of what labels.
    output : Path
        Folder to write to; what is there already is not done again.
    temperatures : sequence of float
        Of the student's walks (K).
    rounds, steps : int
        Rounds of training, and gradient steps of each.
    picoseconds, timestep : float
        Length of a walk (ps) and integration step (fs).
    limit : float
        Largest relative force error that is accepted (1).
    seed : int
        Seed of everything.
    device : str
        "auto", "cpu" or "cuda", for the teacher.
    progress : callable, optional
        Called with (rounds done, rounds in all, what is running).

    Raises
    ------
    ValueError
        Lists the faults: structures that are not periodic, numbers that are not positive.
    """
    from atomistic.learning import acceptance
    from atomistic.learning.store import LabelStore
    from atomistic.potentials.load import load

    structures = _periodic(
        structure, temperature=temperatures, rounds=rounds, steps=steps, picoseconds=picoseconds,
        timestep=timestep, limit=limit,
    )  # fmt: skip
    loaded = load(teacher, device=device)
    path, judged = acceptance.distil(
        structures, loaded, folder=output, temperatures=temperatures,
        rounds=rounds, steps=steps, picoseconds=picoseconds, timestep=timestep, limit=limit,
        seed=seed, progress=progress,
    )  # fmt: skip
    card = acceptance.card(judged, loaded, LabelStore(output / "labels.extxyz"))
    path.with_name("card.json").write_text(json.dumps(card, indent=1) + "\n")
    return path, judged


def accept(
    student: str,
    teacher: str,
    structure: Path,
    *,
    temperatures: Sequence[float],
    picoseconds: float,
    frames: int,
    timestep: float,
    limit: float,
    seed: int,
    device: str,
    progress: Progress | None = None,
) -> Acceptance:
    """Let a student run, have its teacher relabel what it did, and judge it by that.

    Parameters
    ----------
    student, teacher : str
        Names, files or import paths.
    structure : Path
        Structures to start from.
    temperatures : sequence of float
        Of the runs (K).
    picoseconds, timestep : float
        Length of a run (ps) and integration step (fs).
    frames : int
        Frames of each run that are relabelled.
    limit : float
        Largest relative force error that is accepted (1).
    seed : int
        Seed of velocities and thermostat.
    device : str
        "auto", "cpu" or "cuda".
    progress : callable, optional
        Called with (frames done, frames in all, what is running).

    Raises
    ------
    ValueError
        Lists the faults: structures that are not periodic, numbers that are not positive.
    """
    from atomistic.learning import acceptance
    from atomistic.potentials.load import load

    structures = _periodic(
        structure, temperature=temperatures, picoseconds=picoseconds, frames=frames,
        timestep=timestep, limit=limit,
    )  # fmt: skip
    return acceptance.accept(
        load(student, device=device), load(teacher, device=device), structures,
        temperatures=temperatures, picoseconds=picoseconds, frames=frames, timestep=timestep,
        limit=limit, seed=seed, progress=progress,
    )  # fmt: skip
