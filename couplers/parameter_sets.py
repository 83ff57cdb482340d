"""Electrolytes kept in small files, and the PyBaMM parameter sets made of the shipped ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from continuum.inputs import Electrolyte
from continuum.laws import Law

LAWS = ("conductivity", "diffusivity", "transference_number", "thermodynamic_factor")
LI6PS5CL = Path(__file__).with_name("li6ps5cl_from_atoms.json")


def li6ps5cl_from_atoms() -> dict[str, Any]:
    """Chen2020 with the solid electrolyte Li6PS5Cl computed from atoms, at 300 K.

    Registered with PyBaMM, so that ``pybamm.ParameterValues("Li6PS5Cl from atoms")`` gives it. The
    electrolyte is the recorded result of the shipped study; its file names the run. What stays of
    Chen2020 is said in `couplers.battery.parameter_values`.

    Returns
    -------
    dict
        PyBaMM's parameter names and values.

    Raises
    ------
    FileNotFoundError
        If this installation carries no recorded result.
    """
    from couplers.battery import parameter_values  # PyBaMM's listing of sets need not load it

    if not LI6PS5CL.exists():
        raise FileNotFoundError(
            "This installation carries no recorded Li6PS5Cl result; run the shipped study and keep "
            "its electrolyte with couplers.parameter_sets.keep."
        )
    return dict(parameter_values(recorded(LI6PS5CL)).items())


def keep(electrolyte: Electrolyte, path: str | Path, *, provenance: str) -> None:
    """Write an electrolyte to a JSON file that `recorded` reads back exactly.

    Parameters
    ----------
    electrolyte : Electrolyte
        What to keep.
    path : str or pathlib.Path
        File to write; an older one is replaced.
    provenance : str
        Where the numbers come from: case, versions, date.

    Raises
    ------
    ValueError
        If the provenance is empty.
    """
    if not provenance.strip():
        raise ValueError("The provenance is empty; say where the electrolyte comes from.")
    content = {**as_record(electrolyte), "provenance": provenance}
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def as_record(electrolyte: Electrolyte) -> dict[str, Any]:
    """Write an electrolyte as plain text and numbers, for JSON, that `from_record` reads back.

    Parameters
    ----------
    electrolyte : Electrolyte
        Its Laws must have numbers as coefficients.

    Returns
    -------
    dict
        A bound of a window without limit is None.
    """
    laws = {}
    for label in LAWS:
        law: Law = getattr(electrolyte, label)
        laws[label] = {
            "form": law.form,
            "coefficients": [float(value) for value in law.coefficients],
            "units": law.units,
            "concentration_window": _bounds(law.concentration_window),
            "temperature_window": _bounds(law.temperature_window),
        }
    return {
        "name": electrolyte.name,
        "single_ion": electrolyte.single_ion,
        "concentration": float(electrolyte.concentration),
        "temperature": float(electrolyte.temperature),
        "laws": laws,
    }


def from_record(content: Mapping[str, Any]) -> Electrolyte:
    """Make the electrolyte again that `as_record` wrote.

    Parameters
    ----------
    content : Mapping
        What `as_record` returned; other entries are left alone.

    Returns
    -------
    Electrolyte

    Raises
    ------
    KeyError, TypeError, ValueError
        If entries are missing or hold no valid electrolyte.
    """
    laws = {label: _law(content["laws"][label]) for label in LAWS}
    return Electrolyte(
        conductivity=laws["conductivity"],
        diffusivity=laws["diffusivity"],
        transference_number=laws["transference_number"],
        thermodynamic_factor=laws["thermodynamic_factor"],
        concentration=float(content["concentration"]),
        temperature=float(content["temperature"]),
        single_ion=content["single_ion"],
        name=content["name"],
    )


def recorded(path: str | Path, *, temperature: float | None = None) -> Electrolyte:
    """Read an electrolyte that `keep` wrote.

    Parameters
    ----------
    path : str or pathlib.Path
        JSON file; a bound of a window without limit is null.
    temperature : float, optional
        Operating temperature (K) if it differs from the recorded one.

    Returns
    -------
    Electrolyte

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no JSON, has missing or unknown entries, or holds an electrolyte that is
        not valid.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        electrolyte = from_record(content)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{Path(path).name} holds no electrolyte ({type(error).__name__}: {error}); "
            "write it with couplers.parameter_sets.keep."
        ) from error
    return electrolyte if temperature is None else replace(electrolyte, temperature=temperature)


def _bounds(window: tuple[float, float]) -> list[float | None]:
    """A window for JSON, which has no infinity."""
    return [float(bound) if np.isfinite(bound) else None for bound in window]


def _law(content: dict[str, Any]) -> Law:
    windows = {}
    for label in ("concentration_window", "temperature_window"):
        low, high = content[label]
        windows[label] = (0.0 if low is None else low, np.inf if high is None else high)
    return Law(content["form"], tuple(content["coefficients"]), content["units"], **windows)
