r"""Spherical particles as few shells whose surface answers a flux as a sphere's does.

Of all the concentrations in a particle a cell sees the one at the surface. How that answers a flux
is known: `particle_memories` are the poles and residues of the answer, `ladder` the shells that
have the same ones. `LadderSubMesh` is the mesh of these shells in PyBaMM, and `on_ladder` puts the
particles of one of PyBaMM's models on it, whether their diffusivity is constant or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import brentq, nnls

from continuum.cell_mesh import pybamm

SHORTEST_TIME = 0.02  # s, what the particles' memories still resolve
EXACT_MODES, PER_DECADE = 6, 4  # numbers of their rates
SHELLS_FROM = 2e-5  # of radius squared over diffusivity, the same of the shells in PyBaMM
POINTLIKE = 1e-9  # of the radius, see `LadderSubMesh`


def particle_memories(
    radius: float,
    diffusivity: float,
    *,
    shortest_time: float = SHORTEST_TIME,
    per_decade: int = PER_DECADE,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Rates and weights of the low-pass memories that make up a spherical particle.

    .. math::
        c_\mathrm{surf} = \bar c - \frac{R}{F D} \sum_k w_k m_k, \qquad
        \dot m_k = r_k (j - m_k), \qquad \sum_k w_k = \tfrac15

    The first six are the sphere's own modes, :math:`r_k = \lambda_k^2 D / R^2`,
    :math:`w_k = 2 / \lambda_k^2` with :math:`\tan\lambda_k = \lambda_k`; the infinite rest is
    stood for by rates evenly spread on a logarithmic axis, with weights that fit its response to a
    step from `shortest_time` on.

    Parameters
    ----------
    radius : float
        Radius (m).
    diffusivity : float
        Diffusivity in the solid (m2 s-1).
    shortest_time : float
        Time (s) from which the step response is kept.
    per_decade : int
        Number of the others (1) in a decade of rates.

    Returns
    -------
    rates, weights : numpy.ndarray
        Rates (s-1), rising, and weights (1).

    References
    ----------
    Crank, The Mathematics of Diffusion, 2nd ed. (1975), equation 6.46
    """
    count = 4000
    roots = np.array(
        [
            brentq(lambda x: np.sin(x) - x * np.cos(x), k * np.pi + 1e-9, (k + 0.5) * np.pi)
            for k in range(1, EXACT_MODES + 1)
        ]
    )
    half = (np.arange(EXACT_MODES + 1, count) + 0.5) * np.pi
    others = half - 1 / half - 2 / (3 * half**3)
    weights = 2 / others**2
    # what lies beyond is quicker than anything asked for
    beyond = 0.2 - (2 / roots**2).sum() - weights.sum()
    shortest = shortest_time * diffusivity / radius**2
    times = np.geomspace(shortest, 3 / others[0] ** 2, 160)
    if times[0] >= times[-1]:
        lumped, shares = np.array([others[0] ** 2]), np.array([weights.sum() + beyond])
    else:
        rest = np.exp(-np.outer(times, others**2)) @ weights
        count = max(3, round(per_decade * np.log10(times[-1] / times[0])))
        lumped = np.geomspace(others[0] ** 2, 2 / shortest, count)
        matrix = np.exp(-np.outer(times, lumped))
        total = np.full((1, lumped.size), 30.0)
        shares, _ = nnls(
            np.vstack([matrix, total]),
            np.concatenate([rest, 30.0 * np.array([weights.sum() + beyond])]),
        )
        lumped, shares = lumped[shares > 0], shares[shares > 0]
        shares *= (weights.sum() + beyond) / shares.sum()
    rates = np.concatenate([roots**2, lumped]) * diffusivity / radius**2
    return rates, np.concatenate([2 / roots**2, shares])


