"""Coverage of the error bars, ours and the peers', on data that no threshold was tuned on.

    python -m benchmarks.transport [repeats] [repeats that the peers see] [seed] [scenario ...]

from the repository's root writes ``transport.json`` beside this script, adding to what it
holds, by seed. Where the peers see no repeat, what they gave on that seed stands.
The walkers come from generators of their own (below), not from those of the tests, on which
thresholds had been looked at; the last seed was looked at once, with the code as it stands.
Each scenario holds one run with a known answer, and each estimator gets the same data:

* ``ours``, which chooses where diffusion begins by itself;
* ``ols``, the straight line through 10 to 50 % of the run with least squares' own error;
* ``kinisi``, given the lag where diffusion begins (it asks for one), on 30 lags;
* ``stacie``, the spectrum of velocities, ExpPoly(0, 2), or Pade(0, 2; 2) for the current.

Written for each: bias, root-mean-square and mean claimed error (per cent of the truth), coverage of
nominal 68 and 95 % intervals, refusals, and CPU time. kinisi and STACIE see the first `PEERS`
repeats.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import constants, stats
from scipy.linalg import expm

from atomistic.observables.displacements import observe, walk
from atomistic.observables.green_kubo import zero_frequency
from atomistic.observables.onsager import FARADAY, onsager
from atomistic.observables.self_diffusion import estimate
from tests.atomistic.synthetic import trajectory

SEED = 20261203
PEERS = 100
INTERVAL = 20.0  # fs
EDGE = 24e-10  # m
TEMPERATURE = 900.0
FILE = Path(__file__).with_suffix(".json")


def brownian(rng, frames=1200, walkers=48):
    """Free walkers, 0.15 Å2/ps."""
    step = np.sqrt(2 * 0.15 * INTERVAL / 1e3)
    return step * rng.standard_normal((frames, walkers, 3)).cumsum(0), 0.15, 1


def langevin(rng, frames=1500, walkers=48):
    """Underdamped walkers, integrated at a twentieth of the frame with BAOAB; friction 4 /ps."""
    inner, friction, diffusivity = 20, 4.0, 0.2
    step = INTERVAL / 1e3 / inner
    variance = diffusivity * friction  # <v_x^2>, Å2/ps2
    keep = np.exp(-friction * step)
    velocity = np.sqrt(variance) * rng.standard_normal((walkers, 3))
    position = np.zeros((walkers, 3))
    out = np.empty((frames, walkers, 3))
    for frame in range(frames):
        for _ in range(inner):
            position = position + 0.5 * step * velocity
            velocity = keep * velocity + np.sqrt(variance * (1 - keep**2)) * rng.standard_normal(
                (walkers, 3)
            )
            position = position + 0.5 * step * velocity
        out[frame] = position
    # BAOAB without force moves by the trapezoid of an exact velocity: D is that of its sum
    return out, diffusivity * friction * step / 2 * (1 + keep) / (1 - keep), 60


def hopping(rng, frames=1500, walkers=48):
    """Hops of 3.1 Å on a cubic lattice, 1.2 a ps, half of them straight back; white rattling.

    Waiting times are exponential and frames are looked up in them; f = 0.43.
    """
    rate, jump, back = 1.2, 3.1, 0.5
    times = np.arange(frames) * INTERVAL / 1e3
    faces = np.vstack([np.eye(3), -np.eye(3)])
    out = np.empty((frames, walkers, 3))
    for walker in range(walkers):
        arrivals = rng.exponential(1 / rate, int(2 * rate * times[-1] + 60)).cumsum()
        count = len(arrivals)
        reverse = rng.random(count) < back
        turns = rng.integers(1, 6, count)
        way = np.empty(count, dtype=int)
        last = rng.integers(6)
        for hop in range(count):
            opposite = (last + 3) % 6
            last = opposite if reverse[hop] else (opposite + turns[hop]) % 6
            way[hop] = last
        sites = np.vstack([np.zeros(3), jump * faces[way].cumsum(0)])
        out[:, walker] = sites[np.searchsorted(arrivals, times, side="right")]
    cosine = -back + (1 - back) / 5
    truth = (1 + cosine) / (1 - cosine) * rate * jump**2 / 6
    return out + 0.35 * rng.standard_normal(out.shape), truth, 40


def clustered(rng, frames=1200, walkers=48):
    """Clusters of eight whose noise correlates by 0.7319: variance inflation 1 + 7 rho^2 = 4.75."""
    rho, size = np.sqrt(3.75 / 7), 8
    common = rng.standard_normal((frames, walkers // size, 3))
    own = rng.standard_normal((frames, walkers, 3))
    step = np.sqrt(rho) * np.repeat(common, size, 1) + np.sqrt(1 - rho) * own
    return np.sqrt(2 * 0.15 * INTERVAL / 1e3) * step.cumsum(0), 0.15, 1


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


def ols(position):
    """Line through 10 to 50 % of the run; Å2/ps."""
    frames = len(position)
    lag = np.unique(np.linspace(0.1 * frames, 0.5 * frames, 60).astype(int))
    curve = [((position[n:] - position[:-n]) ** 2).sum(-1).mean() for n in lag]
    line = stats.linregress(lag * INTERVAL / 1e3, curve)
    return gaussian(line.slope / 6, line.stderr / 6)


def kinisi(position, start, seed):
    """Regress as kinisi does, from a given lag (frames); Å2/ps."""
    import scipp as sc
    from kinisi.diffusion import Diffusion
    from kinisi.displacement import calculate_msd

    class Parsed:
        pass

    parsed = Parsed()
    lags = np.unique(np.linspace(1, len(position) - 1, 30).astype(int))
    lags = np.unique(np.append(lags[lags >= start], start))
    parsed.displacements = sc.array(
        dims=["obs", "particle", "dimension"], values=position[1:] - position[:1], unit="angstrom"
    )
    parsed.dt_index = sc.array(dims=["time interval"], values=lags)
    parsed.dt = parsed.dt_index * sc.scalar(INTERVAL / 1e3, unit="ps")
    parsed.dimensionality = sc.scalar(3, unit="dimensionless")
    found = Diffusion(calculate_msd(parsed, progress=False))
    np.random.seed(seed)  # noqa: NPY002  it draws from the global generator
    found.bayesian_regression(
        start_dt=start * INTERVAL / 1e3 * sc.Unit("ps"), progress=False, n_samples=500, n_burn=200
    )
    draws = found.gradient.values / 6
    return from_draws(draws.mean(), draws)


def stacie(series, step, model):
    """STACIE's integral of an autocorrelation from (series, time)."""
    from stacie import ExpPolyModel, PadeModel, compute_spectrum, estimate_acint

    spectrum = compute_spectrum(series, prefactors=1.0, timestep=step, include_zero_freq=False)
    chosen = ExpPolyModel([0, 2]) if model == "expoly" else PadeModel([0, 2], [2])
    found = estimate_acint(spectrum, chosen, verbose=False)
    return gaussian(found.acint, found.acint_std)


