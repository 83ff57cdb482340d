"""PyBaMM without telemetry, and the mesh of its electrodes."""

from __future__ import annotations

import os

# read when pybamm is first imported; every use of pybamm in this project comes through here
os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
import pybamm

pybamm.telemetry.disable()

STRETCH = 2.0  # logarithm of the ratio of the largest to the smallest volume


def electrode_submeshes() -> dict[str, pybamm.MeshGenerator]:
    """Electrodes drawn together towards the separator, by PyBaMM's names of their domains.

    Returns
    -------
    dict of pybamm.MeshGenerator
        To be laid over a model's ``default_submesh_types``.
    """
    return {
        domain: pybamm.MeshGenerator(
            pybamm.Exponential1DSubMesh, {"side": side, "stretch": STRETCH}
        )
        for domain, side in (("negative electrode", "right"), ("positive electrode", "left"))
    }
