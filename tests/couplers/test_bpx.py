from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from continuum.cell import discharge, pybamm
from continuum.inputs import Electrolyte
from continuum.laws import Law
from couplers.battery import LAW_KEYS, parameter_values
from couplers.bpx import bpx, electrolytes_of_bpx, from_bpx, to_bpx
from couplers.liquid import landesfeind_ec_emc

MESH = {"x_n": 12, "x_s": 6, "x_p": 12}


def voltage(values: pybamm.ParameterValues, rate: float = 1.0) -> xr.DataArray:
    run = discharge(values, c_rates=[rate], mesh_points=MESH, relative_tolerance=1e-8)
    return run["voltage"].isel(condition=0, draw=0)


def difference(one: xr.DataArray, other: xr.DataArray) -> float:
    """Largest difference (mV) of two voltages that end at the same point."""
    assert np.array_equal(one.isnull(), other.isnull())
    assert one.notnull().sum() > 50
    return 1e3 * float(abs(one - other).max())


def alone(path: Path) -> pybamm.ParameterValues:
    """The BPX file as PyBaMM reads it, without the sidecar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pybamm.ParameterValues.create_from_bpx(path)


@pytest.mark.parametrize("name", ["Chen2020", "Marquis2019", "Ecker2015"])
def test_published_sets_go_round_within_a_tenth_of_a_millivolt(name: str, tmp_path: Path) -> None:
    values = pybamm.ParameterValues(name)
    before = dict(values.items())
    lost = to_bpx(values, tmp_path / "cell.json", title=name)
    assert dict(values.items()) == before
    exact = voltage(values)
    back = from_bpx(tmp_path / "cell.json")
    assert difference(voltage(back), exact) < 0.1
    assert difference(voltage(alone(tmp_path / "cell.json")), exact) < 0.1
    assert set(values.keys()) <= set(back.keys())
    for key in values:
        # numbers that BPX takes as functions come back as functions
        if isinstance(values[key], (int, float)) and not callable(back[key]):
            assert back[key] == pytest.approx(values[key], rel=1e-12, abs=0), key
    # what BPX has a place for and can say is not in the sidecar
    for key in ("Negative electrode OCP [V]", "Electrolyte diffusivity [m2.s-1]"):
        assert key not in lost
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bpx.parse_bpx_file(tmp_path / "cell.json")


def test_tables_stand_in_for_functions_without_words(tmp_path: Path) -> None:
    """OKane2022's graphite is data: a table that lines follow to 1e-5 V."""
    values = pybamm.ParameterValues("OKane2022")
    to_bpx(values, tmp_path / "cell.json", title="OKane2022")
    content = json.loads((tmp_path / "cell.json").read_text())["Parameterisation"]
    table = content["Negative electrode"]["OCP [V]"]
    sto = np.linspace(0.01, 0.95, 500)
    symbol = pybamm.FunctionParameter("Negative electrode OCP [V]", {"x": pybamm.Vector(sto)})
    exact = values.process_symbol(symbol).evaluate().ravel()
    np.testing.assert_allclose(np.interp(sto, table["x"], table["y"]), exact, atol=1e-5)
    assert isinstance(content["Positive electrode"]["OCP [V]"], str)


def test_set_with_a_thermodynamic_factor_needs_its_sidecar(tmp_path: Path) -> None:
    """Without it PyBaMM's reader would move the voltage by tens of millivolts: refused."""
    values = pybamm.ParameterValues("Ai2020")
    path = tmp_path / "cell.json"
    lost = to_bpx(values, path, title="Ai2020", description="LCO pouch.")
    assert "BPX has none" in lost["Thermodynamic factor"]
    exact = voltage(values)
    assert difference(voltage(from_bpx(path)), exact) < 0.1
    bare = voltage(alone(path))
    assert 1e3 * float(abs(bare - exact).max()) > 10
    (tmp_path / "cell.sidecar.json").unlink()
    with pytest.raises(ValueError, match="incomplete without cell.sidecar.json"):
        from_bpx(path)


