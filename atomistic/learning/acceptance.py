"""Acceptance where it counts: on frames that the student itself walks to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from atomistic.dynamics import Schedule, UnstableDynamics, sample
from atomistic.learning.distil import Architecture, Errors, errors, label, train
from atomistic.learning.store import LabelStore
from atomistic.potentials.load import Potential, load
from atomistic.units import ANGSTROM

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Acceptance:
    """How a student does on its own way, judged by its teacher.

    Parameters
    ----------
    student, teacher : str
        Their names.
    errors : Errors
        On the student's own frames, relabelled by the teacher.
    limit : float
        Largest relative force error that is accepted (1).
    broken : tuple of str
        A sentence for each run that ended early.
    """

    student: str
    teacher: str
    errors: Errors
    limit: float
    broken: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether every run lasted and the force error is within the limit."""
        return not self.broken and self.errors.relative_force <= self.limit

    @property
    def outcome(self) -> str:
        """One sentence."""
        found = (
            f"on {self.errors.frames} frames of its own runs {self.student} differs from "
            f"{self.teacher} by {1000 * self.errors.force:.0f} meV/Å, "
            f"{100 * self.errors.relative_force:.0f} % of the forces "
            f"(limit {100 * self.limit:.0f} %), and {1000 * self.errors.energy:.1f} meV per atom"
        )
        if self.broken:
            return f"Not accepted: {len(self.broken)} run(s) broke off ({self.broken[0]}); {found}."
        return f"{'Accepted' if self.accepted else 'Not accepted'}: {found}."


def walked(
    student: Potential,
    structures: Sequence[Atoms],
    *,
    temperatures: Sequence[float],
    picoseconds: float,
    frames: int,
    timestep: float = 2.0,
    seed: int = 0,
) -> tuple[list[Atoms], tuple[str, ...]]:
    """Run a student and return evenly spaced frames, and a sentence for each run that broke.

    Parameters
    ----------
    student : Potential
        What drives the dynamics.
    structures : sequence of Atoms
        Where the runs start; one for each and each temperature.
    temperatures : sequence of float
        Of the runs (K).
    picoseconds : float
        Length of each run (ps); a fifth of it goes before, unseen.
    frames : int
        Frames of each run.
    timestep : float
        Integration step (fs).
    seed : int
        Seed of velocities and thermostat.
    """
    schedule = Schedule(
        timestep=timestep,
        equilibration=0.2 * picoseconds,
        production=picoseconds,
        frame_interval=1000 * picoseconds / max(frames, 2),
    )
    found: list[Atoms] = []
    broken: list[str] = []
    for number, start in enumerate(structures):
        for temperature in temperatures:
            try:
                run = sample(
                    [[start]], student, temperatures=[temperature], schedule=schedule,
                    seed=seed + number,
                )  # fmt: skip
            except (UnstableDynamics, RuntimeError) as error:
                broken.append(str(error))
                continue
            for place in run.position.values[0, 0, -frames:]:
                atoms = start.copy()
                atoms.calc = None
                atoms.set_momenta(np.zeros((len(atoms), 3)))
                atoms.positions = place / ANGSTROM
                atoms.wrap()
                atoms.info = {"temperature": float(temperature)}
                found.append(atoms)
    return found, tuple(broken)


