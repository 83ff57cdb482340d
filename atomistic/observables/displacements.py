"""A TRAJECTORY Dataset as checked arrays: positions relative to a stated frame of reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from atomistic.units import mass

FEWEST_FRAMES = 50
LAGS = 48  # of a stored trajectory, geometrically spaced
LONGEST_LAG = 0.7  # of the run
TRACK = 1024  # most frames of the thinned track
SPAN = 16  # lags read off one matrix product
FEWEST_ORIGINS = 256  # below which origins are not thinned
ATOMS_AT_ONCE, FRAMES_AT_ONCE = 16, 256  # whose positions fit a cache
DIMS = {
    "position": ("condition", "replica", "frame", "atom", "xyz"),
    "cell": ("condition", "replica", "xyz", "partner"),
    "time": ("frame",),
    "temperature": ("condition",),
    "symbol": ("atom",),
    "potential_name": ("replica",),
}


def species(trajectory: xr.Dataset) -> list[str]:
    """Return the chemical symbols in a trajectory, each once, in order of first appearance."""
    return list(dict.fromkeys(str(symbol) for symbol in trajectory["symbol"].values))


def checked(
    trajectory: xr.Dataset, *, chosen: Sequence[str] = (), ordered_in_time: bool = True
) -> xr.Dataset:
    """Return `trajectory` with its dims in schema order, or say everything that is wrong with it.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY (`atomistic.schema.TRAJECTORY`).
    chosen : sequence of str
        Species that the caller is about to use and that must be present.
    ordered_in_time : bool
        Whether the caller follows atoms from frame to frame, which asks for enough frames,
        equally spaced and unwrapped; structure does not.

    Raises
    ------
    ValueError
        Lists every fault: missing variables or dims, too few frames, unequal time steps,
        positions that are not finite, wrapped positions, a cell without volume, unknown species.
    """
    faults = []
    for name, dims in DIMS.items():
        if name not in trajectory:
            faults.append(f"variable {name!r} is missing")
        elif set(trajectory[name].dims) != set(dims):
            faults.append(f"{name} has dims {tuple(trajectory[name].dims)}, expected {dims}")
    if faults:
        raise ValueError("trajectory: " + "; ".join(faults) + ".")
    ordered = trajectory[list(DIMS)].copy()
    for name, dims in DIMS.items():
        ordered[name] = ordered[name].transpose(*dims)
    time = ordered["time"].values
    if ordered_in_time and len(time) < FEWEST_FRAMES:
        faults.append(f"it has {len(time)} frames, but at least {FEWEST_FRAMES} are needed")
    elif ordered_in_time and not _equally_spaced(time):
        faults.append("its frames are not equally spaced in time; keep every n-th frame only")
    position = ordered["position"].values
    if not np.isfinite(position).all():
        faults.append("its positions are not all finite; cut the run before it broke")
    volume = np.linalg.det(ordered["cell"].values)
    if not (np.isfinite(volume).all() and (np.abs(volume) > 0).all()):
        faults.append("its cell has no volume")
    elif ordered_in_time and not faults:
        edge = np.linalg.norm(ordered["cell"].values, axis=-1).min()
        largest = np.abs(np.diff(position[:, :, : 4 * FEWEST_FRAMES], axis=2)).max()
        if largest > 0.5 * edge:
            faults.append(
                f"an atom moves {largest * 1e10:.1f} Å between frames, more than half the cell: "
                "unwrap the positions, or keep frames closer in time"
            )
    if not (ordered["temperature"].values > 0).all():
        faults.append("its temperatures must be positive")
    present = species(ordered)
    for name in chosen:
        if name not in present:
            faults.append(f"species {name!r} is not in it; it holds {', '.join(present)}")
    if faults:
        raise ValueError("trajectory: " + "; ".join(faults) + ".")
    return ordered


def _equally_spaced(time: np.ndarray) -> bool:
    step = np.diff(time)
    return bool(step[0] > 0 and np.allclose(step, step.mean(), rtol=1e-3, atol=0.0))


def drift(trajectory: xr.Dataset, condition: int, *, host: Sequence[str] = ()) -> np.ndarray:
    """Return how far the host's centre of mass has moved since the first frame (m).

    (replica, frame, xyz); of all atoms if `host` is empty.
    """
    position = trajectory["position"].values[condition]
    symbols = trajectory["symbol"].values.astype(str)
    chosen = np.isin(symbols, list(host)) if len(host) else np.ones(len(symbols), dtype=bool)
    weight = np.where(chosen, [mass(symbol) for symbol in symbols], 0.0)
    weight = (weight / weight.sum()).astype(position.dtype)
    centre = (position.swapaxes(-1, -2) @ weight).astype(float)
    return centre - centre[:, :1]


def relative_positions(
    trajectory: xr.Dataset, condition: int, *, host: Sequence[str] = ()
) -> np.ndarray:
    r"""Return positions (m) of one condition, (replica, frame, atom, xyz), with the host at rest.

    The displacement of the host's centre of mass since the first frame is taken off every atom,

    .. math:: r_i(t) - \sum_{h} m_h [r_h(t) - r_h(0)] / \sum_h m_h

    which is exact: whatever rigid motion is added to all atoms leaves the result unchanged. An
    empty `host` means all atoms: the centre of mass at rest.
    """
    position = trajectory["position"].values[condition].astype(np.float64)
    position -= position[:, :1].copy()
    return position - drift(trajectory, condition, host=host)[:, :, None]


def lag_grid(frames: int) -> np.ndarray:
    """Return about 48 lags (frames), geometric up to 0.7 of the run, where origins can be thinned.

    Lags of 16 strides or more are multiples of the stride that `mean_squared_displacement` takes.
    """
    lags = np.unique(np.round(np.geomspace(1, LONGEST_LAG * frames, LAGS)).astype(int))
    stride = _origin_strides(lags, frames)
    return np.unique(np.round(lags / stride).astype(int) * stride)


def _origin_strides(lags: np.ndarray, frames: int) -> np.ndarray:
    """Return the largest power of two that is no more than an eighth of the lag; few, if short."""
    stride = 2 ** np.floor(np.log2(np.maximum(lags / SPAN * 2, 1.0))).astype(int)
    return np.minimum(stride, 2 ** int(np.log2(max(1.0, frames / FEWEST_ORIGINS))))


def mean_squared_displacement(
    position: np.ndarray, lags: np.ndarray, *, drift: np.ndarray | None = None
) -> np.ndarray:
    r"""Return the mean squared displacement (m2) of each particle, (replica, atom, lag).

    .. math:: \mathrm{MSD}_i(t) = \langle |r_i(s + t) - r_i(s)|^2 \rangle_s

    over all origins s; beyond 16 frames over every second, fourth, ... origin, an eighth of a lag
    apart at most, if the lag is a multiple of that and 256 origins are left: displacements that
    overlap by so much tell the same. In the precision of `position`.

    Parameters
    ----------
    position : numpy.ndarray
        Unwrapped positions (m), (replica, frame, atom, xyz).
    lags : numpy.ndarray
        Lags (frames), positive integers.
    drift : numpy.ndarray, optional
        What is taken off the positions of all atoms (m), (replica, frame, xyz).
    """
    replicas, frames, atoms, axes = position.shape
    lags = np.asarray(lags)
    stride = _origin_strides(lags, frames)
    while (left := lags % stride).any():
        stride = np.where(left, stride // 2, stride)
    out = np.empty((replicas, atoms, len(lags)))
    for replica in range(replicas):
        rows = position[replica].reshape(frames, atoms * axes)
        shift = None if drift is None else drift[replica].T.astype(position.dtype)
        for first in range(0, atoms, ATOMS_AT_ONCE):
            part = rows[:, first * axes : (first + ATOMS_AT_ONCE) * axes]
            series = np.empty(part.shape[::-1], part.dtype)
            for begin in range(0, frames, FRAMES_AT_ONCE):
                series[:, begin : begin + FRAMES_AT_ONCE] = part[begin : begin + FRAMES_AT_ONCE].T
            if shift is not None:
                series.reshape(-1, axes, frames)[:] -= shift
            for step in np.unique(stride):
                mine = np.flatnonzero(stride == step)
                square = _mean_squares(series[:, ::step], lags[mine] // step)
                square = square.reshape(-1, axes, len(mine)).sum(1)
                out[replica, first : first + ATOMS_AT_ONCE, mine] = square.T
    return out


def _mean_squares(series: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Return mean squared differences of each row over all origins, (row, lag).

    Short lags are read off the products of positions, of which one matrix product makes all at
    once, from every origin of a block to the ends in it and in the next; positions count from
    the beginning of their block, so little cancels.
    """
    rows, frames = series.shape
    out = np.zeros((rows, len(lags)))
    blocks = max(0, frames // SPAN - 1)
    done = np.zeros(len(lags), dtype=int)
    near = np.flatnonzero(lags <= SPAN)
    if blocks and len(near) > 1:
        whole = series[:, : (blocks + 1) * SPAN].reshape(rows, blocks + 1, SPAN)
        anchor = whole[:, :, :1]
        within = whole - anchor
        here, there = within[:, :-1], within[:, 1:]
        turned, moved = here.swapaxes(1, 2), np.diff(anchor, axis=1)
        product = np.concatenate([turned @ here, turned @ there + turned @ moved], axis=2)
        origin = np.arange(SPAN)
        first = product[:, origin, origin]
        second = first - here[:, 0] ** 2 + there[:, -1] ** 2
        second += ((2 * there.swapaxes(1, 2) + moved.swapaxes(1, 2)) @ moved)[:, :, 0]
        square = np.concatenate([first, second], axis=1)
        for index in near.tolist():
            ends = origin + lags[index]
            sums = square[:, origin] + square[:, ends] - 2 * product[:, origin, ends]
            out[:, index] = sums.sum(1)
            done[index] = blocks * SPAN
    for index, lag in enumerate(lags):
        rest = series[:, done[index] :]
        step = rest[:, lag:] - rest[:, :-lag]
        out[:, index] += np.einsum("rf,rf->r", step, step)
    return out / (frames - lags)


def observe(
    trajectory: xr.Dataset, *, host: Sequence[str] = (), chosen: Sequence[str] = ()
) -> xr.Dataset:
    """Observe a TRAJECTORY: displacements over its origins, and a thinned track, in one frame.

    What comes out is all that the transport estimators read, whatever the length of the run. The
    observer in `atomistic.observables.correlators` makes the same Dataset during a run.

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY; one that is observed already is returned as it is.
    host : sequence of str
        Species whose centre of mass is put at rest (frame "lab"); the whole system's if empty
        (frame "mass").
    chosen : sequence of str
        Species that the caller is about to use and that must be present.

    Returns
    -------
    xarray.Dataset
        ``mean_squared_displacement`` (condition, replica, atom, lag) (m2), coordinate ``lag``
        (s); ``track`` (condition, replica, frame, atom, xyz) (m) at ``time`` (s), at most 1024
        frames; ``duration`` (s); ``cell``, ``temperature``, ``symbol``, ``potential_name``;
        attributes ``frame`` and ``host``.

    Raises
    ------
    ValueError
        Lists every fault of the trajectory, or says that it was observed with another host.
    """
    named = " ".join(sorted(host))
    if "mean_squared_displacement" in trajectory:
        faults = [
            f"species {name!r} is not in it; it holds {', '.join(species(trajectory))}"
            for name in chosen
            if name not in species(trajectory)
        ]
        if host and trajectory.attrs["host"] != named:
            faults.append(
                f"it was observed with host {trajectory.attrs['host'] or 'none'!r}, not {named!r}; "
                "observe the run again with that host"
            )
        if faults:
            raise ValueError("observed: " + "; ".join(faults) + ".")
        return trajectory
    trajectory = checked(trajectory, chosen=[*chosen, *host])
    frames = trajectory.sizes["frame"]
    time = trajectory["time"].values
    interval = float(np.diff(time).mean())
    lags = lag_grid(frames)
    stride = -(-frames // TRACK)
    squares, tracks = [], []
    for condition in range(trajectory.sizes["condition"]):
        position = trajectory["position"].values[condition]
        moved = drift(trajectory, condition, host=host)
        squares.append(mean_squared_displacement(position, lags, drift=moved))
        track = position[:, ::stride].astype(float)
        tracks.append(track - track[:, :1] - moved[:, ::stride, None])
    return observed_dataset(
        np.stack(squares),
        lags * interval,
        np.stack(tracks),
        time[::stride] - time[0],
        duration=(frames - 1) * interval,
        source=trajectory,
        host=host,
    )


def observed_dataset(
    msd: np.ndarray,
    lag: np.ndarray,
    track: np.ndarray,
    time: np.ndarray,
    *,
    duration: float,
    source: xr.Dataset,
    host: Sequence[str],
) -> xr.Dataset:
    """Put what was observed into the Dataset that `observe` describes.

    Parameters
    ----------
    msd : numpy.ndarray
        Mean squared displacement (m2), (condition, replica, atom, lag).
    lag : numpy.ndarray
        Lags (s).
    track : numpy.ndarray
        Positions in the frame of `host` (m), (condition, replica, frame, atom, xyz).
    time : numpy.ndarray
        Times of the track (s).
    duration : float
        Length of the run (s).
    source : xarray.Dataset
        Holds ``temperature``, ``cell``, ``symbol`` and ``potential_name`` as a TRAJECTORY does.
    host : sequence of str
        Species at rest; empty for the centre of mass of all.
    """
    dims = ("condition", "replica")
    out = xr.Dataset(
        {
            "temperature": ("condition", source["temperature"].values, {"units": "K"}),
            "mean_squared_displacement": ((*dims, "atom", "lag"), msd, {"units": "m2"}),
            "track": ((*dims, "frame", "atom", "xyz"), track, {"units": "m"}),
            "time": ("frame", time, {"units": "s"}),
            "duration": ((), duration, {"units": "s"}),
            "cell": ((*dims, "xyz", "partner"), source["cell"].values, {"units": "m"}),
            "symbol": ("atom", source["symbol"].values),
            "potential_name": ("replica", source["potential_name"].values),
        },
        coords={"lag": ("lag", lag, {"units": "s"})},
    )
    out.attrs = {"frame": "lab" if len(host) else "mass", "host": " ".join(sorted(host))}
    return out


@dataclass(frozen=True)
class Walk:
    """What was seen of one kind of particle in one state.

    Parameters
    ----------
    lag : numpy.ndarray
        Lags (s), (lag,).
    msd : numpy.ndarray
        Mean squared displacement of each particle (m2), (replica, atom, lag).
    track : numpy.ndarray
        Thinned positions (m), (replica, frame, atom, xyz).
    track_interval : float
        Time between the frames of the track (s).
    duration : float
        Length of the run (s).
    """

    lag: np.ndarray
    msd: np.ndarray
    track: np.ndarray
    track_interval: float
    duration: float


def walk(observed: xr.Dataset, condition: int, name: str) -> Walk:
    """Return what was seen of one species in one condition."""
    chosen = observed["symbol"].values.astype(str) == name
    return Walk(
        lag=observed["lag"].values,
        msd=observed["mean_squared_displacement"].values[condition][:, chosen],
        track=observed["track"].values[condition][:, :, chosen],
        track_interval=float(np.diff(observed["time"].values).mean()),
        duration=float(observed["duration"]),
    )
