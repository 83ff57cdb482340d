"""From TRANSPORT to the Laws of an electrolyte, whole or not at all."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.constants import Avogadro, gas_constant

from atomistic.schema import TRANSPORT
from continuum.inputs import FARADAY, Electrolyte
from continuum.laws import Law
from couplers.contract import check
from couplers.fits import laws_of
from couplers.liquid import liquid_electrolyte


def single_ion_electrolyte(
    transport: xr.Dataset,
    arrhenius: xr.Dataset,
    *,
    cation: str,
    temperature: float,
    draw: int | None = None,
    name: str = "solid electrolyte",
) -> Electrolyte:
    r"""Make a single-ion solid electrolyte of its transport Dataset and its Arrhenius posterior.

    .. math::
        \sigma(T) = \sigma_0 \frac{T_0}{T} \exp\!\left[-\frac{E_a}{R}
        \left(\frac1T - \frac1{T_0}\right)\right], \qquad
        D_\sigma(T) = \frac{R T \sigma(T)}{z^2 F^2 c}, \qquad t_+ = 1, \qquad \chi = 1

    With one mobile ion the conductivity is the whole hand-over: the cation carries all current, no
    salt gradient forms, and neither the diffusivity nor the thermodynamic factor enters the
    voltage. :math:`D_\sigma` is the charge diffusivity, which a solver with Poisson's equation
    reads. :math:`T_0` is the operating temperature.

    =============================== ===================================
    symbol                          variable
    =============================== ===================================
    :math:`\sigma_0 = \sigma(T_0)`  ``arrhenius[quantity]``
    :math:`E_a`                     ``arrhenius.activation_energy``
    :math:`c`                       ``transport.number_density`` / N_A
    =============================== ===================================

    The laws' temperature window is that of the diffusive conditions, not the operating
    temperature: an extrapolation is said wherever the laws are used.

    Parameters
    ----------
    transport : xarray.Dataset
        A TRANSPORT; it is checked first.
    arrhenius : xarray.Dataset
        Result of `atomistic.observables.arrhenius.arrhenius` on a conductivity of `transport`, at
        `temperature`.
    cation : str
        Species that carries the charge.
    temperature : float
        Operating temperature (K).
    draw : int, optional
        Posterior draw to take, the same in every property; the medians if not given.
    name : str
        What it is, for tables and figures.

    Returns
    -------
    Electrolyte

    Raises
    ------
    ContractError
        Lists every breach of the TRANSPORT schema.
    ValueError
        If the posterior is missing, belongs to another temperature or quantity, or the cation is
        not among the species, carries no positive charge, or another species conducts.
    """
    check(transport, TRANSPORT)
    faults = []
    quantity = str(arrhenius.attrs.get("quantity"))
    species = [str(one) for one in transport["species"].values]
    if "conductivity" not in quantity:
        faults.append(f"the Arrhenius posterior is of {quantity}, expected a conductivity")
    elif not np.isfinite(arrhenius[quantity]):
        faults.append(f"there is no conductivity to hand over: {arrhenius.attrs['verdict']}")
    if float(arrhenius["temperature"]) != temperature:
        faults.append(
            f"the Arrhenius posterior was evaluated at {float(arrhenius['temperature']):g} K, but "
            f"the electrolyte is asked for at {temperature:g} K; evaluate it there"
        )
    if cation not in species:
        faults.append(f"{cation} is not among the species {', '.join(species)}")
    else:
        mobile = transport["diffusive"].any("condition")
        others = [one for one in species if one != cation and bool(mobile.sel(species=one))]
        if others:
            faults.append(
                f"{', '.join(others)} moves too, so {cation} is not the only carrier; a binary "
                "electrolyte needs its transference number and thermodynamic factor"
            )
        if not float(transport["charge_number"].sel(species=cation)) > 0:
            faults.append(f"{cation} carries no positive charge")
    if draw is not None and not 0 <= draw < arrhenius.sizes["draw"]:
        faults.append(f"draw is {draw}, but the posterior holds {arrhenius.sizes['draw']}")
    if faults:
        raise ValueError(f"Electrolyte {name!r}: " + "; ".join(faults) + ".")

    def value(variable: str) -> float:
        if draw is None:
            return float(arrhenius[variable])
        return float(arrhenius[f"{variable}_draw"][draw])

    charge = float(transport["charge_number"].sel(species=cation))
    coldest = int(np.argmin(transport["temperature"].values))
    density = float(transport["number_density"].sel(species=cation)[coldest])
    concentration = density / Avogadro
    conductivity, energy = value(quantity), value("activation_energy")
    window = (float(arrhenius.attrs["window_low"]), float(arrhenius.attrs["window_high"]))
    diffusivity = conductivity * gas_constant * temperature / (charge * FARADAY) ** 2
    return Electrolyte(
        conductivity=Law(
            "arrhenius over temperature",
            (conductivity, energy, temperature),
            "S m-1",
            temperature_window=window,
        ),
        diffusivity=Law(
            "arrhenius",
            (diffusivity / concentration, energy, temperature),
            "m2 s-1",
            temperature_window=window,
        ),
        transference_number=Law("constant", (1.0,), "1"),
        thermodynamic_factor=Law("constant", (1.0,), "1"),
        concentration=concentration,
        temperature=temperature,
        single_ion=True,
        name=name,
    )


def binary_electrolyte(
    laws: xr.Dataset,
    *,
    concentration: float,
    temperature: float,
    draw: int | None = None,
    complete_from: Electrolyte | None = None,
    name: str = "liquid electrolyte",
) -> Electrolyte:
    """Make a liquid electrolyte of the Laws that `couplers.fits.fit_laws` found, whole or not.

    The way of a liquid is `newman` (frames and definitions), `fit_laws` (Laws with a posterior),
    and this. All draws have Laws of the same forms, so that one discretised cell model serves them
    all (`couplers.battery.parameter_values` with ``as_inputs``).

    Parameters
    ----------
    laws : xarray.Dataset
        What `fit_laws` returned.
    concentration : float
        Salt concentration (mol m-3).
    temperature : float
        Operating temperature (K).
    draw : int, optional
        Posterior draw, the same in every law; the forms of highest evidence if not given.
    complete_from : Electrolyte, optional
        A complete liquid, such as `couplers.liquid.landesfeind_ec_emc`, that lends the laws that
        were not fitted. The name of the result then says which.
    name : str
        What the fitted laws describe.

    Returns
    -------
    Electrolyte
        Its Laws know the (c, T) window of the conditions that they were fitted on.

    Raises
    ------
    ValueError
        If the draw does not exist; or lists every fault that
        `couplers.liquid.liquid_electrolyte` finds: a partial set without a lender above all.
    """
    if draw is not None and not 0 <= draw < laws.sizes["draw"]:
        raise ValueError(
            f"Electrolyte {name!r}: draw is {draw}, but the posterior holds {laws.sizes['draw']}."
        )
    return liquid_electrolyte(
        laws_of(laws, draw=draw),
        concentration=concentration,
        temperature=temperature,
        complete_from=complete_from,
        name=name,
    )
