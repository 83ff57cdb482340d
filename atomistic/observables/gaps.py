r"""Plates before which a medium ends: what a cell filled with it to the plates says of them.

Charges in a medium of permittivity :math:`\varepsilon` stand for ions whose electrons answer at
once. A model cell has the medium all the way to the plates; in truth it ends where the electrons of
the ions do, a gap d before each plate. At a charge :math:`\sigma` of the plates the ions do not
feel the difference, since the field of a plane does not depend on what is behind it; in the gaps
the field is :math:`\varepsilon` times as strong:

.. math::
    \Psi = \Psi_\mathrm{md} + \sigma s, \qquad U = U_\mathrm{md} + 2 \sigma s, \qquad
    \frac1C = \frac{1}{C_\mathrm{md}} + s, \qquad
    \frac{1}{C_\mathrm{cell}} = \frac{1}{C_\mathrm{cell,md}} + 2 s, \qquad
    s = \frac{d}{\varepsilon_0} \left(1 - \frac1\varepsilon\right)

two capacitors in series with the cell of the model. Runs at constant voltage of the model are runs
at constant :math:`U - 2 \sigma s`. The free energy of a charge gains :math:`A s \sigma^2`, so that
slopes transform as above up to the curvature of :math:`\ln p(\sigma)` beyond a Gaussian, which
vanishes as 1/A; so do fluctuations, taken with the empty cell's. What the edge of the medium does
to waves along the plates, images of single ions in it, is left out.

References
----------
Scalfi, Limmer, Coretti, Bonella, Madden, Salanne, Rotenberg, Phys. Chem. Chem. Phys. 22, 10480
(2020), https://doi.org/10.1039/C9CP06285H

Shannon, Acta Crystallogr. A 32, 751 (1976), https://doi.org/10.1107/S0567739476001551
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from scipy import constants


def edge_of_ions(
    profiles: Sequence[xr.Dataset], radii: Mapping[str, float], *, share: float = 0.5
) -> tuple[float, float]:
    """Return how far from a plate the electrons of ions end (m), and its standard error.

    For each kind of ion it is where the density first reaches a share of that in the middle, less
    the ion's radius; the mean over kinds and profiles is taken, and half of what kinds differ by on
    average is the error: which of them carries the edge is not known better.

    Parameters
    ----------
    profiles : sequence of xarray.Dataset
        PROFILEs in front of one plate, at voltages of either sign alike.
    radii : mapping of str to float
        Radius (m) of each species.
    share : float
        Share of the density in the middle (1).

    Raises
    ------
    ValueError
        If a radius is missing, or ions reach nearer to the plate than their radius.
    """
    rows = []
    for one in profiles:
        names = [str(name) for name in one["species"].values]
        missing = [name for name in names if name not in radii]
        if missing:
            raise ValueError(f"edge of ions: no radius (m) is given for {', '.join(missing)}.")
        z, separation = one["z"].values, float(one["separation"])
        middle = (z > 0.4 * separation) & (z < 0.6 * separation)
        front = (z > 0) & (z < 0.5 * separation)
        row = []
        for name, density in zip(names, one["number_density"].values, strict=True):
            reached = density[front] >= share * density[middle].mean()
            row.append(float(z[front][reached.argmax()]) - radii[name])
        rows.append(row)
    found = np.mean(rows, axis=0)
    if not found.mean() > 0:
        raise ValueError(
            f"edge of ions: less their radii ions end at {found.mean():.3g} m, behind the plate; "
            "give radii (m) that fit the short-range repulsion of the plate."
        )
    return float(found.mean()), 0.5 * float(np.ptp(found))


def with_gaps(
    found: xr.Dataset,
    *,
    gap: float,
    gap_std: float,
    relative_permittivity: float,
    seed: int = 0,
) -> xr.Dataset:
    """Return a PROFILE or CAPACITANCE with no medium in a gap before each of two alike plates.

    Parameters
    ----------
    found : xarray.Dataset
        What `profile` or `capacitance` gave of a cell with the medium throughout, or `committee`.
    gap : float
        Distance (m) from a plate's plane, that of its image charges, to the edge of the medium.
    gap_std : float
        Its standard error (m).
    relative_permittivity : float
        That of the medium (1).
    seed : int
        Seed of the draws of the gap; datasets given the same seed share them.

    Returns
    -------
    xarray.Dataset
        The same variables. Errors hold that of the gap, which is also given by itself:
        ``differential_capacitance_gap_std``, ``cell_capacitance_gap_std`` or, of a PROFILE,
        ``electrode_potential_gap_std``. Draws are each of its own gap.

    Raises
    ------
    ValueError
        If a number is out of range, the dataset is neither, or gaps of a PROFILE overlap.
    """
    if not (gap >= 0 and gap_std >= 0 and relative_permittivity >= 1):
        raise ValueError(
            f"with_gaps: the gap is {gap:g} m ± {gap_std:g} m and the permittivity "
            f"{relative_permittivity:g}; expected no negative gap or error, and 1 or more."
        )
    per_length = (1 - 1 / relative_permittivity) / constants.epsilon_0
    if "differential_capacitance" in found:
        count = found.sizes.get("draw", 0)
        drawn = np.random.default_rng([seed, 10]).normal(gap, gap_std, count)
        out = _capacitance(found, gap, gap_std, np.maximum(drawn, 0.0), per_length)
    elif "electrode_potential" in found:
        out = _profile(found, gap, gap_std, per_length)
    else:
        raise ValueError(
            "with_gaps: expected what profile or capacitance gave, with electrode_potential or "
            f"differential_capacitance; there are {', '.join(map(str, found.data_vars))}."
        )
    return out.assign_attrs(gap_m=gap, gap_std_m=gap_std, medium_permittivity=relative_permittivity)


def _capacitance(
    found: xr.Dataset, gap: float, gap_std: float, drawn: np.ndarray, per_length: float
) -> xr.Dataset:
    out = found.copy()
    for name, gaps in (("differential_capacitance", 1), ("cell_capacitance", 2)):
        value = found[name].values
        shrunk = 1 / (1 + value * gaps * gap * per_length)
        own = value**2 * shrunk**2 * gaps * gap_std * per_length
        units = {"units": "F m-2"}
        out[name] = (found[name].dims, value * shrunk, units)
        for end in ("_std", "_sampling_std", "_model_std"):
            if f"{name}{end}" in found:
                error = found[f"{name}{end}"].values * shrunk**2
                if end == "_std":
                    error = np.hypot(error, own)
                out[f"{name}{end}"] = (found[name].dims, error, units)
        out[f"{name}_gap_std"] = (found[name].dims, np.where(own > 0, own, np.nan), units)
        if f"{name}_draw" in found:
            draws = found[f"{name}_draw"].transpose(..., "draw")
            each = draws.values / (1 + draws.values * gaps * drawn * per_length)
            out[f"{name}_draw"] = (draws.dims, each, units)
    charge, error = found["surface_charge"].values, found["surface_charge_std"].values
    volts = {"units": "V"}
    if "potential_std" in found:
        spread = np.hypot(found["potential_std"].values, error * gap * per_length)
        spread = np.hypot(spread, charge * gap_std * per_length)
        out["potential_std"] = ("potential", spread, volts)
    out["cell_voltage"] = (
        "potential",
        found["cell_voltage"].values + 2 * charge * gap * per_length,
        volts,
    )
    shifted = found["potential"].values + charge * gap * per_length
    return out.assign_coords(potential=("potential", shifted, volts))


def _profile(found: xr.Dataset, gap: float, gap_std: float, per_length: float) -> xr.Dataset:
    z, separation = found["z"].values, float(found["separation"])
    if not 2 * gap < separation:
        raise ValueError(
            f"with_gaps: two gaps of {gap:g} m do not fit between plates {separation:g} m apart."
        )
    charge, error = float(found["surface_charge"]), float(found["surface_charge_std"])
    ends = np.array([gap - z, z - (separation - gap)])
    depth = np.clip(ends, 0.0, gap)
    depth = depth[0] - depth[1]  # the other plate has the opposite charge
    reach = 1.0 * (ends[0] > 0) - 1.0 * (ends[1] > 0)
    inside = ((ends > 0) & (ends < gap)).any(0)
    volts = {"units": "V"}
    at = found["potential"].values + charge * depth * per_length
    spread = np.hypot(found["potential_std"].values, error * depth * per_length)
    spread = np.hypot(spread, charge * reach * gap_std * per_length)
    own = abs(charge) * gap_std * per_length
    shift = charge * gap * per_length
    electrode = np.hypot(float(found["electrode_potential_std"]), error * gap * per_length)
    # without ions in it a gap has the field of the charge of its plate
    field = found["field"].values + charge * inside * per_length
    variables: dict[str, tuple[object, ...]] = {
        "potential": ("z", at, volts),
        "potential_std": ("z", spread, volts),
        "field": ("z", field, {"units": "V m-1"}),
        "electrode_potential": ((), float(found["electrode_potential"]) + shift, volts),
        "electrode_potential_std": ((), np.hypot(electrode, own), volts),
        "electrode_potential_gap_std": ((), own if own > 0 else np.nan, volts),
        "voltage": ((), float(found["voltage"]) + 2 * shift, volts),
        "voltage_drop": ((), float(found["voltage_drop"]) + 2 * shift, volts),
    }
    return found.assign(variables)
