"""Cost of an energy-and-forces call per atom: the student beside its teacher, one core, one run.

    python benchmarks/potential_cost.py

writes ``potential_cost.json`` beside this script.
"""

import json
import platform
import time
from pathlib import Path

import torch
import torch_sim as ts

from atomistic.potentials.load import SHIPPED, load
from atomistic.potentials.nep import TorchNEP
from atomistic.systems import argyrodite

REPEATS = {"compiled": 20, "torch": 5, "teacher": 3}


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
    teacher = load("sevennet-0", device="cpu").model
    cost = {
        "compiled": microseconds_per_atom(student, batch, REPEATS["compiled"]),
        "torch": microseconds_per_atom(TorchNEP(path), batch, REPEATS["torch"]),
        "teacher": microseconds_per_atom(teacher, batch[:1], REPEATS["teacher"]),
    }
    result = {
        "microseconds_per_atom_on_one_core": {
            name: round(value, 1) for name, value in cost.items()
        },
        "teacher_over_compiled": round(cost["teacher"] / cost["compiled"], 1),
        "torch_over_compiled": round(cost["torch"] / cost["compiled"], 2),
        "systems_atoms": [8, 52],
        "weights_bytes": path.stat().st_size,
        "processor": platform.machine(),
        "torch_version": torch.__version__,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
