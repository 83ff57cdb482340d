"""From profiles and capacitances of an electrode to the Interface that a continuum reads."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.constants import Avogadro, gas_constant
from scipy.interpolate import PchipInterpolator

from atomistic.schema import CAPACITANCE, PROFILE
from continuum import double_layer
from continuum.inputs import FARADAY, Interface, Solution
from couplers.contract import check

EMPTY = np.exp(-30.0)  # share of the bulk density that stands for "no ion was seen here"
SAME_BULK = 0.1  # relative difference of bulk concentrations that is still the same solution


def inner_layer(
    capacitance: xr.Dataset, *, solution: Solution, draw: int | None = None
) -> xr.Dataset:
    r"""Take the diffuse layer off the capacitance of an electrode: what is left is the inner layer.

    .. math::
        \frac1{C_H(\sigma)} = \frac1{C} - \frac1{C_d(\sigma)}, \qquad
        \Delta(\sigma) = V - V_\mathrm{pzc} - \phi_d(\sigma)

    with the closed forms of `continuum.double_layer` for :math:`C_d` and :math:`\phi_d`. The
    capacitance comes from fluctuations, the charge from averages, so that the potential across the
    inner layer is known twice: from :math:`\Delta` and from the integral of :math:`1/C_H`.
    `mismatch` is their difference, which says whether the two agree.

    ============================ ====================================
    symbol                       variable of CAPACITANCE
    ============================ ====================================
    :math:`V`                    `potential`
    :math:`\sigma`               `surface_charge`
    :math:`C`                    `differential_capacitance`
    :math:`V_\mathrm{pzc}`       `potential_of_zero_charge`
    ============================ ====================================

    Parameters
    ----------
    capacitance : xarray.Dataset
        A CAPACITANCE of one electrode; it is checked first.
    solution : Solution
        The ions, at the temperature and bulk concentration of the simulation.
    draw : int, optional
        Posterior draw to take, the same in every variable; the estimates if not given.

    Returns
    -------
    xarray.Dataset
        `stern_capacitance` (F m-2) with `_std`, `diffuse_capacitance` (F m-2),
        `inner_potential` (V) and `mismatch` (V) at each `surface_charge` (C m-2; dim
        ``potential``), and `potential_of_zero_charge` (V) with `_std`: from the zero of the
        charge if CAPACITANCE does not hold it.

    Raises
    ------
    ContractError
        Lists every breach of CAPACITANCE.
    ValueError
        Lists every fault: fewer than two potentials, a charge that does not rise with the
        potential, potentials that do not enclose zero charge, a capacitance that leaves nothing
        for the inner layer, a draw that does not exist.

    References
    ----------
    Grahame 1947, https://doi.org/10.1021/cr60130a002.
    """
    ordered = check(capacitance, CAPACITANCE).sortby("potential")
    potential = ordered["potential"].values
    faults = []
    if draw is not None and not 0 <= draw < ordered.sizes.get("draw", 0):
        faults.append(f"draw is {draw}, but there are {ordered.sizes.get('draw', 0)}")
        draw = None

    def values(name: str) -> np.ndarray:
        if draw is not None and f"{name}_draw" in ordered:
            return ordered[f"{name}_draw"].isel(draw=draw).values
        return ordered[name].values

    total, charge = values("differential_capacitance"), values("surface_charge")
    charge_std = ordered["surface_charge_std"].values
    if len(potential) < 2:
        faults.append("there is one potential; an inner layer needs two or more")
    elif np.any(np.diff(charge) <= 0):
        low = int(np.argmin(np.diff(charge)))
        faults.append(
            f"the charge falls from {charge[low]:.3g} to {charge[low + 1]:.3g} C m-2 between "
            f"{potential[low]:g} and {potential[low + 1]:g} V; it must rise: average longer, or "
            "mind the sign (charge of the electrode)"
        )
    elif "potential_of_zero_charge" not in ordered and not charge[0] < 0 < charge[-1]:
        faults.append(
            f"the charges, {charge[0]:.3g} to {charge[-1]:.3g} C m-2, do not enclose zero; give "
            "potential_of_zero_charge"
        )
    if faults:
        raise ValueError("Inner layer: " + "; ".join(faults) + ".")

    if "potential_of_zero_charge" in ordered:
        zero = float(values("potential_of_zero_charge"))
        zero_std = float(ordered["potential_of_zero_charge_std"])
    else:
        zero = float(PchipInterpolator(charge, potential)(0.0))
        zero_std = float(np.interp(zero, potential, charge_std) / np.interp(zero, potential, total))
    diffuse = double_layer.surface_potential(solution, charge)
    outer = double_layer.capacitance(solution, diffuse)
    elastance = 1 / total - 1 / outer
    if np.any(elastance <= 0):
        where = ", ".join(f"{value:g}" for value in potential[elastance <= 0])
        raise ValueError(
            f"Inner layer: at {where} V the capacitance exceeds that of the diffuse layer alone, "
            "so that nothing is left for the inner layer; check the solution's concentration and "
            "permittivity, or average longer."
        )
    stern = 1 / elastance
    slope = np.gradient(1 / outer, charge)
    total_std = ordered["differential_capacitance_std"].values
    stern_std = stern**2 * np.hypot(total_std / total**2, slope * charge_std)
    table = Interface(zero, tuple(charge.tolist()), tuple(stern.tolist()))
    inner = potential - zero - diffuse
    mismatch = inner - table.inner_potential(charge)
    along = "potential"
    result = xr.Dataset(
        {
            "surface_charge": (along, charge, {"units": "C m-2"}),
            "surface_charge_std": (along, charge_std, {"units": "C m-2"}),
            "stern_capacitance": (along, stern, {"units": "F m-2"}),
            "stern_capacitance_std": (along, stern_std, {"units": "F m-2"}),
            "diffuse_capacitance": (along, outer, {"units": "F m-2"}),
            "inner_potential": (along, inner, {"units": "V"}),
            "mismatch": (along, mismatch, {"units": "V"}),
            "potential_of_zero_charge": ((), zero, {"units": "V"}),
            "potential_of_zero_charge_std": ((), zero_std, {"units": "V"}),
        },
        coords={along: (along, potential, {"units": "V"})},
        attrs={"reference": ordered.attrs["reference"], "method": ordered.attrs["method"]},
    )
    result.attrs["outcome"] = (
        "charge and capacitance give the same potential across the inner layer within "
        f"{1e3 * np.abs(mismatch).max():.2g} mV"
    )
    return result


def mean_forces(profile: xr.Dataset, *, electrode: float, bulk: tuple[float, float]) -> xr.Dataset:
    r"""Potentials of mean force of ions at a wall, beyond electrostatics, and how near they come.

    .. math:: U_i(z) = -RT \ln \frac{n_i(z)}{n_i^b} - z_i F [\phi(z) - \phi^b]

    Ions of these potentials in the mean field :math:`\phi` have the densities of the simulation.
    Where no ion was seen its density counts as e\ :sup:`-30` of the bulk's. The plane of closest
    approach lies where the first ion reaches half its bulk density.

    Parameters
    ----------
    profile : xarray.Dataset
        A PROFILE; it is checked first.
    electrode : float
        Where the electrode's surface lies on z (m).
    bulk : tuple of float
        Range of z (m) that is bulk; it tells which side of the electrode the liquid is on.

    Returns
    -------
    xarray.Dataset
        `mean_force` (J mol-1; species, distance) with `_std`, `bulk_concentration` (mol m-3;
        species), `plane_of_closest_approach` (m) with `_std`, and `relative_permittivity`
        where PROFILE has it; ``distance`` (m) from the electrode up to the bulk's middle.

    Raises
    ------
    ContractError
        Lists every breach of PROFILE.
    ValueError
        If the bulk range holds no points or the electrode, or a species has no bulk density.
    """
    checked = check(profile, PROFILE)
    z = checked["z"].values
    middle = 0.5 * (bulk[0] + bulk[1])
    inside = (z >= min(bulk)) & (z <= max(bulk))
    density = checked["number_density"].values
    names = [str(name) for name in checked["species"].values]
    faults = []
    if not inside.any():
        faults.append(f"no point of z lies in the bulk range {bulk[0]:g} to {bulk[1]:g} m")
    else:
        empty = [
            name for name, one in zip(names, density[:, inside], strict=True) if one.sum() <= 0
        ]
        faults += [f"{name} has no density in the bulk range" for name in empty]
    if min(bulk) <= electrode <= max(bulk):
        faults.append(f"the electrode, at {electrode:g} m, lies in the bulk range")
    if faults:
        raise ValueError("Mean forces: " + "; ".join(faults) + ".")

    away = (z - electrode) * np.sign(middle - electrode)
    kept = (away >= 0) & (away <= abs(middle - electrode))
    order = np.flatnonzero(kept)[np.argsort(away[kept])]
    distance = away[order]
    thermal = gas_constant * float(checked["temperature"])
    rest = density[:, inside].mean(axis=1, keepdims=True)
    share = np.maximum(density[:, order] / rest, EMPTY)
    potential = checked["potential"].values - checked["potential"].values[inside].mean()
    charge = checked["charge_number"].values[:, None]
    force = -thermal * np.log(share) - charge * FARADAY * potential[order]
    relative = checked["number_density_std"].values[:, order] / (share * rest)
    force_std = np.hypot(
        thermal * relative, charge * FARADAY * checked["potential_std"].values[order]
    )
    plane, plane_std = _closest(
        distance, share[charge[:, 0] != 0], (relative * share)[charge[:, 0] != 0]
    )
    both = ("species", "distance")
    result = xr.Dataset(
        {
            "mean_force": (both, force, {"units": "J mol-1"}),
            "mean_force_std": (both, force_std, {"units": "J mol-1"}),
            "bulk_concentration": ("species", rest[:, 0] / Avogadro, {"units": "mol m-3"}),
            "plane_of_closest_approach": ((), plane, {"units": "m"}),
            "plane_of_closest_approach_std": ((), plane_std, {"units": "m"}),
        },
        coords={"species": names, "distance": ("distance", distance, {"units": "m"})},
        attrs={"reference": "bulk"},
    )
    if "relative_permittivity" in checked:
        for name in ("relative_permittivity", "relative_permittivity_std"):
            result[name] = ("distance", checked[name].values[order], {"units": "1"})
    return result


def interface(
    capacitance: xr.Dataset,
    *,
    solution: Solution,
    profile: xr.Dataset | None = None,
    electrode: float = 0.0,
    bulk: tuple[float, float] | None = None,
    draw: int | None = None,
) -> Interface:
    """Make an `Interface` of what atomistics measured at an electrode.

    Parameters
    ----------
    capacitance : xarray.Dataset
        A CAPACITANCE of the electrode, for `inner_layer`.
    solution : Solution
        The ions; species are matched by name.
    profile : xarray.Dataset, optional
        A PROFILE, for `mean_forces`; without it ions feel nothing but the mean field.
    electrode : float
        Where the electrode's surface lies on z (m).
    bulk : tuple of float, optional
        Range of z (m) that is bulk; needed with a profile.
    draw : int, optional
        Posterior draw of `capacitance` to take; the estimates if not given.

    Returns
    -------
    Interface

    Raises
    ------
    ContractError
        Lists every breach of a schema.
    ValueError
        If a profile comes without its bulk range, or from another solution; or as `inner_layer`
        and `mean_forces` say.
    """
    layer = inner_layer(capacitance, solution=solution, draw=draw)
    zero = float(layer["potential_of_zero_charge"])
    charge = tuple(layer["surface_charge"].values.tolist())
    stern = tuple(layer["stern_capacitance"].values.tolist())
    if profile is None:
        return Interface(zero, charge, stern)
    if bulk is None:
        raise ValueError("Interface: a profile needs the range of z (m) that is bulk.")
    forces = mean_forces(profile, electrode=electrode, bulk=bulk)
    names = [str(name) for name in forces["species"].values]
    faults = []
    for ion in solution.species:
        if ion.name not in names:
            faults.append(f"{ion.name} is not among the profile's species {', '.join(names)}")
            continue
        found = float(forces["bulk_concentration"].sel(species=ion.name))
        if abs(found / ion.concentration - 1) > SAME_BULK:
            faults.append(
                f"{ion.name} has {found:.4g} mol m-3 in the profile's bulk, but "
                f"{ion.concentration:g} in the solution; describe the same solution"
            )
    if abs(float(profile["temperature"]) - solution.temperature) > 1:
        faults.append(
            f"the profile is of {float(profile['temperature']):g} K, the solution of "
            f"{solution.temperature:g} K"
        )
    if faults:
        raise ValueError("Interface: " + "; ".join(faults) + ".")
    plane = float(forces["plane_of_closest_approach"])
    beyond = forces.sel(distance=forces["distance"] >= plane)
    permittivity = (
        beyond["relative_permittivity"].values if "relative_permittivity" in beyond else ()
    )
    return Interface(
        zero,
        charge,
        stern,
        plane_of_closest_approach=plane,
        distance=tuple((beyond["distance"].values - plane).tolist()),
        relative_permittivity=tuple(permittivity),
        mean_force={
            ion.name: tuple(beyond["mean_force"].sel(species=ion.name).values.tolist())
            for ion in solution.species
        },
    )


def _closest(distance: np.ndarray, share: np.ndarray, share_std: np.ndarray) -> tuple[float, float]:
    """Distance (m) at which the first ion reaches half its bulk density, and its error."""
    found = []
    for density, error in zip(share, share_std, strict=True):
        above = np.flatnonzero(density >= 0.5)
        place = int(above[0]) if len(above) else 0
        if place == 0:
            found.append((float(distance[place]), float(distance[1] - distance[0]) / np.sqrt(12)))
            continue
        rise = (density[place] - density[place - 1]) / (distance[place] - distance[place - 1])
        where = distance[place - 1] + (0.5 - density[place - 1]) / rise
        bin_width = float(distance[place] - distance[place - 1]) / np.sqrt(12)
        found.append((float(where), float(np.hypot(error[place] / rise, bin_width))))
    return min(found)
