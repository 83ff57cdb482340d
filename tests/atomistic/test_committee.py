"""Committees: their mean, their spread, what it promises, and what a guard refuses."""

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk
from ase.io import read

from atomistic.learning.uncertainty import calibrate, cover, energy_errors, force_errors
from atomistic.potentials.committee import committee, force_spread, members
from atomistic.potentials.guard import Untrustworthy, guarded
from atomistic.potentials.pairs import lennard_jones


def argon(depth=0.0103, sigma=3.4):
    return lennard_jones({"Ar": (sigma, depth)}, cutoff=5.5)


def state(seed=0):
    atoms = bulk("Ar", cubic=True, a=5.4).repeat((2, 1, 1))
    atoms.rattle(0.15, seed=seed)
    return ts.io.atoms_to_state([atoms, atoms.repeat((1, 2, 1))], "cpu", torch.float64)


def test_mean_and_spread_of_scaled_potentials_are_the_scales():
    """Depths of 0.9, 1.0 and 1.1 times one: mean 1, standard deviation 0.1 of every force."""
    reference = argon()
    together = committee([argon(factor * 0.0103) for factor in (0.9, 1.0, 1.1)])
    expected = reference.model(state())
    for name, value in together.model(state()).items():
        torch.testing.assert_close(value, expected[name])
    energy, forces = members(together.model, state())
    torch.testing.assert_close(energy.std(1), 0.1 * expected["energy"].abs())
    norm = expected["forces"].norm(dim=1) / 3**0.5
    torch.testing.assert_close(force_spread(forces), 0.1 * norm)


def test_a_committee_knows_what_all_its_members_know():
    pair = committee([argon(), lennard_jones({"Ar": (3.4, 0.01), "Kr": (3.6, 0.014)}, cutoff=7.0)])
    assert pair.species == ("Ar",)
    assert pair.cutoff == 7.0
    with pytest.raises(ValueError, match="share no element"):
        committee([argon(), lennard_jones({"Kr": (3.6, 0.014)})])
    with pytest.raises(ValueError, match="at least two members, but was given 1"):
        committee([argon()])
    with pytest.raises(ValueError, match="has no members"):
        members(argon().model, state())


@pytest.mark.parametrize("level", [0.68, 0.9])
def test_calibration_tells_noise_from_spread_and_covers(level):
    rng = np.random.default_rng(0)
    spread = rng.gamma(2.0, 0.03, size=6000)
    errors = np.hypot(0.05, 2.5 * spread) * rng.standard_t(5, size=6000) / np.sqrt(5 / 3)
    found = calibrate(errors[:3000], spread[:3000], level=level)
    assert found.noise == pytest.approx(0.05, rel=0.15)
    assert found.scale == pytest.approx(2.5, rel=0.1)
    covered = cover(errors[3000:], spread[3000:], found)
    assert covered.share == pytest.approx(level, abs=0.03)
    assert covered.holds
    assert covered.trusted


def test_noise_of_labels_is_found_where_members_agree():
    rng = np.random.default_rng(1)
    errors = rng.normal(scale=0.02, size=2000)
    found = calibrate(errors, np.full(2000, 1e-6))
    assert np.hypot(found.noise, found.epistemic(1e-6)) == pytest.approx(0.02, rel=0.1)
    assert found.half_width(1e-6) == pytest.approx(1.645 * 0.02, rel=0.1)


def test_another_domain_is_named_without_its_labels():
    rng = np.random.default_rng(2)
    spread = rng.uniform(0.01, 0.05, size=500)
    found = calibrate(spread * rng.normal(size=500), spread)
    far = cover(rng.normal(size=500), np.full(500, 0.2), found)
    assert not far.trusted
    assert "outside of what was learnt" in far.outcome
    with pytest.raises(ValueError, match="at least twenty"):
        calibrate(np.ones(5), np.ones(5))


def test_frames_like_those_learnt_from_are_no_strangers():
    """Held out by chance are quiet frames only; louder ones were learnt from all the same."""
    rng = np.random.default_rng(3)
    quiet = rng.uniform(0.001, 0.02, size=4000)
    learnt = rng.uniform(0.01, 0.06, size=4000)
    errors = quiet * rng.normal(size=4000)
    alike = rng.uniform(0.01, 0.05, size=4000)
    assert not cover(alike * rng.normal(size=4000), alike, calibrate(errors, quiet)).trusted
    found = calibrate(errors, quiet, learnt=learnt)
    again = cover(alike * rng.normal(size=4000), alike, found)
    assert again.trusted and again.holds
    # quantile and scale are those of the held-out errors alone
    assert found.quantile == calibrate(errors, quiet).quantile
    assert not cover(errors, np.full(4000, 0.3), found).trusted


def test_errors_of_frames_are_those_of_the_mean():
    from atomistic.learning.distil import label

    atoms = bulk("Ar", cubic=True, a=5.4)
    atoms.rattle(0.2, seed=1)
    frames = label([atoms] * 20, argon())
    together = committee([argon(factor * 0.0103) for factor in (1.0, 1.1, 1.2)])
    errors, spread = force_errors(frames, together)
    np.testing.assert_allclose(errors[:12], 0.1 * frames[0].get_forces().ravel(), rtol=1e-6)
    assert len(spread) == len(errors) == 20 * 12
    energy, apart = energy_errors(frames, together)
    np.testing.assert_allclose(energy, 0.1 * frames[0].get_potential_energy() / 4)
    np.testing.assert_allclose(apart, np.abs(energy))


def pulled_together(distance: float) -> ts.SimState:
    atoms = Atoms("Ar2", [[1, 1, 1], [1 + distance, 1, 1]], cell=[12] * 3, pbc=True)
    return ts.io.atoms_to_state([atoms], "cpu", torch.float64)


def test_the_guard_stops_at_a_force_at_a_spread_and_keeps_the_last_good_state(tmp_path):
    capped = guarded(argon(), force_cap=1.0, last_good=tmp_path / "last.extxyz")
    capped.model(pulled_together(3.6))
    with pytest.raises(Untrustworthy, match=r"force on Ar \(atom 0, system 0\).*above the 1 eV"):
        capped.model(pulled_together(2.6))
    assert read(tmp_path / "last.extxyz").get_distance(0, 1) == pytest.approx(3.6)

    pair = committee([argon(), argon(sigma=3.5)])
    watched = guarded(pair, spread_cap=0.05, every=1)
    watched.model(pulled_together(3.8))
    with pytest.raises(Untrustworthy, match="members differ by"):
        watched.model(pulled_together(3.0))
    assert members(watched.model, pulled_together(3.0))[0].shape == (1, 2)


def test_the_guard_stops_below_the_closest_approach():
    from dataclasses import replace

    known = guarded(replace(argon(), closest_approach={"Ar-Ar": 3.0}))
    known.model(pulled_together(3.1))
    with pytest.raises(Untrustworthy, match=r"2.90 Å apart, nearer than the 3.00 Å"):
        known.model(pulled_together(2.9))


def test_the_guard_stops_dynamics():
    from atomistic.dynamics import Schedule, sample

    hot = bulk("Ar", cubic=True, a=5.4).repeat((2, 2, 2))
    pair = guarded(committee([argon(), argon(sigma=3.45)]), spread_cap=0.2, every=1)
    with pytest.raises(Untrustworthy, match="members differ"):
        sample([[hot]], pair, temperatures=[3000.0], schedule=Schedule(production=0.5), seed=0)
