import numpy as np
import pytest
from ase.build import molecule

from atomistic.systems import argyrodite, cluster


def test_composition_is_charge_neutral_whatever_the_disorder():
    for disorder in (0.0, 0.25, 0.5, 1.0):
        atoms = argyrodite(repeat=(2, 1, 1), disorder=disorder, seed=3)
        count = {s: int((atoms.symbols == s).sum()) for s in ("Li", "P", "S", "Cl")}
        assert count == {"Li": 48, "P": 8, "S": 40, "Cl": 8}


@pytest.mark.parametrize("disorder", [0.0, 0.5, 1.0])
def test_exchanged_fraction_of_4c_sites_holds_chloride(disorder):
    repeat = np.array([1, 2, 3])
    atoms = argyrodite(repeat=tuple(repeat), disorder=disorder, lattice_parameter=10.0)
    quarter = np.round(atoms.positions / 2.5, 6) % 4
    on_4c = np.all(quarter % 2 == 1, axis=1) & (quarter.sum(1) % 4 == 3)
    assert on_4c.sum() == 4 * repeat.prod()
    assert (atoms.symbols[on_4c] == "Cl").mean() == disorder


def test_phosphorus_has_four_sulfurs_at_bond_length():
    atoms = argyrodite(disorder=0.5, seed=1)
    distance = atoms.get_all_distances(mic=True)
    for centre in np.flatnonzero(atoms.symbols == "P"):
        assert np.allclose(np.sort(distance[centre])[1:5], 2.05)


def test_arrangements_share_one_order_of_elements():
    one, other = (argyrodite(seed=seed) for seed in (0, 1))
    assert one.get_chemical_symbols() == other.get_chemical_symbols()
    assert not np.allclose(one.positions, other.positions)


@pytest.mark.parametrize("wrong", [{"disorder": 1.2}, {"lattice_parameter": -9.0}])
def test_impossible_argument_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        argyrodite(**wrong)


def test_molecules_of_a_cluster_are_whole_and_apart():
    rng = np.random.default_rng(5)
    tag = np.repeat([0, 1, 2], [3, 4, 3])
    names, reached = ["H2O", "NH3", "H2O"], []
    for _ in range(30):
        found = cluster(names, rng, distances=(3.0, 4.0), closest=2.0, rattle=0.0)
        assert str(found.symbols) == "OH2NH3OH2"
        assert not found.pbc.any()
        distance = found.get_all_distances()
        assert distance[np.not_equal.outer(tag, tag)].min() > 2.0
        parts = [found[tag == one] for one in range(3)]
        for name, part in zip(names, parts, strict=True):
            whole = molecule(name).get_all_distances()
            np.testing.assert_allclose(part.get_all_distances(), whole, atol=1e-12)
        centre, *others = (part.positions.mean(0) for part in parts)
        reached += [np.linalg.norm(other - centre) for other in others]
    assert 3.0 <= min(reached) < 3.3
    assert 3.7 < max(reached) <= 4.0
    one, again = (cluster(["NH3"], np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(one.positions, again.positions)


def test_a_cluster_without_room_says_so():
    with pytest.raises(ValueError, match="were never 9.0 Å apart"):
        cluster(["H2O", "H2O"], np.random.default_rng(0), closest=9.0)
    with pytest.raises(ValueError, match="0 molecule"):
        cluster([], np.random.default_rng(0))
    with pytest.raises(ValueError, match="4.0 to 3.0 Å"):
        cluster(["H2O"], np.random.default_rng(0), distances=(4.0, 3.0))
