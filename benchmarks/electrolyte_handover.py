"""From twenty noisy points of a liquid to the voltage of a cell, and whether intervals cover.

    python -m benchmarks.electrolyte_handover [part ...]

from the repository's root writes ``electrolyte_handover.json`` beside this script; parts that are
not named keep what stands there. The truth is LiPF6 in EC:EMC 3:7 (Landesfeind and Gasteiger 2019),
seen at 5 concentrations x 4 temperatures with 10 % noise, as MD would give it.

``laws``
    Coverage of nominal 68 and 95 % intervals and RMS error, at ten points away from the data, over
    200 campaigns; beside it the peer: Landesfeind's cubic polynomial in c and T for each
    property, by weighted least squares with its covariance. That is no handicap to it: the truth
    of the last two properties is such a polynomial.
``voltage``
    Coverage of the voltage of a DFN (Chen2020) discharged at 1C, over 100 campaigns: between the
    lowest and the highest of 39 draws lies a further one with 95 %.
``noiseless``
    The same points without noise, stated to 0.1 %: distance of the discharge to that with PyBaMM's
    own functions.
``draws``
    200 draws through a DFN at 1C on two worker processes, from nothing: wall time, and the CPU time
    of each worker, its imports included, which is the wall time of two cores with nothing else to
    do.
``limit``
    Limiting current of a slab in `continuum.concentrated` and in a PyBaMM half-cell.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from continuum.cell import discharge, pybamm
from couplers.battery import LAW_KEYS, inputs, parameter_values
from couplers.electrolyte import binary_electrolyte
from couplers.evidence import TOGETHER
from couplers.fits import LAWS, evaluate, fit_laws
from couplers.liquid import landesfeind_ec_emc
from couplers.propagation import discharges, propagate
from multiscale.executors import local
from tests.couplers.half_cell import exact_limit, last_in_half_cell, last_in_slab, limit
from tests.couplers.measured import properties, truth

NOISE = 0.1
CAMPAIGNS, VOLTAGE_CAMPAIGNS, DRAWS = 200, 100, 39
AWAY_C = np.array([350.0, 800, 1300, 2000, 350, 800, 1300, 2000, 1000, 1000])
AWAY_T = np.array([298.15] * 4 + [275.0, 290, 305, 275, 278, 312])
WHERE = {"concentration": 1000.0, "temperature": 298.15}
FIELDS = list(LAW_KEYS)


def cubic(c, T):
    """Landesfeind's polynomial: 1, x, T, x2, xT, T2, x3, x2T, xT2."""
    x, t = c / 1000, T / 300
    return np.stack([x**0, x, t, x**2, x * t, t**2, x**3, x**2 * t, x * t**2], axis=-1)


def polynomial(given, name):
    """Value and error at the points away, by weighted least squares."""
    c, T = given["salt_concentration"].values, given["temperature"].values
    error = given[f"{name}_std"].values
    A = cubic(c, T) / error[:, None]
    covariance = np.linalg.inv(A.T @ A)
    at = cubic(AWAY_C, AWAY_T)
    value = at @ (covariance @ (A.T @ (given[name].values / error)))
    return value, np.sqrt(np.einsum("pi,ij,pj->p", at, covariance, at))


def summary(rows):
    """Coverage and error of rows (median, lower 68, upper 68, lower 95, upper 95, truth)."""
    value, lower, upper, low, high, exact = np.moveaxis(np.array(rows), 1, 0)
    scale = np.abs(exact).mean()
    return {
        "coverage_68": round(100 * float(((lower <= exact) & (exact <= upper)).mean()), 1),
        "coverage_95": round(100 * float(((low <= exact) & (exact <= high)).mean()), 1),
        "rms_error_percent": round(100 * float(np.sqrt(((value - exact) ** 2).mean()) / scale), 2),
        "width_95_percent": round(100 * float((high - low).mean() / scale), 1),
    }


def laws():
    """Coverage at points that nobody measured."""
    ours = {name: [] for name in LAWS}
    peer = {name: [] for name in LAWS}
    widened, started = 0, time.process_time()
    for seed in range(CAMPAIGNS):
        given = properties(NOISE, seed=1000 + seed)
        found = fit_laws(given, draws=400, seed=seed)
        widened += "multiplied" in found.attrs["misfit"]
        at = evaluate(found, AWAY_C, AWAY_T)
        for name in LAWS:
            exact = truth(name, AWAY_C, AWAY_T)
            drawn = at[f"{name}_draw"].values
            low, lower, middle, upper, high = np.percentile(
                drawn, [2.5, 15.865, 50, 84.135, 97.5], axis=1
            )
            ours[name].append(np.array([middle, lower, upper, low, high, exact]))
            value, error = polynomial(given, name)
            ends = (value + z * error for z in (-1, 1, -1.96, 1.96))
            peer[name].append(np.array([value, *ends, exact]))
    seconds = (time.process_time() - started) / CAMPAIGNS
    table = {
        name: {"ours": summary(ours[name]), "cubic polynomial": summary(peer[name])}
        for name in LAWS
    }
    covered = {
        who: {
            level: round(float(np.mean([table[name][who][level] for name in LAWS])), 1)
            for level in ("coverage_68", "coverage_95")
        }
        for who in ("ours", "cubic polynomial")
    }
    return {
        "campaigns": CAMPAIGNS,
        "points_away": len(AWAY_C),
        "cpu_s_per_campaign": round(seconds, 2),
        "campaigns_with_widened_errors": widened,
        "all": covered,
        **table,
    }


