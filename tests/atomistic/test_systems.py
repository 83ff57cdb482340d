import numpy as np
import pytest

from atomistic.systems import argyrodite


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
