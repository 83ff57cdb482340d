"""Many cells at once: SPMe with the corrector in torch, whole profiles or one step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from couplers.residual.corrector import Correction, Corrector, load
from couplers.residual.features import ACTIVE, STATIC, kind
from couplers.residual.p2d import ended
from couplers.residual.parameters import Cell
from couplers.residual.quick import QuickSPMe

CHUNK = 1024  # cells that run together; the features of all their steps are held


@dataclass(frozen=True)
class Step:
    """What one step of a batch says, each with the dim cell."""

    voltage: torch.Tensor  # V, corrected
    correction: torch.Tensor  # V, 0 where it abstains
    abstained: torch.Tensor


class Corrected:
    """A batch of cells whose voltage is the corrected one; memory does not grow with time.

    The student network corrects and the box of features guards; the ensemble's spread and band
    are for `couplers.residual.corrector.Corrector.correct`, given the same features, which
    ``base.features`` holds in the order of `STATIC` and `ACTIVE`, (feature, cell).

    Parameters
    ----------
    cell : Cell
        Of `couplers.residual.parameters.read_cell`; must be the corrector's.
    corrector : str, pathlib.Path or Corrector
        A shipped corrector by the name of its parameter set, a file, or one in hand.
    state_of_charge : numpy.ndarray
        State of charge (1) of each cell at the start.
    electrolyte : mapping, optional
        Electrolyte (1) of each cell relative to the set's own: `diffusivity_scale`,
        `conductivity_scale`, `transference_number_shift`, `thermodynamic_factor_scale`.

    Raises
    ------
    ValueError
        If the corrector was trained for another cell.
    """

    def __init__(
        self,
        cell: Cell,
        corrector: str | Path | Corrector,
        state_of_charge: np.ndarray,
        *,
        electrolyte: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        from couplers.residual.data import cell_hash

        chosen = corrector if isinstance(corrector, Corrector) else load(corrector)
        if chosen.cell != cell_hash(cell):
            raise ValueError(
                f"The corrector of {chosen.about.get('set')} is not for this cell: its numbers "
                "differ. Train one with 'multiscale train-corrector'."
            )
        self.corrector, self.cell = chosen, cell
        self.base = QuickSPMe(
            cell, state_of_charge, memory_times=chosen.memory_times, electrolyte=electrolyte
        )
        offset = np.concatenate([chosen.static_mean, np.zeros(len(ACTIVE))])
        scale = np.concatenate([chosen.static_scale, chosen.active_scale])
        (matrix, bias), *others = chosen.student
        # the first layer takes the features as they are
        folded = [(matrix / scale, bias - matrix @ (offset / scale)), *others]
        matrix, bias = folded[-1]
        stimulus = chosen.unit / chosen.active_scale
        folded[-1] = (matrix * stimulus[:, None], bias * stimulus)
        self.layers = [(_column(m), _column(b[:, None])) for m, b in folded]
        self.lowest, self.highest = (_column(x[:, None]) for x in (chosen.lowest, chosen.highest))

    def advance(self, current: torch.Tensor, duration: float) -> Step:
        """Step to `current` (A, discharge positive; linear since the last step) in `duration` (s).

        Raises
        ------
        ValueError
            If a current is not finite.
        """
        if not bool(torch.isfinite(current).all()):
            wrong = int((~torch.isfinite(current)).sum())
            raise ValueError(f"The current of {wrong} cells is not finite.")
        with torch.no_grad():
            voltage = self.base.advance(current, duration)
            features = self.base.features
            h = features
            for k, (matrix, bias) in enumerate(self.layers):
                h = torch.addmm(bias, matrix, h)
                if k < len(self.layers) - 1:
                    h = h.tanh_()
            said = h.mul_(features[len(STATIC) :]).sum(0)
            inside = ((features >= self.lowest) & (features <= self.highest)).all(0)
            correction = torch.where(inside, said, 0.0)
        return Step(voltage + correction, correction, ~inside)


def simulate(
    cell: Cell,
    corrector: str | Path | Corrector,
    current: np.ndarray,
    time: np.ndarray,
    *,
    state_of_charge: np.ndarray,
    electrolyte: Mapping[str, np.ndarray] | None = None,
) -> xr.Dataset:
    """Drive many cells along a current each, with the corrected voltage and its band.

    Parameters
    ----------
    cell, corrector, state_of_charge, electrolyte
        As `Corrected` takes them.
    current : numpy.ndarray
        Current (A) with the dims (draw, time), discharge positive, linear between the points.
    time : numpy.ndarray
        Time (s), rising from 0.

    Returns
    -------
    xarray.Dataset
        `voltage`, `spme_voltage`, `band` (V), `abstained`, with the dims draw, time; nan after a
        cell has left its voltage window. The ensemble corrects; see `Corrected` for the student.

    Raises
    ------
    ValueError
        If the corrector is for another cell, or the current is not finite.
    """
    if not np.isfinite(current).all():
        raise ValueError(
            f"{int((~np.isfinite(current)).sum())} values of the current are not finite."
        )
    count = len(current)
    names = ("voltage", "spme_voltage", "band", "abstained")
    found = {name: np.full(current.shape, np.nan) for name in names}
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        drawn = {
            name: np.broadcast_to(values, (count,))[part]
            for name, values in (electrolyte or {}).items()
        }
        batch = Corrected(cell, corrector, state_of_charge[part], electrolyte=drawn)
        said, base, there = _driven(batch, current[part], time)
        for name, values in zip(
            names,
            (base[there] + said.voltage, base[there], said.band, said.abstained),
            strict=True,
        ):
            found[name][part][there] = values
    dims = ("draw", "time")
    return xr.Dataset(
        {
            "voltage": (dims, found["voltage"], {"units": "V"}),
            "spme_voltage": (dims, found["spme_voltage"], {"units": "V"}),
            "band": (dims, found["band"], {"units": "V"}),
            "abstained": (dims, found["abstained"] == 1),
        },
        coords={"time": ("time", np.asarray(time, dtype=float), {"units": "s"})},
        attrs={"sign": "discharge positive", "corrector": str(batch.corrector.about.get("set"))},
    )


def _driven(
    batch: Corrected, current: np.ndarray, time: np.ndarray
) -> tuple[Correction, np.ndarray, np.ndarray]:
    """What the ensemble says where SPMe is within its window, SPMe's voltages, and where it is."""
    cell, steps = batch.cell, len(time)
    drive = torch.as_tensor(np.ascontiguousarray(current.T))
    features = torch.empty(steps, *batch.base.features.shape)
    voltage = torch.empty(steps, len(current), dtype=torch.float64)
    gone = torch.zeros(len(current), dtype=torch.bool)
    with torch.no_grad():
        for k in range(steps):
            now = batch.base.advance(drive[k], round(float(time[k] - time[k - 1]), 9) if k else 0.0)
            beyond, poor = ended(cell, now, batch.base.salt.amin(0) * cell.concentration)
            gone |= beyond | poor
            voltage[k] = torch.where(gone, torch.nan, now)
            features[k] = batch.base.features
    base = voltage.numpy().T
    there = np.isfinite(base)
    kept = features.permute(2, 0, 1).numpy()[there]
    kinds = np.broadcast_to(kind(current / cell.capacity, time)[:, None], there.shape)[there]
    first = len(STATIC)
    return batch.corrector.correct(kept[:, :first], kept[:, first:], kind=kinds), base, there


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32)