def timed(rows, call):
    """Append what `call` gives to (rows, refused, seconds)."""
    begun = time.process_time()
    try:
        found = call()
    except Exception as error:  # a peer that gives up is counted, not hidden
        found = None
        rows.setdefault("why", str(error)[:120])
    rows["seconds"] += time.process_time() - begun
    if found is None or not np.isfinite(found).all():
        rows["refused"] += 1
    else:
        rows["found"].append(found)


def told(rows, truth):
    """Summarise what `timed` gathered."""
    out = summary(rows["found"], truth, rows["refused"], rows["seconds"])
    return out | ({"why": rows["why"]} if "why" in rows else {})


def fresh(*names):
    """Empty tallies."""
    return {name: {"found": [], "refused": 0, "seconds": 0.0} for name in names}


def self_diffusion(make, repeats):
    """One species of walkers, one run."""
    rng = np.random.default_rng([SEED, len(make.__name__)])
    tallies = fresh("ours", "ols", "kinisi", "stacie")
    for repeat in range(repeats):
        position, truth, start = make(rng)
        both = np.concatenate([position, np.zeros_like(position)], axis=1)[None]
        symbols = ["Li"] * position.shape[1] + ["Cl"] * position.shape[1]
        data = trajectory(
            [both], symbols=symbols, temperatures=[TEMPERATURE], interval=INTERVAL, length=1e4
        )

        def ours(data=data, repeat=repeat):
            seen = walk(observe(data, host=["Cl"]), 0, "Li")
            found = estimate(seen, rng=np.random.default_rng(repeat))
            return from_draws(found.value * 1e8, found.draws * 1e8) if found.diffusive else None

        timed(tallies["ours"], ours)
        timed(tallies["ols"], lambda position=position: ols(position))
        if repeat < PEERS:
            timed(tallies["kinisi"], lambda p=position, s=start, r=repeat: kinisi(p, s, r))
        velocity = np.diff(position, axis=0).reshape(len(position) - 1, -1).T / (INTERVAL / 1e3)
        if repeat < PEERS:
            timed(tallies["stacie"], lambda v=velocity: stacie(v, INTERVAL / 1e3, "expoly"))
    return {name: told(rows, truth) for name, rows in tallies.items()}


