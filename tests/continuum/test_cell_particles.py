"""Particles of few shells, against the closed form of a sphere and PyBaMM's with many shells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from continuum.cell import MESH_POINTS, discharge, impedance
from continuum.cell_mesh import electrode_submeshes, pybamm
from continuum.cell_particles import SHELLS, ladder, on_ladder, particle_memories


def exact_step(scaled_time: np.ndarray) -> np.ndarray:
    """Mean less surface over its steady value, after a step of flux: 1 - 10 sum exp(-l^2 t)/l^2."""
    roots = np.array(
        [
            brentq(lambda x: x * np.cos(x) - np.sin(x), k * np.pi, (k + 0.5) * np.pi)
            for k in range(1, 400)
        ]
    )
    return 1 - 10 * np.exp(-np.outer(scaled_time, roots**2)) @ roots**-2


def spm(values: pybamm.ParameterValues, times: np.ndarray) -> pybamm.Solution:
    model = pybamm.lithium_ion.SPM()
    submeshes = on_ladder(model)
    return pybamm.Simulation(
        model,
        parameter_values=values,
        submesh_types=submeshes,
        solver=pybamm.IDAKLUSolver(rtol=1e-10, atol=1e-12),
    ).solve([0, times[-1]], t_interp=times)


@pytest.fixture(scope="module")
def way() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, and mean less surface stoichiometry over its steady value: solved and exact."""
    values = pybamm.ParameterValues("Marquis2019")
    values["Current function [A]"] = 0.3
    values["Negative particle radius [m]"] = 1e-5
    values["Negative particle diffusivity [m2.s-1]"] = 5e-13
    found = spm(values, np.concatenate([np.geomspace(0.01, 100, 50), [400]]))
    flux = found["X-averaged negative electrode interfacial current density [A.m-2]"].entries
    largest = values["Maximum concentration in negative electrode [mol.m-3]"]
    steady = flux[-1] * 1e-5 / (5 * 5e-13 * pybamm.constants.F.value * largest)
    gap = (
        found["Negative electrode stoichiometry"].entries
        - found["X-averaged negative particle surface stoichiometry"].entries
    )
    time = found.t[1:]
    return time, gap[1:] / steady, exact_step(time * 5e-13 / 1e-5**2)


def test_steady_discharge_is_exact(way: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Mean less surface is j R / (5 F D)."""
    time, solved, _ = way
    assert solved[time == 400] == pytest.approx(1.0, abs=2e-6)


def test_step_of_current_is_followed(way: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """From a twenty-thousandth of the diffusion time on, to a thousandth of the steady value."""
    time, solved, exact = way
    np.testing.assert_allclose(solved, exact, atol=1e-3)
    later = time > 0.2
    np.testing.assert_allclose(solved[later], exact[later], atol=2e-4)


def test_lithium_is_conserved_where_the_diffusivity_varies() -> None:
    """Ecker2015, its diffusivities over two decades: what flows out is what the mean loses."""
    values = pybamm.ParameterValues("Ecker2015")
    values["Current function [A]"] = values["Nominal cell capacity [A.h]"]
    found = spm(values, np.linspace(0, 3000, 61))
    for side, sign in (("Negative", -1), ("Positive", 1)):
        lithium = found[f"Total lithium in {side.lower()} electrode [mol]"].entries
        passed = found["Discharge capacity [A.h]"].entries * 3600 / pybamm.constants.F.value
        np.testing.assert_allclose(lithium - lithium[0], sign * passed, rtol=1e-8, atol=1e-12)
        surface = found[f"X-averaged {side.lower()} particle surface stoichiometry"].entries
        assert sign * (surface[-1] - surface[0]) > 0.5


@pytest.mark.parametrize("side", ["negative", "positive"])
def test_a_diffusivity_that_varies_is_followed(side: str) -> None:
    """Ecker2015 in a sphere of 600 shells by another integrator; PyBaMM's own 20 are far off."""
    values = pybamm.ParameterValues("Ecker2015")
    values["Current function [A]"] = 2 * values["Nominal cell capacity [A.h]"]
    times = np.linspace(0, 1500, 51)
    p = pybamm.LithiumIonParameters()
    domain = p.n if side == "negative" else p.p
    x = np.linspace(0, 1, 2001)
    c = pybamm.Array(x[:, None]) * domain.prim.c_max
    law = np.ravel(values.process_symbol(domain.prim.D(c, pybamm.Scalar(298.15))).evaluate())
    assert law.max() > 10 * law.min()
    solved = spm(values, times)
    plain = pybamm.Simulation(pybamm.lithium_ion.SPM(), parameter_values=values).solve(
        [0, times[-1]], t_interp=times
    )
    names = (
        f"X-averaged {side} particle surface stoichiometry",
        f"X-averaged {side} electrode interfacial current density [A.m-2]",
    )
    surface, flux = (solved[name].entries for name in names)
    radius = values[f"{side.capitalize()} particle radius [m]"]
    largest = values[f"Maximum concentration in {side} electrode [mol.m-3]"]
    edges = np.linspace(0, 1, 601) ** 0.6
    middles, volumes = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges**3) / 3
    conductances = edges[1:-1] ** 2 / np.diff(middles) / radius**2
    outflow = flux[-1] / (pybamm.constants.F.value * largest * radius)

    def rate(_: float, inside: np.ndarray) -> np.ndarray:
        across = np.interp(0.5 * (inside[1:] + inside[:-1]), x, law) * conductances
        flow = np.concatenate([[0.0], -across * np.diff(inside), [outflow]])
        return -np.diff(flow) / volumes

    start = np.full(600, solved[f"{side.capitalize()} electrode stoichiometry"].entries[0])
    fine = solve_ivp(
        rate, (0, times[-1]), start, "LSODA", times, rtol=1e-8, atol=1e-9, lband=1, uband=1
    )
    expected = fine.y[-1] - outflow * (1 - middles[-1]) * radius**2 / np.interp(fine.y[-1], x, law)
    error, theirs = (np.abs(one - expected)[1:].max() for one in (surface, plain[names[0]].entries))
    assert error < 3e-4
    assert theirs > 20 * error


