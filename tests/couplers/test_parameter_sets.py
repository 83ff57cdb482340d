from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from continuum.cell import discharge, pybamm
from continuum.inputs import Electrolyte
from continuum.laws import Law
from couplers import parameter_sets
from couplers.battery import parameter_values
from couplers.parameter_sets import keep, li6ps5cl_from_atoms, recorded

NAME = "Li6PS5Cl from atoms"


def electrolyte() -> Electrolyte:
    one = Law("constant", (1.0,), "1")
    return Electrolyte(
        conductivity=Law(
            "arrhenius over temperature",
            (0.1 + 0.2, np.float64(28.123456789e3), 300.0),
            "S m-1",
            temperature_window=(500.0, 900.0),
        ),
        diffusivity=Law("arrhenius", (1e-12 / 3, 28e3, 300.0), "m2 s-1"),
        transference_number=one,
        thermodynamic_factor=one,
        concentration=41234.5,
        temperature=300.0,
        single_ion=True,
        name="Li6PS5Cl",
    )


def test_electrolyte_survives_its_file_exactly(tmp_path: Path) -> None:
    keep(electrolyte(), tmp_path / "e.json", provenance="a test")
    assert recorded(tmp_path / "e.json") == electrolyte()
    strict = json.loads((tmp_path / "e.json").read_text(), parse_constant=pytest.fail)
    assert strict["provenance"] == "a test"
    warm = recorded(tmp_path / "e.json", temperature=330.0)
    assert warm == replace(electrolyte(), temperature=330.0)


def test_parameter_set_of_the_recorded_electrolyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameter_sets, "LI6PS5CL", tmp_path / "e.json")
    with pytest.raises(FileNotFoundError, match="carries no recorded"):
        li6ps5cl_from_atoms()
    keep(electrolyte(), tmp_path / "e.json", provenance="a test")
    read = discharge(pybamm.ParameterValues(li6ps5cl_from_atoms()), c_rates=[1.0])
    direct = discharge(parameter_values(electrolyte()), c_rates=[1.0])
    assert float(abs(read["voltage"] - direct["voltage"]).max()) <= 1e-8


@pytest.mark.skipif(
    not (
        parameter_sets.LI6PS5CL.exists()
        and NAME in entry_points(group="pybamm_parameter_sets").names
    ),
    reason="this checkout is not installed with a recorded result",
)
def test_pybamm_finds_the_shipped_set_by_its_name() -> None:
    values = pybamm.ParameterValues(NAME)
    assert values["Ambient temperature [K]"] == recorded(parameter_sets.LI6PS5CL).temperature


def test_empty_provenance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="provenance is empty"):
        keep(electrolyte(), tmp_path / "e.json", provenance=" ")
    assert not (tmp_path / "e.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"laws": {}}', '{"laws": {"conductivity": 1}}'])
def test_file_without_an_electrolyte_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(ValueError, match=r"e\.json holds no electrolyte"):
        recorded(tmp_path / "e.json")
