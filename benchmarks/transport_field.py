"""Molten NaCl driven by a uniform field: its conductivity beside that of the fluctuations.

    python -m benchmarks.transport_field FOLDER [picoseconds]

from the repository's root takes the last frames that `nacl_trajectories` wrote to FOLDER (216 ions,
1100 K) as starting points, drives them with four fields of both signs, and writes
``transport_field.json`` beside this script: current and temperatures at each field, whether the
response is linear, how much it bends, and the conductivity at no field beside what
``transport_nacl.json`` holds of the same potential, by displacements and by Green-Kubo, in one
report.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from ase import Atoms

from atomistic.dynamics import Schedule
from atomistic.field_driven import beside_fluctuations, field_driven
from atomistic.potentials.ionic import sodium_chloride

FILE = Path(__file__).with_suffix(".json")
FLUCTUATIONS = Path(__file__).with_name("transport_nacl.json")
FIELDS = (2e8, 3e8, 4e8, 6e8)  # V/m; the strongest to see the bend, which the others hide
TEMPERATURE = 1100.0


def structures(folder, count):
    """Last frames of the first replicas."""
    part = np.load(sorted(Path(folder).glob("frames_*.npz"))[-1])
    return [
        Atoms(part["numbers"], part["position"][index, -1], cell=part["cell"][index], pbc=True)
        for index in range(count)
    ]


def at_no_field(name):
    """What fluctuations gave."""
    known = json.loads(FLUCTUATIONS.read_text())[name]
    return xr.Dataset(
        {"conductivity": ((), known["value"]), "conductivity_std": ((), known["std"])}
    )


def mean(one, other):
    """Weighted mean of two independent results (displacements read Green-Kubo's own runs)."""
    weight = np.array([one["std"], other["std"]]) ** -2.0
    value = weight @ [one["value"], other["value"]] / weight.sum()
    return {"value": round(float(value), 1), "std": round(float(weight.sum() ** -0.5), 1)}


def main(folder, picoseconds):
    """Drive, compare and write."""
    torch.set_num_threads(1)
    begun = time.process_time()
    driven = field_driven(
        structures(folder, 1),
        sodium_chloride(dtype=torch.float32),
        charges={"Na": 1, "Cl": -1},
        fields=FIELDS,
        temperature=TEMPERATURE,
        schedule=Schedule(
            timestep=2.0, equilibration=2.0, production=picoseconds, frame_interval=20.0
        ),
        seed=2026,
    )
    result = {
        "ions": 216,
        "picoseconds_at_each_field_and_sign": picoseconds,
        "cpu_seconds": round(time.process_time() - begun),
        "fields_V_per_m": list(FIELDS),
        "conductivity_at_each_field_S_per_m": [
            {"value": round(value / field, 1), "std": round(error / field, 1)}
            for value, error, field in zip(
                driven["current_density"].values.tolist(),
                driven["current_density_std"].values.tolist(),
                FIELDS,
                strict=True,
            )
        ],
        "temperature_along_K": driven["temperature_along"].values.round(0).tolist(),
        "temperature_across_K": driven["temperature_across"].values.round(0).tolist(),
        "verdict": driven.attrs["verdict"],
        "curvature_at_the_strongest_percent": {
            "value": round(100 * float(driven["curvature"]), 1),
            "std": round(100 * float(driven["curvature_std"]), 1),
        },
        "conductivity_S_per_m": {
            "value": round(float(driven["conductivity"]), 1),
            "std": round(float(driven["conductivity_std"]), 1),
        },
        "mobility_1e-9_m2_per_V_s": {
            name: {
                "value": round(1e9 * float(driven["mobility"].sel(species=name)), 1),
                "std": round(1e9 * float(driven["mobility_std"].sel(species=name)), 1),
            }
            for name in ("Na", "Cl")
        },
        "beside_fluctuations": {},
    }
    for label, name in (
        ("displacements", "conductivity_S_per_m"),
        ("green_kubo", "conductivity_green_kubo_S_per_m"),
    ):
        both = beside_fluctuations(driven, at_no_field(name))
        result["beside_fluctuations"][label] = {
            "value": round(float(both["fluctuation_conductivity"]), 1),
            "std": round(float(both["fluctuation_conductivity_std"]), 1),
            "disagreement_in_standard_errors": round(float(both["disagreement"]), 2),
        }
    result["with_green_kubo_S_per_m"] = mean(
        result["conductivity_S_per_m"], result["beside_fluctuations"]["green_kubo"]
    )
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 12.0)
