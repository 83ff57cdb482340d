"""SPMe corrected to P2D beside its rivals: accuracy and CPU cost, one run, one core.

    python -m benchmarks.residual                    # every shipped corrector
    python -m benchmarks.residual Chen2020           # or one
    python -m benchmarks.residual Chen2020 cycle     # or a part of it, see the end of this script
    python -m benchmarks.residual figure             # residual.png, of what is recorded

writes ``residual.json`` beside this script, a part at a time; what is not run again stays as it
was.

The truth is the batched P2D with exact particle modes, on 32 + 16 + 32 mesh cells and, at constant
current, where an electrolyte nears its end, extrapolated to none from 24 + 12 + 24 and twice as
many. Its gap to PyBaMM's own DFN is measured in the same run, with PyBaMM's mesh extrapolated to
zero (its voltage is of first order in x): `truth_gap`. All errors are in mV over the samples that
both models have, CPU in ms, best of three in turns; `compiled` is with IDAKLU's option of that
name. The modal SPMe has learnt nothing; it and `DFN on ladder` leave algebraic states out of the
solver's test of errors; what is on ladder has the particles of ours, and on Gauss's points the
layers too. The ensemble's errors are those where it does not abstain. Held out of training are the
drive cycle and the rates 0.75 and 1.5C; 2C is the edge of what some are trained on. A charge at
constant current, then constant voltage, is judged by P2D's voltage along the current that the model
itself took.
"""

import json
import platform
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from continuum.cell import pybamm
from continuum.cell_beyond import BeyondSPMe
from continuum.cell_modes import ModalSPMe
from continuum.cell_particles import on_ladder
from couplers.residual import profiles
from couplers.residual.after import correct
from couplers.residual.batch import Corrected, simulate
from couplers.residual.corrector import SHIPPED, load
from couplers.residual.data import HELD_OUT, drawn_electrolytes, own_electrolytes
from couplers.residual.model import CorrectedSPMe, electrolyte_at_rest
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import read_cell

REPEATS = 3
TRUTH = (32, 16)
MESHES = ((24, 12), (48, 24))
DEFAULT = {"x_n": 20, "x_s": 20, "x_p": 20, "r_n": 20, "r_p": 20}
COARSE = {"x_n": 5, "x_s": 5, "x_p": 5, "r_n": 10, "r_p": 10}
FINER = {"x_n": 10, "x_s": 10, "x_p": 10, "r_n": 20, "r_p": 20}
VOLUMES = {"x_n": 25, "x_s": 5, "x_p": 25}
CELLS, STEPS = (64, 256, 1000, 4000, 16000), 60
ON_POINTS = "SPMe on Gauss's points"
FEW_MODES = "modal SPMe, 2 modes"
COMPILED = ("SPMe on ladder", ON_POINTS, "DFN default", "modal SPMe", FEW_MODES, "corrected SPMe")
UNTESTED = ("DFN on ladder", "modal SPMe", FEW_MODES)  # algebraic states, in the test of errors
DRAWS, CHECKED = 1000, 24
AT_RATES = (
    "SPM default",
    "SPMe on ladder",
    "DFN default",
    "DFN coarse",
    "modal SPMe",
    FEW_MODES,
    "corrected SPMe",
)
FOREIGN = 8
AT_REST = electrolyte_at_rest()
TEMPERATURES = (278.15, 318.15)
RATES, FAST = (0.75, 1.5, 2.0), (2.25, 2.5, 3.0)
CYCLE = "US06-like, 2C peak"


def on_shells(model):
    """One of PyBaMM's models on the particles of ours, as `rivals` gives it."""
    return model, {**model.default_var_pts, **VOLUMES}, on_ladder(model)


def rivals(name):
    """Model, mesh points and submeshes of each."""
    lithium = pybamm.lithium_ion
    return {
        "SPM default": (lithium.SPM(), DEFAULT, None),
        "SPMe default": (lithium.SPMe(), DEFAULT, None),
        "SPMe on ladder": on_shells(lithium.SPMe()),
        ON_POINTS: (BeyondSPMe(None, ON_POINTS), None, None),
        "DFN default": (lithium.DFN(), DEFAULT, None),
        "DFN 10 x 20": (lithium.DFN(), FINER, None),
        "DFN coarse": (lithium.DFN(), COARSE, None),
        "DFN on ladder": on_shells(lithium.DFN()),
        "modal SPMe": (ModalSPMe(), None, None),
        FEW_MODES: (ModalSPMe(order=2), None, None),
        "corrected SPMe": (CorrectedSPMe(name), None, None),
    }


