"""From a result file alone: the numbers with their intervals, as tables and as a page."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from couplers import uncertainty
from multiscale import store
from multiscale.quantities import QUANTITIES, READER_UNITS

if TYPE_CHECKING:
    from rich.console import Console

DECADES = 300.0  # ratio above which numbers no longer share their digits
WIDE = 3.0  # ratio of the ends of an interval above which the reader is told
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Number:
    """One line of the table of results, in the unit in which it is shown.

    Parameters
    ----------
    label : str
        What it is.
    value, low, high : float
        Median and ends of the 95 % interval; nan where there is none.
    units : str
        Unit of the three.
    published : str
        Value from the literature, in the same unit, or "".
    source : str
        Where that was published (DOI).
    note : str
        What the reader should know about it.
    finest : float
        Smallest difference worth showing, in the same unit; 0 for any.
    """

    label: str
    value: float
    low: float
    high: float
    units: str
    published: str = ""
    source: str = ""
    note: str = ""
    finest: float = 0.0

    @property
    def text(self) -> str:
        """The value, to the digits that its interval supports."""
        return spelt(self.value, self.low, self.high, finest=self.finest)[0]

    @property
    def interval(self) -> str:
        """The 95 % interval, or "" where there is none."""
        if not np.isfinite(self.low) or not np.isfinite(self.high):
            return ""
        _, low, high = spelt(self.value, self.low, self.high, finest=self.finest)
        return f"{low} – {high}"


def spelt(*values: float, finest: float = 0.0) -> tuple[str, ...]:
    """Write numbers that belong together to the same digit and with the same power of ten.

    The smallest difference between them shows two digits, but nothing finer than `finest` is
    shown; powers of ten are spelt out below 0.001 and from 100 000. Numbers that lie decades
    apart have two digits each.

    Examples
    --------
    >>> spelt(0.1634, 0.1212, 0.2213)
    ('0.163', '0.121', '0.221')
    >>> spelt(5.31e-6, 4.2e-6, 6.7e-6)
    ('5.3×10⁻⁶', '4.2×10⁻⁶', '6.7×10⁻⁶')
    >>> spelt(3272.0, 1940.0, 5096.0)
    ('3300', '1900', '5100')
    >>> spelt(0.02, 4e-6, 173.0)
    ('0.020', '4.0×10⁻⁶', '170')
    """
    known = [value for value in values if np.isfinite(value)]
    if min(known, default=0.0) > 0 and max(known) / min(known) > DECADES:
        return tuple(_two_digits(value) for value in values)
    largest = max((abs(value) for value in known), default=0.0)
    if largest == 0:
        return tuple("0" if np.isfinite(value) else "—" for value in values)
    first = abs(next((value for value in known if value), largest))
    scale = 0 if 1e-3 <= largest < 1e5 else int(np.floor(np.log10(first)))
    gaps = [abs(one - other) for one in known for other in known if one != other]
    last = int(np.floor(np.log10(min(gaps)))) - 1 if gaps else int(np.floor(np.log10(largest))) - 3
    if finest:
        last = max(last, int(np.floor(np.log10(finest))))
    digits = scale - last
    tail = f"×10{str(scale).translate(SUPERSCRIPT)}" if scale else ""
    return tuple(
        f"{round(value / 10.0**scale, digits):.{max(digits, 0)}f}{tail}"
        if np.isfinite(value)
        else "—"
        for value in values
    )


def _two_digits(value: float) -> str:
    if not np.isfinite(value):
        return "—"
    power = int(np.floor(np.log10(value)))
    if -3 <= power < 5:
        return f"{round(value, 1 - power):.{max(1 - power, 0)}f}"
    return f"{value / 10.0**power:.1f}×10{str(power).translate(SUPERSCRIPT)}"


def interval(draws: xr.DataArray, dim: str = "draw") -> tuple[Any, Any, Any]:
    """Median and ends of the 95 % interval over draws; nan where a draw is."""
    low, middle, high = np.percentile(draws.transpose(..., dim).values, [2.5, 50, 97.5], axis=-1)
    return middle, low, high


def numbers(tree: xr.DataTree) -> list[Number]:
    """List the results of a study, each with its interval and the published value.

    Parameters
    ----------
    tree : xarray.DataTree
        What `stages.run` returned or wrote.
    """
    case = store.provenance(tree)["case"]
    rows = list(_atomistic_numbers(tree, case))
    rows += _slab_numbers(tree["continuum/slab"].to_dataset())
    rows += _cell_numbers(tree["cell"].to_dataset())
    return rows


def _number(
    name: str,
    label: str,
    draws: xr.DataArray,
    case: dict[str, Any],
    note: str = "",
    *,
    compare: bool = True,
) -> Number:
    quantity = QUANTITIES[name]
    value, low, high = (quantity.shown(float(one)) for one in interval(draws))
    remarks = [note] if note else []
    if low > 0 and high / low > WIDE:
        remarks.append(f"wide: its ends differ by a factor {_two_digits(high / low)}")
    published = [entry for entry in case["published"] if entry["quantity"] == name]
    if not published or not compare:
        return Number(label, value, low, high, quantity.shown_in, note="; ".join(remarks))
    entry = published[0]
    factor = READER_UNITS[entry["units"]][1] / READER_UNITS[quantity.shown_in][1]
    floor, ceiling = entry["low"] * factor, entry["high"] * factor
    if np.isfinite(value):
        if floor <= value <= ceiling:
            remarks.insert(0, "inside the published range")
        elif low <= ceiling and high >= floor:
            remarks.insert(0, "interval reaches the published range")
        else:
            remarks.insert(0, "interval misses the published range")
    said = " – ".join(f"{end:.6g}" for end in dict.fromkeys((floor, ceiling)))
    return Number(
        label, value, low, high, quantity.shown_in, said, entry["source"], "; ".join(remarks)
    )


def _atomistic_numbers(tree: xr.DataTree, case: dict[str, Any]) -> Iterator[Number]:
    lattice = tree["lattice"].to_dataset()
    here = case["dynamics"]["lattice_temperature_K"]
    at = int(np.flatnonzero(lattice["temperature"].values == here)[-1])
    draws = lattice["lattice_parameter_draw"][at]
    yield _number("lattice_parameter", f"Lattice parameter, {here:g} K", draws, case)
    mobile, target = case["transport"]["mobile"], case["transport"]["extrapolate_to_K"]
    handed = case["transport"]["hand_over"]
    line = tree[f"arrhenius/{handed}"].to_dataset()
    yield _number(
        "activation_energy",
        f"Activation energy of {_named(handed)}",
        line["activation_energy_draw"],
        case,
        "" if np.isfinite(line["activation_energy"]) else line.attrs["verdict"],
    )
    where = f"{target:g} K" + (", extrapolated" if bool(line["extrapolated"]) else "")
    for quantity in ("nernst_einstein_conductivity", "conductivity"):
        line = tree[f"arrhenius/{quantity}"].to_dataset()
        refused = "" if np.isfinite(line[quantity]) else line.attrs["verdict"]
        named = _named(quantity)
        label = f"{named[0].upper()}{named[1:]}, {where}"
        yield _number("conductivity", label, line[f"{quantity}_draw"], case, refused)
    line = tree["arrhenius/self_diffusivity"].to_dataset()
    refused = "" if np.isfinite(line["self_diffusivity"]) else line.attrs["verdict"]
    draws = line["self_diffusivity_draw"]
    yield _number(
        "self_diffusivity", f"Self-diffusivity of {mobile}, {where}", draws, case, refused
    )


def _named(quantity: str) -> str:
    return {
        "conductivity": "collective conductivity",
        "nernst_einstein_conductivity": "Nernst–Einstein conductivity",
    }[quantity]


def _slab_numbers(slab: xr.Dataset) -> Iterator[Number]:
    draws = slab["potential_drop_draw"]
    _, low, high = interval(draws)
    difference = abs(float(slab["relative_difference"]))
    thickness = float(slab["x"][-1] - slab["x"][0]) * 1e6
    note = f"Ohm's law to {difference:.0e} relative" if difference else "equal to Ohm's law"
    lost = int(draws.isnull().sum())
    if lost:
        note += f"; {lost} of {draws.size} draws have no steady state at this current"
    yield Number(
        f"Potential drop, {thickness:g} µm at {slab.attrs['current_density']:g} A/m²",
        float(slab["potential_drop"]) * 1e3,
        float(low) * 1e3,
        float(high) * 1e3,
        "mV",
        note=note,
    )


def _cell_numbers(cell: xr.Dataset) -> Iterator[Number]:
    drawn = cell.isel(draw=slice(1, None))
    for at, rate in enumerate(cell["c_rate"].values):
        middle, low, high = interval(drawn["discharged_capacity"][at])
        median = float(cell["discharged_capacity"][at, 0])
        nominal = float(cell["current"][at]) / rate
        yield Number(
            f"Capacity at {rate:g}C",
            median if np.isfinite(median) else float(middle),
            float(low),
            float(high),
            "A h",
            note=f"{100 * median / nominal:.0f} % of the nominal {nominal:g} A h",
            finest=1e-3,
        )
    for at, rate in enumerate(cell["c_rate"].values):
        half = float(cell["discharged_capacity"][at, 0]) / 2
        volts = np.array(
            [
                np.interp(half, cell["capacity"][at].values, curve, right=np.nan)
                for curve in cell["voltage"][at].values
            ]
        )
        ended = int(np.isnan(volts[1:]).sum())
        low, high = np.percentile(volts[1:], [2.5, 97.5])
        note = f"{ended} of {len(volts) - 1} draws had ended before"
        if not ended:
            note = f"the electrolyte moves it by {1e3 * volts[1:].std(ddof=1):.1f} mV (1 s.d.)"
            parts = _sources(volts[1:], cell["member"].values[1:], "V")
            if parts:
                shares = [f"{1e3 * value:.1f} from {name}" for name, value in parts.items()]
                note += f": {', '.join(shares)}"
        yield Number(
            f"Voltage at half discharge, {rate:g}C",
            float(volts[0]),
            float(low),
            float(high),
            "V",
            note=note,
            finest=1e-4,
        )


def temperatures(tree: xr.DataTree) -> list[dict[str, Any]]:
    """One mapping a temperature: diffusivity and conductivities with intervals, and the verdict.

    Parameters
    ----------
    tree : xarray.DataTree
        What `stages.run` returned or wrote.
    """
    case = store.provenance(tree)["case"]
    transport = tree["transport"].to_dataset()
    own = transport.sel(species=case["transport"]["mobile"])
    rows = []
    for at in np.argsort(transport["temperature"].values):
        row: dict[str, Any] = {
            "temperature": float(transport["temperature"][at]),
            "diffusive": bool(own["diffusive"][at]),
            "verdict": str(own["verdict"].values[at]),
        }
        for name in ("self_diffusivity", "nernst_einstein_conductivity", "conductivity"):
            quantity = QUANTITIES["conductivity" if "conductivity" in name else name]
            middle, low, high = (
                quantity.shown(float(one)) for one in interval(own[f"{name}_draw"][at])
            )
            row[name] = Number(name, middle, low, high, quantity.shown_in)
        rows.append(row)
    return rows


def budget(tree: xr.DataTree) -> dict[str, float]:
    """Split the variance of ln(conductivity) at the operating temperature by its source.

    Sampling is what varies within one potential; model is what varies between potentials beyond
    what sampling alone would make of it (`couplers.uncertainty.budget`), and may be nothing.

    Parameters
    ----------
    tree : xarray.DataTree
        What `stages.run` returned or wrote.

    Returns
    -------
    dict
        ``sampling`` and ``model``, each as the factor by which one standard deviation of it
        multiplies the conductivity; empty with a single potential or no value.
    """
    handed = store.provenance(tree)["case"]["transport"]["hand_over"]
    line = tree[f"arrhenius/{handed}"].to_dataset()
    with np.errstate(invalid="ignore"):
        draws = np.log(line[f"{handed}_draw"].values)
    parts = _sources(draws, line["member"].values, "1")
    return {name: float(np.exp(value)) for name, value in parts.items()}


def _sources(values: np.ndarray, members: np.ndarray, units: str) -> dict[str, float]:
    """Standard deviation from sampling and from model; empty if they cannot be told apart."""
    found = uncertainty.budget(
        xr.DataArray(
            values,
            dims="draw",
            coords={"member": ("draw", members.astype(str))},
            attrs={"units": units},
        ),
        labels={"model": "member"},
    )
    deviation = found["standard_deviation"]
    if int(found["draws_failed"]) or bool(deviation.isnull().any()):
        return {}
    return {name: float(deviation.sel(source=name)) for name in ("sampling", "model")}


def warnings(tree: xr.DataTree) -> list[str]:
    """Sentences not to be missed: unsound potentials, refusals, extrapolation, laws left.

    Parameters
    ----------
    tree : xarray.DataTree
        What `stages.run` returned or wrote.
    """
    provenance = store.provenance(tree)
    case = provenance["case"]
    said = [
        f"{about['certificate']} Every number of this study rests on it."
        for about in provenance["potentials"].values()
        if about.get("sound") is False
    ]
    lattice = tree["lattice"].to_dataset()
    if "local" in lattice:
        far = lattice["locality"].values[~lattice["local"].values.astype(bool)]
        said += dict.fromkeys(far.astype(str).tolist())
    for row in temperatures(tree):
        if not row["diffusive"]:
            said.append(f"{row['temperature']:g} K is left out: {row['verdict']}.")
    handed = case["transport"]["hand_over"]
    line = tree[f"arrhenius/{handed}"].to_dataset()
    said.append(f"The {_named(handed)} handed to the cell is {line.attrs['verdict']}.")
    if handed != "conductivity":
        said.append(
            "Nernst–Einstein conductivity takes the ions to move independently; the collective "
            "one beside it does not, and needs longer runs for the same error."
        )
    missed = [one.label for one in numbers(tree) if "misses the published" in one.note]
    if missed:
        said.append(
            f"Outside the published range: {'; '.join(missed)}. The intervals hold the finite runs "
            "and the spread between the potentials, but neither what all these potentials have in "
            "common nor a difference between this structure and the measured one."
        )
    window = tree["cell"].attrs["window"]
    if not bool(line["extrapolated"]) and "every law" not in window:
        said.append(f"Outside a law's window: {window}.")
    said.append(f"Cell: {tree['cell'].attrs['outcome']}")
    return said


def print_tables(tree: xr.DataTree, console: Console) -> None:
    """Print the results as tables.

    Parameters
    ----------
    tree : xarray.DataTree
        What `stages.run` returned or wrote.
    console : rich.console.Console
        Where to print.
    """
    from rich import box
    from rich.table import Table

    case = store.provenance(tree)["case"]
    mobile = case["transport"]["mobile"]
    by_temperature = Table(
        title="By temperature, medians with 95 % intervals",
        box=box.SIMPLE_HEAD,
        title_justify="left",
    )
    for heading in (
        "T (K)",
        f"D {mobile} (cm²/s)",
        "σ Nernst–Einstein (mS/cm)",
        "σ collective (mS/cm)",
        "diffusive",
    ):
        by_temperature.add_column(heading)
    for row in temperatures(tree):
        cells = [
            f"{number.text} [dim]{number.interval}[/dim]"
            for number in (
                row["self_diffusivity"],
                row["nernst_einstein_conductivity"],
                row["conductivity"],
            )
        ]
        verdict = "[green]yes[/green]" if row["diffusive"] else "[yellow]no[/yellow]"
        by_temperature.add_row(f"{row['temperature']:g}", *cells, verdict)
    table = Table(title=case["study"]["title"], box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("Quantity")
    table.add_column("Value", justify="right", style="bold", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("Unit", no_wrap=True)
    table.add_column("Published", justify="right", no_wrap=True)
    for number in numbers(tree):
        table.add_row(
            number.label + (f"\n[dim]{number.note}[/dim]" if number.note else ""),
            number.text,
            number.interval,
            number.units.replace("2/", "²/"),
            number.published,
        )
    console.print()
    console.print(by_temperature)
    console.print(table)
    parts = budget(tree)
    if parts:
        console.print(
            f"One standard deviation of the conductivity at the operating temperature: a factor "
            f"{parts['sampling']:.2f} from sampling, {parts['model']:.2f} from the choice of "
            "potential."
        )
    for sentence in warnings(tree):
        console.print(f"[yellow]•[/yellow] {sentence}")
    console.print()


def write_html(tree: xr.DataTree, path: Path) -> Path:
    """Write the report as one page with nothing outside it.

    Parameters
    ----------
    tree : xarray.DataTree
        What `stages.run` returned or wrote.
    path : Path
        Where to write.

    Returns
    -------
    Path
        The same path.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    from multiscale.figures import figures

    provenance = store.provenance(tree)
    environment = Environment(
        loader=PackageLoader("multiscale"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=tree.attrs["title"],
        date=datetime.date.today().isoformat(),
        case=provenance["case"],
        numbers=numbers(tree),
        temperatures=temperatures(tree),
        budget=budget(tree),
        warnings=warnings(tree),
        figures=figures(tree),
        stages=provenance["stages"],
        potentials=provenance["potentials"],
        cell=tree["cell"].attrs,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
