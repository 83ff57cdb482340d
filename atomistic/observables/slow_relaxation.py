r"""What a run is too short to see end: slow relaxation beside diffusion, drawn and taken off."""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import truncnorm

from atomistic.observables.lines import line_weights, slope_weights
from atomistic.units import ANGSTROM

HOP = 2.0 * ANGSTROM  # net displacement that counts as one hop
RELAXATIONS = 12  # times tried for what the run is too short to see end
LEAST_CHANCE, SLOWER = 0.05, 10.0  # of slower relaxation; it grows with what relaxed before
LEAST_SHARE = 0.05  # of the line's slope that must be left for diffusion


def slow_excess(
    curve: np.ndarray,
    lag: np.ndarray,
    variance: np.ndarray,
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
    variance : numpy.ndarray
        Draws of the variance of the slope of the line (m4 s-2), which set the scale of the
        covariance, (draw,); each gets one draw of the excess.
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
    scale = scale[:, None]  # draw, relaxation
    information = np.einsum("ti,ij,tj->t", across, precision, across) / scale
    seen = across @ precision @ curve / scale
    spread = 1.0 / (information + HOP**-4)
    centre = spread * seen
    log = 0.5 * np.log(spread * HOP**-4) + 0.5 * centre**2 / spread
    log += np.log(2.0) + log_ndtr(centre / np.sqrt(spread)) + np.log(chance / RELAXATIONS)
    log = np.column_stack([np.full(len(log), np.log1p(-chance)), log])
    pick = (log + rng.gumbel(size=log.shape)).argmax(1)
    row = np.maximum(pick - 1, 0)
    draw = np.arange(len(log))
    centre, spread = centre[draw, row], spread[draw, row]
    low = -centre / np.sqrt(spread)
    height = truncnorm.rvs(low, np.inf, random_state=rng) * np.sqrt(spread) + centre
    return np.where(pick > 0, height * (bends @ weights)[row] / lag[0], 0.0)


def chance_of_slower(relaxed: float) -> float:
    """Return the prior probability of relaxation after the start lag from that before it (m2).

    One half once a tenth of a squared hop relaxed before the start; a twentieth for walkers that
    were never caged and did not rattle.
    """
    return 0.5 * float(np.clip(SLOWER * relaxed / HOP**2, 2 * LEAST_CHANCE, 1.0))


def less_relaxation(
    slope: float,
    error: np.ndarray,
    variance: np.ndarray,
    curve: np.ndarray,
    lag: np.ndarray,
    *,
    doubt: float,
    rng: np.random.Generator,
) -> tuple[float, float, np.ndarray, float]:
    """Return D (m2 s-1), its error, its draws, and the share of it that may be relaxation.

    Parameters
    ----------
    slope : float
        A sixth of the slope of the line (m2 s-1).
    error : numpy.ndarray
        Draws of its error (m2 s-1), (draw,).
    variance : numpy.ndarray
        Draws of the variance of that error (m4 s-2), (draw,).
    curve : numpy.ndarray
        Mean squared displacement from the start lag on (m2), (lag,).
    lag : numpy.ndarray
        Lags (s).
    doubt : float
        What the start lag leaves open (m2 s-1), an error of its own.
    rng : numpy.random.Generator
        Source of the draws.
    """
    excess = np.zeros(len(error))
    if slope > 0 and error.any():
        chance = chance_of_slower(float(line_weights(lag)[1] @ curve))
        excess = slow_excess(curve, lag, 36.0 * variance, rng, chance=chance) / 6.0
    if doubt:
        error = error + rng.standard_normal(len(error)) * doubt
    value, std, sample, share = _positive(slope, error, excess, rng)
    return value, std, sample, max(share, doubt / slope if slope > 0 else 0.0)


def _positive(
    mean: float, error: np.ndarray, excess: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, np.ndarray, float]:
    """Return value, error and positive draws of a slope less what is not diffusion, and its share.

    A draw that leaves no diffusion is not a possible one: it is drawn again among those that are.
    """
    if mean <= 0 or not error.any():
        return mean, np.inf, np.full(len(error), np.nan), 0.0
    width = np.sqrt(np.log1p(error.var() / mean**2))
    line = mean * np.exp(width * error / error.std())
    sample = line - excess
    possible = sample > LEAST_SHARE * line
    if possible.mean() < 0.1:
        return mean, np.inf, np.full(len(error), np.nan), float(excess.mean()) / mean
    sample = np.where(possible, sample, rng.choice(sample[possible], len(sample)))
    value = max(mean - float(np.median(excess)), float(np.quantile(sample, 0.16)))
    return value, float(sample.std()), sample, float(excess[possible].mean()) / mean