def binary(repeats, *, pairs=32, frames=2000):
    """32 + 32 ions, correlated in pairs, among a solvent at rest: sigma, t+, D of the salt."""
    rng = np.random.default_rng([SEED, 99])
    cation, anion, correlation = 0.2, 0.4, 0.4
    cross = correlation * np.sqrt(cation * anion)
    spread = cation + anion - 2 * cross
    scale = pairs * 1e-8 / (EDGE**3 * constants.k * TEMPERATURE * constants.Avogadro**2)
    concentration = pairs / EDGE**3 / constants.Avogadro
    truth = {
        "conductivity": FARADAY**2 * scale * spread,
        "transference number": (cation - cross) / spread,
        "salt diffusivity": 2 * constants.R * TEMPERATURE / concentration * scale
        * (cation * anion - cross**2) / spread,
    }  # fmt: skip
    names = {"conductivity": "conductivity", "transference number": "transference_number",
             "salt diffusivity": "salt_diffusivity"}  # fmt: skip
    tallies = {name: fresh("ours", "ols", "kinisi", "stacie") for name in truth}
    scaled, step = truth["conductivity"] / spread, INTERVAL / 1e3
    for repeat in range(repeats):
        shared = rng.standard_normal((2, frames, pairs, 3))
        other = correlation * shared[0] + np.sqrt(1 - correlation**2) * shared[1]
        unit = np.sqrt(2 * INTERVAL / 1e3)
        plus = unit * np.sqrt(cation) * shared[0].cumsum(0)
        minus = unit * np.sqrt(anion) * other.cumsum(0)
        solvent = np.zeros((frames, 16, 3))
        data = trajectory(
            [np.concatenate([plus, minus, solvent], axis=1)[None]],
            symbols=["Li"] * pairs + ["Cl"] * pairs + ["Ar"] * 16,
            temperatures=[TEMPERATURE], interval=INTERVAL, length=EDGE * 1e10,
        )  # fmt: skip
        begun = time.process_time()
        found = onsager(data, charges={"Li": 1, "Cl": -1}, thermodynamic_factor=1.0, seed=repeat)
        seconds = time.process_time() - begun
        for name, key in names.items():
            rows = tallies[name]["ours"]
            rows["seconds"] += seconds
            value = found[key].item()
            if np.isfinite(value):
                rows["found"].append(from_draws(value, found[f"{key}_draw"].values[0]))
            else:
                rows["refused"] += 1
        # the charge as one walker whose diffusivity is that of the conductivity
        charge = ((plus - minus).sum(1) / np.sqrt(pairs))[:, None]
        walkers = {
            "all": charge,
            "cation": plus.sum(1)[:, None] / np.sqrt(pairs),
            "anion": minus.sum(1)[:, None] / np.sqrt(pairs),
        }
        timed(tallies["conductivity"]["ols"], lambda c=charge: np.multiply(ols(c), scaled))
        if repeat < PEERS:
            timed(
                tallies["conductivity"]["kinisi"],
                lambda c=charge, r=repeat: np.multiply(kinisi(c, 1, r), scaled),
            )
            timed(
                tallies["conductivity"]["stacie"],
                lambda c=charge: np.multiply(
                    stacie(np.diff(c[:, 0], axis=0).T / step, step, "expoly"), scaled
                ),
            )

        def ratio(walkers=walkers):
            line = {name: ols(one)[:2] for name, one in walkers.items()}
            part = (line["all"][0] + line["cation"][0] - line["anion"][0]) / 2
            error = np.hypot(line["cation"][1], line["anion"][1]) / 2 / abs(line["all"][0])
            return gaussian(part / line["all"][0], error)

        timed(tallies["transference number"]["ols"], ratio)
    return {
        f"{name}, binary salt": {
            who: told(rows, truth[name])
            for who, rows in tallies[name].items()
            if rows["found"] or rows["refused"]
        }
        for name in truth
    }


