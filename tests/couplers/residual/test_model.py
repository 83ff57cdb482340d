"""The shipped corrector inside PyBaMM and on a finished solution."""

from __future__ import annotations

from dataclasses import replace

import casadi
import numpy as np
import pytest

from continuum.cell import pybamm
from couplers.residual.after import correct, refuse_foreign
from couplers.residual.corrector import SHIPPED, load
from couplers.residual.model import (
    CORRECTION,
    INSIDE,
    LARGEST,
    MEMORY,
    UNCORRECTED,
    CorrectedSPMe,
    described,
)
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import read_cell

SET = "Chen2020"


@pytest.fixture(scope="module")
def values() -> pybamm.ParameterValues:
    return pybamm.ParameterValues(SET)


@pytest.fixture(scope="module")
def discharge(values: pybamm.ParameterValues) -> pybamm.Solution:
    """At 1.5C, a rate that no training profile has."""
    fast = values.copy()
    fast["Current function [A]"] = 7.5
    fast.set_initial_state(1.0)
    return pybamm.Simulation(CorrectedSPMe(SET), parameter_values=fast).solve(
        [0, 3600], t_interp=np.arange(0.0, 3601.0, 20.0)
    )


def p2d_voltage(
    values: pybamm.ParameterValues, time: np.ndarray, current: np.ndarray
) -> np.ndarray:
    cell = read_cell(values)
    found = follow(P2D(cell, np.array([1.0]), points=(24, 12)), current[None], time)
    return found["voltage"].values[0]


def test_corrected_voltage_is_that_of_p2d(
    values: pybamm.ParameterValues, discharge: pybamm.Solution
) -> None:
    time = discharge.t[:-1]
    expected = p2d_voltage(values, time, np.full_like(time, 7.5))
    corrected = discharge["Voltage [V]"].entries[:-1] - expected
    bare = discharge[UNCORRECTED].entries[:-1] - expected
    there = np.isfinite(expected)
    rms, rms_bare = (np.sqrt(np.mean(e[there] ** 2)) for e in (corrected, bare))
    assert rms < 2e-3
    assert rms < rms_bare / 4


def test_corrected_voltage_ends_the_discharge(discharge: pybamm.Solution) -> None:
    assert discharge.termination == "event: Minimum voltage [V]"
    assert discharge["Voltage [V]"].entries[-1] == pytest.approx(2.5, abs=1e-3)
    gap = discharge["Voltage [V]"].entries - discharge[UNCORRECTED].entries
    np.testing.assert_allclose(gap, discharge[CORRECTION].entries, atol=1e-12)


def test_cut_offs_form_the_correction_only_when_they_are_near(
    discharge: pybamm.Solution,
) -> None:
    """Numbers and CasADi agree; far away the margin is SPMe's own, of the same sign."""
    model = discharge.all_models[0]
    event = next(e for e in model.events if e.name == "Minimum voltage [V]").expression
    y = casadi.MX.sym("y", discharge.y.shape[0])
    compiled = casadi.Function("event", [y], [event.to_casadi(y=y)])
    bare, volts = (discharge[name].entries for name in (UNCORRECTED, "Voltage [V]"))
    seen = set()
    for k in (5, len(volts) - 3):
        near = bare[k] - 2.5 < LARGEST
        expected = (volts if near else bare)[k] - 2.5
        states = discharge.y[:, k]
        assert float(event.evaluate(y=states[:, None])[0, 0]) == pytest.approx(expected, abs=1e-9)
        assert float(compiled(states)) == pytest.approx(expected, abs=1e-9)
        seen.add(bool(near))
    assert seen == {True, False}


