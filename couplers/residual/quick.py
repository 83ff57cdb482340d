"""SPMe of very many cells in single precision: the equations of `spme`, fewer operations a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from couplers.residual.features import (
    ACTIVE,
    CURVATURE_SCALE,
    LEAST_SALT,
    SHAPES,
    SLOPE_SCALE,
    STATIC,
    shapes,
)
from couplers.residual.layers import LOWEST_CONCENTRATION, SURFACE_MARGIN, graded
from couplers.residual.p2d import POINTS as FINE
from couplers.residual.p2d import STRETCH
from couplers.residual.parameters import CONCENTRATIONS, STOICHIOMETRIES, Cell
from couplers.residual.particles import Shells, memory_weights
from couplers.residual.spme import SPMe

POINTS = (12, 6)
ROWS = 16001  # of the tables of the open-circuit potentials
SINGLE = torch.float32


class QuickSPMe:
    r"""State of a batch of cells; `advance` takes it over one step of time.

    What is linear in the current, the memories of particles with a constant diffusivity and those
    of the features, is one vector :math:`S` that a step multiplies by its decays and drives by both
    ends' C-rates; charge is counted in double precision. Other particles are `Shells`. The salt
    takes one implicit step with its diffusivity at the middle, reckoned from the step before; its
    few mesh cells are averages over parabolas,

    .. math:: c_\mathrm{face} = \bar c \pm \tfrac h2 c'_\mathrm{face} - \tfrac{h^2}{6} c'',
        \qquad \epsilon \dot c - S = \epsilon^b D c''

    Potentials and their `shapes` are read from one table.
    """

    def __init__(
        self,
        cell: Cell,
        state_of_charge: np.ndarray,
        *,
        memory_times: np.ndarray,
        electrolyte: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        exact = SPMe(cell, state_of_charge, electrolyte=electrolyte, points=POINTS, stretch=0.0)
        count, n = len(state_of_charge), POINTS[0]
        self.cell, self.count = cell, count
        pair = (cell.negative, cell.positive)
        per_rate = exact.per_density[:, 0].numpy() * cell.capacity / cell.area  # A m-2
        shelled = [k for k, e in enumerate(pair) if e.diffusivity_ratio is not None]
        rates = [np.empty(0) if k in shelled else pair[k].memory_rates for k in range(2)]
        self.remembered = len(rates[0]) + len(rates[1])
        self.rates = np.concatenate([*rates, 1 / np.asarray(memory_times)])
        weights = np.zeros((2, len(self.rates)))
        for k, own in enumerate((slice(len(rates[0])), slice(len(rates[0]), self.remembered))):
            if k not in shelled:
                weights[k, own] = memory_weights(pair[k])
        self.gradients = _single(-weights * per_rate[:, None])
        self.linear = torch.zeros(len(self.rates), count, dtype=SINGLE)
        self.rate = torch.zeros(2, count, dtype=SINGLE)  # C-rates before and after the step
        self.charge = torch.zeros(count, dtype=torch.float64)  # C-rate times s
        self.start = exact.start
        self.per_charge = exact.particles.per_charge[:, None] * torch.as_tensor(per_rate)[:, None]
        self.shelled = shelled
        if shelled:
            electrodes = [pair[k] for k in shelled]
            self.shells = Shells(electrodes, self.start[shelled], dtype=SINGLE)
            self.flux_per_rate = _single(per_rate[shelled, None])
        # the salt, relative to rest
        rest = cell.concentration
        self.capacity = _single(exact.salt.porosity * exact.salt.widths)
        self.half = _single(exact.salt.half)
        self.source = _single(exact.source * exact.salt.widths * cell.capacity / cell.area / rest)
        self.scale = _single(exact.diffusivity_scale)
        # the features' ends are those of the mesh that was trained on
        fine = graded(1.0, FINE[0], STRETCH)[0] * n
        self.end = (1 - fine**2) / 6
        self.third = 1 / (3 * self.scale)
        self.per_diffusivity = _single(1 / cell.diffusivity)
        self.to_row = rest / (CONCENTRATIONS[1] - CONCENTRATIONS[0])
        self.row_zero = -CONCENTRATIONS[0] + 0.5
        self.salt = torch.ones(len(self.capacity), count, dtype=SINGLE)
        self.salt_change = torch.zeros_like(self.salt)  # over the step before, a second
        # the voltage
        share = np.zeros((2, 2 * n))
        share[0, :n], share[1, n:] = exact.share[:, 0, 0], exact.share[:, 1, 0].flip(0)
        self.share = _single(share)
        # 2 j0 / j at unit C-rate, less what depends on state
        self.exchange = _single(
            2 * exact.rate * np.sqrt(rest) / torch.as_tensor(per_rate)[:, None]
        ).repeat_interleave(n, 0)
        mean = exact.salt.mean(exact.salt_now)
        kappa = exact.conductivity(mean) * exact.conductivity_scale
        self.resistance = _single(
            (exact.ionic / kappa + exact.solid) * cell.capacity / cell.area
        )  # V at 1C
        self.chi = _single(exact.chi * exact.factor(mean) * cell.thermal_voltage)
        self.table = [_table(e.potential, e.potential_known) for e in pair]
        self.features = torch.zeros(len(STATIC) + len(ACTIVE), count, dtype=SINGLE)
        given = dict(electrolyte or {})
        for name, scale in (
            ("log_diffusivity", "diffusivity_scale"),
            ("log_conductivity", "conductivity_scale"),
            ("log_thermodynamic_factor", "thermodynamic_factor_scale"),
        ):
            values = np.log(np.asarray(given.get(scale, 1.0), dtype=float))
            self.features[STATIC.index(name)] = torch.tensor(values, dtype=SINGLE)
        shift = np.asarray(given.get("transference_number_shift", 0.0), dtype=float)
        self.features[STATIC.index("transference_number_shift")] = torch.tensor(shift)
        self._steps: dict[float, torch.Tensor] = {}
        self._room = torch.empty(3, *self.salt.shape, dtype=SINGLE)

    def advance(self, current: torch.Tensor, duration: float) -> torch.Tensor:
        """Step to `current` (A, discharge positive) in `duration` (s); return the voltages (V)."""
        rate = (current / self.cell.capacity).to(SINGLE)
        before = self.rate[1]
        self.rate = torch.stack([before, rate])
        if duration > 0:
            middle = 0.5 * (before + rate)
            self.charge += middle.double() * duration
            steps = self._coefficients(duration)
            self.linear.mul_(steps[:, :1]).addmm_(steps[:, 1:], self.rate)
            self._diffuse(middle, duration)
        if self.shelled:
            self.shells.hold(duration)
            self.shells.take(self.flux_per_rate * rate)
        return self._voltage(rate)

    def _coefficients(self, duration: float) -> torch.Tensor:
        if duration not in self._steps:
            product = self.rates * duration
            decay, mean = np.exp(-product), -np.expm1(-product) / product
            self._steps[duration] = _single(np.stack([decay, mean - decay, 1 - mean], 1))
        return self._steps[duration]

    def _diffuse(self, rate: torch.Tensor, duration: float) -> None:
        c = self.salt
        middle = torch.add(c, self.salt_change, alpha=0.5 * duration)
        row = middle.mul_(self.to_row).add_(self.row_zero).clamp_(0, len(CONCENTRATIONS) - 1)
        resistance = self.half * self.per_diffusivity[row.int()]
        conductance = self.scale / (resistance[1:] + resistance[:-1])
        right = self.source * rate
        bent = c - resistance.mul_(self.third).mul_(self.capacity * self.salt_change - right)
        flux = conductance * (bent[1:] - bent[:-1])
        right[:-1] += flux
        right[1:] -= flux
        conductance *= 0.5  # trapezoidal rule
        ratio, diagonal, x = self._room
        diagonal.copy_((self.capacity / duration).expand_as(diagonal))
        diagonal[:-1] += conductance
        diagonal[1:] += conductance
        pivot = diagonal[0]
        torch.div(right[0], pivot, out=x[0])
        for k in range(1, len(c)):
            torch.div(conductance[k - 1], pivot, out=ratio[k - 1])
            pivot = torch.addcmul(diagonal[k], conductance[k - 1], ratio[k - 1], value=-1)
            torch.addcmul(right[k], conductance[k - 1], x[k - 1], out=x[k])
            x[k] /= pivot
        for k in range(len(c) - 2, -1, -1):
            x[k].addcmul_(ratio[k], x[k + 1])
        torch.mul(x, 1 / duration, out=self.salt_change)
        self.salt = c + x

    def _voltage(self, rate: torch.Tensor) -> torch.Tensor:
        n, many, a = POINTS[0], len(SHAPES), len(STATIC)
        f = self.features
        mean = (self.start - self.per_charge * self.charge).to(SINGLE)
        gradient = self.gradients @ self.linear
        if self.shelled:
            gradient[self.shelled] = self.shells.x[-1] - mean[self.shelled]
        surface = (mean + gradient).clamp_(SURFACE_MARGIN, 1 - SURFACE_MARGIN)
        local = torch.cat([self.salt[:n], self.salt[-n:]])
        local.clamp_min_(LOWEST_CONCENTRATION / self.cell.concentration)
        root = (surface * (1 - surface)).sqrt_().repeat_interleave(n, 0)
        ratio = rate / (root.mul_(self.exchange).mul_(local.sqrt()))
        # asinh, in functions that are quick in single precision
        size = ratio.abs()
        eta = (size + (size * size).add_(1).sqrt_()).log_().copysign_(ratio)
        both = torch.stack([eta, local.log()], 1).view(2 * n, -1)
        eta, log = (self.share @ both).view(2, 2, -1).unbind(1)
        place = surface * (ROWS - 1)
        row = place.int()
        within = place - row
        read = [self.table[k].index_select(0, row[k]).T for k in range(2)]
        potential = [read[k][0] + within[k] * read[k][1] for k in range(2)]
        thermal = 2 * self.cell.thermal_voltage
        voltage = (
            potential[1]
            - potential[0]
            + thermal * (eta[1] - eta[0])
            + self.chi * (log[1] - log[0])
            - rate * self.resistance
        )
        f[0:2] = mean
        f[2 : 2 + many] = read[0][2:]
        f[2 + many : 2 + 2 * many] = read[1][2:]
        f[a] = rate
        f[a + 1 : a + 3] = gradient
        torch.matmul(self.share[:, : 2 * n], local, out=f[a + 3 : a + 5])
        c = self.salt
        torch.sub(c[0], c[1] - c[0], alpha=self.end, out=f[a + 5])
        torch.sub(c[-1], c[-2] - c[-1], alpha=self.end, out=f[a + 6])
        torch.log(f[a + 3 : a + 7].clamp_min(LEAST_SALT), out=f[a + 7 : a + 11])
        f[a + 3 : a + 7] -= 1
        f[a + 11 :] = self.linear[self.remembered :]
        return voltage


def _single(values: np.ndarray | torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values).to(SINGLE)


def _table(potential: np.ndarray, known: tuple[float, float]) -> torch.Tensor:
    """Rows over stoichiometry 0 to 1: potential (V), its change to the next row, the shapes."""
    x = np.linspace(0, 1, ROWS)
    u = np.interp(x, STOICHIOMETRIES, potential)
    about = shapes(
        lambda at: np.interp(at, STOICHIOMETRIES, potential),
        x,
        kept=lambda at: np.clip(at, *known),
    )
    scaled = [
        np.arcsinh(about[name] / (SLOPE_SCALE if name.startswith("slope") else CURVATURE_SCALE))
        for name in SHAPES
    ]
    return _single(np.stack([u, np.append(np.diff(u), 0.0), *scaled], 1))
