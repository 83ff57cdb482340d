"""Liquid electrolytes: four properties that belong together, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from continuum.inputs import Electrolyte
from continuum.laws import Law

PROPERTIES = ("conductivity", "diffusivity", "transference_number", "thermodynamic_factor")


def landesfeind_ec_emc(
    *, concentration: float = 1000.0, temperature: float = 298.15
) -> Electrolyte:
    """LiPF6 in EC:EMC 3:7 by weight, as Landesfeind and Gasteiger measured it in 2019.

    The four laws come from one set of cells and are consistent with each other. The windows, 100 to
    3000 mol m-3 and 263.15 to 323.15 K, are a cautious choice of ours: beyond them the polynomials
    of the transference number and of the thermodynamic factor bend away. The transference number
    is negative in the cold, as published.

    Parameters
    ----------
    concentration : float
        Salt concentration (mol m-3).
    temperature : float
        Operating temperature (K).

    Returns
    -------
    Electrolyte
        At 1000 mol m-3 and 298.15 K: 0.913 S m-1, 2.89e-10 m2 s-1, 0.221, 2.18.

    References
    ----------
    Landesfeind, Gasteiger, J. Electrochem. Soc. 166, A3079 (2019),
    https://doi.org/10.1149/2.0571912jes

    Examples
    --------
    >>> electrolyte = landesfeind_ec_emc()
    >>> round(float(electrolyte.conductivity(1000.0, 298.15)), 3)
    0.913
    """
    salt, warmth = (100.0, 3000.0), (263.15, 323.15)
    return Electrolyte(
        conductivity=Law(
            "landesfeind conductivity",
            (5.21e-2, 2.28e2, -1.06, 3.53e-1, -3.59e-3, 1.48e-3),
            "S m-1",
            salt,
            warmth,
        ),
        diffusivity=Law(
            "landesfeind diffusivity", (1.01e-7, 1.01, -1.56e3, -4.87e2), "m2 s-1", salt, warmth
        ),
        transference_number=Law(
            "cubic",
            (-1.28e1, -6.12, 8.21e-2, 9.04e-1, 3.18e-2, -1.27e-4, 1.75e-2, -3.12e-3, -3.96e-5),
            "1",
            salt,
            warmth,
        ),
        thermodynamic_factor=Law(
            "cubic",
            (2.57e1, -4.51e1, -1.77e-1, 1.94, 2.95e-1, 3.08e-4, 2.59e-1, -9.46e-3, -4.54e-4),
            "1",
            salt,
            warmth,
        ),
        concentration=concentration,
        temperature=temperature,
        name="LiPF6 in EC:EMC 3:7 (Landesfeind 2019)",
    )


def liquid_electrolyte(
    laws: Mapping[str, Law],
    *,
    concentration: float,
    temperature: float,
    complete_from: Electrolyte | None = None,
    name: str = "liquid electrolyte",
) -> Electrolyte:
    """Make a liquid electrolyte of laws, whole, or completed from one that the caller picks.

    Half an electrolyte does more harm than none: in a DFN with Chen2020 a thermodynamic factor of
    2.18 instead of 1 moves the 2C voltage by 109 mV (RMS), the whole consistent set by 11. So a
    partial set is refused unless `complete_from` is given, and the name of the result then says
    what came from where; it travels into the attrs of everything computed with it
    (`couplers.battery.assumptions`).

    A thermodynamic factor without a diffusivity is refused in any case: the salt diffusivity
    contains the factor, so the published one would contain a different one.

    Parameters
    ----------
    laws : mapping
        Some or all of `conductivity` (S m-1), `diffusivity` (m2 s-1, salt diffusivity, factor
        inside), `transference_number` (1, solvent frame), `thermodynamic_factor` (1, molar).
    concentration : float
        Salt concentration (mol m-3).
    temperature : float
        Operating temperature (K).
    complete_from : Electrolyte, optional
        A complete liquid, such as `landesfeind_ec_emc`, that lends the laws that are missing.
    name : str
        What the given laws describe.

    Returns
    -------
    Electrolyte

    Raises
    ------
    ValueError
        Lists every fault: unknown or missing laws, a lone thermodynamic factor, a single-ion
        conductor as the lender, an operating point outside the window of a lent law; or those
        that `Electrolyte` finds.

    Examples
    --------
    >>> conductivity = Law("arrhenius", (0.9, 15e3, 298.15), "S m-1")
    >>> liquid_electrolyte(
    ...     {"conductivity": conductivity},
    ...     concentration=1000.0,
    ...     temperature=298.15,
    ...     complete_from=landesfeind_ec_emc(),
    ...     name="own salt",
    ... ).name.split(" of ")
    ['own salt, with diffusivity, transference_number, thermodynamic_factor',
     'LiPF6 in EC:EMC 3:7 (Landesfeind 2019)']
    """
    missing = [label for label in PROPERTIES if label not in laws]
    faults = [
        f"{label!r} is no property of an electrolyte; use {', '.join(PROPERTIES)}"
        for label in laws
        if label not in PROPERTIES
    ]
    if missing and complete_from is None:
        faults.append(
            f"{', '.join(missing)} is missing; give it, or name a published electrolyte in "
            "complete_from"
        )
    if "diffusivity" in missing and "thermodynamic_factor" not in missing:
        faults.append(
            "thermodynamic_factor comes without the diffusivity that contains it; give both or "
            "neither"
        )
    whole = dict(laws)
    if complete_from is not None:
        if complete_from.single_ion:
            faults.append(f"{complete_from.name} is a single-ion conductor, no liquid to lend from")
        for label in missing:
            whole[label] = getattr(complete_from, label)
            outside = whole[label].outside(concentration, temperature)
            if outside:
                faults.append(f"{label} of {complete_from.name} cannot be lent: {outside}")
        if missing:
            name = f"{name}, with {', '.join(missing)} of {complete_from.name}"
    if faults:
        raise ValueError(f"Electrolyte {name!r}: " + "; ".join(faults) + ".")
    return Electrolyte(
        conductivity=whole["conductivity"],
        diffusivity=whole["diffusivity"],
        transference_number=whole["transference_number"],
        thermodynamic_factor=whole["thermodynamic_factor"],
        concentration=concentration,
        temperature=temperature,
        name=name,
    )
