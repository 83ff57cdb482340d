from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from continuum.cell import BELOW, REACHED, discharge, impedance, pybamm
from continuum.cell_solution import as_dataset

CONDUCTIVITY = "Electrolyte conductivity [S.m-1]"


def cell(**values: float) -> pybamm.ParameterValues:
    """Chen2020 with a single-ion electrolyte of 0.16 S m-1."""
    result = pybamm.ParameterValues("Chen2020")
    result.update({"Cation transference number": 1.0, CONDUCTIVITY: 0.16})
    result.update(values)
    return result


def cell_with_input() -> pybamm.ParameterValues:
    values = cell()
    values[CONDUCTIVITY] = "[input]"
    return values


def test_charge_and_current_agree_with_the_rate() -> None:
    result = discharge(cell(), c_rates=[0.5, 1.0], time_points=11)
    assert result["current"].values.tolist() == [2.5, 5.0]
    assert result["elapsed_time"].values[:, -1] == pytest.approx([8640.0, 4320.0])
    assert result["capacity"].values[:, -1] == pytest.approx([6.0, 6.0])
    assert result.attrs["outcome"] == "2 of 2 discharges reached the cut-off voltage."


def test_voltage_falls_to_the_cut_off_and_is_nan_after_it() -> None:
    result = discharge(cell(), c_rates=[1.0], time_points=241).isel(condition=0, draw=0)
    voltage = result["voltage"].dropna("time")
    assert (voltage.diff("time") < 0).all()
    assert voltage.min() > result.attrs["cut_off_voltage"]
    ended = result["capacity"] > result["discharged_capacity"]
    assert (result["voltage"].isnull() == ended).all()
    assert ended.any()


def test_faster_discharge_has_less_voltage_and_capacity() -> None:
    result = discharge(cell(), c_rates=[0.2, 0.5, 1.0])
    assert (result["voltage"].isel(draw=0, time=slice(0, 60)).diff("condition") < 0).all()
    assert (result["discharged_capacity"].diff("condition") < 0).all()


def test_ohmic_drop_of_a_wider_separator() -> None:
    r"""A single-ion separator is a resistance: dV = I dL / (A kappa eps^b), from the start on."""
    wider = 30e-6
    values = cell()
    thin = discharge(values, c_rates=[1.0], time_points=3)
    values = cell(**{"Separator thickness [m]": values["Separator thickness [m]"] + wider})
    thick = discharge(values, c_rates=[1.0], time_points=3)
    area = values["Electrode height [m]"] * values["Electrode width [m]"]
    effective = 0.16 * values["Separator porosity"] ** 1.5
    drop = (thin["voltage"] - thick["voltage"]).isel(time=0).item()
    assert drop == pytest.approx(5.0 * wider / area / effective, rel=1e-5)


def test_mesh_error_is_small_beside_a_tenth_of_the_conductivity() -> None:
    """Two refinements of the mesh move 1C by < 0.3 mV RMS; 10 % of 0.16 S m-1 moves it by more."""
    coarse = discharge(cell(), c_rates=[1.0])["voltage"]
    fine_mesh = {"x_n": 60, "x_s": 40, "x_p": 60}
    fine = discharge(cell(), c_rates=[1.0], mesh_points=fine_mesh)["voltage"]
    other = discharge(cell(**{CONDUCTIVITY: 0.144}), c_rates=[1.0])["voltage"]
    error = 1e3 * float(np.sqrt(((coarse - fine) ** 2).mean()))
    band = 1e3 * float(np.sqrt(((coarse - other) ** 2).mean()))
    assert error < 0.3
    assert band > 20 * error


def test_a_cell_that_cannot_carry_the_current_is_an_outcome() -> None:
    draws = [{CONDUCTIVITY: value} for value in (0.16, 1e-4, 0.05)]
    result = discharge(cell_with_input(), c_rates=[1.0], inputs=draws)
    assert result["outcome"].values.tolist() == [[REACHED, BELOW, REACHED]]
    assert result["discharged_capacity"].values[0, 1] == 0
    assert result["voltage"].isel(draw=1).isnull().all()
    assert result["voltage"].isel(draw=[0, 2], time=10).notnull().all()
    assert result.attrs["outcome"] == f"2 of 3 discharges {REACHED}; 1 {BELOW}."


