from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.constants import gas_constant
from scipy.integrate import quad
from scipy.spatial import ConvexHull

from continuum.cell import REACHED, discharge, pybamm
from continuum.inputs import FARADAY
from couplers.bpx import from_bpx, to_bpx
from couplers.contract import ContractError
from couplers.electrode import (
    Curve,
    Mixing,
    hull,
    mixing,
    open_circuit_potential,
    solid_diffusivity,
)

WARM = 298.15
VOLT = gas_constant * WARM / FARADAY


def energetics(x: np.ndarray, energy: np.ndarray, error: float = 100.0) -> xr.Dataset:
    along = "stoichiometry"
    return xr.Dataset(
        {
            "temperature": ((), WARM, {"units": "K"}),
            "formation_energy": (along, energy, {"units": "J mol-1"}),
            "formation_energy_std": (along, np.full(len(x), error), {"units": "J mol-1"}),
        },
        coords={along: (along, x, {"units": "1"})},
        attrs={"reference": "metal", "direction": "none"},
    )


def test_voltage_of_two_steps_is_the_slope_to_the_metal() -> None:
    """Half-filled at -3.6 V a half, then -3.2 V: an ordered phase between two plateaus."""
    x = np.array([0.0, 0.25, 0.5, 1.0])
    energy = -FARADAY * np.array([0.0, 0.8, 1.8, 3.4])  # a quarter lies 0.1 V above the line
    found = hull(energetics(x, energy))
    assert found["lower_stoichiometry"].values.tolist() == [0.0, 0.5]
    assert found["voltage"].values == pytest.approx([3.6, 3.2], rel=1e-12)
    assert found["energy_above_hull"].values == pytest.approx([0, 0.1 * FARADAY, 0, 0], abs=1e-6)
    assert found["stability"].values.tolist() == [1.0, 0.0, 1.0, 1.0]
    # differences of independent energies over the step of x
    expected = np.sqrt(2) * 100.0 / 0.5 / FARADAY
    assert found["voltage_std"].values == pytest.approx([expected, expected], rel=0.1)
    twice = hull(energetics(x, energy), charge_number=2.0)
    assert twice["voltage"].values == pytest.approx([1.8, 1.6], rel=1e-12)


def test_hull_is_that_of_qhull_and_voltages_fall() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        x = np.unique(np.concatenate([[0.0, 1.0], rng.uniform(0, 1, 14)]))
        energy = -3.0 * FARADAY * x + 2e4 * rng.standard_normal(len(x)) * (x > 0)
        order = rng.permutation(len(x))
        found = hull(energetics(x[order], energy[order]))
        shape = ConvexHull(np.column_stack([x, energy / FARADAY]))
        low = [
            pair
            for pair, plane in zip(shape.simplices, shape.equations, strict=True)
            if plane[1] < -1e-9
        ]
        corners = np.unique(np.array(low).ravel())
        stable = found["stoichiometry"].values[np.abs(found["energy_above_hull"].values) < 1e-6]
        np.testing.assert_allclose(stable, x[corners])
        assert (np.diff(found["voltage"]) < 0).all()
        # the mean voltage does not depend on what lies between
        width = found["upper_stoichiometry"] - found["lower_stoichiometry"]
        mean = float((found["voltage"] * width).sum())
        assert mean == pytest.approx(-(energy[-1] - energy[0]) / FARADAY, rel=1e-12)


def test_unsure_energies_are_unsure_phases() -> None:
    x = np.array([0.0, 0.5, 1.0])
    edge = -FARADAY * np.array([0.0, 1.75, 3.5])  # on the line between the ends
    found = hull(energetics(x, edge, error=1e3))
    assert float(found["stability"][1]) == pytest.approx(0.5, abs=0.08)
    blind = hull(energetics(x, edge, error=np.nan))
    assert blind["stability"].isnull().all() and blind["voltage_std"].isnull().all()


