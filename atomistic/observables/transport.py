"""Transport coefficients of a trajectory as the TRANSPORT Dataset that couplers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from atomistic.observables.conductivity import checked_charges, conductivity, host_species
from atomistic.observables.displacements import observe, species
from atomistic.observables.onsager import onsager
from atomistic.observables.self_diffusion import self_diffusivity

ESTIMATES = (
    "self_diffusivity",
    "conductivity",
    "nernst_einstein_conductivity",
    "haven_ratio",
    "onsager",
    "transference_number",
)


def transport(
    observed: xr.Dataset,
    *,
    charges: Mapping[str, float],
    mobile: str | Sequence[str],
    molar_mass: Mapping[str, float] | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    """Self-diffusivity (m2 s-1) and conductivity (S m-1) with posteriors, per condition.

    Replicas are grouped by ``potential_name`` and each group is a member of the committee. The
    draws are the equal-weight mixture of the members' posteriors; the coordinate ``member(draw)``
    says whose each draw is, so that sampling (the spread within a member) and model (the spread
    between members) can be told apart. ``_std`` is the standard deviation of the mixture. Where
    one member refuses, the mixture is refused and the verdict names that member.

    A solid has a host, and its conductivity is that of `conductivity` with the host at rest. In a
    liquid everything is mobile: the species are the ions, and the conductivity comes from the same
    posterior as the Onsager matrix and the transference number (`onsager.onsager`), in the frame
    of the solvent, or of mass where there is none.

    Parameters
    ----------
    observed : xarray.Dataset
        A TRAJECTORY, or what `displacements.observe` or an observer made of one.
    charges : mapping of str to float
        Charge number of every species (1).
    mobile : str or sequence of str
        Species that diffuse; all others are the host, whose centre of mass is put at rest.
    molar_mass : mapping of str to float, optional
        Molar mass (kg mol-1) of molecular ions in a liquid, named by one of their atoms.
    draws : int
        Posterior draws in all, shared out evenly among members.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        A TRANSPORT (`atomistic.schema.TRANSPORT`).

    Raises
    ------
    ValueError
        Lists the faults of the trajectory or of the charges, or says that `draws` is fewer than
        the members.
    """
    mobile_names, host = host_species(observed, mobile)
    observed = observe(observed, host=host, chosen=mobile_names)
    numbers = checked_charges(observed, charges)
    names = species(observed)
    if not host:
        names = [name for name, number in zip(names, numbers, strict=True) if number]
        numbers = numbers[numbers != 0]
    potential = observed["potential_name"].values.astype(str)
    members = list(dict.fromkeys(potential.tolist()))
    if draws < len(members):
        raise ValueError(f"draws is {draws}, but {len(members)} potentials need one each at least.")
    shares = [len(part) for part in np.array_split(np.arange(draws), len(members))]
    results = []
    for index, (member, share) in enumerate(zip(members, shares, strict=True)):
        part = observed.isel(replica=np.flatnonzero(potential == member))
        own = self_diffusivity(part, chosen=names, host=host, draws=share, seed=seed + 7919 * index)
        if host:
            charge = conductivity(
                part,
                charges=charges,
                mobile=mobile_names,
                self_diffusion=own,
                draws=share,
                seed=seed + 7919 * index,
            )
        else:
            charge = onsager(
                part,
                charges=charges,
                molar_mass=molar_mass,
                self_diffusion=own,
                draws=share,
                seed=seed + 7919 * index,
            )
        results.append(charge.merge(own.drop_vars("temperature"), combine_attrs="override"))

    volume = np.abs(np.linalg.det(observed["cell"].values)).mean(1)
    symbols = observed["symbol"].values.astype(str)
    count = np.array([(symbols == name).sum() for name in names])
    out = xr.Dataset(
        {
            "temperature": ("condition", observed["temperature"].values, {"units": "K"}),
            "charge_number": ("species", numbers, {"units": "1"}),
            "number_density": (
                ("condition", "species"),
                count / volume[:, None],
                {"units": "m-3"},
            ),
            "box_length": ("condition", volume ** (1 / 3), {"units": "m"}),
        },
        coords={
            "species": names,
            "member": ("draw", np.repeat(members, shares)),
        },
        attrs={"frame": results[0].attrs["frame"], "finite_size_correction": "none"},
    )
    for name in (name for name in ESTIMATES if name in results[0]):
        value = results[0][name]
        sample = np.concatenate([result[f"{name}_draw"].values for result in results], axis=-1)
        # np.mean over members lets a refusal (nan) through on purpose
        out[name] = (value.dims, np.mean([result[name].values for result in results], axis=0))
        out[f"{name}_std"] = (value.dims, sample.std(-1))
        out[f"{name}_draw"] = ((*value.dims, "draw"), sample)
        for label in (name, f"{name}_std", f"{name}_draw"):
            out[label].attrs = {"units": value.attrs["units"]}
    out["start_lag"] = (
        ("condition", "species"),
        np.max([result["start_lag"].values for result in results], axis=0),
        {"units": "s"},
    )
    out["freedom"] = (
        "condition",
        np.sum([result["freedom"].values for result in results], axis=0),
        {"units": "1"},
    )
    good = np.array([result["diffusive"].values for result in results])
    said = np.array([result["verdict"].values for result in results])
    worst = np.argmin(good, axis=0)  # the first member that refuses, else the first
    verdict = np.take_along_axis(said, worst[None], axis=0)[0].astype(object)
    if len(members) > 1:
        refused = ~good.all(axis=0)
        speaker = np.array(members, dtype=object)[worst]
        verdict = np.where(refused, speaker + ": " + verdict, verdict)
    out["diffusive"] = (("condition", "species"), good.all(axis=0))
    out["verdict"] = (("condition", "species"), verdict.astype(str))
    return out
