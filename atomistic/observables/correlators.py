r"""Observers that run beside molecular dynamics, with memory that does not grow with the run.

An observer is a state (`Displacements`) and three functions: `start`, `push` and `observed`.
Frames are pushed as they come; what comes out is the Dataset that `displacements.observe` makes of
a stored trajectory, so every transport estimator reads either.

* **Multi-origin displacements** at lags :math:`j m^l` (order-n buffers): level l keeps every
  :math:`m^l`-th frame, the last m of them, and adds up :math:`|\Delta r|^2` and
  :math:`|\Delta r|^4` of each particle against each. No average is taken inside a level, so each
  term is an exact displacement.
* **A thinned track**: when its frames are full, every other one is dropped and the interval
  doubles. It carries the lowest frequencies, where correlation between particles is measured.
* **Collective displacement** of each species, kept whole: three floats a species a frame, on the
  host's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from atomistic.observables.checkpoints import plain, revived
from atomistic.observables.displacements import observed_dataset
from atomistic.units import ANGSTROM, mass

CHUNK = 4096  # frames of collective displacement moved to the host at once


@dataclass
class Displacements:
    """State of the displacement observer; lengths in the unit of what is pushed (Å).

    Parameters
    ----------
    symbols : tuple of str
        Element of each atom of one system.
    host : tuple of str
        Species whose centre of mass is at rest; empty for all.
    frames : int
        Frames pushed.
    stride : int
        Frames between entries of the track.
    weight : torch.Tensor
        Weight of each atom in the centre of mass, (atom,).
    member : torch.Tensor
        1 where an atom is of a species, (species, atom).
    fractional, cell, position : torch.Tensor
        Last frame: fractional positions (system, atom, 3), cells as rows (system, 3, 3), and
        unwrapped positions since the first frame (system, atom, 3).
    buffer : torch.Tensor
        Last frames of each level, (level, slot, system, atom, 3).
    square, quartic : torch.Tensor
        Sums of the second and fourth power of displacements, (level, slot, system, atom).
    count : torch.Tensor
        Terms in the sums, (level, slot).
    track : torch.Tensor
        Thinned positions, (frame, system, atom, 3); only the first ``frames / stride`` are in use.
    chunk : torch.Tensor
        Collective displacements on the device, (frame, system, species, 3).
    collective : tuple of torch.Tensor
        Those already on the host, full chunks of them.
    cell_sum : torch.Tensor
        Sum of the cells of all frames, (system, 3, 3).
    """

    symbols: tuple[str, ...]
    host: tuple[str, ...]
    frames: int
    stride: int
    weight: torch.Tensor
    member: torch.Tensor
    fractional: torch.Tensor
    cell: torch.Tensor
    position: torch.Tensor
    buffer: torch.Tensor
    square: torch.Tensor
    quartic: torch.Tensor
    count: torch.Tensor
    track: torch.Tensor
    chunk: torch.Tensor
    collective: tuple[torch.Tensor, ...]
    cell_sum: torch.Tensor

    @property
    def species(self) -> list[str]:
        """Each element once, in order of first appearance."""
        return list(dict.fromkeys(self.symbols))


def start(
    symbols: Sequence[str],
    *,
    systems: int = 1,
    host: Sequence[str] = (),
    slots: int = 16,
    levels: int = 6,
    track: int = 1024,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Displacements:
    """Return an observer that has seen nothing yet.

    Parameters
    ----------
    symbols : sequence of str
        Element of each atom; the same in all systems.
    systems : int
        Number of systems in the batch.
    host : sequence of str
        Species whose centre of mass is put at rest; that of all atoms if empty.
    slots : int
        Lags per level, m; 16 to the power of `levels` frames is the longest lag.
    levels : int
        Number of levels.
    track : int
        Most frames of the thinned track, even.
    device, dtype : torch.device, torch.dtype
        Where and in which precision to add up.

    Raises
    ------
    ValueError
        Lists what is wrong with the numbers, or a host that is not among `symbols`.
    """
    faults = [
        f"{name} is {value}, but must be at least {least}"
        for name, value, least in (
            ("systems", systems, 1),
            ("slots", slots, 2),
            ("levels", levels, 1),
            ("track", track, 4),
        )
        if value < least
    ]
    if track % 2:
        faults.append(f"track is {track}, but must be even")
    faults += [f"host {name!r} is not among the symbols" for name in host if name not in symbols]
    if faults:
        raise ValueError("observer: " + "; ".join(faults) + ".")
    atoms = len(symbols)
    heavy = [mass(name) if not host or name in host else 0.0 for name in symbols]
    weight = torch.tensor(heavy, dtype=dtype, device=device)

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    kinds = list(dict.fromkeys(symbols))
    member = [[float(name == kind) for name in symbols] for kind in kinds]
    return Displacements(
        symbols=tuple(symbols),
        host=tuple(host),
        frames=0,
        stride=1,
        weight=weight / weight.sum(),
        member=torch.tensor(member, dtype=dtype, device=device),
        fractional=zeros(systems, atoms, 3),
        cell=zeros(systems, 3, 3),
        position=zeros(systems, atoms, 3),
        buffer=zeros(levels, slots, systems, atoms, 3),
        square=zeros(levels, slots, systems, atoms),
        quartic=zeros(levels, slots, systems, atoms),
        count=torch.zeros(levels, slots, dtype=torch.int64),
        track=torch.zeros(track, systems, atoms, 3, dtype=torch.float32, device=device),
        chunk=zeros(CHUNK, systems, len(kinds), 3),
        collective=(),
        cell_sum=zeros(systems, 3, 3),
    )


def unwrapped_step(
    fractional: torch.Tensor, last: torch.Tensor, cell: torch.Tensor, last_cell: torch.Tensor
) -> torch.Tensor:
    r"""Return the displacement (unit of `cell`) between two frames whatever wrapping did to them.

    .. math:: \Delta r = [\Delta s - \mathrm{round}(\Delta s)]\,\tfrac12 (h + h')

    Fractional coordinates s live on a torus, so crossing a face changes nothing; and a cell h that
    breathes moves no atom that rests in fractional coordinates, so the barostat adds no diffusion
    however long the run is. Exact while no atom moves half a cell between frames.

    References
    ----------
    Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023),
    https://doi.org/10.1021/acs.jctc.3c00308
    """
    step = fractional - last
    return (step - step.round()) @ (0.5 * (cell + last_cell))


def push(state: Displacements, position: torch.Tensor, cell: torch.Tensor) -> None:
    """Take in one frame, in place.

    Parameters
    ----------
    state : Displacements
        The observer.
    position : torch.Tensor
        Positions (Å), wrapped or not, (system, atom, 3).
    cell : torch.Tensor
        Cell vectors as rows (Å), (system, 3, 3).

    Raises
    ------
    ValueError
        If a shape is not that of the observer or a number is not finite.
    """
    if position.shape != state.position.shape or cell.shape != state.cell.shape:
        raise ValueError(
            f"observer: positions {tuple(position.shape)} and cells {tuple(cell.shape)} were "
            f"pushed, expected {tuple(state.position.shape)} and {tuple(state.cell.shape)}."
        )
    position, cell = position.to(state.position), cell.to(state.cell)
    fractional = torch.linalg.solve(cell, position, left=False)
    if state.frames:
        step = unwrapped_step(fractional, state.fractional, cell, state.cell)
        state.position += step - (state.weight @ step)[:, None]
    elif not torch.isfinite(fractional).all():
        raise ValueError("observer: the first frame is not finite; check cell and positions.")
    state.fractional, state.cell = fractional, cell
    state.cell_sum += cell
    _levels(state)
    _track(state)
    _collect(state)
    state.frames += 1


def _levels(state: Displacements) -> None:
    """Add the displacements from the frames in the buffers, then put this frame among them."""
    levels, slots = state.count.shape
    for level in range(levels):
        if state.frames % slots**level:
            break
        pushed = state.frames // slots**level
        kept = min(pushed, slots)
        if kept:
            step = state.position - state.buffer[level, :kept]
            square = step.square_() @ step.new_ones(3)  # faster than a sum over so few
            # slot i was written (pushed - 1 - i) mod slots pushes before the last
            lag = (pushed - 1 - torch.arange(kept)) % slots
            where = lag.to(square.device)
            state.square[level].index_add_(0, where, square)
            state.quartic[level].index_add_(0, where, square.square())
            state.count[level, lag] += 1
        state.buffer[level, pushed % slots] = state.position


def _track(state: Displacements) -> None:
    """Keep this frame if its turn has come; drop every other one when there is no room."""
    if state.frames % state.stride:
        return
    index = state.frames // state.stride
    if index == len(state.track):
        half = len(state.track) // 2
        state.track[:half] = state.track[::2].clone()
        state.stride *= 2
        index = state.frames // state.stride
    state.track[index] = state.position


def _collect(state: Displacements) -> None:
    """Keep the collective displacement of each species; move full chunks to the host."""
    index = state.frames % CHUNK
    state.chunk[index] = state.member @ state.position
    if index == CHUNK - 1:
        state.collective = (*state.collective, state.chunk.to("cpu", copy=True))


def collective_displacement(state: Displacements) -> np.ndarray:
    """Return the collective displacement (Å) of each species, (system, frame, species, xyz)."""
    rest = state.chunk[: state.frames % CHUNK].cpu()
    return np.moveaxis(torch.cat([*state.collective, rest]).numpy(), 0, 1)


def lags(state: Displacements) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lags seen (frames), and the level and slot that hold each."""
    levels, slots = state.count.shape
    found = []
    for level in range(levels):
        # the first slot repeats the last lag of the level before, with fewer origins
        for slot in range(0 if level == 0 else 1, slots):
            if state.count[level, slot] > 0:
                found.append(((slot + 1) * slots**level, level, slot))
    columns = np.array(found, dtype=int).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def checkpoint(state: Displacements) -> dict[str, object]:
    """Return the state as plain values and tensors that ``torch.save`` can write."""
    return plain(state)


