"""Transport in molten NaCl at 1100 K against the published numbers of the same potential.

    python -m benchmarks.transport_nacl FOLDER [blocks that the peers see]

from the repository's root reads what `nacl_trajectories` wrote and writes ``transport_nacl.json``
beside this script: conductivity by displacements and by Green-Kubo, self-diffusivities as they are
in the box and after Yeh and Hummer, viscosity, and, since nobody knows the truth of a dense liquid,
how often intervals from blocks of one run cover the answer of all runs together. (The whole holds
the block, so its own error takes a hundredth off the scatter and adds nothing.) Blocks later than
`FRESH` are counted once more by themselves: none of them was there when the prior of what particles
share was chosen. kinisi and STACIE see the same blocks. What the estimators read of the runs is
kept, small enough for the repository, as ``examples/molten_salt_transport/nacl_1100K.nc``.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import constants

from atomistic.observables.displacements import observe, walk
from atomistic.observables.finite_size import yeh_hummer
from atomistic.observables.green_kubo import green_kubo_conductivity, green_kubo_viscosity
from atomistic.observables.self_diffusion import estimate
from atomistic.observables.transport import transport
from benchmarks import transport as fresh

FILE = Path(__file__).with_suffix(".json")
RECORD = Path(__file__).parents[1] / "examples" / "molten_salt_transport" / "nacl_1100K.nc"
TEMPERATURE = 1100.0
FRAME, CURRENT = 20e-15, 10e-15  # s
CHARGES = {"Na": 1, "Cl": -1}
BLOCKS = (12.5, 25.0)  # ps
FRESH = 140.0  # ps
KEPT_TRACK = 192
PUBLISHED = {
    "conductivity_S_per_m": [
        {"value": 353, "std": 4, "of": "STACIE documentation, this potential"},
        {"value": 344, "std": 10, "of": "STACIE documentation, later release, 1728 ions"},
        {"value": 348, "std": 7, "of": "Wang 2020, this potential"},
        {"value": 366, "std": 3, "of": "experiment, Janz 1968, at its own density"},
    ],
    "self_diffusivity_1e-9_m2_per_s": {
        "Na": {
            "value": 8.381,
            "std": 0.020,
            "of": "STACIE documentation, 1728 ions, as in the box",
        },
        "Cl": {
            "value": 7.708,
            "std": 0.017,
            "of": "STACIE documentation, 1728 ions, as in the box",
        },
    },
}


def read(folder):
    """Frames as a TRAJECTORY, current (A m) and stress (Pa), (replica, frame, ...)."""
    files = sorted(Path(folder).glob("frames_*.npz"))
    parts = [np.load(file) for file in files]
    position = np.concatenate([part["position"] for part in parts], axis=1)
    current = np.concatenate([part["current"] for part in parts], axis=1).astype(float)
    stress = np.concatenate([part["stress"] for part in parts], axis=1).astype(float)
    symbols = np.where(parts[0]["numbers"] == 11, "Na", "Cl").tolist()
    return (
        trajectory(position, parts[0]["cell"], symbols),
        current * constants.e * 1e-10 / 1e-12,
        stress * constants.e / 1e-30,
    )


def trajectory(position, cell, symbols):
    """Positions (Å), (replica, frame, atom, 3), as a TRAJECTORY."""
    replicas, frames = position.shape[:2]
    return xr.Dataset(
        {
            "temperature": ("condition", [TEMPERATURE], {"units": "K"}),
            "position": (
                ("condition", "replica", "frame", "atom", "xyz"),
                position[None] * np.float32(1e-10),
                {"units": "m"},
            ),
            "cell": (
                ("condition", "replica", "xyz", "partner"),
                cell[None].astype(float) * 1e-10,
                {"units": "m"},
            ),
            "time": ("frame", np.arange(frames) * FRAME, {"units": "s"}),
            "symbol": ("atom", symbols),
            "potential_name": ("replica", ["Fumi-Tosi NaCl"] * replicas),
        }
    )


def number(dataset, name, scale=1.0):
    """Value and standard error of a scalar estimate."""
    return {
        "value": round(float(dataset[name].values.ravel()[0]) * scale, 5),
        "std": round(float(dataset[f"{name}_std"].values.ravel()[0]) * scale, 5),
    }


def coverage(data, truth, length, peers):
    """Cut every run into blocks and count how often each interval covers the whole's answer."""
    frames = round(length * 1e-12 / FRAME)
    tallies = {name: fresh.fresh("ours", "kinisi", "stacie") for name in truth}
    symbols = data["symbol"].values.astype(str)
    for replica in range(data.sizes["replica"]):
        for block in range(data.sizes["frame"] // frames):
            part = data.isel(replica=[replica], frame=slice(block * frames, (block + 1) * frames))
            seen = observe(part)
            for name in truth:
                seed = 1000 * replica + block

                def ours(seen=seen, name=name, seed=seed):
                    found = estimate(walk(seen, 0, name), rng=np.random.default_rng(seed))
                    return fresh.from_draws(found.value, found.draws) if found.diffusive else None

                fresh.timed(tallies[name]["ours"], ours)
                if len(tallies[name]["kinisi"]["found"]) < peers:
                    position = part["position"].values[0, 0][:, symbols == name].astype(float)
                    start = round(0.5e-12 / FRAME)

                    def kinisi(position=position * 1e10, start=start, seed=seed):
                        return np.multiply(fresh.kinisi(position, start, seed), 1e-8)

                    def stacie(position=position * 1e10):
                        step = FRAME * 1e12
                        velocity = np.diff(position, axis=0).reshape(len(position) - 1, -1).T / step
                        return np.multiply(fresh.stacie(velocity, step, "expoly"), 1e-8)

                    fresh.timed(tallies[name]["kinisi"], kinisi)
                    fresh.timed(tallies[name]["stacie"], stacie)
    out = {}
    for name, (value, error) in truth.items():
        out[name] = {}
        for who, rows in tallies[name].items():
            if not rows["found"]:
                if rows["refused"]:
                    out[name][who] = {"refused": rows["refused"], "why": rows["why"]}
                continue
            out[name][who] = fresh.told(rows, value) | {
                "error_of_the_whole_percent": round(100 * error / value, 2)
            }
    return out


def keep(seen):
    """Write what was observed, thinned and packed to half a picometre."""
    stride = -(-seen.sizes["frame"] // KEPT_TRACK)
    small = seen.isel(frame=slice(None, None, stride))
    small["track"] = small["track"] - small["track"].isel(frame=0)
    small.attrs |= {
        "provenance": json.dumps(
            {
                "made_by": "benchmarks/nacl_trajectories.py, benchmarks/transport_nacl.py",
                "potential": "Fumi-Tosi NaCl (atomistic.potentials.ionic), 216 ions, 1.453 g/cm3",
                "thermostat": "velocity rescaling, 1 ps; 2 fs steps; float32",
                "seed": 2026,
            }
        )
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    packed = {"dtype": "int16", "scale_factor": 5e-13, "zlib": True, "complevel": 9}
    plain = {"dtype": "float32", "zlib": True, "complevel": 9}
    small.to_netcdf(
        RECORD,
        engine="h5netcdf",
        encoding={"track": packed, "mean_squared_displacement": plain},
    )
    return RECORD.stat().st_size


def main(folder, peers):
    """Analyse and write."""
    warnings.simplefilter("ignore")
    data, current, stress = read(folder)
    volume = float(np.linalg.det(data["cell"].values[0, 0]))
    begun = time.process_time()
    seen = observe(data)
    whole = transport(seen, charges=CHARGES, mobile=["Na", "Cl"], draws=2000)
    seconds = time.process_time() - begun
    common = {"volume": volume, "temperature": TEMPERATURE, "draws": 2000}
    charge = green_kubo_conductivity(current, CURRENT, **common)
    shear = green_kubo_viscosity(stress, CURRENT, **common)
    corrected = yeh_hummer(
        whole,
        viscosity=float(shear["viscosity"]),
        viscosity_std=float(shear["viscosity_std"]),
    )
    result = {
        "replicas": data.sizes["replica"],
        "ions": data.sizes["atom"],
        "picoseconds_each": round(data.sizes["frame"] * FRAME / 1e-12, 1),
        "box_length_angstrom": round(volume ** (1 / 3) * 1e10, 3),
        "conductivity_S_per_m": number(whole, "conductivity"),
        "conductivity_green_kubo_S_per_m": number(charge, "conductivity"),
        "nernst_einstein_S_per_m": number(whole, "nernst_einstein_conductivity"),
        "haven_ratio": number(whole, "haven_ratio"),
        "transference_number": number(whole, "transference_number"),
        "viscosity_mPa_s": number(shear, "viscosity", 1e3),
        "freedom": int(whole["freedom"][0]),
        "self_diffusivity_1e-9_m2_per_s": {
            name: {
                "in_the_box": number(whole.sel(species=name), "self_diffusivity", 1e9),
                "yeh_hummer": number(corrected.sel(species=name), "self_diffusivity", 1e9),
                "start_ps": round(float(whole["start_lag"].sel(species=name)[0]) * 1e12, 3),
                "inflation": None,
            }
            for name in CHARGES
        },
        "published": PUBLISHED,
        "cpu_seconds_of_the_analysis": round(seconds, 1),
    }
    for name, row in result["self_diffusivity_1e-9_m2_per_s"].items():
        row["inflation"] = round(
            estimate(walk(seen, 0, name), rng=np.random.default_rng(0)).inflation, 2
        )
    print(json.dumps(result, indent=1), flush=True)
    truth = {
        name: (
            float(whole["self_diffusivity"].sel(species=name)[0]),
            float(whole["self_diffusivity_std"].sel(species=name)[0]),
        )
        for name in CHARGES
    }
    result["coverage_of_blocks"] = {
        f"{length:g} ps": coverage(data, truth, length, peers) for length in BLOCKS
    }
    fresh_part = data.isel(frame=slice(round(FRESH * 1e-12 / FRAME), None))
    result[f"coverage_of_blocks_after_{FRESH:g}_ps"] = {
        f"{length:g} ps": coverage(fresh_part, truth, length, 0) for length in BLOCKS
    }
    result["record_bytes"] = keep(seen)
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: row for key, row in result.items() if "coverage" in key}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60)