def ladder(rates: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Shells whose surface answers a flux as a sphere with these memories does.

    For unit radius and diffusivity the Laplace transform of the surface's answer is

    .. math::
        \frac{x_N(p)}{-j(p)} = \frac3p + \sum_k \frac{r_k w_k}{p + r_k}
        = \frac{1}{p V_N + \dfrac{1}{1 / G_{N-1} + \dfrac{1}{p V_{N-1} + \dots}}}

    The volumes :math:`V` and conductances :math:`G` of the continued fraction follow from the
    three-term recurrence of the polynomials that are orthogonal on the poles with the residues as
    weights: finite differences on what is known as an optimal grid.

    Parameters
    ----------
    rates, weights : numpy.ndarray
        Rates, relative to diffusivity over radius squared (1), and weights (1), as of
        `particle_memories`.

    Returns
    -------
    volumes, conductances : numpy.ndarray
        From the centre outwards, relative to surface times radius (1) and to surface times
        diffusivity over radius (1); the volumes add up to 1/3.

    References
    ----------
    Druskin and Knizhnerman, Gaussian spectral rules for the three-point second differences: I,
    SIAM J. Numer. Anal. 37, 403 (1999)
    """
    poles = np.concatenate([[0.0], rates]).astype(np.longdouble)
    residues = np.concatenate([[3.0], weights * poles[1:]]).astype(np.longdouble)
    vectors = [np.sqrt(residues / residues.sum())]
    diagonal, beside = [], []
    for _ in poles:
        image = poles * vectors[-1]
        diagonal.append((image * vectors[-1]).sum())
        for _ in range(2):  # twice is enough to keep them orthogonal
            for vector in vectors:
                image = image - (vector * image).sum() * vector
        beside.append(np.sqrt((image * image).sum()))
        vectors.append(image / beside[-1])
    volumes, conductances = [1 / residues.sum()], [np.longdouble(0.0)]
    for a, b in zip(diagonal[:-1], beside[:-1], strict=True):
        conductances.append(a * volumes[-1] - conductances[-1])
        volumes.append(conductances[-1] ** 2 / (b * b * volumes[-1]))
    return np.array(volumes[::-1], dtype=float), np.array(conductances[:0:-1], dtype=float)


_VOLUMES, _CONDUCTANCES = ladder(*particle_memories(1.0, 1.0, shortest_time=SHELLS_FROM))
SHELLS = len(_VOLUMES)
_EDGES = np.append(np.cbrt(np.append(0.0, 3 * np.cumsum(_VOLUMES[:-1]))), 1.0)
_NODES = 1 - np.append(np.cumsum((_EDGES[1:-1] ** 2 / _CONDUCTANCES)[::-1])[::-1], 0.0)


class LadderSubMesh(pybamm.Exponential1DSubMesh):
    r"""The shells of `ladder` as finite volumes: as many as there are, whatever is asked for.

    The edges hold the volumes, and the distances between the nodes make up the conductances,

    .. math::
        r_k = R \Bigl(3 \sum_{i \le k} V_i\Bigr)^{1/3}, \qquad
        \delta_k = \frac{r_k^2}{G_k R}

    The last node is at the surface, so that PyBaMM's surface concentration is the last shell's.
    Neither edges nor nodes are places in a sphere: only the surface and the mean are a sphere's.
    The shells' widths serve PyBaMM as weights of means over neighbours, and to extrapolate from
    the last node: as equal and nearly nothing they count neighbours alike, and the last node as
    the surface.

    Parameters
    ----------
    lims, npts : dict
        As for ``pybamm.Exponential1DSubMesh``.
    """

    def __init__(self, lims: Any, npts: Any) -> None:
        super().__init__(lims, dict.fromkeys(npts, SHELLS), side="right")
        radius = self.read_lims(lims)[1]["max"]
        self.edges, self.nodes = radius * _EDGES, radius * _NODES
        self.d_nodes = np.diff(self.nodes)
        self.d_edges = np.full(SHELLS, POINTLIKE * radius)


def ladder_submeshes() -> dict[str, pybamm.MeshGenerator]:
    """`LadderSubMesh` for the particles of both electrodes, by PyBaMM's names of their domains.

    Returns
    -------
    dict of pybamm.MeshGenerator
        To be laid over a model's ``default_submesh_types``.
    """
    own = pybamm.MeshGenerator(LadderSubMesh)
    return {"negative particle": own, "positive particle": own}


def diffused(
    concentration: pybamm.Symbol, particle: Any, temperature: pybamm.Symbol
) -> pybamm.Symbol:
    r"""Rate of change (mol m-3 s-1) of the concentration in the shells of a `LadderSubMesh`.

    .. math::
        \nabla \cdot (\bar D \nabla c), \qquad
        \bar D = \tfrac16 \bigl(D(c_k) + 4 D(\tfrac{c_k + c_{k+1}}2) + D(c_{k+1})\bigr)

    A steady flux from one shell to the next sees the mean of :math:`D` over the concentrations
    between them. That is Simpson's rule; PyBaMM's harmonic mean of :math:`D(c_k)` and
    :math:`D(c_{k+1})` asks for several times the shells where :math:`D` varies much. Where it does
    not, this is what PyBaMM has.

    Parameters
    ----------
    concentration : pybamm.Symbol
        Concentration (mol m-3) in a particle, with a gradient (mol m-4) at its surface.
    particle : pybamm.ParticleLithiumIonParameters
        PyBaMM's parameters of the particle.
    temperature : pybamm.Symbol
        Temperature (K), without the particle's dim.

    Returns
    -------
    pybamm.Symbol
        The rate of change.
    """
    domain = concentration.domain
    at_edges = pybamm.FullBroadcastToEdges(1, broadcast_domains=concentration.domains)
    inside = particle.D(concentration, pybamm.PrimaryBroadcast(temperature, domain))
    between = particle.D(
        concentration * at_edges, pybamm.PrimaryBroadcastToEdges(temperature, domain)
    )
    return pybamm.div((2 * between + inside * at_edges) / 3 * pybamm.grad(concentration))


def on_ladder(model: pybamm.BaseModel) -> dict[str, pybamm.MeshGenerator]:
    """Let the particles of one of PyBaMM's models diffuse as `diffused` has it.

    Parameters
    ----------
    model : pybamm.BaseModel
        A lithium-ion model with one material in each electrode, and Fickian diffusion in it: SPM,
        SPMe, DFN. Changed in place.

    Returns
    -------
    dict of pybamm.MeshGenerator
        The model's default submeshes with the `ladder_submeshes`, which it is to be solved on.
    """
    kept = {variable.name: variable for variable in model.rhs}
    for side, electrode in (("negative", model.param.n), ("positive", model.param.p)):
        domain = f"{side} particle"
        averaged = f"X-averaged {domain} concentration [mol.m-3]" in kept
        place = f"X-averaged {side}" if averaged else side.capitalize()
        c = kept[f"{place} particle concentration [mol.m-3]"]
        T = model.variables[f"{place} electrode temperature [K]"]
        model.rhs[c] = diffused(c, electrode.prim, T)
    return {**model.default_submesh_types, **ladder_submeshes()}
