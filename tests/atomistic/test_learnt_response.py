"""Learnt dipoles and polarisabilities against polarisable molecules whose answer is exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from atomistic.electrostatics.induced import InducedDipoles
from atomistic.learning.descriptors import SymmetryFunctions
from atomistic.learning.response import (
    ResponseLayout,
    ResponseNetwork,
    fit_response,
    load_response,
    response_errors,
)
from atomistic.potentials.field import UniformField, in_field
from atomistic.potentials.ionic import sodium_chloride
from atomistic.systems import cluster

ORACLE = InducedDipoles({"H": 0.3, "O": -0.6, "N": -0.9}, {"H": 0.1, "O": 0.4, "N": 0.5})
SHAPE = SymmetryFunctions(cutoff=5.0, radial=8, shells=1, powers=(1, 2), nearest=0.7)
LAYOUT = ResponseLayout(("H", "N", "O"), descriptor=SHAPE, channels=2, neurons=16)


def state_of(frames):
    return ts.io.atoms_to_state(list(frames), "cpu", torch.float64)


def labels(frames):
    return tuple(each.numpy() for each in ORACLE.respond(state_of(frames)))


@pytest.fixture(scope="module")
def learnt():
    """A network that has seen one, two and three molecules, but no ammonia between two waters."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations_with_replacement(["H2O", "NH3"], 2))
    frames = [cluster([name], rng) for name in ("H2O", "NH3") for _ in range(6)]
    frames += [cluster(pair, rng) for pair in pairs for _ in range(50)]
    threes = (["H2O"] * 3, ["NH3"] * 3, ["H2O", "NH3", "NH3"])
    frames += [cluster(three, rng) for three in threes for _ in range(25)]
    network = ResponseNetwork(LAYOUT)
    loss = fit_response(network, frames, *labels(frames), steps=400, learning_rate=2e-2)
    assert loss < 0.1
    return network


def test_the_response_of_molecules_never_seen_is_learnt(learnt):
    rng = np.random.default_rng(7)
    for names in (("H2O", "NH3"), ("H2O", "NH3", "H2O")):
        frames = [cluster(names, rng) for _ in range(30)]
        found = response_errors(learnt, frames, *labels(frames))
        assert found.relative_dipole < 0.2
        assert found.relative_polarisability < 0.6


def test_moments_turn_with_the_structure_exactly(learnt):
    rng = np.random.default_rng(1)
    frame = cluster(("H2O", "NH3"), rng)
    turn = Rotation.random(rng=rng).as_matrix() @ np.diag([1, 1, -1])  # and mirrored
    order = rng.permutation(len(frame))
    turned = frame[order]
    turned.positions = turned.positions @ turn.T + [3.0, -2.0, 5.0]
    with torch.no_grad():
        (moment, tensor), (moved, stretched) = (learnt(state_of([one])) for one in (frame, turned))
    np.testing.assert_allclose(moved[0], turn @ moment[0].numpy(), atol=1e-12)
    np.testing.assert_allclose(stretched[0], turn @ tensor[0].numpy() @ turn.T, atol=1e-12)
    assert np.linalg.norm(moment[0]) > 0.02


def test_moment_and_polarisability_are_derivatives_of_the_energy_by_the_field(learnt):
    frame = cluster(("H2O", "NH3"), np.random.default_rng(2))
    with torch.no_grad():
        moment, tensor = learnt(state_of([frame]))

    def energy(field):
        return float(UniformField(field, learnt)(state_of([frame]))["energy"])

    step, unit = 0.05, np.eye(3)
    for one, other in itertools.product(range(3), repeat=2):
        near, far = step * unit[one], step * unit[other]
        mixed = energy(near + far) - energy(near - far) - energy(far - near) + energy(-near - far)
        assert tensor[0, one, other] == pytest.approx(-mixed / (4 * step**2), abs=1e-11)
    for one in range(3):
        slope = (energy(step * unit[one]) - energy(-step * unit[one])) / (2 * step)
        assert moment[0, one] == pytest.approx(-slope, abs=1e-12)


def test_forces_in_a_field_are_the_slope_of_the_energy(learnt):
    frame = cluster(("H2O", "NH3"), np.random.default_rng(3))
    term = UniformField((0.4, -0.3, 0.9), learnt)
    forces = term(state_of([frame]))["forces"]
    step = 1e-4
    for atom, axis in ((0, 0), (1, 1), (3, 2), (5, 0)):
        pair = []
        for sign in (1, -1):
            moved = frame.copy()
            moved.positions[atom, axis] += sign * step
            pair.append(float(term(state_of([moved]))["energy"]))
        assert forces[atom, axis] == pytest.approx(-(pair[0] - pair[1]) / (2 * step), abs=1e-7)
    assert float(forces.sum(0).abs().max()) < 1e-12  # a neutral molecule is not pulled away


def test_polarisability_is_positive_however_wild_the_weights():
    rng = np.random.default_rng(4)
    network = ResponseNetwork(LAYOUT, seed=1)
    with torch.no_grad():
        for weight in network.parameters():
            weight += torch.from_numpy(rng.normal(scale=3.0, size=tuple(weight.shape)))
        crowded = [cluster(("H2O", "NH3", "NH3"), rng, distances=(2.7, 2.9)) for _ in range(8)]
        _, tensor = network(state_of(crowded))
    assert float(torch.linalg.eigvalsh(tensor).min()) > 0


def test_in_a_melt_the_response_does_not_know_which_image_an_ion_is():
    """Charges that are given carry the quantum of polarisation; what is learnt has none."""
    melt = bulk("NaCl", "rocksalt", a=5.9, cubic=True) * (2, 2, 2)
    melt.rattle(0.2, seed=1)
    hopped = melt.copy()
    hopped.positions[1] += melt.cell.array[0]
    charges = {"Na": 1.0, "Cl": -1.0}
    network = ResponseNetwork(ResponseLayout(("Cl", "Na"), charges, SHAPE), seed=2)
    with torch.no_grad():
        moments, tensors = network(state_of([melt, hopped]))
    quantum = charges[melt.symbols[1]] * melt.cell.array[0]
    np.testing.assert_allclose(moments[1] - moments[0], quantum, atol=1e-10)
    np.testing.assert_allclose(tensors[1], tensors[0], atol=1e-10)
    field = (0.0, 0.02, 0.1)
    placed = in_field(sodium_chloride(cutoff=5.5), field, network)
    forces = [placed.model(state_of([one]))["forces"] for one in (melt, hopped)]
    np.testing.assert_allclose(forces[0], forces[1], atol=1e-10)
    # the sum of forces is the net charge times the field
    assert float(forces[0].sum(0).abs().max()) < 1e-9


def test_a_network_is_found_again_on_the_disk(learnt, tmp_path):
    frame = cluster(("H2O", "H2O"), np.random.default_rng(5))
    again = load_response(learnt.save(tmp_path / "pair.response.pt"))
    for one, other in zip(learnt(state_of([frame])), again(state_of([frame])), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"must end in \.response\.pt"):
        learnt.save(tmp_path / "pair.pt")


def test_wrong_input_gets_a_sentence(learnt):
    with pytest.raises(ValueError, match=r"species are .*which is no species"):
        ResponseLayout(("O", "H"), {"Na": 1.0})
    with pytest.raises(ValueError, match="knows H, N, O, but was given C"):
        learnt(state_of([molecule("CH4")]))
    with pytest.raises(ValueError, match=r"dipoles have shape \(2, 3\), expected \(1, 3\)"):
        fit_response(learnt, [molecule("H2O")], np.zeros((2, 3)))
