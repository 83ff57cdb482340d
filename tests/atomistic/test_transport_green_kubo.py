"""Green-Kubo: exact spectra, coverage with and without an optic mode, and the two routes agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import constants
from scipy.linalg import expm

from atomistic.observables.green_kubo import (
    green_kubo_conductivity,
    green_kubo_viscosity,
    periodogram,
    zero_frequency,
)
from tests.atomistic.synthetic import assert_covers, inside


def relaxing(rng, shape, *, integral=1.0, relaxation=0.5, interval=0.05):
    """Ornstein-Uhlenbeck series whose correlation function integrates to `integral`."""
    replicas, frames, components = shape
    keep = np.exp(-interval / relaxation)
    noise = rng.standard_normal((frames, replicas, components))
    for frame in range(1, frames):
        noise[frame] = keep * noise[frame - 1] + np.sqrt(1 - keep**2) * noise[frame]
    return np.moveaxis(noise, 0, 1) * np.sqrt(integral / relaxation)


def optic(rng, shape, *, strength=20.0, frequency=8.0, damping=2.0, interval=0.05):
    """Velocity of a damped oscillator: a strong peak whose integral is exactly zero."""
    replicas, frames, components = shape
    drift = np.array([[0.0, 1.0], [-(frequency**2), -damping]])
    keep = expm(drift * interval)
    still = np.diag([strength / frequency**2, strength])
    factor = np.linalg.cholesky(still - keep @ still @ keep.T)
    state = np.sqrt(np.diag(still))[:, None, None] * rng.standard_normal((2, replicas, components))
    out = np.empty(shape)
    for frame in range(frames):
        noise = rng.standard_normal((2, replicas, components))
        state = np.einsum("ij,jrc->irc", keep, state) + np.einsum("ij,jrc->irc", factor, noise)
        out[:, frame] = state[1]
    return out


def sampled(integral=1.0, relaxation=0.5, interval=0.05):
    """What the sum over frames of the sampled correlation function gives (trapezoid)."""
    return integral * interval / (2 * relaxation) / np.tanh(interval / (2 * relaxation))


def test_periodogram_of_white_noise_is_half_its_variance_times_the_interval():
    noise = np.random.default_rng(0).standard_normal((8, 1024, 3))
    power, count = periodogram(noise, 0.1)
    assert count == 24
    assert power.mean() == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("peak", [False, True], ids=["relaxing", "with an optic peak"])
def test_posterior_covers_the_integral(peak):
    rng = np.random.default_rng(1)
    shape, truth = (2, 3000, 3), sampled()
    hits, off = [], []
    for repeat in range(60):
        series = relaxing(rng, shape)
        if peak:
            series = series + optic(rng, shape)
        value, draws, _ = zero_frequency(series, 0.05, rng=np.random.default_rng(repeat))
        hits.append(inside(draws, truth))
        off.append(value / truth - 1)
    for found, nominal in zip(np.transpose(hits), (0.68, 0.95), strict=True):
        assert_covers(found, nominal)
    assert abs(np.mean(off)) < 0.06
    assert np.std(off) < 0.2


def test_conductivity_and_viscosity_carry_their_prefactors():
    rng = np.random.default_rng(2)
    volume, temperature = 8e-27, 900.0
    unit = np.sqrt(2.0 * volume * constants.k * temperature)
    current = unit * relaxing(rng, (4, 4000, 3))
    found = green_kubo_conductivity(current, 0.05, volume=volume, temperature=temperature)
    assert abs(found["conductivity"].item() - 2 * sampled()) < 4 * found["conductivity_std"].item()
    assert found["conductivity"].attrs["units"] == "S m-1"
    # an isotropic traceless symmetric tensor: its five parts are equally strong
    parts = relaxing(rng, (4, 4000, 5)) * np.sqrt(constants.k * temperature / volume * 3e-3)
    stress = np.zeros((4, 4000, 3, 3))
    for index, (row, column) in enumerate([(0, 1), (0, 2), (1, 2)]):
        stress[..., row, column] = stress[..., column, row] = parts[..., index]
    stress[..., 0, 0] = parts[..., 3] + parts[..., 4] / np.sqrt(3)
    stress[..., 1, 1] = -parts[..., 3] + parts[..., 4] / np.sqrt(3)
    stress[..., 2, 2] = -2 * parts[..., 4] / np.sqrt(3)
    found = green_kubo_viscosity(
        stress - 1e5 * np.eye(3), 0.05, volume=volume, temperature=temperature
    )
    error = found["viscosity_std"].item()
    assert abs(found["viscosity"].item() - 3e-3 * sampled()) < 4 * error < 2e-3


def test_bad_input_gets_one_sentence():
    with pytest.raises(ValueError, match="volume is 0.*temperature is -1"):
        green_kubo_conductivity(np.zeros((1, 9, 3)), 1.0, volume=0.0, temperature=-1.0)
    with pytest.raises(ValueError, match="only 2 frequencies"):
        zero_frequency(np.eye(5)[None], 1.0)
    with pytest.raises(ValueError, match="constant"):
        zero_frequency(np.ones((1, 50, 3)), 1.0)
    with pytest.raises(ValueError, match="finite numbers"):
        zero_frequency(np.full((1, 50, 3), np.nan), 1.0)