def test_laws_and_draws_come_back_as_themselves(tmp_path: Path) -> None:
    electrolyte = landesfeind_ec_emc()
    draws = []
    for factor in (0.9, 1.1):
        first, *others = electrolyte.conductivity.coefficients
        law = replace(electrolyte.conductivity, coefficients=(factor * first, *others))
        draws.append(replace(electrolyte, conductivity=law))
    values = parameter_values(electrolyte, base="Chen2020")
    path = tmp_path / "cell.json"
    lost = to_bpx(values, path, title="x", electrolyte=electrolyte, draws=draws)
    assert set(LAW_KEYS.values()) <= set(lost), "none is of BPX's form"
    assert electrolytes_of_bpx(path) == (electrolyte, *draws)
    assert difference(voltage(from_bpx(path), 0.5), voltage(values, 0.5)) < 1e-3
    # and as the base of another cell
    again = parameter_values(draws[0], base=path)
    direct = parameter_values(draws[0], base="Chen2020")
    assert difference(voltage(again, 0.5), voltage(direct, 0.5)) < 1e-3


def test_solid_electrolyte_on_an_imported_base_keeps_the_kinetics(tmp_path: Path) -> None:
    """Functions read from a sidecar are functions again: the solid's scaling reaches them."""
    one = Law("constant", (1.0,), "1")
    solid = Electrolyte(
        conductivity=Law("constant", (0.2,), "S m-1"),
        diffusivity=Law("constant", (1e-11,), "m2 s-1"),
        transference_number=one,
        thermodynamic_factor=one,
        concentration=40e3,
        temperature=298.15,
        single_ion=True,
    )
    path = tmp_path / "cell.json"
    base = pybamm.ParameterValues("ORegan2022")  # kinetics that BPX cannot say
    lost = to_bpx(base, path, title="x")
    key = "Negative electrode exchange-current density [A.m-2]"
    assert "not of BPX's form" in lost[key]
    state = [pybamm.Scalar(number) for number in (40e3, 15e3, 30e3, 298.15)]
    ours = [
        float(made.evaluate(made[key](*state)))
        for made in (parameter_values(solid, base=base), parameter_values(solid, base=path))
    ]
    assert ours[0] == pytest.approx(ours[1], rel=1e-12)
    # written once more from what was read
    lost = to_bpx(from_bpx(path), tmp_path / "again.json", title="x")
    assert key in lost


def test_edited_file_and_foreign_sidecar_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    to_bpx(pybamm.ParameterValues("Chen2020"), path, title="x")
    path.write_text(path.read_text().replace('"Title": "x"', '"Title": "y"'))
    with pytest.raises(ValueError, match="belongs to another version of cell.json"):
        from_bpx(path)
    (tmp_path / "cell.sidecar.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="has the format 'other'"):
        from_bpx(path)
    (tmp_path / "no.json").write_text('{"Header": {"BPX": "1.1.1"}}')
    with pytest.raises(ValueError, match="no.json is no BPX file of a full cell"):
        from_bpx(tmp_path / "no.json")


def test_bad_input_is_refused_together(tmp_path: Path) -> None:
    electrolyte = landesfeind_ec_emc()
    values = parameter_values(electrolyte, as_inputs=["conductivity"])
    del values["Separator porosity"]
    with pytest.raises(ValueError) as error:
        to_bpx(values, tmp_path / "cell.txt", title="x", draws=[electrolyte])
    for sentence in (
        "lacks 'Separator porosity'",
        "'Electrolyte conductivity [S.m-1]' is an input",
        "draws are given without their electrolyte",
        "ends in .json",
    ):
        assert sentence in str(error.value)
    other = replace(electrolyte, conductivity=Law("constant", (1.0,), "S m-1"))
    with pytest.raises(ValueError) as error:
        to_bpx(
            parameter_values(electrolyte),
            tmp_path / "cell.json",
            title="x",
            electrolyte=other,
            draws=[electrolyte],
        )
    assert "'Electrolyte conductivity [S.m-1]' is not that of" in str(error.value)
    assert "draws have another form of conductivity" in str(error.value)
    assert list(tmp_path.iterdir()) == []
