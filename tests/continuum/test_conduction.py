"""A single-ion slab under current against Ohm's law, linear theory and a boundary-value solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.constants import epsilon_0, gas_constant, physical_constants
from scipy.integrate import solve_bvp

from continuum.conduction import _slab, conduct
from continuum.inputs import Electrolyte
from continuum.laws import Law
from continuum.outcome import SolverError
from continuum.schema import FIELD

FARADAY = physical_constants["Faraday constant"][0]


def _solid(conductivity: float = 0.2, concentration: float = 24e3) -> Electrolyte:
    return Electrolyte(
        conductivity=Law("constant", (conductivity,), "S m-1"),
        diffusivity=Law("constant", (1e-11,), "m2 s-1"),
        transference_number=Law("constant", (1.0,), "1"),
        thermodynamic_factor=Law("constant", (1.0,), "1"),
        concentration=concentration,
        temperature=300.0,
        single_ion=True,
        name="solid",
    )


def _scaled(ratio: float, drive: float, cells: int = 128):
    """Solve at a given Debye length over thickness and i L F / (sigma R T)."""
    solid = _solid()
    volt = gas_constant * 300.0 / FARADAY
    debye = np.sqrt(10.0 * epsilon_0 * volt / (FARADAY * solid.concentration))
    thickness = debye / ratio
    return conduct(
        solid, thickness=thickness, current_density=drive * 0.2 * volt / thickness, cells=cells
    ), volt


@pytest.mark.parametrize("thickness", [20e-6, 100e-6])
@pytest.mark.parametrize("conductivity", [0.01, 0.2, 10.0])
@pytest.mark.parametrize("current_density", [-40.0, 1.0, 40.0])
def test_ohm(thickness, conductivity, current_density):
    field = conduct(_solid(conductivity), thickness=thickness, current_density=current_density)
    assert abs(field.relative_difference) < 1e-10
    assert field.ohm_potential_drop == pytest.approx(current_density * thickness / conductivity)
    assert float(field.flux[0]) * FARADAY == pytest.approx(current_density, rel=1e-10)
    # current runs down the potential
    assert np.sign(field.potential[0] - field.potential[-1]) == np.sign(current_density)


@pytest.mark.parametrize("ratio", [1.0, 0.3, 0.05, 1e-3])
def test_small_current_matches_linear_theory(ratio):
    drive = 1e-3
    field, _ = _scaled(ratio, drive)
    x = field.x.values / field.x.values[-1] - 0.5
    # exp(-1/2 ratio) underflows harmlessly where sinh and cosh would overflow
    exact = -drive * ratio * np.sign(x) * np.exp((np.abs(x) - 0.5) / ratio)
    exact *= -np.expm1(-2 * np.abs(x) / ratio) / (1 + np.exp(-1 / ratio))
    got = field.concentration.values[0] / 24e3 - 1
    assert np.abs(got - exact).max() < 2e-3 * np.abs(exact).max()


@pytest.mark.parametrize("ratio", [0.2, 1.0])
def test_thin_slab_leaves_ohms_law_by_the_second_order_term(ratio):
    drive = 0.05
    field, _ = _scaled(ratio, drive)
    second = drive**2 * ratio**2 * (ratio * np.sinh(1 / ratio) - 1) / (1 + np.cosh(1 / ratio))
    assert field.relative_difference == pytest.approx(second, rel=1e-3)


def _reference(ratio: float, drive: float) -> tuple[float, float]:
    """Drop (RT/F) and ln c/c0 at x = 0 by collocation on u = ln c/c0 and E = -phi'."""
    x = np.linspace(0.0, 1.0, 201)
    sol = None
    for part in (0.1, 0.4, 0.7, 1.0):
        current = part * drive

        def slope(x, y, current=current):
            return np.vstack(
                [y[1] - current * np.exp(-y[0]), np.expm1(y[0]) / ratio**2, current * np.exp(-y[0])]
            )

        sol = solve_bvp(
            slope,
            lambda a, b: np.array([a[1], b[1], a[2]]),
            x if sol is None else sol.x,
            np.zeros((3, 201)) if sol is None else sol.y,
            tol=1e-10,
            max_nodes=100000,
        )
        assert sol.status == 0
    return sol.y[2, -1], sol.y[0, 0]


