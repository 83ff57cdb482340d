"""Layers between electrodes watched during a run, with memory that does not grow with it.

Of every frame the histograms of species and charge along z and the charges of the electrodes are
added up where the dynamics runs. Block averages are kept, at most so many: when they are full,
neighbours are averaged and the block doubles. What they say is read by
`atomistic.observables.interface`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch_sim.models.interface import ModelInterface

from atomistic.electrostatics.electrodes import ConstantPotential
from atomistic.observables.checkpoints import plain, revived

BEYOND = 4.0  # widths of a charge by which a slab's histogram goes beyond the last electrode atom


@dataclass
class Layers:
    """State of the observer.

    Parameters
    ----------
    symbols : tuple of str
        Element of each atom of one system.
    species : tuple of str
        Elements of the electrolyte.
    frames : int
        Frames pushed.
    block : int
        Frames in each finished block.
    bins : int
        Bins along z.
    low, width : float
        Where the first bin begins (Å) and how wide a bin is (Å).
    period : float
        Height after which the cell repeats (Å); 0 for a slab.
    member : torch.Tensor
        Species of each atom, -1 for electrode atoms, (atom,).
    sheet : torch.Tensor
        Layer of each electrode atom, in the order of the model, (electrode atom,).
    held : torch.Tensor
        Indices of the electrode atoms, (electrode atom,).
    filling : torch.Tensor
        Sum over the block that is not full yet, (system, channel).
    series : torch.Tensor
        Averages of finished blocks, (block, system, channel).
    """

    symbols: tuple[str, ...]
    species: tuple[str, ...]
    frames: int
    block: int
    bins: int
    low: float
    width: float
    period: float
    member: torch.Tensor
    sheet: torch.Tensor
    held: torch.Tensor
    filling: torch.Tensor
    series: torch.Tensor


def electrodes_of(model: ModelInterface) -> ConstantPotential:
    """Return the electrodes of a model, or of a term of a sum.

    Raises
    ------
    ValueError
        If there are none, or more than one.
    """
    found = [one for one in model.modules() if isinstance(one, ConstantPotential)]
    if len(found) != 1:
        raise ValueError(
            f"observer of layers: {type(model).__name__} holds {len(found)} ConstantPotential "
            "models; a potential profile needs the charges of exactly one."
        )
    return found[0]


def start(model: ModelInterface, *, bins: int = 400, blocks: int = 64) -> Layers:
    """Return an observer of layers that has seen nothing yet.

    Parameters
    ----------
    model : torch_sim ModelInterface
        A ConstantPotential, or a sum that holds one.
    bins : int
        Bins along z.
    blocks : int
        Most block averages kept, even.

    Raises
    ------
    ValueError
        If the model has no electrodes, or a number is out of range.
    """
    cell = electrodes_of(model)
    if bins < 10 or blocks < 8 or blocks % 2:
        raise ValueError(
            f"observer of layers: bins are {bins} and blocks {blocks}; give at least 10 bins and "
            "an even number of blocks, at least 8."
        )
    z = cell.stand[0, :, 2]
    period = 0.0 if cell.boundary == "slab" else float(cell.cell[0, 2, 2])
    edge = BEYOND * max(one.width for one in cell.electrodes.values())
    low, high = float(z.min()) - edge, float(z.max()) + edge
    if period:
        low = 0.5 * (low + high - period)
        high = low + period
    species = tuple(dict.fromkeys(cell.symbols[int(atom)] for atom in cell.free))
    member = torch.full((cell.number,), -1, dtype=torch.int64)
    for atom in cell.free.tolist():
        member[atom] = species.index(cell.symbols[atom])
    _, sheet = sheets(cell)
    electrodes = len(cell.electrodes)
    channels = (len(species) + 1) * bins + electrodes + electrodes**2 + int(sheet.max()) + 1
    systems = len(cell.potential)
    place = cell.device

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=torch.float64, device=place)

    return Layers(
        symbols=cell.symbols,
        species=species,
        frames=0,
        block=1,
        bins=bins,
        low=low,
        width=(high - low) / bins,
        period=period,
        member=member.to(place),
        sheet=sheet,
        held=cell.held.clone(),
        filling=zeros(systems, channels),
        series=zeros(blocks, systems, channels),
    )


def sheets(cell: ConstantPotential) -> tuple[torch.Tensor, torch.Tensor]:
    """Return height (Å) of each layer of electrode atoms, and the layer of each atom."""
    rounded = (cell.stand[0, :, 2] * 1e3).round()
    _, index = torch.unique(rounded * len(cell.electrodes) + cell.member, return_inverse=True)
    count = torch.zeros(int(index.max()) + 1, dtype=cell.stand.dtype, device=cell.device)
    height = count.index_add(0, index, cell.stand[0, :, 2])
    return height / count.index_add(0, index, torch.ones_like(cell.stand[0, :, 2])), index


def push(
    state: Layers, position: torch.Tensor, charge: torch.Tensor, electrode: torch.Tensor
) -> None:
    """Take in one frame, in place.

    Parameters
    ----------
    state : Layers
        The observer.
    position : torch.Tensor
        Positions (Å), (system, atom, 3).
    charge : torch.Tensor
        Charges (e), (system, atom).
    electrode : torch.Tensor
        Charge of each electrode (e), (system, electrode).

    Raises
    ------
    ValueError
        If a shape is not that of the observer.
    """
    systems, atoms = len(state.filling), len(state.member)
    given = (tuple(position.shape), tuple(charge.shape), len(electrode))
    if given != ((systems, atoms, 3), (systems, atoms), systems):
        raise ValueError(
            f"observer of layers: positions, charges and electrode charges of shapes {given} were "
            f"pushed, expected {((systems, atoms, 3), (systems, atoms), systems)}."
        )
    bins = state.bins
    free = state.member >= 0
    z = position[:, free, 2].to(state.filling) - state.low
    if state.period:
        z = z - torch.floor(z / state.period) * state.period
    index = (z / state.width).long().clamp(0, bins - 1)
    ones = torch.ones_like(z)
    frame = torch.zeros_like(state.filling)
    frame.scatter_add_(1, state.member[free] * bins + index, ones)
    offset = len(state.species) * bins
    frame.scatter_add_(1, offset + index, charge[:, free].to(frame))
    offset += bins
    number, q = electrode.shape[1], electrode.to(frame)
    frame[:, offset : offset + number] = q
    offset += number
    frame[:, offset : offset + number**2] = (q[:, :, None] * q[:, None]).reshape(systems, -1)
    offset += number**2
    frame.index_add_(1, offset + state.sheet, charge[:, state.held].to(frame))
    state.filling += frame
    state.frames += 1
    if state.frames % state.block:
        return
    done = state.frames // state.block - 1
    state.series[done] = state.filling / state.block
    state.filling.zero_()
    if done == len(state.series) - 1:
        half = len(state.series) // 2
        state.series[:half] = (0.5 * (state.series[::2] + state.series[1::2])).clone()
        state.block *= 2


def join(parts: Sequence[Layers]) -> Layers:
    """Return one observer with what those of several runs of the same batch have seen.

    For runs of one batch on several machines, or one after the other. Blocks are brought to the
    length of the longest ones among the parts, so that all count alike; frames of a run that fill
    no such block are left out.

    Parameters
    ----------
    parts : sequence of Layers
        Observers that were started alike, of runs whose frames lie equally far apart; they are not
        changed.

    Raises
    ------
    ValueError
        If there is none, they were not started alike, or one has not filled a block.
    """
    if not parts:
        raise ValueError("observer of layers: no parts to join were given.")
    first = parts[0]
    fixed = ("symbols", "species", "bins", "low", "width", "period")
    block = max(part.block for part in parts)
    faults = []
    for number, part in enumerate(parts):
        unlike = [name for name in fixed if getattr(part, name) != getattr(first, name)]
        if part.filling.shape != first.filling.shape:
            unlike.append("systems")
        if unlike:
            faults.append(f"part {number} differs from the first in {', '.join(unlike)}")
        elif part.frames < block:
            faults.append(
                f"part {number} has {part.frames} frame(s), but the longest blocks are of {block}"
            )
    if faults:
        raise ValueError("observer of layers: " + "; ".join(faults) + ".")
    found = []
    for part in parts:
        each = block // part.block  # both are powers of two
        whole = part.frames // block
        series = part.series[: whole * each].to(first.series.device)
        found.append(series.reshape(whole, each, *series.shape[1:]).mean(1))
    series = torch.cat(found)
    return replace(
        first,
        frames=len(series) * block,
        block=block,
        series=torch.cat([series, series.new_zeros(2 - len(series) % 2, *series.shape[1:])]),
        filling=torch.zeros_like(first.filling),
        member=first.member.clone(),
        sheet=first.sheet.clone(),
        held=first.held.clone(),
    )


def checkpoint(state: Layers) -> dict[str, object]:
    """Return the state as plain values and tensors that ``torch.save`` can write."""
    return plain(state)


def restart(saved: Mapping[str, object], *, device: str | torch.device = "cpu") -> Layers:
    """Return the observer that `checkpoint` saved, on `device`; it continues to the bit.

    Raises
    ------
    ValueError
        If `saved` is not such a checkpoint.
    """
    return revived(Layers, saved, device=device, on_host=())
