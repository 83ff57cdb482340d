"""The command that trains a corrector for a user's own cell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from couplers.residual import data, training
from couplers.residual.corrector import load
from multiscale.cli import app

CASE = """
[corrector]
name = "mine"
parameter_set = "Marquis2019"
highest_c_rate = 1.0
profiles = 40
temperature = 280.0
"""


def test_trains_says_how_well_and_leaves_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With profiles of half a minute and few passes: the way through, not the accuracy."""
    for function in (data.fast, data.slow):
        monkeypatch.setitem(function.__kwdefaults__, "duration", 30)
    short = data.slow(9, 1, highest=1.0)
    monkeypatch.setattr(training, "held_out", lambda highest: {"steady": short})
    monkeypatch.setattr(training, "unseen", lambda highest: {})
    monkeypatch.setattr(data, "POINTS", (6, 3))
    for name, passes in (("epochs", 2), ("student_epochs", 2), ("members", 2)):
        monkeypatch.setitem(training.train.__kwdefaults__, name, passes)
    case = tmp_path / "case.toml"
    case.write_text(CASE)
    done = CliRunner().invoke(app, ["train-corrector", str(case)])
    assert done.exit_code == 0, done.output
    assert "steady" in done.output
    corrector = load(tmp_path / "results" / "mine.npz")
    assert corrector.about["set"] == "mine"
    assert np.isfinite(corrector.student[0][0]).all()
    assert corrector.about["signature"]["Ambient temperature [K]"] == 280.0
    judged = json.loads((tmp_path / "results" / "mine.json").read_text())
    assert judged["steady"]["ensemble"]["profiles"] <= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"Marquis2019"', '"Marquis2018"'), "parameter_set 'Marquis2018' is not one of"),
        (("highest_c_rate", "highest_rate"), "'highest_rate'; did you mean 'highest_c_rate'"),
        (('parameter_set = "Marquis2019"', ""), "give one of parameter_set"),
        (("[corrector]", "[correctors]"), r"\[correctors\] is not known"),
        (("280.0", "28.0"), "temperature is 28.0, but must be greater than or equal to 200"),
        (('"Marquis2019"', '"Ecker2015"'), "negative particle's diffusivity depends"),
    ],
)
def test_faults_of_the_case_are_said(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    import re

    case = tmp_path / "case.toml"
    case.write_text(CASE.replace(*change))
    done = CliRunner().invoke(app, ["train-corrector", str(case)])
    assert done.exit_code == 2
    assert re.search(said, done.stderr), done.stderr