def simulation(model, values, points, submeshes, tolerance=1e-6, compiled=False, untested=False):
    """Built with only the voltage kept, as one does for speed."""
    made = pybamm.Simulation(
        model,
        parameter_values=values,
        var_pts=points,
        submesh_types=submeshes,
        solver=pybamm.IDAKLUSolver(
            rtol=tolerance,
            atol=tolerance / 100,
            output_variables=["Voltage [V]"],
            options={"compile": compiled, "suppress_algebraic_error": untested},
        ),
    )
    made.build()
    return made


def timed(made, times):
    """Of each simulation its voltages and least CPU time (ms), solved in turns after a first one.

    In turns, so that what else the machine does meanwhile is not held against one of them.
    """
    found, least = {}, dict.fromkeys(made, np.inf)
    for turn in range(REPEATS + 1):
        for name, one in made.items():
            started = time.process_time()
            found[name] = one.solve([0, times[-1]], t_interp=times)
            spent = 1e3 * (time.process_time() - started)
            least[name] = min(least[name], spent) if turn else np.inf
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


def prepared(name, current, times, soc):
    """Parameter values with a current and a start."""
    values = pybamm.ParameterValues(name)
    values.set_initial_state(soc)
    constant = np.ptp(current) == 0
    values["Current function [A]"] = (
        float(current[0]) if constant else pybamm.Interpolant(times, current, pybamm.t)
    )
    return values


def cycle(name, cell, corrector):
    """A drive cycle never trained on, with the set's own electrolyte and with a thousand."""
    seconds = np.arange(601.0)
    current = cell.capacity * 2.0 * profiles.us06_like(HELD_OUT)
    drawn = drawn_electrolytes(np.random.default_rng(HELD_OUT), DRAWS)
    for key, own in own_electrolytes(1).items():
        drawn[key][0] = own[0]
    some = {key: values[:CHECKED] for key, values in drawn.items()}
    batch = P2D(cell, np.full(CHECKED, 0.7), electrolyte=some, points=TRUTH)
    truth = follow(batch, np.tile(current, (CHECKED, 1)), seconds)["voltage"].values
    row, values = row_of(name, CYCLE, seconds, current, 0.7, truth[0])
    for ours in ("corrected SPMe", "modal SPMe", FEW_MODES):
        row[f"ratios, {ours}"] = ratios(row, ours)
    row["thousand electrolytes"] = draws(name, cell, seconds, current, truth, drawn)
    row["modal SPMe, other electrolytes"] = of_electrolytes(values, seconds, truth, drawn)
    row["truth_gap"] = gap(values, seconds[:121], truth[0, :121])
    return {CYCLE: row}


def of_electrolytes(values, seconds, truth, drawn):
    """Errors (mV) of the modal SPMe, for which nothing is learnt, with electrolytes drawn."""
    apart = []
    for k in range(1, FOREIGN + 1):
        other = values.copy()
        shift = drawn["transference_number_shift"][k]
        other["Cation transference number"] = values["Cation transference number"] + shift
        key = "Electrolyte conductivity [S.m-1]"
        other[key] = scaled(values[key], drawn["conductivity_scale"][k])
        # some sets form these two from the others
        for key, name in (
            ("Electrolyte diffusivity [m2.s-1]", "diffusivity"),
            ("Thermodynamic factor", "thermodynamic_factor"),
        ):
            moved = other.evaluate(AT_REST[name]) / values.evaluate(AT_REST[name])
            other[key] = scaled(values[key], drawn[f"{name}_scale"][k] / moved)
        made = simulation(ModalSPMe(), other, None, None, untested=True)
        found = made.solve([0, seconds[-1]], t_interp=seconds)
        apart.append(compared(found, seconds, truth[k]))
    squares = [one["rms_mV"] ** 2 for one in apart]
    return {
        "rms_mV": round(float(np.sqrt(np.mean(squares))), 3),
        "max_mV": max(one["max_mV"] for one in apart),
    }


def scaled(law, factor):
    """A property, number or function of concentration and temperature, times a number."""
    return (lambda c, T: factor * law(c, T)) if callable(law) else factor * law


def rates(name, cell, corrector):
    """Discharges from full, all rates on one grid, dense where they end."""
    grid = [profiles.slow_times(5400.0, step=20.0)]
    for rate in RATES:
        values = prepared(name, np.full(2, rate * cell.capacity), None, 1.0)
        end = pybamm.Simulation(CorrectedSPMe(name), parameter_values=values).solve([0, 5400]).t[-1]
        grid.append(np.round(end) + np.arange(-20.0, 21.0))
    times = np.unique(np.concatenate(grid))
    currents = cell.capacity * np.array(RATES)[:, None] * np.ones_like(times)
    truth = converged(cell, currents, times)
    found = {}
    for rate, current, volts in zip(RATES, currents, truth, strict=True):
        found[f"{rate}C"], _ = row_of(name, f"{rate}C", times, current, 1.0, volts)
    return found


