"""Self-diffusivity of every species, with a posterior and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from atomistic.observables.displacements import (
    LONGEST_LAG,
    Walk,
    mean_squared_displacement,
    observe,
    species,
    walk,
)
from atomistic.observables.lines import curve_covariance, slope_weights
from atomistic.observables.shared_motion import correlations, linked, pace
from atomistic.observables.slow_relaxation import HOP, less_relaxation
from atomistic.units import PICOSECOND

LATEST_START = 0.3  # of the run: a later start leaves too little to fit
SCAN_LEVEL = 0.005  # chance that a scan finds a departure where there is none
TOLERANCE = 0.02  # relative difference that is let pass however small the error
LARGEST_BEND = 0.3  # share of D that may still be relaxation
FEWEST_HOPS = 30.0
LARGEST_ERROR = 0.35  # relative; above it the number is refused
FEWEST_ORDINATES, MOST_ORDINATES = 16, 32  # low frequencies that correlations are measured from
DRIFT_LIMIT = 4.0  # standard errors between the halves of a run, and
LARGEST_DRIFT = 0.15  # relative to the first
SCATTER_PRIOR = 0.3  # scale of the half-Cauchy prior of replica scatter, in within-replica errors


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
    values: np.ndarray, within: np.ndarray, rng: np.random.Generator
) -> tuple[float, np.ndarray, np.ndarray]:
    r"""Return the mean over replicas, and draws of its error and of that error's variance.

    Replica estimates scatter by their own error, of which draws of the variance v are given, and by
    a spread tau of the replicas themselves, :math:`D_r \sim N(D, v + \tau^2)`, with a half-Cauchy
    prior on tau (random effects). A mean over fewer than four replicas takes the within-replica
    error alone.
    """
    replicas, draws = len(values), len(within)
    mean = float(values.mean())
    if replicas < 4 or not (within > 0).all():
        return mean, rng.standard_normal(draws) * np.sqrt(within / replicas), within / replicas
    squares = float(((values - mean) ** 2).sum())
    tau = np.concatenate([[0.0], np.geomspace(0.02, 50.0, 200)])  # in within-replica errors
    prior = 1.0 / (1.0 + (tau / SCATTER_PRIOR) ** 2) * np.gradient(tau)
    # the within-replica variance is itself uncertain: average the likelihood over its draws
    total = within[:, None] * (1.0 + tau**2)
    log = -0.5 * (replicas - 1) * np.log(total) - 0.5 * squares / total
    weight = np.exp(log - log.max()) * prior
    flat = rng.choice(weight.size, draws, p=(weight / weight.sum()).ravel())
    variance = total.ravel()[flat] / replicas
    return mean, rng.standard_normal(draws) * np.sqrt(variance), variance


def start_scan(
    scan: np.ndarray,
    candidates: np.ndarray,
    factors: np.ndarray,
    noise: np.ndarray,
    *,
    sharing: float = 1.0,
) -> int:
    r"""Return which candidate start lag is taken; -1, the last, if all but the last three bend.

    The first start lag whose slope agrees with the slope from **every** later start lag, within
    the error of their difference or 2 %, is doubled and taken (Lepski's rule). The difference is
    held against Student's t of as many degrees as there are independent particles, at the level

    .. math:: \alpha(t \mid t_0) = \tfrac14 \alpha\, t_0 / t

    on either side, which halves with every octave of the later lag t and adds up to
    :math:`\alpha` = 0.5 % for all of them. To start at t for no reason multiplies the variance by
    :math:`t / t_0`, so the evidence asked grows with what it costs: false starts add no more than
    :math:`\alpha` of it an octave, however long the run. The error of a difference is that of the
    particles' scatter, or that of a free walk at the pace of the earlier slope if that is more:
    late slopes are skewed, and what comes out low by chance scatters little. The last three have
    nothing left to be held against.

    Parameters
    ----------
    scan : numpy.ndarray
        Slope of each particle from each candidate (m2 s-1), (candidate, replica, atom).
    candidates : numpy.ndarray
        Start lags (s).
    factors : numpy.ndarray
        M/M_eff of what displacements share, (candidate,).
    noise : numpy.ndarray
        Covariance of the slopes of free walkers, over the slope squared, (candidate, candidate).
    sharing : float
        By how much more what particles share inflates a variance.
    """
    particles = scan.shape[1] * scan.shape[2]
    for index in range(len(candidates) - 3):
        departure = scan[index + 1 :] - scan[index]
        freedom = max(particles / factors[index] - 1.0, 1.0)
        free = np.diag(noise)[index + 1 :] + noise[index, index] - 2 * noise[index, index + 1 :]
        free = scan[index].mean() ** 2 * np.maximum(free, 0.0) * factors[index]
        spread = np.sqrt(sharing * np.maximum(departure.var((1, 2)) / freedom, free))
        agreement = agreed(freedom, candidates[index:])
        allowed = np.maximum(agreement * spread, TOLERANCE * abs(scan[index].mean()))
        if (abs(departure.mean((1, 2))) <= allowed).all():
            return _later(candidates, 2 * candidates[index])
    return -1


def agreed(freedom: float, candidates: np.ndarray) -> np.ndarray:
    """Return by how many standard errors the slopes of later starts may differ from the first's."""
    level = SCAN_LEVEL / 4 * candidates[0] / candidates[1:]
    return np.asarray(stdtrit(freedom, 1.0 - level))


def _later(candidates: np.ndarray, lag: float) -> int:
    """Return the index of the first candidate that is at least `lag`, or of the last."""
    return min(int(np.searchsorted(candidates, lag * (1 - 1e-9))), len(candidates) - 1)


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
    between particles, times what they share, of which there are draws (`shared_motion.pace`),
    combined over replicas (`combine`); where every start still bends, plus the change over the
    last doubling of the start. What particles share widens what the scan allows as well, so it is
    made twice. **Draws** are log-normal about the line's D, positive and skewed as sums of squares
    are, less what slower relaxation may still hold (`slow_excess`), so intervals of short runs
    reach further down than up; that there is any is the likelier, the more relaxed before the
    start (`chance_of_slower`). **Refused**, with a sentence: fewer than 30 hops of 2 Å, or an
    error above 35 %; a curve that bends by more than 30 % or grows by less than b; a different
    pace in the two halves of the run.

    **Limit.** The verdict is about what this run can show. A cage that relaxes over a third of the
    run or less is refused; of 24 x 4 ions that only rattle in a cage relaxing over two thirds of
    the run, two runs in three pass with a number, although they never leave it: on that scale a
    bounded walk is a free one, and no displacement can tell them apart. What does is a second run
    three times as long, or at a higher temperature: D must stay, or follow Arrhenius.

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
    candidates = lags[lags <= LATEST_START * seen.duration]
    weights = np.zeros((len(candidates), len(lags)))
    for index, lag in enumerate(candidates):
        weights[index, lags >= lag] = slope_weights(lags[lags >= lag])
    scan = np.moveaxis(msd @ weights.T, -1, 0)
    walkers = curve_covariance(
        lags, lags, particles=replicas * atoms, duration=seen.duration,
        directions=seen.track.shape[3],
    )  # fmt: skip
    noise = weights @ walkers @ weights.T
    products = correlations(seen.track, min(MOST_ORDINATES, frames // 4))
    found = []
    for lag in candidates:
        band = max(FEWEST_ORDINATES, int(seen.duration / (2 * lag)))
        part = (product[:band, :band] for product in products)
        found.append(linked(*part, atoms=atoms, replicas=replicas))
    factors, significance = np.array(found).T

    sharing, factor, more, step, taken = np.ones(draws), 1.0, 1.0, 0, -1
    for _ in range(2):  # what particles share depends on the start, and the start on that
        taken = start_scan(scan, candidates, factors, noise, sharing=more)
        before, step = step, max(1, round(float(candidates[taken]) / seen.track_interval))
        if atoms == 1 or step == before:
            break
        factor = float(factors[taken])
        floor = factor * (atoms - 1) / (atoms - factor)  # of the scatter about the mean
        sharing = pace(
            seen.track,
            min(step, frames // 4),
            floor=floor,
            significance=float(significance[taken]),
            draws=draws,
            rng=rng,
        )
        more = float(np.median(sharing)) / floor
    start, slope = float(candidates[taken]), scan[taken]

    axis = 1 if atoms > 1 else 0  # a lone atom scatters between replicas only
    freedom = slope.size - slope.shape[1 - axis]
    scatter = ((slope - slope.mean(axis, keepdims=True)) ** 2).sum() / max(freedom, 1)
    sure = max(1.0, freedom / factor)
    within = sharing * scatter * sure / rng.chisquare(sure, draws) / atoms / 36.0
    mean, error, variance = combine(slope.mean(1) / 6.0, within, rng)
    kept, doubt = lags >= start, 0.0
    if taken < 0:
        doubt = abs(scan[_later(candidates, start / 2)].mean() / 6.0 - mean)
    value, std, sample, bend = less_relaxation(
        mean, error, variance, msd[..., kept].mean((0, 1)), lags[kept], doubt=doubt, rng=rng
    )
    if not freedom:
        std = np.inf

    offset = float(np.mean((msd.mean((0, 1)) - lags * slope.mean())[kept]))
    half = frames // 2
    stride = np.array([max(1, round(start / seen.track_interval))])
    first, second = (
        mean_squared_displacement(seen.track[:, part], stride)[..., 0]
        for part in (slice(0, half), slice(frames - half, frames))
    )
    change = second - first
    common = float(np.median(sharing))
    drift = abs(change.mean()) / np.sqrt(change.var() * common / slope.size + np.finfo(float).tiny)
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
        pace=drift if abs(change.mean()) > LARGEST_DRIFT * first.mean() else 0.0,
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
        inflation=common,
        hops=hops,
        diffusive=not refusal,
        verdict=refusal or said,
    )


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
