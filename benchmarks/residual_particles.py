"""Particles whose diffusivity depends on the stoichiometry: the batched shells beside PyBaMM's.

    python -m benchmarks.residual_particles

writes ``residual_particles.json`` beside this script, for Ecker2015. Errors of the voltage in mV
against PyBaMM's on a mesh without end: of first order in the electrodes and of second in the
particles, from three meshes. CPU in s for one profile on one thread, best of two: PyBaMM's solve of
one cell, and ours for each of 256 cells that run together. `us_per_cell_step` sets the same cell
beside itself with constant diffusivities, whose particles are exact modes.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch

from continuum.cell import pybamm
from couplers.residual.features import memory_times
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import read_cell
from couplers.residual.particles import Shells
from couplers.residual.profiles import slow_times, us06_like
from couplers.residual.quick import QuickSPMe
from couplers.residual.spme import SPMe

SET = "Ecker2015"
CELLS, STEPS, REPEATS = 256, 20, 2
STRETCH = 4.0
MODELS = {"SPMe": (SPMe, pybamm.lithium_ion.SPMe), "P2D": (P2D, pybamm.lithium_ion.DFN)}
MESHES = {"coarse": (16, 40), "finer electrodes": (32, 40), "finer particles": (16, 80)}


def profiles():
    """Name, time (s), C-rates and state of charge at the start."""
    steady, cycle = slow_times(3600.0), np.arange(601.0)
    return {
        "1C from full": (steady, np.ones_like(steady), 1.0),
        "US06-like": (cycle, 2.0 * us06_like(5)[:601], 0.8),
    }


def solved(model, current, seconds, soc, mesh=None):
    """PyBaMM's voltage (V), nan after the end, and CPU (s); its own mesh if none is given."""
    values = pybamm.ParameterValues(SET)
    values.set_initial_state(soc)
    values["Current function [A]"] = pybamm.Interpolant(seconds, current, pybamm.t)
    settings, tight = {}, 1e-6
    if mesh is not None:
        x, r = mesh
        points = {"x_n": x, "x_s": x // 2, "x_p": x, "r_n": r, "r_p": r}
        shells = pybamm.MeshGenerator(
            pybamm.Exponential1DSubMesh, {"side": "right", "stretch": STRETCH}
        )
        own = {
            **model().default_submesh_types,
            **{f"{side} particle": shells for side in ("negative", "positive")},
        }
        settings, tight = {"var_pts": points, "submesh_types": own}, 1e-7
    simulation = pybamm.Simulation(
        model(),
        parameter_values=values,
        solver=pybamm.IDAKLUSolver(rtol=tight, atol=tight / 100, output_variables=["Voltage [V]"]),
        **settings,
    )
    least = np.inf
    for _ in range(REPEATS if mesh is None else 1):
        simulation.build()
        started = time.process_time()
        solution = simulation.solve([0, seconds[-1]], t_interp=seconds)
        least = min(least, time.process_time() - started)
    found = solution["Voltage [V]"].entries
    return np.append(found, np.full(len(seconds) - len(found), np.nan)), least


def apart(voltage, limit):
    """Errors (mV), where both are."""
    error = 1e3 * (voltage - limit)
    error = error[np.isfinite(error)]
    return {
        "rms_mV": round(float(np.sqrt(np.mean(error**2))), 4),
        "max_mV": round(float(np.abs(error).max()), 4),
    }


def compared(cell):
    """Errors and CPU for each profile and model."""
    rows = {}
    for profile, (seconds, rate, soc) in profiles().items():
        current = cell.capacity * rate
        for name, (ours, theirs) in MODELS.items():
            runs = {key: solved(theirs, current, seconds, soc, m)[0] for key, m in MESHES.items()}
            first, finer, shells = runs.values()
            limit = 2 * finer - first + (shells - first) * 4 / 3
            own, least = solved(theirs, current, seconds, soc)
            least_ours = np.inf
            for _ in range(REPEATS):
                batch = ours(cell, np.full(CELLS, soc))
                started = time.process_time()
                voltage = follow(batch, np.tile(current, (CELLS, 1)), seconds)["voltage"].values[0]
                least_ours = min(least_ours, time.process_time() - started)
            rows[f"{profile}, {name}"] = row = {
                "ours": {**apart(voltage, limit), "cpu_s": round(least_ours / CELLS, 5)},
                "PyBaMM, its own mesh": {**apart(own, limit), "cpu_s": round(least, 4)},
                **{f"PyBaMM, {key}": apart(run, limit) for key, run in runs.items()},
            }
            print(profile, name, row, flush=True)
    return rows


def constant():
    """The cell with the diffusivities that it has half full."""
    values = pybamm.ParameterValues(SET)
    domains = pybamm.LithiumIonParameters()
    for side, domain in (("Negative", domains.n), ("Positive", domains.p)):
        law = domain.prim.D(0.5 * domain.prim.c_max, pybamm.Scalar(298.15))
        values[f"{side} particle diffusivity [m2.s-1]"] = float(values.evaluate(law))
    return read_cell(values)


def cost(cell):
    """CPU (us) of a cell-step of each solver, at a current that jumps about."""
    rng = np.random.default_rng(0)
    current = torch.as_tensor(cell.capacity * rng.uniform(-0.5, 1.5, (STEPS, CELLS)))
    found = {}
    for name, model in {
        "P2D": P2D,
        "SPMe": SPMe,
        "quick SPMe": lambda *a: QuickSPMe(*a, memory_times=memory_times(cell)),
    }.items():
        least = np.inf
        with torch.no_grad():
            for _ in range(2 * REPEATS):
                solver = model(cell, np.full(CELLS, 0.6))
                solver.advance(current[0], 0.0)
                started = time.process_time()
                for now in current:
                    solver.advance(now, 1.0)
                least = min(least, time.process_time() - started)
        found[name] = round(1e6 * least / CELLS / STEPS, 2)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    cell = read_cell(pybamm.ParameterValues(SET))
    count = [len(Shells([e], torch.zeros(1, 1)).x) for e in (cell.negative, cell.positive)]
    result = {
        "shells": dict(zip(("negative", "positive"), count, strict=True)),
        "us_per_cell_step": {"shells": cost(cell), "modes": cost(constant())},
        **compared(cell),
        "versions": {"pybamm": pybamm.__version__, "torch": torch.__version__},
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(result, indent=1) + "\n")
