"""Training, distillation and acceptance from the command line."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from atomistic.learning.distil import label
from atomistic.potentials.load import load
from atomistic.potentials.pairs import lennard_jones
from multiscale.cli import app

TEACHER = "atomistic.potentials.pairs:lennard_jones"


def run(*words) -> object:
    torch.set_num_threads(1)
    return CliRunner().invoke(app, [str(word) for word in words])


def said(result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    made = []
    for _ in range(10):
        atoms = bulk("Ar", cubic=True, a=5.3 + 0.2 * rng.uniform()).repeat((2, 1, 1))
        atoms.rattle(0.15, rng=rng)
        made.append(atoms)
    return label(made, lennard_jones())


def test_train_writes_a_potential_that_loads_and_says_how_good_it_is(tmp_path, frames):
    write(tmp_path / "labels.extxyz", frames)
    done = run(
        "train", tmp_path / "labels.extxyz", "--kind", "symmetry-functions", "--cutoff", 5.0,
        "--members", 2, "--steps", 30, "--held-out", 0.3, "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "On 3 frames held out: forces" in said(done)
    made = load(str(tmp_path / "out" / "model.network.pt"), device="cpu")
    assert made.species == ("Ar",)
    assert made.model.layout.members == 2


def test_train_names_all_that_is_wrong_at_once(tmp_path, frames):
    write(tmp_path / "bare.xyz", [frame.copy() for frame in frames[:3]], format="extxyz")
    done = run("train", tmp_path / "bare.xyz", "--kind", "gap", "--held-out", 2)
    assert done.exit_code == 2
    for words in ("kind 'gap'", "held-out is 2", "3 of the 3 frames", "at least 5"):
        assert words in said(done)
    assert "cannot be read by ASE" in said(run("train", tmp_path / "absent.xyz"))
    none = run("train", tmp_path / "bare.xyz", "--members", 0, "--steps", 0, "--cutoff", -1)
    for words in ("members is 0", "steps is 0", "cutoff is -1.0", "3 of the 3 frames"):
        assert words in said(none)
    assert "single member" not in said(none)


@pytest.mark.parametrize("command", ["distil", "accept"])
def test_walks_that_cannot_be_are_refused_before_they_begin(tmp_path, command):
    write(tmp_path / "alone.xyz", Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 4]]))
    start = [tmp_path / "alone.xyz"]
    words = [TEACHER, "--structure", *start] if command == "accept" else start
    done = run(
        command, *words, "--teacher", TEACHER, "--temperature", -3, "--picoseconds", 0,
        "--timestep", -1,
    )  # fmt: skip
    assert done.exit_code == 2
    for fault in (
        "temperature is [-3.0], but must be positive",
        "picoseconds is 0.0",
        "timestep is -1.0",
        "1 of the 1 structures",
        "no cell in three dimensions",
    ):
        assert fault in said(done)


def test_accept_judges_on_the_students_own_frames(tmp_path, frames):
    write(tmp_path / "start.extxyz", frames[0].repeat((1, 2, 2)))
    words = ["--structure", tmp_path / "start.extxyz", "--temperature", 30, "--picoseconds", 0.1]
    good = run("accept", TEACHER, "--teacher", TEACHER, *words)
    assert good.exit_code == 0, good.output
    assert "Accepted: on 4 frames" in said(good)
    wrong = f"{__name__}:softer"
    bad = run("accept", wrong, "--teacher", TEACHER, *words)
    assert bad.exit_code == 1
    assert "Not accepted" in said(bad)


def softer():
    return lennard_jones({"Ar": (3.4, 0.005)})


def test_distil_leaves_a_student_its_labels_and_its_card(tmp_path, frames):
    start = bulk("Ar", cubic=True, a=5.3).repeat(2)
    write(tmp_path / "start.extxyz", start)
    words = [
        "distil", tmp_path / "start.extxyz", "--teacher", TEACHER, "--temperature", 20,
        "--rounds", 2, "--steps", 20, "--picoseconds", 0.05, "--limit", 1000,
        "--output", tmp_path / "student",
    ]  # fmt: skip
    done = run(*words)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "student"
    card = json.loads((folder / "card.json").read_text())
    assert card["teacher"] == "Lennard-Jones Ar"
    assert card["training_frames"] == 12 + 4
    assert load(str(folder / "nep.txt"), device="cpu").closest("Ar", "Ar") > 2.0
    before = (folder / "labels.extxyz").read_bytes()
    again = run(*words)
    assert again.exit_code == 0
    assert (folder / "labels.extxyz").read_bytes() == before