def truly(time_points):
    """Voltage at 1C with the true Laws."""
    return discharges([landesfeind_ec_emc()], time_points=time_points)["voltage"].values[0, 0]


def voltage():
    """Coverage of the voltage, campaign by campaign."""
    time_points = 25
    exact = truly(time_points)
    values, inside, width, error, failed = None, [], [], [], 0
    for seed in range(VOLTAGE_CAMPAIGNS):
        found = fit_laws(properties(NOISE, seed=5000 + seed), draws=TOGETHER * DRAWS, seed=seed)
        independent = range(0, TOGETHER * DRAWS, TOGETHER)
        drawn = [binary_electrolyte(found, **WHERE, draw=draw) for draw in independent]
        if values is None:
            values = parameter_values(drawn[0], as_inputs=FIELDS)
        given = [inputs(one, FIELDS) for one in drawn]
        result = discharge(values, c_rates=[1.0], inputs=given, time_points=time_points)
        volts = result["voltage"].values[0]
        failed += int(np.isnan(volts).all(axis=1).sum())
        ordered = np.sort(volts, axis=0)
        kept = np.isfinite(exact) & np.isfinite(volts).all(axis=0)
        inside.append(np.where(kept, (ordered[0] <= exact) & (exact <= ordered[-1]), np.nan))
        width.append(np.where(kept, ordered[-1] - ordered[0], np.nan))
        error.append(np.where(kept, np.median(volts, axis=0) - exact, np.nan))
        if (seed + 1) % 10 == 0:
            print(seed + 1, round(100 * float(np.nanmean(inside)), 1), flush=True)
    with np.errstate(invalid="ignore"):
        often = np.isfinite(inside).sum(axis=0) > VOLTAGE_CAMPAIGNS // 2
    table = np.array(inside)[:, often]
    return {
        "campaigns": VOLTAGE_CAMPAIGNS,
        "draws": DRAWS,
        "failed_draws": failed,
        "coverage_95": round(100 * float(np.nanmean(table)), 1),
        "coverage_95_along_the_discharge": [
            round(100 * float(one)) for one in np.nanmean(table, axis=0)
        ],
        "mean_width_95_mV": round(1e3 * float(np.nanmean(np.array(width)[:, often])), 2),
        "rms_error_mV": round(
            1e3 * float(np.sqrt(np.nanmean(np.square(np.array(error)[:, often])))), 2
        ),
    }


def noiseless():
    """Distance of the discharge to that with PyBaMM's own functions (mV)."""
    own = pybamm.ParameterValues("ORegan2022")
    by_hand = pybamm.ParameterValues("Chen2020")
    by_hand.update({key: own[key] for key in LAW_KEYS.values()})
    found = fit_laws(properties(0.0, stated=1e-3), draws=10)
    laws = parameter_values(binary_electrolyte(found, **WHERE))
    rates = [1.0, 2.0]
    ours, theirs = (discharge(one, c_rates=rates)["voltage"] for one in (laws, by_hand))
    difference = 1e3 * (ours - theirs)
    return {
        "points": found.attrs["conditions"],
        "rms_mV_at_1C_2C": [
            round(float(one), 3) for one in np.sqrt((difference**2).mean(("draw", "time")))
        ],
        "largest_mV_at_1C_2C": [
            round(float(one), 3) for one in abs(difference).max(("draw", "time"))
        ],
        "misfit": found.attrs["misfit"],
    }


def draws():
    """Wall time of 200 discharges."""
    found = fit_laws(properties(NOISE, seed=0), draws=200)
    electrolytes = [binary_electrolyte(found, **WHERE, draw=draw) for draw in range(200)]
    busy = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with local(2) as pool:
        result = propagate(discharges, electrolytes, executor=pool, batches=2)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_s": round(wall, 1),
        "cpu_s_of_each_worker": round(cpu / 2, 1),
        "load_of_the_two_cores_before": round(busy, 1),
        "workers": 2,
        "outcome": result.attrs["draws"],
    }


def limiting():
    """Limiting current densities (A m-2) of 100 um at 0.4 mol/L."""
    found = fit_laws(properties(NOISE, seed=0), draws=10)
    electrolyte = binary_electrolyte(found, concentration=400.0, temperature=298.15)
    thickness = 100e-6
    exact = exact_limit(electrolyte, thickness)
    slab, cell = (
        limit(last, electrolyte, thickness, exact) for last in (last_in_slab, last_in_half_cell)
    )
    return {
        "exact_A_m2": round(exact, 3),
        "finite_elements_over_exact": round(slab / exact, 5),
        "pybamm_over_exact": round(cell / exact, 5),
        "finite_elements_over_pybamm": round(slab / cell, 5),
    }


PARTS = {
    "laws": laws,
    "voltage": voltage,
    "noiseless": noiseless,
    "draws": draws,
    "limit": limiting,
}

if __name__ == "__main__":
    path = Path(__file__).with_suffix(".json")
    for part in sys.argv[1:] or PARTS:
        row = {part: PARTS[part]()}
        print(json.dumps(row, indent=1), flush=True)
        result = (json.loads(path.read_text()) if path.exists() else {}) | row
        path.write_text(json.dumps(result, indent=1) + "\n")
