"""Trajectories of other codes, read frame by frame into the observers, and MSD files.

========================  ==========================================  =========================
file                      read by                                     what it must be told
========================  ==========================================  =========================
extxyz, VASP, ASE, ...    ASE                                         nothing
LAMMPS dump (text)        ASE, sorted by id                           ``elements`` of its types
xtc, trr, dcd, nc, tng    chemfiles (optional, BSD)                   ``topology`` file
TorchSim HDF5 (h5)        torch-sim                                   nothing
GPUMD ``msd.out``         `read_msd`                                  atoms and length of run
========================  ==========================================  =========================

Positions may be wrapped or not: with a cell in every frame they are followed across boundaries
exactly, changing cells included; without one they are refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import torch
import xarray as xr

from atomistic.observables.correlators import Displacements, observed, push, start
from atomistic.units import ANGSTROM, FEMTOSECOND, PICOSECOND

CHEMFILES = (".xtc", ".trr", ".dcd", ".nc", ".tng", ".mdcrd")
TORCH_SIM = (".h5", ".hdf5", ".h5md")
LAMMPS = (".lammpstrj", ".dump", ".lammpsdump")
AT_ONCE = 256  # frames of an HDF5 file in memory


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Parameters
    ----------
    symbols : list of str
        Element of each atom.
    position : numpy.ndarray
        Positions (Å), (atom, 3).
    cell : numpy.ndarray
        Cell vectors as rows (Å), (3, 3).
    step : int or None
        Step that the file gives for the frame.
    """

    symbols: list[str]
    position: np.ndarray
    cell: np.ndarray
    step: int | None


def frames(
    path: str | Path,
    *,
    elements: Sequence[str] = (),
    topology: str | Path | None = None,
    pattern: str = ":",
) -> Iterator[Frame]:
    """Read a trajectory frame by frame, whatever code wrote it.

    Parameters
    ----------
    path : path
        The file; its ending says the format.
    elements : sequence of str
        Elements of a LAMMPS dump's types 1, 2, ...; not needed where the dump has an ``element``.
    topology : path, optional
        File that names the atoms of a GROMACS or AMBER trajectory (gro, pdb, prmtop).
    pattern : str
        Frames to read, as ``"100:"`` or ``"::5"``.

    Raises
    ------
    ValueError
        If the file is absent, cannot be read, has no frame, or does not name its atoms.
    ImportError
        If chemfiles is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"The trajectory {path} does not exist.")
    ending = path.suffix.lower()
    chosen = _slice(pattern)
    if ending in CHEMFILES:
        return _of_chemfiles(path, topology, chosen)
    if ending in TORCH_SIM:
        return _of_torch_sim(path, chosen)
    if ending in LAMMPS:
        return _of_lammps(path, elements, chosen)
    return _of_ase(path, pattern)


def _slice(pattern: str) -> slice:
    """Turn "first:last:step" into a slice of frames counted from the start."""
    try:
        parts = [int(part) if part.strip() else None for part in pattern.split(":")]
    except ValueError:
        parts = []
    if not 2 <= len(parts) <= 3 or any(part is not None and part < 0 for part in parts):
        raise ValueError(
            f"The pattern {pattern!r} is not first:last:step in frames from the start; give, "
            "say, '100:' to leave out the first hundred."
        )
    return slice(*parts)


def _of_ase(path: Path, pattern: str) -> Iterator[Frame]:
    try:
        for atoms in ase.io.iread(path, index=pattern):
            yield Frame(atoms.get_chemical_symbols(), atoms.positions, atoms.cell.array, None)
    except Exception as error:  # ASE's readers raise what they like
        raise ValueError(
            f"The trajectory {path} cannot be read by ASE ({type(error).__name__}: {error})."
        ) from error


def _of_lammps(path: Path, elements: Sequence[str], chosen: slice) -> Iterator[Frame]:
    with path.open() as file:
        head = [next(file, "") for _ in range(9)]
    if not elements and "element" not in head[-1].split():
        raise ValueError(
            f"The LAMMPS dump {path} numbers its types; say elements=[...] for types 1, 2, ..."
        )
    steps = _lammps_steps(path)
    options: dict[str, Any] = {"specorder": list(elements)} if elements else {}
    every = ase.io.iread(path, index=":", format="lammps-dump-text", **options)
    for index, (atoms, step) in enumerate(zip(every, steps, strict=False)):
        if _within(index, chosen):
            yield Frame(atoms.get_chemical_symbols(), atoms.positions, atoms.cell.array, step)


def _lammps_steps(path: Path) -> Iterator[int]:
    """Return the time steps that a dump states, without reading its atoms twice into memory."""
    with path.open() as file:
        for line in file:
            if line.startswith("ITEM: TIMESTEP"):
                yield int(float(next(file)))


def _within(index: int, chosen: slice) -> bool:
    first, step = chosen.start or 0, chosen.step or 1
    inside = index >= first and (chosen.stop is None or index < chosen.stop)
    return inside and (index - first) % step == 0


def _of_chemfiles(path: Path, topology: str | Path | None, chosen: slice) -> Iterator[Frame]:
    try:
        chemfiles = importlib.import_module("chemfiles")
    except ImportError as error:
        raise ImportError(
            f"{path.name} needs the package chemfiles to be read; install it with: "
            "pip install 'multiscale-electrochemistry[trajectories]'"
        ) from error
    if topology is None:
        raise ValueError(
            f"{path.name} does not name its atoms; give topology=, a gro, pdb or prmtop file."
        )
    chemfiles.set_warnings_callback(lambda message: None)
    with chemfiles.Trajectory(str(path)) as file:
        file.set_topology(str(topology))
        for index in range(file.nsteps):
            if not _within(index, chosen):
                continue
            frame = file.read_step(index)
            symbols = [_element(atom.type or atom.name) for atom in frame.atoms]
            # its cell holds the vectors as columns
            cell = np.array(frame.cell.matrix, dtype=float).T
            yield Frame(symbols, np.array(frame.positions, dtype=float), cell, int(frame.step))


def _element(name: str) -> str:
    """Return the element that an atom's name in a topology begins with."""
    letters = "".join(letter for letter in name if letter.isalpha()).capitalize()
    for length in (2, 1):
        if letters[:length] in ase.data.atomic_numbers:
            return letters[:length]
    raise ValueError(f"The topology's atom {name!r} begins with no element.")


