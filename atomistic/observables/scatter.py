"""Errors from pieces of runs: how to cut them, and what their scatter says about a mean."""

from __future__ import annotations

import numpy as np
import xarray as xr


def pieces(trajectory: xr.Dataset, blocks: int, frames: int) -> list[tuple[int, np.ndarray]]:
    """Cut evenly spaced frames of every replica into blocks: (replica, frames of the block).

    Parameters
    ----------
    trajectory : xarray.Dataset
        A TRAJECTORY.
    blocks : int
        Blocks of each replica.
    frames : int
        Most frames used of each replica.
    """
    count = trajectory.sizes["frame"]
    chosen = np.unique(np.linspace(0, count - 1, min(frames, count)).astype(int))
    return [
        (replica, part)
        for replica in range(trajectory.sizes["replica"])
        for part in np.array_split(chosen, blocks)
        if len(part)
    ]


def standard_error(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the standard error of the mean along an axis; nan from one value."""
    count = values.shape[axis]
    if count < 2:
        return np.full(np.delete(values.shape, axis), np.nan)
    return np.asarray(values.std(axis, ddof=1) / np.sqrt(count))


def jackknife_error(others: np.ndarray) -> np.ndarray:
    r"""Return the standard error of an estimate from those made with one piece left out each.

    .. math:: s^2 = \frac{n - 1}{n} \sum_i (x_{(i)} - \bar x)^2

    Parameters
    ----------
    others : numpy.ndarray
        The estimates, (piece, ...); from one piece the error is nan.
    """
    count = len(others)
    if count < 2:
        return np.full(others.shape[1:], np.nan)
    return np.asarray(np.sqrt((count - 1) / count * np.square(others - others.mean(0)).sum(0)))
