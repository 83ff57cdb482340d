"""What learning costs and gives: labels chosen against labels drawn, and intervals that hold.

    python benchmarks/learning.py              # about five minutes on one core

The teacher is Lennard-Jones argon, so that labels are exact and free. The pool holds what dynamics
gives: mostly a cold crystal, a little of the hot liquid that it passes through. Two committees
start from the same six labels; one has its further labels chosen by spread and difference, the
other drawn at random. Both are tested on frames of their own from all temperatures alike. The
intervals of a committee are calibrated on held-out forces and counted in and out of the
temperatures that it learnt from. Written to ``learning.json`` beside this script.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from atomistic.dynamics import Schedule, sample
from atomistic.learning.active import choose
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.distil import errors, label
from atomistic.learning.networks import AtomNetwork, Layout, as_potential
from atomistic.learning.training import Settings, fit
from atomistic.learning.uncertainty import calibrate, cover, force_errors
from atomistic.potentials.pairs import lennard_jones

CUTOFF = 5.2
TEACHER = lennard_jones(cutoff=CUTOFF)
TEMPERATURES = (40.0, 300.0, 900.0)  # K
POOL = (180, 9, 3)  # frames of each: dynamics spends its time where it is cold
TEST = (12, 12, 12)
JUDGE = (3, 3, 3)  # by which the fits of both are stopped; they count for both
LAYOUT = Layout(
    ("Ar",),
    SymmetryFunctions(cutoff=CUTOFF, radial=10, shells=1, powers=(1,), nearest=2.2),
    channels=1,
    neurons=(12,),
    members=4,
)
SETTINGS = Settings(steps=200, batch=6, look=25)
FIRST, EACH, ROUNDS = 6, 5, 8
SEEDS = (0, 1, 2)


def frames_at(temperature: float, count: int, seed: int) -> list[Atoms]:
    """Frames of the teacher's dynamics, labelled."""
    start = bulk("Ar", cubic=True, a=5.4).repeat(2)
    interval = 20.0
    schedule = Schedule(
        timestep=4.0, equilibration=0.6, production=0.02 * count + 0.001, frame_interval=interval
    )
    run = sample([[start]], TEACHER, temperatures=[temperature], schedule=schedule, seed=seed)
    places = run.position.values[0, 0, :count] * 1e10
    return label([Atoms(start.numbers, p, cell=start.cell, pbc=True) for p in places], TEACHER)


def mixture(counts: tuple[int, ...], seed: int) -> list[Atoms]:
    """Frames of every temperature."""
    pairs = enumerate(zip(TEMPERATURES, counts, strict=True))
    return [one for k, (T, count) in pairs for one in frames_at(T, count, seed + 10 * k)]


def trained(frames: list[Atoms], judge: list[Atoms], seed: int) -> AtomNetwork:
    """A committee."""
    network = AtomNetwork(LAYOUT, seed=seed)
    fit(network, frames, judge, settings=SETTINGS, seed=seed)
    return network


def learning_curves(seed: int) -> dict[str, list]:
    """Force error (eV Å-1) by number of labels, chosen and drawn."""
    pool, test, judge = (
        mixture(counts, 1000 * seed + offset)
        for counts, offset in ((POOL, 1), (TEST, 500), (JUDGE, 700))
    )
    rng = np.random.default_rng(seed)
    begin = list(rng.choice(len(pool), FIRST, replace=False))
    curves: dict[str, list] = {"labels": [FIRST + EACH * k for k in range(ROUNDS)]}
    for how in ("chosen", "drawn"):
        have, curve = list(begin), []
        for number in range(ROUNDS):
            labels = [pool[i] for i in have]
            network = trained(labels, judge, seed + number)
            curve.append(errors(test, as_potential(network)).force)
            rest = [i for i in range(len(pool)) if i not in set(have)]
            if how == "drawn":
                more = list(rng.choice(rest, EACH, replace=False))
            else:
                _, spread = force_errors([pool[i] for i in rest], as_potential(network))
                largest = spread.reshape(len(rest), -1).max(1)
                picked = choose([pool[i] for i in rest], largest, labels, network, count=EACH)
                more = [rest[i] for i in picked]
            have += more
        curves[how] = curve
    return curves


def fewer(curves: dict[str, list]) -> float:
    """Labels that choosing needs for the error that drawing ends with, over those of drawing."""
    goal = curves["drawn"][-1]
    enough = [n for n, e in zip(curves["labels"], curves["chosen"], strict=True) if e <= goal]
    return enough[0] / curves["labels"][-1] if enough else float("nan")


def intervals(seed: int) -> dict[str, dict]:
    """Coverage of the 90 % interval, in and out of the temperatures learnt from."""
    learn = frames_at(40.0, 24, seed) + frames_at(300.0, 24, seed + 1)
    judge = frames_at(40.0, 6, seed + 2) + frames_at(300.0, 6, seed + 3)
    held = frames_at(40.0, 12, seed + 4) + frames_at(300.0, 12, seed + 5)
    potential = as_potential(trained(learn, judge, seed))
    _, known = force_errors(learn, potential)
    calibration = calibrate(*force_errors(held, potential), learnt=known)
    found = {}
    for name, frames in {
        "in (40 and 300 K)": frames_at(40.0, 12, seed + 6) + frames_at(300.0, 12, seed + 7),
        "out (900 K)": frames_at(900.0, 16, seed + 8),
    }.items():
        seen = cover(*force_errors(frames, potential), calibration)
        found[name] = {
            "coverage": round(seen.share, 3),
            "beyond_calibration": round(seen.beyond, 3),
            "trusted": seen.trusted,
        }
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    started = time.process_time()
    curves = {str(seed): learning_curves(seed) for seed in SEEDS}
    result = {
        "learning_curves_eV_per_angstrom": {
            seed: {k: [round(float(x), 5) for x in v] for k, v in curve.items()}
            for seed, curve in curves.items()
        },
        "labels_chosen_over_drawn": {s: round(fewer(c), 3) for s, c in curves.items()},
        "coverage_of_90_percent": {str(seed): intervals(100 * seed + 7) for seed in SEEDS},
        "cpu_seconds": round(time.process_time() - started),
        "torch_version": torch.__version__,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
