"""The case file of ``multiscale train-corrector``, and what it does."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, PositiveFloat, ValidationError, model_validator

from multiscale.case import CaseError, Section, sentence


class Wanted(Section):
    """``[corrector]``: for which cell, up to which current, how much of it."""

    name: str = Field(pattern=r"^[\w.-]+$", description="of the corrector and its files")
    parameter_set: str | None = None
    bpx: str | None = None
    highest_c_rate: PositiveFloat = Field(le=10, description="up to which it is to hold")
    temperature: float | None = Field(None, ge=200, le=400)  # K; the set's own if not given
    profiles: int = Field(384, ge=40)
    slow_profiles: int | None = Field(None, ge=40)
    workers: int = Field(2, ge=1, description="processes")
    seed: int = Field(0, ge=0)
    output: str = "results"

    @model_validator(mode="after")
    def _one_cell(self) -> Wanted:
        if (self.parameter_set is None) == (self.bpx is None):
            raise ValueError("give one of parameter_set (a name of PyBaMM's) and bpx (a file)")
        return self


def read_wanted(path: Path) -> Wanted:
    """Read the table ``[corrector]`` of a TOML file; raise CaseError with all its faults."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CaseError([f"There is no case file {path}."]) from None
    except (OSError, ValueError) as error:
        raise CaseError([f"{path} is not TOML ({error})."]) from error
    faults = [f"[{key}] is not known; expected [corrector] alone." for key in table]
    faults = [fault for fault in faults if not fault.startswith("[corrector]")]
    if "corrector" not in table:
        raise CaseError([*faults, "The table [corrector] is missing."])
    try:
        wanted = Wanted.model_validate(table["corrector"])
    except ValidationError as error:
        faults += [sentence(fault, Wanted, "[corrector]", fault["loc"]) for fault in error.errors()]
        raise CaseError(faults) from error
    known = sorted(entry_points(group="pybamm_parameter_sets").names)
    if wanted.parameter_set is not None and wanted.parameter_set not in known:
        faults.append(
            f"[corrector] parameter_set {wanted.parameter_set!r} is not one of {', '.join(known)}."
        )
    if wanted.bpx is not None and not (path.parent / wanted.bpx).is_file():
        faults.append(f"[corrector] bpx {path.parent / wanted.bpx} does not exist.")
    if faults:
        raise CaseError(faults)
    return wanted


def train(
    wanted: Wanted,
    folder: Path,
    *,
    progress: Callable[[str, int, int, str], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train the corrector that a case asks for; return its file and how it was judged.

    The judgement is written beside it, as JSON.

    Raises
    ------
    ValueError
        If the file is no BPX, the cell is not one that the solvers hold, or its electrolyte is
        used up too often.
    """
    from continuum.cell import pybamm
    from couplers.bpx import from_bpx
    from couplers.residual.training import corrector_for

    if wanted.bpx is not None:
        values = from_bpx(folder / wanted.bpx)
    else:
        values = pybamm.ParameterValues(str(wanted.parameter_set))
    if wanted.temperature is not None:
        same = ("Ambient temperature [K]", "Initial temperature [K]")
        values.update(dict.fromkeys(same, wanted.temperature))
    output = folder / wanted.output
    corrector, judged = corrector_for(
        values,
        name=wanted.name,
        highest=wanted.highest_c_rate,
        folder=output / "reference",
        profiles=wanted.profiles,
        slow_profiles=wanted.slow_profiles,
        workers=wanted.workers,
        seed=wanted.seed,
        progress=None
        if progress is None
        else lambda what, done, total: progress(what, done, total, ""),
    )
    path = output / f"{wanted.name}.npz"
    corrector.save(path)
    # a share of nothing is null there
    table = {
        name: {
            network: {key: None if np.isnan(value) else value for key, value in row.items()}
            for network, row in rows.items()
        }
        for name, rows in judged.items()
    }
    path.with_suffix(".json").write_text(json.dumps(table, indent=1) + "\n")
    return path, judged
