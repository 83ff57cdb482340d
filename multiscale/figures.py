"""The figures of the report, drawn from a result alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.constants import gas_constant

from multiscale import store

# Okabe and Ito's palette, which colour-blind readers can tell apart
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
)
GREY = "#6b7280"
DASHES = ((1, 1.5), (4, 2), (6, 2, 1, 2))
STYLE: Any = {
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#1f2937",
    "axes.grid": True,
    "grid.color": "#eceff3",
    "grid.linewidth": 0.8,
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "multiscale",
}


@dataclass(frozen=True)
class Picture:
    """A figure with what a reader without it should know.

    Parameters
    ----------
    title : str
        Heading.
    caption : str
        What is shown, in sentences.
    svg : str
        The drawing.
    wide : bool
        Whether it takes the whole width of the page.
    """

    title: str
    caption: str
    svg: str
    wide: bool = False


def figures(tree: xr.DataTree) -> list[Picture]:
    """Draw every figure of the report.

    Parameters
    ----------
    tree : xarray.DataTree
        What `multiscale.stages.run` returned or wrote.
    """
    case = store.provenance(tree)["case"]
    with mpl.rc_context(STYLE):
        return [
            _structure(tree["structure"].to_dataset(), case["transport"]["mobile"]),
            _displacement(tree, case["transport"]["mobile"]),
            _arrhenius(tree, case),
            _slab(tree["continuum/slab"].to_dataset()),
            _discharge(tree["cell"].to_dataset()),
        ]


@contextmanager
def _canvas(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    yield figure, list(axes)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _heat_colours(count: int) -> list[tuple[float, ...]]:
    return [tuple(mpl.colormaps["plasma"](x)) for x in np.linspace(0.05, 0.78, max(count, 2))]


def _structure(structure: xr.Dataset, mobile: str) -> Picture:
    pairs = [pair for pair in structure["pair"].values.astype(str) if mobile in pair.split("-")]
    order = np.argsort(structure["temperature"].values)
    with _canvas(2.75 * len(pairs), 2.9, len(pairs)) as (figure, axes):
        for ax, pair in zip(axes, pairs, strict=True):
            for at, colour in zip(order, _heat_colours(len(order)), strict=True):
                g = structure["radial_distribution"].sel(pair=pair).isel(condition=at)
                T = float(structure["temperature"][at])
                ax.plot(g["distance"] * 1e10, g, color=colour, lw=1.4, label=f"{T:g} K")
            ax.axhline(1, color=GREY, lw=0.8, ls=":")
            ax.set(title=pair.replace("-", "–"), xlabel="distance (Å)", ylim=(0, None))
        axes[0].set_ylabel("g(r)")
        axes[-1].legend()
        return Picture(
            f"Structure around {mobile}",
            "Radial distribution functions, averaged over replicas and potentials.",
            _svg(figure),
            wide=True,
        )


def _displacement(tree: xr.DataTree, mobile: str) -> Picture:
    moved = tree["displacement"].to_dataset()
    transport = tree["transport"].to_dataset().sel(species=mobile)
    order = np.argsort(moved["temperature"].values)
    time = moved["lag"].values * 1e12
    with _canvas(5.6, 4.2) as (figure, (ax,)):
        for at, colour in zip(order, _heat_colours(len(order)), strict=True):
            squared = moved["mean_squared_displacement"].isel(condition=at)
            T = float(moved["temperature"][at])
            mine = squared.sel(species=mobile).values * 1e20
            ax.loglog(time, mine, color=colour, label=f"{mobile}, {T:g} K")
            start = float(transport["start_lag"][at]) * 1e12
            if bool(transport["diffusive"][at]) and np.isfinite(start):
                ax.plot(start, np.interp(start, time, mine), "o", color=colour, ms=6, mec="white")
            for name in moved["species"].values:
                if name != mobile:
                    other = squared.sel(species=name).values * 1e20
                    ax.loglog(time, other, color="#c4c9d1", lw=0.8, zorder=1)
        ax.plot([], [], color="#c4c9d1", lw=0.8, label="framework")
        guide = np.array([time[-1] / 8, time[-1]])
        top = float(moved["mean_squared_displacement"].max()) * 1e20
        ax.plot(guide, 1.6 * top * guide / guide[-1], color=GREY, ls="--", lw=1)
        ax.annotate(
            "slope 1",
            (guide[0], 1.6 * top / 8),
            (-40, 2),
            textcoords="offset points",
            color=GREY,
            fontsize=9,
        )
        ax.set(xlabel="time (ps)", ylabel="mean squared displacement (Å²)")
        ax.legend(loc="upper left")
        return Picture(
            "Diffusion",
            "Dots mark where the diffusive regime was judged to begin, for the potential that "
            "takes longest; a temperature without one was refused.",
            _svg(figure),
        )


def _arrhenius(tree: xr.DataTree, case: dict[str, Any]) -> Picture:
    transport = tree["transport"].to_dataset()
    target, handed = case["transport"]["extrapolate_to_K"], case["transport"]["hand_over"]
    T = transport["temperature"].values
    with _canvas(5.6, 4.2) as (figure, (ax,)):
        for name, label, colour, shift in (
            ("nernst_einstein_conductivity", "Nernst–Einstein", BLUE, -0.006),
            ("conductivity", "collective", VERMILION, 0.006),
        ):
            line = tree[f"arrhenius/{name}"].to_dataset()
            draws = transport[f"{name}_draw"].transpose("condition", "draw").values * 10
            low, middle, high = np.percentile(draws, [2.5, 50, 97.5], axis=-1)
            ax.errorbar(
                1e3 / T + shift,
                middle,
                [middle - low, high - middle],
                fmt="o",
                color=colour,
                ms=5,
                lw=1.4,
                capsize=2.5,
                label=label,
            )
            if not np.isfinite(line[name]):
                continue
            span = np.linspace(min(target, T.min()), max(target, T.max()), 60)
            curves = (
                line["prefactor_draw"].values[:, None]
                * np.exp(-line["activation_energy_draw"].values[:, None] / (gas_constant * span))
                / span
                * 10
            )
            low, middle, high = np.percentile(curves, [2.5, 50, 97.5], axis=0)
            if name == handed:
                ax.fill_between(1e3 / span, low, high, color=colour, alpha=0.16, lw=0)
            ax.plot(1e3 / span, middle, color=colour, lw=1.3, ls="-" if name == handed else "--")
            members = line["member"].values.astype(str)
            names = list(dict.fromkeys(members.tolist()))
            if name == handed and len(names) > 1:
                for member, dashes in zip(names, DASHES * len(names), strict=False):
                    own = np.median(curves[members == member], axis=0)
                    style = (0, dashes)
                    ax.plot(1e3 / span, own, color=GREY, lw=1.1, ls=style, label=_short(member))
            value = line[f"{name}_draw"].values * 10
            low, middle, high = np.percentile(value, [2.5, 50, 97.5])
            ax.errorbar(
                1e3 / target + shift,
                middle,
                [[middle - low], [high - middle]],
                fmt="s",
                color=colour,
                mfc="white",
                ms=6,
                lw=1.4,
                capsize=3,
            )
        for entry in case["published"]:
            if entry["quantity"] == "conductivity":
                factor = {"S/m": 10.0, "mS/cm": 1.0, "S/cm": 1e3}[entry["units"]]
                ax.plot(
                    [1e3 / target + 0.03] * 2,
                    [entry["low"] * factor, entry["high"] * factor],
                    color=GREEN,
                    lw=6,
                    solid_capstyle="butt",
                    label="published",
                )
        ax.set(yscale="log", xlabel="1000 K / T", ylabel="conductivity (mS/cm)")
        top = ax.secondary_xaxis("top", functions=(_reciprocal, _reciprocal))
        top.set_xticks(sorted({*T.tolist(), target}))
        top.set_xlabel("T (K)")
        top.tick_params(labelsize=9)
        ax.legend(loc="lower left")
        return Picture(
            "Conductivity",
            "Medians and 95 % intervals. The band is the posterior of the line that is handed to "
            f"the cell, grey lines are the medians of each potential; open squares are values at "
            f"{target:g} K.",
            _svg(figure),
        )


def _short(name: str) -> str:
    return Path(name).name


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _reciprocal(x: Any) -> Any:
    # the axis asks for values at 0 while it is being laid out
    return 1e3 / np.maximum(np.asarray(x, float), 1e-9)


def _slab(slab: xr.Dataset) -> Picture:
    x = slab["x"].values
    ohm = float(slab["potential"][0]) - float(slab["ohm_potential_drop"]) * x / x[-1]
    with _canvas(5.6, 4.2) as (figure, (ax,)):
        ax.plot(x * 1e6, slab["potential"] * 1e3, color=BLUE, lw=3, label="Nernst–Planck–Poisson")
        ax.plot(x * 1e6, ohm * 1e3, color=ORANGE, lw=1.6, ls=(0, (4, 3)), label="Ohm's law")
        ax.set(xlabel="position (µm)", ylabel="potential (mV)")
        ax.legend()
        return Picture(
            "Slab under current",
            f"Potential in the electrolyte layer at {slab.attrs['current_density']:g} A/m², from "
            f"the median conductivity. {_sentence(slab.attrs['outcome'])}",
            _svg(figure),
        )


def _discharge(cell: xr.Dataset) -> Picture:
    colours = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
    with _canvas(5.6, 4.2) as (figure, (ax,)):
        for at, rate in enumerate(cell["c_rate"].values):
            colour = colours[at % len(colours)]
            charge = cell["capacity"][at].values
            for curve in cell["voltage"][at, 1:].values:
                ax.plot(charge, curve, color=colour, lw=0.7, alpha=0.22)
            ax.plot(charge, cell["voltage"][at, 0].values, color=colour, lw=2, label=f"{rate:g}C")
        ax.axhline(cell.attrs["cut_off_voltage"], color=GREY, lw=0.9, ls=":")
        ax.set(xlabel="capacity (A h)", ylabel="voltage (V)")
        ax.legend(title="rate")
        return Picture(
            "Discharge",
            f"Thick: median electrolyte. Thin: {cell.sizes['draw'] - 1} draws of its posterior. "
            f"{_sentence(cell.attrs['cell'])}",
            _svg(figure),
        )
