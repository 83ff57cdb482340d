r"""Distil a committee for molten NaCl from SevenNet-0, its charges taken out and put back.

    python train.py FOLDER        # about a quarter of an hour on one core; it goes on where it was

What a member learns is the teacher's energy, forces and stress less those of formal charges in a
medium of the permittivity :math:`\varepsilon_\infty` of the ions' electrons,

.. math:: E = E_\mathrm{student} + \frac{1}{\varepsilon_\infty} E_\mathrm{Ewald}(\pm e),

so that the sum of both is the teacher and nothing counts twice; between electrodes Ewald's sum is
that of the constant-potential cell. `scan.py` says how the permittivity was chosen.

Frames of Fumi and Tosi's ions come first, the first student's own second. Each of three members
then sees its own draw of four fifths of the frames. The folder holds ``labels.extxyz`` and
``member_1`` to ``member_3``, each with ``nep.txt`` and ``card.json``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

sys.path.insert(0, str(Path(__file__).parent))
import frames

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.learning import distil
from atomistic.learning.baseline import without
from atomistic.potentials.compose import together
from atomistic.potentials.load import load
from atomistic.potentials.potential import Potential

PERMITTIVITY = 2.0  # of the electrons, molten NaCl: its refractive index squared
TEACHER = "sevennet-0"
MEMBERS, SHARE = 3, 0.8
EVERY = 8  # one frame in so many is held out
SEEN, UNSEEN = 3.5, 11.0  # Å from a plate, where a field begins to be missed and is missed whole
GATE = 0.85  # of the closest approach in the training data: nearer is not to be believed
ARCHITECTURE = distil.Architecture()


def charges(permittivity: float = PERMITTIVITY, cutoff: float = 5.6) -> Potential:
    """Formal charges in a medium, by Ewald's sum."""
    scaled = {element: q / permittivity**0.5 for element, q in frames.CHARGES.items()}
    return Potential(
        name=f"charges in a permittivity of {permittivity:g}",
        model=Coulomb(scaled, cutoff=cutoff, accuracy=1e-5),
        species=tuple(scaled),
        cutoff=cutoff,
        licence="published parameters",
    )