def _of_torch_sim(path: Path, chosen: slice) -> Iterator[Frame]:
    from torch_sim.trajectory import TorchSimTrajectory

    with TorchSimTrajectory(path, mode="r") as file:
        steps = np.ravel(file.get_steps("positions"))
        numbers = np.ravel(file.get_array("atomic_numbers")[0])
        symbols = [ase.data.chemical_symbols[int(number)] for number in numbers]
        cells = file.get_array("cell").reshape(-1, 3, 3)
        for first in range(0, len(steps), AT_ONCE):
            block = file.get_array("positions", start=first, stop=first + AT_ONCE)
            for offset, position in enumerate(block):
                index = first + offset
                if _within(index, chosen):
                    # kept once where it never changes; torch-sim's cell holds columns
                    cell = cells[min(index, len(cells) - 1)].T
                    yield Frame(symbols, position.reshape(-1, 3), cell, int(steps[index]))


def observe_files(
    paths: Sequence[str | Path],
    *,
    interval: float,
    temperature: float,
    host: Sequence[str] = (),
    elements: Sequence[str] = (),
    topology: str | Path | None = None,
    potential_name: str = "unknown",
    pattern: str = ":",
) -> xr.Dataset:
    """Observe stored trajectories, one replica a file, without holding them in memory.

    Parameters
    ----------
    paths : sequence of path
        Trajectories of the same atoms in the same order, wrapped or not; see `frames`.
    interval : float
        Time between the frames read (fs).
    temperature : float
        Temperature of the runs (K).
    host : sequence of str
        Species whose centre of mass is put at rest.
    elements, topology, pattern
        As for `frames`.
    potential_name : str
        What drove the dynamics.

    Returns
    -------
    xarray.Dataset
        As `correlators.observed` gives it: every estimator of transport reads it.

    Raises
    ------
    ValueError
        If there is no file, a frame has no cell, frames are unequally spaced, or files differ in
        their atoms or frames.
    """
    if not paths:
        raise ValueError("observe_files: no path was given.")
    if not interval > 0:
        raise ValueError(f"observe_files: interval is {interval} fs, but must be positive.")
    states = [
        _observe(frames(path, elements=elements, topology=topology, pattern=pattern), path, host)
        for path in paths
    ]
    first = states[0]
    for path, state in zip(paths, states, strict=True):
        if state.symbols != first.symbols or state.frames != first.frames:
            raise ValueError(
                f"observe_files: {path} holds {state.frames} frames of {len(state.symbols)} atoms, "
                f"but {paths[0]} {first.frames} of {len(first.symbols)}, or in another order; "
                "replicas must be alike."
            )
    parts = [
        observed(
            state,
            interval=interval * FEMTOSECOND,
            temperatures=[temperature],
            potential_name=potential_name,
        )
        for state in states
    ]
    return xr.concat(
        parts, dim="replica", data_vars="minimal", coords="minimal", compat="override",
        join="override",
    )  # fmt: skip