def test_experiment_holds_and_stops_at_the_corrected_voltage(
    values: pybamm.ParameterValues,
) -> None:
    steps = ("Charge at 0.7C until 4.1 V", "Hold at 4.1 V until C/5", "Rest for 2 minutes")
    simulation = pybamm.Simulation(
        CorrectedSPMe(SET), parameter_values=values, experiment=pybamm.Experiment([steps])
    )
    solution = simulation.solve(initial_soc=0.6)
    charge, hold, rest = solution.cycles[0].steps
    assert charge["Voltage [V]"].entries[-1] == pytest.approx(4.1, abs=1e-4)
    assert abs(charge[CORRECTION].entries[-1]) > 1e-4
    np.testing.assert_allclose(hold["Voltage [V]"].entries, 4.1, atol=1e-4)
    assert np.ptp(hold[UNCORRECTED].entries) > 1e-4
    assert hold["Current [A]"].entries[-1] == pytest.approx(-1.0, rel=1e-3)
    # memories go on through the steps
    assert rest[MEMORY.format(4)].entries[0] == pytest.approx(
        hold[MEMORY.format(4)].entries[-1], abs=1e-6
    )


@pytest.mark.parametrize("points", [7, 12])
def test_a_long_step_does_not_leap_over_a_cut_off(points: int) -> None:
    """Ai2020 beyond 4.2 V: its potential falls to 0, where a step of half an hour would end."""
    model = CorrectedSPMe("Ai2020")
    solution = pybamm.Simulation(
        model,
        parameter_values=pybamm.ParameterValues("Ai2020"),
        var_pts={**model.default_var_pts, "x_n": points, "x_s": 5, "x_p": points},
        experiment=pybamm.Experiment(["Charge at 0.5C until 4.18 V"], period="10 minutes"),
    ).solve(initial_soc=0.2)
    assert solution.t[-1] == pytest.approx(5488, abs=2)


def test_one_drive_outside_and_inside_agree_with_the_student(
    values: pybamm.ParameterValues,
) -> None:
    """The ensemble differs from the student by its distillation error only."""
    time = np.arange(0.0, 121.0)
    current = 5.0 * (1 + np.sin(time / 7))
    driven = values.copy()
    driven["Current function [A]"] = pybamm.Interpolant(time, current, pybamm.t)
    driven.set_initial_state(0.8)
    solution = pybamm.Simulation(CorrectedSPMe(SET), parameter_values=driven).solve(
        [0, 120], t_interp=time
    )
    np.testing.assert_allclose(solution[INSIDE].entries, 1.0)
    after = correct(solution, driven, SET)
    assert after.attrs["outcome"] == "corrected throughout"
    np.testing.assert_allclose(after["correction"], solution[CORRECTION].entries, atol=1.5e-3)
    np.testing.assert_allclose(after["spme_voltage"], solution[UNCORRECTED].entries)
    # the student's features are the same to the solver's tolerance: put it in the ensemble's place
    student = load(SET)
    alone = replace(student, teachers=(student.student, student.student))
    again = correct(solution, driven, alone)
    np.testing.assert_allclose(again["correction"], solution[CORRECTION].entries, atol=5e-5)


def test_abstains_beyond_its_current_and_says_so(values: pybamm.ParameterValues) -> None:
    """4C in this cell uses up the electrolyte: no correction of a voltage helps there."""
    fast = values.copy()
    fast["Current function [A]"] = 20.0
    fast.set_initial_state(1.0)
    solution = pybamm.Simulation(CorrectedSPMe(SET), parameter_values=fast).solve([0, 200])
    assert solution[INSIDE].entries.max() < 1e-3
    after = correct(solution, fast, SET)
    assert bool(after["abstained"].all())
    assert "abstained at 100.0 %" in after.attrs["outcome"]
    np.testing.assert_array_equal(after["voltage"], after["spme_voltage"])
    assert float(after["band"].min()) >= load(SET).abstained_band


