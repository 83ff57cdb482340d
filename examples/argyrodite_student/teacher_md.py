"""Molecular dynamics of Li6PS5Cl driven by the teacher, SevenNet-0, on one CPU core.

Every frame kept carries the teacher's energy, forces and stress, so a run serves twice: as
training data and as the reference that the student's lithium diffusivity is held against.

    python teacher_md.py reference 0 reference_0.extxyz    # 800 K, 20 ps: 35 minutes on one core
    python teacher_md.py seeds 0:16 seeds.extxyz           # short runs over T, volume, disorder; 20
"""

import sys
import time

import numpy as np
import torch
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from sevenn.calculator import SevenNetCalculator

from atomistic.systems import argyrodite

TIMESTEP = 2.5  # fs
REFERENCE = {"temperature": 800.0, "lattice_parameter": 10.10, "disorder": 0.5}
# temperature (K), lattice parameter (Å), disorder of the short runs
SEEDS = [
    (600, 10.00, 0.50), (1200, 10.15, 0.50), (900, 9.80, 0.25), (1000, 10.40, 0.75),
    (1400, 10.10, 1.00), (300, 9.95, 0.50), (800, 10.10, 0.00), (1200, 9.70, 0.50),
    (1000, 10.10, 0.25), (500, 10.20, 0.75), (1500, 10.30, 0.50), (900, 10.10, 1.00),
    (1200, 10.00, 0.00), (700, 9.90, 0.50), (1100, 10.60, 0.25), (400, 10.05, 1.00),
]  # fmt: skip


def run(calculator, atoms, temperature, steps, every, seed, path):
    """Run NVT dynamics from a thermalised structure and append every kept frame to `path`."""
    rng = np.random.default_rng(seed)
    atoms.rattle(0.05, rng=rng)
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    Stationary(atoms)
    dynamics = Bussi(
        atoms, TIMESTEP * units.fs, temperature_K=temperature, taut=100 * units.fs, rng=rng
    )
    started = time.time()
    for step in range(0, steps, every):
        dynamics.run(every)
        frame = atoms.copy()
        frame.info = {"temperature": float(temperature), "time_fs": TIMESTEP * (step + every)}
        frame.calc = SinglePointCalculator(
            frame,
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces().copy(),
            stress=atoms.get_stress().copy(),
        )
        write(path, frame, append=True)
        if step % (20 * every) == 0:
            print(f"{path}: {step + every} of {steps} steps, {time.time() - started:.0f} s",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, which, path = sys.argv[1:]
    calculator = SevenNetCalculator("7net-0")
    if kind == "reference":
        replica = int(which)
        atoms = argyrodite(
            lattice_parameter=REFERENCE["lattice_parameter"],
            disorder=REFERENCE["disorder"],
            seed=replica,
        )
        run(calculator, atoms, REFERENCE["temperature"], 8000, 10, replica, path)
    else:
        first, last = map(int, which.split(":"))
        for index in range(first, last):
            temperature, lattice_parameter, disorder = SEEDS[index]
            atoms = argyrodite(lattice_parameter=lattice_parameter, disorder=disorder, seed=index)
            run(calculator, atoms, temperature, 300, 25, 100 + index, path)