def accept(
    student: Potential,
    teacher: Potential,
    structures: Sequence[Atoms],
    *,
    temperatures: Sequence[float],
    picoseconds: float = 2.0,
    frames: int = 4,
    timestep: float = 2.0,
    limit: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> Acceptance:
    """Let a student run, relabel what it did, and judge it by that.

    Parameters
    ----------
    student, teacher : Potential
        What is judged, and by what.
    structures : sequence of Atoms
        Where the runs start.
    temperatures : sequence of float
        Of the runs (K): those of the production that is planned.
    picoseconds : float
        Length of each run (ps).
    frames : int
        Frames of each run that are relabelled.
    timestep : float
        Integration step (fs).
    limit : float
        Largest relative force error that is accepted (1).
    seed : int
        Seed of velocities and thermostat.
    progress : callable, optional
        Called with (frames relabelled, frames in all, what is running).

    Raises
    ------
    ValueError
        If every run broke off, so that there is no frame to judge.
    """
    found, broken = walked(
        student, structures, temperatures=temperatures, picoseconds=picoseconds, frames=frames,
        timestep=timestep, seed=seed,
    )  # fmt: skip
    if not found:
        raise ValueError(
            f"Every run of {student.name} broke off, so nothing is left to judge: {broken[0]}"
        )
    judged = errors(label(found, teacher, progress=progress), student)
    return Acceptance(student.name, teacher.name, judged, limit, broken)


def distil(
    structures: Sequence[Atoms],
    teacher: Potential,
    *,
    folder: Path,
    temperatures: Sequence[float],
    architecture: Architecture | None = None,
    rounds: int = 3,
    first: int = 12,
    picoseconds: float = 1.0,
    frames: int = 4,
    steps: int = 2000,
    timestep: float = 2.0,
    limit: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Path, Acceptance]:
    """Train a compact student on what it meets itself, and judge it by a last walk.

    The first frames are rattled and strained structures. Each round trains, lets the student walk,
    has the teacher label what it met and adds it. Labels are kept in ``labels.extxyz`` and rounds
    in folders of their own; what is there already is not done again.

    Parameters
    ----------
    structures : sequence of Atoms
        Where the walks start.
    teacher : Potential
        What labels.
    folder : Path
        For labels, rounds and the final ``nep.txt``.
    temperatures : sequence of float
        Of the walks (K).
    architecture : Architecture, optional
        Size of the student.
    rounds : int
        Rounds of training.
    first : int
        Rattled frames of each structure to begin with.
    picoseconds : float
        Length of each walk (ps).
    frames : int
        Frames of each walk that are labelled.
    steps : int
        Gradient steps of a round.
    timestep : float
        Integration step (fs).
    limit : float
        Largest relative force error that is accepted (1).
    seed : int
        Seed of everything.
    progress : callable, optional
        Called with (rounds done, rounds in all, what is running).
    """
    folder = Path(folder)
    store = LabelStore(folder / "labels.extxyz")
    origin = {"labelled_by": teacher.name, "labeller_sha256": teacher.sha256}

    def say(done: int, text: str) -> None:
        if progress is not None:
            progress(done, rounds + 1, text)

    if not store.frames():
        say(0, f"labelling with {teacher.name}")
        rng = np.random.default_rng(seed)
        made = []
        for start in structures:
            for _ in range(first):
                atoms = start.copy()
                strain = np.eye(3) * (1 + 0.02 * rng.normal()) + 0.01 * rng.normal(size=(3, 3))
                atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                atoms.rattle(rng.uniform(0.02, 0.25), rng=rng)
                made.append(atoms)
        store.add(label(made, teacher), provenance={**origin, "round": 0})
    student: Path | None = None
    for number in range(1, rounds + 1):
        place = folder / f"round_{number}"
        walk_done = place / "walk.extxyz"
        known = [frame for frame in store.frames() if frame.info["round"] < number]
        if not (place / "done").is_file():
            say(number - 1, f"round {number}: training on {len(known)} frames")
            train(
                known, folder=place, architecture=architecture or Architecture(),
                steps=steps, seed=seed + number, start=student,
            )  # fmt: skip
            (place / "done").touch()
        student = place / "nep.txt"
        if number < rounds and not walk_done.is_file():
            say(number - 1, f"round {number}: walking")
            met, _ = walked(
                load(str(student)), structures, temperatures=temperatures,
                picoseconds=picoseconds, frames=frames, timestep=timestep, seed=seed + number,
            )  # fmt: skip
            if met:
                store.add(label(met, teacher), provenance={**origin, "round": number})
            write(walk_done, met or [structures[0]], format="extxyz")
    assert student is not None
    say(rounds, "acceptance")
    final = folder / "nep.txt"
    final.write_bytes(student.read_bytes())
    judged = accept(
        load(str(final)), teacher, structures, temperatures=temperatures, picoseconds=picoseconds,
        frames=frames, timestep=timestep, limit=limit, seed=seed + 1000,
    )  # fmt: skip
    say(rounds + 1, judged.outcome)
    return final, judged


def card(judged: Acceptance, teacher: Potential, labels: LabelStore) -> dict:
    """Say where a student comes from and how it did, for a ``card.json`` beside it."""
    from atomistic.learning.distil import closest_approaches

    frames = labels.frames()
    return {
        "teacher": teacher.name,
        "teacher_sha256": teacher.sha256,
        "training_frames": len(frames),
        "on_policy_errors": asdict(judged.errors),
        "accepted": judged.accepted,
        # nearer than this, short of the nearest in the data, it is not to be believed
        "closest_approach": {
            pair: round(0.8 * distance, 3) for pair, distance in closest_approaches(frames).items()
        },
    }
