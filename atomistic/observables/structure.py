r"""Structure of a trajectory: radial distribution functions and closest approaches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr

from atomistic.observables.displacements import checked
from atomistic.observables.scatter import standard_error
from atomistic.units import ANGSTROM

BLOCK = 2_000_000  # distances held at once


def images(cell: np.ndarray, maximum: float) -> np.ndarray:
    """Return the lattice translations (unit of `cell`) that can bring a pair within `maximum`.

    Pairs are first wrapped to fractional differences within half a cell, so along each vector
    ``ceil(maximum / height + 0.5) - 1`` translations on either side are enough, whatever the
    angles of the cell.

    Parameters
    ----------
    cell : numpy.ndarray
        Cell vectors as rows.
    maximum : float
        Largest distance, in the unit of `cell`.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.ceil(maximum / heights + 0.5).astype(int) - 1
    steps = [range(-number, number + 1) for number in reach]
    return np.array(list(product(*steps))) @ cell


def radial_distribution(
    trajectory: xr.Dataset,
    *,
    pairs: Sequence[tuple[str, str]],
    maximum: float = 6.0 * ANGSTROM,
    bins: int = 120,
    frames: int = 50,
) -> xr.Dataset:
    r"""Radial distribution function g(r) (1) of pairs of species, and their closest approach (m).

    .. math:: g_{ab}(r) = \frac{V}{N_a N_b'} \frac{\langle n_{ab}(r, r + \mathrm{d}r) \rangle}
              {\tfrac{4}{3}\pi [(r + \mathrm{d}r)^3 - r^3]}

    with :math:`N_b' = N_b - 1` for a pair of like species, so that an ideal gas gives 1. Periodic
    images are taken explicitly, so `maximum` may exceed half the cell and the cell may be skew.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY; wrapped or unwrapped positions give the same.
    pairs : sequence of (str, str)
        Pairs of species.
    maximum : float
        Largest distance (m).
    bins : int
        Number of bins up to `maximum`.
    frames : int
        Frames used of each replica, evenly spaced; the closest approach is over these.

    Returns
    -------
    xarray.Dataset
        ``radial_distribution`` (condition, pair, distance) and ``coordination`` (condition, pair,
        distance), the running number of second species around the first up to the bin's upper
        edge, each with ``_std``, the standard error of the mean over replicas (nan for one
        replica), and ``closest_approach`` (condition, pair). Coordinates ``distance`` (m, middle
        of the bin) and ``pair``, as "Li-S".

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, an unknown species, or a `maximum`, `bins` or `frames`
        that is not positive.

    References
    ----------
    Allen, Tildesley, Computer Simulation of Liquids (2017),
    https://doi.org/10.1093/oso/9780198803195.001.0001
    """
    faults = [
        f"{name} is {value}, but must be positive"
        for name, value in (("maximum", maximum), ("bins", bins), ("frames", frames))
        if not value > 0
    ]
    if not pairs:
        faults.append("pairs is empty, name at least one such as ('Li', 'S')")
    if faults:
        raise ValueError("radial_distribution: " + "; ".join(faults) + ".")
    named = list(dict.fromkeys(np.ravel(pairs).tolist()))
    trajectory = checked(trajectory, chosen=named, ordered_in_time=False)
    symbols = trajectory["symbol"].values.astype(str)
    sizes = trajectory.sizes
    chosen = np.unique(np.linspace(0, sizes["frame"] - 1, min(frames, sizes["frame"])).astype(int))
    edges = np.linspace(0.0, maximum, bins + 1)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    shape = (sizes["condition"], sizes["replica"], len(pairs))
    curve = np.zeros((*shape, bins))
    around = np.zeros((*shape, bins))
    closest = np.full(shape, np.inf)
    for condition in range(sizes["condition"]):
        position = trajectory["position"].values[condition][:, chosen]
        for replica in range(sizes["replica"]):
            cell = trajectory["cell"].values[condition, replica]
            volume = abs(np.linalg.det(cell))
            shift = images(cell, maximum)
            fractional = position[replica].astype(np.float64) @ np.linalg.inv(cell)
            for index, (first, second) in enumerate(pairs):
                one = np.flatnonzero(symbols == first)
                other = np.flatnonzero(symbols == second)
                count, near = _count(fractional, one, other, cell, shift, edges)
                closest[condition, replica, index] = near
                partners = len(other) - (first == second)
                if partners:
                    mean = count / (len(chosen) * len(one))
                    curve[condition, replica, index] = mean * volume / (partners * shells)
                    around[condition, replica, index] = np.cumsum(mean)
    dims = ("condition", "pair", "distance")
    return xr.Dataset(
        {
            "temperature": ("condition", trajectory["temperature"].values, {"units": "K"}),
            "radial_distribution": (dims, curve.mean(1), {"units": "1"}),
            "radial_distribution_std": (dims, standard_error(curve, 1), {"units": "1"}),
            "coordination": (dims, around.mean(1), {"units": "1"}),
            "coordination_std": (dims, standard_error(around, 1), {"units": "1"}),
            "closest_approach": (dims[:2], closest.min(1), {"units": "m"}),
        },
        coords={
            "distance": ("distance", (edges[1:] + edges[:-1]) / 2, {"units": "m"}),
            "pair": [f"{first}-{second}" for first, second in pairs],
        },
    )


def _count(
    fractional: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    cell: np.ndarray,
    shift: np.ndarray,
    edges: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Count distances per bin and find the shortest; an atom's own images do not count."""
    count, near = np.zeros(len(edges) - 1), np.inf
    step = max(1, BLOCK // (len(one) * len(other)))
    apart = one[:, None] != other[None, :]
    metric = cell @ cell.T
    for start in range(0, len(fractional), step):
        part = fractional[start : start + step]
        difference = part[:, other][:, None] - part[:, one][:, :, None]
        difference -= np.round(difference)
        cartesian = difference @ cell
        square = np.einsum("...i,ij,...j->...", difference, metric, difference)
        for translation in shift:
            distance = square + 2 * cartesian @ translation + translation @ translation
            keep = distance < edges[-1] ** 2
            keep &= apart
            found = np.sqrt(distance[keep])
            if found.size:
                near = min(near, float(found.min()))
                index = np.minimum((found / edges[-1] * len(count)).astype(int), len(count) - 1)
                count += np.bincount(index, minlength=len(count))
    return count, near
