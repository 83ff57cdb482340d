"""FIELD Datasets from finite-element functions, gathered from all processes."""

from __future__ import annotations

from typing import Any

import numpy as np


def points(space: Any) -> np.ndarray:
    """Positions (1, in units of the mesh; point, xyz) of the nodes that this process owns."""
    owned = space.dofmap.index_map.size_local
    return space.tabulate_dof_coordinates()[:owned]


def gather(comm: Any, position: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Put the points of all processes in order of position, and their values with them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The processes that share the mesh.
    position : numpy.ndarray
        Positions (point, xyz) that this process owns.
    values : numpy.ndarray
        Arrays whose last dim is the point.

    Returns
    -------
    list of numpy.ndarray
        Positions, then values, the same on every process.
    """
    if comm.size > 1:
        position = np.concatenate(comm.allgather(position), axis=0)
        values = tuple(np.concatenate(comm.allgather(v), axis=-1) for v in values)
    # rounding must not decide the order of points on one plane
    span = np.ptp(position, axis=0).max() or 1.0
    key = np.rint(position / span * 1e12)
    order = np.lexsort(key.T[::-1]) if np.ptp(position[:, 1:]) else np.argsort(position[:, 0])
    return [position[order], *(v[..., order] for v in values)]