@pytest.mark.parametrize(("ratio", "drive"), [(1.0, 1.5), (0.2, 3.5), (0.05, -12.0), (0.5, -2.0)])
def test_strong_polarisation_matches_collocation(ratio, drive):
    field, volt = _scaled(ratio, drive, cells=256)
    drop, first = _reference(ratio, drive)
    assert abs(field.relative_difference) > 1e-3
    assert float(field.potential_drop) / volt == pytest.approx(drop, rel=1e-7)
    assert np.log(field.concentration.values[0, 0] / 24e3) == pytest.approx(first, rel=1e-6)
    assert field.concentration.values.min() > 0


def test_drop_converges_with_the_cells():
    drop, _ = _reference(0.2, 3.5)
    cells = np.array([16, 32, 64, 128])
    errors = []
    for n in cells:
        field, volt = _scaled(0.2, 3.5, cells=int(n))
        errors.append(abs(float(field.potential_drop) / volt - drop))
    rate = -np.polyfit(np.log(cells), np.log(errors), 1)[0]
    # the drop is the functional whose energy norm P2 minimises: twice its order 2
    assert 3.6 < rate < 4.6, errors


def test_nothing_is_lost_or_mutated_and_the_format_is_the_declared_one():
    solid = _solid()
    before = repr(solid)
    field = conduct(solid, thickness=20e-6, current_density=5.0)
    assert repr(solid) == before
    for name, row in FIELD["variables"].items():
        assert field[name].dims == row["dims"]
        assert field[name].attrs["units"] == row["units"]
    assert all(word in field.attrs for word in FIELD["attrs"])
    x, excess = field.x.values, field.concentration.values[0] / 24e3 - 1
    h = x[2::2] - x[:-1:2]
    inventory = np.sum(h * (excess[:-1:2] + 4 * excess[1::2] + excess[2::2]) / 6) / x[-1]
    assert abs(inventory) < 1e-10


def test_draws_use_the_compiled_forms_again_and_order_does_not_matter():
    first = conduct(_solid(0.1), thickness=30e-6, current_density=3.0)
    built = _slab.cache_info().misses
    for value in (0.2, 5.0, 0.013):
        conduct(_solid(value), thickness=1e-6 / value, current_density=-70.0)
    again = conduct(_solid(0.1), thickness=30e-6, current_density=3.0)
    assert _slab.cache_info().misses == built
    assert first.identical(again)


def test_temperature_enters_through_the_law_and_its_window_is_recorded():
    law = Law("arrhenius", (0.2, 30e3, 300.0), "S m-1", temperature_window=(280.0, 340.0))
    solid = replace(_solid(), conductivity=law)
    warm = conduct(solid, thickness=50e-6, current_density=10.0, temperature=350.0)
    assert warm.ohm_potential_drop == pytest.approx(10.0 * 50e-6 / float(law(24e3, 350.0)))
    assert abs(warm.relative_difference) < 1e-10
    assert "temperature 350 K lies outside" in warm.attrs["outcome"]
    cool = conduct(solid, thickness=50e-6, current_density=10.0)
    assert "outside" not in cool.attrs["outcome"]


def test_faults_are_listed_together():
    liquid = replace(_solid(), single_ion=False, transference_number=Law("constant", (0.4,), "1"))
    with pytest.raises(ValueError) as error:
        conduct(liquid, thickness=-1.0, current_density=np.nan, relative_permittivity=0, cells=7)
    for word in ("single-ion", "thickness", "current_density", "permittivity", "cells is 7"):
        assert word in str(error.value)


def test_a_failed_solve_raises_or_is_returned_as_told():
    arguments = {"thickness": 1e-12, "current_density": 1e15}
    with pytest.raises(SolverError, match="Newton did not converge"):
        conduct(_solid(), **arguments)
    field = conduct(_solid(), **arguments, throw=False)
    assert field.attrs["converged"] == 0
    assert "did not converge" in field.attrs["outcome"]
