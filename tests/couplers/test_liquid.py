from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from continuum.cell import discharge, pybamm
from continuum.inputs import Electrolyte
from continuum.laws import Law
from couplers.battery import LAW_KEYS, assumptions, inputs, parameter_values
from couplers.liquid import PROPERTIES, landesfeind_ec_emc, liquid_electrolyte

POINTS = [(c, T) for c in (150.0, 1000.0, 2900.0) for T in (265.0, 298.15, 320.0)]


def published() -> pybamm.ParameterValues:
    """PyBaMM's own implementation of the same four fits."""
    return pybamm.ParameterValues("ORegan2022")


@pytest.mark.parametrize("label", PROPERTIES)
def test_laws_equal_pybamms_own_functions(label: str) -> None:
    law = getattr(landesfeind_ec_emc(), label)
    for c, T in POINTS:
        theirs = published()[LAW_KEYS[label]](pybamm.Scalar(c), pybamm.Scalar(T)).evaluate()
        assert law(c, T) == pytest.approx(float(theirs), rel=1e-12, abs=0)


def test_published_values_at_one_molar() -> None:
    """Conductivity, diffusivity, transference number and factor at 1 M and 298.15 K."""
    values = [getattr(landesfeind_ec_emc(), label)(1000.0, 298.15) for label in PROPERTIES]
    assert values == pytest.approx([0.9130, 2.8922e-10, 0.2209, 2.18], rel=1e-3, abs=0)


@pytest.mark.parametrize("label", PROPERTIES)
def test_one_law_gives_one_number_in_numpy_pybamm_and_ufl(label: str) -> None:
    ufl = pytest.importorskip("ufl")
    law = getattr(landesfeind_ec_emc(), label)
    for c, T in POINTS:
        number = law(c, T)
        in_pybamm = law(pybamm.Scalar(c), pybamm.Scalar(T), exp=pybamm.exp).evaluate()
        in_ufl = float(law(ufl.as_ufl(c), ufl.as_ufl(T), exp=ufl.exp))
        assert float(in_pybamm) == pytest.approx(number, rel=1e-9, abs=0)
        assert in_ufl == pytest.approx(number, rel=1e-9, abs=0)
        arrays = law(np.array([c, c]), np.array([T, T]))
        assert arrays == pytest.approx([number, number], rel=1e-12, abs=0)


def test_discharge_equals_that_of_pybamms_own_functions() -> None:
    electrolyte = landesfeind_ec_emc()
    by_hand = pybamm.ParameterValues("Chen2020")
    by_hand.update({key: published()[key] for key in LAW_KEYS.values()})
    ours = discharge(parameter_values(electrolyte), c_rates=[1.0, 2.0])["voltage"]
    theirs = discharge(by_hand, c_rates=[1.0, 2.0])["voltage"]
    rms = 1e3 * np.sqrt(((ours - theirs) ** 2).mean(("draw", "time")))
    assert (rms < 0.5).all()
    assert float(abs(ours - theirs).max()) < 1e-4


def test_a_lone_thermodynamic_factor_costs_far_more_than_the_whole_set() -> None:
    """Why partial sets are refused, with Chen2020's own electrolyte as the reference, at 2C."""
    lone = pybamm.ParameterValues("Chen2020")
    lone[LAW_KEYS["thermodynamic_factor"]] = 2.18
    reference, alone, whole = (
        discharge(values, c_rates=[2.0])["voltage"]
        for values in (
            pybamm.ParameterValues("Chen2020"),
            lone,
            parameter_values(landesfeind_ec_emc()),
        )
    )
    rms = [1e3 * float(np.sqrt(((one - reference) ** 2).mean())) for one in (alone, whole)]
    assert rms == pytest.approx([109, 11], rel=0.05)


def test_all_coefficients_can_be_inputs() -> None:
    electrolyte, names = landesfeind_ec_emc(), list(PROPERTIES)
    values = parameter_values(electrolyte, as_inputs=names)
    together = discharge(values, c_rates=[1.0], inputs=[inputs(electrolyte, names)])
    alone = discharge(parameter_values(electrolyte), c_rates=[1.0])
    assert float(abs(together["voltage"] - alone["voltage"]).max()) < 1e-5


def given(*labels: str) -> dict[str, Law]:
    return {label: getattr(landesfeind_ec_emc(), label) for label in labels}


def test_partial_set_is_refused() -> None:
    with pytest.raises(ValueError, match="transference_number, thermodynamic_factor is missing"):
        liquid_electrolyte(
            given("conductivity", "diffusivity"), concentration=1000.0, temperature=300.0
        )


def test_complete_set_keeps_its_own_name_and_laws() -> None:
    lender = replace(landesfeind_ec_emc(), conductivity=Law("constant", (9.0,), "S m-1"))
    result = liquid_electrolyte(
        given(*PROPERTIES),
        concentration=1200.0,
        temperature=300.0,
        complete_from=lender,
        name="mine",
    )
    assert result == replace(
        landesfeind_ec_emc(), concentration=1200.0, temperature=300.0, name="mine"
    )


def test_completed_set_says_what_was_lent_in_the_attrs_of_results() -> None:
    own = Law("constant", (0.7,), "S m-1")
    result = liquid_electrolyte(
        {"conductivity": own},
        concentration=1000.0,
        temperature=298.15,
        complete_from=landesfeind_ec_emc(),
        name="mine",
    )
    assert result.conductivity == own
    assert result.diffusivity == landesfeind_ec_emc().diffusivity
    assert (
        "mine, with diffusivity, transference_number, thermodynamic_factor of LiPF6 in EC:EMC 3:7"
        in assumptions(result)["cell"]
    )


def test_thermodynamic_factor_without_its_diffusivity_is_refused_even_with_a_lender() -> None:
    with pytest.raises(ValueError, match="without the diffusivity that contains it"):
        liquid_electrolyte(
            given("conductivity", "transference_number", "thermodynamic_factor"),
            concentration=1000.0,
            temperature=298.15,
            complete_from=landesfeind_ec_emc(),
        )


def solid() -> Electrolyte:
    one = Law("constant", (1.0,), "1")
    return replace(
        landesfeind_ec_emc(), transference_number=one, thermodynamic_factor=one, single_ion=True
    )


def test_faults_are_listed_together() -> None:
    with pytest.raises(ValueError) as error:
        liquid_electrolyte(
            given("conductivity") | {"viscosity": Law("constant", (1e-3,), "Pa s")},
            concentration=1000.0,
            temperature=400.0,
            complete_from=solid(),
        )
    for word in ("'viscosity' is no property", "single-ion conductor", "cannot be lent"):
        assert word in str(error.value)
