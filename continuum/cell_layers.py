r"""A cell's layers on few points each: mixed finite elements of high order for PyBaMM.

PyBaMM's finite volumes are of second order in the width of a mesh cell. Here a concentration is a
polynomial of degree :math:`n - 1` in each layer, by its values at Gauss's points :math:`x_i` of
weights :math:`W_i`, and its flux :math:`N` one of degree :math:`n` that runs on from layer to
layer, by its values at Lobatto's points, the layer's ends among them. With :math:`a` for the
effective diffusivity,

.. math::
    \langle \epsilon \dot c + \partial_x N - S, v \rangle = 0, \qquad
    \langle N / a, w \rangle = \langle c, \partial_x w \rangle

for all :math:`v` like the concentration and all :math:`w` like the flux. The means are sums over
Gauss's points, and over Lobatto's for :math:`N / a`, so that each flux follows at once,

.. math::
    N_k = \frac{a_k}{\omega_k} \sum_i W_i\, w_k'(x_i)\, c_i, \qquad
    \frac{\omega_k}{a_k} = \frac{\omega_k^-}{a_k^-} + \frac{\omega_k^+}{a_k^+}

with :math:`w_k` the polynomial that is 1 at point :math:`k` and 0 at all others, and
:math:`\omega_k` its weight, to which both sides add where layers meet. What a layer loses the next
one gets, to rounding. Means of products are Gauss's too: of polynomials up to degree
:math:`2n - 1` they are exact.

References
----------
Raviart and Thomas, A mixed finite element method for 2-nd order elliptic problems, Lecture Notes in
Mathematics 606, 292 (1977), https://doi.org/10.1007/BFb0064470
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.polynomial.legendre import Legendre, leggauss, legvander

from continuum.cell_mesh import pybamm

LAYERS = ("negative electrode", "separator", "positive electrode")


class GaussSubMesh(pybamm.SubMesh1D):
    """Gauss's points of a layer as nodes, Lobatto's as edges, and Gauss's weights for means.

    Parameters
    ----------
    lims, npts : dict
        As for ``pybamm.Uniform1DSubMesh``; the number of Gauss's points is given.
    """

    def __init__(self, lims: Any, npts: Any) -> None:
        variable, limits, tabs = self.read_lims(lims)
        start, end = limits["min"], limits["max"]
        nodes, weights = leggauss(npts[variable.name])
        edges, self.edge_weights = lobatto(npts[variable.name])
        super().__init__(start + (end - start) * (edges + 1) / 2, variable.coord_sys, tabs)
        self.edges[-1] = end  # to the last digit, as the next layer's first
        self.edge_weights *= (end - start) / 2
        _put(self, start + (end - start) * (nodes + 1) / 2, weights * (end - start) / 2)


class MixedElements(pybamm.FiniteVolume):
    """Gradients, divergences and means on `GaussSubMesh`, and finite volumes on any other mesh.

    Cartesian coordinates and boundary conditions of Neumann's kind, as PyBaMM has them for the
    salt. For a model's ``default_spatial_methods``, or ``spatial_methods`` of a simulation.

    Parameters
    ----------
    options : dict, optional
        As for ``pybamm.FiniteVolume``.

    Raises
    ------
    ValueError
        If some of the layers are on `GaussSubMesh` and others are not.
    NotImplementedError
        For the gradient of what has a Dirichlet condition.
    """

    def build(self, mesh: pybamm.Mesh) -> None:
        """Take a mesh; where layers are joined, the points are put back in their places."""
        super().build(mesh)
        self._operators: dict[tuple[str, ...], _Operators] = {}
        there = [name for name in LAYERS if (name,) in mesh]
        ours = [name for name in there if isinstance(mesh[name], GaussSubMesh)]
        if 0 < len(ours) < len(there):
            raise ValueError(
                f"GaussSubMesh is given for {', '.join(ours)} only; expected for all of "
                f"{', '.join(there)} or for none: lay all of layer_submeshes() over the others."
            )
        for first, last in combinations(range(len(ours) + 1), 2):
            names = tuple(ours[first:last])
            parts = [mesh[name] for name in names]
            if len(parts) > 1:
                nodes = np.concatenate([part.nodes for part in parts])
                _put(mesh[names], nodes, np.concatenate([part.d_edges for part in parts]))
            self._operators[names] = _operators(parts)

    def gradient(
        self, symbol: pybamm.Symbol, discretised_symbol: pybamm.Symbol, boundary_conditions: Any
    ) -> pybamm.Symbol:
        """Slopes at the edges, given ones at the first and the last."""
        kinds = [kind for _, kind in boundary_conditions.get(symbol, {}).values()]
        if tuple(symbol.domain) in self._operators and "Dirichlet" in kinds:
            raise NotImplementedError(
                f"MixedElements takes Neumann conditions, and {symbol.name!r} has a Dirichlet one: "
                "use pybamm.FiniteVolume and one of its meshes."
            )
        return super().gradient(symbol, discretised_symbol, boundary_conditions)

    def gradient_matrix(self, domain: list[str], domains: dict[str, list[str]]) -> pybamm.Symbol:
        """From values at the nodes to slopes at the edges, but the first and the last."""
        own = self._operators.get(tuple(domain))
        if own is None:
            return super().gradient_matrix(domain, domains)
        return self._repeated(own.gradient, domains)

    def divergence_matrix(self, domains: dict[str, list[str]]) -> pybamm.Symbol:
        """From fluxes at the edges to their divergence at the nodes."""
        own = self._operators.get(tuple(domains["primary"]))
        if own is None:
            return super().divergence_matrix(domains)
        return self._repeated(own.divergence, domains)

    def shift(self, discretised_symbol: pybamm.Symbol, shift_key: str, method: str) -> Any:
        """Interpolate between nodes and edges; where layers meet, the mean of both sides."""
        own = self._operators.get(tuple(discretised_symbol.domain))
        if own is None:
            return super().shift(discretised_symbol, shift_key, method)

        def matrix(array: np.ndarray) -> pybamm.Symbol:
            return self._repeated(array, discretised_symbol.domains) @ discretised_symbol

        if shift_key == "edge to node":
            return matrix(own.to_nodes)
        if method == "arithmetic":
            return matrix((own.from_left + own.from_right) / 2)
        repeats = self._get_auxiliary_domain_repeats(discretised_symbol.domains)
        left = pybamm.Vector(np.tile(own.left_share, repeats))
        right = pybamm.Vector(np.tile(1 - own.left_share, repeats))
        return 1 / (left / matrix(own.from_left) + right / matrix(own.from_right))

    def boundary_value_or_flux(
        self, symbol: pybamm.Symbol, discretised_child: pybamm.Symbol, bcs: Any = None
    ) -> pybamm.Symbol:
        """The value at an end is that of the layer's polynomial."""
        own = self._operators.get(tuple(discretised_child.domain))
        if own is None or not isinstance(symbol, pybamm.BoundaryValue):
            return super().boundary_value_or_flux(symbol, discretised_child, bcs)
        end = own.from_right[:1] if symbol.side == "left" else own.from_left[-1:]
        value = self._repeated(end, discretised_child.domains) @ discretised_child
        return value.with_domains(symbol)

    def _repeated(self, matrix: np.ndarray, domains: dict[str, list[str]]) -> pybamm.Matrix:
        repeats = self._get_auxiliary_domain_repeats(domains)
        return pybamm.Matrix(self._block_diagonal(matrix, repeats))


