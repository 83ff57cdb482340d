import importlib.util
import json
import sys
import types
import warnings

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from atomistic.potentials.load import SHIPPED, available, choose_device, load
from atomistic.potentials.nep import CompiledNEP, TorchNEP
from atomistic.potentials.pairs import lennard_jones
from atomistic.systems import argyrodite

STUDENTS = ["argyrodite-pbe", "argyrodite-r2scan"]


def skewed_batch():
    """Systems of different size; the first in a skewed cell, all atoms wandered off by cells."""
    batch = [argyrodite(seed=0), argyrodite(repeat=(1, 1, 2), seed=1), argyrodite(seed=2)]
    rng = np.random.default_rng(0)
    for atoms in batch:
        atoms.rattle(0.1, rng=rng)
        atoms.positions += rng.integers(-3, 4, size=(len(atoms), 3)) @ atoms.cell.array
    strain = np.eye(3) + 0.05 * rng.normal(size=(3, 3))
    batch[0].set_cell(batch[0].cell.array @ strain, scale_atoms=True)
    return ts.io.atoms_to_state(batch, "cpu", torch.float64)


@pytest.mark.parametrize("name", STUDENTS)
def test_compiled_and_torch_evaluation_agree(name):
    path, state = SHIPPED / name / "nep.txt", skewed_batch()
    compiled, in_torch = CompiledNEP(path)(state), TorchNEP(path)(state)
    for quantity, value in compiled.items():
        torch.testing.assert_close(value, in_torch[quantity], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("build", [CompiledNEP, TorchNEP])
def test_forces_and_stress_are_derivatives_of_the_energy(build):
    model, state, h = build(SHIPPED / STUDENTS[0] / "nep.txt"), skewed_batch(), 1e-4
    results = model(state)

    def energy(changed):
        return model(changed)["energy"][0]

    for atom, axis in ((3, 0), (40, 2)):
        pair = []
        for sign in (1, -1):
            moved = state.clone()
            moved.positions[atom, axis] += sign * h
            pair.append(energy(moved))
        numeric = -(pair[0] - pair[1]) / (2 * h)
        assert float(results["forces"][atom, axis]) == pytest.approx(float(numeric), abs=1e-6)
    for one, other in ((0, 0), (0, 1), (1, 2)):
        pair = []
        for sign in (1, -1):
            strain = torch.eye(3, dtype=torch.float64)
            strain[one, other] += sign * h
            strained = state.clone()
            strained.cell = strain @ state.cell
            strained.positions = state.positions @ strain.T
            pair.append(energy(strained))
        volume = torch.linalg.det(state.cell[0]).abs()
        numeric = (pair[0] - pair[1]) / (2 * h) / volume
        assert float(results["stress"][0, one, other]) == pytest.approx(float(numeric), abs=1e-7)


@pytest.mark.parametrize("name", STUDENTS)
def test_shipped_student_meets_its_acceptance(name):
    potential = load(name, device="cpu")
    card = json.loads((SHIPPED / name / "card.json").read_text())
    assert card["on_policy_errors"]["relative_force"] <= 0.20
    assert card["on_policy_errors"]["energy"] <= 4e-3
    assert set(potential.species) == {"Li", "P", "S", "Cl"}
    assert potential.closest("S", "Li") == potential.closest("Li", "S") > 1.0
    size = sum(path.stat().st_size for path in (SHIPPED / name).iterdir())
    assert size <= 1_000_000


def test_core_repels_where_the_network_was_never_trained():
    atoms = argyrodite(lattice_parameter=10.1, seed=0)
    potential = load(STUDENTS[0], device="cpu")
    lithium = np.flatnonzero(atoms.symbols == "Li")
    direction = atoms.get_distance(lithium[0], lithium[1], mic=True, vector=True)
    energies = []
    for distance in (1.2, 0.9, 0.6, 0.3):
        squeezed = atoms.copy()
        squeezed.positions[lithium[1]] = squeezed.positions[
            lithium[0]
        ] + distance * direction / np.linalg.norm(direction)
        state = ts.io.atoms_to_state([squeezed], "cpu", torch.float64)
        energies.append(float(potential.model(state)["energy"][0]))
    assert np.all(np.diff(energies) > 1.0)


def ase_factory():
    return LennardJones(sigma=3.4, epsilon=0.0103, rc=8.0, smooth=True)


def test_any_ase_calculator_enters_by_import_path():
    potential = load(f"{__name__}:ase_factory")
    atoms = bulk("Ar", cubic=True, a=5.3).repeat((2, 2, 2))
    atoms.rattle(0.1)
    results = potential.model(ts.io.atoms_to_state([atoms, atoms], "cpu", torch.float64))
    atoms.calc = ase_factory()
    assert float(results["energy"][1]) == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(results["forces"][len(atoms) :], atoms.get_forces())
    np.testing.assert_allclose(results["stress"][0], atoms.get_stress(voigt=False))


def test_lennard_jones_has_its_minimum_and_mixes_by_lorentz_and_berthelot():
    potential = lennard_jones({"Ar": (3.4, 0.0103), "Kr": (3.8, 0.0141)}, cutoff=9.0)
    for pair, sigma, depth in (("Ar2", 3.4, 0.0103), ("ArKr", 3.6, (0.0103 * 0.0141) ** 0.5)):
        at_minimum = 2 ** (1 / 6) * sigma
        dimers = [
            Atoms(pair, [[1, 1, 1], [1 + d, 1, 1]], cell=[30] * 3, pbc=True)
            for d in (at_minimum, sigma, 9.1)
        ]
        results = potential.model(ts.io.atoms_to_state(dimers, "cpu", torch.float64))
        assert results["energy"].tolist() == pytest.approx([-depth, 0.0, 0.0], abs=1e-12)
        assert float(results["forces"][0, 0]) == pytest.approx(0.0, abs=1e-12)
        # du/dr at sigma is -24 epsilon / sigma: it pushes the first atom to the left
        assert float(results["forces"][2, 0]) == pytest.approx(-24 * depth / sigma)


def test_lennard_jones_sees_images_in_cells_shorter_than_its_cutoff():
    small = bulk("Ar", cubic=True, a=5.3)
    small.rattle(0.2, seed=0)
    model = lennard_jones(cutoff=8.0).model
    results = model(ts.io.atoms_to_state([small, small.repeat((3, 2, 2))], "cpu", torch.float64))
    assert float(results["energy"][1]) == pytest.approx(12 * float(results["energy"][0]))
    assert float(results["forces"].sum(0).abs().max()) < 1e-12


def test_chgnet_in_a_batch_equals_its_own_calculator():
    if importlib.util.find_spec("chgnet") is None:
        pytest.skip("chgnet is not installed")
    potential = load("chgnet", device="cpu")
    from chgnet.model.dynamics import CHGNetCalculator

    batch = [argyrodite(), bulk("LiCl", "rocksalt", a=5.1, cubic=True)]
    batch[1].rattle(0.1, seed=0)
    results = potential.model(ts.io.atoms_to_state(batch, "cpu", torch.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own calculator
        batch[1].calc = CHGNetCalculator(potential.model.network, use_device="cpu")
        assert float(results["energy"][1]) == pytest.approx(batch[1].get_potential_energy())
        np.testing.assert_allclose(results["forces"][52:], batch[1].get_forces(), atol=1e-4)
        np.testing.assert_allclose(
            results["stress"][1], batch[1].get_stress(voigt=False), atol=1e-6
        )
    assert potential.describe()["licence"] == "BSD-3-Clause"
    assert potential.precision == "float32"


@pytest.mark.parametrize(
    ("file", "module", "words"),
    [
        ("a.model", "mace", "cannot share an environment with sevenn"),
        ("a.nequip.pt2", "nequip", "pip install nequip"),
        ("a.xml", "quippy", "pip install quippy-ase"),
    ],
)
def test_package_that_is_absent_is_named_with_its_install_line(
    tmp_path, monkeypatch, file, module, words
):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(ImportError, match=words):
        load(str(tmp_path / file), device="cpu")


def test_pretrained_potential_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "chgnet", None)
    monkeypatch.delitem(sys.modules, "atomistic.potentials.chgnet", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'multiscale-electrochemistry\[chgnet\]'"):
        load("chgnet", device="cpu")


@pytest.mark.parametrize(
    ("file", "words"), [("a.dat", "must end in one of"), ("b.txt", "no NEP potential: it begins")]
)
def test_file_of_no_known_kind_is_refused(tmp_path, file, words):
    (tmp_path / file).write_text("something else")
    with pytest.raises(ValueError, match=words):
        load(str(tmp_path / file), device="cpu")


GAP = """<GAP_params><gpSparse>
<gpCoordinates><descriptor>distance_2b cutoff=5.25 Z1=17 Z2=11</descriptor></gpCoordinates>
<gpCoordinates><descriptor> soap l_max=3 cutoff=4.5 cutoff_transition_width=0.8
 n_species=2 Z=11 species_Z={11 17 } </descriptor></gpCoordinates>
</gpSparse></GAP_params>"""


def test_gap_says_elements_and_cutoff_by_its_descriptors(tmp_path, monkeypatch):
    class Gap(LennardJones):
        def __init__(self, param_filename):
            super().__init__()

    monkeypatch.setitem(sys.modules, "quippy", types.ModuleType("quippy"))
    monkeypatch.setitem(sys.modules, "quippy.potential", types.SimpleNamespace(Potential=Gap))
    file = tmp_path / "a.xml"
    file.write_text(GAP)
    potential = load(str(file), device="cpu")
    assert potential.species == ("Na", "Cl")
    assert potential.cutoff == 5.25
    for text, words in ((GAP[:90], "is no GAP: "), ("<a/>", "holds no descriptor")):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            load(str(file), device="cpu")


def test_description_is_flat_and_complete():
    described = load(STUDENTS[0], device="cpu").describe()
    assert all(isinstance(value, str | float | int) for value in described.values())
    assert set(described["species"].split()) == {"Li", "P", "S", "Cl"}
    assert described["precision"] == "float64"
    assert len(described["sha256"]) == 64
    assert described["cutoff_angstrom"] > 4


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'argyrodite-pbe'"):
        load("argyrodite_pbe")
    assert set(STUDENTS) <= set(available())


@pytest.mark.parametrize("name", ["no.such.module:factory", "json:no_such_factory"])
def test_import_path_that_fails_says_so(name):
    with pytest.raises(ValueError, match="could not be imported"):
        load(name)


def test_import_path_to_something_else_says_what_was_expected():
    with pytest.raises(ValueError, match="returned dict, but an ASE calculator"):
        load("builtins:dict")


def test_element_unknown_to_the_potential_is_named():
    with pytest.raises(ValueError, match="holds Ar, but the potential"):
        load(STUDENTS[0], device="cpu").check_elements([bulk("Ar")])


def test_absent_gpu_is_refused():
    with pytest.raises(ValueError, match="unknown; use"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU"):
            choose_device("cuda")
