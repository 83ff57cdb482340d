r"""From structure to thermodynamics: S(k), Kirkwood-Buff integrals, thermodynamic factor.

A periodic box holds the structure factor at its own wave vectors exactly, while integrals of g(r)
have to be cut off; so the limit is taken in k, :math:`S(k) = S(0) + a k^2`, and the integral of
g(r) with its finite-volume weight stands beside it as a check.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr

from atomistic.observables.displacements import checked, species
from atomistic.observables.scatter import jackknife_error, pieces, standard_error
from atomistic.observables.structure import radial_distribution

LONGEST = 2.0  # times the shortest wave vector of the box: the range of the fit
AT_ONCE = 4_000_000  # phases held at once


def finite_volume_weight(reduced: np.ndarray) -> np.ndarray:
    r"""Return the weight by which a sphere's Kirkwood-Buff integral converges (1).

    .. math:: w(x) = 1 - \tfrac{23}{8} x^3 + \tfrac34 x^4 + \tfrac98 x^5, \qquad x = r / L

    Parameters
    ----------
    reduced : numpy.ndarray
        Distance over the largest distance (1).

    References
    ----------
    Krüger, Vlugt, Phys. Rev. E 97, 051301 (2018), https://doi.org/10.1103/PhysRevE.97.051301
    """
    x = np.asarray(reduced, float)
    return np.where(x < 1, 1 - 23 / 8 * x**3 + 3 / 4 * x**4 + 9 / 8 * x**5, 0.0)


def structure_factors(
    trajectory: xr.Dataset,
    *,
    chosen: Sequence[str] | None = None,
    condition: int = 0,
    longest: float = LONGEST,
    frames: int = 400,
    blocks: int = 5,
) -> xr.Dataset:
    r"""Partial structure factors S(k) (1) of the box's own wave vectors, and their limit S(0).

    .. math:: S_{ab}(k) = \frac{\langle \rho_a(k) \rho_b^*(k) \rangle}{\sqrt{N_a N_b}},
              \qquad \rho_a(k) = \sum_{i \in a} e^{i k \cdot r_i}

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY, wrapped or not.
    chosen : sequence of str, optional
        Species; all if not given.
    condition : int
        Which condition.
    longest : float
        Longest wave vector, in units of the box's shortest (1); the fit of the limit uses all.
    frames : int
        Frames used of each replica, evenly spaced.
    blocks : int
        Pieces of each replica whose scatter gives the errors.

    Returns
    -------
    xarray.Dataset
        ``structure_factor`` (species, partner, wavenumber) with ``_std``; ``structure_factor_zero``
        (species, partner) with ``_std`` and the ``_sample`` of each left-out piece; coordinate
        ``wavenumber`` (m-1); ``number_density`` (species) (m-3).

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or says that there are too few wave vectors.
    """
    names = species(trajectory) if chosen is None else list(chosen)
    trajectory = checked(trajectory, chosen=names, ordered_in_time=False)
    symbols = trajectory["symbol"].values.astype(str)
    cell = trajectory["cell"].values[condition, 0]
    inverse = 2 * np.pi * np.linalg.inv(cell)  # columns are reciprocal vectors
    shortest = np.linalg.norm(inverse, axis=0).min()
    reach = np.ceil(longest * shortest / (2 * np.pi) * np.linalg.norm(cell, axis=1)).astype(int)
    whole = np.array(list(product(*(range(-n, n + 1) for n in reach))))
    first = whole[np.arange(len(whole)), np.argmax(whole != 0, axis=1)]
    whole = whole[first > 0]  # k and -k are the same
    length = np.linalg.norm(whole @ inverse.T, axis=1)
    near = length <= longest * shortest * (1 + 1e-9)
    whole, length = whole[near], length[near]
    if len(np.unique(np.round(length / shortest, 6))) < 2:
        raise ValueError(
            f"structure_factors: only {len(whole)} wave vectors of one length lie within "
            f"{longest} times the shortest; allow longer ones."
        )
    shells = np.unique(np.round(length / shortest, 6), return_inverse=True)
    wavenumber = np.bincount(shells[1], weights=length) / np.bincount(shells[1])
    masks = [symbols == name for name in names]
    number = np.array([mask.sum() for mask in masks])
    found = []
    for replica, part in pieces(trajectory, blocks, frames):
        own = np.linalg.inv(trajectory["cell"].values[condition, replica])
        place = trajectory["position"].values[condition, replica][part].astype(float) @ own
        rho = np.array([_waves(place[:, mask], whole) for mask in masks])
        power = np.einsum("afk,bfk->abk", rho, rho.conj()).real / len(part)
        power /= np.sqrt(np.outer(number, number))[:, :, None]
        found.append(
            np.stack([power[:, :, shells[1] == one].mean(2) for one in range(len(wavenumber))], 2)
        )
    weight = np.bincount(shells[1]).astype(float)
    design = np.column_stack([np.ones_like(wavenumber), (wavenumber / shortest) ** 2])
    limit = np.linalg.solve(design.T * weight @ design, design.T * weight)[0]
    each = np.array(found)
    mean, total = each.mean(0), len(each)
    others = (each.sum(0) - each) / (total - 1) if total > 1 else each
    zero, jack = mean @ limit, others @ limit
    dims = ("species", "partner")
    volume = np.abs(np.linalg.det(trajectory["cell"].values[condition])).mean()
    return xr.Dataset(
        {
            "structure_factor": ((*dims, "wavenumber"), mean, {"units": "1"}),
            "structure_factor_std": ((*dims, "wavenumber"), standard_error(each), {"units": "1"}),
            "structure_factor_zero": (dims, zero, {"units": "1"}),
            "structure_factor_zero_std": (dims, jackknife_error(jack), {"units": "1"}),
            "structure_factor_zero_sample": (("piece", *dims), jack, {"units": "1"}),
            "number_density": ("species", number / volume, {"units": "m-3"}),
        },
        coords={
            "species": names,
            "partner": names,
            "wavenumber": ("wavenumber", wavenumber, {"units": "m-1"}),
        },
    )


def _waves(fractional: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Density waves of one species, (frame, wave)."""
    frames, atoms, _ = fractional.shape
    step = max(1, AT_ONCE // max(1, atoms * len(whole)))
    out = np.empty((frames, len(whole)), dtype=complex)
    for first in range(0, frames, step):
        phase = 2 * np.pi * fractional[first : first + step] @ whole.T
        out[first : first + step] = np.exp(1j * phase).sum(1)
    return out


def thermodynamic_factor(
    trajectory: xr.Dataset,
    *,
    ions: Sequence[str],
    solvent: Sequence[str],
    condition: int = 0,
    longest: float = LONGEST,
    frames: int = 400,
    blocks: int = 5,
) -> xr.Dataset:
    r"""Thermodynamic factor (1) of a salt in a solvent from long-wavelength fluctuations.

    .. math::
        1 + \frac{d\ln f_\pm}{d\ln c} = \frac{1}{1 + \rho_c (G_{cc} - G_{co})}, \qquad
        G_{ab} = \frac{S_{ab}(0) - \delta_{ab}}{\sqrt{\rho_a \rho_b}}

    with all ions as one component c, since neutrality ties them together at long wavelengths, and
    o the solvent (Kusalik and Patey). The molal factor is that times the volume share of the
    solvent, :math:`\rho_o \bar V_o`, which the same integrals give.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY.
    ions : sequence of str
        Species of the ions; a molecular ion by one atom that it has once.
    solvent : sequence of str
        Species of the solvent; a molecule by one atom that it has once.
    condition, longest, frames, blocks
        As for `structure_factors`.

    Returns
    -------
    xarray.Dataset
        ``thermodynamic_factor`` (molar) and ``thermodynamic_factor_molal`` with ``_std``,
        ``kirkwood_buff_integral`` (species, partner) (m3) with ``_std`` for "ions" and "solvent",
        and ``solvent_volume_share`` (1); attribute ``thermodynamic_factor_definition``.

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or says that a species is named twice or not at all.

    References
    ----------
    Kusalik, Patey, J. Chem. Phys. 86, 5110 (1987), https://doi.org/10.1063/1.452629
    """
    named = [*ions, *solvent]
    if not ions or not solvent or len(set(named)) < len(named):
        raise ValueError(
            f"thermodynamic_factor: ions {list(ions)} and solvent {list(solvent)} were given; name "
            "at least one species of each, and none twice."
        )
    trajectory = checked(trajectory, chosen=named, ordered_in_time=False)
    symbols = trajectory["symbol"].values.astype(str)
    kind = np.where(np.isin(symbols, list(ions)), "ions", "solvent")
    kept = np.isin(symbols, named)
    renamed = trajectory.isel(atom=kept).assign(symbol=("atom", kind[kept]))
    seen = structure_factors(
        renamed, chosen=["ions", "solvent"], condition=condition, longest=longest, frames=frames,
        blocks=blocks,
    )  # fmt: skip
    density = seen["number_density"].values
    root = np.sqrt(np.outer(density, density))

    def integrals(zero: np.ndarray) -> np.ndarray:
        return (zero - np.eye(2)) / root

    def factors(zero: np.ndarray) -> np.ndarray:
        integral = integrals(zero)
        excess = 1 + density[0] * (integral[0, 0] - integral[0, 1])
        spread = integral[0, 0] + integral[1, 1] - 2 * integral[0, 1]
        share = density[1] * excess / (density.sum() + density.prod() * spread)
        return np.array([1 / excess, share / excess, share])

    zero = seen["structure_factor_zero"].values
    best = factors(zero)
    sample = seen["structure_factor_zero_sample"].values
    error = jackknife_error(np.array([factors(one) for one in sample]))
    out = xr.Dataset(
        {
            "kirkwood_buff_integral": (
                ("species", "partner"),
                integrals(zero),
                {"units": "m3"},
            ),
            "kirkwood_buff_integral_std": (
                ("species", "partner"),
                seen["structure_factor_zero_std"].values / root,
                {"units": "m3"},
            ),
        },
        coords={"species": ["ions", "solvent"], "partner": ["ions", "solvent"]},
        attrs={"thermodynamic_factor_definition": "1 + d ln f / d ln c, molar"},
    )
    names = ("thermodynamic_factor", "thermodynamic_factor_molal", "solvent_volume_share")
    for index, name in enumerate(names):
        out[name] = ((), best[index], {"units": "1"})
        out[f"{name}_std"] = ((), error[index], {"units": "1"})
    return out


def integral_of_distribution(
    trajectory: xr.Dataset,
    *,
    pairs: Sequence[tuple[str, str]],
    maximum: float,
    bins: int = 200,
    frames: int = 50,
) -> xr.Dataset:
    r"""Kirkwood-Buff integrals (m3) from g(r), with the finite volume's weight and tail.

    .. math:: G = \int_0^L \Big[\frac{g(r)}{g_\infty} - 1\Big] 4 \pi r^2 w(r/L)\,\mathrm{d}r

    A closed box pushes the tail of g(r) off 1 by about 1/N; :math:`g_\infty` is the mean over the
    last tenth before L, half of the box at most.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY.
    pairs : sequence of (str, str)
        Pairs of species.
    maximum : float
        L (m).
    bins, frames
        As for `structure.radial_distribution`.

    Returns
    -------
    xarray.Dataset
        ``kirkwood_buff_integral`` (condition, pair) (m3), and ``_std`` over replicas.

    Raises
    ------
    ValueError
        As for `structure.radial_distribution`.
    """
    rows = []
    for replica in range(trajectory.sizes["replica"]):
        seen = radial_distribution(
            trajectory.isel(replica=[replica]), pairs=pairs, maximum=maximum, bins=bins,
            frames=frames,
        )  # fmt: skip
        r = seen["distance"].values
        curve = seen["radial_distribution"].values
        tail = curve[..., r > 0.9 * maximum].mean(-1, keepdims=True)
        shell = 4 * np.pi * r**2 * finite_volume_weight(r / maximum) * (maximum / bins)
        rows.append(((curve / tail - 1) * shell).sum(-1))
    value = np.array(rows)
    dims = ("condition", "pair")
    return xr.Dataset(
        {
            "kirkwood_buff_integral": (dims, value.mean(0), {"units": "m3"}),
            "kirkwood_buff_integral_std": (dims, standard_error(value), {"units": "m3"}),
        },
        coords={"pair": [f"{one}-{other}" for one, other in pairs]},
    )
