"""The meshes of PyBaMM's cells, against the closed form of a sphere and finer meshes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from continuum.cell import MESH_POINTS, discharge, impedance, pybamm
from continuum.cell_mesh import cell_submeshes, particle_submeshes

SHELLS = 24


def exact_step(scaled_time: np.ndarray) -> np.ndarray:
    """Mean less surface over its steady value, after a step of flux: 1 - 10 sum exp(-l^2 t)/l^2."""
    roots = np.array(
        [
            brentq(lambda x: x * np.cos(x) - np.sin(x), k * np.pi, (k + 0.5) * np.pi)
            for k in range(1, 400)
        ]
    )
    return 1 - 10 * np.exp(-np.outer(scaled_time, roots**2)) @ roots**-2


@pytest.fixture(scope="module")
def way() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, and surface less mean stoichiometry over its steady value: solved and exact."""
    values = pybamm.ParameterValues("Marquis2019")
    values["Current function [A]"] = 0.3
    values["Negative particle radius [m]"] = 1e-5
    values["Negative particle diffusivity [m2.s-1]"] = 5e-13
    found = pybamm.Simulation(
        pybamm.lithium_ion.SPM(),
        parameter_values=values,
        var_pts={"x_n": 3, "x_s": 3, "x_p": 3, "r_n": SHELLS, "r_p": SHELLS},
        submesh_types={**pybamm.lithium_ion.SPM().default_submesh_types, **particle_submeshes()},
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
    return time, gap / steady, exact_step(time * 5e-13 / 1e-5**2)


def test_steady_discharge_is_exact(way: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Mean less surface is j R / (5 F D), whatever the number of shells."""
    time, solved, _ = way
    assert solved[time == 400] == pytest.approx(1.0, abs=2e-6)


def test_step_of_current_is_followed(way: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """From a thousandth of the diffusion time on, to a thousandth of the steady value."""
    time, solved, exact = way
    later = time > 0.2
    np.testing.assert_allclose(solved[later], exact[later], atol=1.2e-3)


@pytest.mark.parametrize("name", ["Chen2020", "Marquis2019"])
def test_few_shells_discharge_as_many_of_pybamms_do(name: str) -> None:
    """1C with ten shells beside ten of PyBaMM's, both held against 200 of PyBaMM's own."""
    values = pybamm.ParameterValues(name)
    ours = discharge(values, c_rates=[1.0], mesh_points={"r_n": 10, "r_p": 10}).isel(draw=0)
    time, volts = (ours[key].values[0] for key in ("elapsed_time", "voltage"))
    model = pybamm.lithium_ion.DFN()
    uniform = {
        key: model.default_submesh_types[key] for key in ("negative particle", "positive particle")
    }

    def on_pybamms(shells: int) -> np.ndarray:
        found = pybamm.Simulation(
            model,
            parameter_values=values,
            var_pts={**MESH_POINTS, "r_n": shells, "r_p": shells},
            submesh_types={**cell_submeshes(model), **uniform},
            solver=pybamm.IDAKLUSolver(rtol=1e-5),
        ).solve([0, time[-1]], t_interp=time)
        return np.interp(time, found.t, found["Voltage [V]"].entries, right=np.nan)

    few, many = on_pybamms(10), on_pybamms(200)
    error = 1e3 * np.nanmax(np.abs([volts - many, few - many]), axis=1)
    assert error[0] < 0.4, "mV"
    assert error[1] > 8 * error[0]


def test_spectrum_of_few_shells_is_that_of_many() -> None:
    """Within the reach of diffusion at 10 mHz to 10 Hz, 3 % off on as many uniform shells."""
    values = pybamm.ParameterValues("Chen2020")
    few, many = (
        impedance(
            values,
            frequencies=np.geomspace(0.01, 10, 7),
            initial_state_of_charge=0.5,
            mesh_points={"r_n": shells, "r_p": shells},
        )
        for shells in (30, 150)
    )
    ratio = (few["resistance"] + 1j * few["reactance"]) / (
        many["resistance"] + 1j * many["reactance"]
    )
    assert float(abs(ratio - 1).max()) < 0.006
