r"""Temperature dependence: an Arrhenius line, its posterior and the value it gives elsewhere."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import constants

from atomistic.units import ELECTRONVOLT

SCATTER = 0.05  # scale of the half-normal prior of the scatter about the line, in ln(y)
FEWEST_TEMPERATURES = 2
QUANTITIES = {
    "conductivity": ("S m-1", "S K m-1"),
    "nernst_einstein_conductivity": ("S m-1", "S K m-1"),
    "self_diffusivity": ("m2 s-1", "m2 s-1"),
}


def line_posterior(
    x: np.ndarray, y: np.ndarray, error: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return draws of a line's coefficients (draw, 2) and of the scatter about it (draw,).

    .. math:: y_i \sim N(a - b x_i,\; s_i^2 + \tau^2), \qquad \tau \sim N^+(0, 0.05^2)

    with a flat prior on a and b; tau is integrated on a grid, a and b are normal given tau.

    Parameters
    ----------
    x, y, error : numpy.ndarray
        Abscissa, ordinate and standard error of each point (any unit).
    draws : int
        Number of draws.
    rng : numpy.random.Generator
        Their source.
    """
    design = np.column_stack([np.ones_like(x), -x])
    scatter = np.linspace(0.0, 5 * SCATTER, 101)
    weight = 1.0 / (error**2 + scatter[:, None] ** 2)  # scatter, point
    precision = np.einsum("tp,pi,pj->tij", weight, design, design)
    covariance = np.linalg.inv(precision)
    centre = np.einsum("tij,tp,pj,p->ti", covariance, weight, design, y)
    misfit = (weight * (y - centre @ design.T) ** 2).sum(1)
    log = 0.5 * (np.log(weight).sum(1) - np.linalg.slogdet(precision)[1] - misfit)
    log -= 0.5 * (scatter / SCATTER) ** 2
    chance = np.exp(log - log.max())
    pick = rng.choice(len(scatter), draws, p=chance / chance.sum())
    factor = np.linalg.cholesky(covariance[pick])
    noise = rng.standard_normal((draws, 2))
    return centre[pick] + np.einsum("dij,dj->di", factor, noise), scatter[pick]