def test_potential_is_the_slope_of_the_free_energy() -> None:
    one = Mixing(3.4, (0.03, -0.02, 0.015, 0.01))
    x = np.linspace(0.02, 0.98, 49)
    step = 1e-6
    slope = (one.energy(x + step, WARM) - one.energy(x - step, WARM)) / (2 * step)
    np.testing.assert_allclose(one(x, WARM), -slope, atol=1e-8)
    symbol = one(pybamm.Vector(x), pybamm.Scalar(WARM), log=pybamm.log)
    np.testing.assert_allclose(symbol.evaluate().ravel(), one(x, WARM), rtol=1e-12)
    assert float(Mixing(3.4, ())(0.25, WARM)) == pytest.approx(3.4 + VOLT * np.log(3), rel=1e-12)
    assert float(Mixing(3.4, (), 2.0)(0.25, WARM)) == pytest.approx(
        3.4 + VOLT / 2 * np.log(3), rel=1e-12
    )


def test_mixing_is_fitted_with_as_many_terms_as_the_energies_bear() -> None:
    truth = Mixing(3.7, (0.05, -0.03))
    x = np.linspace(0, 1, 21)
    exact = FARADAY * truth.energy(x, 0.0)
    rng = np.random.default_rng(9)
    found = mixing(energetics(x, exact + 200.0 * rng.standard_normal(21) * (x > 0), error=200.0))
    assert len(found.interactions) == 2
    assert found.standard_potential == pytest.approx(3.7, abs=0.01)
    assert found.interactions == pytest.approx((0.05, -0.03), abs=0.015)
    blind = mixing(energetics(x, exact, error=np.nan), terms=2)
    assert blind.interactions == pytest.approx((0.05, -0.03), rel=1e-9)


def test_regular_solution_has_maxwells_plateau() -> None:
    """A_0 of 4 RT/F: plateau at U_0, its ends where ln((1-x)/x) = (A_0 F / RT)(1 - 2x)."""
    strength = 4 * VOLT
    one = Mixing(3.43, (strength,))
    made = open_circuit_potential(one, temperature=WARM)
    x = np.linspace(0.006, 0.994, 1001)
    assert (np.diff(made(x)) <= 1e-12).all(), "the potential never rises"
    assert (np.diff(one(x, WARM)) > 0).any(), "the loop of one phase does"
    from scipy.optimize import brentq

    end = brentq(lambda s: np.log((1 - s) / s) - 4 * (1 - 2 * s), 1e-4, 0.4)
    assert made(np.array([end + 0.01, 0.5, 0.99 - end])) == pytest.approx(3.43, abs=1e-9)
    outside = x[(x < end - 0.002) | (x > 1 - end + 0.002)]
    np.testing.assert_allclose(made(outside), one(outside, WARM), atol=2e-3)
    # equal areas: an asymmetric one too
    skew = Mixing(3.43, (strength, 0.5 * VOLT))
    flat = open_circuit_potential(skew, temperature=WARM, knots=401)
    values = np.array(flat.value)
    level = values[np.flatnonzero(np.diff(values) == 0)[0]]
    held = np.array(flat.stoichiometry)[values == level]
    area = quad(lambda s: float(skew(s, WARM)) - level, held[0], held[-1], epsabs=1e-13)[0]
    assert abs(area) < 1e-8
    # warm enough, and it mixes
    hot = open_circuit_potential(one, temperature=2.5 * WARM)
    assert (np.diff(hot.value) < 0).all()


def test_curve_is_the_same_in_numpy_and_pybamm() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0.1, 0.9, 12)
    falling = Curve(tuple(x), tuple(np.sort(rng.uniform(3, 4, 12))[::-1]), "V")
    slow = Curve(tuple(x), tuple(10 ** rng.uniform(-16, -13, 12)), "m2 s-1", logarithmic=True)
    points = np.linspace(0, 1, 97)  # beyond the knots too
    for curve in (falling, slow):
        symbol = curve(pybamm.Vector(points))
        np.testing.assert_allclose(symbol.evaluate().ravel(), curve(points), rtol=1e-12)
        state = curve(pybamm.StateVector(slice(0, 97)))
        import casadi

        y = casadi.MX.sym("y", 97)
        compiled = casadi.Function("f", [y], [state.to_casadi(y=y)])
        np.testing.assert_allclose(np.array(compiled(points)).ravel(), curve(points), rtol=1e-9)
    assert (np.diff(falling(points)) <= 0).all()
    assert slow(points).min() > 0