def layer_submeshes() -> dict[str, pybamm.MeshGenerator]:
    """`GaussSubMesh` for the electrodes and the separator, by PyBaMM's names of their domains.

    Returns
    -------
    dict of pybamm.MeshGenerator
        To be laid over a model's ``default_submesh_types``.
    """
    return {layer: pybamm.MeshGenerator(GaussSubMesh) for layer in LAYERS}


def lobatto(degree: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Points and weights of Lobatto's rule, exact for polynomials of degree :math:`2n - 1`.

    Parameters
    ----------
    degree : int
        :math:`n`, one less than the number of points (1).

    Returns
    -------
    points, weights : numpy.ndarray
        From -1 to 1, rising, both included; the weights add up to 2.
    """
    highest = Legendre.basis(degree)
    inner = np.sort(highest.deriv().roots().real)
    points = np.concatenate([[-1.0], inner, [1.0]])
    return points, 2 / (degree * (degree + 1) * highest(points) ** 2)


def lagrange(points: np.ndarray, places: np.ndarray, *, slope: bool = False) -> np.ndarray:
    """Matrix from values at points to the values, or slopes, of their polynomial at other places.

    Parameters
    ----------
    points, places : numpy.ndarray
        Between -1 and 1.
    slope : bool
        Whether slopes are asked for.
    """
    bases = [Legendre.basis(k) for k in range(len(points))]
    at = np.stack([(base.deriv() if slope else base)(places) for base in bases])
    return np.linalg.solve(legvander(points, len(points) - 1).T, at).T


@dataclass(frozen=True)
class _Operators:
    """Matrices between the nodes and the edges of one layer or of several in a row."""

    gradient: np.ndarray
    divergence: np.ndarray
    from_left: np.ndarray  # values at the edges, of the layer to the left where layers meet
    from_right: np.ndarray
    to_nodes: np.ndarray
    left_share: np.ndarray  # of the weight of an edge; within a layer both sides are the same


def _put(mesh: pybamm.SubMesh1D, nodes: np.ndarray, weights: np.ndarray) -> None:
    mesh.nodes, mesh.d_edges, mesh.d_nodes = nodes, weights, np.diff(nodes)


def _operators(parts: Sequence[GaussSubMesh]) -> _Operators:
    count = sum(part.npts for part in parts)
    divergence, to_nodes = np.zeros((count, count + 1)), np.zeros((count, count + 1))
    from_left, from_right = np.zeros((count + 1, count)), np.zeros((count + 1, count))
    weights, left = np.zeros(count + 1), np.zeros(count + 1)  # of the edges, and the left layer's
    first = 0
    for part in parts:
        last, length = first + part.npts, part.edges[-1] - part.edges[0]
        inside, edges = slice(first, last), slice(first, last + 1)
        gauss, ends = leggauss(part.npts)[0], lobatto(part.npts)[0]
        divergence[inside, edges] = lagrange(ends, gauss, slope=True) * 2 / length
        to_nodes[inside, edges] = lagrange(ends, gauss)
        at_edges = lagrange(gauss, ends)
        from_right[first:last, inside] = at_edges[:-1]
        from_left[first + 1 : last + 1, inside] = at_edges[1:]
        weights[edges] += part.edge_weights
        left[first + 1 : last + 1] = part.edge_weights[1:]
        first = last
    from_left[0], from_right[-1] = from_right[0], from_left[-1]
    by_node = np.concatenate([part.d_edges for part in parts])
    gradient = -(divergence.T * by_node)[1:-1] / weights[1:-1, None]
    return _Operators(gradient, divergence, from_left, from_right, to_nodes, left / weights)