def test_another_cell_is_not_corrected(values: pybamm.ParameterValues) -> None:
    thicker = values.copy()
    thicker["Separator thickness [m]"] = 2e-5
    solution = pybamm.Simulation(CorrectedSPMe(SET), parameter_values=thicker).solve([0, 60])
    np.testing.assert_array_equal(solution[CORRECTION].entries, 0.0)
    with pytest.raises(ValueError, match="Separator thickness .* is 2e-05, trained for 1.2e-05"):
        correct(solution, thicker, SET)


def test_another_electrolyte_of_the_same_shape_is_a_feature(
    values: pybamm.ParameterValues,
) -> None:
    drawn = values.copy()
    conductivity = values["Electrolyte conductivity [S.m-1]"]
    drawn["Electrolyte conductivity [S.m-1]"] = lambda c, T: 0.8 * conductivity(c, T)
    drawn["Current function [A]"] = 5.0
    own = values.copy()
    own["Current function [A]"] = 5.0
    first, second = (
        pybamm.Simulation(CorrectedSPMe(SET), parameter_values=v).solve([0, 60])
        for v in (own, drawn)
    )
    assert first[INSIDE].entries.min() == second[INSIDE].entries.min() == 1.0
    assert abs(first[CORRECTION].entries[-1] - second[CORRECTION].entries[-1]) > 2e-5


def test_parameter_values_are_left_alone(values: pybamm.ParameterValues) -> None:
    before = dict(values.items())
    pybamm.Simulation(CorrectedSPMe(SET), parameter_values=values).solve([0, 10])
    assert dict(values.items()) == before


def test_refusals(values: pybamm.ParameterValues) -> None:
    with pytest.raises(ValueError, match="no corrector 'Nobody2020'. Shipped are: .*Chen2020"):
        CorrectedSPMe("Nobody2020")
    with pytest.raises(ValueError, match="default options, not particle = 'uniform profile'"):
        CorrectedSPMe(SET, {"particle": "uniform profile"})
    plain = pybamm.Simulation(
        pybamm.lithium_ion.SPMe(),
        parameter_values=values,
        solver=pybamm.IDAKLUSolver(output_variables=["Voltage [V]"]),
    ).solve([0, 10])
    with pytest.raises(ValueError, match="The solution lacks .*Current"):
        correct(plain, values, SET)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.npz")))
def test_shipped_correctors_are_small_and_know_their_cell(name: str) -> None:
    corrector = load(name)
    assert corrector.size <= 1100
    kept = described(pybamm.ParameterValues(name))
    for part in ("signature", "electrolyte"):
        for key, value in kept[part].items():
            assert corrector.about[part][key] == pytest.approx(value, rel=1e-9, abs=0), key
    assert len(corrector.about["data"]) == 16


def test_a_diffusivity_that_is_only_half_full_the_same_is_foreign() -> None:
    values = pybamm.ParameterValues("Chen2020")
    half = values["Negative particle diffusivity [m2.s-1]"]
    values["Negative particle diffusivity [m2.s-1]"] = lambda sto, T: half * pybamm.exp(0.5 - sto)
    with pytest.raises(ValueError, match=r"Negative particle diffusivity at 0.2 .* is 4.45.*e-14"):
        refuse_foreign(values, load("Chen2020"))
    solution = pybamm.Simulation(CorrectedSPMe("Chen2020"), parameter_values=values).solve([0, 60])
    assert (solution[INSIDE].entries == 0).all()


def test_a_potential_from_a_table_is_not_looked_at_beyond_it() -> None:
    """Ai2020's cathode is a table from 0.4 on; full, its features would look at 0.335."""
    values = pybamm.ParameterValues("Ai2020")
    (low, high), cathode = read_cell(values).known
    assert (low, 1 - high) == pytest.approx((0.005, 0.005))
    assert cathode == pytest.approx((0.4, 0.995))
    values.set_initial_state(1.0)
    solution = pybamm.Simulation(CorrectedSPMe("Ai2020"), parameter_values=values).solve([0, 60])
    np.testing.assert_allclose(solution[INSIDE].entries, 1.0)
