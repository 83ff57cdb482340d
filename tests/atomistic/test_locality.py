"""Reach of a potential against the Debye length of its ions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.potentials.compose import together
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import load
from atomistic.potentials.locality import debye_length, layers_of, locality, sees_far
from atomistic.potentials.pairs import lennard_jones
from atomistic.potentials.potential import Potential

WATER = {"temperature": 298.15, "permittivity": 78.49}
CHARGES = {"Na": 1.0, "Cl": -1.0}


def dissolved(molar):
    """One pair of ions in the volume that belongs to it."""
    edge = (1e27 / (molar * 6.02214076e23)) ** (1 / 3)
    return Atoms("NaCl", positions=[[0, 0, 0], [0.5 * edge] * 3], cell=[edge] * 3, pbc=True)


def test_debye_length_is_that_of_the_textbook():
    """3.04186 nm for 0.01 M of a 1:1 salt, and with the square root of dilution."""
    assert debye_length(dissolved(0.01), CHARGES, **WATER) == pytest.approx(30.4186, rel=1e-4)
    assert debye_length(dissolved(1.0), CHARGES, **WATER) == pytest.approx(3.04186, rel=1e-4)
    divalent = debye_length(dissolved(1.0), {"Na": 2.0, "Cl": -2.0}, **WATER)
    assert divalent == pytest.approx(3.04186 / 2, rel=1e-4)
    assert debye_length(dissolved(1.0), {}, **WATER) == np.inf


def test_a_short_potential_is_warned_of_where_ions_are_few_and_not_where_they_are_many():
    short = sodium_chloride(charged=False)
    few = locality(short, dissolved(0.01), charges=CHARGES, **WATER)
    assert not few.holds and not few.long_range
    # the closed form of the cloud beyond 9.5 Å
    x = 9.5 / 30.4186
    assert few.beyond == pytest.approx((1 + x) * np.exp(-x), rel=1e-4)
    assert "has no explicit electrostatics" in few.outcome and "96 %" in few.outcome
    melt = bulk("NaCl", "rocksalt", a=6.2, cubic=True)
    many = locality(short, melt, charges=CHARGES, temperature=1100.0)
    assert many.holds and "ions are screened" in many.outcome
    # where only the sodium moves, only the sodium screens
    single = locality(short, melt, charges=CHARGES, temperature=1100.0, mobile=["Na"])
    assert single.debye_length == pytest.approx(2**0.5 * many.debye_length)
    neutral = locality(lennard_jones(), Atoms("Ar", cell=[9] * 3), charges={}, temperature=90.0)
    assert neutral.holds and "no ions" in neutral.outcome


@pytest.mark.parametrize("charges", [CHARGES, {"Na": 2.0, "Cl": -1.0}, {"Na": 0.8, "Cl": -0.8}])
def test_explicit_electrostatics_are_seen_whatever_brings_them(charges):
    pairs = sodium_chloride(cutoff=6.0, charged=False)
    ewald = Potential("charges", Coulomb(charges, cutoff=6.0), ("Cl", "Na"), 6.0)
    whole = together(pairs, ewald)
    assert sees_far(whole, charges)
    assert not sees_far(pairs, charges)
    if charges == CHARGES:
        assert sees_far(sodium_chloride(cutoff=6.0), charges)
        found = locality(whole, dissolved(0.01), charges=charges, **WATER)
        assert found.holds and found.long_range
        assert "has explicit electrostatics" in found.outcome


def test_an_unknown_reach_is_said_and_not_failed():
    unknown = Potential("x", lennard_jones().model, None, float("nan"))
    found = locality(unknown, dissolved(0.01), charges=CHARGES, **WATER)
    assert found.holds and "is unknown" in found.outcome and "must see 144 Å" in found.outcome


def test_layers_are_counted_where_messages_are_passed():
    assert layers_of(lennard_jones().model) == 1

    class InteractionBlock(torch.nn.Module):
        pass

    class Passing(torch.nn.Module):
        def __init__(self, counted):
            super().__init__()
            if counted:
                self.register_buffer("num_interactions", torch.tensor(3))
            else:
                self.blocks = torch.nn.ModuleList([InteractionBlock(), InteractionBlock()])

    assert layers_of(Passing(True)) == 3 and layers_of(Passing(False)) == 2


@pytest.mark.parametrize(("name", "layers"), [("sevennet-0", 5), ("chgnet", 4)])
def test_pretrained_networks_see_as_far_as_their_layers_pass_on(name, layers):
    pytest.importorskip({"sevennet-0": "sevenn"}.get(name, name))
    potential = load(name, device="cpu")
    assert layers_of(potential.model) == layers
    found = locality(potential, dissolved(0.01), charges=CHARGES, **WATER)
    assert found.reach == pytest.approx(layers * potential.cutoff)
    assert not found.holds


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match=r"no volume.*temperature is -1"):
        debye_length(Atoms("Na"), CHARGES, temperature=-1.0)
