r"""Ionic conductivity from the collective motion of charge, with its posterior.

The charge moved by all mobile ions, :math:`Q(t) = \sum_i z_i \Delta r_i(t)`, is three numbers a
frame however many ions there are, so its own diffusivity is known to no better than
:math:`\sqrt{2/\nu}`. What can be known better is how much faster or slower the charge moves than
the same ions would on their own, because both feel the same rattling and the same cages. So the
spectrum of the collective velocity is divided, frequency by frequency, by the spectrum of
independent ions (which averages over all of them), and the ratio at low frequency multiplies the
Nernst-Einstein conductivity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from scipy import constants

from atomistic.observables.displacements import observe, species
from atomistic.observables.self_diffusion import self_diffusivity


def host_species(
    trajectory: xr.Dataset, mobile: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the mobile species and the host, which is every other species of the trajectory."""
    names = [mobile] if isinstance(mobile, str) else list(mobile)
    return names, [name for name in species(trajectory) if name not in names]


def checked_charges(trajectory: xr.Dataset, charges: Mapping[str, float]) -> np.ndarray:
    """Return the charge number of each species of a trajectory, in its order.

    Raises
    ------
    ValueError
        If a species has no charge, a charge belongs to no species, or the cell is not neutral.
    """
    names = species(trajectory)
    faults = []
    if missing := [name for name in names if name not in charges]:
        faults.append(f"no charge is given for {', '.join(missing)}")
    if unknown := [name for name in charges if name not in names]:
        faults.append(f"{', '.join(unknown)} is not in the trajectory ({', '.join(names)})")
    if not faults:
        symbols = trajectory["symbol"].values.astype(str)
        numbers = np.array([charges[name] * (symbols == name).sum() for name in names])
        if abs(numbers.sum()) > 1e-6 * np.abs(numbers).sum():
            faults.append(
                f"the cell carries {numbers.sum():+g} e, but must be neutral for the conductivity "
                "not to depend on the frame of reference"
            )
        if not np.abs(numbers).any():
            faults.append("all charges are zero")
    if faults:
        raise ValueError("charges: " + "; ".join(faults) + ".")
    return np.array([float(charges[name]) for name in names])


def collective_ratio(
    position: np.ndarray, ions: Sequence[np.ndarray], charges: np.ndarray, ordinates: int
) -> tuple[float, int]:
    r"""Return the ratio of collective to independent motion of charge and its degrees of freedom.

    .. math::
        r = \frac{1}{K} \sum_{k=1}^{K}
            \frac{|\sum_s z_s \sum_{i \in s} v_i(k)|^2}{\sum_s z_s^2 \sum_{i \in s} |v_i(k)|^2}

    Parameters
    ----------
    position : numpy.ndarray
        Positions (m) in the frame of the host, (replica, frame, atom, xyz).
    ions : sequence of numpy.ndarray
        Mask over atoms of each mobile species.
    charges : numpy.ndarray
        Charge number of each mobile species (1).
    ordinates : int
        Number K of lowest frequencies, :math:`k/T`.
    """
    step = np.diff(position, axis=1)
    frames = step.shape[1]
    wave = np.exp(-2j * np.pi * np.arange(1, ordinates + 1)[:, None] * np.arange(frames) / frames)
    together = np.zeros((step.shape[0], ordinates, 3), dtype=complex)
    apart = np.zeros(ordinates)
    for mask, charge in zip(ions, charges, strict=True):
        velocity = np.einsum("kf,rfax->rkax", wave, step[:, :, mask], optimize=True)
        together += charge * velocity.sum(2)
        apart += charge**2 * (np.abs(velocity) ** 2).sum((2, 3)).mean(0)
    power = (np.abs(together) ** 2).sum(-1)  # replica, frequency
    return float((power / apart).mean()), 2 * together.size