def test_a_draw_that_cannot_be_solved_is_an_outcome() -> None:
    draws = [{CONDUCTIVITY: 0.16}, {CONDUCTIVITY: 0.0}]
    result = discharge(cell_with_input(), c_rates=[1.0], inputs=draws)
    assert result["outcome"].values[0, 0] == REACHED
    assert result["outcome"].values[0, 1] != REACHED
    assert result["voltage"].isel(draw=1).isnull().all()


def test_a_cell_that_outlasts_the_margin_says_so() -> None:
    result = discharge(cell(**{"Nominal cell capacity [A.h]": 2.0}), c_rates=[0.5])
    assert "1 was above the cut-off voltage at 1.2 nominal" in result.attrs["outcome"]
    assert result["voltage"].notnull().all()


def test_a_set_that_starts_empty_can_be_charged_first() -> None:
    """Mohtat2020 has its initial concentrations at the discharged end."""
    empty = discharge(pybamm.ParameterValues("Mohtat2020"), c_rates=[0.1])
    assert empty["outcome"].item() == BELOW
    full, half = (
        discharge(
            pybamm.ParameterValues("Mohtat2020"), c_rates=[0.05], initial_state_of_charge=charge
        )
        for charge in (1.0, 0.5)
    )
    assert full["outcome"].item() == REACHED
    capacity = float(full["discharged_capacity"].item())
    assert capacity == pytest.approx(5.0, rel=0.03)
    assert float(half["discharged_capacity"].item()) == pytest.approx(capacity / 2, rel=0.03)


def test_leaving_the_data_of_an_interpolated_function_is_an_outcome() -> None:
    values = cell()
    stoichiometry = np.linspace(0.5, 1.0, 6)  # a discharge takes the graphite below 0.5

    def potential(sto: pybamm.Symbol) -> pybamm.Symbol:
        return pybamm.Interpolant(stoichiometry, 0.3 - 0.2 * stoichiometry, sto, name="table")

    values["Negative electrode OCP [V]"] = potential
    outcome = discharge(values, c_rates=[0.5])["outcome"].item()
    assert "after leaving the data of Interpolant 'table' lower bound" in outcome
    assert outcome != REACHED


def test_leaving_the_window_of_the_laws_is_an_outcome() -> None:
    values = pybamm.ParameterValues("Chen2020")
    free = discharge(values, c_rates=[0.05, 1.0], time_points=41)
    lowest, highest = (
        free[f"{end}_electrolyte_concentration"].values[:, 0] for end in ("lowest", "highest")
    )
    # a current moves salt from the positive electrode to the negative one, a larger one more
    assert lowest[1] < lowest[0] < 1000 < highest[0] < highest[1]
    profile = pybamm.Simulation(
        pybamm.lithium_ion.DFN(), parameter_values=values, solver=pybamm.IDAKLUSolver()
    ).solve([0, 3600])["Electrolyte concentration [mol.m-3]"]
    assert [lowest[1], highest[1]] == pytest.approx(
        [profile.entries.min(), profile.entries.max()], rel=0.03
    )
    window = (0.99 * lowest[0], 1.01 * highest[0])
    held = discharge(values, c_rates=[0.05, 1.0], time_points=41, concentration_window=window)
    outcome = held["outcome"].values[:, 0]
    assert outcome[0] == REACHED
    assert outcome[1].startswith(REACHED)
    assert "the electrolyte left its laws'" in outcome[1]
    xr.testing.assert_equal(held["voltage"], free["voltage"])


def test_a_single_ion_conductor_does_not_leave_its_window_by_rounding() -> None:
    kept = discharge(cell(), c_rates=[1.0], time_points=11, concentration_window=(1000.0, 1000.0))
    assert kept.attrs["outcome"] == "1 of 1 discharges reached the cut-off voltage."


def test_set_of_another_kind_of_cell_is_refused_in_one_sentence() -> None:
    values = pybamm.ParameterValues("Ecker2015_graphite_halfcell")
    with pytest.raises(ValueError, match="'Maximum concentration in negative electrode"):
        discharge(values, c_rates=[1.0])


def test_progress_is_told_after_each_discharge() -> None:
    told: list[tuple[int, int]] = []
    discharge(
        cell(), c_rates=[0.5, 1.0], model="SPMe", progress=lambda done, of: told.append((done, of))
    )
    assert told == [(1, 2), (2, 2)]


def test_parameter_values_are_left_as_they_were() -> None:
    values = cell()
    before = dict(values.items())
    discharge(values, c_rates=[1.0], model="SPM")
    assert dict(values.items()) == before


