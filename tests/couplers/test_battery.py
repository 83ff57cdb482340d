from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from continuum.cell import discharge, impedance, pybamm
from continuum.inputs import Electrolyte
from continuum.laws import Law
from continuum.schema import DISCHARGE
from couplers.battery import (
    LAW_KEYS,
    assumptions,
    double_layer_capacity,
    inputs,
    parameter_values,
)
from couplers.contract import check

ONE = Law("constant", (1.0,), "1")
KINETICS = [
    f"{side} electrode exchange-current density [A.m-2]" for side in ("Negative", "Positive")
]


def argyrodite(conductivity: float = 0.16, *, temperature: float = 300.0) -> Electrolyte:
    return Electrolyte(
        conductivity=Law("arrhenius", (conductivity, 30e3, 300.0), "S m-1", (0, 1e5), (280, 900)),
        diffusivity=Law("arrhenius", (2e-12, 30e3, 300.0), "m2 s-1", (0, 1e5), (280, 900)),
        transference_number=ONE,
        thermodynamic_factor=ONE,
        concentration=41e3,
        temperature=temperature,
        single_ion=True,
        name="argyrodite",
    )


def liquid(*, transference_number: float = 0.26, thermodynamic_factor: float = 2.0) -> Electrolyte:
    return Electrolyte(
        conductivity=Law("constant", (0.95,), "S m-1"),
        diffusivity=Law("constant", (1.8e-10,), "m2 s-1"),
        transference_number=Law("constant", (transference_number,), "1"),
        thermodynamic_factor=Law("constant", (thermodynamic_factor,), "1"),
        concentration=1000.0,
        temperature=298.15,
    )


def largest_difference(one: xr.Dataset, other: xr.Dataset) -> float:
    """Largest difference of two voltages (mV), which must end at the same point."""
    a, b = one["voltage"].values, other["voltage"].values
    assert np.array_equal(np.isnan(a), np.isnan(b))
    return 1e3 * float(np.nanmax(np.abs(a - b)))


def test_dfn_with_laws_equals_constants_typed_by_hand() -> None:
    electrolyte = liquid()
    by_hand = pybamm.ParameterValues("Chen2020")
    by_hand.update(
        {
            "Electrolyte conductivity [S.m-1]": 0.95,
            "Electrolyte diffusivity [m2.s-1]": 1.8e-10,
            "Cation transference number": 0.26,
            "Thermodynamic factor": 2.0,
        }
    )
    ours = discharge(parameter_values(electrolyte), c_rates=[0.5, 1.0])
    theirs = discharge(by_hand, c_rates=[0.5, 1.0])
    assert largest_difference(ours, theirs) <= 0.01
    unlike = discharge(parameter_values(liquid(thermodynamic_factor=1.0)), c_rates=[0.5, 1.0])
    assert np.nanmax(np.abs(unlike["voltage"] - theirs["voltage"])) > 0.01


def test_solid_with_arrhenius_laws_equals_constants_typed_by_hand() -> None:
    electrolyte = argyrodite(temperature=330.0)
    by_hand = pybamm.ParameterValues("Chen2020")
    by_hand.update(
        {
            "Electrolyte conductivity [S.m-1]": float(electrolyte.conductivity(41e3, 330.0)),
            "Electrolyte diffusivity [m2.s-1]": float(electrolyte.diffusivity(41e3, 330.0)),
            "Cation transference number": 1.0,
            "Ambient temperature [K]": 330.0,
            "Initial temperature [K]": 330.0,
        }
    )
    ours = discharge(parameter_values(electrolyte), c_rates=[0.5])
    assert largest_difference(ours, discharge(by_hand, c_rates=[0.5])) <= 0.01
    wrong = discharge(parameter_values(argyrodite(temperature=300.0)), c_rates=[0.5])
    assert abs(float((wrong["voltage"] - ours["voltage"]).isel(time=5).item())) > 0.005


def test_many_liquid_draws_in_one_model_equal_each_alone() -> None:
    draws = [liquid(transference_number=t, thermodynamic_factor=f) for t, f in ((0.3, 2), (0.4, 1))]
    names = list(LAW_KEYS)
    values = parameter_values(draws[0], as_inputs=names)
    together = discharge(values, c_rates=[1.0], inputs=[inputs(draw, names) for draw in draws])
    assert together.sizes["draw"] == 2
    for index, draw in enumerate(draws):
        alone = discharge(parameter_values(draw), c_rates=[1.0])
        assert largest_difference(together.isel(draw=[index]), alone) <= 1e-3
    assert abs(float((together["voltage"].diff("draw")).isel(time=10).item())) > 1e-3


