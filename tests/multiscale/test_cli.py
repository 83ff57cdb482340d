"""The command line answers bad input with a sentence and good input with results."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multiscale import stages, store
from multiscale.cli import app

CASE = Path(__file__).parents[2] / "examples" / "argyrodite_cell" / "case.toml"
call = CliRunner().invoke


def test_version():
    from importlib.metadata import version

    answer = call(app, ["--version"])
    assert answer.exit_code == 0
    assert answer.output.strip() == f"multiscale {version('multiscale-electrochemistry')}"


def test_check_says_a_sound_case_is_sound():
    answer = call(app, ["check", str(CASE)])
    assert answer.exit_code == 0
    assert "is sound" in answer.output


@pytest.mark.parametrize("command", ["run", "check"])
def test_bad_case_is_one_sentence_and_exit_code_2(command, tmp_path):
    bad = tmp_path / "case.toml"
    bad.write_text(re.sub(r"(?m)^replicas = \d+", "replicas = -1", CASE.read_text()))
    answer = call(app, [command, str(bad)])
    assert answer.exit_code == 2
    assert answer.output.strip() == "[dynamics] replicas is -1, but must be greater than 0."
    assert not list(tmp_path.glob("results*"))


def test_failure_during_a_run_is_a_sentence(tmp_path, monkeypatch):
    def fail(case, *, progress=None):
        raise RuntimeError("Li and P came as close as 0.90 Å; lower the temperature.")

    monkeypatch.setattr(stages, "simulate", fail)
    answer = call(app, ["run", str(CASE), "--output", str(tmp_path)])
    assert answer.exit_code == 2
    assert "came as close as 0.90 Å" in answer.output
    assert "Traceback" not in answer.output


def test_run_and_report(result, tmp_path, monkeypatch):
    def run(case, *, progress):
        progress("simulate", 1, 2, "at 700 K")
        progress("simulate", 2, 2, "at 700 K")
        progress("measure", 1, 1, "reused: nothing it depends on has changed")
        store.write(result, case.output_folder / store.RESULT)
        return result

    monkeypatch.setattr(stages, "run", run)
    answer = call(app, ["run", str(CASE), "--output", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert "Molecular dynamics: done" in answer.output
    assert "Transport: reused" in answer.output
    assert "Nernst–Einstein conductivity" in answer.output
    page = (tmp_path / "report.html").read_text()
    again = call(app, ["report", str(tmp_path / "result.nc"), "--html", str(tmp_path / "b.html")])
    assert again.exit_code == 0
    assert (tmp_path / "b.html").read_text() == page
    place = tmp_path / "new" / "c.html"
    assert call(app, ["report", str(tmp_path / "result.nc"), "--html", str(place)]).exit_code == 0
    assert place.read_text() == page


def test_report_of_something_else(tmp_path):
    answer = call(app, ["report", str(tmp_path / "absent.nc")])
    assert answer.exit_code == 2
    assert "There is no result file" in answer.output
    (tmp_path / "other.nc").write_text("x")
    answer = call(app, ["report", str(tmp_path / "other.nc")])
    assert answer.exit_code == 2
    assert "is not a result of multiscale run" in answer.output


def test_certify_prints_and_writes_what_was_measured(tmp_path):
    kept = tmp_path / "certificate.json"
    properties = ["rotation", "force_is_gradient", "strong_field"]
    options = [each for name in properties for each in ("--only", name)]
    for charge in ("Li=1", "P=5", "S=-2", "Cl=-1"):
        options += ["--charge", charge]
    answer = call(app, ["certify", "argyrodite-pbe", *options, "--json", str(kept)])
    assert answer.exit_code == 0, answer.output
    assert "holds 3 of 3 properties" in answer.output
    content = json.loads(kept.read_text())
    assert content["sound"]
    assert [finding["name"] for finding in content["findings"]] == properties


def test_certify_names_the_fault_and_exits_with_1(tmp_path, monkeypatch):
    (tmp_path / "leaky.py").write_text(
        "from ase.calculators.lj import LennardJones\n"
        "def truncated():\n"
        "    return LennardJones(sigma=2.3, epsilon=0.2, rc=5.0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    answer = call(app, ["certify", "leaky:truncated", "--only", "jump_in_structure"])
    assert answer.exit_code == 1, answer.output
    assert "FAILS" in answer.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["argyrodite-pb"], "did you mean"),
        (["argyrodite-pbe", "--only", "beauty"], "does not know the properties beauty"),
        (["argyrodite-pbe", "--structure", "nowhere.cif"], "cannot be read"),
        (["argyrodite-pbe", "--charge", "Li:1"], "give each as Na=1"),
        (["argyrodite-pbe", "--charge", "Li=1"], "without one of Cl, P, S"),
        (["math:sqrt"], "'math:sqrt' could not be made (TypeError"),
        (["argyrodite-pbe", "--only", "rotation", "--json", f"{__file__}/a.json"], "File exists"),
    ],
)
def test_certify_answers_bad_input_with_a_sentence(arguments, words):
    answer = call(app, ["certify", *arguments])
    assert answer.exit_code == 2
    assert words in answer.output
    assert "Traceback" not in answer.output


def test_a_corrector_reads_a_bpx_with_its_sidecar_or_says_why_not(tmp_path, monkeypatch):
    """What BPX has no place for stands in the sidecar, and must reach the training."""
    from continuum.cell import pybamm
    from couplers.bpx import to_bpx
    from couplers.residual import training

    def stop(values, **rest):
        raise ValueError("thermodynamic factor " + type(values["Thermodynamic factor"]).__name__)

    monkeypatch.setattr(training, "corrector_for", stop)
    case = tmp_path / "case.toml"
    case.write_text('[corrector]\nname = "a"\nbpx = "cell.json"\nhighest_c_rate = 1.0\n')
    missing = call(app, ["train-corrector", str(case)])
    assert missing.exit_code == 2
    assert "cell.json does not exist" in missing.output
    (tmp_path / "cell.json").write_text("{}")
    empty = call(app, ["train-corrector", str(case)])
    assert empty.exit_code == 2
    assert "cell.json is no BPX file of a full cell" in empty.output
    values = pybamm.ParameterValues("Ai2020")
    to_bpx(values, tmp_path / "cell.json", title="Ai2020", description="LCO pouch.")
    whole = call(app, ["train-corrector", str(case)])
    assert "thermodynamic factor function" in whole.output


def test_help_names_the_table_of_a_corrector():
    answer = call(app, ["train-corrector", "--help"])
    assert "[corrector]" in answer.output
