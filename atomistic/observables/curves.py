r"""Self-diffusivity from somebody else's mean squared displacement, by the rules of our own.

A finished curve has lost its particles, so their scatter cannot be measured; what is left is theory
for independent walkers. Averaged over N particles and all origins of a run of length T, lags
:math:`t_i \le t_j` have (d = 3 directions)

.. math:: \mathrm{cov}_{ij} \simeq \mathrm{MSD}_i^2\,\frac{2 t_j - \tfrac23 t_i}{d N T}\,
              \frac{M}{M_\mathrm{eff}}

and M/M_eff, what particles share, must be said (or several runs given, whose scatter shows it).
Whether particles flow or hop is lost as well: errors allow for hops.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from atomistic.observables.displacements import LONGEST_LAG
from atomistic.observables.lines import curve_covariance, slope_weights
from atomistic.observables.self_diffusion import (
    LATEST_START,
    TOLERANCE,
    _later,
    _refusal,
    agreed,
    combine,
)
from atomistic.observables.slow_relaxation import less_relaxation
from atomistic.units import ANGSTROM, PICOSECOND

MOST_LAGS = 48
FEW_RUNS = 1e6  # degrees of freedom of an error that theory gives


def self_diffusivity_of_curves(
    curves: np.ndarray,
    lag: np.ndarray,
    *,
    particles: int,
    duration: float,
    inflation: float = 1.0,
    hop: float = 3.0 * ANGSTROM,
    draws: int = 400,
    seed: int = 0,
    label: str = "the particles",
) -> xr.Dataset:
    """Self-diffusivity (m2 s-1) from mean squared displacements of finished runs of one state.

    Where diffusion begins, what may still relax, and when a number is refused are as in
    `self_diffusion.estimate`.

    Parameters
    ----------
    curves : numpy.ndarray
        Mean squared displacement (m2), summed over directions, one run (lag,) or several
        (replica, lag).
    lag : numpy.ndarray
        Lags (s), increasing.
    particles : int
        Particles that each curve is averaged over.
    duration : float
        Length of each run (s), not the longest lag.
    inflation : float
        M/M_eff: 1 for independent particles, 2 to 4 in a dense melt.
    hop : float
        Length (m) of a hop, which adds to the error of what moves by hops; 0 for a simple liquid.
    draws : int
        Posterior draws.
    seed : int
        Their seed.
    label : str
        What moves, for the verdict.

    Returns
    -------
    xarray.Dataset
        ``self_diffusivity`` with ``_std`` and ``_draw``, ``start_lag`` (s), ``diffusive`` and
        ``verdict``; nan where refused.

    Raises
    ------
    ValueError
        Lists what is wrong with the numbers.
    """
    curves = np.atleast_2d(np.asarray(curves, float))
    lag = np.asarray(lag, float)
    faults = []
    if curves.shape[1] != len(lag) or len(lag) < 8:
        faults.append(f"{curves.shape[1]} values at {len(lag)} lags, but at least 8 are needed")
    elif not (np.isfinite(curves).all() and (curves > 0).all()):
        faults.append("the curve must be finite and positive; leave out a zero lag")
    if len(lag) > 1 and not (np.diff(lag, prepend=0.0) > 0).all():
        faults.append("the lags must be positive and increase")
    if particles < 1:
        faults.append(f"particles is {particles}, but must be at least 1")
    if not duration > lag[-1] * (1 - 1e-9):
        faults.append(
            f"duration is {duration:g} s, shorter than the longest lag of {lag[-1]:g} s; give the "
            "length of the run"
        )
    if inflation < 1:
        faults.append(f"inflation is {inflation}, but must be at least 1")
    if faults:
        raise ValueError("self_diffusivity_of_curves: " + "; ".join(faults) + ".")
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(lag <= LONGEST_LAG * duration)
    spaced = np.searchsorted(lag[inside], np.geomspace(lag[0], lag[inside[-1]], MOST_LAGS))
    chosen = inside[np.unique(np.minimum(spaced, len(inside) - 1))]
    lags, curves = lag[chosen], curves[:, chosen]
    mean = curves.mean(0)
    covariance = curve_covariance(mean, lags, particles=particles, duration=duration)
    # hops add their length squared over the displacement to the relative variance of 2/3
    hopping = 1.0 + 1.5 * hop**2 / mean
    covariance *= inflation / len(curves) * np.sqrt(np.multiply.outer(hopping, hopping))
    candidates = lags[lags <= LATEST_START * duration]
    if len(lags) - 3 < len(candidates):
        candidates = lags[: max(1, len(lags) - 3)]
    taken = _start(mean, lags, covariance, candidates)
    start = float(candidates[taken])
    kept = lags >= start
    weight = slope_weights(lags[kept])
    variance = float(weight @ covariance[np.ix_(kept, kept)] @ weight) * len(curves) / 36.0
    variance = max(variance, 0.0)
    value, error, spread = combine(curves[:, kept] @ weight / 6.0, np.full(draws, variance), rng)
    doubt = 0.0
    if taken < 0:
        before = lags >= candidates[_later(candidates, start / 2)]
        doubt = abs(float(slope_weights(lags[before]) @ mean[before]) / 6.0 - value)
    best, std, sample, bend = less_relaxation(
        value, error, spread, mean[kept], lags[kept], doubt=doubt, rng=rng
    )
    hops, refusal = _refusal(
        label=label,
        replicas=len(curves),
        atoms=particles,
        duration=duration,
        start=start,
        diffusivity=value,
        relative=std / best if best > 0 else np.inf,
        growth=6.0 * value * lags[-1],
        offset=float(np.mean((mean - 6.0 * value * lags)[kept])),
        bend=bend,
        pace=0.0,
    )
    if refusal:
        best, std, sample = np.nan, np.nan, np.full(draws, np.nan)
    return xr.Dataset(
        {
            "self_diffusivity": ((), best, {"units": "m2 s-1"}),
            "self_diffusivity_std": ((), std, {"units": "m2 s-1"}),
            "self_diffusivity_draw": ("draw", sample, {"units": "m2 s-1"}),
            "start_lag": ((), start, {"units": "s"}),
            "hops": ((), hops, {"units": "1"}),
            "diffusive": ((), not refusal),
            "verdict": ((), refusal or f"diffusive from {start / PICOSECOND:.2g} ps"),
        },
        attrs={"inflation": inflation, "finite_size_correction": "none"},
    )


def _start(
    curve: np.ndarray, lags: np.ndarray, covariance: np.ndarray, candidates: np.ndarray
) -> int:
    """Return the candidate that `self_diffusion.start_scan` would take, by the curve's error."""
    weights = np.zeros((len(candidates), len(lags)))
    for index, lag in enumerate(candidates):
        weights[index, lags >= lag] = slope_weights(lags[lags >= lag])
    slope = weights @ curve
    for index in range(len(candidates) - 3):
        difference = weights[index + 1 :] - weights[index]
        variance = np.einsum("li,ij,lj->l", difference, covariance, difference)
        spread = np.sqrt(np.maximum(variance, 0.0))  # of a curve that is no walk it may be less
        allowed = np.maximum(
            agreed(FEW_RUNS, candidates[index:]) * spread, TOLERANCE * abs(slope[index])
        )
        if (abs(slope[index + 1 :] - slope[index]) <= allowed).all():
            return _later(candidates, 2 * candidates[index])
    return -1