def test_cell_discharges_on_computed_energetics_and_goes_through_bpx(tmp_path) -> None:
    """OCP and D_s(x) of an LFP-like host in Chen2020's positive electrode, also through BPX."""
    potential = open_circuit_potential(Mixing(3.43, (2.6 * VOLT,)), temperature=WARM)
    diffusivity = xr.merge(
        [energetics(np.array([0.0, 0.5, 1.0]), -FARADAY * np.array([0.0, 1.7, 3.4]))]
    )
    along = "stoichiometry"
    diffusivity["solid_diffusivity"] = (along, [2e-14, 5e-15, 2e-14], {"units": "m2 s-1"})
    diffusivity["solid_diffusivity_std"] = (along, np.full(3, np.nan), {"units": "m2 s-1"})
    diffusivity.attrs = energetics(np.array([0.0, 1.0]), np.zeros(2)).attrs
    values = pybamm.ParameterValues("Chen2020")
    values.update(
        {
            "Positive electrode OCP [V]": potential,
            "Positive particle diffusivity [m2.s-1]": solid_diffusivity(diffusivity),
            "Lower voltage cut-off [V]": 2.5,
            "Upper voltage cut-off [V]": 3.6,
            "Open-circuit voltage at 0% SOC [V]": 2.5,
            "Open-circuit voltage at 100% SOC [V]": 3.6,
        }
    )
    mesh = {"x_n": 8, "x_s": 4, "x_p": 8}

    def volts(one: pybamm.ParameterValues) -> xr.Dataset:
        return discharge(one, c_rates=[0.2], mesh_points=mesh, relative_tolerance=1e-7)

    direct = volts(values)
    assert direct["outcome"].item() == REACHED
    middle = direct["voltage"].isel(condition=0, draw=0).dropna("time")
    assert 3.0 < float(middle[len(middle) // 2]) < 3.43
    to_bpx(values, tmp_path / "cell.json", title="LFP")
    again = volts(from_bpx(tmp_path / "cell.json"))
    assert 1e3 * float(abs(again["voltage"] - direct["voltage"]).max()) < 0.1


def test_bad_input_is_one_clear_sentence() -> None:
    good = energetics(np.array([0.0, 1.0]), np.array([0.0, -3e5]))
    with pytest.raises(ValueError, match="no formation_energy .*charge_number|charge_number is 0"):
        hull(good.drop_vars(["formation_energy", "formation_energy_std"]), charge_number=0)
    with pytest.raises(ValueError, match="there is 1 composition"):
        hull(good.isel(stoichiometry=[0]))
    with pytest.raises(ValueError, match="given twice"):
        hull(energetics(np.array([0.0, 0.5, 0.5]), np.zeros(3)))
    with pytest.raises(ValueError, match="run from -0.5 to 1.*3 terms need 4"):
        mixing(energetics(np.array([-0.5, 1.0]), np.zeros(2)), terms=3)
    with pytest.raises(ValueError, match="too few to choose the terms"):
        mixing(good)
    with pytest.raises(ValueError, match="temperature is 0 .*window is .*knots is 2"):
        open_circuit_potential(Mixing(3.4, ()), temperature=0, window=(0.0, 1.0), knots=2)
    with pytest.raises(ValueError, match="no solid_diffusivity"):
        solid_diffusivity(good)
    with pytest.raises(ValueError, match="must be finite and increase; .*not positive"):
        Curve((0.5, 0.1), (1.0, -1.0), "m2 s-1", logarithmic=True)
    stale = good.copy(deep=True)
    stale["formation_energy"].attrs["units"] = "eV"
    with pytest.raises(ContractError, match="formation_energy has units 'eV'"):
        hull(stale)
