"""Charges as an output of a network, learnt together with what is short-ranged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk

from atomistic.electrostatics.coulomb import Coulomb
from atomistic.learning.charged import ChargedNetwork, as_potential, fit_charged
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.distil import errors, label
from atomistic.learning.networks import AtomNetwork, Layout
from atomistic.learning.networks import as_potential as short_potential
from atomistic.learning.training import Settings, fit
from atomistic.potentials.ionic import sodium_chloride
from atomistic.potentials.load import load
from atomistic.potentials.locality import sees_far

LAYOUT = Layout(
    ("Cl", "Na"),
    SymmetryFunctions(cutoff=4.4, radial=8, shells=1, powers=(1,), nearest=1.8),
    neurons=(8,),
)
ORACLE = sodium_chloride(cutoff=6.0)  # Born-Mayer-Huggins with charges of one
GUESS = {"Cl": -0.4, "Na": 0.4}


def state_of(*frames):
    return ts.io.atoms_to_state(list(frames), "cpu", torch.float64)


def shaken(count, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        atoms = bulk("NaCl", "rocksalt", a=6.3, cubic=True) * (2, 2, 2)
        atoms.rattle(0.25, rng=rng)
        frames.append(atoms)
    return label(frames, ORACLE)


@pytest.fixture(scope="module")
def learnt():
    torch.set_num_threads(1)
    frames, judge = shaken(16, 0), shaken(4, 1)
    network = ChargedNetwork(LAYOUT, GUESS, cutoff=6.0)
    settings = Settings(steps=60, batch=4, look=15, learning_rate=(1e-2, 1e-4))
    fit_charged(network, frames, judge, settings=settings, warm_up=60)
    alone = AtomNetwork(LAYOUT)
    fit(alone, frames, judge, settings=Settings(steps=200, batch=4, look=25))
    return network, alone


def wild(seed=3, **options):
    """A network of random weights, loud enough that every term matters."""
    network = ChargedNetwork(LAYOUT, GUESS, cutoff=6.0, seed=seed, **options)
    frames = shaken(2, 9)
    features = network.short.raw(
        network.short.kinds(state_of(*frames)), *_pairs(state_of(*frames))
    )  # fmt: skip
    for part in (network.short, network.excursion):
        part.set_scales(*(each.detach() for each in features))
    return network


def _pairs(state):
    from atomistic.potentials.pairs import neighbours

    centre, neighbour, _, vector = neighbours(state, LAYOUT.descriptor.cutoff)
    return centre, neighbour, vector


def test_charges_are_found_that_no_label_holds_and_forces_are_better_for_it(learnt):
    network, alone = learnt
    test = shaken(6, 2)
    charges = as_potential(network).model(state_of(*test))["charges"].reshape(len(test), -1)
    sodium = test[0].symbols == "Na"
    assert charges[:, sodium].mean() == pytest.approx(1.0, abs=0.06)
    assert float(charges[:, sodium].std()) < 0.05
    with_charges = errors(test, as_potential(network)).relative_force
    without = errors(test, short_potential(alone)).relative_force
    assert with_charges < 0.5 * without
    assert sees_far(as_potential(network), {"Na": 1.0, "Cl": -1.0})
    assert not sees_far(short_potential(alone), {"Na": 1.0, "Cl": -1.0})


def test_forces_and_stress_are_derivatives_of_the_energy_charges_and_all():
    network, (frame,) = wild(), shaken(1, 4)
    found = network(state_of(frame))
    assert float(found["charges"].std()) > 0.3
    step = 1e-4

    def energy(atoms):
        return float(network(state_of(atoms))["energy"])

    for atom, axis in ((0, 0), (7, 1), (40, 2)):
        pair = []
        for sign in (1, -1):
            moved = frame.copy()
            moved.positions[atom, axis] += sign * step
            pair.append(energy(moved))
        slope = -(pair[0] - pair[1]) / (2 * step)
        assert found["forces"][atom, axis] == pytest.approx(slope, abs=1e-6)
    for one, other in ((0, 0), (1, 2)):
        pair = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[one, other] += sign * step / 2
            strain[other, one] += sign * step / 2
            strained = frame.copy()
            strained.set_cell(frame.cell.array @ strain, scale_atoms=True)
            pair.append(energy(strained))
        slope = (pair[0] - pair[1]) / (2 * step * frame.get_volume())
        assert found["stress"][0, one, other] == pytest.approx(slope, abs=1e-6)


def test_a_batch_gives_what_its_systems_give_alone():
    network, frames = wild(), shaken(2, 5)
    both = network(state_of(*frames))
    for index, frame in enumerate(frames):
        alone = network(state_of(frame))
        assert both["energy"][index] == pytest.approx(float(alone["energy"][0]), rel=1e-12)
        part = both["forces"].reshape(2, -1, 3)[index]
        torch.testing.assert_close(part, alone["forces"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("split", [(1.0, 2.0), (2.2, 4.4)])
def test_nothing_is_counted_twice(split):
    """Without what is learnt, the energy is that of the charges less what lies within the split."""
    network, (frame,) = wild(split=split), shaken(1, 6)
    network.short.scale.fill_(0.0)
    network.excursion.scale.fill_(0.0)
    found = network(state_of(frame))
    settings = {"cutoff": 6.0, "accuracy": 1e-5}
    whole = Coulomb(GUESS, **settings)(state_of(frame))
    near = Coulomb(GUESS, split=split, part="short", **settings)(state_of(frame))
    for name in ("energy", "forces", "stress"):
        assert torch.allclose(found[name] + near[name], whole[name], atol=1e-9, rtol=0)
    assert float(near["energy"].abs()) > 1.0 or split[1] < 2.5


def test_charges_keep_their_total_and_their_bounds_however_wild_the_weights():
    network, (frame,) = wild(), shaken(1, 7)
    network.excursion.scale.fill_(50.0)
    charge = network(state_of(frame))["charges"]
    assert float(charge.sum().abs()) < 1e-10
    free = network.swing + 0.4
    assert float(charge.max() - charge.min()) <= 2 * free + 1e-12
    # a total that is asked for is spread over the atoms
    given = wild(total=1.0)(state_of(frame))["charges"]
    assert float(given.sum()) == pytest.approx(1.0, abs=1e-10)


def test_a_network_is_found_again_on_the_disk(learnt, tmp_path):
    network, (frame,) = learnt[0], shaken(1, 8)
    again = load(str(network.save(tmp_path / "salt.charged.pt")), device="cpu")
    assert again.species == ("Cl", "Na") and again.sha256
    one, other = network(state_of(frame)), again.model(state_of(frame))
    for name, value in one.items():
        assert torch.equal(value, other[name])
    with pytest.raises(ValueError, match=r"must end in \.charged\.pt"):
        network.save(tmp_path / "salt.pt")


def test_wrong_input_gets_a_sentence():
    with pytest.raises(ValueError, match=r"no charge is given for Na; split ends at 6 Å"):
        ChargedNetwork(LAYOUT, {"Cl": -1.0}, split=(3.0, 6.0))
    network, (frame,) = wild(), shaken(1, 1)
    with pytest.raises(ValueError, match="systems of equal size"):
        network(state_of(frame, bulk("NaCl", "rocksalt", a=5.6, cubic=True)))
    with pytest.raises(ValueError, match="give frames of one size"):
        fit_charged(network, [frame], label([frame * (2, 1, 1)], ORACLE))
