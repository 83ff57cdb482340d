"""Do the error bars cover? The transport estimators on trajectories whose truth is known.

    python -m benchmarks.transport_calibration [repeats]

from the repository's root writes ``transport_calibration.json`` beside this script: for each
scenario and estimator the bias, the root-mean-square error and the mean claimed error (all in per
cent of the truth), the coverage of nominal 68 and 95 % intervals, how many estimates were refused
and the CPU time. ``ols`` is the straight line through 10 to 50 % of the run with the error that
least squares claims.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import constants, stats

from atomistic.observables.displacements import observe, walk
from atomistic.observables.onsager import FARADAY, onsager
from atomistic.observables.self_diffusion import estimate
from atomistic.observables.transport import transport
from tests.atomistic import synthetic

SHAPE = (4, 1000, 24)  # replicas, frames, ions: 4 x 25 ps
PAIRS, LONG = 32, 2000
INTERVAL = 25e-15
EDGE = 20e-10
TEMPERATURE = 800.0


def shared(rng, shape):
    """Hops shared by four ions: Haven ratio 1/4."""
    replicas, frames, atoms = shape
    sites, diffusivity = synthetic.hopping(
        rng, (replicas, frames, atoms // 4), back=1 / 6, vibration=0.0
    )
    rattle = synthetic.rattling(rng, shape, 0.3)
    return np.repeat(sites, 4, axis=2) + rattle, diffusivity


# positions (Å), diffusivity (Å2/ps), Haven ratio
SCENARIOS = {
    "brownian": lambda rng: (synthetic.brownian(rng, SHAPE), 0.1, 1.0),
    "langevin": lambda rng: (synthetic.langevin(rng, SHAPE), 0.1, 1.0),
    "hopping, f = 0.43": lambda rng: (*synthetic.hopping(rng, SHAPE), 1.0),
    "slow hopping, f = 0.43": lambda rng: (*synthetic.hopping(rng, SHAPE, rate=0.3), 1.0),
    "clustered by 6": lambda rng: (synthetic.clustered(rng, SHAPE), 0.1, 0.4),
    "cages of 0.5 ps": lambda rng: (*synthetic.caged_hopping(rng, SHAPE), 1.0),
    "hops shared by 4": lambda rng: (*shared(rng, SHAPE), 0.25),
}


def least_squares(curve, lag):
    """Slope / 6 of a line from 10 to 50 % of the run, and the error that it claims."""
    inside = (lag >= 0.1 * lag[-1] / 0.7) & (lag <= 0.5 * lag[-1] / 0.7)
    line = stats.linregress(lag[inside], curve[inside])
    return line.slope / 6, line.stderr / 6


def gaussian(value, error):
    """Value, error and the two nominal intervals of a normal estimate."""
    return value, error, value - error, value + error, value - 1.96 * error, value + 1.96 * error


def from_draws(value, draws):
    """Value, error and the two nominal intervals of a posterior."""
    low, lower, upper, high = np.percentile(draws, [2.5, 15.865, 84.135, 97.5])
    return value, draws.std(), lower, upper, low, high


def summary(rows, truth, refused, seconds):
    """Turn repeated estimates into a row of the table."""
    if not rows:
        return {"refused": refused}
    value, error, lower, upper, low, high = np.array(rows).T / truth
    return {
        "bias_percent": round(100 * float(value.mean() - 1), 2),
        "rms_error_percent": round(100 * float(np.sqrt(((value - 1) ** 2).mean())), 2),
        "claimed_error_percent": round(100 * float(error.mean()), 2),
        "coverage_68": round(100 * float(((lower <= 1) & (upper >= 1)).mean())),
        "coverage_95": round(100 * float(((low <= 1) & (high >= 1)).mean())),
        "estimates": len(rows),
        "refused": refused,
        "cpu_ms": round(1e3 * seconds / (len(rows) + refused), 1),
    }


def one_species(repeats):
    """Self-diffusivity and conductivity of ions in a host at rest."""
    table = {}
    for name, make in SCENARIOS.items():
        rng = np.random.default_rng(11)
        ours, sigma, ols, refused, seconds = [], [], [], 0, 0.0
        for repeat in range(repeats):
            position, diffusivity, haven = make(rng)
            truth = diffusivity * 1e-8
            both = np.concatenate([position, np.zeros_like(position)], axis=2)
            half = position.shape[2]
            data = synthetic.trajectory(
                [both], symbols=["Li"] * half + ["Cl"] * half, temperatures=[TEMPERATURE]
            )
            started = time.process_time()
            seen = observe(data, host=["Cl"])
            found = estimate(walk(seen, 0, "Li"), rng=np.random.default_rng(repeat))
            seconds += time.process_time() - started
            curve = seen["mean_squared_displacement"].values[0][:, :half].mean((0, 1))
            ols.append(gaussian(*least_squares(curve, seen["lag"].values)))
            whole = transport(seen, charges={"Li": 1, "Cl": -1}, mobile="Li", seed=repeat)
            if not found.diffusive or not np.isfinite(whole["conductivity"].item()):
                refused += 1
                continue
            ours.append(from_draws(found.value, found.draws))
            sigma.append(
                from_draws(whole["conductivity"].item(), whole["conductivity_draw"].values[0])
            )
        scale = constants.e**2 * half / (EDGE**3 * constants.k * TEMPERATURE * haven)
        table[f"D, {name}"] = {
            "ours": summary(ours, truth, refused, seconds),
            "ols": summary(ols, truth, 0, 0.0),
        }
        table[f"conductivity, {name}"] = {"ours": summary(sigma, scale * truth, refused, seconds)}
        print(name, json.dumps(table[f"D, {name}"]["ours"]), flush=True)
    return table


def binary_salt(repeats):
    """Conductivity, transference number and salt diffusivity of 32 + 32 ions, 2 000 frames."""
    rng = np.random.default_rng(12)
    cation, anion, cross = 0.3, 0.6, 0.4 * np.sqrt(0.3 * 0.6)
    spread = cation + anion - 2 * cross
    scale = PAIRS * 1e-8 / (EDGE**3 * constants.k * TEMPERATURE * constants.Avogadro**2)
    concentration = PAIRS / EDGE**3 / constants.Avogadro
    truth = {
        "conductivity": FARADAY**2 * scale * spread,
        "transference_number": (cation - cross) / spread,
        "salt_diffusivity": 2 * constants.R * TEMPERATURE / concentration * scale
        * (cation * anion - cross**2) / spread,
    }  # fmt: skip
    ours = {name: [] for name in truth}
    ols = {"conductivity": [], "transference_number": []}
    refused, seconds = 0, 0.0
    for repeat in range(repeats):
        ions = synthetic.binary_salt(rng, (1, LONG, PAIRS), cation=cation, anion=anion)
        position = np.concatenate([ions, np.zeros_like(ions[:, :, :8])], axis=2)
        data = synthetic.trajectory(
            [position],
            symbols=["Li"] * PAIRS + ["Cl"] * PAIRS + ["Ar"] * 8,
            temperatures=[TEMPERATURE],
        )
        started = time.process_time()
        found = onsager(data, charges={"Li": 1, "Cl": -1}, thermodynamic_factor=1.0, seed=repeat)
        seconds += time.process_time() - started
        slopes = _collective_lines(ions)
        part = (slopes["all"][0] + slopes["cation"][0] - slopes["anion"][0]) / 2
        ols["conductivity"].append(gaussian(*np.multiply(slopes["all"], truth["conductivity"])))
        error = np.hypot(slopes["cation"][1], slopes["anion"][1]) / 2 / abs(slopes["all"][0])
        ols["transference_number"].append(gaussian(part / slopes["all"][0], error))
        if not np.isfinite(found["conductivity"].item()):
            refused += 1
            continue
        for name in truth:
            ours[name].append(from_draws(found[name].item(), found[f"{name}_draw"].values[0]))
    return {
        f"{name}, binary salt": {"ours": summary(ours[name], truth[name], refused, seconds)}
        | ({"ols": summary(ols[name], truth[name], 0, 0.0)} if name in ols else {})
        for name in truth
    }


def _collective_lines(ions):
    """Least-squares lines of collective displacements, in units of the true charge slope."""
    cation, anion = ions[0, :, :PAIRS].sum(1), ions[0, :, PAIRS:].sum(1)
    true = 6 * PAIRS * (0.3 + 0.6 - 0.8 * np.sqrt(0.18)) * INTERVAL * 1e12
    lag = np.unique(np.round(np.geomspace(1, 0.7 * LONG, 48)).astype(int))
    lines = {}
    for name, walker in (("all", cation - anion), ("cation", cation), ("anion", anion)):
        curve = [((walker[step:] - walker[:-step]) ** 2).sum(1).mean() for step in lag]
        slope, error = least_squares(np.array(curve), lag.astype(float))
        lines[name] = (6 * slope / true, 6 * error / true)
    return lines


def speed():
    """CPU seconds of a self-diffusivity with posterior: 1 000 particles, 10 000 frames."""
    position = synthetic.brownian(np.random.default_rng(13), (1, 10_000, 1000))
    data = synthetic.trajectory([position], symbols=["Li"] * 1000, temperatures=[300.0])
    started = time.process_time()
    estimate(walk(observe(data), 0, "Li"))
    return round(time.process_time() - started, 2)


if __name__ == "__main__":
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    result = {
        "repeats": repeats,
        "replicas_frames_ions": SHAPE,
        "table": one_species(repeats) | binary_salt(repeats),
        "seconds_for_1000_particles_10000_frames": speed(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
