r"""Corrections for the finite periodic cell."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import constants

XI = 2.837297  # self-term of the periodic Oseen tensor in a cube


def yeh_hummer(
    transport: xr.Dataset,
    *,
    viscosity: xr.DataArray | float,
    viscosity_std: xr.DataArray | float = np.nan,
    seed: int = 0,
) -> xr.Dataset:
    r"""Take the self-diffusivity (m2 s-1) of a liquid in a cubic cell to infinite size.

    .. math:: D_\infty = D_L + \frac{\xi k_B T}{6 \pi \eta L}, \qquad \xi = 2.837297

    =========  ==========================================
    symbol     variable
    =========  ==========================================
    D          ``self_diffusivity``, its draws and ``_std``
    L          ``box_length`` (m)
    eta        `viscosity` (Pa s)
    =========  ==========================================

    Only self-diffusivities are corrected, which is what the theory is about; the conductivity and
    the Onsager matrix have no correction of this order.

    Parameters
    ----------
    transport : xarray.Dataset
        A TRANSPORT of a liquid in cubic cells, uncorrected.
    viscosity : xarray.DataArray or float
        Shear viscosity (Pa s), one number or one a condition.
    viscosity_std : xarray.DataArray or float
        Its standard error (Pa s); log-normal draws of it enter the corrected draws. nan: unknown,
        and then the error of the corrected value is unknown too.
    seed : int
        Seed of those draws.

    Returns
    -------
    xarray.Dataset
        The TRANSPORT with corrected ``self_diffusivity``, ``viscosity`` added and the attribute
        ``finite_size_correction`` "Yeh-Hummer".

    Raises
    ------
    ValueError
        If the Dataset is corrected already or has a host at rest, or a viscosity is not positive.

    References
    ----------
    Yeh, Hummer, J. Phys. Chem. B 108, 15873 (2004), https://doi.org/10.1021/jp0477147
    """
    heat = transport["temperature"]
    eta, error = (
        xr.DataArray(np.broadcast_to(np.asarray(value, float), heat.shape).copy(), dims="condition")
        for value in (viscosity, viscosity_std)
    )
    faults = []
    if transport.attrs["finite_size_correction"] != "none":
        faults.append("the self-diffusivity is corrected already")
    if transport.attrs["frame"] == "lab":
        faults.append("the host of a solid takes up the momentum, so there is nothing to correct")
    if not (np.isfinite(eta) & (eta > 0)).all():
        faults.append(f"viscosity is {eta.values.tolist()} Pa s, but must be positive")
    if faults:
        raise ValueError("yeh_hummer: " + "; ".join(faults) + ".")
    shift = XI * constants.k * heat / (6 * np.pi * eta * transport["box_length"])
    out = transport.copy()
    draws = transport["self_diffusivity_draw"]
    rng = np.random.default_rng([seed, 3])  # not the stream that drew the diffusivities
    width = np.sqrt(np.log1p((error / eta) ** 2))
    noise = xr.DataArray(
        rng.standard_normal((heat.size, draws.sizes["draw"])), dims=("condition", "draw")
    )
    sample = (draws + shift * np.exp(width * noise)).transpose(*draws.dims)
    out["self_diffusivity"] = transport["self_diffusivity"] + shift
    out["self_diffusivity_std"] = np.hypot(transport["self_diffusivity_std"], shift * error / eta)
    out["self_diffusivity_draw"] = sample
    for name in ("self_diffusivity", "self_diffusivity_std", "self_diffusivity_draw"):
        out[name] = out[name].transpose(*transport[name].dims)
        out[name].attrs = {"units": "m2 s-1"}
    for name, value in (("viscosity", eta), ("viscosity_std", error)):
        out[name] = ("condition", value.values, {"units": "Pa s"})
    out.attrs = {**transport.attrs, "finite_size_correction": "Yeh-Hummer"}
    return out
