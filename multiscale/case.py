"""The case file: what a study asks for, checked as a whole before any work starts."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from multiscale.quantities import QUANTITIES, READER_UNITS

if TYPE_CHECKING:
    from ase import Atoms


class CaseError(ValueError):
    """A case that cannot run; `faults` holds one sentence for each reason."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(
            faults[0]
            if len(faults) == 1
            else f"The case has {len(faults)} faults:" + "".join(f"\n  - {line}" for line in faults)
        )


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Section(BaseModel):
    """A table of the case file; it cannot be changed and knows no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Study(Section):
    """``[study]``: what it is called."""

    title: str = Field(min_length=1, description="heading of the report")
    electrolyte: str = Field("the electrolyte", min_length=1, description="its name in sentences")


class Structure(Section):
    """``[structure]``: a builder of `atomistic.systems`, or any file that ASE reads."""

    builder: Literal["argyrodite"] | None = None
    file: str | None = None
    repeat: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)
    lattice_parameter_angstrom: PositiveFloat = 9.87
    disorder: float = Field(0.5, ge=0, le=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Structure:
        if (self.builder is None) == (self.file is None):
            raise ValueError("give either builder or file")
        unread = {"lattice_parameter_angstrom", "disorder", "seed"} & self.model_fields_set
        if self.file is not None and unread:
            raise ValueError(f"a structure from a file does not read {', '.join(sorted(unread))}")
        return self


class Potential(Section):
    """``[potential]``: one potential, or a committee whose spread is the model uncertainty.

    ``potential = "sevennet-0"`` above all tables is short for a table with that committee.
    """

    committee: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Dynamics(Section):
    """``[dynamics]``: which runs, and how long."""

    temperatures_K: tuple[PositiveFloat, ...] = Field(min_length=3)
    replicas: PositiveInt = Field(1, description="runs of each potential at each temperature")
    timestep_fs: PositiveFloat = 2.0
    anneal_ps: PositiveFloat = Field(4.0, description="at the hottest of temperatures_K, first")
    cell_ps: PositiveFloat = Field(2.0, description="constant pressure; first half discarded")
    pressure_GPa: float = 0.0
    equilibration_ps: NonNegativeFloat = Field(1.0, description="constant volume, discarded")
    production_ps: PositiveFloat = 20.0
    frame_interval_fs: PositiveFloat = 20.0
    lattice_temperature_K: PositiveFloat = 300.0
    lattice_ps: PositiveFloat = Field(4.0, description="as cell_ps, at lattice_temperature_K")
    seed: int = Field(0, ge=0)
    workers: PositiveInt = Field(2, description="processes")

    @model_validator(mode="after")
    def _sensible_times(self) -> Dynamics:
        if len(set(self.temperatures_K)) < len(self.temperatures_K):
            raise ValueError("temperatures_K holds the same temperature twice")
        if self.frame_interval_fs < self.timestep_fs:
            raise ValueError(
                f"frame_interval_fs is {self.frame_interval_fs:g}, shorter than the timestep_fs "
                f"of {self.timestep_fs:g}"
            )
        if self.production_ps * 1000 < 100 * self.frame_interval_fs:
            raise ValueError(
                f"production_ps of {self.production_ps:g} holds fewer than 100 frames "
                f"{self.frame_interval_fs:g} fs apart; make it longer or frame_interval_fs shorter"
            )
        return self


class Transport(Section):
    """``[transport]``: who carries the charge, and where the numbers are wanted."""

    mobile: str
    charges: dict[str, float]
    draws: int = Field(400, ge=100)
    extrapolate_to_K: PositiveFloat = 300.0
    hand_over: Literal["conductivity", "nernst_einstein_conductivity"] = "conductivity"
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _mobile_is_charged(self) -> Transport:
        if not self.charges.get(self.mobile):
            raise ValueError(f"mobile is {self.mobile!r}, but charges gives it no charge")
        return self


class Slab(Section):
    """``[slab]``: the layer of electrolyte between two electrodes."""

    thickness_m: PositiveFloat
    current_density_A_m2: float = Field(description="not zero")
    relative_permittivity: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _some_current(self) -> Slab:
        if self.current_density_A_m2 == 0:
            raise ValueError("current_density_A_m2 is 0, but must drive a current")
        return self


class Cell(Section):
    """``[cell]``: the battery whose electrolyte is replaced, and how it is discharged."""

    base: str = "Chen2020"
    c_rates: tuple[PositiveFloat, ...] = Field(min_length=1)
    draws: int = Field(20, ge=2)


class Output(Section):
    """``[output]``: where results go."""

    folder: str


class Published(Section):
    """``[[published]]``: a value from the literature, shown beside ours."""

    quantity: str
    low: float
    high: float
    units: str
    source: str = Field(min_length=1, description="DOI")

    @model_validator(mode="after")
    def _known_quantity(self) -> Published:
        if self.quantity not in QUANTITIES:
            raise ValueError(
                f"quantity {self.quantity!r} is unknown{_hint(self.quantity, QUANTITIES)}"
            )
        quantity = QUANTITIES[self.quantity]
        fitting = [name for name, (si, _) in READER_UNITS.items() if si == quantity.units]
        if self.units not in fitting:
            raise ValueError(
                f"units of {self.quantity} are {self.units!r}, but must be {' or '.join(fitting)}"
            )
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}, above high, {self.high:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper value in SI units."""
        factor = READER_UNITS[self.units][1]
        return self.low * factor, self.high * factor