def current(repeats, *, frames=4000, interval=0.05):
    """Charge current whose relaxation sits under an optic peak forty times as strong."""
    rng = np.random.default_rng([SEED, 77])
    integral, relaxation = 1.0, 0.4
    strength, frequency, damping = 16.0, 9.0, 1.5
    keep = np.exp(-interval / relaxation)
    drift = np.array([[0.0, 1.0], [-(frequency**2), -damping]])
    carry = expm(drift * interval)
    still = np.diag([strength / frequency**2, strength])
    factor = np.linalg.cholesky(still - carry @ still @ carry.T)
    truth = integral * interval / (2 * relaxation) / np.tanh(interval / (2 * relaxation))
    tallies = fresh("ours", "ols", "stacie")
    for repeat in range(repeats):
        slow = np.sqrt(integral / relaxation) * rng.standard_normal(3)
        optic = np.sqrt(np.diag(still))[:, None] * rng.standard_normal((2, 3))
        series = np.empty((frames, 3))
        for frame in range(frames):
            slow = keep * slow + np.sqrt(integral / relaxation * (1 - keep**2)) * (
                rng.standard_normal(3)
            )
            optic = carry @ optic + factor @ rng.standard_normal((2, 3))
            series[frame] = slow + optic[1]

        def ours(series=series, repeat=repeat):
            value, draws, _ = zero_frequency(
                series[None], interval, rng=np.random.default_rng(repeat)
            )
            return from_draws(value, draws)

        def line(series=series):
            charge = (series.cumsum(0) * interval)[:, None]
            return np.multiply(ols(charge), INTERVAL / 1e3 / interval)

        timed(tallies["ours"], ours)
        timed(tallies["ols"], line)
        if repeat < PEERS:
            timed(tallies["stacie"], lambda s=series: stacie(s.T, interval, "pade"))
    return {"current with an optic peak": {who: told(rows, truth) for who, rows in tallies.items()}}


SCENARIOS = {
    make.__name__: (lambda n, make=make: {f"D, {make.__name__}": self_diffusion(make, n)})
    for make in (brownian, langevin, hopping, clustered)
} | {"binary": binary, "current": current}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the peers warn of their own deprecations
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    PEERS = int(sys.argv[2]) if len(sys.argv) > 2 else PEERS
    SEED = int(sys.argv[3]) if len(sys.argv) > 3 else SEED
    chosen = sys.argv[4:] or list(SCENARIOS)
    table = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for name in chosen:
        rows = SCENARIOS[name](repeats)
        known = table.setdefault(f"seed {SEED}", {})
        for row, who in rows.items():
            told_now = {
                name: one for name, one in who.items() if "estimates" in one or one["refused"]
            }
            known[row] = known.get(row, {}) | {"repeats": repeats} | told_now
        FILE.write_text(json.dumps(table, indent=1) + "\n")
        print(json.dumps(rows), flush=True)
