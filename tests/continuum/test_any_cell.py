"""Whatever valid cell is asked for: an answer that balances, or a sentence; never nan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuum import double_layer as dl
from continuum import nernst_planck, poisson_boltzmann
from continuum.inputs import FARADAY, Solution, Species, Wall
from continuum.outcome import SolverError

FEW = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
sizes = st.sampled_from([0.0, 3e-10, 5e-10])
volts = st.floats(-1.0, 1.0)
electrodes = st.one_of(
    st.builds(Wall, potential=volts),
    st.builds(Wall, potential=volts, stern_capacitance=st.floats(0.05, 0.5)),
)
walls = st.one_of(electrodes, st.builds(Wall, surface_charge=st.floats(-0.2, 0.2)), st.just(Wall()))


@st.composite
def solutions(draw, solute=True):
    z = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    c = 10 ** draw(st.floats(-1.0, 3.0))
    D = [10 ** draw(st.floats(-11.0, -8.0)) for _ in range(2)]
    ions = (
        Species("cation", z[0], c / z[0], D[0], draw(sizes)),
        Species("anion", -z[1], c / z[1], D[1], draw(sizes)),
    )
    if solute and draw(st.booleans()):
        ions = (*ions, Species("neutral", 0, c / 3, 1e-9))
    return Solution(
        ions,
        relative_permittivity=draw(st.floats(5.0, 100.0)),
        temperature=draw(st.floats(250.0, 600.0)),
    )


def finite(got):
    for name in got.data_vars:
        assert np.all(np.isfinite(got[name].values)), name
    assert got.attrs["outcome"]


@FEW
@given(solution=solutions(), wall=walls)
def test_ions_at_rest_neutralise_their_wall(solution, wall):
    got = poisson_boltzmann.solve(solution, {"left": wall}, throw=False)
    finite(got)
    if got.attrs["converged"]:
        expected = float(dl.surface_charge(solution, float(got.surface_potential[0])))
        # a crowd of ions 1 V deep is a Gouy length of 1e-17 m: then fewer digits
        np.testing.assert_allclose(got.surface_charge[0], expected, rtol=1e-3, atol=1e-12)
        assert float(got.concentration.min()) >= 0


@settings(FEW, max_examples=15)
@given(
    # few kinds of wall and no third species: every new form would be compiled
    solution=solutions(solute=False),
    left=electrodes,
    right=electrodes,
    debye_lengths=st.floats(-0.5, 3.5),
    steady=st.booleans(),
)
def test_moving_ions_keep_charge_and_salt(solution, left, right, debye_lengths, steady):
    length = solution.debye_length * 10**debye_lengths
    slow = min(ion.diffusivity for ion in solution.species)
    times = None if steady else [length * solution.debye_length / slow]
    got = nernst_planck.solve(
        solution,
        {"left": left, "right": right},
        length=length,
        times=times,
        tolerance=1e-2,
        cells=100,
        throw=False,
    )
    finite(got)
    if not got.attrs["converged"]:
        return
    end = got if steady else got.isel(time=-1)
    held = np.array([ion.concentration * length for ion in solution.species])
    np.testing.assert_allclose(end.inventory, held, rtol=1e-10)
    charge = [ion.charge_number for ion in solution.species] @ end.inventory.values * FARADAY
    scale = np.abs(end.surface_charge.values).max() + 1e-6
    assert abs(float(end.surface_charge.sum()) + charge) < 1e-6 * scale


def test_an_answer_that_lost_its_balance_is_a_failure_that_says_so():
    # trivalent points at 1.4 V: so dense a layer that rounding makes salt out of nothing
    solution = Solution(
        (
            Species("cation", 3, 147.7, 2.7e-11, diameter=5e-10),
            Species("anion", -3, 147.7, 2.3e-9),
        ),
        relative_permittivity=86.8,
        temperature=412.0,
    )
    walls = {
        "left": Wall(potential=0.781),
        "right": Wall(potential=-0.604, stern_capacitance=0.141),
    }
    arguments = {"length": 943 * solution.debye_length}
    got = nernst_planck.solve(solution, walls, throw=False, **arguments)
    finite(got)
    held = np.array([ion.concentration for ion in solution.species]) * arguments["length"]
    lost = np.abs(got.inventory.values / held - 1).max()
    np.testing.assert_allclose(got.attrs["ion_gap"], lost, rtol=1e-9)
    assert lost > 1 and got.attrs["converged"] == 0
    with pytest.raises(SolverError, match="out of balance.*give the ions a diameter"):
        nernst_planck.solve(solution, walls, **arguments)
    sized = Solution(
        tuple(replace(ion, diameter=5e-10) for ion in solution.species),
        relative_permittivity=86.8,
        temperature=412.0,
    )
    well = nernst_planck.solve(sized, walls, **arguments)
    assert well.attrs["charge_gap"] < 1e-9 and well.attrs["ion_gap"] < 1e-9