class Case(Section):
    """A study, whole: ``read`` makes one from a file, `vary` one from another.

    Paths inside are relative to `folder`, the folder of the case file.
    """

    study: Study
    structure: Structure
    potential: Potential
    dynamics: Dynamics
    transport: Transport
    slab: Slab
    cell: Cell
    output: Output
    published: tuple[Published, ...] = ()
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def output_folder(self) -> Path:
        """Where results go."""
        return Path(os.path.normpath(self.folder / self.output.folder))

    def structures(self, count: int) -> list[Atoms]:
        """Build so many replicas; a builder with disorder draws each one anew."""
        from atomistic.systems import argyrodite

        section = self.structure
        if section.file is not None:
            import ase.io

            (atoms,) = ase.io.iread(self.folder / section.file, index=-1)
            return [atoms.repeat(section.repeat) for _ in range(count)]
        return [
            argyrodite(
                repeat=section.repeat,
                lattice_parameter=section.lattice_parameter_angstrom,
                disorder=section.disorder,
                seed=section.seed + replica,
            )
            for replica in range(count)
        ]

    def committee(self) -> list[str]:
        """Names that `atomistic.potentials.load.load` takes; files as whole paths."""
        names = []
        for name in self.potential.committee:
            path = self.folder / name
            names.append(str(path.resolve()) if path.is_file() else name)
        return names


def read(path: str | Path, *, output: Path | None = None) -> Case:
    """Read a case file and check all of it; nothing is written.

    Parameters
    ----------
    path : str or Path
        A TOML file.
    output : Path, optional
        Folder for the results, relative to the working directory, in place of the case's own.

    Returns
    -------
    Case

    Raises
    ------
    CaseError
        With one sentence for each fault.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CaseError([f"There is no case file {path}."]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError([f"The case file {path} cannot be read: {error}."]) from None
    except tomllib.TOMLDecodeError as error:
        raise CaseError([f"{path} is not TOML: {error}."]) from None
    if output is not None:
        table["output"] = {"folder": str(output.absolute())}
    return build(table, folder=path.parent)


def build(table: Mapping[str, Any], *, folder: Path = Path()) -> Case:
    """Make a case from nested mappings and check all of it.

    Parameters
    ----------
    table : mapping
        Sections of the case file.
    folder : Path
        Folder that paths in it are relative to.

    Raises
    ------
    CaseError
        With one sentence for each fault.
    """
    if isinstance(table.get("potential"), str | list | tuple):  # short for its only needed key
        table = {**table, "potential": {"committee": table["potential"]}}
    faults: list[str] = []
    sections: dict[str, Any] = {}
    try:
        case = Case.model_validate({**table, "folder": folder})
        sections = dict(case)
    except ValidationError as error:
        found = error.errors()
        # a list that is short because of a fault inside it has only that fault
        inside = {fault["loc"][:-1] for fault in found}
        faults = [_sentence(fault) for fault in found if fault["loc"] not in inside]
        # what is sound by itself is looked at further, so that one reading shows everything
        for name, field in Case.model_fields.items():
            kind = field.annotation
            if name in table and isinstance(kind, type) and issubclass(kind, Section):
                try:
                    sections[name] = kind.model_validate(table[name])
                except ValidationError:
                    continue
        case = Case.model_construct(**{**sections, "folder": folder})
    faults += _faults_outside(case, set(sections))
    if faults:
        raise CaseError(faults)
    return case


def vary(case: Case, changes: Mapping[str, Any]) -> Case:
    """Make another case that differs in some keys, and check all of it.

    Parameters
    ----------
    case : Case
        Where to start; it stays as it is.
    changes : mapping
        New values by ``"section.key"``.

    Raises
    ------
    CaseError
        With one sentence for each fault.
    """
    table = case.model_dump()
    for name, value in changes.items():
        section, _, key = name.partition(".")
        if not isinstance(table.get(section), dict) or not key:
            raise CaseError([f"{name!r} names no key of a case; write section.key."])
        table[section][key] = value
    # a key that stood at its default is not one that was given
    for section, values in table.items():
        if isinstance(values, dict):
            given = getattr(case, section).model_fields_set
            changed = {name.partition(".")[2] for name in changes if name.startswith(section + ".")}
            table[section] = {key: values[key] for key in values if key in given | changed}
    return build(table, folder=case.folder)


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; use one of {', '.join(known)}."


def _sentence(fault: Any) -> str:
    """Turn one of pydantic's faults of a whole case into a sentence of ours."""
    place, kind = fault["loc"], fault["type"]
    if kind == "extra_forbidden" and len(place) == 1:
        known = [name for name in Case.model_fields if name != "folder"]
        return f"There is no section [{place[0]}]{_hint(place[0], known)}"
    if kind == "missing" and len(place) == 1:
        return f"The section [{place[0]}] is missing."
    if place[0] == "published":
        title = f"[[published]] {place[1] + 1}" if len(place) > 1 else "[published]"
        return sentence(fault, Published, title, place[2:])
    model: Any = Case.model_fields[place[0]].annotation
    return sentence(fault, model, f"[{place[0]}]", place[1:])