def unseen(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of a field across the melt the teacher does not see at a height (Å) in the gap.

    Its share (1) and the integral of that from the middle (Å). At its surface the teacher sees the
    melt's dipole, in the middle it takes the melt for neutral bulk; between, what it lacks of the
    field of electrodes rises over the distance that its messages travel (`compare.py`).
    """
    grid = np.linspace(0.0, frames.GAP, 961)
    x = np.clip((np.minimum(grid, frames.GAP - grid) - SEEN) / (UNSEEN - SEEN), 0.0, 1.0)
    share = x**3 * (10 - 15 * x + 6 * x**2)
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (share[1:] + share[:-1]) * np.diff(grid))])
    integral -= integral[len(grid) // 2]
    return np.interp(height, grid, share), np.interp(height, grid, integral)


def rest(labelled: Sequence[Atoms], permittivity: float = PERMITTIVITY) -> list[Atoms]:
    """Take the charges, and what the teacher lacks of the field of electrodes, from the labels.

    That field follows the dipole of the ions, so that its energy is half of charge times place.
    """
    left = []
    for frame in without(labelled, charges(permittivity)):
        field = frame.info.get("field", 0.0) / permittivity
        load_of = np.array([frames.CHARGES[symbol] for symbol in frame.symbols])
        share, integral = unseen(frame.positions[:, 2])
        results = dict(frame.calc.results)
        push = np.zeros((len(frame), 3))
        push[:, 2] = field * load_of * share
        results["forces"] = results["forces"] - push
        results["energy"] += 0.5 * field * float(load_of @ integral)
        copy = frame.copy()
        copy.calc = SinglePointCalculator(copy, **results)
        left.append(copy)
    return left


def whole(short_range: Potential) -> Potential:
    """Put the charges back."""
    return together(short_range, charges())


def kind(frame: Atoms) -> str:
    """Where a frame comes from: bulk, surface or electrodes."""
    if "field" in frame.info:
        return "electrodes"
    return "surface" if frame.cell[2, 2] > 1.5 * frame.cell[0, 0] else "bulk"


def by_kind(
    labelled: Sequence[Atoms], student: Potential, permittivity: float = PERMITTIVITY
) -> dict[str, dict[str, float]]:
    """Errors of a student's short range over frames of each kind; forces over the teacher's own."""
    left, found = rest(labelled, permittivity), {}
    for name in sorted({kind(frame) for frame in labelled}):
        chosen = [one for one, frame in zip(left, labelled, strict=True) if kind(frame) == name]
        force = np.concatenate(
            [frame.get_forces().ravel() for frame in labelled if kind(frame) == name]
        )
        seen = distil.errors(chosen, student)
        found[name] = {
            "force_meV_per_angstrom": round(1000 * seen.force, 1),
            "relative_force": round(seen.force / float(np.sqrt(np.mean(force**2))), 4),
            "energy_meV_per_atom": round(1000 * seen.energy, 2),
            "frames": seen.frames,
        }
    return found


def timed(text: str, began: float) -> None:
    """Say how long something took, in CPU seconds."""
    print(f"{text}: {time.process_time() - began:.0f} s", flush=True)


def main(folder: Path) -> None:
    """Sample, label, train, walk, label, train."""
    folder.mkdir(parents=True, exist_ok=True)
    teacher = load(TEACHER, device="cpu")
    rounds = [folder / f"round_{number}.extxyz" for number in (1, 2)]
    began = time.process_time()
    if not rounds[0].is_file():
        write(rounds[0], distil.label(frames.first(), teacher))
        timed("first frames", began)
    labelled = read(rounds[0], ":")
    scout = folder / "scout" / "nep.txt"
    if not scout.is_file():
        learn = [one for number, one in enumerate(labelled) if number % EVERY]
        distil.train(rest(learn), folder=scout.parent, architecture=ARCHITECTURE, steps=2500)
        timed("scout", began)
    if not rounds[1].is_file():
        student = load(str(scout), device="cpu")
        in_bulk = [frame for frame in labelled if "field" not in frame.info]
        per = len(in_bulk) // len([*frames.BULK, *frames.SURFACES])
        met = frames.met_in_bulk(
            whole(student), in_bulk[per - 1 :: per], picoseconds=3.0, kept=4, seed=21
        )
        met += frames.met_between_electrodes(
            student, permittivity=PERMITTIVITY, picoseconds=3.0, kept=5, seed=22
        )
        timed("walks", began)
        met = distil.label(met, teacher)
        print("scout on its own frames", json.dumps(by_kind(met, student)), flush=True)
        write(rounds[1], met)
        timed("second frames", began)
    labelled += read(rounds[1], ":")
    learn = [one for number, one in enumerate(labelled) if number % EVERY]
    held_out = labelled[::EVERY]
    left = rest(learn)
    closest = {
        pair: round(GATE * nearest, 3)
        for pair, nearest in distil.closest_approaches(labelled).items()
    }
    rng = np.random.default_rng(5)
    for member in range(1, MEMBERS + 1):
        drawn = sorted(rng.choice(len(left), round(SHARE * len(left)), replace=False))
        place = folder / f"member_{member}"
        if (place / "card.json").is_file():
            continue
        path = distil.train(
            [left[index] for index in drawn], folder=place, architecture=ARCHITECTURE,
            steps=4000, seed=member,
        )  # fmt: skip
        student = load(str(path), device="cpu")
        card = {
            "what": "short range of molten NaCl; add formal charges in the permittivity below",
            "permittivity": PERMITTIVITY,
            "teacher": TEACHER,
            "teacher_sha256": teacher.sha256,
            "licence": "BSD-3-Clause (weights trained by examples/molten_salt_student/train.py)",
            "training_frames": len(drawn),
            "training_data_sha256": sha256(b"".join(r.read_bytes() for r in rounds)).hexdigest(),
            "held_out": by_kind(held_out, student),
            "architecture": asdict(ARCHITECTURE),
            "closest_approach": closest,
        }
        (place / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        timed(f"member {member} {json.dumps(card['held_out'])}", began)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
