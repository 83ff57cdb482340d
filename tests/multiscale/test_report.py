"""The report shows what the result holds, and nothing else."""

import re
import xml.etree.ElementTree as ElementTree
from io import StringIO

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from multiscale import report, store


def test_numbers_are_those_of_the_result(result):
    rows = {number.label: number for number in report.numbers(result)}
    line = result["arrhenius/nernst_einstein_conductivity"]
    sigma = rows["Nernst–Einstein conductivity, 300 K, extrapolated"]
    assert sigma.units == "mS/cm"
    assert sigma.value == pytest.approx(10 * float(line["nernst_einstein_conductivity"]))
    assert sigma.low == pytest.approx(10 * float(line["nernst_einstein_conductivity_lower_95"]))
    assert sigma.published == "1.3 – 2.05"
    assert "10.1021/jacs.7b06327" in sigma.source
    lattice = rows["Lattice parameter, 300 K"]
    assert lattice.value == pytest.approx(9.87, abs=0.01)
    assert lattice.published == "9.84 – 9.9"
    drop = rows["Potential drop, 50 µm at 10 A/m²"]
    assert drop.value == pytest.approx(1e3 * float(result["continuum/slab/potential_drop"]))
    assert "Ohm's law" in drop.note
    assert {"Capacity at 0.2C", "Voltage at half discharge, 1C"} <= set(rows)
    for number in rows.values():
        if np.isfinite(number.low):
            assert number.low <= number.value <= number.high


def test_a_refused_temperature_and_a_wide_interval_are_said(result):
    tree = result.copy(deep=True)
    transport = tree["transport"].to_dataset()
    at = {"condition": 0, "species": 0}
    for name in ("self_diffusivity", "self_diffusivity_draw"):
        transport[name][at] = np.nan
    transport["diffusive"][at] = False
    transport["verdict"] = transport["verdict"].astype(object)
    transport["verdict"][at] = "too few hops"
    tree["transport"] = xr.DataTree(transport)
    line = tree["arrhenius/nernst_einstein_conductivity"].to_dataset()
    draws = line["nernst_einstein_conductivity_draw"]
    line["nernst_einstein_conductivity_draw"] = draws**4 / float(draws.median()) ** 3
    tree["arrhenius/nernst_einstein_conductivity"] = xr.DataTree(line)
    said = report.warnings(tree)
    assert "700 K is left out: too few hops." in said
    assert not [sentence for sentence in report.warnings(result) if "left out" in sentence]
    wide = next(one for one in report.numbers(tree) if one.label.startswith("Nernst"))
    assert "wide: its ends differ by a factor" in wide.note
    assert report.temperatures(tree)[0]["self_diffusivity"].text == "—"
    buffer = StringIO()
    report.print_tables(tree, Console(file=buffer, width=120))
    assert "too few hops" in buffer.getvalue()


def test_a_potential_that_sees_less_than_screening_asks_for_is_named_once(result):
    tree = result.copy(deep=True)
    lattice = tree["lattice"].to_dataset()
    local = np.arange(lattice.sizes.get("replica", 4)) > 1
    tree["lattice"] = xr.DataTree(
        lattice.assign(
            local=("replica", local),
            locality=("replica", ["it is short" if not near else "it is not" for near in local]),
        )
    )
    said = report.warnings(tree)
    assert said.count("it is short") == 1 and "it is not" not in said


def test_an_unsound_potential_is_named_and_a_sound_one_is_not(result, tmp_path):
    tree = result.copy(deep=True)
    provenance = store.provenance(tree)
    sound, unsound = provenance["potentials"].values()
    sound |= {"sound": True, "certificate": "The potential one holds 13 of 13 properties."}
    unsound |= {"sound": False, "certificate": "The potential two fails: atoms can fall."}
    tree.attrs["provenance"] = store.encode(provenance)
    said = " ".join(report.warnings(tree))
    assert "two fails: atoms can fall. Every number" in said
    assert "one holds" not in said
    page = report.write_html(tree, tmp_path / "report.html").read_text()
    assert "one holds 13 of 13" in page
    assert page.count("two fails") == 2


def test_budget_tells_sampling_from_model(result):
    parts = report.budget(result)
    posterior = result["arrhenius/nernst_einstein_conductivity"].to_dataset()
    log = np.log(posterior["nernst_einstein_conductivity_draw"])
    within = log.groupby("member").var(...).mean()
    assert parts["sampling"] == pytest.approx(float(np.exp(np.sqrt(within))), rel=0.01)
    # what two means of so many draws differ by even with one potential is not the model's
    between = float(log.groupby("member").mean(...).diff("member").item()) ** 2 / 2
    between -= float(log.groupby("member").var(..., ddof=1).mean()) * 2 / log.size
    assert between > 0
    assert parts["model"] == pytest.approx(float(np.exp(np.sqrt(between))), rel=1e-6)
    tree = result.copy(deep=True)
    line = tree["arrhenius/nernst_einstein_conductivity"].to_dataset()
    name = "nernst_einstein_conductivity_draw"
    other = line["member"].values.astype(str) == "argyrodite-r2scan"
    line[name] = line[name] * np.where(other, 9.0, 1.0)
    tree["arrhenius/nernst_einstein_conductivity"] = xr.DataTree(line)
    spread = report.budget(tree)
    assert spread["sampling"] == pytest.approx(parts["sampling"])
    assert spread["model"] > 2 * parts["model"]
    single = tree.copy()
    line["member"] = ("draw", np.full(line.sizes["draw"], "one"))
    single["arrhenius/nernst_einstein_conductivity"] = xr.DataTree(line)
    assert report.budget(single) == {}


def test_page_stands_alone_and_holds_every_number(result, tmp_path):
    page = report.write_html(result, tmp_path / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!https://doi\.org|#)""", page)
    assert "@import" not in page
    for number in report.numbers(result):
        assert number.text in page
    assert "8 % of the rms force" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert "nan" not in re.sub(r"<svg.*?</svg>|<[^>]+>", "", page, flags=re.DOTALL).split()


def test_report_from_disk_is_the_same(result, tmp_path):
    back = store.load(store.write(result, tmp_path / "result.nc"))
    assert report.numbers(back) == report.numbers(result)
    assert report.warnings(back) == report.warnings(result)


def test_title_is_escaped(result, tmp_path):
    tree = result.copy()
    tree.attrs["title"] = "<b>x</b>"
    page = report.write_html(tree, tmp_path / "report.html").read_text()
    assert "<b>x</b>" not in page


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((9.987, 9.981, 9.993), ("9.9870", "9.9810", "9.9930")),
        ((-0.5, -0.75, -0.25), ("-0.50", "-0.75", "-0.25")),
        ((123456.0, 120000.0, 127000.0), ("1.235×10⁵", "1.200×10⁵", "1.270×10⁵")),
        ((0.0, 0.0, 0.0), ("0", "0", "0")),
        ((1.5, np.nan, np.nan), ("1.500", "—", "—")),
        ((0.0, -1.5, 1.5), ("0.0", "-1.5", "1.5")),
    ],
)
def test_digits(values, expected):
    assert report.spelt(*values) == expected
