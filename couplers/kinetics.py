"""From barriers against potential to rates of charge transfer: Butler-Volmer, Marcus and beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.constants import Boltzmann, Planck, gas_constant

from atomistic.schema import ENERGETICS
from continuum.inputs import FARADAY, ButlerVolmer
from couplers.contract import check

DRAWS = 400  # samples of the fit's posterior
BENT = 3.0  # chi-squared of a point beyond which barriers are said not to lie on a line


def transfer_kinetics(
    energetics: xr.Dataset,
    *,
    equilibrium_potential: float,
    site_density: float,
    electrons: float = 1.0,
    seed: int = 0,
) -> xr.Dataset:
    r"""Transfer coefficient and exchange current of barriers computed at several potentials.

    .. math::
        \Delta G^\ddagger_\mathrm{red} = \Delta G^\ddagger_0 + \alpha n F (E - E_\mathrm{eq}),
        \qquad
        \Delta G^\ddagger_\mathrm{ox} = \Delta G^\ddagger_0 - (1 - \alpha) n F (E - E_\mathrm{eq}),
        \qquad
        i_0 = n F \Gamma \frac{k_B T}{h} e^{-\Delta G^\ddagger_0 / RT}

    The two barriers differ by :math:`n F (E - E_\mathrm{eq})`: detailed balance. The prefactor is
    Eyring's, with a transmission coefficient of 1. :math:`\Delta G^\ddagger_0` and :math:`\alpha`
    are fitted by weighted least squares, with the barriers' errors as weights; where those are not
    known the scatter about the line stands for them.

    Parameters
    ----------
    energetics : xarray.Dataset
        An ENERGETICS with `barrier` (J mol-1; potential) of the reaction that its attribute
        `direction` names; it is checked first.
    equilibrium_potential : float
        :math:`E_\mathrm{eq}` (V) on the scale of its potentials, at the reference concentrations.
    site_density : float
        :math:`\Gamma` (mol m-2): sites at which the reaction can happen, times their occupation at
        the reference concentrations.
    electrons : float
        :math:`n` (1), transferred in the step.
    seed : int
        Of the draws.

    Returns
    -------
    xarray.Dataset
        `barrier` (J mol-1) at equilibrium, `transfer_coefficient` (1, cathodic) and
        `exchange_current_density` (A m-2), each with `_std` and `_draw`, the last as a median;
        the attribute `outcome` says whether the barriers lie on a line.

    Raises
    ------
    ContractError
        Lists every breach of ENERGETICS.
    ValueError
        Lists every fault: no barriers or no direction, fewer than two potentials, three if errors
        are not known, a transfer coefficient outside 0 to 1, numbers that are not positive.

    References
    ----------
    Eyring 1935, https://doi.org/10.1063/1.1749604.
    """
    checked = check(energetics, ENERGETICS)
    direction = checked.attrs["direction"]
    faults = []
    if direction == "none":
        faults.append("direction is 'none'; say whether the barriers are of reduction or oxidation")
    for label, number in (("site_density", site_density), ("electrons", electrons)):
        if not (np.isfinite(number) and number > 0):
            faults.append(f"{label} is {number}, but must be positive and finite")
    if not np.isfinite(equilibrium_potential):
        faults.append(f"equilibrium_potential is {equilibrium_potential}, but must be finite")
    if "barrier" not in checked:
        faults.append("there is no barrier (J mol-1; potential)")
    else:
        known = bool(np.all(np.isfinite(checked["barrier_std"])))
        count = len(np.unique(checked["potential"]))
        if count < (2 if known else 3):
            faults.append(
                f"there are barriers at {count} potentials; a line with an error needs "
                f"{'two' if known else 'three, as their errors are not known'}"
            )
    if faults:
        raise ValueError("Kinetics: " + "; ".join(faults) + ".")

    drive = electrons * FARADAY * (checked["potential"].values - equilibrium_potential)
    design = np.column_stack([np.ones_like(drive), drive])
    height = checked["barrier"].values + (drive if direction == "oxidation" else 0.0)
    error = checked["barrier_std"].values if known else np.ones_like(drive)
    best, covariance, chi_squared = _least_squares(design, height, error)
    freedom = len(drive) - 2
    if not known:
        covariance = covariance * chi_squared / freedom
    alpha = float(best[1])
    if not 0 <= alpha <= 1:
        raise ValueError(
            f"Kinetics: the transfer coefficient is {alpha:.3g}, but must lie from 0 to 1; check "
            "the direction of the barriers and the sign of the potential."
        )
    temperature = float(checked["temperature"])
    draws = np.random.default_rng(seed).multivariate_normal(best, covariance, DRAWS)
    rates = _exchange(draws[:, 0], temperature, site_density, electrons)
    straight = not known or freedom == 0 or chi_squared <= BENT * freedom
    deviation = np.sqrt(np.diag(covariance))
    result = xr.Dataset(attrs={"direction": direction, "reference": checked.attrs["reference"]})
    for name, units, value, std, sample in (
        ("barrier", "J mol-1", best[0], deviation[0], draws[:, 0]),
        ("transfer_coefficient", "1", alpha, deviation[1], draws[:, 1]),
        (
            "exchange_current_density",
            "A m-2",
            _exchange(best[0], temperature, site_density, electrons),
            rates.std(),
            rates,
        ),
    ):
        result[name] = ((), float(value), {"units": units})
        result[f"{name}_std"] = ((), float(std) if std > 0 else np.nan, {"units": units})
        result[f"{name}_draw"] = ("draw", sample, {"units": units})
    result["temperature"] = ((), temperature, {"units": "K"})
    result["equilibrium_potential"] = ((), equilibrium_potential, {"units": "V"})
    result["electrons"] = ((), electrons, {"units": "1"})
    result.attrs["outcome"] = (
        "the barriers lie on a line within their errors"
        if straight
        else f"the barriers bend (chi-squared {chi_squared / freedom:.2g} a degree of freedom): "
        "use a reorganisation energy"
    )
    return result


def butler_volmer(
    kinetics: xr.Dataset, *, species: str, concentration: float, draw: int | None = None
) -> ButlerVolmer:
    r"""Make the boundary of a Nernst-Planck solver of fitted kinetics.

    .. math::
        k_a = \frac{i_0}{nF} e^{-(1 - \alpha) n F E_\mathrm{eq} / RT}, \qquad
        k_c = \frac{i_0}{nF\,c} e^{\alpha n F E_\mathrm{eq} / RT}

    so that no current flows at :math:`E_\mathrm{eq}` and the reference concentration
    :math:`c`, whatever :math:`\alpha` is.

    Parameters
    ----------
    kinetics : xarray.Dataset
        Result of `transfer_kinetics`, whose potentials are against the solution at the plane of
        reaction.
    species : str
        Name of the ion that is reduced.
    concentration : float
        Its concentration (mol m-3) to which the equilibrium potential belongs.
    draw : int, optional
        Posterior draw to take; the estimates if not given.

    Returns
    -------
    ButlerVolmer

    Raises
    ------
    ValueError
        If the concentration is not positive, or the draw has a transfer coefficient outside 0
        to 1.
    """
    if not (np.isfinite(concentration) and concentration > 0):
        raise ValueError(f"Kinetics: concentration is {concentration}, but must be positive.")
    current, alpha = (
        _value(kinetics, name, draw)
        for name in ("exchange_current_density", "transfer_coefficient")
    )
    electrons, level = float(kinetics["electrons"]), float(kinetics["equilibrium_potential"])
    slope = electrons * FARADAY / (gas_constant * float(kinetics["temperature"]))
    rate = current / (electrons * FARADAY)
    return ButlerVolmer(
        species=species,
        anodic_rate=float(rate * np.exp(-(1 - alpha) * slope * level)),
        cathodic_rate=float(rate / concentration * np.exp(alpha * slope * level)),
        transfer_coefficient=alpha,
        electrons=electrons,
    )


def exchange_current(
    kinetics: xr.Dataset,
    *,
    concentration: float,
    stoichiometry: float = 0.5,
    draw: int | None = None,
) -> Callable[[Any, Any, Any, Any], Any]:
    r"""Make PyBaMM's exchange-current density of fitted kinetics of intercalation.

    .. math::
        j_0 = i_0 \left[\frac{c_e}{c}\,\frac{1 - x}{1 - x_0}\right]^{1 - \alpha}
              \left[\frac{x}{x_0}\right]^{\alpha}
              \frac{T}{T_0} \exp\left[-\frac{\Delta G^\ddagger_0}{R}
              \left(\frac1T - \frac1{T_0}\right)\right], \qquad x = c_s / c_\max

    follows from rates of Li+ + e- + vacancy to Li, with the activity of each, at their balance; the
    barrier is held over temperature. PyBaMM's symmetric Butler-Volmer wants :math:`\alpha` near a
    half; its asymmetric one reads it from ``"... electrode Butler-Volmer transfer coefficient"``.

    Parameters
    ----------
    kinetics : xarray.Dataset
        Result of `transfer_kinetics` for one electron.
    concentration : float
        Concentration (mol m-3) :math:`c` of the electrolyte to which :math:`i_0` belongs.
    stoichiometry : float
        Stoichiometry (1) :math:`x_0` to which it belongs.
    draw : int, optional
        Posterior draw to take; the estimates if not given.

    Returns
    -------
    callable
        :math:`j_0` (A m-2) of (c_e, c_s, c_max, T), on numbers or PyBaMM's symbols, for
        ``overrides`` under ``"Negative electrode exchange-current density [A.m-2]"`` or the
        positive one.

    Raises
    ------
    ValueError
        If the reference state is outside its range, or the step transfers not one electron.
    """
    faults = []
    if not (np.isfinite(concentration) and concentration > 0):
        faults.append(f"concentration is {concentration}, but must be positive")
    if not 0 < stoichiometry < 1:
        faults.append(f"stoichiometry is {stoichiometry}, expected one between 0 and 1")
    if float(kinetics["electrons"]) != 1:
        faults.append(f"intercalation takes 1 electron, not {float(kinetics['electrons']):g}")
    if faults:
        raise ValueError("Kinetics: " + "; ".join(faults) + ".")
    current, alpha, barrier = (
        _value(kinetics, name, draw)
        for name in ("exchange_current_density", "transfer_coefficient", "barrier")
    )
    rest = float(kinetics["temperature"])

    def density(c_e: Any, c_s_surf: Any, c_s_max: Any, T: Any) -> Any:
        x = c_s_surf / c_s_max
        empty = c_e / concentration * (1 - x) / (1 - stoichiometry)
        full = x / stoichiometry
        # numpy's exponential of a PyBaMM symbol is PyBaMM's
        thermal = T / rest * np.exp(-barrier / gas_constant * (1 / T - 1 / rest))
        return current * thermal * empty ** (1 - alpha) * full**alpha

    return density


def marcus_barrier(
    overpotential: ArrayLike,
    *,
    reorganisation_energy: float,
    asymmetry: float = 0.0,
    electrons: float = 1.0,
) -> np.ndarray:
    r"""Barrier of reduction (J mol-1) of two parabolas, of one curvature or of two.

    .. math::
        \Delta G^\ddagger = \frac{\lambda}{4}\left(1 + \frac{nF\eta}{\lambda}\right)^2
        + \gamma \frac{nF\eta}{4}\left[1 - \left(\frac{nF\eta}{\lambda}\right)^2\right]
        + \gamma^2 \frac{\lambda}{16}

    The barrier of oxidation is this less :math:`n F \eta`. At small overpotential it is a
    Butler-Volmer line with :math:`\alpha = \tfrac12 + \tfrac\gamma4`.

    Parameters
    ----------
    overpotential : array_like
        :math:`\eta` (V), positive where oxidation is driven.
    reorganisation_energy : float
        :math:`\lambda` (J mol-1).
    asymmetry : float
        :math:`\gamma` (1) of the inner-sphere force constants, 0 for the symmetric theory.
    electrons : float
        :math:`n` (1).

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    ValueError
        If the reorganisation energy is not positive.

    References
    ----------
    Marcus 1956, https://doi.org/10.1063/1.1742723. Laborda, Henstridge, Batchelor-McAuley, Compton
    2013, https://doi.org/10.1039/c3cs35487c.

    Examples
    --------
    >>> float(marcus_barrier(0.0, reorganisation_energy=80e3))
    20000.0
    """
    _positive(reorganisation_energy)
    y = electrons * FARADAY * np.asarray(overpotential, dtype=float) / reorganisation_energy
    whole = (1 + y) ** 2 / 4 + asymmetry * y / 4 * (1 - y**2) + asymmetry**2 / 16
    return reorganisation_energy * whole


def reorganisation_energy(
    energetics: xr.Dataset, *, equilibrium_potential: float, electrons: float = 1.0
) -> xr.Dataset:
    r"""Fit the reorganisation energy to barriers that bend with the potential, as Marcus says.

    Parameters
    ----------
    energetics : xarray.Dataset
        An ENERGETICS with `barrier` and a direction; it is checked first.
    equilibrium_potential : float
        Potential (V) at which reduction and oxidation balance.
    electrons : float
        Electrons (1) transferred in the step.

    Returns
    -------
    xarray.Dataset
        `reorganisation_energy` (J mol-1) with `_std`, and `residual` (J mol-1; potential).

    Raises
    ------
    ContractError
        Lists every breach of ENERGETICS.
    ValueError
        If there are no barriers or no direction.
    """
    checked = check(energetics, ENERGETICS)
    direction = checked.attrs["direction"]
    if "barrier" not in checked or direction == "none":
        raise ValueError(
            "Kinetics: a reorganisation energy needs barriers (J mol-1; potential) and their "
            "direction, reduction or oxidation."
        )
    drive = electrons * FARADAY * (checked["potential"].values - equilibrium_potential)
    height = checked["barrier"].values + (drive if direction == "oxidation" else 0.0)
    error = checked["barrier_std"].values
    known = bool(np.all(np.isfinite(error)))
    error = error if known else np.ones_like(drive)
    value = 4 * max(float(np.interp(0.0, np.sort(drive), height[np.argsort(drive)])), 1.0)
    for _ in range(50):
        slope = (1 - (drive / value) ** 2) / 4
        off = (height - value / 4 * (1 + drive / value) ** 2) / error
        step = float(off @ (slope / error) / np.sum((slope / error) ** 2))
        value = max(value + step, 0.2 * value)
        if abs(step) < 1e-12 * value:
            break
    residual = height - value / 4 * (1 + drive / value) ** 2
    variance = 1 / float(np.sum((slope / error) ** 2))
    if not known:
        spare = len(drive) - 1
        variance *= float(residual @ residual) / spare if spare else np.nan
    std = float(np.sqrt(variance))
    return xr.Dataset(
        {
            "reorganisation_energy": ((), value, {"units": "J mol-1"}),
            "reorganisation_energy_std": ((), std if std > 0 else np.nan, {"units": "J mol-1"}),
            "residual": ("potential", residual, {"units": "J mol-1"}),
        },
        coords={"potential": checked["potential"]},
    )


def marcus_hush_chidsey(
    overpotential: ArrayLike, *, reorganisation_energy: float, temperature: float
) -> np.ndarray:
    r"""Net oxidation rate over the exchange rate (1), with all electrons of a metal taking part.

    .. math::
        k_\mathrm{ox} \propto \int
        \frac{\exp[-(x - \Lambda + y)^2 / 4 \Lambda]}{1 + e^x}\,dx, \qquad
        \Lambda = \frac{\lambda}{RT}, \quad y = \frac{F \eta}{RT}

    and the same with -y for reduction. The integrals are summed by the trapezoidal rule, which
    converges exponentially for them. The rate levels off beyond :math:`\lambda`, where Marcus's
    would fall.

    Parameters
    ----------
    overpotential : array_like
        :math:`\eta` (V), positive where oxidation is driven.
    reorganisation_energy : float
        :math:`\lambda` (J mol-1).
    temperature : float
        Temperature (K).

    Returns
    -------
    numpy.ndarray
        (k_ox - k_red) / k_0: times an exchange current it is the current, anodic positive.

    Raises
    ------
    ValueError
        If the reorganisation energy or the temperature is not positive.

    References
    ----------
    Chidsey 1991, https://doi.org/10.1126/science.251.4996.919. Closed form within some percent:
    Zeng, Smith, Bai, Bazant 2014, https://doi.org/10.1016/j.jelechem.2014.09.038.

    Examples
    --------
    >>> float(marcus_hush_chidsey(0.0, reorganisation_energy=40e3, temperature=298.15))
    0.0
    """
    _positive(reorganisation_energy)
    _positive(temperature, "temperature (K)")
    big = reorganisation_energy / (gas_constant * temperature)
    y = FARADAY * np.asarray(overpotential, dtype=float) / (gas_constant * temperature)

    # steps well below the widths of both factors, and as far as either is alive
    step = min(0.25, 0.1 * np.sqrt(2 * big))
    reach = 40.0 + big + 8 * np.sqrt(2 * big)
    x = np.arange(-reach - np.abs(y).max(initial=0.0), reach + step, step)

    def rate(z: np.ndarray) -> np.ndarray:
        gauss = -((x - big + z[..., None]) ** 2) / (4 * big)
        return np.exp(gauss - np.logaddexp(0.0, x)).sum(axis=-1)

    return (rate(y) - rate(-y)) / rate(np.zeros(1))[0]


def _positive(number: float, label: str = "reorganisation_energy (J mol-1)") -> None:
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"Kinetics: {label} is {number}, but must be positive and finite.")


def _value(kinetics: xr.Dataset, name: str, draw: int | None) -> float:
    if draw is None:
        return float(kinetics[name])
    return float(kinetics[f"{name}_draw"].isel(draw=draw))


def _exchange(barrier: Any, temperature: float, site_density: float, electrons: float) -> Any:
    attempts = Boltzmann * temperature / Planck
    return (
        electrons
        * FARADAY
        * site_density
        * attempts
        * np.exp(-barrier / (gas_constant * temperature))
    )


def _least_squares(
    design: np.ndarray, values: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, their covariance and chi-squared; columns scaled to one size."""
    size = np.linalg.norm(design, axis=0)
    matrix = design / size / error[:, None]
    covariance = np.linalg.inv(matrix.T @ matrix)
    best = covariance @ matrix.T @ (values / error)
    off = values / error - matrix @ best
    return best / size, covariance / np.outer(size, size), float(off @ off)
