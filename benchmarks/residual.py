"""SPMe corrected to P2D beside its rivals: accuracy and CPU cost, one run, one core.

    python -m benchmarks.residual                    # every shipped corrector
    python -m benchmarks.residual Chen2020           # or some

writes ``residual.json`` beside this script, a set at a time; sets that are not run again stay as
they were.

The truth is the batched P2D on 40 + 20 + 40 mesh cells with exact particle modes. Its gap to
PyBaMM's own DFN is measured in the same run, with PyBaMM's mesh extrapolated to zero (its voltage
is of first order in x): `truth_gap`. All errors are in mV over the samples that both models have,
CPU in ms, best of two. The ensemble's errors are those where it does not abstain. Held out of
training are the drive cycle and the rates 0.75, 1.5 and 2C.
"""

import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

from continuum.cell import pybamm
from couplers.residual import profiles
from couplers.residual.after import correct
from couplers.residual.batch import Corrected
from couplers.residual.corrector import SHIPPED, load
from couplers.residual.model import MESH_POINTS, CorrectedSPMe
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import read_cell

REPEATS = 2
TRUTH = (40, 20)
DEFAULT = {"x_n": 20, "x_s": 20, "x_p": 20, "r_n": 20, "r_p": 20}
COARSE = {"x_n": 5, "x_s": 5, "x_p": 5, "r_n": 10, "r_p": 10}
CELLS, STEPS = 1000, 100


def graded(model, stretch=3.0):
    """PyBaMM's submeshes with particles graded towards their surface."""
    found = dict(model.default_submesh_types)
    for domain in ("negative particle", "positive particle"):
        found[domain] = pybamm.MeshGenerator(
            pybamm.Exponential1DSubMesh, {"side": "right", "stretch": stretch}
        )
    return found


def rivals(name):
    """Model, mesh points and submeshes of each."""
    lithium = pybamm.lithium_ion
    return {
        "SPM default": (lithium.SPM(), DEFAULT, None),
        "SPMe default": (lithium.SPMe(), DEFAULT, None),
        "SPMe graded": (lithium.SPMe(), MESH_POINTS, graded(lithium.SPMe())),
        "DFN default": (lithium.DFN(), DEFAULT, None),
        "DFN coarse": (lithium.DFN(), COARSE, None),
        "corrected SPMe": (CorrectedSPMe(name), MESH_POINTS, None),
    }


def simulation(model, values, points, submeshes, tolerance=1e-6):
    """Built with only the voltage kept, as one does for speed."""
    made = pybamm.Simulation(
        model,
        parameter_values=values,
        var_pts=points,
        submesh_types=submeshes,
        solver=pybamm.IDAKLUSolver(
            rtol=tolerance, atol=tolerance / 100, output_variables=["Voltage [V]"]
        ),
    )
    made.build()
    return made


def timed(made, times):
    """Voltages and the least CPU time (ms) of solving, after one solve to warm up."""
    least, found = np.inf, None
    for _ in range(REPEATS + 1):
        started = time.process_time()
        found = made.solve([0, times[-1]], t_interp=times)
        spent = 1e3 * (time.process_time() - started)
        least = spent if found is None else min(least, spent)
    return found, least


def compared(found, times, truth):
    """RMS and largest error (mV), and the relative error of the time to the cut-off."""
    volts = np.interp(times, found.t, found["Voltage [V]"].entries, right=np.nan)
    error = 1e3 * (volts - truth)
    there = np.isfinite(error) & (times >= 1)
    return {
        "rms_mV": round(float(np.sqrt(np.mean(error[there] ** 2))), 3),
        "max_mV": round(float(np.abs(error[there]).max()), 2),
    }


def cases(values):
    """Name, times (s), C-rates (1) and state of charge of each test."""
    cycle = profiles.us06_like()
    steady = profiles.slow_times(7200)
    found = [("US06-like, 2C peak", np.arange(601.0), 2.0 * cycle, 0.7)]
    found += [(f"{rate}C", steady[steady <= 4000 / rate], rate, 1.0) for rate in (0.75, 1.5, 2.0)]
    return found


