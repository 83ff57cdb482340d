"""Many cells at once in torch, corrected or modal; whole profiles, or one step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from couplers.residual import modal
from couplers.residual.checking import half_width
from couplers.residual.corrector import LARGEST_BAND, Correction, Corrector, load
from couplers.residual.features import ACTIVE, STATIC, kind
from couplers.residual.p2d import ended
from couplers.residual.parameters import Cell
from couplers.residual.quick import QuickSPMe

CHUNK = 1024  # cells that run together; the features of all their steps are held
MOST = 3e-3  # V, from the modal SPMe, that a checked correction may be
CHECKED = (0.46, 0.62)  # of the doubt in a checked band, as all shipped cells have it together


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
    corrector: str | Path | Corrector | None,
    current: np.ndarray,
    time: np.ndarray,
    *,
    state_of_charge: np.ndarray,
    electrolyte: Mapping[str, np.ndarray] | None = None,
    checked: bool = False,
) -> xr.Dataset:
    """Drive many cells along a current each, close to P2D, with a band.

    Without a corrector, by `couplers.residual.modal.Modal`: any cell and any electrolyte, nothing
    trained, and as close to P2D as an ensemble or closer, at much the same cost. With a corrector,
    its ensemble corrects SPMe. A checked correction costs both: the modal voltage stands in, band
    included, where the corrected one is not within `MOST` of it, and elsewhere the band is made up
    of their distance and of what is in doubt of the modal one. It flags 99 % of errors above 3 mV
    or more, with electrolytes never seen too, where the ensemble alone flags a fifth or flags all.

    Parameters
    ----------
    cell, state_of_charge, electrolyte
        As `Corrected` takes them.
    corrector : str, pathlib.Path, Corrector or None
        As `Corrected` takes it; None for a run with nothing learnt.
    current : numpy.ndarray
        Current (A) with the dims (draw, time), discharge positive, linear between the points.
    time : numpy.ndarray
        Time (s), rising from 0.
    checked : bool
        Whether the modal SPMe runs beside a corrector.

    Returns
    -------
    xarray.Dataset
        `voltage`, `band` (V; half width, 90 % of profiles lie within it throughout), `abstained`,
        and with a corrector `spme_voltage`, with the dims draw, time; nan after a cell has left its
        voltage window. Abstained is where the correction is 0, or if checked the modal voltage; and
        without a corrector, where fewer modes do not get that far and the band says nothing.

    Raises
    ------
    ValueError
        If the corrector is for another cell, the current is not finite, or there is nothing to
        check.

    Examples
    --------
    >>> from continuum.cell import pybamm
    >>> from couplers.residual.parameters import read_cell
    >>> cell = read_cell(pybamm.ParameterValues("Chen2020"))
    >>> time = np.arange(0, 601.0, 10)
    >>> current = np.full((2, 61), cell.capacity) * [[1.0], [-0.5]]
    >>> run = simulate(cell, None, current, time, state_of_charge=np.array([0.9, 0.2]))
    >>> bool(run["band"].max() < 5e-4)
    True
    """
    if not np.isfinite(current).all():
        raise ValueError(
            f"{int((~np.isfinite(current)).sum())} values of the current are not finite."
        )
    if checked and corrector is None:
        raise ValueError("There is nothing to check without a corrector: give one, or not checked.")
    names = ["voltage", "band", "abstained"] + ["spme_voltage"] * (corrector is not None)
    found = {name: np.full(current.shape, np.nan) for name in names}
    about = "none, modal SPMe"
    for start in range(0, len(current), CHUNK):
        part = slice(start, start + CHUNK)
        soc = state_of_charge[part]
        drawn = {
            name: np.broadcast_to(values, (len(current),))[part]
            for name, values in (electrolyte or {}).items()
        }
        sure = None
        if corrector is None or checked:
            sure = modal.voltages(cell, current[part], time, state_of_charge=soc, electrolyte=drawn)
        if corrector is not None:
            batch = Corrected(cell, corrector, soc, electrolyte=drawn)
            about = str(batch.corrector.about.get("set"))
            said = _corrected(batch, current[part], time, sure)
        elif sure is not None:
            said = _modal(*sure)
        for name, values in said.items():
            found[name][part] = values
    dims = ("draw", "time")
    data = {name: (dims, values, {"units": "V"}) for name, values in found.items()}
    return xr.Dataset(
        data | {"abstained": (dims, found["abstained"] == 1)},
        coords={"time": ("time", np.asarray(time, dtype=float), {"units": "s"})},
        attrs={"sign": "discharge positive", "corrector": about},
    )


def _modal(voltage: np.ndarray, doubt: np.ndarray) -> dict[str, np.ndarray]:
    """What the modal SPMe says by itself."""
    band = np.minimum(modal.FACTOR * doubt, LARGEST_BAND)
    return {"voltage": voltage, "band": band, "abstained": np.isinf(doubt)}


def _corrected(
    batch: Corrected,
    current: np.ndarray,
    time: np.ndarray,
    sure: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """What the ensemble says; or the modal SPMe, if it has run and says something else."""
    said, base, there = _driven(batch, current, time)

    def whole(values: np.ndarray) -> np.ndarray:
        found = np.full(base.shape, np.nan)
        found[there] = values
        return found

    voltage, band = base + whole(said.voltage), whole(said.band)
    found = {"voltage": voltage, "band": band, "abstained": whole(said.abstained)}
    if sure is not None:
        instead = _modal(*sure)
        corrected = base + whole(said.unguarded)
        shares = batch.corrector.about.get("checked", CHECKED)
        kinds = kind(current / batch.cell.capacity, time)
        half = half_width(corrected - sure[0], sure[1], shares, kinds)
        near, known = half <= MOST, np.isfinite(sure[0])
        found = {
            "voltage": np.where(near, corrected, np.where(known, instead["voltage"], voltage)),
            "band": np.where(near, half, np.where(known, instead["band"], band)),
            "abstained": np.where(known | there, ~near, np.nan),
        }
    return found | {"spme_voltage": base}


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