def test_wrong_arguments_are_refused_together() -> None:
    with pytest.raises(ValueError) as error:
        discharge(
            cell(),
            c_rates=[1.0, -1.0],
            model="P2D",
            initial_state_of_charge=2,
            time_points=1,
            mesh_points={"x": 3},
            inputs=[],
        )
    for word in (
        "state_of_charge is 2",
        "P2D",
        "-1.0",
        "time_points is 1",
        "'x'",
        "inputs is empty",
    ):
        assert word in str(error.value)


def test_a_name_in_place_of_a_set_is_refused_in_one_sentence() -> None:
    for solve in (
        lambda: discharge("Chen2020", c_rates=[1.0]),
        lambda: impedance("Chen2020", frequencies=[1.0]),
    ):
        with pytest.raises(ValueError, match=r"is 'Chen2020', expected a set such as pybamm\.Par"):
            solve()


def test_unknown_missing_and_infinite_inputs_are_refused_together() -> None:
    draws = [{"Electrolyte conductivty [S.m-1]": 0.1}, {CONDUCTIVITY: np.inf}]
    with pytest.raises(ValueError) as error:
        discharge(cell_with_input(), c_rates=[1.0], inputs=draws)
    assert "'Electrolyte conductivty [S.m-1]'" in str(error.value)
    assert "missing from 1 of 2" in str(error.value)
    assert "draw 1 has values that are not finite" in str(error.value)