def test_the_shells_answer_as_the_memories_do() -> None:
    """Their continued fraction is the memories' transfer function, at any frequency."""
    rates, weights = particle_memories(1.0, 1.0, shortest_time=1e-5)
    volumes, conductances = ladder(rates, weights)
    assert len(volumes) == len(rates) + 1
    assert (volumes > 0).all() and (conductances > 0).all()
    assert volumes.sum() == pytest.approx(1 / 3, rel=1e-12), "a sphere's, for unit surface"
    p = np.geomspace(1e-3, 1e7, 60) * np.exp(0.4j * np.pi)
    answer = 1 / (p * volumes[0])
    for volume, conductance in zip(volumes[1:], conductances, strict=True):
        answer = 1 / (p * volume + 1 / (1 / conductance + answer))
    expected = 3 / p + (weights * rates / (p[:, None] + rates)).sum(1)
    np.testing.assert_allclose(answer, expected, rtol=1e-9)


def fine(values: pybamm.ParameterValues, model: pybamm.BaseModel, shells: int, **more) -> object:
    """PyBaMM's own particles, graded shells on our electrodes."""
    graded = pybamm.MeshGenerator(pybamm.Exponential1DSubMesh, {"side": "right", "stretch": 3.0})
    return pybamm.Simulation(
        model,
        parameter_values=values,
        var_pts={**MESH_POINTS, "r_n": shells, "r_p": shells},
        submesh_types={
            **model.default_submesh_types,
            **electrode_submeshes(),
            **{f"{side} particle": graded for side in ("negative", "positive")},
        },
        **more,
    )


@pytest.mark.parametrize("name", ["Chen2020", "Marquis2019"])
def test_few_shells_discharge_as_many_of_pybamms_do(name: str) -> None:
    """1C, and as many of PyBaMM's beside it, both held against 200 of PyBaMM's."""
    values = pybamm.ParameterValues(name)
    ours = discharge(values, c_rates=[1.0]).isel(draw=0)
    time, volts = (ours[key].values[0] for key in ("elapsed_time", "voltage"))

    def on_pybamms(shells: int) -> np.ndarray:
        found = fine(
            values, pybamm.lithium_ion.DFN(), shells, solver=pybamm.IDAKLUSolver(rtol=1e-5)
        ).solve([0, time[-1]], t_interp=time)
        return np.interp(time, found.t, found["Voltage [V]"].entries, right=np.nan)

    few, many = on_pybamms(SHELLS), on_pybamms(200)
    error = 1e3 * np.nanmax(np.abs([volts - many, few - many]), axis=1)
    assert error[0] < 0.2, "mV"
    assert error[1] > 8 * error[0]


def test_spectrum_of_few_shells_is_that_of_many() -> None:
    """Within the reach of diffusion, at 10 mHz to 10 Hz."""
    values = pybamm.ParameterValues("Chen2020")
    values.set_initial_state(0.5)
    hertz = np.geomspace(0.01, 10, 7)
    few = impedance(values, frequencies=hertz)
    model = pybamm.lithium_ion.DFN({"surface form": "differential"})
    graded = fine(values, model, 150)
    many = pybamm.EISSimulation(
        model,
        parameter_values=values,
        var_pts=graded.var_pts,
        submesh_types=graded.submesh_types,
    ).solve(hertz)
    ratio = (few["resistance"] + 1j * few["reactance"]) / (many.impedance * few.attrs["area"])
    assert float(abs(ratio - 1).max()) < 0.006