def converged(cell, currents, times):
    """P2D's voltages (draw, time) from full, its mesh extrapolated to none."""
    coarse, fine = (
        follow(P2D(cell, np.ones(len(currents)), points=mesh), currents, times)["voltage"].values
        for mesh in MESHES
    )
    return fine + (fine - coarse) / 3


def untaught(name, values, times, truth):
    """Errors (mV) of what has learnt nothing, and when each ends."""
    known, row = rivals(name), {}
    for rival in ("SPMe on ladder", "modal SPMe"):
        model, points, submeshes = known[rival]
        made = simulation(model, values, points, submeshes, untested=rival in UNTESTED)
        solved = made.solve([0, times[-1]], t_interp=times)
        row[rival] = {**compared(solved, times, truth), "until_s": round(float(solved.t[-1]), 1)}
    return row


def beyond(name, cell, corrector):
    """Errors (mV) of discharges from full that use up salt, as long as P2D has some left."""
    times = profiles.slow_times(1800.0)
    currents = cell.capacity * np.array(FAST)[:, None] * np.ones_like(times)
    found = {}
    run = follow(P2D(cell, np.ones(len(FAST)), points=MESHES[1]), currents, times)
    for k, rate in enumerate(FAST):
        truth = run["voltage"].values[k]
        there = np.isfinite(truth)
        row = {
            "P2D": {"until_s": float(times[there][-1]), "salt_used_up": bool(run["depleted"][k])}
        }
        values = prepared(name, currents[k], times, 1.0)
        row |= untaught(name, values, times, truth)
        print(name, rate, row, flush=True)
        found[f"beyond, {rate}C"] = row
    return found


def weather(name, cell, corrector):
    """Errors (mV) of discharges at 1C from full at other temperatures (K)."""
    times = profiles.slow_times(5400.0, step=20.0)
    current = np.full(times.size, cell.capacity)
    found = {}
    for kelvin in TEMPERATURES:
        values = prepared(name, current, times, 1.0)
        values.update(dict.fromkeys(("Ambient temperature [K]", "Initial temperature [K]"), kelvin))
        truth = converged(read_cell(values, temperature=kelvin), current[None], times)[0]
        row = untaught(name, values, times, truth)
        print(name, kelvin, row, flush=True)
        found[f"1C at {kelvin} K"] = row
    return found


def row_of(name, label, times, current, soc, truth):
    """Every rival on one current, then the ensemble afterwards."""
    values, constant = prepared(name, current, times, soc), np.ptp(current) == 0
    made = {}
    for rival, (model, points, submeshes) in rivals(name).items():
        if constant and rival not in AT_RATES:
            continue
        how = partial(simulation, model, values, points, submeshes, untested=rival in UNTESTED)
        made[rival, "cpu_ms"] = how()
        if rival in COMPILED and not constant:
            made[rival, "compiled_cpu_ms"] = how(compiled=True)
    found, spent = timed(made, times)
    row = {}
    for rival, cost in made:
        if cost == "cpu_ms":
            row[rival] = compared(found[rival, cost], times, truth)
        row[rival][cost] = round(spent[rival, cost], 1)
    print(name, label, row, flush=True)
    # one solve that keeps all, for the band
    kept = pybamm.Simulation(
        CorrectedSPMe(name),
        parameter_values=values,
        solver=pybamm.IDAKLUSolver(rtol=1e-6, atol=1e-8),
    ).solve([0, times[-1]], t_interp=times)
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
    print(name, label, "ensemble", row["ensemble afterwards"], flush=True)
    if constant:
        cell = read_cell(pybamm.ParameterValues(name))
        row["time to cut-off, relative error"] = ends(values, cell, times, truth, kept)
    return row, values


def ends(values, cell, times, truth, kept):
    """How far off each ends a discharge, where it ends at all."""
    below = np.flatnonzero(truth < cell.lower_voltage)
    if not len(below):
        return None
    k = below[0]
    true = np.interp(-cell.lower_voltage, -truth[k - 1 : k + 1], times[k - 1 : k + 1])
    model, points, submeshes = on_shells(pybamm.lithium_ion.SPMe())
    plain = pybamm.Simulation(
        model, parameter_values=values, var_pts=points, submesh_types=submeshes
    ).solve([0, times[-1]])
    modal = pybamm.Simulation(ModalSPMe(), parameter_values=values).solve([0, times[-1]])
    return {
        "SPMe on ladder": round(float(plain.t[-1] / true - 1), 6),
        "modal SPMe": round(float(modal.t[-1] / true - 1), 6),
        "corrected SPMe": round(float(kept.t[-1] / true - 1), 6),
    }


