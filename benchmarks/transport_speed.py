"""Speed and memory of the transport estimators and observers, ratios beside the peer in one run.

    python -m benchmarks.transport_speed [memory]

from the repository's root writes ``transport_speed.json`` beside this script: CPU seconds of a
self-diffusivity with posterior for 1 000 particles and 10 000 frames, ours (48 lags) and kinisi's
(30 lags, 500 samples), and both errors against the truth; the share of an MD step that
observers take, for the shipped student and 52 atoms as in the quickstart; and, with ``memory``, the
peak memory of observed runs of 1e4 and 1e6 frames, each in a process of its own.
"""

import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from atomistic.dynamics import Schedule, sample
from atomistic.observables import correlators, currents
from atomistic.observables.displacements import observe, walk
from atomistic.observables.self_diffusion import estimate
from atomistic.potentials.load import load
from atomistic.systems import argyrodite
from benchmarks.transport import kinisi
from tests.atomistic import synthetic

FILE = Path(__file__).with_suffix(".json")
CHARGES = {"Li": 1, "P": 5, "S": -2, "Cl": -1}


def self_diffusion(runs=8):
    """CPU seconds (best of runs) and root-mean-square errors, ours and kinisi's, on the same runs.

    All see 1 000 particles and 10 000 frames; ours makes its lags and start itself, kinisi is told
    that diffusion begins at once.
    """
    took, off = {"ours": [], "kinisi": []}, {"ours": [], "kinisi": []}
    for run in range(runs):
        rng = np.random.default_rng([31, run])
        position = synthetic.brownian(rng, (1, 10_000, 1000), interval=20.0)
        data = synthetic.trajectory(
            [position], symbols=["Li"] * 1000, temperatures=[300.0], interval=20.0, length=1e4
        )
        begun = time.process_time()
        ours = estimate(walk(observe(data), 0, "Li"))
        took["ours"].append(time.process_time() - begun)
        off["ours"].append(100 * (ours.value / 0.1e-8 - 1))
        begun = time.process_time()
        theirs = kinisi(position[0], 1, run)
        took["kinisi"].append(time.process_time() - begun)
        off["kinisi"].append(100 * (theirs[0] / 0.1 - 1))
    best = {name: min(values) for name, values in took.items()}
    return {
        "runs": runs,
        "ours_cpu_s": round(best["ours"], 3),
        "kinisi_cpu_s": round(best["kinisi"], 2),
        "ratio": round(best["kinisi"] / best["ours"], 1),
        "ratio_asked": 20,
        "ours_rms_error_percent": round(float(np.sqrt(np.mean(np.square(off["ours"])))), 3),
        "kinisi_rms_error_percent": round(float(np.sqrt(np.mean(np.square(off["kinisi"])))), 3),
    }


def observers():
    """Share of a step that observers take, seen every 25 fs (ten steps) and every step."""
    torch.set_num_threads(1)
    potential = load("argyrodite-pbe", device="cpu")
    structures = [argyrodite(lattice_parameter=10.15, seed=seed) for seed in range(4)]
    symbols = structures[0].get_chemical_symbols()
    schedule = Schedule(timestep=2.5, equilibration=0.0, production=0.5, frame_interval=25.0)
    took = {}
    for name, interval in (("bare", None), ("every ten steps", 25.0), ("every step", 2.5)) * 2:
        seen = []
        if interval is not None:
            seen = [
                correlators.start(symbols, systems=4, host=["P", "S", "Cl"]),
                currents.start(symbols, charges=CHARGES, systems=4),
            ]
        begun = time.process_time()
        sample(
            [structures], potential, temperatures=[600.0], schedule=schedule, seed=1,
            observers=seen, observe_interval=interval or 25.0,
        )  # fmt: skip
        took.setdefault(name, []).append(time.process_time() - begun)
    best = {name: min(values) for name, values in took.items()}
    steps = schedule.frames * schedule.stride
    direct = pushes()
    step = best["bare"] / steps
    return {
        "ms_a_step": round(1e3 * step, 2),
        "us_a_push": direct,
        "pushes_of_a_step_percent": round(100 * sum(direct.values()) / (1e6 * step), 1),
        "overhead_every_ten_steps_percent": round(
            100 * (best["every ten steps"] / best["bare"] - 1), 1
        ),
        "overhead_every_step_percent": round(100 * (best["every step"] / best["bare"] - 1), 1),
        "overhead_asked_percent": 10,
    }


def pushes(count=1000):
    """CPU microseconds of one push of each observer, for the batch of `observers`."""
    symbols = argyrodite(lattice_parameter=10.15, seed=0).get_chemical_symbols()
    walk_seen = correlators.start(symbols, systems=4, host=["P", "S", "Cl"])
    flow_seen = currents.start(symbols, charges=CHARGES, systems=4)
    cell = (10.15 * torch.eye(3, dtype=torch.float64)).expand(4, 3, 3)
    position = 10 * torch.rand(4, len(symbols), 3, dtype=torch.float64)
    volume = torch.full((4,), 10.15**3, dtype=torch.float64)
    took = {}
    for name, push in (
        ("displacements", lambda: correlators.push(walk_seen, position, cell)),
        ("currents", lambda: currents.push(flow_seen, position, cell, volume)),
    ):
        begun = time.process_time()
        for _ in range(count):
            push()
        took[name] = round(1e6 * (time.process_time() - begun) / count)
    return took


def watched(frames):
    """Push so many frames of eight ions through both observers; peak memory (MB)."""
    torch.set_num_threads(1)
    symbols = ["Na"] * 4 + ["Cl"] * 4
    walk_seen = correlators.start(symbols)
    flow_seen = currents.start(symbols, charges={"Na": 1, "Cl": -1})
    rng = torch.Generator().manual_seed(0)
    cell = torch.eye(3, dtype=torch.float64)[None] * 10
    position = torch.rand(1, 8, 3, dtype=torch.float64, generator=rng) * 10
    volume = torch.tensor([1000.0], dtype=torch.float64)
    for _ in range(frames):
        step = 0.1 * torch.randn(1, 8, 3, dtype=torch.float64, generator=rng)
        position = position + step
        correlators.push(walk_seen, position, cell)
        currents.push(flow_seen, step, torch.zeros_like(cell), volume)
    correlators.observed(walk_seen, interval=1e-15, temperatures=[1.0], potential_name="x")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory():
    """Peak memory of a short and a long observed run."""
    peak = {}
    for frames in (10_000, 1_000_000):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.transport_speed", str(frames)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peak[frames] = float(done.stdout.split()[-1])
    return {
        "peak_mb_10000_frames": round(peak[10_000], 1),
        "peak_mb_1000000_frames": round(peak[1_000_000], 1),
        "difference_mb": round(peak[1_000_000] - peak[10_000], 1),
        "difference_asked_mb": 100,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    what = sys.argv[1] if len(sys.argv) > 1 else "speed"
    if what.isdigit():
        print(watched(int(what)))
        sys.exit()
    table = json.loads(FILE.read_text()) if FILE.is_file() else {}
    if what == "memory":
        table["memory"] = memory()
    else:
        table["self_diffusion_1000_particles_10000_frames"] = self_diffusion()
        FILE.write_text(json.dumps(table, indent=1) + "\n")
        table["observers"] = observers()
    FILE.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))
