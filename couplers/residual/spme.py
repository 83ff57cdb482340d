"""A batched single-particle model with electrolyte (SPMe), PyBaMM's composite one, in torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from couplers.residual.features import SIDES, shapes
from couplers.residual.layers import (
    LOWEST_CONCENTRATION,
    SURFACE_MARGIN,
    Batch,
    arsinh,
    column,
)
from couplers.residual.p2d import POINTS, STRETCH
from couplers.residual.parameters import FARADAY, Cell


class SPMe(Batch):
    r"""State of a batch of cells; `advance` takes it over one step of time.

    .. math::
        V = U_p - U_n + \bar\eta_p - \bar\eta_n
        + \chi \tfrac{RT}{F} (\overline{\ln c}_p - \overline{\ln c}_n)
        - i \Bigl(\frac{L_n}{3\kappa_n} + \frac{L_s}{\kappa_s} + \frac{L_p}{3\kappa_p}\Bigr)
        - \frac i3 \Bigl(\frac{L_n}{\sigma_n} + \frac{L_p}{\sigma_p}\Bigr)

    with one particle in each electrode and the conductivity at the mean concentration.

    References
    ----------
    Marquis et al., J. Electrochem. Soc. 166, A3693 (2019), https://doi.org/10.1149/2.0341915jes
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
        super().__init__(cell, state_of_charge, electrolyte, points, stretch)
        pair = (cell.negative, cell.positive)
        n, s = points
        shape = torch.zeros(len(self.salt.widths), 1, dtype=torch.float64)
        shape[:n] = 1 / cell.negative.thickness
        shape[n + s :] = -1 / cell.positive.thickness
        self.source = shape * (1 - self.transference) / FARADAY
        self.share = self.local / self.local.sum(0)
        self.per_density = column(
            [
                1 / (cell.negative.area_density * cell.negative.thickness),
                -1 / (cell.positive.area_density * cell.positive.thickness),
            ]
        )
        self.ionic = (
            cell.negative.thickness / cell.negative.electrolyte_transport / 3
            + cell.separator_thickness / cell.separator_transport
            + cell.positive.thickness / cell.positive.electrolyte_transport / 3
        )
        self.solid = sum(e.thickness / e.conductivity for e in pair) / 3
        self.surface = self.start

    def advance(
        self, current: torch.Tensor, duration: float, implicit: float = 0.5
    ) -> torch.Tensor:
        """Step to `current` (A, discharge positive) in `duration` (s); return the voltages (V)."""
        density = current / self.cell.area
        if duration > 0:
            source = self.source * (0.5 * (density + self.density))
            salt = self.salt_now
            for _ in range(2):
                salt = self.salt.step(
                    self.salt_now, salt, source.clone(), self.diffusivity_scale, duration, implicit
                )
            self.salt_now = salt
        flux = self.per_density * density
        held, slope = self.particles.hold(duration)
        self.particles.take(flux)
        self.surface = held - slope * flux
        self.density = density
        return self.voltage()

    def state(self) -> dict[str, torch.Tensor]:
        """What `couplers.residual.features` is made of, each (cell,)."""
        negative, positive = self.salt.ends(self.salt_now)
        scale = self.cell.concentration
        found = {
            f"{side}_{shape}": values
            for k, (side, (low, high)) in enumerate(zip(SIDES, self.cell.known, strict=True))
            for shape, values in shapes(
                self.open_circuit[k], self.surface[k], kept=partial(torch.clamp, min=low, max=high)
            ).items()
        }
        return {
            "negative_mean": self.mean[0],
            "positive_mean": self.mean[1],
            "negative_surface": self.surface[0],
            "positive_surface": self.surface[1],
            **found,
            "negative_salt": (self.share[:, 0] * negative).sum(0) / scale,
            "positive_salt": (self.share[:, 1] * positive).sum(0) / scale,
            "left_salt": negative[0] / scale,
            "right_salt": positive[0] / scale,
        }

    def voltage(self) -> torch.Tensor:
        """Terminal voltages (V) of the state as it is."""
        thermal = self.cell.thermal_voltage
        c = self.salt_now.clamp_min(LOWEST_CONCENTRATION)
        local = torch.stack(self.salt.ends(c), 1)
        x = self.surface.clamp(SURFACE_MARGIN, 1 - SURFACE_MARGIN)
        exchange = self.rate * (x * (1 - x)).sqrt() * local.sqrt()
        flux = self.particles.flux
        overpotential = 2 * thermal * (self.share * arsinh(flux / (2 * exchange))).sum(0)
        log = (self.share * local.log()).sum(0)
        mean = self.salt.mean(c)
        kappa = self.conductivity(mean) * self.conductivity_scale
        chi = self.chi * self.factor(mean) * thermal
        return (
            self.open_circuit[1](x[1])
            - self.open_circuit[0](x[0])
            + overpotential[1]
            - overpotential[0]
            + chi * (log[1] - log[0])
            - self.density * (self.ionic / kappa + self.solid)
        )
