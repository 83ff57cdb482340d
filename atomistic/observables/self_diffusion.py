"""Self-diffusivity of every species, with a posterior and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import log_ndtr, stdtrit
from scipy.stats import truncnorm

from atomistic.observables.displacements import (
    LONGEST_LAG,
    Walk,
    mean_squared_displacement,
    observe,
    species,
    walk,
)
from atomistic.observables.shared_motion import (
    inflation,
    low_frequency_power,
    shared_fluctuation,
)
from atomistic.units import ANGSTROM, PICOSECOND

LATEST_START = 0.3  # of the run: a later start leaves too little to fit
SCAN_LEVEL = 0.005  # chance that a scan finds a departure where there is none
TOLERANCE = 0.02  # relative difference that is let pass however small the error
LARGEST_BEND = 0.3  # share of D that may still be relaxation
RELAXATIONS = 12  # times tried for what the run is too short to see end
LEAST_CHANCE, SLOWER = 0.05, 10.0  # of slower relaxation; it grows with what relaxed before
LEAST_SHARE = 0.05  # of the line's slope that must be left for diffusion
HOP = 2.0 * ANGSTROM  # net displacement that counts as one hop
FEWEST_HOPS = 30.0
LARGEST_ERROR = 0.35  # relative; above it the number is refused
FEWEST_ORDINATES, MOST_ORDINATES = 16, 64  # low frequencies that M/M_eff is measured from
DRIFT_LIMIT = 4.0  # standard errors between the halves of a run, and
LARGEST_DRIFT = 0.15  # relative to the first
SCATTER_PRIOR = 0.3  # scale of the half-Cauchy prior of replica scatter, in within-replica errors


def line_weights(lags: np.ndarray) -> np.ndarray:
    r"""Return weights w such that w @ MSD are slope and intercept of its least-squares line.

    The covariance of the time-averaged MSD of a free walker at lags :math:`t_i \le t_j` is
    :math:`C_{ij} \propto t_i^2 / n_j` with :math:`n_j \propto 1/t_j` independent lengths. That
    makes :math:`\mathrm{MSD}(t)/t` a random walk in t: its increments are independent with variance
    :math:`t_i - t_{i-1}`, the precision is tridiagonal and the weights need no data. The line has
    an intercept: the plateau that rattling leaves.

    Parameters
    ----------
    lags : numpy.ndarray
        Lags (any unit), increasing, at least three.
    """
    precision = 1.0 / np.diff(lags, prepend=0.0)
    difference = np.eye(len(lags)) - np.eye(len(lags), k=-1)
    operator = difference / lags  # MSD to independent increments
    design = operator @ np.column_stack([lags, np.ones_like(lags)])
    weighted = design.T * precision
    return np.asarray(np.linalg.solve(weighted @ design, weighted) @ operator)


def slope_weights(lags: np.ndarray) -> np.ndarray:
    """Return the weights of the slope alone (`line_weights`)."""
    return np.asarray(line_weights(lags)[0])


@dataclass(frozen=True)
class Estimate:
    """A diffusivity (m2 s-1) with its posterior draws and what was found on the way."""

    value: float
    std: float
    draws: np.ndarray
    start: float  # s
    inflation: float
    hops: float
    diffusive: bool
    verdict: str


def combine(
    values: np.ndarray, variance: float, freedom: float, draws: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    r"""Return the mean over replicas and draws of the error of that mean (random effects).

    Replica estimates scatter by their own error `variance` (known to `freedom` degrees) and by a
    spread tau of the replicas themselves, :math:`D_r \sim N(D, v + \tau^2)`, with a half-Cauchy
    prior on tau. A mean over fewer than four replicas takes the within-replica error alone.
    """
    replicas = len(values)
    mean = float(values.mean())
    within = variance * freedom / rng.chisquare(freedom, draws)
    if replicas < 4 or variance <= 0:
        return mean, rng.standard_normal(draws) * np.sqrt(within / replicas)
    squares = float(((values - mean) ** 2).sum())
    tau = np.concatenate([[0.0], np.geomspace(0.02, 50.0, 200)])  # in within-replica errors
    prior = 1.0 / (1.0 + (tau / SCATTER_PRIOR) ** 2) * np.gradient(tau)
    # the within-replica variance is itself uncertain: average the likelihood over its draws
    total = within[:, None] * (1.0 + tau**2)
    log = -0.5 * (replicas - 1) * np.log(total) - 0.5 * squares / total
    weight = np.exp(log - log.max()) * prior
    flat = rng.choice(weight.size, draws, p=(weight / weight.sum()).ravel())
    return mean, rng.standard_normal(draws) * np.sqrt(total.ravel()[flat] / replicas)


def start_scan(
    msd: np.ndarray, lags: np.ndarray, power: np.ndarray, duration: float
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, int]], int]:
    """Return candidate start lags, each particle's slope from each, M/M_eff, and the one taken.

    The first start lag whose slope agrees with the slope from **every** later start lag, within
    the error of their difference or 2 %, is doubled and taken (Lepski's rule). The difference is
    held against Student's t of as many degrees as there are independent particles, at a level of
    0.5 % for all octaves of later lags together: a fixed number of standard errors would see a
    departure by chance the more often the longer the run. -1, the last, says that none did but
    the last three, which have nothing left to be held against.

    Parameters
    ----------
    msd : numpy.ndarray
        Mean squared displacement of each particle, (replica, atom, lag).
    lags : numpy.ndarray
        Lags (s).
    power : numpy.ndarray
        Low-frequency power of each particle, (replica, atom, frequency).
    duration : float
        Length of the run (s).
    """
    candidates = lags[lags <= LATEST_START * duration]
    slopes, factors = [], []
    for lag in candidates:
        inside = lags >= lag
        slopes.append(msd[..., inside] @ slope_weights(lags[inside]))
        band = min(power.shape[-1], max(FEWEST_ORDINATES, int(duration / (2 * lag))))
        factors.append(inflation(power[..., : band // 2 * 2]))
    scan = np.stack(slopes)
    particles = msd.shape[0] * msd.shape[1]
    for index in range(len(candidates) - 3):
        departure = scan[index + 1 :] - scan[index]
        factor = factors[index][0]
        freedom = max(particles / factor - 1.0, 1.0)
        spread = np.sqrt(departure.var((1, 2)) / freedom)
        octaves = max(1.0, np.log2(candidates[-1] / candidates[index]))
        agreement = stdtrit(freedom, 1.0 - SCAN_LEVEL / (2 * octaves))
        allowed = np.maximum(agreement * spread, TOLERANCE * abs(scan[index].mean()))
        if (abs(departure.mean((1, 2))) <= allowed).all():
            return candidates, scan, factors, _later(candidates, 2 * candidates[index])
    return candidates, scan, factors, -1


def _later(candidates: np.ndarray, lag: float) -> int:
    """Return the index of the first candidate that is at least `lag`, or of the last."""
    return min(int(np.searchsorted(candidates, lag * (1 - 1e-9))), len(candidates) - 1)


def slow_excess(
    curve: np.ndarray,
    lag: np.ndarray,
    variance: float,
    draws: int,
    rng: np.random.Generator,
    *,
    chance: float = 0.5,
) -> np.ndarray:
    r"""Draw how much of a line's slope (m2 s-1) is relaxation that the run is too short to end.

    .. math:: \mathrm{MSD}(t) = 6 D t + b_0 + b (1 - e^{-t/\tau}), \qquad b \ge 0

    Ions that jump back and cages that relax slowly bend the curve down at lags that a line fitted
    to noise cannot see, so a straight line is biased upwards. Given tau the part of the bend that
    is orthogonal to lines (in the metric of the covariance of `slope_weights`) measures b,
    independently of the slope; b has a half-normal prior of one hop length squared, tau is
    log-uniform from the start lag to the run, and b > 0 has the prior probability `chance`.

    Parameters
    ----------
    curve : numpy.ndarray
        Mean squared displacement from the start lag on (m2), (lag,).
    lag : numpy.ndarray
        Lags (s).
    variance : float
        Variance of the slope of the line (m4 s-2), which sets the scale of the covariance.
    draws : int
        Number of draws.
    rng : numpy.random.Generator
        Their source.
    chance : float
        Prior probability that there is such a relaxation.
    """
    time = lag / lag[0]
    weights = slope_weights(time)
    covariance = np.minimum.outer(time, time) ** 2 * np.maximum.outer(time, time)
    scale = variance * lag[0] ** 2 / (weights @ covariance @ weights)
    precision = np.linalg.inv(covariance)
    design = np.column_stack([time, np.ones_like(time)])
    projection = design @ np.linalg.solve(design.T @ precision @ design, design.T @ precision)
    relaxation = np.geomspace(1.0, 1.5 * time[-1], RELAXATIONS)
    bends = 1.0 - np.exp(-time / relaxation[:, None])
    across = bends - bends @ projection.T
    information = np.einsum("ti,ij,tj->t", across, precision, across) / scale
    seen = across @ precision @ curve / scale
    spread = 1.0 / (information + HOP**-4)
    centre = spread * seen
    log = 0.5 * np.log(spread * HOP**-4) + 0.5 * centre**2 / spread
    log += np.log(2.0) + log_ndtr(centre / np.sqrt(spread))
    log = np.concatenate([[np.log1p(-chance)], np.log(chance / RELAXATIONS) + log])
    weight = np.exp(log - log.max())
    pick = rng.choice(RELAXATIONS + 1, draws, p=weight / weight.sum())
    row = np.maximum(pick - 1, 0)
    low = -centre[row] / np.sqrt(spread[row])
    height = truncnorm.rvs(low, np.inf, random_state=rng) * np.sqrt(spread[row]) + centre[row]
    return np.where(pick > 0, height * (bends @ weights)[row] / lag[0], 0.0)


def chance_of_slower(relaxed: float) -> float:
    """Return the prior probability of relaxation after the start lag from that before it (m2).

    One half once a tenth of a squared hop relaxed before the start; a twentieth for walkers that
    were never caged and did not rattle.
    """
    return 0.5 * float(np.clip(SLOWER * relaxed / HOP**2, 2 * LEAST_CHANCE, 1.0))


def estimate(
    seen: Walk,
    *,
    draws: int = 400,
    rng: np.random.Generator | None = None,
    label: str = "the particles",
) -> Estimate:
    r"""Estimate the self-diffusivity of one kind of particle from replicas of one state.

    .. math:: \langle |\Delta r(t)|^2 \rangle = 6 D t + b, \qquad t \ge t_0

    **Start lag** :math:`t_0`: twice the first lag from which the slope agrees with the slope from
    every later start (`start_scan`), so that ballistic flight, rattling and motion inside cages
    are left out; b is the offset they leave. **Error**: the scatter of the same linear estimate
    between particles, times M/M_eff (the greater of `shared_motion.inflation` and
    `shared_fluctuation`), combined over replicas (`combine`); where every start still bends, plus
    the change over the last doubling of the start. **Draws** are log-normal about the line's D,
    positive and skewed as sums of squares are, less what slower relaxation may still hold
    (`slow_excess`), so intervals of short runs reach further down than up; that there is any is
    the likelier, the more relaxed before the start (`chance_of_slower`). **Refused**, with a
    sentence: fewer than 30 hops of 2 Å, or an error above 35 %; a curve that bends by more than
    30 % or grows by less than b; a different pace in the two halves of the run.

    A cage that relaxes more slowly than about a tenth of the run cannot be told from diffusion by
    displacements alone: the verdict is about what the run can show.

    Parameters
    ----------
    seen : Walk
        What was seen of the particles (`displacements.walk`).
    draws : int
        Number of posterior draws.
    rng : numpy.random.Generator, optional
        Source of the draws; seed 0 if none is given.
    label : str
        What moves, for the verdict.

    Returns
    -------
    Estimate
        Its `value`, `std` and `draws` are nan where refused.

    References
    ----------
    Lepskii, Theory Probab. Appl. 35, 454 (1991), https://doi.org/10.1137/1135065
    """
    rng = rng or np.random.default_rng(0)
    inside = seen.lag <= LONGEST_LAG * seen.duration
    lags, msd = seen.lag[inside], seen.msd[..., inside]
    replicas, frames, atoms, _ = seen.track.shape
    power = low_frequency_power(seen.track, min(MOST_ORDINATES, 2 * (frames // 4)))
    candidates, scan, factors, taken = start_scan(msd, lags, power, seen.duration)
    start, slope = float(candidates[taken]), scan[taken]
    step = min(max(1, round(start / seen.track_interval)), frames // 4)
    together, independent = shared_fluctuation(seen.track, step)
    factor, freedom = max((together, independent), factors[taken])

    axis = 1 if atoms > 1 else 0  # a lone atom scatters between replicas only
    scatter = ((slope - slope.mean(axis, keepdims=True)) ** 2).sum()
    particles = replicas * atoms
    # the scatter about a mean of particles that move together misses what they share
    known = particles - slope.shape[1 - axis] * factor
    variance = scatter / max(known, 1.0) * factor / atoms / 36.0
    sure = max(1.0, min(float(freedom), known / factor))
    mean, error = combine(slope.mean(1) / 6.0, variance, sure, draws, rng)
    kept = lags >= start
    bent = taken < 0
    excess, doubt = np.zeros(draws), 0.0
    if mean > 0 and error.any():
        curve = msd[..., kept].mean((0, 1))
        relaxed = float(line_weights(lags[kept])[1] @ curve)
        excess = slow_excess(
            curve,
            lags[kept],
            36.0 * float(error.var()),
            draws,
            rng,
            chance=chance_of_slower(relaxed),
        )
        excess /= 6.0
    if bent:
        doubt = abs(scan[_later(candidates, start / 2)].mean() / 6.0 - mean)
        error = error + rng.standard_normal(draws) * doubt
    value, std, sample = _positive(mean, error, excess, rng)
    if known <= 0:
        std = np.inf
    bend = max(float(excess.mean()), doubt) / mean if mean > 0 else 0.0

    offset = float(np.mean((msd.mean((0, 1)) - lags * slope.mean())[kept]))
    half = frames // 2
    stride = np.array([max(1, round(start / seen.track_interval))])
    first, second = (
        mean_squared_displacement(seen.track[:, part], stride)[..., 0]
        for part in (slice(0, half), slice(frames - half, frames))
    )
    change = second - first
    pace = abs(change.mean()) / np.sqrt(change.var() * factor / particles + np.finfo(float).tiny)
    hops, refusal = _refusal(
        label=label,
        replicas=replicas,
        atoms=atoms,
        duration=seen.duration,
        start=start,
        diffusivity=mean,
        relative=std / value if value > 0 else np.inf,
        growth=slope.mean() * lags[-1],
        offset=offset,
        bend=bend,
        pace=pace if abs(change.mean()) > LARGEST_DRIFT * first.mean() else 0.0,
    )
    said = f"diffusive from {start / PICOSECOND:.2g} ps"
    if bend > 0.1:
        said += f"; slower relaxation may take another {100 * bend:.0f} %, which is in the error"
    if refusal:
        value, std, sample = np.nan, np.nan, np.full(draws, np.nan)
    return Estimate(
        value=value,
        std=std,
        draws=sample,
        start=start,
        inflation=factor,
        hops=hops,
        diffusive=not refusal,
        verdict=refusal or said,
    )


def _positive(
    mean: float, error: np.ndarray, excess: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, np.ndarray]:
    """Return value, error and positive draws of a slope less the part that is not diffusion."""
    if mean <= 0 or not error.any():
        return mean, np.inf, np.full(len(error), np.nan)
    width = np.sqrt(np.log1p(error.var() / mean**2))
    line = mean * np.exp(width * error / error.std())
    sample = line - excess
    possible = sample > LEAST_SHARE * line
    if possible.mean() < 0.1:
        return mean, np.inf, np.full(len(error), np.nan)
    # a draw that leaves no diffusion is not a possible one: draw again among those that are
    sample = np.where(possible, sample, rng.choice(sample[possible], len(sample)))
    value = max(mean - float(np.median(excess)), float(np.quantile(sample, 0.16)))
    return value, float(sample.std()), sample


def _refusal(
    *,
    label: str,
    replicas: int,
    atoms: int,
    duration: float,
    start: float,
    diffusivity: float,
    relative: float,
    growth: float,
    offset: float,
    bend: float,
    pace: float,
) -> tuple[float, str]:
    """Return the number of hops seen and why the estimate is refused ("" if it is not)."""
    hops = max(0.0, replicas * atoms * 6 * diffusivity * duration / HOP**2)
    run = f"{replicas} x {duration / PICOSECOND:.3g} ps"
    if hops < FEWEST_HOPS or growth < HOP**2:
        times = max(FEWEST_HOPS / max(hops, 1e-9), HOP**2 / max(growth, 1e-9 * HOP**2))
        more = f"at least {times:.2g}" if times < 100 else "more than 100"
        return hops, (
            f"too few hops: {label} moved the equivalent of {hops:.2g} hops in {run}; "
            f"run {more} times longer, or at a higher temperature"
        )
    if bend > LARGEST_BEND or growth < offset:
        return hops, (
            f"not diffusive yet: the mean squared displacement of {label} still bends after "
            f"{start / PICOSECOND:.2g} ps of {run}; run at least 3 times longer"
        )
    if pace > DRIFT_LIMIT:
        return hops, (
            f"drifting: the pace of {label} differs between the two halves of {run} "
            f"({pace:.1f} standard errors); equilibrate for one more such run at least"
        )
    if relative > LARGEST_ERROR:
        return hops, (
            f"too few hops: the error of D of {label} is {100 * relative:.0f} % after {run}; "
            f"run about {(relative / LARGEST_ERROR) ** 2:.2g} times longer"
        )
    return hops, ""


def self_diffusivity(
    observed: xr.Dataset,
    *,
    chosen: Sequence[str] | None = None,
    host: Sequence[str] = (),
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Self-diffusivity (m2 s-1) of each species in each condition, over its replicas.

    The rule and the error are those of `estimate`.

    Parameters
    ----------
    observed : xarray.Dataset
        A TRAJECTORY, or what `displacements.observe` or the observer of `correlators` made of one;
        every replica is taken to be a sample of the same state and potential.
    chosen : sequence of str, optional
        Species to estimate; all of them if not given.
    host : sequence of str
        Species whose centre of mass is put at rest; the whole system's if empty. What was
        observed already has its frame, which `host` must then name or leave out.
    draws : int
        Posterior draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``self_diffusivity``, its ``_std`` and ``_draw`` (nan where refused), ``start_lag`` (s),
        ``inflation`` (1), ``hops`` (1), ``diffusive`` and the sentence ``verdict``, all
        (condition, species).

    Raises
    ------
    ValueError
        Lists every fault of the trajectory (`displacements.checked`).

    References
    ----------
    McCluskey et al., J. Chem. Theory Comput. 21, 79 (2025),
    https://doi.org/10.1021/acs.jctc.4c01249
    """
    names = species(observed) if chosen is None else list(chosen)
    observed = observe(observed, host=host, chosen=names)
    rng = np.random.default_rng(seed)
    rows = [
        [
            estimate(walk(observed, condition, name), draws=draws, rng=rng, label=name)
            for name in names
        ]
        for condition in range(observed.sizes["condition"])
    ]

    def table(attribute: str) -> np.ndarray:
        return np.array([[getattr(one, attribute) for one in row] for row in rows])

    dims = ("condition", "species")
    return xr.Dataset(
        {
            "temperature": ("condition", observed["temperature"].values, {"units": "K"}),
            "self_diffusivity": (dims, table("value"), {"units": "m2 s-1"}),
            "self_diffusivity_std": (dims, table("std"), {"units": "m2 s-1"}),
            "self_diffusivity_draw": ((*dims, "draw"), table("draws"), {"units": "m2 s-1"}),
            "start_lag": (dims, table("start"), {"units": "s"}),
            "inflation": (dims, table("inflation"), {"units": "1"}),
            "hops": (dims, table("hops"), {"units": "1"}),
            "diffusive": (dims, table("diffusive")),
            "verdict": (dims, table("verdict")),
        },
        coords={"species": names},
        attrs={"frame": observed.attrs["frame"], "finite_size_correction": "none"},
    )