def restart(saved: Mapping[str, object], *, device: str | torch.device = "cpu") -> Displacements:
    """Return the observer that `checkpoint` saved, on `device`; it continues to the bit.

    Raises
    ------
    ValueError
        If `saved` is not such a checkpoint.
    """
    return revived(Displacements, saved, device=device, on_host=("count",))


def observed(
    state: Displacements,
    *,
    interval: float,
    temperatures: Sequence[float],
    potential_name: str,
) -> xr.Dataset:
    """Return what was observed, in SI, as `displacements.observe` gives it, with the rest beside.

    Parameters
    ----------
    state : Displacements
        An observer that has seen at least two frames (Å).
    interval : float
        Time between pushed frames (s).
    temperatures : sequence of float
        Temperature (K) of each condition; systems are ordered condition by condition, with
        equally many replicas each.
    potential_name : str
        What drove the dynamics.

    Returns
    -------
    xarray.Dataset
        That of `displacements.observe`, plus ``mean_quartic_displacement`` (m4), (condition,
        replica, atom, lag), and ``non_gaussian`` (condition, species, lag) (1), zero for a
        Gaussian walk and nan for atoms at rest.

    Raises
    ------
    ValueError
        If fewer than two frames were pushed, or systems do not divide among the temperatures.
    """
    systems = state.position.shape[0]
    faults = []
    if state.frames < 2:
        faults.append(f"{state.frames} frame(s) were pushed, but at least 2 are needed")
    if not temperatures or systems % len(temperatures):
        faults.append(f"{systems} systems do not divide among {len(temperatures)} temperatures")
    if faults:
        raise ValueError("observer: " + "; ".join(faults) + ".")
    shape = (len(temperatures), systems // len(temperatures))
    lag, level, slot = lags(state)
    count = state.count[level, slot].numpy()[:, None, None]
    square = state.square[level, slot].cpu().numpy() / count * ANGSTROM**2
    quartic = state.quartic[level, slot].cpu().numpy() / count * ANGSTROM**4
    square, quartic = (
        np.moveaxis(moment, 0, -1).reshape(*shape, len(state.symbols), len(lag))
        for moment in (square, quartic)
    )
    kept = (state.frames - 1) // state.stride + 1
    track = np.moveaxis(state.track[:kept].cpu().numpy(), 0, 1).astype(float) * ANGSTROM
    cells = (state.cell_sum / state.frames).cpu().numpy().reshape(*shape, 3, 3) * ANGSTROM
    source = xr.Dataset(
        {
            "temperature": ("condition", np.asarray(temperatures, float)),
            "cell": (("condition", "replica", "xyz", "partner"), cells),
            "symbol": ("atom", list(state.symbols)),
            "potential_name": ("replica", [potential_name] * shape[1]),
        }
    )
    out = observed_dataset(
        square,
        lag * interval,
        track.reshape(*shape, *track.shape[1:]),
        np.arange(kept) * state.stride * interval,
        duration=(state.frames - 1) * interval,
        source=source,
        host=state.host,
    )
    out["mean_quartic_displacement"] = (
        ("condition", "replica", "atom", "lag"),
        quartic,
        {"units": "m4"},
    )
    symbols = np.array(state.symbols)
    ratio = []
    for name in state.species:
        second = square[:, :, symbols == name].mean((1, 2))
        second = np.where(second > 0, second, np.nan)  # undefined for atoms that never move
        ratio.append(0.6 * quartic[:, :, symbols == name].mean((1, 2)) / second**2)
    out["non_gaussian"] = (
        ("condition", "species", "lag"),
        np.stack(ratio, axis=1) - 1.0,
        {"units": "1"},
    )
    return out.assign_coords(species=state.species)
