r"""Distil a student for Li6PS5Cl from a teacher whose weights ship in the sevenn wheel.

    python train.py sevennet-0 argyrodite-pbe seeds.extxyz reference_0.extxyz
    python train.py sevennet-mf-0-r2scan argyrodite-r2scan argyrodite-pbe/frames.extxyz \
        argyrodite-pbe/nep.txt

The frames come from `teacher_md.py`, or from an earlier student; they are labelled anew unless the
teacher made them. A ``nep.txt`` among them is where training starts. Each round trains, lets the
student run, relabels what it did and adds it. The last round's frames are not added: they are the
on-policy test. The folder named by the second argument then holds ``nep.txt``, ``card.json`` and
``frames.extxyz``.
"""

import json
import sys
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from ase.io import read, write

from atomistic.dynamics import Schedule, UnstableDynamics, sample
from atomistic.learning import distil
from atomistic.potentials.load import load
from atomistic.systems import argyrodite
from atomistic.units import ANGSTROM

ARCHITECTURE = distil.Architecture()
# temperature (K), lattice parameter (Å), disorder of what the student explores
EXPLORE = [
    (300, 10.05, 0.50), (500, 10.10, 0.50), (700, 10.15, 0.50), (900, 10.20, 0.50),
    (1100, 10.25, 0.50), (800, 10.10, 0.00), (800, 10.10, 1.00), (800, 10.10, 0.25),
    (600, 9.85, 0.50), (1000, 10.45, 0.75),
]  # fmt: skip
# picoseconds of exploration and training steps of each round; the last trains only
ROUNDS = [(1.0, 2500), (3.0, 3000), (6.0, 4000), (10.0, 5000), (0.0, 12000)]
ROUNDS_FROM_A_STUDENT = [(5.0, 3000), (10.0, 3000), (0.0, 8000)]
# what the case of the demo runs: temperature (K), lattice parameter (Å)
PRODUCTION = [(600, 10.15), (700, 10.19), (800, 10.23), (1000, 10.31)]
FRAMES_KEPT = 3  # per exploration run
GATE = 0.8  # of the closest approach in the training data: nearer is not to be believed


def explore(student, conditions, picoseconds, seed, kept):
    """Run the student and return evenly spaced late frames, from the runs that survive."""
    schedule = Schedule(equilibration=0.2 * picoseconds, production=picoseconds)
    frames = []
    for index, (temperature, lattice_parameter, disorder) in enumerate(conditions):
        start = argyrodite(
            lattice_parameter=lattice_parameter, disorder=disorder, seed=1000 * seed + index
        )
        start.rattle(0.05, seed=1000 * seed + index)
        try:
            run = sample(
                [[start]], student, temperatures=[temperature], schedule=schedule, seed=seed
            )
        except UnstableDynamics as broken:
            print(f"  {temperature} K: {broken}", flush=True)
            continue
        for frame in np.linspace(0, run.sizes["frame"] - 1, kept + 1).round().astype(int)[1:]:
            atoms = start.copy()
            atoms.positions = run.position.values[0, 0, frame] / ANGSTROM
            atoms.wrap()
            atoms.info = {"temperature": float(temperature), "round": seed}
            frames.append(atoms)
    return frames


def same_teacher(path, teacher):
    """Whether the frames in `path` carry this teacher's labels already."""
    frames = read(path, "::40")
    return distil.errors(frames, teacher).relative_force < 1e-3


if __name__ == "__main__":
    torch.set_num_threads(1)
    teacher_name, name, *sources = sys.argv[1:]
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    teacher = load(teacher_name)
    frames = []
    start = next((Path(source) for source in sources if source.endswith("nep.txt")), None)
    for source in sources:
        if source.endswith("nep.txt"):
            continue
        found = read(source, "::20" if "reference" in source else ":")
        frames += found if same_teacher(source, teacher) else distil.label(found, teacher)
    started, history, path = time.time(), [], None
    for number, (picoseconds, steps) in enumerate(ROUNDS_FROM_A_STUDENT if start else ROUNDS, 1):
        path = distil.train(
            frames, folder=folder / f"round{number}", architecture=ARCHITECTURE, steps=steps,
            seed=number, start=start and (path or start),
        )  # fmt: skip
        student = load(str(path))
        if picoseconds == 0.0:
            break
        found = distil.label(explore(student, EXPLORE, picoseconds, number, FRAMES_KEPT), teacher)
        if found:
            history.append(asdict(distil.errors(found, student)))
            print(f"round {number}: {len(frames)} frames, on-policy {history[-1]}, "
                  f"{time.time() - started:.0f} s", flush=True)  # fmt: skip
        frames += found
        write(folder / "frames.extxyz", frames)
    closest = {
        pair: round(GATE * distance, 3)
        for pair, distance in distil.closest_approaches(frames).items()
    }
    production = [(temperature, a, 0.5) for temperature, a in PRODUCTION for _ in range(3)]
    test = distil.label(explore(student, production, 20.0, 77, 3), teacher)
    on_policy = asdict(distil.errors(test, student))
    print(f"production: on-policy {on_policy}, {time.time() - started:.0f} s", flush=True)
    (folder / "nep.txt").write_text(path.read_text())
    card = {
        "teacher": teacher_name,
        "teacher_sha256": teacher.sha256,
        "licence": "BSD-3-Clause (weights trained by examples/argyrodite_student/train.py)",
        "training_frames": len(frames),
        "training_data_sha256": sha256((folder / "frames.extxyz").read_bytes()).hexdigest(),
        "training_errors": asdict(distil.errors(frames, student)),
        "on_policy_errors": on_policy,
        "on_policy_conditions_K_angstrom": PRODUCTION,
        "on_policy_by_round": history,
        "architecture": asdict(ARCHITECTURE),
        "closest_approach": closest,
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
