"""The rigid-ion oracle: Madelung's constant, torch-pme, finite differences, published energies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk

from atomistic.potentials.ionic import COULOMB, Pair, RigidIons, sodium_chloride
from atomistic.potentials.load import load

NOTHING = Pair(0.0, 0.0, 1.0, 0.0, 0.0)
BARE = {"Na-Na": NOTHING, "Cl-Na": NOTHING, "Cl-Cl": NOTHING}
CHARGES = {"Na": 1.0, "Cl": -1.0}


def evaluate(model, *batch):
    return model(ts.io.atoms_to_state(list(batch), "cpu", model.dtype))


@pytest.fixture(scope="module")
def potential():
    return sodium_chloride(cutoff=7.5)


@pytest.fixture(scope="module")
def shaken():
    """A skew, shaken crystal."""
    atoms = bulk("NaCl", "rocksalt", a=6.2, cubic=True) * (3, 3, 3)
    atoms.positions += np.random.default_rng(0).normal(0, 0.3, atoms.positions.shape)
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 1] = 3.0, -2.0
    atoms.set_cell(cell, scale_atoms=True)
    return atoms


def test_ewald_gives_madelungs_constant():
    model = RigidIons(CHARGES, BARE, cutoff=8.4)
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (3, 3, 3)
    energy = evaluate(model, crystal)["energy"].item() / (len(crystal) / 2)
    assert -energy * 2.82 / COULOMB == pytest.approx(1.747564594633, rel=1e-5)


def test_ewald_equals_torch_pme(shaken):
    torchpme = pytest.importorskip("torchpme")
    smearing = 1.0
    calculator = torchpme.EwaldCalculator(
        torchpme.CoulombPotential(smearing=smearing), lr_wavelength=smearing / 2
    ).to(torch.float64)
    charge = torch.tensor([1.0 if s == "Na" else -1.0 for s in shaken.symbols])
    charge = charge.to(torch.float64)[:, None]
    # every pair within 7 widths, from a plain sum over images
    from ase.neighborlist import neighbor_list

    one, other, distance = neighbor_list("ijd", shaken, 8.0 * smearing)
    half = one < other
    potential = calculator(
        charges=charge,
        cell=torch.tensor(shaken.cell.array),
        positions=torch.tensor(shaken.positions),
        neighbor_indices=torch.tensor(np.stack([one[half], other[half]], 1)),
        neighbor_distances=torch.tensor(distance[half]),
    )
    expected = COULOMB * float((charge * potential).sum())
    found = evaluate(RigidIons(CHARGES, BARE, cutoff=7.5), shaken)["energy"].item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_forces_and_stress_are_derivatives_of_the_energy(potential, shaken):
    model, step = potential.model, 1e-4
    swollen = shaken.copy()
    swollen.set_cell(shaken.cell * 1.03, scale_atoms=True)
    found = evaluate(model, shaken, swollen)
    alone = evaluate(model, swollen)
    torch.testing.assert_close(found["forces"][216:], alone["forces"])
    for atom, axis in ((0, 0), (7, 1), (150, 2)):
        energies = []
        for sign in (1, -1):
            moved = shaken.copy()
            moved.positions[atom, axis] += sign * step
            energies.append(evaluate(model, moved)["energy"].item())
        slope = -(energies[0] - energies[1]) / (2 * step)
        assert found["forces"][atom, axis].item() == pytest.approx(slope, abs=2e-4)
    for row, column in ((0, 0), (1, 2), (2, 0)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[row, column] += sign * step / 2
            strain[column, row] += sign * step / 2
            strained = shaken.copy()
            strained.set_cell(shaken.cell.array @ strain, scale_atoms=True)
            energies.append(evaluate(model, strained)["energy"].item())
        slope = (energies[0] - energies[1]) / (2 * step * shaken.get_volume())
        assert found["stress"][0, row, column].item() == pytest.approx(slope, abs=1e-5)
    assert float(found["forces"][:216].sum(0).abs().max()) < 1e-10


def test_a_pair_far_from_the_next_has_its_closed_form():
    model = sodium_chloride(cutoff=25.0).model
    near, far = (
        evaluate(model, Atoms("NaCl", [[0, 0, 0], [0, 0, r]], cell=[60] * 3, pbc=True))
        for r in (2.4, 2.8)
    )

    def energy(r):
        joule = 1 / 1.602176634e-19
        wall = 0.338e-19 * joule * np.exp(3.15 * (2.755 - r))
        return wall - 11.2e-19 * joule / r**6 - 13.9e-19 * joule / r**8 - COULOMB / r

    # 60 Å away the images of a dipole add 2 pi k p^2 / 3V at most
    images = 2 * np.pi * COULOMB * 2.8**2 / (3 * 60**3)
    difference = near["energy"].item() - far["energy"].item()
    assert difference == pytest.approx(energy(2.4) - energy(2.8), abs=images)


def test_lattice_energy_is_the_published_one(potential):
    """Fumi and Tosi fitted the cohesion of the crystal: 7.9-8.0 eV a pair near 5.64 Å."""
    energies = {}
    for edge in (5.4, 5.6, 5.8):
        crystal = bulk("NaCl", "rocksalt", a=edge, cubic=True) * (3, 3, 3)
        energies[edge] = evaluate(potential.model, crystal)["energy"].item() / 108
    assert energies[5.6] < min(energies[5.4], energies[5.8])
    assert -8.2 < energies[5.6] < -7.8


def test_single_precision_is_enough_for_dynamics(potential, shaken):
    single = sodium_chloride(cutoff=7.5, dtype=torch.float32).model
    one, other = (evaluate(model, shaken)["forces"].double() for model in (potential.model, single))
    assert float((one - other).norm() / one.norm()) < 1e-5


def test_bad_input_gets_one_sentence(potential):
    with pytest.raises(ValueError, match="no pair is given for Cl-Na"):
        RigidIons(CHARGES, {"Na-Na": NOTHING, "Cl-Cl": NOTHING}, cutoff=5.0)
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    with pytest.raises(ValueError, match="more than half the smallest height"):
        evaluate(potential.model, salt)
    wide = salt * (3, 3, 3)
    potassium = wide.copy()
    potassium.symbols[0] = "K"
    with pytest.raises(ValueError, match="no charge is given for K"):
        evaluate(potential.model, potassium)
    with pytest.raises(ValueError, match=r"atoms were given; give systems of equal size"):
        evaluate(potential.model, wide, wide * (2, 1, 1))
    assert load("atomistic.potentials.ionic:sodium_chloride").species == ("Na", "Cl")