def test_telemetry_is_off_whatever_the_environment_says() -> None:
    code = (
        "import continuum.cell as cell; from pybamm import telemetry, config;"
        "assert config.check_opt_out(); assert telemetry._posthog.disabled"
    )
    environment = {**os.environ, "PYBAMM_DISABLE_TELEMETRY": "false"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


FIELDS = [
    "Voltage [V]",
    "Current [A]",
    "Discharge capacity [A.h]",
    "Electrolyte concentration [mol.m-3]",
    "Electrolyte current density [A.m-2]",
    "Porosity",
    "Separator electrolyte potential [V]",
    "Negative electrode potential [V]",
    "Negative particle concentration [mol.m-3]",
    "X-averaged positive particle concentration [mol.m-3]",
]


@pytest.fixture(scope="module")
def solution() -> pybamm.Solution:
    """All mesh sizes differ, so that an exchanged axis shows."""
    points = {"x_n": 11, "x_s": 7, "x_p": 13, "r_n": 17, "r_p": 19}
    simulation = pybamm.Simulation(
        pybamm.lithium_ion.DFN(),
        parameter_values=cell(**{"Cation transference number": 0.3}),
        var_pts=points,
    )
    return simulation.solve([0, 1800], t_interp=np.linspace(0, 1800, 23))


def test_solution_has_named_axes(solution: pybamm.Solution) -> None:
    result = as_dataset(solution, variables=FIELDS)
    assert {name: variable.dims for name, variable in result.data_vars.items()} == {
        "voltage": ("time",),
        "current": ("time",),
        "discharge_capacity": ("time",),
        "electrolyte_concentration": ("x", "time"),
        "electrolyte_current_density": ("x_edges", "time"),
        "porosity": ("x", "time"),
        "separator_electrolyte_potential": ("x_separator", "time"),
        "negative_electrode_potential": ("x_negative_electrode", "time"),
        "negative_particle_concentration": (
            "r_negative_particle",
            "x_negative_electrode",
            "time",
        ),
        "x_averaged_positive_particle_concentration": ("r_positive_particle", "time"),
    }
    assert dict(result.sizes) == {
        "time": 23,
        "x": 31,
        "x_edges": 32,
        "x_separator": 7,
        "x_negative_electrode": 11,
        "r_negative_particle": 17,
        "r_positive_particle": 19,
    }
    assert result["electrolyte_concentration"].attrs["units"] == "mol m-3"
    assert result["discharge_capacity"].attrs["units"] == "A h"
    assert result["porosity"].attrs["units"] == "1"
    assert (result["current"] > 0).all()


def test_solution_has_coordinates_in_metres(solution: pybamm.Solution) -> None:
    result, values = as_dataset(solution, variables=FIELDS), cell()
    layers = ("Negative electrode", "Separator", "Positive electrode")
    thickness = [values[f"{layer} thickness [m]"] for layer in layers]
    edges = result["x_edges"].values
    assert edges[[0, 11, 18, 31]] == pytest.approx(np.cumsum([0, *thickness]), rel=1e-12, abs=0)
    assert result["x"].values == pytest.approx((edges[1:] + edges[:-1]) / 2, rel=1e-12, abs=0)
    radius = values["Negative particle radius [m]"]
    middle = (np.arange(17) + 0.5) / 17 * radius
    assert result["r_negative_particle"].values == pytest.approx(middle, rel=1e-12, abs=0)
    assert {result[name].attrs["units"] for name in ("x", "x_edges", "x_separator")} == {"m"}
    assert result["time"].attrs["units"] == "s"


def test_solution_conserves_charge_and_salt(solution: pybamm.Solution) -> None:
    """Charge, salt and lithium balances hold on the exported values and coordinates alone."""
    result = as_dataset(solution, variables=FIELDS)
    passed = result["current"].integrate("time") / 3600
    assert float(passed) == pytest.approx(float(result["discharge_capacity"][-1]), rel=1e-12)
    width = xr.DataArray(np.diff(result["x_edges"]), dims="x")
    salt = (width * result["porosity"] * result["electrolyte_concentration"]).sum("x")
    assert salt.values == pytest.approx(np.full(23, float(salt[0])), rel=1e-6)

    values = cell()
    edges = np.linspace(0, values["Negative particle radius [m]"], 18)
    shell = xr.DataArray(np.diff(edges**3), dims="r_negative_particle") / edges[-1] ** 3
    lithium = (shell * result["negative_particle_concentration"]).sum("r_negative_particle")
    width = values["Negative electrode thickness [m]"] / 11
    volume = (
        values["Electrode height [m]"]
        * values["Electrode width [m]"]
        * values["Negative electrode active material volume fraction"]
    )
    stored = volume * width * lithium.sum("x_negative_electrode") * 96485.33212 / 3600
    assert float(stored[0] - stored[-1]) == pytest.approx(
        float(result["discharge_capacity"][-1]), rel=1e-5
    )


def test_solution_survives_netcdf(solution: pybamm.Solution, tmp_path: Path) -> None:
    result = as_dataset(solution, variables=FIELDS)
    result.to_netcdf(tmp_path / "cell.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "cell.nc", engine="h5netcdf", decode_timedelta=False) as read:
        assert read.load().identical(result)


def test_solution_of_chosen_outputs_is_the_same(solution: pybamm.Solution) -> None:
    chosen = ["Voltage [V]", "Negative particle concentration [mol.m-3]"]
    simulation = pybamm.Simulation(
        pybamm.lithium_ion.DFN(),
        parameter_values=cell(**{"Cation transference number": 0.3}),
        var_pts={"x_n": 11, "x_s": 7, "x_p": 13, "r_n": 17, "r_p": 19},
        solver=pybamm.IDAKLUSolver(output_variables=chosen),
    )
    result = as_dataset(
        simulation.solve([0, 1800], t_interp=np.linspace(0, 1800, 23)), variables=chosen
    )
    xr.testing.assert_allclose(result, as_dataset(solution, variables=chosen), rtol=1e-5)
    with pytest.raises(ValueError, match="'Current \\[A\\]' is not in the solution"):
        as_dataset(
            simulation.solve([0, 1800], t_interp=np.linspace(0, 1800, 23)),
            variables=["Current [A]"],
        )


def test_misspelt_variables_are_refused_together(solution: pybamm.Solution) -> None:
    with pytest.raises(ValueError) as error:
        as_dataset(solution, variables=["Voltage", "Curent [A]", "Current [A]", "Current [A]"])
    assert "did you mean 'Voltage [V]'" in str(error.value)
    assert "did you mean 'Current [A]'" in str(error.value)
    assert "both become 'current'" in str(error.value)


def lumped_cell() -> pybamm.ParameterValues:
    """Chen2020 with phases that conduct so well that each electrode is one point."""
    values = pybamm.ParameterValues("Chen2020")
    values.update(
        {
            "Electrolyte conductivity [S.m-1]": 1e4,
            "Electrolyte diffusivity [m2.s-1]": 1e-4,
            "Negative electrode conductivity [S.m-1]": 1e7,
            "Positive electrode conductivity [S.m-1]": 1e7,
            "Negative particle diffusivity [m2.s-1]": 1e-8,
            "Positive particle diffusivity [m2.s-1]": 1e-8,
            "Negative electrode double-layer capacity [F.m-2]": 0.15,
            "Positive electrode double-layer capacity [F.m-2]": 0.4,
        }
    )
    for side, rate in (("Negative", 2.0), ("Positive", 1.0)):
        values[f"{side} electrode exchange-current density [A.m-2]"] = rate
    return values


def test_impedance_of_a_lumped_cell_is_two_arcs() -> None:
    r"""Randles: each electrode 1 / (a L) times R_ct = RT / (j_0 F) beside its C."""
    values = lumped_cell()
    hertz = np.logspace(-0.5, 3, 15)
    expected = np.zeros(15, dtype=complex)
    for side, rate in (("Negative", 2.0), ("Positive", 1.0)):
        radius = values[f"{side} particle radius [m]"]
        share = values[f"{side} electrode active material volume fraction"]
        depth = values[f"{side} electrode thickness [m]"]
        transfer = 8.314462618 * 298.15 / (96485.33212 * rate)
        layer = values[f"{side} electrode double-layer capacity [F.m-2]"]
        admittance = 1 / transfer + 2j * np.pi * hertz * layer
        expected += radius / (3 * share * depth) / admittance
    found = impedance(values, frequencies=hertz)
    ours = found["resistance"].values + 1j * found["reactance"].values
    # what is left is lithium filling the particles, less than 1 % of it down here
    np.testing.assert_allclose(ours, expected, rtol=0.01)
    assert np.abs(ours[5:] - expected[5:]).max() < 2e-3 * np.abs(expected[5:]).max()
    assert (found["reactance"] < 0).all(), "a capacitor's reactance is negative"
    assert (found["resistance"] > 0).all()


def test_impedance_meets_small_steps_of_current_in_time() -> None:
    """The same DFN in time: V(t) of a small step is the step response of Z at low frequency."""
    values = pybamm.ParameterValues("Marquis2019")
    points = {"x_n": 10, "x_s": 5, "x_p": 10}
    hertz = 0.01
    found = impedance(values, frequencies=[hertz], mesh_points=points)
    area, small, cycles = found.attrs["area"], 1e-3, 4
    wave = values.copy()
    wave["Current function [A]"] = lambda t: small * pybamm.sin(2 * np.pi * hertz * t)
    model = pybamm.lithium_ion.DFN({"surface form": "differential"})
    simulation = pybamm.Simulation(
        model,
        parameter_values=wave,
        var_pts={**points, "r_n": 60, "r_p": 60},
        solver=pybamm.IDAKLUSolver(rtol=1e-10, atol=1e-11),
    )
    time = np.linspace(0, cycles / hertz, cycles * 200 + 1)
    volts = simulation.solve([0, time[-1]], t_interp=time)["Voltage [V]"].entries
    last = slice(-200, None)  # one whole period
    phase = np.exp(-2j * np.pi * hertz * time[last])
    current = small * np.sin(2 * np.pi * hertz * time[last])
    # over a period the state of charge comes back; only the mean voltage still settles
    wanted = -(volts[last] * phase).mean() / (current * phase).mean()
    ours = (found["resistance"] + 1j * found["reactance"]).item() / area
    assert abs(ours / wanted - 1) < 0.03


def test_impedance_keeps_its_schema_and_knows_its_charge() -> None:
    values = pybamm.ParameterValues("Chen2020")
    points = {"x_n": 10, "x_s": 5, "x_p": 10}
    spectra = [
        impedance(
            values, frequencies=[1.0, 100.0], initial_state_of_charge=charge, mesh_points=points
        )
        for charge in (0.2, 0.8)
    ]
    assert spectra[0]["resistance"].dims == ("frequency",)
    assert spectra[0]["resistance"].attrs["units"] == "ohm m2"
    assert float(abs(spectra[0]["resistance"] - spectra[1]["resistance"]).max()) > 1e-5
    area = 0.065 * 1.58
    assert spectra[0].attrs["area"] == pytest.approx(area, rel=1e-12)


def test_wrong_arguments_of_an_impedance_are_refused_together() -> None:
    with pytest.raises(ValueError) as error:
        impedance(cell(), frequencies=[0.0], initial_state_of_charge=-1, mesh_points={"y": 3})
    for word in ("state_of_charge is -1", "'y'", "frequencies"):
        assert word in str(error.value)
    bare = cell()
    del bare["Negative electrode double-layer capacity [F.m-2]"]
    with pytest.raises(ValueError, match="'Negative electrode double-layer capacity"):
        impedance(bare, frequencies=[1.0])
    with pytest.raises(ValueError, match="does not read the input 'x'"):
        impedance(cell(), frequencies=[1.0], inputs={"x": 1.0})
