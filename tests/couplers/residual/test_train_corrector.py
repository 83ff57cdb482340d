"""The command that trains a corrector for a user's own cell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from continuum.cell import pybamm
from couplers.residual import data, training
from couplers.residual.after import refuse_foreign
from couplers.residual.batch import Corrected
from couplers.residual.corrector import load
from couplers.residual.parameters import read_cell
from multiscale.cli import app

CASE = """
[corrector]
name = "mine"
parameter_set = "Marquis2019"
highest_c_rate = 1.0
profiles = 40
temperature = 280.0
workers = 1
"""


@pytest.mark.parametrize(
    ("parameter_set", "temperature"), [("Marquis2019", 280.0), ("Chen2020", 318.15)]
)
def test_trains_says_how_well_and_leaves_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameter_set: str, temperature: float
) -> None:
    """With profiles of half a minute and few passes: the way through, not the accuracy.

    What comes of it is refused at another temperature.
    """
    for function in (data.fast, data.slow):
        monkeypatch.setitem(function.__kwdefaults__, "duration", 30)
    short = data.slow(9, 1, highest=1.0)
    monkeypatch.setattr(training, "held_out", lambda highest: {"steady": short})
    monkeypatch.setattr(training, "unseen", lambda highest: {})
    monkeypatch.setattr(data, "POINTS", (6, 3))
    for name, passes in (("epochs", 2), ("student_epochs", 2), ("members", 2)):
        monkeypatch.setitem(training.train.__kwdefaults__, name, passes)
    case = tmp_path / "case.toml"
    case.write_text(CASE.replace("Marquis2019", parameter_set).replace("280.0", str(temperature)))
    done = CliRunner().invoke(app, ["train-corrector", str(case)])
    assert done.exit_code == 0, done.output
    assert "steady" in done.output
    corrector = load(tmp_path / "results" / "mine.npz")
    assert corrector.about["set"] == "mine"
    assert np.isfinite(corrector.student[0][0]).all()
    assert corrector.about["signature"]["Ambient temperature [K]"] == temperature
    judged = json.loads((tmp_path / "results" / "mine.json").read_text())
    assert judged["steady"]["ensemble"]["profiles"] <= 1
    values, one = pybamm.ParameterValues(parameter_set), np.array([0.5])
    Corrected(read_cell(values, temperature=temperature), corrector, one)
    with pytest.raises(ValueError, match="is not for this cell: its numbers differ"):
        Corrected(read_cell(values), corrector, one)
    said = rf"Ambient temperature \[K\] is 298.15, trained for {temperature:.5g}"
    with pytest.raises(ValueError, match=said):
        refuse_foreign(values, corrector)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"Marquis2019"', '"Marquis2018"'), "parameter_set 'Marquis2018' is not one of"),
        (("highest_c_rate", "highest_rate"), "'highest_rate'; did you mean 'highest_c_rate'"),
        (('parameter_set = "Marquis2019"', ""), "give one of parameter_set"),
        (("[corrector]", "[correctors]"), r"\[correctors\] is not known"),
        (("280.0", "28.0"), "temperature is 28.0, but must be greater than or equal to 200"),
        (('"Marquis2019"', '"Sulzer2019"'), "no full lithium-ion cell: .*OCP .* is lacking"),
    ],
)
def test_faults_of_the_case_are_said(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    import re

    case = tmp_path / "case.toml"
    case.write_text(CASE.replace(*change))
    done = CliRunner().invoke(app, ["train-corrector", str(case)])
    assert done.exit_code == 2
    assert re.search(said, done.stderr), done.stderr