def sentence(fault: Any, model: type[Section], title: str, place: Sequence[str | int]) -> str:
    """Turn one of pydantic's faults of a section into a sentence of ours.

    Parameters
    ----------
    fault : mapping
        One of ``ValidationError.errors()``.
    model : type
        The section.
    title : str
        What it is called, such as ``[cell]``.
    place : sequence
        Key within the section, and indices within its value.
    """
    kind = fault["type"]
    if kind == "extra_forbidden":
        return f"{title} has no key {place[0]!r}{_hint(str(place[0]), model.model_fields)}"
    if kind == "missing":
        about = model.model_fields[str(place[0])].description
        return f"{title} lacks {place[0]!r}{f' ({about})' if about else ''}."
    if kind in ("too_short", "string_too_short"):
        least = fault["ctx"]["min_length"]
        what = "text" if kind == "string_too_short" else f"at least {least} sound values"
        return f"{title} {place[0]} is {fault['input']!r}, but must hold {what}."
    text = fault["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    if kind == "value_error":
        return f"{title}: {text}{'' if text.endswith('?') else '.'}"
    given = fault["input"]
    name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place)
    return f"{title} {name.lstrip('.')} is {given!r}, but {text.replace('should', 'must')}."


def _faults_outside(case: Case, present: set[str]) -> Iterator[str]:
    """Look at what a case refers to: files, potentials, devices, elements, parameter sets."""
    structures: list[Atoms] = []
    if "structure" in present:
        try:
            structures = case.structures(case.dynamics.replicas if "dynamics" in present else 1)
        except FileNotFoundError:
            yield f"[structure] file {case.folder / str(case.structure.file)} does not exist."
        except Exception as error:  # ASE's readers raise whatever they meet
            yield (
                f"[structure] file {case.folder / str(case.structure.file)} cannot be read by ASE "
                f"({type(error).__name__}: {error})."
            )
    if structures and structures[0].cell.rank != 3:
        yield "[structure] file has no cell in three dimensions, but a periodic one is needed."
        structures = []
    if "transport" in present:
        yield from _faults_of_species(case, structures)
    if "potential" in present:
        yield from _faults_of_potentials(case, structures)
    if "cell" in present:
        known = sorted(entry_points(group="pybamm_parameter_sets").names)
        if case.cell.base not in known:
            yield f"[cell] base {case.cell.base!r} is no PyBaMM set{_hint(case.cell.base, known)}"
    if "output" in present:
        yield from _faults_of_folder(case.output_folder)


def _faults_of_species(case: Case, structures: list[Atoms]) -> Iterator[str]:
    from atomistic.units import NEUTRAL

    if not structures:
        return
    counts, charges = structures[0].symbols.formula.count(), case.transport.charges
    lacking, foreign = sorted(set(counts) - set(charges)), sorted(set(charges) - set(counts))
    if lacking:
        yield f"[transport] charges lacks {', '.join(lacking)}, which the structure holds."
    if foreign:
        yield f"[transport] charges names {', '.join(foreign)}, which the structure does not hold."
    total = sum(charges.get(symbol, 0.0) * count for symbol, count in counts.items())
    if not lacking and abs(total) > NEUTRAL * len(structures[0]):
        yield f"[transport] charges sum to {total:+g} over the structure, but must sum to 0."


def _faults_of_potentials(case: Case, structures: list[Atoms]) -> Iterator[str]:
    from atomistic.potentials.load import choose_device, load

    device = case.potential.device
    try:
        choose_device(device)
    except ValueError as error:
        yield f"[potential] {error}"
        device = "cpu"
    for name in case.committee():
        try:
            load(name, device=device).check_elements(structures)
        except (ValueError, ImportError) as error:
            yield f"[potential] {error}"


def _faults_of_folder(folder: Path) -> Iterator[str]:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield f"[output] folder {folder} cannot be made: {existing} is a file."
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"[output] folder {folder} cannot be written: no permission in {existing}."
