"""The particles' mesh inside PyBaMM, against the closed form of a sphere."""

from __future__ import annotations

import numpy as np
import pytest

from continuum.cell import pybamm
from couplers.residual.meshes import ParticleSubMesh
from couplers.residual.parameters import particle_memories

SHELLS = 24


@pytest.fixture(scope="module")
def way() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, and surface less mean stoichiometry over its steady value: solved and exact."""
    values = pybamm.ParameterValues("Marquis2019")
    values["Current function [A]"] = 0.3
    values["Negative particle radius [m]"] = 1e-5
    values["Negative particle diffusivity [m2.s-1]"] = 5e-13
    submesh = pybamm.MeshGenerator(ParticleSubMesh)
    found = pybamm.Simulation(
        pybamm.lithium_ion.SPM(),
        parameter_values=values,
        var_pts={"x_n": 3, "x_s": 3, "x_p": 3, "r_n": SHELLS, "r_p": SHELLS},
        submesh_types={
            **pybamm.lithium_ion.SPM().default_submesh_types,
            "negative particle": submesh,
            "positive particle": submesh,
        },
        solver=pybamm.IDAKLUSolver(rtol=1e-10, atol=1e-12),
    ).solve([0, 400], t_interp=np.concatenate([np.geomspace(0.1, 100, 40), [400]]))
    flux = found["X-averaged negative electrode interfacial current density [A.m-2]"].entries
    largest = values["Maximum concentration in negative electrode [mol.m-3]"]
    steady = flux[-1] * 1e-5 / (5 * 5e-13 * pybamm.constants.F.value * largest)
    gap = (
        found["Negative electrode stoichiometry"].entries
        - found["X-averaged negative particle surface stoichiometry"].entries
    )
    time = found.t
    rates, weights = particle_memories(1e-5, 5e-13)
    exact = 1 - 5 * np.exp(-np.outer(time, rates)) @ weights
    return time, gap / steady, exact


def test_steady_discharge_is_exact(way: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Mean less surface is j R / (5 F D), whatever the number of shells."""
    time, solved, _ = way
    assert solved[time == 400] == pytest.approx(1.0, abs=2e-6)


def test_step_of_current_is_followed(way: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """From a thousandth of the diffusion time on, to a thousandth of the steady value."""
    time, solved, exact = way
    later = time > 0.2
    np.testing.assert_allclose(solved[later], exact[later], atol=1.2e-3)
