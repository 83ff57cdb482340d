"""The case file: right ones are read whole, wrong ones are refused with all their faults."""

import tomllib
from pathlib import Path

import ase.build
import ase.io
import pytest
from pydantic import ValidationError

from multiscale.case import CaseError, build, read, vary

CASE = Path(__file__).parents[2] / "examples" / "argyrodite_cell" / "case.toml"


@pytest.fixture
def table():
    return tomllib.loads(CASE.read_text())


def faults(table, folder=Path()):
    with pytest.raises(CaseError) as caught:
        build(table, folder=folder)
    return list(caught.value.faults)


def test_shipped_case_is_sound():
    case = read(CASE)
    assert case.output_folder.parts[-2:] == ("results", "argyrodite_cell")
    assert [len(atoms) for atoms in case.structures(2)] == [52, 52]
    drawn = {atoms.positions.tobytes() for atoms in case.structures(6)}
    assert len(drawn) > 3, "replicas draw their disorder anew"
    entry = next(entry for entry in case.published if entry.quantity == "conductivity")
    assert entry.bounds == pytest.approx((0.13, 0.205))


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("dynamics", "temprature_K", 300, "no key 'temprature_K'; did you mean 'temperatures_K'?"),
        ("dynamics", "temperatures_K", [300, -5, 400], "temperatures_K[2] is -5"),
        ("dynamics", "temperatures_K", [300, 400, 400], "the same temperature twice"),
        ("dynamics", "temperatures_K", [300], "must hold at least 3 sound values"),
        ("dynamics", "replicas", 0, "replicas is 0, but must be greater than 0"),
        ("dynamics", "frame_interval_fs", 1.0, "shorter than the timestep_fs of 3"),
        ("dynamics", "production_ps", 1.0, "fewer than 100 frames"),
        ("dynamics", "timestep_fs", float("nan"), "timestep_fs is nan"),
        ("structure", "file", "absent.cif", "give either builder or file"),
        ("structure", "disorder", 1.5, "disorder is 1.5"),
        ("potential", "committee", "argyrodite-pb", "did you mean 'argyrodite-pbe'?"),
        ("potential", "committee", [], "must hold at least 1"),
        ("potential", "committee", "no.module:here", "could not be imported"),
        ("potential", "device", "gpu", "device is 'gpu'"),
        ("transport", "mobile", "Na", "charges gives it no charge"),
        ("transport", "charges", {"Li": 1, "P": 5, "S": -2}, "lacks Cl"),
        ("transport", "charges", {"Li": 1, "P": 4, "S": -2, "Cl": -1}, "sum to -4"),
        ("slab", "thickness_m", "thin", "thickness_m is 'thin'"),
        ("slab", "current_density_A_m2", 0, "must drive a current"),
        ("cell", "base", "Chen2021", "did you mean 'Chen2020'?"),
        ("cell", "c_rates", [1.0, -1.0], "c_rates[2] is -1.0"),
        ("output", "folder", str(CASE / "below"), "case.toml is a file"),
    ],
)
def test_a_fault_is_one_sentence_that_names_the_place(table, section, key, value, said):
    table[section][key] = value
    found = faults(table)
    assert len(found) == 1
    assert found[0].startswith(f"[{section}]")
    assert said in found[0]
    assert found[0].endswith((".", "?"))
    assert "\n" not in found[0]


def test_published_values_are_checked(table):
    table["published"][0] |= {"quantity": "lattice_paramter"}
    table["published"][1] |= {"units": "mS/cm"}
    table["published"][2] |= {"low": 3.0}
    found = faults(table)
    assert len(found) == 3
    assert "[[published]] 1" in found[0]
    assert "did you mean 'lattice_parameter'?" in found[0]
    assert "must be eV or kJ/mol" in found[1]
    assert "above high" in found[2]


def test_all_faults_come_at_once(table):
    table["studie"] = table.pop("study")
    table["dynamics"]["replicas"] = -1
    table["structure"] = {"file": "absent.cif"}
    table["cell"]["base"] = "Chen2021"
    table["potential"]["committee"] = ["nothing"]
    table["output"]["folder"] = str(CASE / "below")
    said = "\n".join(faults(table))
    for word in ("[study] is missing", "[studie]", "replicas", "absent.cif", "Chen2021", "nothing"):
        assert word in said
    assert "case.toml is a file" in said


def test_gpu_that_is_absent(table, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    table["potential"]["device"] = "cuda"
    assert "torch sees no GPU" in faults(table)[0]


def test_element_that_the_potential_does_not_know(table, tmp_path):
    ase.io.write(tmp_path / "salt.cif", ase.build.bulk("NaCl", "rocksalt", a=5.6))
    table["structure"] = {"file": "salt.cif"}
    table["transport"] |= {"mobile": "Na", "charges": {"Na": 1, "Cl": -1}}
    table["output"]["folder"] = "out"
    found = faults(table, tmp_path)
    assert len(found) == 2, "one for each potential of the committee"
    assert all("Na" in fault and "knows only" in fault for fault in found)


def test_structure_that_ase_cannot_read(table, tmp_path):
    (tmp_path / "broken.cif").write_text("this is no crystal")
    table["structure"] = {"file": "broken.cif"}
    found = faults(table, tmp_path)
    assert len(found) == 1
    assert "cannot be read by ASE" in found[0]


def test_structure_from_a_file_is_repeated(table, tmp_path):
    (atoms,) = read(CASE).structures(1)
    ase.io.write(tmp_path / "cell.xyz", atoms, format="extxyz")
    table["structure"] = {"file": "cell.xyz", "repeat": [2, 1, 1]}
    case = build(table, folder=tmp_path)
    assert len(case.structures(1)[0]) == 104


def test_unreadable_files(tmp_path):
    with pytest.raises(CaseError, match="There is no case file"):
        read(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("[study")
    with pytest.raises(CaseError, match="is not TOML"):
        read(tmp_path / "broken.toml")


def test_output_option_wins_and_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(CASE, output=Path("here")).output_folder == tmp_path / "here"


def test_case_cannot_be_changed_but_varied():
    case = read(CASE)
    with pytest.raises(ValidationError):
        case.dynamics.replicas = 7
    other = vary(case, {"dynamics.replicas": 7, "cell.c_rates": [2.0]})
    assert (other.dynamics.replicas, other.cell.c_rates) == (7, (2.0,))
    assert case.dynamics.replicas == read(CASE).dynamics.replicas != 7
    assert other.structure == case.structure
    assert other.folder == case.folder
    with pytest.raises(CaseError, match="did you mean 'replicas'"):
        vary(case, {"dynamics.replica": 7})
    with pytest.raises(CaseError, match="names no key"):
        vary(case, {"dynamics": 7})


def test_potential_by_name_alone_is_a_committee_of_one(table):
    table["potential"] = "argyrodite-pbe"
    assert build(table, folder=CASE.parent).committee() == ["argyrodite-pbe"]