def arrhenius(
    transport: xr.Dataset,
    *,
    temperature: float = 300.0,
    quantity: str = "conductivity",
    species: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Fit an Arrhenius law to a TRANSPORT and evaluate it at `temperature` (K).

    .. math:: \sigma T = A e^{-E_a / k_B T} \quad\text{or}\quad D = A e^{-E_a / k_B T}

    Only conditions that are diffusive enter, each with the error of its own posterior; a scatter
    about the line is fitted beside them, and the value at `temperature` carries it too. Each
    member of a committee has its own line; draws are their equal-weight mixture, labelled by
    ``member(draw)``.

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
        ``activation_energy`` (J mol-1), ``activation_energy_electronvolt`` (eV), ``prefactor``
        and the quantity at `temperature` (median), each with ``_std``, ``_draw`` and, as
        ``_lower_68``, ``_upper_68``, ``_lower_95``, ``_upper_95``, its intervals; ``scatter``
        (1); ``extrapolated``. The attribute ``verdict`` says how far outside the window the value
        lies, or why there is none (then all values are nan).

    Raises
    ------
    ValueError
        If `quantity` or `species` is unknown or `temperature` is not positive.
    """
    faults = []
    if quantity not in QUANTITIES:
        faults.append(f"quantity is {quantity!r}, expected one of {', '.join(QUANTITIES)}")
    elif f"{quantity}_draw" not in transport:
        faults.append(f"the TRANSPORT holds no {quantity}_draw")
    if not (np.isfinite(temperature) and temperature > 0):
        faults.append(f"temperature is {temperature} K, but must be positive")
    if quantity == "self_diffusivity":
        known = [str(name) for name in transport["species"].values]
        if species not in known:
            faults.append(f"species is {species!r}, expected one of {', '.join(known)}")
    elif species is not None:
        faults.append(f"species is given, but {quantity} belongs to the whole system")
    if faults:
        raise ValueError("arrhenius: " + "; ".join(faults) + ".")

    sample = transport[f"{quantity}_draw"]
    if species is not None:
        sample = sample.sel(species=species)
    values = sample.transpose("condition", "draw").values
    heat = transport["temperature"].values
    thermal = heat if "conductivity" in quantity else np.ones_like(heat)
    thermal_here = temperature if "conductivity" in quantity else 1.0
    usable = np.isfinite(values).all(1)
    usable &= (np.where(np.isfinite(values), values, -1.0) > 0).all(1)
    count = values.shape[1]
    member = (
        transport["member"].values.astype(str) if "member" in transport else np.full(count, "all")
    )
    rng = np.random.default_rng(seed)
    energy, log_prefactor = np.full(count, np.nan), np.full(count, np.nan)
    log_here, scatter = np.full(count, np.nan), np.full(count, np.nan)
    window = np.sort(np.unique(heat[usable]))
    enough = len(window) >= FEWEST_TEMPERATURES
    if enough:
        beta = 1.0 / (constants.k * heat[usable])  # 1/J
        middle = beta.mean()
        here = 1.0 / (constants.k * temperature)
        for name in dict.fromkeys(member.tolist()):
            own = member == name
            log = np.log(values[usable][:, own] * thermal[usable, None])
            error = log.std(1, ddof=1)
            # x in units of its own mean keeps the normal equations well scaled
            line, spread = line_posterior(
                beta / middle - 1.0, log.mean(1), error, int(own.sum()), rng
            )
            energy[own] = line[:, 1] / middle
            log_prefactor[own] = line[:, 0] + line[:, 1]
            log_here[own] = line[:, 0] - line[:, 1] * (here / middle - 1.0)
            log_here[own] += spread * rng.standard_normal(own.sum())
            scatter[own] = spread

    units, prefactor_units = QUANTITIES[quantity]
    out = xr.Dataset(coords={"member": ("draw", member)})
    for name, draws, unit in (
        ("activation_energy", energy * constants.Avogadro, "J mol-1"),
        ("activation_energy_electronvolt", energy / ELECTRONVOLT, "eV"),
        ("prefactor", np.exp(log_prefactor), prefactor_units),
        (quantity, np.exp(log_here) / thermal_here, units),
    ):
        out[name] = ((), np.median(draws), {"units": unit})
        out[f"{name}_std"] = ((), draws.std(), {"units": unit})
        out[f"{name}_draw"] = ("draw", draws, {"units": unit})
        for level, tail in ((68, 15.865), (95, 2.5)):
            low, high = np.percentile(draws, [tail, 100 - tail])
            out[f"{name}_lower_{level}"] = ((), low, {"units": unit})
            out[f"{name}_upper_{level}"] = ((), high, {"units": unit})
    out["scatter"] = ((), np.median(scatter), {"units": "1"})
    out["temperature"] = ((), float(temperature), {"units": "K"})
    beyond = 0.0 if not enough else max(window[0] - temperature, temperature - window[-1], 0.0)
    out["extrapolated"] = ((), bool(beyond > 0))
    out.attrs = {
        "quantity": quantity,
        "law": "sigma T = A exp(-Ea / kT)" if "conductivity" in quantity else "D = A exp(-Ea / kT)",
        "temperatures_used": len(window),
        "verdict": _sentence(heat, window, temperature, beyond),
    }
    if enough:
        out.attrs |= {"window_low": float(window[0]), "window_high": float(window[-1])}
    return out


def _sentence(heat: np.ndarray, window: np.ndarray, temperature: float, beyond: float) -> str:
    """Say from what the value at `temperature` was made, or why it was refused."""
    if len(window) < FEWEST_TEMPERATURES:
        return (
            f"refused: {len(window)} of {len(heat)} temperatures are diffusive, but a line needs "
            f"at least {FEWEST_TEMPERATURES}; run longer, or add higher temperatures"
        )
    said = f"{len(window)} of {len(heat)} temperatures, {window[0]:g} to {window[-1]:g} K"
    if len(window) == 2:
        said += " (two leave the law itself untested)"
    if beyond <= 0:
        return f"interpolated to {temperature:g} K from {said}"
    edge = window[0] if temperature < window[0] else window[-1]
    span = abs(1 / temperature - 1 / edge) / (1 / window[0] - 1 / window[-1])
    side = "below" if temperature < edge else "above"
    return (
        f"extrapolated to {temperature:g} K, {beyond:g} K {side} the window ({said}), "
        f"{span:.1f} times its width in 1/T; a transition in between would void it"
    )