def benchmark(name):
    """Everything about one parameter set."""
    corrector = load(name)
    cell = read_cell(pybamm.ParameterValues(name))
    result = {"highest_c_rate": corrector.about["highest_c_rate"], "weights": corrector.size}
    for label, times, rate, soc in cases(name):
        values = pybamm.ParameterValues(name)
        values.set_initial_state(soc)
        current = cell.capacity * rate * np.ones_like(times)
        constant = np.ptp(current) == 0
        values["Current function [A]"] = (
            float(current[0]) if constant else pybamm.Interpolant(times, current, pybamm.t)
        )
        truth = follow(P2D(cell, np.array([soc]), points=TRUTH), current[None], times)
        truth = truth["voltage"].values[0]
        row = {}
        for rival, (model, points, submeshes) in rivals(name).items():
            found, spent = timed(simulation(model, values, points, submeshes), times)
            row[rival] = {**compared(found, times, truth), "cpu_ms": round(spent, 1)}
            print(name, label, rival, row[rival], flush=True)
        # one solve that keeps all, for the band
        kept = pybamm.Simulation(CorrectedSPMe(name), parameter_values=values).solve(
            [0, times[-1]], t_interp=times
        )
        after = correct(kept, values, name)
        both = np.interp(times, kept.t, after["voltage"], right=np.nan) - truth
        away = np.interp(times, kept.t, after["abstained"]) > 0
        there = np.isfinite(both) & (times >= 1) & ~away
        band = np.interp(times, kept.t, after["band"])
        row["ensemble afterwards"] = {
            "rms_mV": round(1e3 * float(np.sqrt(np.mean(both[there] ** 2))), 3),
            "max_mV": round(1e3 * float(np.abs(both[there]).max()), 2),
            "inside_band": round(float((np.abs(both) <= band)[there].mean()), 4),
            "abstained": round(float(after["abstained"].mean()), 4),
        }
        if constant:
            row["time to cut-off, relative error"] = ends(
                name, values, cell, times, current, soc, kept
            )
        if not constant:
            row["truth_gap"] = gap(values, times[:121], truth[:121])
        print(name, label, "ensemble", row["ensemble afterwards"], flush=True)
        result[label] = row
    result["batch"] = batch(name, cell)
    # how the training judged it: whole splits of profiles, in batch
    result["splits"] = json.loads((SHIPPED / f"{name}.json").read_text())
    return result


def ends(name, values, cell, times, current, soc, kept):
    """How far off SPMe and corrected SPMe end a discharge, where it ends at all."""
    fine = np.arange(0.0, times[-1], 5.0)
    full = follow(
        P2D(cell, np.array([soc]), points=(24, 12)), current[:1].repeat(len(fine))[None], fine
    )
    volts = full["voltage"].values[0]
    below = np.flatnonzero(volts < cell.lower_voltage)
    if not len(below):
        return None
    k = below[0]
    true = np.interp(-cell.lower_voltage, -volts[k - 1 : k + 1], fine[k - 1 : k + 1])
    plain = pybamm.Simulation(
        pybamm.lithium_ion.SPMe(),
        parameter_values=values,
        var_pts=MESH_POINTS,
        submesh_types=graded(pybamm.lithium_ion.SPMe()),
    ).solve([0, times[-1]])
    return {
        "SPMe graded": round(float(plain.t[-1] / true - 1), 6),
        "corrected SPMe": round(float(kept.t[-1] / true - 1), 6),
    }


def gap(values, times, truth):
    """RMS (mV) of the truth against PyBaMM's DFN with its mesh extrapolated to zero."""
    volts = []
    for x, r in ((24, 20), (48, 20), (24, 40)):
        points = {"x_n": x, "x_s": x // 2, "x_p": x, "r_n": r, "r_p": r}
        model = pybamm.lithium_ion.DFN()
        made = simulation(model, values, points, graded(model, 4.0), tolerance=1e-7)
        volts.append(made.solve([0, times[-1]], t_interp=times)["Voltage [V]"].entries)
    limit = 2 * volts[1] - volts[0] + (volts[2] - volts[0]) * 4 / 3
    error = 1e3 * (truth - limit)[times >= 1]
    return {
        "rms_mV": round(float(np.sqrt(np.mean(error**2))), 3),
        "max_mV": round(float(np.abs(error).max()), 3),
    }


def batch(name, cell):
    """Cost of a cell-step (µs) of the corrected batch, many different cells at once."""
    rng = np.random.default_rng(0)
    cells = Corrected(
        cell,
        name,
        rng.uniform(0.5, 0.9, CELLS),
        electrolyte={"diffusivity_scale": rng.uniform(0.8, 1.2, CELLS)},
    )
    current = torch.as_tensor(cell.capacity * rng.uniform(-0.5, 1.0, (STEPS, CELLS)))
    cells.advance(current[0], 0.0)
    started = time.process_time()
    for k in range(1, STEPS):
        cells.advance(current[k], 1.0)
    spent = time.process_time() - started
    return {"cells": CELLS, "us_per_cell_step": round(1e6 * spent / CELLS / (STEPS - 1), 2)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = Path(__file__).with_suffix(".json")
    result = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or sorted(file.stem for file in SHIPPED.glob("*.npz")):
        result[name] = benchmark(name)
        result["versions"] = {
            "pybamm": pybamm.__version__,
            "torch": torch.__version__,
            "processor": platform.machine(),
        }
        path.write_text(json.dumps(result, indent=1) + "\n")
