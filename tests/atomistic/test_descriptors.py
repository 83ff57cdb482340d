"""Descriptors against sums over pairs written out, against dscribe, and turned and renamed."""

import itertools

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from atomistic.learning.descriptors import PowerSpectrum, SymmetryFunctions, pairs_of
from atomistic.learning.networks import AtomNetwork, Layout, as_potential, load_network
from atomistic.potentials.certificate import certify
from atomistic.potentials.load import load

DESCRIPTORS = [
    SymmetryFunctions(cutoff=4.5, radial=4, shells=2, powers=(1, 3)),
    PowerSpectrum(cutoff=4.5, n_max=3, l_max=2),
]


@pytest.fixture
def cluster():
    """An atom and four neighbours."""
    positions = [[0, 0, 0], [1.6, 0.2, 0], [0, 2.1, 0.3], [-1.2, -0.8, 1.4], [0.5, -1.9, -1.2]]
    return Atoms("NaClNaClCl", positions)


def features(descriptor, vectors, kind):
    """Features of a single atom."""
    single, double = descriptor.features(
        torch.zeros(len(vectors), dtype=torch.long), kind, vectors, atoms=1, kinds=2
    )
    return single[0], double[0]


def around(cluster, *, itself=False):
    vectors = torch.tensor(cluster.positions - cluster.positions[0])
    kind = torch.tensor([int(symbol == "Na") for symbol in cluster.symbols])
    if itself:
        vectors = vectors + 1e-12  # its own density, which dscribe counts
        return vectors, kind
    return vectors[1:], kind[1:]


def test_symmetry_functions_equal_their_sums_over_pairs(cluster):
    vectors, kind = around(cluster)
    described = SymmetryFunctions(cutoff=4.0, radial=5, shells=3, powers=(1, 2, 4), nearest=0.8)
    single, double = features(described, vectors, kind)
    r = vectors.norm(dim=1).numpy()
    window = 1 - (r / 4) ** 3 * (10 - 15 * r / 4 + 6 * (r / 4) ** 2)
    for n, z in itertools.product(range(5), range(2)):
        width = (4.0 - 0.8) / 5
        terms = np.exp(-(((r - 0.8 - n * width) / width) ** 2)) * window
        assert float(single[n, z]) == pytest.approx(terms[kind == z].sum())
    place = 0
    for power, sign in itertools.product((1, 2, 4), (1, -1)):
        for shell in range(3):
            width = (4.0 - 0.8) / 3
            g = np.exp(-(((r - 0.8 - shell * width) / width) ** 2)) * window
            total = dict.fromkeys(pairs_of(2), 0.0)
            for j, k in itertools.combinations(range(4), 2):
                cosine = float(vectors[j] @ vectors[k]) / (r[j] * r[k])
                pair = tuple(sorted((int(kind[j]), int(kind[k]))))
                total[pair] += 2.0 ** (1 - power) * (1 + sign * cosine) ** power * g[j] * g[k]
            assert double[place].tolist() == pytest.approx(list(total.values()), abs=1e-12)
            place += 1


def test_power_spectrum_equals_dscribes(cluster):
    dscribe = pytest.importorskip("dscribe.descriptors")
    theirs = dscribe.SOAP(
        species=["Cl", "Na"], r_cut=6.0, n_max=4, l_max=3, sigma=0.5, rbf="gto", periodic=False
    )
    reference = theirs.create(cluster, centers=[0])[0]
    ours = PowerSpectrum(cutoff=6.0, n_max=4, l_max=3, width=0.5, onset=0.5)
    _, double = features(ours, *around(cluster, itself=True))
    degrees = double.reshape(4, 10, 3)  # degree, upper triangle, pair of elements
    for place, pair in ((0, ("Cl", "Cl")), (2, ("Na", "Na"))):
        np.testing.assert_allclose(
            degrees[:, :, place].ravel(), reference[theirs.get_location(pair)], rtol=1e-9
        )
    mixed = reference[theirs.get_location(("Cl", "Na"))].reshape(4, 4, 4)
    upper = np.triu_indices(4)
    both = (mixed + mixed.transpose(0, 2, 1))[:, *upper]
    np.testing.assert_allclose(degrees[:, :, 1], both, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_features_do_not_turn_and_neighbours_have_no_names(cluster, descriptor):
    vectors, kind = around(cluster)
    before = features(descriptor, vectors, kind)
    turn = torch.from_numpy(-Rotation.random(rng=3).as_matrix())
    order = [2, 0, 3, 1]
    after = features(descriptor, (vectors @ turn.T)[order], kind[order])
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    swapped = features(descriptor, vectors, 1 - kind)
    assert not torch.allclose(before[1], swapped[1], rtol=1e-2)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_a_network_on_them_obeys_physics_exactly(descriptor):
    atoms = bulk("NaCl", "rocksalt", a=5.8, cubic=True)
    network = AtomNetwork(Layout(("Cl", "Na"), descriptor, members=2))
    certificate = certify(
        as_potential(network), atoms, only=[
            "translation", "rotation", "inversion", "permutation", "extensivity",
            "force_is_gradient", "jacobian_asymmetry", "stress_is_strain_derivative",
            "jump_in_structure",
        ],
    )  # fmt: skip
    assert certificate.sound, certificate.outcome


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_members_average_to_the_network_and_survive_the_disk(tmp_path, descriptor):
    atoms = bulk("NaCl", "rocksalt", a=5.8, cubic=True)
    atoms.rattle(0.1, seed=0)
    state = ts.io.atoms_to_state([atoms, atoms.repeat((2, 1, 1))], "cpu", torch.float64)
    network = AtomNetwork(Layout(("Cl", "Na"), descriptor, members=3))
    energy, forces = network.members(state)
    results = network(state)
    torch.testing.assert_close(energy.mean(1), results["energy"])
    torch.testing.assert_close(forces.mean(1), results["forces"])
    assert float(forces.std(1).max()) > 1e-6
    path = network.save(tmp_path / "small.network.pt")
    again = load(str(path), device="cpu")
    torch.testing.assert_close(again.model(state)["forces"], results["forces"], rtol=0, atol=0)
    assert again.species == ("Cl", "Na")
    assert again.cutoff == 4.5
    assert load_network(path).sha256 == again.sha256 != ""


def test_a_new_element_leaves_what_is_said_of_the_old_ones():
    atoms = bulk("NaCl", "rocksalt", a=5.8, cubic=True)
    atoms.rattle(0.1, seed=0)
    network = AtomNetwork(Layout(("Cl", "Na")))
    wider = network.with_elements(["K", "Na", "Cl"])
    state = ts.io.atoms_to_state([atoms], "cpu", torch.float64)
    torch.testing.assert_close(wider(state)["forces"], network(state)["forces"])
    with pytest.raises(ValueError, match="without Na"):
        network.with_elements(["K", "Cl"])


def test_unknown_elements_and_bad_layouts_get_a_sentence(tmp_path):
    network = AtomNetwork(Layout(("Cl", "Na")))
    state = ts.io.atoms_to_state([bulk("LiCl", "rocksalt", a=5.1)], "cpu", torch.float64)
    with pytest.raises(ValueError, match="knows Cl, Na, but was given Li"):
        network(state)
    with pytest.raises(ValueError, match=r"members is 0.*must be sorted"):
        Layout(("Na", "Cl"), members=0)
    with pytest.raises(ValueError, match="must end in"):
        network.save(tmp_path / "small.pt")
