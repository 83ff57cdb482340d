r"""Temperature dependence of liquids and polymers: Vogel, Fulcher and Tammann beside Arrhenius."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import constants
from scipy.special import logsumexp

from atomistic.observables.arrhenius import (
    QUANTITIES,
    line_marginals,
    sampled_line,
    sentence,
    series,
    tell,
)

FEWEST_TEMPERATURES = 3
GRID = 120  # vanishing temperatures tried
HIGHEST = 0.95  # of the lowest temperature measured


def vogel(
    transport: xr.Dataset,
    *,
    temperature: float = 300.0,
    quantity: str = "conductivity",
    species: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Fit a Vogel-Fulcher-Tammann law to a TRANSPORT and evaluate it at `temperature` (K).

    .. math:: \sigma T = A e^{-B / (T - T_0)} \quad\text{or}\quad D = A e^{-B / (T - T_0)}

    The prior of the vanishing temperature T0 is uniform from 0 K to 0.95 of the lowest temperature
    measured. T0 = 0 is Arrhenius; both laws are given the same flat prior of the value and of the
    apparent activation energy at the middle of the window, so the ratio of their evidences is
    defined and says which one the data prefer, Occam's factor included. Members of a committee and
    scatter about the law are treated as in `arrhenius.arrhenius`.

    Parameters
    ----------
    transport : xarray.Dataset
        A TRANSPORT with draws.
    temperature : float
        Temperature (K) at which to evaluate.
    quantity : str
        ``"conductivity"``, ``"nernst_einstein_conductivity"`` or ``"self_diffusivity"``.
    species : str, optional
        Species of the self-diffusivity.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``vanishing_temperature`` (K), ``apparent_activation_energy`` (J mol-1) at the middle of
        the window and the quantity at `temperature`, each as `arrhenius` gives it; values below T0
        are 0. ``log_evidence_ratio`` (1), ln of Vogel over Arrhenius, the mean over members
        (above 3 is strong for Vogel; since Vogel holds Arrhenius, the ratio falls little below 0
        where Arrhenius is right);
        ``extrapolated``; attribute ``verdict``.

    Raises
    ------
    ValueError
        If `quantity` or `species` is unknown or `temperature` is not positive.

    References
    ----------
    Kass, Raftery, J. Am. Stat. Assoc. 90, 773 (1995),
    https://doi.org/10.1080/01621459.1995.10476572
    """
    data = series(
        transport, temperature=temperature, quantity=quantity, species=species, law="vogel"
    )
    rng = np.random.default_rng(seed)
    vanishing, energy, log_here = np.full((3, len(data.member)), np.nan)
    evidence = []
    heat = data.temperature
    window = np.unique(heat)
    enough = len(window) >= FEWEST_TEMPERATURES
    if enough:
        trial = np.linspace(0.0, HIGHEST * window[0], GRID)
        middle = 1.0 / (1.0 / heat).mean()
        for name in dict.fromkeys(data.member.tolist()):
            own = data.member == name
            log = data.log[:, own]
            fits = [
                line_marginals(_abscissa(heat, middle, zero), log.mean(1), log.std(1))
                for zero in trial
            ]
            marginal = np.array([fit[0] for fit in fits])  # trial, scatter
            ratio = logsumexp(marginal) - np.log(GRID) - logsumexp(marginal[0])
            evidence.append(float(ratio))
            chance = np.exp(marginal - marginal.max()).ravel()
            pick = rng.choice(chance.size, int(own.sum()), p=chance / chance.sum())
            row, column = np.divmod(pick, marginal.shape[1])
            centre = np.array([fits[i][1][j] for i, j in zip(row, column, strict=True)])
            covariance = np.array([fits[i][2][j] for i, j in zip(row, column, strict=True)])
            line = sampled_line(centre, covariance, rng)
            scatter = fits[0][3][column]
            vanishing[own] = trial[row]
            energy[own] = line[:, 1] * constants.R * middle
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                here = _abscissa(temperature, middle, trial[row])
                predicted = line[:, 0] - line[:, 1] * here
            predicted = np.where(trial[row] < temperature, predicted, -np.inf)
            log_here[own] = predicted + scatter * rng.standard_normal(own.sum())
    out = xr.Dataset(coords={"member": ("draw", data.member)})
    tell(out, "vanishing_temperature", vanishing, "K")
    tell(out, "apparent_activation_energy", energy, "J mol-1")
    tell(out, quantity, np.exp(log_here) / temperature**data.power, QUANTITIES[quantity][0])
    out["log_evidence_ratio"] = ((), np.mean(evidence) if evidence else np.nan, {"units": "1"})
    out["temperature"] = ((), float(temperature), {"units": "K"})
    outside = enough and not window[0] <= temperature <= window[-1]
    out["extrapolated"] = ((), bool(outside))
    out.attrs = {
        "quantity": quantity,
        "law": ("sigma T" if data.power else "D") + " = A exp(-B / (T - T0))",
        "temperatures_used": len(window),
        "verdict": sentence(data, temperature, FEWEST_TEMPERATURES),
    }
    return out


def _abscissa(
    temperature: np.ndarray | float, middle: float, zero: np.ndarray | float
) -> np.ndarray:
    """Return 1/(T - T0), shifted and scaled to the slope of middle/T at T = middle."""
    scale = (middle - zero) ** 2 / middle
    return np.asarray(scale * (1.0 / (temperature - zero) - 1.0 / (middle - zero)))