def gap(values, times, truth):
    """RMS (mV) of the truth against PyBaMM's DFN with its own meshes extrapolated to zero."""
    volts = []
    narrow = pybamm.MeshGenerator(pybamm.Exponential1DSubMesh, {"side": "right", "stretch": 4.0})
    for x, r in ((24, 40), (48, 40), (24, 80)):
        points = {"x_n": x, "x_s": x // 2, "x_p": x, "r_n": r, "r_p": r}
        model = pybamm.lithium_ion.DFN()
        submeshes = {
            **model.default_submesh_types,
            **{f"{side} particle": narrow for side in ("negative", "positive")},
        }
        made = simulation(model, values, points, submeshes)
        volts.append(made.solve([0, times[-1]], t_interp=times)["Voltage [V]"].entries)
    limit = 2 * volts[1] - volts[0] + (volts[2] - volts[0]) * 4 / 3
    error = 1e3 * (truth - limit)[times >= 1]
    return {
        "rms_mV": round(float(np.sqrt(np.mean(error**2))), 3),
        "max_mV": round(float(np.abs(error).max()), 3),
    }


def ratios(row, ours):
    """CPU of one of ours against SPMe's and the default DFN's, like with like."""
    own, spme, dfn = (row[name] for name in (ours, "SPMe on ladder", "DFN default"))
    return {
        f"{kind} {other}": round(own[key] / base[key], 3)
        for kind, key in (("plain", "cpu_ms"), ("compiled", "compiled_cpu_ms"))
        for other, base in (("to SPMe", spme), ("to DFN", dfn))
    } | {"compiled to plain DFN": round(own["compiled_cpu_ms"] / dfn["cpu_ms"], 4)}


def charged(name, cell, corrector):
    """RMS and largest error (mV) of a charge at C/2 and a hold at the upper cut-off."""
    values = pybamm.ParameterValues(name)
    upper = cell.upper_voltage - 0.02
    # dense where the current falls: between the points P2D is given straight lines of it
    hold = f"Hold at {upper} V until C/20 (1 second period)"
    steps = (f"Charge at 0.5C until {upper} V", hold)
    found = {}
    known = rivals(name)
    for label in ("SPMe on ladder", "modal SPMe", "corrected SPMe"):
        model, points, mesh = known[label]
        solution = pybamm.Simulation(
            model,
            parameter_values=values,
            experiment=pybamm.Experiment([steps], period="30 seconds"),
            var_pts=points,
            submesh_types=mesh,
        ).solve(initial_soc=0.2)
        time, keep = np.unique(solution.t, return_index=True)
        current = solution["Current [A]"].entries[keep]
        full = follow(P2D(cell, np.array([0.2])), current[None], time)["voltage"].values[0]
        error = 1e3 * (solution["Voltage [V]"].entries[keep] - full)[time >= 60]
        error = error[np.isfinite(error)]
        found[label] = {
            "rms_mV": round(float(np.sqrt(np.mean(error**2))), 3),
            "max_mV": round(float(np.abs(error).max()), 2),
        }
    return {"constant current, constant voltage": found}


def per_step(cells, current, repeats=REPEATS):
    """Least CPU time (us) of a cell-step of a batch along currents (step, cell), a second each."""
    least = np.inf
    for _ in range(repeats):
        started = time.process_time()
        for now in current:
            cells.advance(now, 1.0)
        least = min(least, time.process_time() - started)
    return 1e6 * least / current.numel()


def batch(name, cell, corrector):
    """Cost of a cell-step (µs) of the corrected batch, many different cells at once."""
    found = {}
    for count in CELLS:
        rng = np.random.default_rng(0)
        cells = Corrected(
            cell,
            name,
            rng.uniform(0.5, 0.9, count),
            electrolyte={"diffusivity_scale": rng.uniform(0.8, 1.2, count)},
        )
        current = torch.as_tensor(cell.capacity * rng.uniform(-0.5, 1.0, (STEPS, count)))
        found[f"{count} cells, us per cell-step"] = round(per_step(cells, current), 3)
    return {
        "batch": found,
        "highest_c_rate": corrector.about["highest_c_rate"],
        "weights": corrector.size,
        # how the training judged it: whole splits of profiles, in batch
        "splits": json.loads((SHIPPED / f"{name}.json").read_text()),
    }


def draws(name, cell, seconds, cycle, truth, drawn):
    """The cycle with a thousand electrolytes, ensemble and band: CPU s, errors of some."""
    current, soc = np.tile(cycle, (DRAWS, 1)), np.full(DRAWS, 0.7)
    started = time.process_time()
    said = simulate(cell, name, current, seconds, state_of_charge=soc, electrolyte=drawn)
    spent = time.process_time() - started
    away = said["abstained"][:CHECKED].values
    error, base = (
        1e3 * (said[key][:CHECKED].values - truth)[~away] for key in ("voltage", "spme_voltage")
    )
    return {
        "cpu_s": round(spent, 2),
        "rms_mV": round(float(np.sqrt(np.nanmean(error**2))), 3),
        "spme_rms_mV": round(float(np.sqrt(np.nanmean(base**2))), 3),
        "abstained": round(float(away.mean()), 4),
        "largest_spread_mV": round(1e3 * float(said["voltage"].std("draw").max()), 2),
    }


def chart(name, count=24):
    """RMS errors (mV) of SPMe and of the corrected batch over C-rate and state of charge."""
    cell, highest = read_cell(pybamm.ParameterValues(name)), load(name).about["highest_c_rate"]
    rates, seconds = np.linspace(0.15, highest, count), profiles.slow_times(7200.0)
    current = cell.capacity * rates[:, None] * np.ones_like(seconds)
    full = follow(P2D(cell, np.ones(count)), current, seconds)["voltage"].values
    said = simulate(cell, name, current, seconds, state_of_charge=np.ones(count))
    soc = 1 - rates[:, None] * seconds / 3600
    edges = np.linspace(0, 1, 21)
    maps = {}
    for label, volts in (("SPMe", said["spme_voltage"]), ("corrected", said["voltage"])):
        square = 1e6 * (volts.values - full) ** 2
        maps[label] = np.array(
            [
                [
                    np.sqrt(np.mean(row[np.isfinite(row) & (s >= low) & (s < high)]))
                    if (np.isfinite(row) & (s >= low) & (s < high)).any()
                    else np.nan
                    for low, high in pairwise(edges)
                ]
                for row, s in zip(square, soc, strict=True)
            ]
        )
    return rates, edges, maps


def draw(result, path):
    """The accuracy-cost plane of the drive cycle, and the errors over charge and C-rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = [name for name, rows in result.items() if CYCLE in rows]
    figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for name, marker in zip(names, "osD^vPX*", strict=False):
        row = result[name][CYCLE]
        panels[0].plot([], [], marker, color="0.4", label=name)
        for k, rival in enumerate(rivals(name)):
            if rival in row:
                x, y = row[rival]["cpu_ms"], row[rival]["rms_mV"]
                panels[0].loglog(x, y, marker, color=f"C{k}")
    for k, rival in enumerate(rivals(names[0])):
        panels[0].plot([], [], "s", color=f"C{k}", label=rival)
    panels[0].set(xlabel="CPU (ms)", ylabel="RMS error (mV)", title=CYCLE)
    panels[0].legend(
        frameon=False, fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.17)
    )
    rates, edges, maps = chart(names[0])
    for panel, (label, found) in zip(panels[1:], maps.items(), strict=True):
        drawn = panel.pcolormesh(
            0.5 * (edges[1:] + edges[:-1]), rates, found, norm=mpl.colors.LogNorm(0.02, 50)
        )
        panel.set(xlabel="state of charge", ylabel="C-rate", title=f"{names[0]}, {label}")
    figure.colorbar(drawn, ax=panels[1:], label="RMS error (mV)")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    torch.set_num_threads(1)
    path = Path(__file__).with_suffix(".json")
    result = json.loads(path.read_text()) if path.exists() else {}
    if sys.argv[1:] == ["figure"]:
        draw(result, path.with_suffix(".png"))
        sys.exit()
    parts = {"cycle": cycle, "rates": rates, "charge": charged, "beyond": beyond}
    parts |= {"weather": weather, "batch": batch}
    for name in sys.argv[1:2] or sorted(file.stem for file in SHIPPED.glob("*.npz")):
        known, corrector = read_cell(pybamm.ParameterValues(name)), load(name)
        for part in sys.argv[2:] or parts:
            result.setdefault(name, {}).update(parts[part](name, known, corrector))
            result["versions"] = {
                "pybamm": pybamm.__version__,
                "torch": torch.__version__,
                "processor": platform.machine(),
            }
            path.write_text(json.dumps(result, indent=1) + "\n")
