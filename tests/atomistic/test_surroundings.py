"""Shells, residence times, profiles and long-wavelength structure against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from atomistic.observables.kirkwood_buff import (
    finite_volume_weight,
    integral_of_distribution,
    structure_factors,
    thermodynamic_factor,
)
from atomistic.observables.surroundings import density_profile, residence_time, solvation_shells
from tests.atomistic.synthetic import ANGSTROM, trajectory


def frames_of(position, symbols, length=20.0, interval=25.0):
    return trajectory(
        [position], symbols=symbols, temperatures=[500.0], length=length, interval=interval
    )


def test_rock_salt_has_six_neighbours_and_twelve_beyond():
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (3, 3, 3)
    shaken = np.random.default_rng(0).normal(0, 0.1, (2, 40, len(crystal), 3)) + crystal.positions
    data = frames_of(shaken, crystal.get_chemical_symbols(), length=16.8)
    found = solvation_shells(data, centre="Na", cutoffs={"Cl": 3.5e-10, "Na": 4.8e-10})
    assert found["coordination"].values.tolist() == [6.0, 12.0]
    assert found["coordination_std"].values.tolist() == [0.0, 0.0]
    assert found["shell"].values.tolist() == ["6 Cl, 12 Na"]
    assert found["coordination_probability"].sel(partner="Cl", number=6).item() == 1.0
    with pytest.raises(ValueError, match="more than half the smallest height"):
        solvation_shells(data, centre="Na", cutoffs={"Cl": 9e-10})
    with pytest.raises(ValueError, match="positive distance"):
        solvation_shells(data, centre="Na", cutoffs={"Cl": -1.0})


def test_random_neighbours_are_binomial():
    rng = np.random.default_rng(1)
    data = frames_of(20 * rng.random((3, 200, 120, 3)), ["Li"] * 20 + ["O"] * 100)
    found = solvation_shells(data, centre="Li", cutoffs={"O": 4e-10})
    chance = 4 / 3 * np.pi * 4**3 / 20**3
    error = found["coordination_std"].item()
    assert abs(found["coordination"].item() - 100 * chance) < 4 * error < 0.2
    from scipy.stats import binom

    expected = binom.pmf(np.arange(8), 100, chance)
    spread = found["coordination_probability_std"].values[0, :8]
    seen = found["coordination_probability"].values[0, :8]
    assert (abs(seen - expected) < 4.5 * spread + 1e-3).all()
    assert found["shell_probability"].sum().item() == pytest.approx(1.0)


def blinking(rng, *, leave, frames=4000, pairs=60):
    """Partners that leave a shell with a fixed chance each frame and come back as seldom."""
    near = np.empty((2, frames, pairs), dtype=bool)
    near[:, 0] = True
    for frame in range(1, frames):
        flip = rng.random((2, pairs)) < leave
        near[:, frame] = near[:, frame - 1] ^ flip
    position = np.zeros((2, frames, 2 * pairs, 3))
    place = np.arange(pairs) * 10.0
    position[:, :, :pairs, 0] = position[:, :, pairs:, 0] = place
    # the partner stands 2 Å away, or 4
    position[:, :, pairs:, 1] = np.where(near, 2.0, 4.0)
    return frames_of(position, ["Li"] * pairs + ["O"] * pairs, length=620.0)


def test_residence_time_is_that_of_the_process():
    data = blinking(np.random.default_rng(13), leave=0.02)
    found = residence_time(data, centre="Li", partner="O", cutoff=3e-10)
    truth = 25e-15 / -np.log(0.98)
    error = found["residence_time_std"].item()
    assert abs(found["residence_time"].item() - truth) < 3.5 * error < 0.3 * truth
    assert found["survival"].values[0] == 1.0
    # what comes back within two frames was never away, so it stays longer
    patient = residence_time(data, centre="Li", partner="O", cutoff=3e-10, forgiven=50e-15)
    assert patient["residence_time"].item() > 1.02 * found["residence_time"].item()
    bound = residence_time(
        blinking(np.random.default_rng(3), leave=1e-6, frames=400),
        centre="Li", partner="O", cutoff=3e-10,
    )  # fmt: skip
    assert np.isnan(bound["residence_time"].item())
    assert "run at least 4 times longer" in bound.attrs["verdict"]


def test_density_profile_counts_every_atom_where_it_is():
    rng = np.random.default_rng(4)
    position = 20 * rng.random((3, 100, 80, 3)) + 40
    position[:, :, :40, 2] = 40 + 5 + 10 * rng.random((3, 100, 40))  # half of them in a slab
    data = frames_of(position, ["Li"] * 40 + ["Cl"] * 40)
    found = density_profile(data, bins=20)
    height = 20 * ANGSTROM / 20
    total = found["number_density"].sum("z") * height * (20 * ANGSTROM) ** 2
    np.testing.assert_allclose(total, [40, 40], rtol=1e-9)
    lithium = found["number_density"].sel(species="Li")
    assert (lithium.values[:5] == 0).all()
    inside = lithium.values[5:15] * (10 * 400e-30) / 40
    error = found["number_density_std"].sel(species="Li").values[5:15] * (10 * 400e-30) / 40
    assert (abs(inside - 1) < 4.5 * error).all()
    leaning = data.copy(deep=True)
    leaning["cell"].values[..., 2, 0] = 3e-10
    with pytest.raises(ValueError, match="leans by"):
        density_profile(leaning)


def hard_spheres(rng, *, packing=0.2, atoms=108, sweeps=1200, every=10):
    """Metropolis sampling of hard spheres of diameter 1."""
    edge = (atoms * np.pi / 6 / packing) ** (1 / 3)
    side = round((atoms / 4) ** (1 / 3))
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.array([[i, j, k] for i in range(side) for j in range(side) for k in range(side)])
    place = ((grid[:, None] + basis).reshape(-1, 3)) * edge / side
    kept = []
    for sweep in range(sweeps):
        steps = 0.6 * (rng.random((atoms, 3)) - 0.5)
        for atom in range(atoms):
            trial = place[atom] + steps[atom]
            apart = place - trial
            apart -= edge * np.round(apart / edge)
            square = (apart * apart).sum(1)
            square[atom] = 9.0
            if square.min() >= 1.0:
                place[atom] = trial
        if sweep >= 100 and sweep % every == 0:
            kept.append(place.copy())
    return np.array(kept)[None], edge


def test_hard_spheres_have_the_compressibility_of_carnahan_and_starling():
    position, edge = hard_spheres(np.random.default_rng(5))
    data = frames_of(position, ["Ar"] * 108, length=edge)
    found = structure_factors(data, longest=1.8)
    packing = 0.2
    exact = (1 - packing) ** 4 / (1 + 4 * packing + 4 * packing**2 - 4 * packing**3 + packing**4)
    error = found["structure_factor_zero_std"].item()
    assert abs(found["structure_factor_zero"].item() - exact) < 3.5 * error
    assert error < 0.25 * exact
    integral = integral_of_distribution(
        data, pairs=[("Ar", "Ar")], maximum=edge / 2 * 1e-10, frames=100
    )["kirkwood_buff_integral"].item()
    density = 108 / (edge * 1e-10) ** 3
    assert 1 + density * integral == pytest.approx(exact, abs=0.12)


def test_an_ideal_mixture_is_ideal_and_ion_pairs_halve_the_factor():
    rng = np.random.default_rng(6)
    symbols = ["Li"] * 40 + ["Cl"] * 40 + ["O"] * 160
    free = 20 * rng.random((4, 300, 240, 3))
    found = thermodynamic_factor(frames_of(free, symbols), ions=["Li", "Cl"], solvent=["O"])
    error = found["thermodynamic_factor_std"].item()
    assert abs(found["thermodynamic_factor"].item() - 1) < 4 * error < 0.3
    # an ideal gas fills no volume but its share of the particles
    assert found["solvent_volume_share"].item() == pytest.approx(160 / 240, abs=0.1)
    paired = free.copy()
    bond = rng.standard_normal((4, 300, 40, 3))
    paired[:, :, 40:80] = paired[:, :, :40] + 0.5 * bond / np.linalg.norm(
        bond, axis=-1, keepdims=True
    )
    found = thermodynamic_factor(frames_of(paired, symbols), ions=["Li", "Cl"], solvent=["O"])
    error = found["thermodynamic_factor_std"].item()
    assert abs(found["thermodynamic_factor"].item() - 0.5) < 4 * error < 0.2
    density = 80 / (20 * ANGSTROM) ** 3
    integral = found["kirkwood_buff_integral"].sel(species="ions", partner="ions").item()
    assert density * integral == pytest.approx(1.0, abs=0.2)
    with pytest.raises(ValueError, match="none twice"):
        thermodynamic_factor(frames_of(free, symbols), ions=["Li"], solvent=["Li"])


def test_the_weight_of_a_finite_volume_vanishes_at_its_edge():
    assert finite_volume_weight(np.array([0.0, 1.0, 1.5])).tolist() == [1.0, 0.0, 0.0]
    # a sphere of uniform overlap has no integral: the weight's moments are those of Krüger
    x = np.linspace(0, 1, 20001)
    moment = np.trapezoid(x**2 * finite_volume_weight(x), x)
    assert moment == pytest.approx(1 / 3 - 23 / 48 + 3 / 28 + 9 / 64, rel=1e-6)
