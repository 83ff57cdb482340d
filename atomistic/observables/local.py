r"""Diffusion that depends on direction and on place: the tensor of a crystal, D(z) at a wall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy.optimize import brentq

from atomistic.observables.displacements import (
    TRACK,
    Walk,
    checked,
    lag_grid,
    mean_squared_displacement,
    relative_positions,
    species,
)
from atomistic.observables.scatter import jackknife_error
from atomistic.observables.self_diffusion import estimate

SERIES = 40  # terms of the bounded slice's solution
LEAST_KEPT = 0.02  # share of walkers still in the slice, below which a lag says nothing


def diffusion_tensor(
    trajectory: xr.Dataset,
    *,
    chosen: Sequence[str] | None = None,
    host: Sequence[str] = (),
    axes: np.ndarray | None = None,
    draws: int = 400,
    seed: int = 0,
) -> xr.Dataset:
    r"""Self-diffusivity (m2 s-1) along each of three directions: slabs and layered crystals.

    .. math:: D_a = \lim_{t \to \infty} \frac{\langle (\Delta r \cdot \hat a)^2 \rangle}{2 t}

    Each direction is judged and refused on its own, since ions may diffuse in a layer and not
    across it.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY.
    chosen : sequence of str, optional
        Species to estimate; all if not given.
    host : sequence of str
        Species whose centre of mass is put at rest.
    axes : numpy.ndarray, optional
        Orthonormal directions as rows, (3, 3); x, y and z if not given.
    draws : int
        Posterior draws.
    seed : int
        Their seed.

    Returns
    -------
    xarray.Dataset
        ``self_diffusivity`` (condition, species, direction) with ``_std`` and ``_draw``,
        ``start_lag`` (s), ``diffusive`` and ``verdict``; coordinate ``direction``, and ``axis``
        (direction, xyz).

    Raises
    ------
    ValueError
        Lists the faults of the trajectory, or says that the axes are not orthonormal.
    """
    names = species(trajectory) if chosen is None else list(chosen)
    frame = np.eye(3) if axes is None else np.asarray(axes, float)
    if frame.shape != (3, 3) or not np.allclose(frame @ frame.T, np.eye(3), atol=1e-6):
        raise ValueError(
            f"diffusion_tensor: axes {frame.tolist()} were given, expected three orthonormal rows."
        )
    trajectory = checked(trajectory, chosen=[*names, *host])
    count = trajectory.sizes["frame"]
    time = trajectory["time"].values
    interval = float(np.diff(time).mean())
    lags = lag_grid(count)
    stride = -(-count // TRACK)
    symbols = trajectory["symbol"].values.astype(str)
    shape = (trajectory.sizes["condition"], len(names), 3)
    table = {
        name: np.empty(shape, dtype=kind)
        for name, kind in (
            ("value", float), ("std", float), ("start", float), ("diffusive", bool),
            ("verdict", object),
        )
    }  # fmt: skip
    sample = np.empty((*shape, draws))
    rng = np.random.default_rng(seed)
    for condition in range(shape[0]):
        position = relative_positions(trajectory, condition, host=host)
        for kind, name in enumerate(names):
            along = position[:, :, symbols == name] @ frame.T
            for axis in range(3):
                one = along[..., axis : axis + 1]
                # one direction of three: what estimate divides by 6 t is three times its square
                seen = Walk(
                    lag=lags * interval,
                    msd=3.0 * mean_squared_displacement(one, lags),
                    track=one[:, ::stride],
                    track_interval=stride * interval,
                    duration=(count - 1) * interval,
                )
                found = estimate(seen, draws=draws, rng=rng, label=f"{name} along {'xyz'[axis]}")
                where = (condition, kind, axis)
                for key, array in table.items():
                    array[where] = getattr(found, key)
                sample[where] = found.draws
    dims = ("condition", "species", "direction")
    return xr.Dataset(
        {
            "temperature": ("condition", trajectory["temperature"].values, {"units": "K"}),
            "self_diffusivity": (dims, table["value"], {"units": "m2 s-1"}),
            "self_diffusivity_std": (dims, table["std"], {"units": "m2 s-1"}),
            "self_diffusivity_draw": ((*dims, "draw"), sample, {"units": "m2 s-1"}),
            "start_lag": (dims, table["start"], {"units": "s"}),
            "diffusive": (dims, table["diffusive"]),
            "verdict": (dims, table["verdict"].astype(str)),
            "axis": (("direction", "xyz"), frame, {"units": "1"}),
        },
        coords={"species": names, "direction": ["x", "y", "z"]},
        attrs={"frame": "lab" if len(host) else "mass", "finite_size_correction": "none"},
    )


def survival(reduced: np.ndarray, *, share: float = 1.0) -> np.ndarray:
    r"""Return the chance of having stayed between two absorbing faces.

    .. math:: P(\theta) = \sum_{n\,\mathrm{odd}} \frac{4}{n \pi}
              \langle \sin n \pi x \rangle e^{-n^2 \pi^2 \theta}, \qquad \theta = D t / w^2

    averaged over a start that is uniform in the middle `share` of the width w; for all of it this
    is :math:`(8/\pi^2) \sum e^{-n^2 \pi^2 \theta} / n^2`.

    Parameters
    ----------
    reduced : numpy.ndarray
        D t / w2 (1).
    share : float
        Part of the width in which walkers begin (1).
    """
    wave = np.arange(1, 2 * SERIES, 2) * np.pi
    begin = np.sin(wave / 2) * 2 * np.sin(wave * share / 2) / (wave * share)
    terms = 4 / wave * begin * np.exp(-np.multiply.outer(reduced, wave**2))
    return np.asarray(terms.sum(-1))


def wall_diffusivity(
    trajectory: xr.Dataset,
    *,
    species_name: str,
    edges: np.ndarray,
    lag: float,
    condition: int = 0,
    axis: int = 2,
    blocks: int = 8,
) -> xr.Dataset:
    r"""Local diffusivity (m2 s-1) in slices parallel to a wall, across it and along it.

    Only walkers that stay in their slice for all of a lag t are followed, so that each number
    belongs to its slice (Liu, Harder and Berne):

    .. math:: D_\parallel = \frac{\langle \Delta x^2 + \Delta y^2 \rangle_\mathrm{stayed}}{4 t},
              \qquad P(D_\perp t / w^2) = \frac{n_\mathrm{stayed}(t)}{n(0)}

    with P that of `survival`. Staying or leaving is seen once a frame, which lets walkers out and
    back in between; the faces that absorb therefore lie :math:`0.5826 \sqrt{2 D \Delta t}` further
    out, exact to first order. Inside a slice D is taken to be even and drift small: choose slices
    thinner than what the density varies over. A slice that ends at the wall itself has one face
    to leave by, not two, and reads too low across the wall.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY, unwrapped along the wall, with the wall at rest along `axis`.
    species_name : str
        What diffuses.
    edges : numpy.ndarray
        Faces of the slices along `axis` (m), increasing.
    lag : float
        Lag t (s): long against rattling, and such that walkers cross about half a slice.
    condition : int
        Which condition.
    axis : int
        Direction across the wall.
    blocks : int
        Pieces of the run whose scatter, with that of the replicas, gives the errors.

    Returns
    -------
    xarray.Dataset
        ``parallel_diffusivity`` and ``perpendicular_diffusivity`` (m2 s-1), (z), each with
        ``_std``, nan where fewer than 2 % stay; ``survival`` (1), (z); coordinate ``z`` (m).

    Raises
    ------
    ValueError
        If edges do not increase, the lag is shorter than four frames or longer than a block, or
        for the faults of the trajectory.

    References
    ----------
    Liu, Harder, Berne, J. Phys. Chem. B 108, 6595 (2004), https://doi.org/10.1021/jp0375057

    Siegmund, Adv. Appl. Probab. 11, 701 (1979), https://doi.org/10.2307/1426855
    """
    edges = np.asarray(edges, float)
    trajectory = checked(trajectory, chosen=[species_name])
    interval = float(np.diff(trajectory["time"].values).mean())
    step = round(lag / interval)
    length = trajectory.sizes["frame"] // blocks
    faults = []
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        faults.append(f"edges {edges.tolist()} do not increase")
    if axis not in (0, 1, 2):
        faults.append(f"axis is {axis}, expected 0, 1 or 2")
    if step < 4:
        faults.append(f"the lag of {lag:g} s is {step} frames, but at least 4 are needed")
    if step >= length:
        faults.append(f"the lag of {lag:g} s is longer than one of {blocks} blocks of the run")
    if faults:
        raise ValueError("wall_diffusivity: " + "; ".join(faults) + ".")
    mask = trajectory["symbol"].values.astype(str) == species_name
    position = trajectory["position"].values[condition][:, :, mask].astype(float)
    flat = [other for other in range(3) if other != axis]
    pieces = []
    for replica in position:
        for block in range(blocks):
            part = replica[block * length : (block + 1) * length]
            pieces.append(_piece(part, edges, step, axis, flat))
    begun, stayed, square = np.moveaxis(np.array(pieces), 1, 0)
    duration = step * interval
    share = stayed.sum(0) / np.maximum(begun.sum(0), 1.0)
    enough = share > LEAST_KEPT
    width = np.diff(edges)
    out = {"survival": share}
    weight = stayed.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.where(enough, square.sum(0) / weight / (4 * duration), np.nan)
        jack_along = (square.sum(0) - square) / (weight - stayed) / (4 * duration)
        jack_share = (stayed.sum(0) - stayed) / (begun.sum(0) - begun)
    across = _across(share, width, duration, interval)
    jack_across = np.array([_across(row, width, duration, interval) for row in jack_share])
    for name, best, jack in (
        ("parallel_diffusivity", along, jack_along),
        ("perpendicular_diffusivity", np.where(enough, across, np.nan), jack_across),
    ):
        spread = jackknife_error(jack)
        out[name] = best
        out[f"{name}_std"] = np.where(np.isfinite(best), spread, np.nan)
    units = {"survival": "1"}
    return xr.Dataset(
        {name: ("z", value, {"units": units.get(name, "m2 s-1")}) for name, value in out.items()},
        coords={"z": ("z", (edges[1:] + edges[:-1]) / 2, {"units": "m"})},
        attrs={"species": species_name, "axis": "xyz"[axis], "lag": duration},
    )


def _piece(
    part: np.ndarray, edges: np.ndarray, step: int, axis: int, flat: Sequence[int]
) -> np.ndarray:
    """Count, in each slice, walkers that began, those that stayed, and the squares these moved."""
    slices = len(edges) - 1
    where = np.searchsorted(edges, part[..., axis], side="right") - 1
    where[(where < 0) | (where >= slices)] = -1
    change = np.cumsum(np.vstack([np.zeros_like(where[:1]), np.diff(where, axis=0) != 0]), axis=0)
    origin = where[:-step]
    same = (change[step:] == change[:-step]) & (origin >= 0)
    moved = part[step:][..., flat] - part[:-step][..., flat]
    squares = np.square(moved).sum(-1)
    return np.array(
        [
            np.bincount(origin[origin >= 0], minlength=slices),
            np.bincount(origin[same], minlength=slices),
            np.bincount(origin[same], weights=squares[same], minlength=slices),
        ]
    )


def _across(share: np.ndarray, width: np.ndarray, duration: float, interval: float) -> np.ndarray:
    """Solve for the diffusivity whose survival is what was seen; nan where there is none."""
    found = np.full(len(share), np.nan)
    for index, (kept, wide) in enumerate(zip(share, width, strict=True)):
        if not LEAST_KEPT / 4 < kept < 1:
            continue

        def excess(diffusivity: float, kept: float = kept, wide: float = wide) -> float:
            # what is seen once a frame leaves through faces that lie further out
            effective = wide + 2 * 0.5826 * np.sqrt(2 * diffusivity * interval)
            theta = np.array(diffusivity * duration / effective**2)
            return float(survival(theta, share=wide / effective)) - kept

        high = 4 * wide**2 / duration
        if excess(1e-9 * high) > 0 > excess(high):
            found[index] = brentq(excess, 1e-9 * high, high, rtol=1e-10)
    return found
