"""The meshes of PyBaMM's cells: electrodes graded, particles on which slow diffusion is exact."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

# read when pybamm is first imported; every use of pybamm in this project comes through here
os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
import pybamm

pybamm.telemetry.disable()

ELECTRODE_STRETCH = 2.0
STRETCH = 3.0


class ParticleSubMesh(pybamm.Exponential1DSubMesh):
    r"""Shells that narrow towards the surface, spaced so that parabolas of the radius are exact.

    Under a steady flux the concentration in a sphere runs as :math:`a + b r^2`. Finite volumes hold
    averages over shells, which PyBaMM takes for values at the shells' middles: the surface of 24
    shells is 0.3 % of its distance from the mean off, 1 mV and more where the open-circuit
    potential is steep. Here the distances between shells and of the last from the surface are

    .. math::
        \delta_k = \frac{q_{k+1} - q_k}{2 r_k}, \qquad
        \delta_\mathrm{s} = \delta_{N-1} \frac{R^2 - q_N}{q_N - q_{N-1}}, \qquad
        q_k = \frac35 \frac{r_k^5 - r_{k-1}^5}{r_k^3 - r_{k-1}^3}

    with :math:`q_k` the mean of :math:`r^2` over a shell, so that the fluxes between shells and
    the surface, extrapolated from the last two, are those of the parabola.

    Parameters
    ----------
    lims, npts : dict
        As for ``pybamm.Exponential1DSubMesh``.
    stretch : float
        Logarithm (1) of the ratio of the largest to the smallest shell.
    """

    def __init__(self, lims: Any, npts: Any, stretch: float = STRETCH) -> None:
        super().__init__(lims, npts, side="right", stretch=stretch)
        inner, outer = self.edges[:-1], self.edges[1:]
        mean = 0.6 * (outer**5 - inner**5) / (outer**3 - inner**3)
        self.d_nodes = np.diff(mean) / (2 * outer[:-1])
        way = self.d_nodes[-1] * (outer[-1] ** 2 - mean[-1]) / (mean[-1] - mean[-2])
        from_surface = np.append(np.cumsum(self.d_nodes[::-1])[::-1], 0.0)
        self.nodes = outer[-1] - way - from_surface


def particle_submeshes(*, stretch: float = STRETCH) -> dict[str, pybamm.MeshGenerator]:
    """`ParticleSubMesh` for the particles of both electrodes, by PyBaMM's names of their domains.

    Parameters
    ----------
    stretch : float
        Logarithm (1) of the ratio of the largest to the smallest shell.

    Returns
    -------
    dict of pybamm.MeshGenerator
        To be laid over a model's ``default_submesh_types``.
    """
    own = pybamm.MeshGenerator(ParticleSubMesh, {"stretch": stretch})
    return {"negative particle": own, "positive particle": own}


def cell_submeshes(equations: pybamm.BaseModel) -> dict[str, pybamm.MeshGenerator]:
    """PyBaMM's meshes, electrodes drawn together towards the separator, particles as above.

    Parameters
    ----------
    equations : pybamm.BaseModel
        A lithium-ion model with one material in each electrode.

    Returns
    -------
    dict of pybamm.MeshGenerator
        For the argument ``submesh_types`` of ``pybamm.Simulation``.
    """
    submeshes = {**equations.default_submesh_types, **particle_submeshes()}
    for domain, side in (("negative electrode", "right"), ("positive electrode", "left")):
        submeshes[domain] = pybamm.MeshGenerator(
            pybamm.Exponential1DSubMesh, {"side": side, "stretch": ELECTRODE_STRETCH}
        )
    return submeshes
