"""Many cells at once: SPMe with the corrector in torch, whole profiles or one step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from couplers.residual.corrector import Corrector, load
from couplers.residual.features import ACTIVE, LEAST_SALT, STATIC, assemble
from couplers.residual.layers import ELECTROLYTE
from couplers.residual.p2d import follow
from couplers.residual.parameters import Cell
from couplers.residual.spme import SPMe


@dataclass(frozen=True)
class Step:
    """What one step of a batch says, each with the dim cell."""

    voltage: torch.Tensor  # V, corrected
    correction: torch.Tensor  # V, 0 where it abstains
    abstained: torch.Tensor


class Corrected:
    """A batch of cells whose voltage is the corrected one; memory does not grow with time.

    The student network corrects and the box of features guards; the ensemble's spread and band
    are for `couplers.residual.corrector.Corrector.correct`, given the same features.

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
        self.base = SPMe(cell, state_of_charge, electrolyte=electrolyte)
        count = len(state_of_charge)
        self.memories = torch.zeros(len(chosen.memory_times), count, dtype=torch.float64)
        self.rate = torch.zeros(count, dtype=torch.float64)
        self.times = torch.as_tensor(chosen.memory_times)[:, None]
        given = dict(electrolyte or {})
        self.electrolyte = {
            name: torch.as_tensor(
                np.broadcast_to(
                    np.asarray(given.get(name, 0.0 if name.endswith("shift") else 1.0), float),
                    (count,),
                ).copy()
            )
            for name in ELECTROLYTE
        }
        first = len(STATIC)
        offset = np.concatenate([chosen.static_mean, np.zeros(len(ACTIVE))])
        scale = np.concatenate([chosen.static_scale, chosen.active_scale])
        self.offset, self.scale = torch.as_tensor(offset), torch.as_tensor(scale)
        self.lowest, self.highest = torch.as_tensor(chosen.lowest), torch.as_tensor(chosen.highest)
        self.layers = [(torch.as_tensor(m), torch.as_tensor(b)) for m, b in chosen.student]
        self.first = first

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
            rate = current / self.cell.capacity
            if duration > 0:
                ratio = duration / self.times
                decay, mean = torch.exp(-ratio), -torch.expm1(-ratio) / ratio
                self.memories = (
                    decay * self.memories + (mean - decay) * self.rate + (1 - mean) * rate
                )
            self.rate = rate
            static, active = assemble(
                self.base.state(),
                rate,
                self.memories,
                self.electrolyte,
                log=lambda x: torch.log(x.clamp_min(LEAST_SALT)),
                arcsinh=torch.asinh,
            )
            features = torch.stack(static + active, -1)
            inside = ((features >= self.lowest) & (features <= self.highest)).all(-1)
            scaled = (features - self.offset) / self.scale
            h = scaled
            for k, (matrix, bias) in enumerate(self.layers):
                h = torch.nn.functional.linear(h, matrix, bias)
                if k < len(self.layers) - 1:
                    h = torch.tanh(h)
            said = self.corrector.unit * (h * scaled[:, self.first :]).sum(-1)
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
    from couplers.residual.features import remember

    if not np.isfinite(current).all():
        raise ValueError(
            f"{int((~np.isfinite(current)).sum())} values of the current are not finite."
        )
    batch = Corrected(cell, corrector, state_of_charge, electrolyte=electrolyte)
    found = follow(batch.base, current, time, record=batch.base.state)
    rate = current / cell.capacity
    broad = {
        name: np.broadcast_to(values.numpy()[:, None], rate.shape)
        for name, values in batch.electrolyte.items()
    }
    states = {name: found[name].values for name in batch.base.state()}
    memories = remember(rate, time, batch.corrector.memory_times)
    static, active = assemble(states, rate, memories, broad)
    there = np.isfinite(found["voltage"].values)
    said = batch.corrector.correct(np.stack(static, -1)[there], np.stack(active, -1)[there])

    def spread(values: np.ndarray, empty: float) -> np.ndarray:
        whole = np.full(there.shape, empty)
        whole[there] = values
        return whole

    dims = ("draw", "time")
    base = found["voltage"].values
    return xr.Dataset(
        {
            "voltage": (dims, base + spread(said.voltage, np.nan), {"units": "V"}),
            "spme_voltage": (dims, base, {"units": "V"}),
            "band": (dims, spread(said.band, np.nan), {"units": "V"}),
            "abstained": (dims, spread(said.abstained.astype(float), 0.0).astype(bool)),
        },
        coords={"time": found["time"]},
        attrs={"sign": "discharge positive", "corrector": str(batch.corrector.about.get("set"))},
    )
