"""A batched porous-electrode (P2D, DFN) solver in torch: many cells at once, one time grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from couplers.residual.layers import (
    LOWEST_CONCENTRATION,
    SURFACE_MARGIN,
    Batch,
    arsinh,
    column,
    tridiagonal,
)
from couplers.residual.parameters import FARADAY, Cell

if TYPE_CHECKING:
    from couplers.residual.modal import Modal
    from couplers.residual.spme import SPMe

POINTS = (24, 12)
STRETCH = 1.2
SWEEPS = 2
NEWTON, MORE = (2, 1), 4
TOLERANCE = 1e-4  # V, by which Ohm's law may be missed anywhere
DEPLETED = 50.0  # mol m-3, below which a cell is taken out
MARGIN = 0.02  # V beyond the cut-offs until which a cell is followed


class P2D(Batch):
    r"""State of a batch of cells; `advance` takes it over one step of time.

    In each electrode, from the collector inwards, the unknowns are the ionic currents
    :math:`e_k` on the faces between the mesh cells. With
    :math:`j_k = (e_k - e_{k-1}) / (a \Delta x_k)` and the surface overpotential
    :math:`g = U(x) + (2RT/F) \sinh^{-1}(j / 2 j_0)`, Ohm's law in solid and electrolyte is

    .. math::
        g_{k+1} - g_k = -(I - e_k) \rho^\mathrm{s}_k + e_k \rho^\mathrm{e}_k
        - \chi \tfrac{RT}{F} \ln\frac{c_{k+1}}{c_k}

    a tridiagonal system for both electrodes of all cells at once. Particles are those of
    `couplers.residual.particles`; the salt is stepped by the trapezoidal rule; fluxes and salt are
    iterated within the step.
    """

    def __init__(
        self,
        cell: Cell,
        state_of_charge: np.ndarray,
        *,
        electrolyte: Mapping[str, np.ndarray] | None = None,
        points: tuple[int, int] = POINTS,
        stretch: float = STRETCH,
    ) -> None:
        super().__init__(cell, state_of_charge, electrolyte, points, stretch, points[:1])
        count, n = len(state_of_charge), points[0]
        pair = (cell.negative, cell.positive)
        self.area = column([e.area_density for e in pair]) * self.local
        sigma = column([e.conductivity for e in pair])
        between = 0.5 * (self.local[1:] + self.local[:-1])
        self.solid = between / sigma
        self.collector = self.local[0] / sigma  # (2, 1)
        self.face = torch.zeros(n - 1, 2, count, dtype=torch.float64)

    def advance(
        self, current: torch.Tensor, duration: float, implicit: float = 0.5
    ) -> torch.Tensor:
        """Step to `current` (A, discharge positive) in `duration` (s); return the voltages (V)."""
        density = current / self.cell.area
        total = torch.stack([density, -density])  # into the electrolyte, (2, cell)
        before = self.particles.flux
        held, slope = self.particles.hold(duration)
        # a first guess: what each place already takes, and the change spread evenly
        change = torch.stack([density - self.density, self.density - density])
        thickness = self.area.sum(0)
        flux = before + change / thickness
        face = self.face + change * (self.area.cumsum(0)[:-1] / thickness)
        salt = self.salt_now
        for sweep in range(SWEEPS):
            if duration > 0:
                salt = self.salt.step(
                    self.salt_now,
                    salt,
                    self._source(0.5 * (before + flux)),
                    self.diffusivity_scale,
                    duration,
                    implicit,
                )
            flux, face, voltage = self._electrodes(
                total, held, slope, face, salt, NEWTON[min(sweep, 1)]
            )
            if duration == 0:
                break
        if duration == 0 or bool((self.imbalance > TOLERANCE).any()):
            # a jump, of which there is no good first guess
            flux, face, voltage = self._electrodes(total, held, slope, face, salt, MORE)
        self.particles.take(flux)
        self.face, self.salt_now, self.density = face, salt, density
        return voltage

    def rest(self, which: torch.Tensor) -> None:
        """Put some cells at rest, half full."""
        super().rest(which)
        self.face[..., which] = 0.0

    def _source(self, flux: torch.Tensor) -> torch.Tensor:
        n, s = self.points
        local = self.area / self.local * flux * ((1 - self.transference) / FARADAY)
        source = torch.zeros_like(self.salt_now)
        source[:n] = local[:, 0]
        source[n + s :] = local[:, 1].flip(0)
        return source

    def _electrodes(
        self,
        total: torch.Tensor,
        held: torch.Tensor,
        slope: torch.Tensor,
        face: torch.Tensor,
        salt: torch.Tensor,
        iterations: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Newton on the faces' currents; returns fluxes, face currents and voltages."""
        n, s = self.points
        thermal = self.cell.thermal_voltage
        c = salt.clamp_min(LOWEST_CONCENTRATION)
        kappa = self.conductivity(c) * self.conductivity_scale
        half = self.salt.half / kappa
        joined = torch.stack(self.salt.ends(half), 1)
        ionic = joined[1:] + joined[:-1]
        local = torch.stack(self.salt.ends(c), 1)
        log = local.log()
        chi = self.chi * thermal
        drop = chi * self.factor(0.5 * (local[1:] + local[:-1])) * (log[1:] - log[:-1])
        root = self.rate * local.sqrt()
        ohmic = self.solid + ionic
        known = total * self.solid + drop
        right = torch.empty_like(face)
        for _ in range(iterations):
            g, stiffness, _ = self._surface(face, total, held, slope, root)
            right = g[1:] - g[:-1] + known - face * ohmic
            inner = stiffness / self.area
            face = face + self._change(inner[1:] + inner[:-1] + ohmic, -inner[1:-1], right)
        g, _, flux = self._surface(face, total, held, slope, root)
        self.imbalance, apart = self._missed(g[1:] - g[:-1] + known - face * ohmic)
        along = (drop - face * ionic).sum(0)
        collector = total * self.collector / 2 - face[0] * self.collector / 8
        middle = slice(n - 1, n + s + 1)
        separator = half[middle]
        cs = c[middle]
        across = -total[0] * (separator[1:] + separator[:-1]).sum(0) + chi * (
            self.factor(0.5 * (cs[1:] + cs[:-1])) * (cs[1:].log() - cs[:-1].log())
        ).sum(0)
        voltage = g[0, 1] - g[0, 0] + along[0] - along[1] + across + collector[1] - collector[0]
        return flux, face, voltage + apart

    def _change(
        self, diagonal: torch.Tensor, off: torch.Tensor, right: torch.Tensor
    ) -> torch.Tensor:
        """Newton's step of the faces' currents for what Ohm's law lacks on each face (V)."""
        return tridiagonal(off, diagonal, off, right)

    def _missed(self, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """What is left of it when the iteration stops, and what that adds to the voltage (V)."""
        return right.abs().amax((0, 1)), 0.0

    def _surface(
        self,
        face: torch.Tensor,
        total: torch.Tensor,
        held: torch.Tensor,
        slope: torch.Tensor,
        root: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Potential of the solid above the electrolyte (V), its slope in the flux, the flux."""
        flux = torch.empty_like(held)
        flux[0] = face[0]
        flux[1:-1] = face[1:] - face[:-1]
        flux[-1] = total - face[-1]
        flux /= self.area
        free = held - slope * flux
        x = free.clamp(SURFACE_MARGIN, 1 - SURFACE_MARGIN)
        g, gradient = torch.empty_like(x), torch.empty_like(x)
        for k in range(2):
            g[:, k], gradient[:, k] = self.open_circuit[k].both(x[:, k])
        exchange = root * (x * (1 - x)).sqrt()
        ratio = flux / (2 * exchange)
        spread = 2 * self.cell.thermal_voltage / torch.sqrt(1 + ratio * ratio)
        g += 2 * self.cell.thermal_voltage * arsinh(ratio)
        # d(exchange)/d(flux) = -slope * exchange * (1 - 2x) / (2 x (1 - x))
        inner = slope * (1 - 2 * x) / (2 * x * (1 - x))
        stiffness = spread * (1 / (2 * exchange) + ratio * inner) - gradient * slope
        return g, stiffness.clamp_min_(1e-9), flux


def follow(
    solver: P2D | SPMe | Modal,
    current: np.ndarray,
    time: np.ndarray,
    *,
    record: Callable[[], Mapping[str, torch.Tensor]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Drive a batch along a current that is linear between the points of time.

    Parameters
    ----------
    solver : P2D, SPMe or Modal
        A fresh batch; it is left at the end of the profile.
    current : numpy.ndarray
        Current (A) with the dims (draw, time); discharge positive. It may jump at time 0.
    time : numpy.ndarray
        Time (s), rising from 0.
    record : callable, optional
        Called after each point of time; what it returns, each a tensor (draw,), is kept too.
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    xarray.Dataset
        `voltage` (draw, time) in V, nan from where a cell has left its voltage window or its
        electrolyte is used up; `end` (draw), the number of points that it was followed for;
        `depleted` (draw), whether the electrolyte ended it.
    """
    count, steps = current.shape
    cell = solver.cell
    drive = torch.as_tensor(np.ascontiguousarray(current.T))
    voltage = np.full((steps, count), np.nan)
    alive = torch.ones(count, dtype=torch.bool)
    depleted = torch.zeros(count, dtype=torch.bool)
    end = torch.full((count,), steps)
    kept: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for k in range(steps):
            duration = float(time[k] - time[k - 1]) if k else 0.0
            now = solver.advance(torch.where(alive, drive[k], 0.0), round(duration, 9))
            beyond, poor = ended(cell, now, solver.salt_now.amin(0))
            gone = alive & (beyond | poor | ~(solver.imbalance < TOLERANCE))
            if bool(gone.any()):
                end[gone] = k
                depleted |= gone & poor
                alive = alive & ~gone
                if not bool(alive.any()):
                    break
                solver.rest(gone)
            voltage[k] = torch.where(alive, now, torch.nan).numpy()
            if record is not None:
                for name, values in record().items():
                    place = kept.setdefault(name, np.full((steps, count), np.nan))
                    place[k] = torch.where(alive, values, torch.nan).numpy()
            if progress is not None:
                progress(k + 1, steps)
    data = {
        "voltage": (("draw", "time"), voltage.T, {"units": "V"}),
        "end": ("draw", end.numpy()),
        "depleted": ("draw", depleted.numpy()),
    }
    data |= {name: (("draw", "time"), values.T) for name, values in kept.items()}
    return xr.Dataset(
        data,
        coords={"time": ("time", np.asarray(time, dtype=float), {"units": "s"})},
        attrs={"sign": "discharge positive"},
    )


def ended(
    cell: Cell, voltage: torch.Tensor, least_salt: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether cells are beyond their voltage window (V), and whether out of salt (mol m-3).

    The window is wider than the cut-offs by `MARGIN`; what is not a number is beyond and out.
    """
    low, high = cell.lower_voltage - MARGIN, cell.upper_voltage + MARGIN
    return ~((voltage > low) & (voltage < high)), ~(least_salt > DEPLETED)
