r"""Charge current and stress watched during a run, with memory that does not grow with it.

Two things are kept of each series, whatever its length.

* **Block averages**: at most so many, and when they are full, neighbours are averaged and the block
  doubles. A block average of a current has the current's own spectrum at frequencies low against
  its length, which is all that the Green-Kubo estimators read.
* **The autocorrelation** at lags :math:`j m^l`, between averages over :math:`m^l` frames, so that a
  few hundred numbers span picoseconds to nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from atomistic.observables.checkpoints import plain, revived
from atomistic.observables.green_kubo import green_kubo_conductivity, green_kubo_viscosity
from atomistic.units import ANGSTROM, ELECTRONVOLT, EV_PER_CUBIC_ANGSTROM, PICOSECOND

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
FLAT = [3 * row + column for row, column in VOIGT]
CHANNELS = 3 + len(VOIGT)
# what the autocorrelations are of: the current's three and five independent shears
SHEAR = np.zeros((5, CHANNELS))
SHEAR[0, 6] = SHEAR[1, 7] = SHEAR[2, 8] = 1.0
SHEAR[3, 3], SHEAR[3, 4] = 0.5, -0.5
SHEAR[4, 3], SHEAR[4, 4], SHEAR[4, 5] = np.array([1.0, 1.0, -2.0]) / np.sqrt(12.0)
PARTS = np.vstack([np.eye(3, CHANNELS), SHEAR])


@dataclass
class Currents:
    """State of the observer of charge current (e Å ps-1) and stress (eV Å-3).

    Parameters
    ----------
    symbols : tuple of str
        Element of each atom of one system.
    frames : int
        Frames pushed.
    block : int
        Frames in each finished block.
    charge : torch.Tensor
        Charge of each atom (e), (atom,).
    parts : torch.Tensor
        What turns a frame's numbers into those that are correlated, (part, channel).
    filling : torch.Tensor
        Sum over the block that is not full yet, (system, channel).
    series : torch.Tensor
        Averages of finished blocks, (block, system, channel).
    ring, average : torch.Tensor
        Last frames of each level, (level, slot, system, part), and the sum on its way to the next.
    product : torch.Tensor
        Sums of products, (level, slot, system, part).
    pushed : torch.Tensor
        Frames that each level was given, (level,).
    volume : torch.Tensor
        Sum of the volume (Å3) over frames, (system,).
    """

    symbols: tuple[str, ...]
    frames: int
    block: int
    charge: torch.Tensor
    parts: torch.Tensor
    filling: torch.Tensor
    series: torch.Tensor
    ring: torch.Tensor
    average: torch.Tensor
    product: torch.Tensor
    pushed: torch.Tensor
    volume: torch.Tensor


def start(
    symbols: Sequence[str],
    *,
    charges: Mapping[str, float],
    systems: int = 1,
    blocks: int = 8192,
    slots: int = 32,
    levels: int = 6,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Currents:
    """Return an observer of currents that has seen nothing yet.

    Parameters
    ----------
    symbols : sequence of str
        Element of each atom; the same in all systems.
    charges : mapping of str to float
        Charge number of every element (1); the system must be neutral.
    systems : int
        Number of systems in the batch.
    blocks : int
        Most block averages kept, even.
    slots : int
        Lags of each level of the autocorrelation, even; a level averages two frames of the last.
    levels : int
        Number of levels.
    device, dtype : torch.device, torch.dtype
        Where and in which precision to add up.

    Raises
    ------
    ValueError
        Lists what is wrong with the numbers, an element without a charge, or a charged system.
    """
    faults = [
        f"{name} is {value}, but must be even and at least {least}"
        for name, value, least in (("blocks", blocks, 64), ("slots", slots, 4))
        if value % 2 or value < least
    ]
    faults += [
        f"{name} is {value}, but must be at least 1"
        for name, value in (("systems", systems), ("levels", levels))
        if value < 1
    ]
    if missing := sorted({name for name in symbols if name not in charges}):
        faults.append(f"no charge is given for {', '.join(missing)}")
    else:
        total = sum(charges[name] for name in symbols)
        if abs(total) > 1e-6 * max(1.0, sum(abs(charges[name]) for name in symbols)):
            faults.append(f"the system carries {total:+g} e, but must be neutral")
    if faults:
        raise ValueError("observer of currents: " + "; ".join(faults) + ".")

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    return Currents(
        symbols=tuple(symbols),
        frames=0,
        block=1,
        charge=torch.tensor([charges[name] for name in symbols], dtype=dtype, device=device),
        parts=torch.tensor(PARTS, dtype=dtype, device=device),
        filling=zeros(systems, CHANNELS),
        series=zeros(blocks, systems, CHANNELS),
        ring=zeros(levels, slots, systems, len(PARTS)),
        average=zeros(levels, systems, len(PARTS)),
        product=zeros(levels, slots, systems, len(PARTS)),
        pushed=torch.zeros(levels, dtype=torch.int64),
        volume=zeros(systems),
    )


def push(
    state: Currents, velocity: torch.Tensor, stress: torch.Tensor, volume: torch.Tensor
) -> None:
    """Take in one frame, in place.

    Parameters
    ----------
    state : Currents
        The observer.
    velocity : torch.Tensor
        Velocities (Å ps-1), (system, atom, 3).
    stress : torch.Tensor
        Stress with its kinetic part (eV Å-3), positive in tension, (system, 3, 3).
    volume : torch.Tensor
        Volume of the cells (Å3), (system,).

    Raises
    ------
    ValueError
        If a shape is not that of the observer.
    """
    systems, atoms = len(state.volume), len(state.charge)
    expected = ((systems, atoms, 3), (systems, 3, 3), (systems,))
    given = tuple(tuple(one.shape) for one in (velocity, stress, volume))
    if given != expected:
        raise ValueError(
            f"observer of currents: velocity, stress and volume of shapes {given} were pushed, "
            f"expected {expected}."
        )
    current = state.charge @ velocity.to(state.charge)
    tensor = stress.reshape(-1, 9)[:, FLAT].to(current)
    frame = torch.cat([current, tensor], dim=1)
    _block(state, frame)
    _correlate(state, frame @ state.parts.T)
    state.volume += volume.to(state.volume)
    state.frames += 1


def _block(state: Currents, frame: torch.Tensor) -> None:
    """Add to the block; when it is full, file its average; when the file is full, halve it."""
    state.filling += frame
    done = state.frames + 1
    if done % state.block:
        return
    index = done // state.block - 1
    state.series[index] = state.filling / state.block
    state.filling.zero_()
    if index == len(state.series) - 1:
        half = len(state.series) // 2
        state.series[:half] = (0.5 * (state.series[::2] + state.series[1::2])).clone()
        state.block *= 2


def _correlate(state: Currents, value: torch.Tensor) -> None:
    """Multiply with the frames kept, and hand the mean of two on to the next level."""
    levels, slots = state.ring.shape[:2]
    for level in range(levels):
        index = int(state.pushed[level])
        state.ring[level, index % slots] = value
        kept = min(index + 1, slots)
        # slot i was written (index - i) mod slots pushes before
        lag = (index - torch.arange(kept, device=value.device)) % slots
        state.product[level].index_add_(0, lag, state.ring[level, :kept] * value)
        state.pushed[level] += 1
        if index % 2 == 0:
            state.average[level] = value
            return
        value = 0.5 * (state.average[level] + value)


def checkpoint(state: Currents) -> dict[str, object]:
    """Return the state as plain values and tensors that ``torch.save`` can write."""
    return plain(state)


def restart(saved: Mapping[str, object], *, device: str | torch.device = "cpu") -> Currents:
    """Return the observer that `checkpoint` saved, on `device`; it continues to the bit.

    Raises
    ------
    ValueError
        If `saved` is not such a checkpoint.
    """
    return revived(Currents, saved, device=device, on_host=("pushed",))


def observed(
    state: Currents,
    *,
    interval: float,
    temperatures: Sequence[float],
    potential_name: str,
) -> xr.Dataset:
    """Return what was observed, in SI.

    Parameters
    ----------
    state : Currents
        An observer that has seen 64 frames at least.
    interval : float
        Time between pushed frames (s).
    temperatures : sequence of float
        Temperature (K) of each condition; systems are ordered condition by condition.
    potential_name : str
        What drove the dynamics.

    Returns
    -------
    xarray.Dataset
        ``charge_current`` (A m) and ``stress`` (Pa), block averages, (condition, replica, frame,
        ...), at ``time`` (s); ``current_autocorrelation`` (A2 m2), mean of the three components,
        and ``shear_autocorrelation`` (Pa2), mean of five independent shears, both (condition,
        replica, lag), with the coordinate ``lag`` (s); ``volume`` (m3), ``temperature``.

    Raises
    ------
    ValueError
        If too little was pushed, or systems do not divide among the temperatures.
    """
    systems = len(state.volume)
    kept = state.frames // state.block
    faults = []
    if state.frames < 64:
        faults.append(f"{state.frames} frame(s) were pushed, but at least 64 are needed")
    if not temperatures or systems % len(temperatures):
        faults.append(f"{systems} systems do not divide among {len(temperatures)} temperatures")
    if faults:
        raise ValueError("observer of currents: " + "; ".join(faults) + ".")
    shape = (len(temperatures), systems // len(temperatures))
    ampere_metre = ELECTRONVOLT * ANGSTROM / PICOSECOND  # e Å ps-1
    series = np.moveaxis(state.series[:kept].cpu().numpy(), 0, 1)
    stress = np.empty((systems, kept, 3, 3))
    for channel, (row, column) in enumerate(VOIGT, start=3):
        stress[:, :, row, column] = stress[:, :, column, row] = series[..., channel]
    lag, current, shear = _autocorrelation(state)
    dims = ("condition", "replica")
    return xr.Dataset(
        {
            "temperature": ("condition", np.asarray(temperatures, float), {"units": "K"}),
            "charge_current": (
                (*dims, "frame", "xyz"),
                (series[..., :3] * ampere_metre).reshape(*shape, kept, 3),
                {"units": "A m"},
            ),
            "stress": (
                (*dims, "frame", "xyz", "partner"),
                (stress * EV_PER_CUBIC_ANGSTROM).reshape(*shape, kept, 3, 3),
                {"units": "Pa"},
            ),
            "current_autocorrelation": (
                (*dims, "lag"),
                (current * ampere_metre**2).reshape(*shape, len(lag)),
                {"units": "A2 m2"},
            ),
            "shear_autocorrelation": (
                (*dims, "lag"),
                (shear * EV_PER_CUBIC_ANGSTROM**2).reshape(*shape, len(lag)),
                {"units": "Pa2"},
            ),
            "volume": (
                dims,
                (state.volume / state.frames).cpu().numpy().reshape(shape) * ANGSTROM**3,
                {"units": "m3"},
            ),
            "time": ("frame", (np.arange(kept) + 0.5) * state.block * interval, {"units": "s"}),
            "potential_name": ("replica", [potential_name] * shape[1]),
        },
        coords={"lag": ("lag", lag * interval, {"units": "s"})},
    )


def _autocorrelation(state: Currents) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lags (frames) and the two autocorrelations, (system, lag)."""
    levels, slots = state.ring.shape[:2]
    lag, rows = [], []
    for level in range(levels):
        pushed = int(state.pushed[level])
        # the first half of a level lies within the lags of the level before
        for slot in range(0 if level == 0 else slots // 2, min(slots, pushed)):
            lag.append(slot * 2**level)
            rows.append(state.product[level, slot].cpu().numpy() / (pushed - slot))
    value = np.stack(rows, axis=1)
    return np.array(lag), value[..., :3].mean(-1), value[..., 3:].mean(-1)


def green_kubo(
    seen: xr.Dataset, *, highest: float | None = None, draws: int = 400, seed: int = 0
) -> xr.Dataset:
    """Conductivity (S m-1) and shear viscosity (Pa s) of each condition from what was observed.

    Parameters
    ----------
    seen : xarray.Dataset
        What `observed` gave.
    highest : float, optional
        Highest frequency (Hz) of a band.
    draws : int
        Posterior draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    xarray.Dataset
        ``conductivity`` and ``viscosity`` with ``_std`` and ``_draw``, (condition,).

    Raises
    ------
    ValueError
        If `green_kubo.zero_frequency` refuses.
    """
    interval = float(np.diff(seen["time"].values[:2])[0])
    parts = []
    for condition in range(seen.sizes["condition"]):
        one = seen.isel(condition=condition)
        volume, temperature = float(one["volume"].mean()), float(one["temperature"])
        charge, shear = (
            estimate(
                one[name].values,
                interval,
                volume=volume,
                temperature=temperature,
                highest=highest,
                draws=draws,
                seed=seed + condition,
            ).drop_vars("band")
            for name, estimate in (
                ("charge_current", green_kubo_conductivity),
                ("stress", green_kubo_viscosity),
            )
        )
        parts.append(charge.merge(shear).assign(temperature=one["temperature"]))
    return xr.concat(parts, dim="condition")