def _observe(found: Iterator[Frame], path: str | Path, host: Sequence[str]) -> Displacements:
    """Push the frames of one file through an observer."""
    state, steps = None, []
    for frame in found:
        if not abs(np.linalg.det(frame.cell)) > 0:
            raise ValueError(
                f"observe_files: {path} has no cell, without which wrapped positions cannot be "
                "followed; write the trajectory with its cell."
            )
        if state is None:
            state = start(frame.symbols, host=host)
        elif tuple(frame.symbols) != state.symbols:
            raise ValueError(
                f"observe_files: frame {state.frames} of {path} holds other atoms, or in another "
                "order, than the first."
            )
        if not np.isfinite(frame.position).all():
            raise ValueError(
                f"observe_files: frame {state.frames} of {path} is not finite; cut the run before "
                "it broke."
            )
        if frame.step is not None:
            steps.append(frame.step)
        push(
            state,
            torch.as_tensor(np.ascontiguousarray(frame.position[None], dtype=float)),
            torch.as_tensor(np.ascontiguousarray(frame.cell[None], dtype=float)),
        )
    if state is None or state.frames < 2:
        raise ValueError(f"observe_files: {path} holds fewer than two frames.")
    spacing = set(np.diff(steps).tolist()) if any(steps) else {1}
    if len(spacing) > 1:
        raise ValueError(
            f"observe_files: the frames of {path} are {min(spacing)} to {max(spacing)} steps "
            "apart; keep every n-th frame only."
        )
    return state


def read_msd(path: str | Path) -> xr.Dataset:
    """Read a mean squared displacement that GPUMD's ``compute_msd`` wrote.

    Parameters
    ----------
    path : path
        ``msd.out``: time (ps), then x, y, z of the mean squared displacement (Å2) of each group,
        and as many columns again of the running diffusivity, which are not read.

    Returns
    -------
    xarray.Dataset
        ``mean_squared_displacement`` (m2), (group, xyz, lag), with the coordinate ``lag`` (s);
        `curves.self_diffusivity_of_curves` takes it from there.

    Raises
    ------
    ValueError
        If the file is absent or not such a table.
    """
    if not Path(path).is_file():
        raise ValueError(f"The file {path} does not exist.")
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a table of numbers as msd.out is: {error}.") from error
    columns = table.shape[1] - 1
    if columns < 6 or columns % 6 or len(table) < 8:
        raise ValueError(
            f"{path} holds {table.shape[0]} rows of {table.shape[1]} columns; msd.out has time and "
            "six columns a group, and at least 8 rows are needed."
        )
    if table[0, 0] == 0.0:
        table = table[1:]
    if not np.isfinite(table).all() or (np.diff(table[:, 0]) <= 0).any():
        raise ValueError(f"{path}: its times do not increase, or a number is not finite.")
    groups = columns // 6
    # each group is followed by its own running diffusivity
    curve = table[:, 1:].reshape(len(table), groups, 2, 3)[:, :, 0].transpose(1, 2, 0)
    return xr.Dataset(
        {
            "mean_squared_displacement": (
                ("group", "xyz", "lag"),
                curve * ANGSTROM**2,
                {"units": "m2"},
            )
        },
        coords={"lag": ("lag", table[:, 0] * PICOSECOND, {"units": "s"})},
    )
