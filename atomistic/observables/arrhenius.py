r"""Temperature dependence: an Arrhenius line, its posterior and the value it gives elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

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
    log, centre, covariance, scatter = line_marginals(x, y, error)
    chance = np.exp(log - log.max())
    pick = rng.choice(len(scatter), draws, p=chance / chance.sum())
    return sampled_line(centre[pick], covariance[pick], rng), scatter[pick]


def line_marginals(
    x: np.ndarray, y: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, over a grid of scatter: log marginal, line, its covariance, and the grid itself."""
    design = np.column_stack([np.ones_like(x), -x])
    scatter = np.linspace(0.0, 5 * SCATTER, 101)
    weight = 1.0 / (error**2 + scatter[:, None] ** 2)  # scatter, point
    precision = np.einsum("tp,pi,pj->tij", weight, design, design)
    covariance = np.linalg.inv(precision)
    centre = np.einsum("tij,tp,pj,p->ti", covariance, weight, design, y)
    misfit = (weight * (y - centre @ design.T) ** 2).sum(1)
    log = 0.5 * (np.log(weight).sum(1) - np.linalg.slogdet(precision)[1] - misfit)
    return log - 0.5 * (scatter / SCATTER) ** 2, centre, covariance, scatter


def sampled_line(
    centre: np.ndarray, covariance: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return one normal draw of a line's coefficients for each centre and covariance."""
    noise = rng.standard_normal(centre.shape)
    return centre + np.einsum("dij,dj->di", np.linalg.cholesky(covariance), noise)


@dataclass(frozen=True)
class Series:
    """A quantity against temperature, draw by draw.

    Parameters
    ----------
    temperature : numpy.ndarray
        Temperatures that can be used (K).
    log : numpy.ndarray
        Logarithm of what the law is linear in (sigma T or D), (temperature, draw).
    member : numpy.ndarray
        Member of the committee that each draw belongs to.
    asked : int
        Temperatures there were, usable or not.
    power : int
        1 if the law is that of the quantity times temperature, else 0.
    """

    temperature: np.ndarray
    log: np.ndarray
    member: np.ndarray
    asked: int
    power: int


def series(
    transport: xr.Dataset, *, temperature: float, quantity: str, species: str | None, law: str
) -> Series:
    """Read a TRANSPORT for a law, leaving out temperatures that were refused.

    Raises
    ------
    ValueError
        If `quantity` or `species` is unknown or `temperature` (K) is not positive.
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
        raise ValueError(f"{law}: " + "; ".join(faults) + ".")
    sample = transport[f"{quantity}_draw"]
    if species is not None:
        sample = sample.sel(species=species)
    values = sample.transpose("condition", "draw").values
    heat = transport["temperature"].values
    power = int("conductivity" in quantity)
    usable = (np.where(np.isfinite(values), values, -1.0) > 0).all(1)
    draws = values.shape[1]
    if "member" in transport.coords:
        member = transport["member"].values.astype(str)
    else:
        member = np.full(draws, "all")
    return Series(
        temperature=heat[usable],
        log=np.log(values[usable] * heat[usable, None] ** power),
        member=member,
        asked=len(heat),
        power=power,
    )


def tell(out: xr.Dataset, name: str, draws: np.ndarray, units: str) -> None:
    """Put the median, ``_std``, ``_draw`` and the 68 and 95 % intervals of a quantity in `out`."""
    out[name] = ((), np.median(draws), {"units": units})
    out[f"{name}_std"] = ((), draws.std(), {"units": units})
    out[f"{name}_draw"] = ("draw", draws, {"units": units})
    for level, tail in ((68, 15.865), (95, 2.5)):
        low, high = np.percentile(draws, [tail, 100 - tail])
        out[f"{name}_lower_{level}"] = ((), low, {"units": units})
        out[f"{name}_upper_{level}"] = ((), high, {"units": units})


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
    data = series(
        transport, temperature=temperature, quantity=quantity, species=species, law="arrhenius"
    )
    rng = np.random.default_rng(seed)
    energy, log_prefactor, log_here, scatter = np.full((4, len(data.member)), np.nan)
    window = np.unique(data.temperature)
    enough = len(window) >= FEWEST_TEMPERATURES
    if enough:
        beta = 1.0 / (constants.k * data.temperature)  # 1/J
        middle = beta.mean()
        here = 1.0 / (constants.k * temperature)
        for name in dict.fromkeys(data.member.tolist()):
            own = data.member == name
            log = data.log[:, own]
            # x in units of its own mean keeps the normal equations well scaled
            line, spread = line_posterior(
                beta / middle - 1.0, log.mean(1), log.std(1), int(own.sum()), rng
            )
            energy[own] = line[:, 1] / middle
            log_prefactor[own] = line[:, 0] + line[:, 1]
            log_here[own] = line[:, 0] - line[:, 1] * (here / middle - 1.0)
            log_here[own] += spread * rng.standard_normal(own.sum())
            scatter[own] = spread

    units, prefactor_units = QUANTITIES[quantity]
    out = xr.Dataset(coords={"member": ("draw", data.member)})
    tell(out, "activation_energy", energy * constants.Avogadro, "J mol-1")
    tell(out, "activation_energy_electronvolt", energy / ELECTRONVOLT, "eV")
    tell(out, "prefactor", np.exp(log_prefactor), prefactor_units)
    tell(out, quantity, np.exp(log_here) / temperature**data.power, units)
    out["scatter"] = ((), np.median(scatter), {"units": "1"})
    out["temperature"] = ((), float(temperature), {"units": "K"})
    outside = enough and not window[0] <= temperature <= window[-1]
    out["extrapolated"] = ((), bool(outside))
    out.attrs = {
        "quantity": quantity,
        "law": "sigma T = A exp(-Ea / kT)" if data.power else "D = A exp(-Ea / kT)",
        "temperatures_used": len(window),
        "verdict": sentence(data, temperature, FEWEST_TEMPERATURES),
    }
    if enough:
        out.attrs |= {"window_low": float(window[0]), "window_high": float(window[-1])}
    return out


def sentence(data: Series, temperature: float, fewest: int) -> str:
    """Say from what the value at `temperature` (K) was made, or why it was refused."""
    window = np.unique(data.temperature)
    if len(window) < fewest:
        return (
            f"refused: {len(window)} of {data.asked} temperatures are diffusive, but the law needs "
            f"at least {fewest}; run longer, or add higher temperatures"
        )
    said = f"{len(window)} of {data.asked} temperatures, {window[0]:g} to {window[-1]:g} K"
    if len(window) == fewest:
        said += " (so few leave the law itself untested)"
    if window[0] <= temperature <= window[-1]:
        return f"interpolated to {temperature:g} K from {said}"
    edge = window[0] if temperature < window[0] else window[-1]
    span = abs(1 / temperature - 1 / edge) / (1 / window[0] - 1 / window[-1])
    side = "below" if temperature < edge else "above"
    return (
        f"extrapolated to {temperature:g} K, {abs(edge - temperature):g} K {side} the window "
        f"({said}), {span:.1f} times its width in 1/T; a transition in between would void it"
    )
