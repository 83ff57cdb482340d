import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.lj import LennardJones

from atomistic.learning import distil
from atomistic.potentials.calculators import CalculatorModel
from atomistic.potentials.load import Potential, load

SMALL = distil.Architecture(
    radial_cutoff=5.0, angular_cutoff=4.0, n_max=3, basis=4, neurons=5, repulsion=0.9
)


def lennard_jones(epsilon=0.0103):
    calculator = LennardJones(sigma=3.4, epsilon=epsilon, rc=5.0, smooth=True)
    return Potential("lj", CalculatorModel(calculator), ("Ar",), 5.0)


def argon(count):
    frames = []
    for seed in range(count):
        atoms = bulk("Ar", cubic=True, a=5.2 + 0.02 * seed).repeat((2, 2, 2))
        atoms.rattle(0.25, seed=seed)
        frames.append(atoms)
    return frames


def test_labels_are_the_teachers_and_frames_stay_untouched():
    frames = argon(2)
    before = [atoms.positions.copy() for atoms in frames]
    seen = []
    labelled = distil.label(frames, lennard_jones(), progress=lambda *step: seen.append(step[:2]))
    for atoms, copy, positions in zip(frames, labelled, before, strict=True):
        assert atoms.calc is None
        np.testing.assert_array_equal(atoms.positions, positions)
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=5.0, smooth=True)
        assert copy.get_potential_energy() == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(copy.get_forces(), atoms.get_forces())
        np.testing.assert_allclose(copy.get_stress(), atoms.get_stress())
    assert seen == [(1, 2), (2, 2)]


def test_errors_of_a_scaled_potential_are_the_scale():
    """A potential 10 % too deep is wrong by 10 % in every force, energy and stress."""
    labelled = distil.label(argon(3), lennard_jones())
    assert distil.errors(labelled, lennard_jones()).force == 0.0
    found = distil.errors(labelled, lennard_jones(1.1 * 0.0103))
    assert found.relative_force == pytest.approx(0.1)
    energy = np.mean([(f.get_potential_energy() / len(f)) ** 2 for f in labelled]) ** 0.5
    assert found.energy == pytest.approx(0.1 * energy)
    stress = np.mean([f.get_stress() ** 2 for f in labelled]) ** 0.5 * 160.21766
    assert found.stress == pytest.approx(0.1 * stress)


def test_closest_approach_of_rock_salt():
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(2)
    found = distil.closest_approaches([atoms])
    assert found == pytest.approx({"Cl-Na": 2.8, "Na-Na": 5.6 / 2**0.5, "Cl-Cl": 5.6 / 2**0.5})


def test_training_learns_the_teacher(tmp_path):
    torch.set_num_threads(1)
    labelled = distil.label(argon(12), lennard_jones())
    path = distil.train(labelled[:10], folder=tmp_path, architecture=SMALL, steps=150, batch_size=2)
    found = distil.errors(labelled[10:], load(str(path), device="cpu"))
    assert found.relative_force < 0.5
    assert found.energy < 0.01


def test_training_refuses_broken_frames():
    frames = distil.label(argon(3), lennard_jones(1e6))
    with pytest.raises(ValueError, match="of which 0 have all forces below"):
        distil.train(frames, folder="unused")
