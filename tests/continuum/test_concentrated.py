"""Newman's equations against an initial-value integration, Sand's law and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.constants import gas_constant, physical_constants
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from continuum.concentrated import polarise
from continuum.inputs import Electrolyte
from continuum.laws import Law
from continuum.outcome import SolverError
from continuum.schema import FIELD

FARADAY = physical_constants["Faraday constant"][0]
T = 298.15


def _constant(kappa=1.0, D=3e-10, t=0.3, factor=2.0, **kind) -> Electrolyte:
    return Electrolyte(
        conductivity=Law("constant", (kappa,), "S m-1"),
        diffusivity=Law("constant", (D,), "m2 s-1"),
        transference_number=Law("constant", (t,), "1"),
        thermodynamic_factor=Law("constant", (factor,), "1"),
        concentration=1000.0,
        temperature=T,
        **kind,
    )


# LiPF6 in EC:EMC, Landesfeind and Gasteiger 2019, doi:10.1149/2.0571912jes
LIQUID = Electrolyte(
    conductivity=Law(
        "landesfeind conductivity", (0.0521, 228.0, -1.06, 0.353, -0.00359, 0.00148), "S m-1"
    ),
    diffusivity=Law("landesfeind diffusivity", (1.01e-7, 1.01, -1560.0, -487.0), "m2 s-1"),
    transference_number=Law(
        "cubic",
        (-12.8, -6.12, 0.0821, 0.904, 0.0318, -1.27e-4, 0.0175, -3.12e-3, -3.96e-5),
        "1",
    ),
    thermodynamic_factor=Law(
        "cubic", (25.7, -45.1, -0.177, 1.94, 0.295, 3.08e-4, 0.259, -9.46e-3, -4.54e-4), "1"
    ),
    concentration=1000.0,
    temperature=T,
)


def _steady(
    electrolyte: Electrolyte, thickness: float, current: float
) -> tuple[float, float, float]:
    """c(0), c(L) (mol m-3) and the drop (V), by shooting on the salt that the layer holds."""

    def march(first):
        def slope(x, y):
            c = y[0]
            t = electrolyte.transference_number(c, T)
            gradient = -(1 - t) * current / (FARADAY * electrolyte.diffusivity(c, T))
            fall = current / electrolyte.conductivity(c, T)
            fall -= (
                2 * gas_constant * T / FARADAY * (1 - t)
                * electrolyte.thermodynamic_factor(c, T) * gradient / c
            )  # fmt: skip
            return [gradient, c, fall]

        return solve_ivp(slope, [0, thickness], [first, 0, 0], rtol=1e-11, atol=1e-13).y[:, -1]

    target = electrolyte.concentration * thickness
    first = brentq(lambda c: march(c)[1] - target, 900.0, 1900.0, xtol=1e-9, rtol=1e-13)
    last, _, drop = march(first)
    return first, last, drop


@pytest.mark.parametrize("current", [5.0, 40.0])
def test_real_laws_match_shooting(current):
    thickness = 50e-6
    got = polarise(LIQUID, thickness=thickness, current_density=current)
    first, last, drop = _steady(LIQUID, thickness, current)
    c = got.concentration.values[0]
    assert c[0] == pytest.approx(first, rel=1e-7)
    assert c[-1] == pytest.approx(last, rel=1e-7)
    assert float(got.potential_drop) == pytest.approx(drop, rel=1e-7)


def test_constant_properties_have_a_closed_form():
    kappa, D, t, factor, thickness, current = 0.9, 3e-10, 0.3, 2.0, 100e-6, 20.0
    got = polarise(_constant(kappa, D, t, factor), thickness=thickness, current_density=current)
    slope = (1 - t) * current / (FARADAY * D)
    x = got.x.values
    np.testing.assert_allclose(
        got.concentration.values[0], 1000 + slope * (thickness / 2 - x), rtol=1e-9
    )
    ends = got.concentration.values[0, [0, -1]]
    drop = current * thickness / kappa
    drop += 2 * gas_constant * T / FARADAY * (1 - t) * factor * np.log(ends[0] / ends[1])
    assert float(got.potential_drop) == pytest.approx(drop, rel=1e-9)


def test_early_times_follow_sand():
    D, t, current, thickness = 3e-10, 0.3, 10.0, 400e-6
    times = np.array([0.1, 1.0, 4.0])
    got = polarise(
        _constant(D=D, t=t),
        thickness=thickness,
        current_density=current,
        times=times,
        tolerance=1e-7,
    )
    rise = 2 * (1 - t) * current / FARADAY * np.sqrt(times / (np.pi * D))
    np.testing.assert_allclose(got.concentration[:, 0, 0], 1000 + rise, rtol=1e-6)
    np.testing.assert_allclose(got.concentration[:, 0, -1], 1000 - rise, rtol=1e-6)


def test_salt_is_kept_and_time_ends_in_the_steady_state():
    arguments = {"thickness": 50e-6, "current_density": 40.0}
    moving = polarise(LIQUID, times=[1e-3, 0.1, 10.0, 1e4], **arguments)
    x = moving.x.values
    h = x[2::2] - x[:-1:2]
    c = moving.concentration.values[:, 0]
    # Simpson sees c between the nodes through its square only: nearly, not exactly, the integral
    held = np.sum(h * (c[:, :-1:2] + 4 * c[:, 1::2] + c[:, 2::2]) / 6, axis=1) / 50e-6
    np.testing.assert_allclose(held, 1000.0, rtol=1e-7)
    steady = polarise(LIQUID, **arguments)
    np.testing.assert_allclose(moving.concentration.isel(time=-1), steady.concentration, rtol=1e-7)
    for name, row in FIELD["variables"].items():
        assert steady[name].dims == row["dims"]
        assert steady[name].attrs["units"] == moving[name].attrs["units"] == row["units"]


def test_a_dilute_salt_is_the_neutral_nernst_planck():
    from continuum import nernst_planck as npl
    from continuum.inputs import ButlerVolmer, Solution, Species, Wall

    plus, minus, c, thickness = 1e-9, 3e-9, 1000.0, 1e-4
    t = plus / (plus + minus)
    salt = _constant(
        kappa=FARADAY**2 * c * (plus + minus) / (gas_constant * T),
        D=2 * plus * minus / (plus + minus), t=t, factor=1.0,
    )  # fmt: skip
    solution = Solution((Species("Li", 1, c, plus), Species("X", -1, c, minus)))
    rate = 50 * plus / thickness
    transfer = ButlerVolmer("Li", rate * c, rate)
    cell = npl.solve(
        solution,
        {
            "left": Wall(potential=0.02, reaction=transfer),
            "right": Wall(potential=0.0, reaction=transfer),
        },
        length=thickness,
        electroneutral=True,
    )
    current = FARADAY * float(cell.flux[0])
    got = polarise(salt, thickness=thickness, current_density=current)
    # kappa here does not follow c: compare to the first order in the current
    spread = float(cell.concentration[0, 0] - cell.concentration[0, -1])
    assert float(got.concentration[0, 0] - got.concentration[0, -1]) == pytest.approx(
        spread, rel=1e-6
    )
    mu = cell.electrochemical_potential.values[0]
    assert FARADAY * float(got.potential_drop) == pytest.approx(mu[0] - mu[-1], rel=2e-2)


def test_beyond_the_limiting_current_there_is_no_steady_state():
    limit = 2 * FARADAY * 3e-10 * 1000.0 / (0.7 * 100e-6)
    fine = polarise(_constant(), thickness=100e-6, current_density=0.99 * limit)
    assert float(fine.concentration.min()) == pytest.approx(10.0, rel=1e-4)
    with pytest.raises(SolverError, match="no steady state"):
        polarise(_constant(), thickness=100e-6, current_density=1.05 * limit)


def test_a_law_that_left_its_window_is_named():
    law = Law("constant", (3e-10,), "m2 s-1", concentration_window=(900.0, 1100.0))
    electrolyte = replace(_constant(), diffusivity=law)
    got = polarise(electrolyte, thickness=100e-6, current_density=120.0)
    assert "diffusivity: concentration" in got.attrs["outcome"]


def test_faults_are_listed_together():
    solid = _constant(t=1.0, single_ion=True)
    with pytest.raises(ValueError) as error:
        polarise(solid, thickness=0.0, current_density=np.inf, times=[], cells=9)
    for word in ("single-ion", "thickness", "current_density", "times", "cells is 9"):
        assert word in str(error.value)