@pytest.mark.parametrize("energy", [30e3, 40e3])
def test_arrhenius_coefficients_as_inputs_equal_one_input_typed_by_hand(energy: float) -> None:
    electrolyte = argyrodite(temperature=320.0)
    law = replace(electrolyte.conductivity, coefficients=(0.08, energy, 300.0))
    draw = replace(electrolyte, conductivity=law)
    values = parameter_values(electrolyte, as_inputs=["conductivity"])
    draws = [inputs(draw, ["conductivity"])]
    ours = discharge(values, c_rates=[1.0], inputs=draws, relative_tolerance=1e-8)
    by_hand = parameter_values(electrolyte)
    key = LAW_KEYS["conductivity"]
    by_hand[key] = "[input]"
    typed = {key: 0.08 * np.exp(-energy / 8.314462618 * (1 / 320 - 1 / 300))}
    theirs = discharge(by_hand, c_rates=[1.0], inputs=[typed], relative_tolerance=1e-8)
    assert largest_difference(ours, theirs) <= 1e-3


def test_input_and_number_differ_by_the_mesh_error_only() -> None:
    """PyBaMM averages the two differently at the separator; a finer mesh brings them closer."""
    values = parameter_values(argyrodite(), as_inputs=["conductivity"])
    draw = inputs(argyrodite(), ["conductivity"])
    differences = []
    for points in (15, 30, 60):
        mesh = {"x_n": points, "x_p": points, "x_s": points // 3}
        one = discharge(values, c_rates=[1.0], inputs=[draw], mesh_points=mesh)
        other = discharge(parameter_values(argyrodite()), c_rates=[1.0], mesh_points=mesh)
        differences.append(1e3 * abs(float((one["voltage"] - other["voltage"]).mean())))
    assert differences[1] < 0.15
    assert differences[0] > 1.7 * differences[1] > 1.7**2 * differences[2]


def test_inputs_that_a_single_ion_conductor_fixes_are_refused() -> None:
    with pytest.raises(ValueError, match="thermodynamic_factor is 1 in a single-ion conductor"):
        parameter_values(argyrodite(), as_inputs=list(LAW_KEYS))


def test_less_conductivity_costs_voltage_and_capacity() -> None:
    draws = [argyrodite(value) for value in (0.4, 0.2, 0.1, 0.05)]
    values = parameter_values(draws[0], as_inputs=["conductivity"])
    result = discharge(
        values, c_rates=[0.5], inputs=[inputs(draw, ["conductivity"]) for draw in draws]
    )
    voltage = result["voltage"].dropna("time").diff("draw")
    assert (voltage < 0).all()
    assert (result["discharged_capacity"].diff("draw") < 0).all()


def test_result_keeps_the_contract() -> None:
    result = discharge(parameter_values(argyrodite()), c_rates=[0.2, 1.0])
    check(result.assign_attrs(assumptions(argyrodite())), DISCHARGE)


def test_dfn_reads_every_key_that_is_set() -> None:
    read = pybamm.lithium_ion.DFN().get_parameter_info()
    values = parameter_values(argyrodite())
    for key in [*LAW_KEYS.values(), "Initial concentration in electrolyte [mol.m-3]"]:
        assert key in read, key
        assert key in values
    assert "Ambient temperature [K]" in read


@pytest.mark.parametrize("key", KINETICS)
def test_solid_keeps_the_kinetics_of_the_base_set(key: str) -> None:
    """At 41 M the root of the concentration would make the exchange current 6.4 times larger."""
    base = pybamm.ParameterValues("Chen2020")
    state = (pybamm.Scalar(15e3), pybamm.Scalar(33e3), pybamm.Scalar(300.0))
    published = base[key](pybamm.Scalar(1000.0), *state).evaluate()
    ours = parameter_values(argyrodite())[key](pybamm.Scalar(41e3), *state).evaluate()
    assert ours == pytest.approx(published, rel=1e-12)
    local = parameter_values(liquid())[key](pybamm.Scalar(2000.0), *state).evaluate()
    assert local == pytest.approx(published * np.sqrt(2), rel=1e-12)


def test_concentration_of_a_single_ion_solid_does_not_move_the_voltage() -> None:
    dense = discharge(parameter_values(argyrodite()), c_rates=[1.0])
    dilute = discharge(parameter_values(replace(argyrodite(), concentration=1e3)), c_rates=[1.0])
    assert largest_difference(dense, dilute) <= 0.01


def test_base_set_is_left_as_it_was() -> None:
    base = pybamm.ParameterValues("Marquis2019")
    before = dict(base.items())
    parameter_values(argyrodite(), base=base, overrides={"Separator porosity": 0.4})
    assert dict(base.items()) == before


def test_override_goes_in() -> None:
    values = parameter_values(argyrodite(), overrides={"Separator porosity": 0.4})
    assert values["Separator porosity"] == 0.4


def test_misspelt_and_owned_overrides_are_refused_together() -> None:
    with pytest.raises(ValueError) as error:
        parameter_values(
            argyrodite(),
            overrides={"Seperator porosity": 0.4, "Electrolyte conductivity [S.m-1]": 1.0},
        )
    assert "did you mean 'Separator porosity'" in str(error.value)
    assert "belongs to the electrolyte" in str(error.value)


def test_unknown_base_and_laws_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'Chen2020'"):
        parameter_values(argyrodite(), base="Chen2021")
    with pytest.raises(ValueError, match="give a list of laws"):
        parameter_values(argyrodite(), as_inputs=["conductivty"])
    with pytest.raises(ValueError, match="give a list of laws"):
        inputs(argyrodite(), "conductivity")


def test_draw_of_another_form_is_refused() -> None:
    """Arrhenius and Arrhenius over temperature have coefficients of the same names."""
    electrolyte = argyrodite()
    law = replace(electrolyte.conductivity, form="arrhenius over temperature")
    values = parameter_values(electrolyte, as_inputs=["conductivity"])
    draw = inputs(replace(electrolyte, conductivity=law), ["conductivity"])
    with pytest.raises(ValueError, match="does not read the input"):
        discharge(values, c_rates=[1.0], inputs=[draw])


def test_assumptions_name_the_window_and_the_kinetics() -> None:
    inside, outside = assumptions(argyrodite()), assumptions(argyrodite(temperature=250.0))
    assert "1000 mol m-3" in inside["exchange_current"]
    assert "inside" in inside["window"]
    assert "temperature 250 K lies outside" in outside["window"]
    assert "local concentration" in assumptions(liquid())["exchange_current"]


def capacitance() -> xr.Dataset:
    potential = np.array([0.2, -0.2, 0.0])  # not in order
    values = np.array([0.3, 0.1, 0.2])
    along = "potential"
    return xr.Dataset(
        {
            "differential_capacitance": (along, values, {"units": "F m-2"}),
            "differential_capacitance_std": (along, 0.1 * values, {"units": "F m-2"}),
            "surface_charge": (along, [0.05, -0.03, 0.0], {"units": "C m-2"}),
            "surface_charge_std": (along, np.full(3, np.nan), {"units": "C m-2"}),
            "differential_capacitance_draw": (
                (along, "draw"),
                values[:, None] * [1.0, 2.0],
                {"units": "F m-2"},
            ),
        },
        coords={along: (along, potential, {"units": "V"})},
        attrs={"reference": "bulk", "method": "fluctuations"},
    )


def test_capacitance_is_taken_at_the_operating_potential_and_says_so() -> None:
    found = double_layer_capacity(capacitance(), potential=0.1)
    assert float(found["double_layer_capacity"]) == pytest.approx(0.25)
    assert float(found["double_layer_capacity_std"]) == pytest.approx(0.025)
    assert "0.25 F m-2 at 0.1 V against bulk" in found.attrs["assumption"]
    assert "from 0.1 to 0.3" in found.attrs["assumption"]
    twice = double_layer_capacity(capacitance(), potential=0.1, draw=1)
    assert float(twice["double_layer_capacity"]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="0.5 V, lies outside .*draw is 7, but there are 2"):
        double_layer_capacity(capacitance(), potential=0.5, draw=7)


def test_capacitance_reaches_the_impedance() -> None:
    """Twice the capacity halves the frequency of the arc's top: Z(w, C) = Z(w / 2, 2 C) there."""
    key = "Negative electrode double-layer capacity [F.m-2]"
    other = "Positive electrode double-layer capacity [F.m-2]"
    surface = {"surface form": "differential"}
    mesh = {"x_n": 8, "x_s": 4, "x_p": 8}
    spectra = []
    for factor in (1.0, 2.0):
        value = factor * float(
            double_layer_capacity(capacitance(), potential=0.1)["double_layer_capacity"]
        )
        values = parameter_values(liquid(), overrides={key: value, other: value}, options=surface)
        hertz = np.array([100.0, 300.0]) / factor
        spectra.append(impedance(values, frequencies=hertz, mesh_points=mesh))
    for part in ("resistance", "reactance"):
        np.testing.assert_allclose(spectra[0][part], spectra[1][part], rtol=0.02)


def test_override_that_the_model_does_not_read_is_refused() -> None:
    key = "Negative electrode double-layer capacity [F.m-2]"
    with pytest.raises(ValueError, match="is not read by the DFN with the options {}"):
        parameter_values(liquid(), overrides={key: 0.2})
    options = {"intercalation kinetics": "Marcus-Hush-Chidsey"}
    new = "Negative electrode reorganization energy [eV]"  # Chen2020 has none
    values = parameter_values(liquid(), overrides={new: 0.4}, options=options)
    assert values[new] == 0.4
    with pytest.raises(ValueError, match="did you mean 'Negative electrode reorganization"):
        parameter_values(
            liquid(),
            overrides={"Negative electrode reorganisation energy [eV]": 0.4},
            options=options,
        )