def conductivity(
    observed: xr.Dataset,
    *,
    charges: Mapping[str, float],
    mobile: str | Sequence[str],
    self_diffusion: xr.Dataset | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Ionic conductivity (S m-1) and its Nernst-Einstein part (S m-1) in each condition.

    .. math::
        \sigma = r\,\sigma_\mathrm{NE}, \qquad
        \sigma_\mathrm{NE} = \frac{e^2}{V k_B T} \sum_s z_s^2 N_s D_s, \qquad
        r\,|\,\mathrm{data} \sim \hat r\, \nu / \chi^2_\nu

    The ratio r (1 / Haven ratio) is that of `collective_ratio` over frequencies below
    :math:`1/(2 t)` with t one and a half times the latest start lag of the mobile species, so that
    :math:`\nu = 3 T_\mathrm{total} / t` counts independent displacements in three directions.
    With a host, its centre of mass is at rest (frame "lab") and only mobile ions carry charge;
    without one the frame is "mass". For a neutral cell the two agree.

    Parameters
    ----------
    observed : xarray.Dataset
        A TRAJECTORY, or what `displacements.observe` made of one; every replica is taken to be a
        sample of the same state and potential.
    charges : mapping of str to float
        Charge number of every species (1); the cell must be neutral.
    mobile : str or sequence of str
        Species that diffuse; all others are the host.
    self_diffusion : xarray.Dataset, optional
        What `self_diffusivity` gave for the mobile species of this observed.
    draws : int
        Posterior draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``conductivity``, ``nernst_einstein_conductivity`` and ``haven_ratio``, each with ``_std``
        and ``_draw`` (nan where a mobile species is not diffusive), and ``freedom``, nu.

    Raises
    ------
    ValueError
        Lists the faults of the trajectory or of the charges.

    References
    ----------
    France-Lanord, Grossman, Phys. Rev. Lett. 122, 136001 (2019),
    https://doi.org/10.1103/PhysRevLett.122.136001
    """
    names, host = host_species(observed, mobile)
    observed = observe(observed, host=host, chosen=names)
    checked_charges(observed, charges)
    if self_diffusion is None:
        self_diffusion = self_diffusivity(observed, chosen=names, draws=draws, seed=seed)
    diffusion = self_diffusion.sel(species=names)
    number = np.array([float(charges[name]) for name in names])
    symbols = observed["symbol"].values.astype(str)
    ions = [symbols == name for name in names]
    count = np.array([mask.sum() for mask in ions])
    rng = np.random.default_rng([seed, 1])
    conditions = observed.sizes["condition"]
    ratio, ratio_draw = np.full(conditions, np.nan), np.full((conditions, draws), np.nan)
    freedom = np.zeros(conditions, dtype=int)
    for condition in range(conditions):
        if not diffusion["diffusive"].values[condition].all():
            continue
        start = float(diffusion["start_lag"].values[condition].max())
        track = observed["track"].values[condition]
        ordinates = max(2, round(float(observed["duration"]) / (3 * start)))
        ordinates = min(ordinates, track.shape[1] // 4)
        ratio[condition], freedom[condition] = collective_ratio(track, ions, number, ordinates)
        chi = rng.chisquare(freedom[condition], draws)
        ratio_draw[condition] = ratio[condition] * freedom[condition] / chi

    volume = np.abs(np.linalg.det(observed["cell"].values)).mean(1)
    temperature = observed["temperature"].values
    scale = constants.e**2 / (volume * constants.k * temperature)
    ideal = scale * (number**2 * count * diffusion["self_diffusivity"].values).sum(1)
    ideal_draw = scale[:, None] * np.einsum(
        "s,csd->cd", number**2 * count, diffusion["self_diffusivity_draw"].values
    )
    out = xr.Dataset({"temperature": ("condition", temperature, {"units": "K"})})
    for name, units, value, sample in (
        ("conductivity", "S m-1", ideal * ratio, ideal_draw * ratio_draw),
        ("nernst_einstein_conductivity", "S m-1", ideal, ideal_draw),
        ("haven_ratio", "1", 1 / ratio, 1 / ratio_draw),
    ):
        out[name] = ("condition", value, {"units": units})
        out[f"{name}_std"] = ("condition", sample.std(-1), {"units": units})
        out[f"{name}_draw"] = (("condition", "draw"), sample, {"units": units})
    out["freedom"] = ("condition", freedom, {"units": "1"})
    out.attrs = {"frame": observed.attrs["frame"]}
    return out
