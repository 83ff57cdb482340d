r"""The Green-Kubo route: a transport coefficient as the zero-frequency power of a current.

An independent check of the displacement route, and the way to the viscosity. The ordinates of a
periodogram are independent and each is a gamma variable about the spectrum, so the fit is a
likelihood: :math:`\ln S(f) = b_0 + b_1 f^2` over the lowest K ordinates. K is the widest band that
agrees with every narrower one, so nothing is integrated up to a time chosen by eye.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import constants

FEWEST_FREQUENCIES = 8  # the narrowest band that is fitted
BANDS = 40
AGREEMENT = 3.0  # standard errors by which a wider band may differ from a narrower one
CUT = 0.5  # of the widest band that agrees


def periodogram(series: np.ndarray, interval: float) -> tuple[np.ndarray, int]:
    r"""Return the power of a series at positive frequencies, (frequency,), and how many went in.

    .. math:: I_k = \frac{\Delta t}{2 N} \Big| \sum_n x_n e^{-2\pi i k n / N} \Big|^2

    averaged over replicas and components, so that its expectation at low frequency is
    :math:`\int_0^\infty \langle x(0) x(t) \rangle\,\mathrm{d}t`. The zero frequency is left out: it
    is the square of the mean.

    Parameters
    ----------
    series : numpy.ndarray
        Current in any unit, (replica, frame, component).
    interval : float
        Time between frames (s).
    """
    frames = series.shape[1]
    power = np.abs(np.fft.rfft(series, axis=1)[:, 1 : (frames - 1) // 2 + 1]) ** 2
    return power.mean((0, 2)) * interval / (2 * frames), series.shape[0] * series.shape[2]


def _gamma_fit(power: np.ndarray) -> tuple[float, float]:
    """Fit ln S = b0 + b1 f^2 to gamma-distributed power: b0, its variance for one series."""
    x = (np.arange(1, len(power) + 1) / len(power)) ** 2
    design = np.column_stack([np.ones_like(x), x])
    coefficient = np.array([np.log(power.mean()), 0.0])
    for _ in range(60):
        ratio = power * np.exp(-design @ coefficient)
        step = np.linalg.solve(design.T * ratio @ design, design.T @ (ratio - 1.0))
        coefficient = coefficient + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return float(coefficient[0]), float(np.linalg.inv(design.T @ design)[0, 0])


def zero_frequency(
    series: np.ndarray,
    interval: float,
    *,
    highest: float | None = None,
    shared: float = 1.0,
    draws: int = 400,
    rng: np.random.Generator | None = None,
) -> tuple[float, np.ndarray, float]:
    r"""Return :math:`\int_0^\infty \langle x(0) x(t) \rangle dt`, its draws and the band (Hz).

    Bands of 8 ordinates up to `highest` are fitted. The widest whose :math:`b_0` agrees with that
    of every narrower band, within three standard errors of the difference, is halved and taken
    (Lepski's rule). What the halving changes is noise, or else a bias, which then belongs to the
    error: draws hold it as often as it is the likelier of the two, both being as likely before.

    Parameters
    ----------
    series : numpy.ndarray
        Current in any unit u, (replica, frame, component).
    interval : float
        Time between frames (s).
    highest : float, optional
        Highest frequency (Hz) that a band may reach; half the sampling frequency if not given.
    shared : float
        Series that say the same as one; 1 where components are independent.
    draws : int
        Posterior draws.
    rng : numpy.random.Generator, optional
        Their source; seed 0 if none is given.

    Returns
    -------
    float, numpy.ndarray, float
        The integral (u2 s), its log-normal draws, and the upper edge of the band (Hz).

    Raises
    ------
    ValueError
        If the series is not finite, constant, or too short for a band of eight frequencies.

    References
    ----------
    Lepskii, Theory Probab. Appl. 35, 454 (1991), https://doi.org/10.1137/1135065
    """
    if series.ndim != 3 or not np.isfinite(series).all():
        raise ValueError(
            f"a series of shape {series.shape} was given; expected finite numbers as (replica, "
            "frame, component)."
        )
    rng = rng or np.random.default_rng(0)
    power, count = periodogram(series, interval)
    if not (power > 0).all():
        raise ValueError("the series has no power at some frequency: it is constant or padded.")
    frequency = np.arange(1, len(power) + 1) / (series.shape[1] * interval)
    reach = len(power)
    if highest is not None:
        reach = min(reach, int((frequency <= highest).sum()))
    if reach < FEWEST_FREQUENCIES:
        raise ValueError(
            f"only {reach} frequencies lie below the highest asked, but at least "
            f"{FEWEST_FREQUENCIES} are needed; run longer."
        )
    ends = np.unique(np.round(np.geomspace(FEWEST_FREQUENCIES, reach, BANDS)).astype(int))
    value, variance = np.array([_gamma_fit(power[:end]) for end in ends]).T
    variance = variance * shared / count
    widest = 0
    for index in range(1, len(ends)):
        spread = np.sqrt(np.maximum(variance[:index] - variance[index], 0.0))
        if (np.abs(value[index] - value[:index]) > AGREEMENT * spread).any():
            break
        widest = index
    taken = max(0, int(np.searchsorted(ends, CUT * ends[widest], side="right")) - 1)
    # nested fits differ by noise alone, or by a bias as large as the rule lets pass: which is it?
    change = value[widest] - value[taken]
    noise = max(variance[taken] - variance[widest], np.finfo(float).tiny)
    wide = 1.0 + AGREEMENT**2
    chance = 1.0 / (1.0 + np.sqrt(wide) * np.exp(-0.5 * change**2 / noise * (1.0 - 1.0 / wide)))
    biased = rng.random(draws) < chance
    width = np.sqrt(variance[taken] + biased * change**2)
    sample = np.exp(value[taken] + width * rng.standard_normal(draws))
    return float(np.exp(value[taken])), sample, float(frequency[ends[taken] - 1])


def green_kubo_conductivity(
    current: np.ndarray,
    interval: float,
    *,
    volume: float,
    temperature: float,
    highest: float | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Ionic conductivity (S m-1) from the charge current.

    .. math:: \sigma = \frac{1}{3 V k_B T} \int_0^\infty \langle J(0) \cdot J(t) \rangle\,dt,
              \qquad J = \sum_i q_i v_i

    Parameters
    ----------
    current : numpy.ndarray
        Charge current (A m), (replica, frame, 3).
    interval : float
        Time between frames (s).
    volume : float
        Volume of the cell (m3).
    temperature : float
        Temperature (K).
    highest : float, optional
        Highest frequency (Hz) of a band.
    draws : int
        Posterior draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``conductivity``, its ``_std`` and ``_draw``, and ``band`` (Hz), its upper edge.

    Raises
    ------
    ValueError
        If volume or temperature is not positive, or `zero_frequency` refuses.
    """
    scale = 1.0 / _thermal_volume(volume, temperature)
    return _told("conductivity", "S m-1", current, interval, scale, highest, draws, seed)


def green_kubo_viscosity(
    stress: np.ndarray,
    interval: float,
    *,
    volume: float,
    temperature: float,
    highest: float | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Shear viscosity (Pa s) of an isotropic liquid from its stress.

    .. math:: \eta = \frac{V}{k_B T} \int_0^\infty \langle P(0) P(t) \rangle\,dt

    averaged over five independent shear components: the three off-diagonal ones and, scaled to
    the same variance, :math:`(P_{xx} - P_{yy})/2` and
    :math:`(P_{xx} + P_{yy} - 2P_{zz})/\sqrt{12}`.

    Parameters
    ----------
    stress : numpy.ndarray
        Stress tensor (Pa), (replica, frame, 3, 3).
    interval, volume, temperature, highest, draws, seed
        As for `green_kubo_conductivity`.

    Returns
    -------
    xarray.Dataset
        ``viscosity``, its ``_std`` and ``_draw``, and ``band`` (Hz).

    Raises
    ------
    ValueError
        If volume or temperature is not positive, or `zero_frequency` refuses.

    References
    ----------
    Daivis, Evans, J. Chem. Phys. 100, 541 (1994), https://doi.org/10.1063/1.466970
    """
    sheared = (stress + np.swapaxes(stress, -1, -2)) / 2
    components = np.stack(
        [
            sheared[..., 0, 1],
            sheared[..., 0, 2],
            sheared[..., 1, 2],
            (sheared[..., 0, 0] - sheared[..., 1, 1]) / 2,
            (sheared[..., 0, 0] + sheared[..., 1, 1] - 2 * sheared[..., 2, 2]) / np.sqrt(12),
        ],
        axis=-1,
    )
    scale = volume**2 / _thermal_volume(volume, temperature)
    return _told("viscosity", "Pa s", components, interval, scale, highest, draws, seed)


def _thermal_volume(volume: float, temperature: float) -> float:
    """Return V kT (m3 J) after a look at what was given."""
    faults = [
        f"{name} is {value}, but must be positive"
        for name, value in (("volume", volume), ("temperature", temperature))
        if not value > 0
    ]
    if faults:
        raise ValueError("green_kubo: " + "; ".join(faults) + ".")
    return volume * constants.k * temperature


def _told(
    name: str,
    units: str,
    series: np.ndarray,
    interval: float,
    scale: float,
    highest: float | None,
    draws: int,
    seed: int,
) -> xr.Dataset:
    """Estimate, scale, and put in a Dataset."""
    value, sample, band = zero_frequency(
        series, interval, highest=highest, draws=draws, rng=np.random.default_rng(seed)
    )
    return xr.Dataset(
        {
            name: ((), value * scale, {"units": units}),
            f"{name}_std": ((), float(sample.std()) * scale, {"units": units}),
            f"{name}_draw": ("draw", sample * scale, {"units": units}),
            "band": ((), band, {"units": "Hz"}),
        }
    )
