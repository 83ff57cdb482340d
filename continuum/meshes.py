"""Nondimensional meshes, graded where a double layer needs it, with named boundaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from continuum.finite_elements import MPI, mesh

FINEST_AT_ONE = 1e-15  # layer over number of cells, of which the first cell is some 500 roundings


@dataclass(frozen=True, eq=False)
class Domain:
    """A mesh and the names of its boundaries.

    Parameters
    ----------
    mesh : dolfinx.mesh.Mesh
        The mesh, in units of the solver's length scale (1).
    facets : dolfinx.mesh.MeshTags
        Tags of the boundary facets.
    boundaries : Mapping
        Tag (1) of each named boundary.
    order : numpy.ndarray, optional
        On a line, which node each vertex of the mesh is, counted from the left (1).
    """

    mesh: Any
    facets: Any
    boundaries: Mapping[str, int]
    order: np.ndarray | None = None


def graded(cells: int, *, left: float | None = None, right: float | None = None) -> np.ndarray:
    r"""Nodes (1) on [0, 1], crowded logarithmically towards one or both ends.

    From an end with layer thickness :math:`a` the nodes lie at
    :math:`x(s) = a\,[(1 + 1/a)^s - 1]`: equally spaced in :math:`\ln(x + a)`, so that every decade
    of distance from the wall gets the same number of cells.

    Parameters
    ----------
    cells : int
        Number of cells (1); even if both ends are graded.
    left, right : float, optional
        Thickness (1, of the whole length) of the layer at each end; equally spaced if not given.

    Raises
    ------
    ValueError
        Lists every fault: fewer than two cells, an odd number between two layers, a layer
        thickness that is not positive.
    """
    faults = []
    if cells < 2:
        faults.append(f"{cells} cells were asked for, but at least 2 are needed")
    if left is not None and right is not None and cells % 2:
        faults.append(f"{cells} cells cannot be shared by two graded ends; give an even number")
    for label, layer in (("left", left), ("right", right)):
        if layer is not None and not (np.isfinite(layer) and layer > 0):
            faults.append(f"the {label} layer is {layer} thick, but must be positive and finite")
    if faults:
        raise ValueError("Graded interval: " + "; ".join(faults) + ".")

    # near 1, unlike near 0, numbers are too coarse for a thinner layer's nodes to differ
    right = None if right is None else max(right, FINEST_AT_ONE * cells)

    def crowd(s: np.ndarray, layer: float) -> np.ndarray:
        return layer * np.expm1(s * np.log1p(1.0 / layer))

    uniform = np.linspace(0.0, 1.0, cells + 1)
    if left is None:
        nodes = uniform if right is None else 1.0 - crowd(uniform, right)[::-1]
    elif right is None:
        nodes = crowd(uniform, left)
    else:
        half = np.linspace(0.0, 1.0, cells // 2 + 1)
        nodes = np.concatenate(
            [0.5 * crowd(half, 2 * left), 1.0 - 0.5 * crowd(half, 2 * right)[-2::-1]]
        )
    nodes[0], nodes[-1] = 0.0, 1.0
    return nodes


def interval(nodes: np.ndarray, *, comm: Any = MPI.COMM_SELF) -> Domain:
    """Mesh a line through the given nodes (1); its boundaries are ``left`` and ``right``.

    Parameters
    ----------
    nodes : numpy.ndarray
        Positions (1) of the nodes, increasing.
    comm : mpi4py.MPI.Comm
        Processes that share the mesh.

    Raises
    ------
    ValueError
        If the nodes do not increase, which happens when a layer is thinner than rounding.
    """
    if len(nodes) < 2 or not np.all(np.diff(nodes) > 0):
        raise ValueError(
            "The nodes of an interval must increase strictly; the layer is too thin for the "
            "number of cells, or the nodes are not sorted."
        )
    cells = len(nodes) - 1
    line = mesh.create_interval(comm, cells, [0.0, 1.0])
    line.topology.create_connectivity(0, 1)
    ends = mesh.exterior_facet_indices(line.topology)
    # sides are told apart on the uniform mesh, where no layer can blur them
    middle = mesh.compute_midpoints(line, 0, ends)[:, 0]
    tags = np.where(middle < 0.5, 1, 2).astype(np.int32)
    order = np.argsort(ends)
    facets = mesh.meshtags(line, 0, ends[order], tags[order])
    domain = Domain(
        line,
        facets,
        MappingProxyType({"left": 1, "right": 2}),
        np.rint(line.geometry.x[:, 0] * cells).astype(int),
    )
    move(domain, nodes)
    return domain


def move(domain: Domain, nodes: np.ndarray) -> None:
    """Put the vertices of a line at other nodes (1); compiled forms on it stay valid."""
    domain.mesh.geometry.x[:, 0] = nodes[domain.order]


@lru_cache(maxsize=8)
def line(cells: int) -> Domain:
    """A line that solvers share and `move` before each solve; of this process alone."""
    return interval(np.linspace(0.0, 1.0, cells + 1))


def block(axes: Sequence[np.ndarray], *, comm: Any = MPI.COMM_WORLD) -> Domain:
    """Mesh a rectangle or a box of triangles or tetrahedra through given planes (1).

    Parameters
    ----------
    axes : sequence of numpy.ndarray
        Positions (1) of the planes along each of two or three axes, increasing. The boundaries
        are ``left`` and ``right`` along the first axis, ``bottom`` and ``top`` along the second,
        ``front`` and ``back`` along the third.
    comm : mpi4py.MPI.Comm
        Processes that share the mesh.

    Raises
    ------
    ValueError
        If there are not two or three axes, or one does not increase.
    """
    axes = [np.asarray(nodes, dtype=float) for nodes in axes]
    if len(axes) not in (2, 3) or any(len(a) < 2 or np.any(np.diff(a) <= 0) for a in axes):
        raise ValueError(
            f"A block needs two or three axes of increasing nodes, but {len(axes)} were given, "
            "or one of them does not increase."
        )
    cells = [len(nodes) - 1 for nodes in axes]
    grid = (
        mesh.create_unit_square(comm, *cells)
        if len(axes) == 2
        else mesh.create_unit_cube(comm, *cells)
    )
    dim = len(axes)
    grid.topology.create_connectivity(dim - 1, dim)
    outer = mesh.exterior_facet_indices(grid.topology)
    middle = mesh.compute_midpoints(grid, dim - 1, outer)
    tags = np.zeros(len(outer), dtype=np.int32)
    names = ("left", "right", "bottom", "top", "front", "back")[: 2 * dim]
    for axis in range(dim):
        # told apart on the uniform mesh, where no layer can blur the sides
        near = 0.25 / cells[axis]
        tags[middle[:, axis] < near] = 2 * axis + 1
        tags[middle[:, axis] > 1 - near] = 2 * axis + 2
    order = np.argsort(outer)
    facets = mesh.meshtags(grid, dim - 1, outer[order], tags[order])
    for axis, nodes in enumerate(axes):
        index = np.rint(grid.geometry.x[:, axis] * cells[axis]).astype(int)
        grid.geometry.x[:, axis] = nodes[index]
    return Domain(grid, facets, MappingProxyType({n: k + 1 for k, n in enumerate(names)}))


def read_gmsh(path: str, *, comm: Any = MPI.COMM_WORLD) -> Domain:
    """Read a gmsh file (.msh) whose named physical groups of facets are the boundaries.

    Parameters
    ----------
    path : str
        The file; its mesh is in units of the ``length`` that the solver is given.
    comm : mpi4py.MPI.Comm
        Processes that share the mesh.

    Raises
    ------
    ImportError
        If gmsh is not installed.
    ValueError
        If the file names no boundaries.
    """
    try:
        import dolfinx.io.gmsh

        read: Any = dolfinx.io.gmsh.read_from_msh
        import gmsh  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Reading {path!r} needs gmsh, which did not import ({error}); install gmsh."
        ) from error
    data = read(path, comm)
    dim = data.mesh.topology.dim
    named = {n: g.tag for n, g in data.physical_groups.items() if g.dim == dim - 1}
    if not named or data.facet_tags is None:
        raise ValueError(f"{path!r} names no boundaries; give physical groups to its facets.")
    return Domain(data.mesh, data.facet_tags, MappingProxyType(named))


def height(domain: Domain, tag: int) -> float:
    """Height (1) of the tallest cell that stands on a boundary, over all processes."""
    grid = domain.mesh
    dim, x = grid.topology.dim, grid.geometry.x
    tallest = 0.0
    grid.topology.create_connectivity(dim - 1, dim)
    grid.topology.create_connectivity(dim - 1, 0)
    to_cell = grid.topology.connectivity(dim - 1, dim)
    for facet in domain.facets.find(tag):
        corner = x[mesh.entities_to_geometry(grid, dim - 1, np.array([facet], dtype=np.int32))[0]]
        cell = x[grid.geometry.dofmaps[0][to_cell.links(facet)[0]]]
        if dim == 1:
            normal = np.array([1.0, 0.0, 0.0])
        elif dim == 2:
            normal = np.cross(corner[1] - corner[0], [0.0, 0.0, 1.0])
        else:
            normal = np.cross(corner[1] - corner[0], corner[2] - corner[0])
        away = (cell - corner[0]) @ normal / np.linalg.norm(normal)
        tallest = max(tallest, float(np.abs(away).max()))
    return float(grid.comm.allreduce(tallest, op=MPI.MAX))
