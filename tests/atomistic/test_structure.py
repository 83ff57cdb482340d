"""Radial distribution functions against an ideal gas, a crystal and brute force."""

from __future__ import annotations

import time

import numpy as np
import pytest

from atomistic.observables.structure import radial_distribution
from tests.atomistic.synthetic import ANGSTROM, trajectory

SKEW = np.array([[9.0, 0.0, 0.0], [3.0, 8.0, 0.0], [-2.0, 2.5, 10.0]])


def gas(rng, cell, *, replicas=2, frames=200, counts=(20, 32)):
    fractional = rng.random((replicas, frames, sum(counts), 3))
    data = trajectory(
        [np.zeros((replicas, frames, sum(counts), 3))],
        symbols=["Li"] * counts[0] + ["S"] * counts[1],
        temperatures=[500.0],
    )
    # ideal gases jump between frames: grow the time series smoothly but keep frames independent
    data["position"].values[0] = (fractional @ cell * ANGSTROM).astype(np.float32)
    data["cell"].values[:] = cell * ANGSTROM
    return data


@pytest.mark.parametrize("cell", [np.diag([10.0, 10.0, 10.0]), SKEW], ids=["cubic", "skew"])
def test_ideal_gas_gives_one_beyond_half_the_cell(cell):
    data = gas(np.random.default_rng(0), cell)
    found = radial_distribution(
        data, pairs=[("Li", "S"), ("S", "S")], maximum=9 * ANGSTROM, bins=9, frames=200
    )
    curve = found["radial_distribution"].isel(condition=0).transpose("distance", "pair").values
    np.testing.assert_allclose(curve[3:], 1.0, atol=0.02)
    np.testing.assert_allclose(curve[1:3], 1.0, atol=0.08)
    volume = abs(np.linalg.det(cell))
    whole = found["coordination"].sel(pair="Li-S").values[0, -1]
    assert whole == pytest.approx(32 / volume * 4 / 3 * np.pi * 9**3, rel=0.01)


def test_counts_equal_brute_force_in_a_skew_cell():
    rng = np.random.default_rng(1)
    data = gas(rng, SKEW, replicas=1, frames=60, counts=(3, 4))
    found = radial_distribution(data, pairs=[("Li", "S")], maximum=12 * ANGSTROM, bins=6, frames=1)
    position = data["position"].values[0, 0, 0].astype(float) / ANGSTROM
    steps = np.arange(-4, 5)
    shifts = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3) @ SKEW
    distance = np.linalg.norm(
        position[None, 3:, None] - position[:3, None, None] + shifts, axis=-1
    ).ravel()
    expected = np.histogram(distance, bins=6, range=(0, 12))[0].cumsum() / 3
    np.testing.assert_allclose(found["coordination"].values[0, 0], expected)
    assert found["closest_approach"].item() == pytest.approx(
        distance.min() * ANGSTROM, rel=1e-5, abs=0
    )


def test_errors_of_a_gas_are_those_of_its_counts():
    rng = np.random.default_rng(5)
    data = gas(rng, np.eye(3) * 12.0, replicas=40, frames=50)
    found = radial_distribution(data, pairs=[("Li", "S")], maximum=3 * ANGSTROM, bins=3, frames=50)
    number = found["coordination"].values[0, 0]
    pairs = 40 * 50 * 20 * number  # counted in all, a Poisson number
    np.testing.assert_allclose(
        found["coordination_std"].values[0, 0], number / np.sqrt(pairs), rtol=0.35
    )
    alone = radial_distribution(data.isel(replica=[0]), pairs=[("Li", "S")])
    assert np.isnan(alone["coordination_std"]).all()


def test_wrapping_does_not_matter():
    data = gas(np.random.default_rng(2), SKEW, frames=60)
    shifted = data.copy(deep=True)
    shifted["position"].values[..., :5, :] += (SKEW[1] * 3 - SKEW[0]).astype(np.float32) * ANGSTROM
    one, other = (
        radial_distribution(each, pairs=[("Li", "S")], bins=30) for each in (data, shifted)
    )
    np.testing.assert_allclose(one["coordination"], other["coordination"], atol=2e-3)


def test_sixteen_runs_of_a_solid_electrolyte_take_less_than_two_seconds():
    rng = np.random.default_rng(3)
    positions = [rng.random((1, 1, 52, 3)) * 10 + np.zeros((4, 1000, 1, 1)) for _ in range(4)]
    data = trajectory(
        positions, symbols=["Li"] * 24 + ["S"] * 28, temperatures=[1, 2, 3, 4.0], length=10.0
    )
    started = time.process_time()
    radial_distribution(data, pairs=[("Li", "Li"), ("Li", "S")])
    assert time.process_time() - started < 2.0


def test_bad_input_gets_one_sentence():
    data = gas(np.random.default_rng(4), SKEW, frames=60)
    with pytest.raises(ValueError, match="'K' is not in it"):
        radial_distribution(data, pairs=[("Li", "K")])
    with pytest.raises(ValueError, match="maximum is -1"):
        radial_distribution(data, pairs=[("Li", "S")], maximum=-1.0)
