"""Potentials put together."""

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk
from ase.calculators.lj import LennardJones

from atomistic.potentials.calculators import CalculatorModel
from atomistic.potentials.compose import Among, Sum, together
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import Potential


@pytest.fixture
def crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.9, cubic=True).repeat(2)
    atoms.rattle(0.1, seed=2)
    return atoms


def pairs(epsilon):
    return CalculatorModel(LennardJones(sigma=2.3, epsilon=epsilon, rc=5.0))


def state_of(atoms, number=1):
    return ts.io.atoms_to_state([atoms] * number, "cpu", torch.float64)


def test_sum_adds_energy_forces_and_stress(crystal):
    state = state_of(crystal)
    one, other = sodium_chloride(cutoff=5.5).model, pairs(0.1)
    both = Sum([one, other])(state)
    for name in ("energy", "forces", "stress"):
        assert torch.equal(both[name], one(state)[name] + other(state)[name])
    twice = Sum([one, one, other])(state)
    assert torch.allclose(twice["energy"], both["energy"] + one(state)["energy"])


def test_a_stress_of_some_terms_only_is_not_given(crystal):
    one, other = sodium_chloride(cutoff=5.5).model, sodium_chloride(cutoff=5.0).model
    other._compute_stress = False
    both = Sum([one, other])
    assert not both.compute_stress
    assert "stress" not in both(state_of(crystal))


def test_sum_refuses_what_does_not_fit():
    one = sodium_chloride(cutoff=5.5).model
    with pytest.raises(ValueError, match="two or more"):
        Sum([one])
    with pytest.raises(ValueError, match="float32"):
        Sum([one, sodium_chloride(cutoff=5.5, dtype=torch.float32).model])


def test_among_sees_only_its_elements(crystal):
    sodium = crystal[crystal.symbols == "Na"]
    model = Among(pairs(0.1), ["Na"])
    whole = model(state_of(crystal, 2))
    alone = pairs(0.1)(state_of(sodium))
    seen = np.tile(crystal.symbols == "Na", 2)
    assert torch.allclose(whole["energy"], alone["energy"].repeat(2))
    assert torch.allclose(whole["forces"][seen], alone["forces"].repeat(2, 1))
    assert not whole["forces"][~seen].any()
    with pytest.raises(ValueError, match="holds no Li"):
        Among(pairs(0.1), ["Li"])(state_of(crystal))


def test_together_keeps_what_its_terms_know():
    one = sodium_chloride(cutoff=5.5)
    other = Potential(
        name="pairs",
        model=pairs(0.1),
        species=("K", "Na"),
        cutoff=7.0,
        closest_approach={"Cl-Na": 1.8},
    )
    both = together(one, other)
    assert both.name == "Fumi-Tosi NaCl + pairs"
    assert both.species == ("Na",) and both.cutoff == 7.0
    assert both.closest("Na", "Cl") == 1.8 and both.closest("Cl", "Cl") == 2.0
    with pytest.raises(ValueError, match="no element in common"):
        together(one, Potential(name="x", model=pairs(0.1), species=("K",), cutoff=5.0))
