"""Spectra of velocities against their closed forms, and the second route to self-diffusion."""

from __future__ import annotations

import numpy as np
import pytest

from atomistic.observables.spectrum import green_kubo_self_diffusivity, velocity_spectrum
from tests.atomistic.synthetic import (
    assert_covers,
    brownian,
    clustered,
    inside,
    ions_in_a_host,
    langevin,
)


def test_spectrum_of_underdamped_walkers_is_their_lorentzian():
    """S(f) = D / (1 + (2 pi f tau)^2), times what averaging over a frame takes away."""
    relaxation, interval = 100.0, 10.0  # fs
    position = langevin(
        np.random.default_rng(0), (4, 900, 24), interval=interval, relaxation=relaxation
    )
    data = ions_in_a_host(position)
    data["time"] = data["time"] * (interval / 25.0)
    found = velocity_spectrum(data, chosen=["Li"], host=["Cl"])
    turn = 2 * np.pi * found["frequency"].values
    expected = 0.1e-8 / (1 + (turn * relaxation * 1e-15) ** 2)
    low = turn * interval * 1e-15 < 0.6
    assert low.sum() > 10
    off = found["velocity_spectrum"].values[0, 0] - expected
    error = found["velocity_spectrum_std"].values[0, 0]
    assert (np.abs(off / error)[low] < 3.5).all()
    assert np.sqrt(np.mean(np.square(off / error)[low])) == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize("make", [brownian, clustered, langevin])
def test_the_limit_of_the_spectrum_covers_the_diffusivity(make):
    rng = np.random.default_rng(1)
    hits, off = [], []
    for repeat in range(40):
        data = ions_in_a_host(make(rng, (2, 600, 24)))
        found = green_kubo_self_diffusivity(data, chosen=["Li"], host=["Cl"], seed=repeat)
        hits.append(inside(found["self_diffusivity_draw"].values.ravel(), 0.1e-8))
        off.append(found["self_diffusivity"].item() / 0.1e-8 - 1)
    for within, nominal in zip(np.transpose(hits), (0.68, 0.95), strict=True):
        assert_covers(within, nominal)
    assert abs(np.mean(off)) < 0.03
    assert np.std(off) < 0.08


def test_bad_input_gets_one_sentence():
    data = ions_in_a_host(brownian(np.random.default_rng(2), (1, 100, 4)))
    with pytest.raises(ValueError, match="0 bands were asked for"):
        velocity_spectrum(data, bands=0)
    with pytest.raises(ValueError, match="'Na' is not in it"):
        green_kubo_self_diffusivity(data, chosen=["Na"])
