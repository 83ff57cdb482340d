"""Cost of an energy-and-forces call per atom: a student, networks, universal potentials, one run.

    python benchmarks/potential_cost.py

writes ``potential_cost.json`` beside this script: CPU time on one core, best of several, in
Li6PS5Cl. The networks on fixed descriptors (Behler and Parrinello's symmetry functions, SOAP) are
untrained, which costs the same; they are of the size that the examples train.
"""

import json
import platform
import time
from pathlib import Path

import torch
import torch_sim as ts

from atomistic.learning.descriptors import PowerSpectrum, SymmetryFunctions
from atomistic.learning.networks import AtomNetwork, Layout
from atomistic.potentials.load import SHIPPED, load
from atomistic.potentials.nep import TorchNEP
from atomistic.systems import argyrodite

SPECIES = ("Cl", "Li", "P", "S")
DESCRIPTORS = {
    "symmetry_functions": SymmetryFunctions(
        cutoff=5.5, radial=8, shells=1, powers=(1, 2), nearest=1.5
    ),
    "soap": PowerSpectrum(cutoff=5.5, n_max=4, l_max=2),
}


def microseconds_per_atom(model, batch, repeats):
    """Best CPU time over `repeats` calls, per atom (µs)."""
    state = ts.io.atoms_to_state(batch, model.device, model.dtype)
    model(state)
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        model(state)
        best = min(best, time.process_time() - started)
    return best / state.n_atoms * 1e6


if __name__ == "__main__":
    torch.set_num_threads(1)
    batch = [argyrodite(lattice_parameter=10.1, seed=seed) for seed in range(8)]
    for atoms in batch:
        atoms.rattle(0.1, seed=0)
    path = SHIPPED / "argyrodite-pbe" / "nep.txt"
    student = load("argyrodite-pbe", device="cpu").model
    cost = {
        "compiled": microseconds_per_atom(student, batch, 20),
        "torch": microseconds_per_atom(TorchNEP(path), batch, 5),
    }
    for name, descriptor in DESCRIPTORS.items():
        network = AtomNetwork(Layout(SPECIES, descriptor, neurons=(16,)))
        cost[name] = microseconds_per_atom(network, batch[:2], 3)
    for name in ("sevennet-0", "chgnet"):
        cost[name] = microseconds_per_atom(load(name, device="cpu").model, batch[:1], 3)
    result = {
        "microseconds_per_atom_on_one_core": {
            name: round(value, 1) for name, value in cost.items()
        },
        "over_compiled": {name: round(value / cost["compiled"], 2) for name, value in cost.items()},
        "systems_atoms": {
            "compiled": [8, 52],
            "torch": [8, 52],
            "symmetry_functions": [2, 52],
            "soap": [2, 52],
            "sevennet-0": [1, 52],
            "chgnet": [1, 52],
        },
        "weights_bytes": path.stat().st_size,
        "processor": platform.machine(),
        "torch_version": torch.__version__,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
