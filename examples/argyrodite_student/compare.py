"""Hold the student's lithium diffusivity against its teacher's, at the teacher's own conditions.

    python compare.py record argyrodite-pbe reference_0.extxyz reference_1.extxyz

reads the teacher's runs (`teacher_md.py reference`), runs the student from the same structures for
the same time, and keeps both as small TRAJECTORY files beside this script. Without arguments the
kept files are read and both diffusivities printed, in some seconds.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from ase.io import read

from atomistic.observables.self_diffusion import self_diffusivity
from atomistic.units import ANGSTROM, FEMTOSECOND

HERE = Path(__file__).parent
KEPT = {"teacher": HERE / "teacher_800K.nc", "student": HERE / "student_800K.nc"}
EQUILIBRATION = 80  # frames of the teacher's run, 25 fs apart
INTERVAL = 4  # every fourth frame is kept
REPLICAS = 8  # student runs of each structure
TEMPERATURE = 800.0


def teacher_trajectory(paths):
    """Read the teacher's runs as one TRAJECTORY, one replica each."""
    runs = [read(path, f"{EQUILIBRATION}::{INTERVAL}") for path in paths]
    order = np.argsort(runs[0][0].numbers, kind="stable")
    frames = min(map(len, runs))
    position = np.array(
        [[atoms.positions[np.argsort(atoms.numbers, kind="stable")] for atoms in run[:frames]]
         for run in runs]
    )  # fmt: skip
    times = np.array([atoms.info["time_fs"] for atoms in runs[0][:frames]])
    return xr.Dataset(
        {
            "temperature": ("condition", [TEMPERATURE], {"units": "K"}),
            "position": (
                ("condition", "replica", "frame", "atom", "xyz"),
                (position[None] * ANGSTROM).astype(np.float32),
                {"units": "m"},
            ),
            "cell": (
                ("condition", "replica", "xyz", "partner"),
                np.array([[run[0].cell.array for run in runs]]) * ANGSTROM,
                {"units": "m"},
            ),
            "time": ("frame", (times - times[0]) * FEMTOSECOND, {"units": "s"}),
            "symbol": ("atom", np.array(runs[0][0].get_chemical_symbols())[order]),
            "potential_name": ("replica", ["sevennet-0"] * len(runs)),
        },
        attrs={"made_by": "teacher_md.py reference, one CPU core, SevenNet-0, 2.5 fs, Bussi"},
    )


def student_trajectory(name, replicas_of, frames):
    """Run the student from the teacher's starting structures, several times each."""
    from atomistic.dynamics import Schedule, sample
    from atomistic.potentials.load import load
    from atomistic.systems import argyrodite

    torch.set_num_threads(1)
    starts = [
        argyrodite(lattice_parameter=10.10, disorder=0.5, seed=seed)
        for seed in range(replicas_of)
        for _ in range(REPLICAS)
    ]
    schedule = Schedule(
        equilibration=EQUILIBRATION * 0.025, production=frames * INTERVAL * 0.025,
        frame_interval=25.0 * INTERVAL,
    )  # fmt: skip
    run = sample(
        [starts], load(name, device="cpu"), temperatures=[TEMPERATURE], schedule=schedule, seed=11,
        progress=lambda done, total, _: done % 2000 < 40 and print(done, "of", total, flush=True),
    )  # fmt: skip
    return run.assign_attrs(made_by=f"compare.py, one CPU core, {name}, 2.5 fs, Bussi")


def diffusivities():
    """Lithium diffusivity (m2 s-1) of teacher and student from the kept runs, with errors."""
    found = {}
    for who, path in KEPT.items():
        with xr.open_dataset(path) as run:
            result = self_diffusivity(run.load(), chosen=["Li"])
        found[who] = {
            "self_diffusivity_m2_s": float(result.self_diffusivity[0, 0]),
            "std_m2_s": float(result.self_diffusivity_std[0, 0]),
            "verdict": str(result.verdict.values[0, 0]),
        }
    ratio = found["student"]["self_diffusivity_m2_s"] / found["teacher"]["self_diffusivity_m2_s"]
    return {**found, "student_over_teacher": ratio}


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        name, *paths = sys.argv[2:]
        teacher = teacher_trajectory(paths)
        student = student_trajectory(name, len(paths), teacher.sizes["frame"])
        for who, run in (("teacher", teacher), ("student", student)):
            run.to_netcdf(
                KEPT[who], engine="h5netcdf", encoding={"position": {"zlib": True, "complevel": 9}}
            )
    print(json.dumps(diffusivities(), indent=1))
