"""The ladder of learnt potentials on one teacher: what each rung costs and gives.

A teacher that is exact and free, argon and krypton by Lennard-Jones, labels frames of its own
dynamics. From more and more of them are trained: a network on atom-centred symmetry functions
(Behler and Parrinello, with one vector an element), the same network on the SOAP power spectrum,
and a NEP, which learns its descriptor. Each is tested on frames of another run.

    python study.py                                   # a few minutes on one core

For a teacher that knows a material, and a student that walks on its own, see

    multiscale distil start.cif --teacher sevennet-0 --temperature 900
    multiscale train labels.extxyz --kind symmetry-functions --members 4
    multiscale accept student/nep.txt --structure start.cif --temperature 900
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from atomistic.dynamics import Schedule, sample
from atomistic.learning import distil
from atomistic.learning.descriptors import PowerSpectrum, SymmetryFunctions
from atomistic.learning.networks import AtomNetwork, Layout, as_potential
from atomistic.learning.training import Settings, fit
from atomistic.potentials.load import load
from atomistic.potentials.pairs import lennard_jones
from atomistic.potentials.potential import Potential

CUTOFF = 5.5
TEACHER = lennard_jones({"Ar": (3.4, 0.0103), "Kr": (3.65, 0.0141)}, cutoff=CUTOFF)
TEMPERATURE = 250.0  # K
DESCRIPTORS = {
    "symmetry functions": SymmetryFunctions(
        cutoff=CUTOFF, radial=8, shells=1, powers=(1, 2), nearest=2.5
    ),
    "SOAP": PowerSpectrum(cutoff=CUTOFF, n_max=4, l_max=2),
}
NEP = distil.Architecture(
    radial_cutoff=CUTOFF, angular_cutoff=4.5, n_max=4, basis=6, neurons=10, repulsion=0.9
)


def frames(count: int, *, seed: int) -> list[Atoms]:
    """Frames of the teacher's dynamics, labelled."""
    start = bulk("Ar", cubic=True, a=5.6).repeat(2)
    start.symbols[np.random.default_rng(0).permutation(len(start))[:16]] = "Kr"
    start = start[np.argsort(start.numbers, kind="stable")]
    schedule = Schedule(
        timestep=4.0, equilibration=1.0, production=0.05 * count, frame_interval=50.0
    )
    run = sample([[start]], TEACHER, temperatures=[TEMPERATURE], schedule=schedule, seed=seed)
    places = run.position.values[0, 0] * 1e10
    return distil.label(
        [Atoms(start.numbers, p, cell=start.cell, pbc=True) for p in places], TEACHER
    )


def networks(learn: list[Atoms], judge: list[Atoms], *, steps: int) -> dict[str, Potential]:
    """Train a network on each descriptor."""
    found = {}
    for name, descriptor in DESCRIPTORS.items():
        network = AtomNetwork(Layout(("Ar", "Kr"), descriptor, neurons=(16,)))
        fit(network, learn, judge, settings=Settings(steps=steps, batch=4, look=25))
        found[name] = as_potential(network, name)
    return found


def study(counts: tuple[int, ...] = (4, 8, 16, 32), *, steps: int = 300) -> dict[str, list[float]]:
    """Relative force error of each rung by the number of frames learnt from."""
    pool, judge, test = frames(max(counts), seed=1), frames(6, seed=2), frames(12, seed=3)
    curves: dict[str, list[float]] = {}
    for count in counts:
        for name, potential in networks(pool[:count], judge, steps=steps).items():
            error = distil.errors(test, potential).relative_force
            curves.setdefault(name, []).append(error)
    return curves


def nep(learn: list[Atoms], test: list[Atoms], *, steps: int) -> tuple[float, float]:
    """Relative force error and CPU seconds of a NEP."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = distil.train(learn, folder=Path(folder), architecture=NEP, steps=steps)
        error = distil.errors(test, load(str(path), device="cpu")).relative_force
    return error, time.process_time() - started


if __name__ == "__main__":
    torch.set_num_threads(1)
    sizes = (4, 8, 16, 32)
    for rung, errors in study(sizes).items():
        print(rung, {n: f"{100 * e:.1f} %" for n, e in zip(sizes, errors, strict=True)})
    error, seconds = nep(frames(32, seed=1), frames(12, seed=3), steps=1500)
    print(f"NEP, 32 frames: {100 * error:.1f} % in {seconds:.0f} CPU s")
