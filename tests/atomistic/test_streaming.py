"""Observers inside a run: the same numbers as from its frames, and a restart to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from ase.build import bulk
from scipy import constants

from atomistic.dynamics import Schedule, sample
from atomistic.observables import correlators, currents
from atomistic.observables.displacements import observe
from atomistic.potentials.ionic import sodium_chloride
from atomistic.units import ANGSTROM, FEMTOSECOND

SYMBOLS = ["Na"] * 32 + ["Cl"] * 32
SCHEDULE = Schedule(timestep=2.0, equilibration=0.02, production=0.4, frame_interval=4.0)


@pytest.fixture(scope="module")
def potential():
    return sodium_chloride(cutoff=5.7)


@pytest.fixture(scope="module")
def crystals():
    atoms = bulk("NaCl", "rocksalt", a=5.8, cubic=True) * (2, 2, 2)
    atoms = atoms[np.argsort([symbol == "Cl" for symbol in atoms.symbols], kind="stable")]
    return [atoms, atoms.copy()]


def observers():
    return [
        correlators.start(SYMBOLS, systems=2, slots=4, levels=3, track=16),
        currents.start(SYMBOLS, charges={"Na": 1, "Cl": -1}, systems=2, blocks=64, slots=4),
    ]


def run(crystals, potential, watchers, **options):
    return sample(
        [crystals], potential, temperatures=[400.0], schedule=SCHEDULE, seed=3,
        observers=watchers, observe_interval=4.0, **options,
    )  # fmt: skip


def as_values(state, module):
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in module.checkpoint(state).items()
    }


def test_observers_see_what_the_frames_hold(crystals, potential):
    watchers = observers()
    whole = run(crystals, potential, watchers)
    streamed = correlators.observed(
        watchers[0], interval=4 * FEMTOSECOND, temperatures=[400.0], potential_name="x"
    )
    stored = observe(whole)
    assert watchers[0].frames == whole.sizes["frame"] == 100
    for lag in (4e-15, 8e-15):
        one, other = (
            seen["mean_squared_displacement"].sel(lag=lag, method="nearest").values
            for seen in (streamed, stored)
        )
        np.testing.assert_allclose(one, other, rtol=1e-3)
    # the charge moved, by finite differences of the frames
    position = whole["position"].values[0].astype(float)
    sign = np.where(whole["symbol"].values == "Na", 1.0, -1.0)
    moved = np.einsum("a,rfax->rfx", sign, position[:, 2:] - position[:, :-2])
    current = constants.e * moved / (8 * FEMTOSECOND)
    seen = currents.observed(
        watchers[1], interval=4 * FEMTOSECOND, temperatures=[400.0], potential_name="x"
    )
    assert watchers[1].block == 2
    halves = (current[:, :-1] + current[:, 1:]) / 2
    np.testing.assert_allclose(
        seen["charge_current"].values[0][:, 1:-1],
        halves[:, 1::2][:, : seen.sizes["frame"] - 2],
        atol=0.05 * np.abs(current).max(),
    )
    volume = float(seen["volume"][0, 0])
    assert volume == pytest.approx((11.6 * ANGSTROM) ** 3, rel=1e-9, abs=0)


def test_a_run_that_died_goes_on_to_the_bit(crystals, potential, tmp_path):
    class Died(Exception):
        """The machine went down."""

    def dies(done, total, label):
        if done > 120:
            raise Died

    straight, broken = observers(), observers()
    whole = run(crystals, potential, straight)
    file = tmp_path / "run.pt"
    with pytest.raises(Died):
        run(crystals, potential, broken, checkpoint=file, checkpoint_interval=0.1, progress=dies)
    again = observers()
    resumed = run(crystals, potential, again, checkpoint=file, checkpoint_interval=0.1)
    xr.testing.assert_identical(whole, resumed)
    for module, one, other in zip((correlators, currents), straight, again, strict=True):
        assert as_values(one, module) == as_values(other, module)
    with pytest.raises(ValueError, match="is of a run with other"):
        sample([crystals], potential, temperatures=[500.0], schedule=SCHEDULE, checkpoint=file)
    with pytest.raises(ValueError, match="the same observers in the same order"):
        run(crystals, potential, again[::-1], checkpoint=file)


def test_currents_keep_averages_and_correlations_of_the_whole_series():
    rng = np.random.default_rng(0)
    frames = 700
    velocity = rng.standard_normal((frames, 2, 64, 3)).cumsum(0) / 10
    stress = rng.standard_normal((frames, 2, 3, 3))
    stress = stress + stress.transpose(0, 1, 3, 2)
    watcher = currents.start(
        SYMBOLS, charges={"Na": 1, "Cl": -1}, systems=2, blocks=64, slots=8, levels=4
    )
    volume = torch.full((2,), 512.0, dtype=torch.float64)
    for index in range(frames):
        currents.push(watcher, torch.tensor(velocity[index]), torch.tensor(stress[index]), volume)
    seen = currents.observed(watcher, interval=1e-15, temperatures=[300.0], potential_name="x")
    sign = np.array([1.0] * 32 + [-1.0] * 32)
    unit = constants.e * ANGSTROM / 1e-12
    current = np.einsum("a,fsax->sfx", sign, velocity) * unit
    assert watcher.block == 16
    kept = frames // 16
    blocks = current[:, : kept * 16].reshape(2, kept, 16, 3).mean(2)
    np.testing.assert_allclose(seen["charge_current"].values[0], blocks, rtol=1e-9)
    lag = np.round(seen["lag"].values / 1e-15).astype(int)
    assert lag[:10].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]
    for index in (0, 3, 7):
        product = current[:, lag[index] :] * current[:, : frames - lag[index]]
        np.testing.assert_allclose(
            seen["current_autocorrelation"].values[0, :, index], product.mean((1, 2)), rtol=1e-9
        )
    pairs = current[:, : frames // 2 * 2].reshape(2, -1, 2, 3).mean(2)
    np.testing.assert_allclose(
        seen["current_autocorrelation"].values[0, :, 9],
        (pairs[:, 5:] * pairs[:, :-5]).mean((1, 2)),
        rtol=1e-9,
    )
    pascal = stress * constants.e / ANGSTROM**3
    shear = [
        pascal[..., 1, 2], pascal[..., 0, 2], pascal[..., 0, 1],
        (pascal[..., 0, 0] - pascal[..., 1, 1]) / 2,
        (pascal[..., 0, 0] + pascal[..., 1, 1] - 2 * pascal[..., 2, 2]) / np.sqrt(12),
    ]  # fmt: skip
    np.testing.assert_allclose(
        seen["shear_autocorrelation"].values[0, :, 0], np.square(shear).mean((0, 1)), rtol=1e-9
    )
    assert np.isfinite(currents.green_kubo(seen)["viscosity"].values).all()


def test_green_kubo_of_white_noise_is_half_its_variance_per_time():
    rng = np.random.default_rng(1)
    watcher = currents.start(SYMBOLS, charges={"Na": 1, "Cl": -1}, blocks=512)
    volume = torch.full((1,), 512.0, dtype=torch.float64)
    zero = torch.zeros(1, 3, 3, dtype=torch.float64)
    for _ in range(4000):
        noise = torch.tensor(rng.standard_normal((1, 64, 3)))
        currents.push(watcher, noise, zero + torch.tensor(rng.standard_normal((1, 3, 3))), volume)
    seen = currents.observed(watcher, interval=1e-15, temperatures=[300.0], potential_name="x")
    found = currents.green_kubo(seen)
    variance = 64 * (constants.e * ANGSTROM / 1e-12) ** 2
    expected = variance * 1e-15 / 2 / (512e-30 * constants.k * 300.0)
    error = found["conductivity_std"].item()
    assert abs(found["conductivity"].item() - expected) < 3.5 * error < 0.7 * expected


def test_bad_input_gets_one_sentence(crystals, potential):
    with pytest.raises(ValueError, match=r"blocks is 7.*no charge is given for Cl"):
        currents.start(SYMBOLS, charges={"Na": 1}, blocks=7)
    with pytest.raises(ValueError, match=r"carries \+32 e"):
        currents.start(SYMBOLS, charges={"Na": 1, "Cl": 0})
    watcher = currents.start(SYMBOLS, charges={"Na": 1, "Cl": -1})
    with pytest.raises(ValueError, match="0 frame"):
        currents.observed(watcher, interval=1.0, temperatures=[1.0], potential_name="x")
    with pytest.raises(ValueError, match="were pushed, expected"):
        currents.push(watcher, torch.zeros(1, 2, 3), torch.zeros(1, 3, 3), torch.ones(1))
    with pytest.raises(ValueError, match="observer 0 was started for 1 systems, the run has 2"):
        run(crystals, potential, [watcher])
    with pytest.raises(ValueError, match="the checkpoint holds"):
        currents.restart({})
