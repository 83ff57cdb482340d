"""What the batched P2D and SPMe share: mesh, tables, salt diffusion, particles at rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from couplers.residual.parameters import CONCENTRATIONS, STOICHIOMETRIES, Cell
from couplers.residual.particles import particles

ELECTROLYTE = (
    "diffusivity_scale",
    "conductivity_scale",
    "transference_number_shift",
    "thermodynamic_factor_scale",
)
LOWEST_CONCENTRATION = 1.0  # mol m-3, below which a table is not read
SURFACE_MARGIN = 1e-4  # stoichiometries are kept this far from 0 and 1


class Table:
    """A function on a uniform grid, linear in between; `both` gives its slope too.

    Rows of values are a function each, told apart by the dim before the last of what is looked up.
    """

    def __init__(self, grid: np.ndarray, values: np.ndarray) -> None:
        self.first = float(grid[0])
        self.step = float(grid[1] - grid[0])
        self.last = len(grid) - 2
        rows = np.atleast_2d(values)
        self.values = torch.as_tensor(rows[:, :-1].ravel())
        self.slopes = torch.as_tensor((np.diff(rows) / self.step).ravel())
        self.starts = torch.arange(len(rows), dtype=torch.int32)[:, None] * (self.last + 1)

    def both(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Value and slope."""
        over = x - self.first
        index = (over / self.step).detach().int().clamp_(0, self.last)
        over = over - index * self.step
        if len(self.starts) > 1:
            index += self.starts
        # several times as quick as values[index]
        flat = index.reshape(-1)
        slope = self.slopes.index_select(0, flat).view(x.shape)
        return self.values.index_select(0, flat).view(x.shape).addcmul(over, slope), slope

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Value."""
        return self.both(x)[0]


def arsinh(x: torch.Tensor) -> torch.Tensor:
    """Inverse hyperbolic sine, to an absolute rounding error; quicker than that of torch."""
    size = x.abs()
    return (size + (size * size).add_(1).sqrt_()).log_().copysign(x)


@dataclass(frozen=True)
class Electrolytes:
    """The electrolyte of each cell of a batch, relative to the cell's own; arrays (cell,)."""

    diffusivity_scale: torch.Tensor
    conductivity_scale: torch.Tensor
    transference_number_shift: torch.Tensor
    thermodynamic_factor_scale: torch.Tensor


def electrolytes(draws: Mapping[str, np.ndarray] | None, count: int) -> Electrolytes:
    """Fill in what is not drawn, and refuse what is not known or not possible."""
    draws = dict(draws or {})
    unknown = sorted(set(draws) - set(ELECTROLYTE))
    if unknown:
        raise ValueError(f"The electrolyte has no {unknown}, expected names from {ELECTROLYTE}.")
    filled = {}
    for name in ELECTROLYTE:
        neutral = 0.0 if name.endswith("shift") else 1.0
        values = np.broadcast_to(np.asarray(draws.get(name, neutral), dtype=float), (count,))
        low = -1.0 if name.endswith("shift") else 0.0
        if not (np.isfinite(values).all() and (values > low).all()):
            raise ValueError(f"{name} must be finite and above {low:g}.")
        filled[name] = torch.as_tensor(values.copy())
    return Electrolytes(**filled)


def graded(thickness: float, count: int, stretch: float) -> np.ndarray:
    """Widths (m) of `count` cells that narrow towards the end by exp(-stretch) in all."""
    widths = np.exp(-stretch * np.linspace(0, 1, count)) if count > 1 else np.ones(1)
    return widths * thickness / widths.sum()


def tridiagonal(
    lower: torch.Tensor, diagonal: torch.Tensor, upper: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """Solve tridiagonal systems along the first dim for all the others at once.

    ``lower[k]`` multiplies ``x[k]`` in row ``k + 1`` and ``upper[k]`` multiplies ``x[k + 1]`` in
    row ``k``.
    """
    n = diagonal.shape[0]
    ratio, x = torch.empty_like(diagonal), torch.empty_like(right)
    pivot = diagonal[0]
    x[0] = right[0] / pivot
    for k in range(1, n):
        torch.div(upper[k - 1], pivot, out=ratio[k - 1])
        pivot = torch.addcmul(diagonal[k], lower[k - 1], ratio[k - 1], value=-1)
        torch.addcmul(right[k], lower[k - 1], x[k - 1], value=-1, out=x[k])
        x[k] /= pivot
    for k in range(n - 2, -1, -1):
        x[k].addcmul_(ratio[k], x[k + 1], value=-1)
    return x


class Salt:
    r"""Diffusion of the salt through the three layers, finite volumes in space.

    .. math::
        \epsilon \partial_t c = \partial_x (\epsilon^b D(c) \partial_x c)
        + (1 - t_+) a j / F

    One step is the trapezoidal rule with the diffusivity at the step's middle, which conserves
    the salt to rounding.
    """

    def __init__(self, cell: Cell, points: tuple[int, int], stretch: float) -> None:
        n, s = points
        left = graded(cell.negative.thickness, n, stretch)
        right = graded(cell.positive.thickness, n, stretch)[::-1]
        middle = np.full(s, cell.separator_thickness / s)
        porosities = (cell.negative.porosity, cell.separator_porosity, cell.positive.porosity)
        transports = (
            cell.negative.electrolyte_transport,
            cell.separator_transport,
            cell.positive.electrolyte_transport,
        )
        counts = (n, s, n)
        self.points = points
        self.widths = torch.as_tensor(np.concatenate([left, middle, right]))[:, None]
        self.porosity = torch.as_tensor(np.repeat(porosities, counts))[:, None]
        self.transport = torch.as_tensor(np.repeat(transports, counts))[:, None]
        self.table = Table(CONCENTRATIONS, cell.diffusivity)
        self.half = self.widths / (2 * self.transport)

    def step(
        self,
        before: torch.Tensor,
        guess: torch.Tensor,
        source: torch.Tensor,
        scale: torch.Tensor,
        duration: float,
        implicit: float,
    ) -> torch.Tensor:
        """Concentrations (mol m-3) (x, cell) after a step; `source` in mol m-3 s-1 of volume."""
        middle = (0.5 * (before + guess)).clamp_min(LOWEST_CONCENTRATION)
        resistance = self.half / (self.table(middle) * scale)
        conductance = 1 / (resistance[1:] + resistance[:-1])
        flux = conductance * (before[1:] - before[:-1])
        right = source * self.widths
        right[:-1] += flux
        right[1:] -= flux
        inner = implicit * conductance
        diagonal = (self.porosity * self.widths / duration).expand_as(before).clone()
        diagonal[:-1] += inner
        diagonal[1:] += inner
        return before + tridiagonal(-inner, diagonal, -inner, right)

    def ends(self, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split the negative and the positive electrode off, both from collector inwards."""
        n, s = self.points
        return c[:n], c[n + s :].flip(0)

    def mean(self, c: torch.Tensor) -> torch.Tensor:
        """Mean concentration at which SPMe takes its conductivity, as PyBaMM 26.10 forms it.

        The mean of the salt in the pores times the mean of 1 / porosity, both by length: no plain
        mean of c, but a constant, for the salt is conserved.
        """
        length = self.widths.sum()
        salt = (self.widths * self.porosity * c).sum(0) / length
        return salt * ((self.widths / self.porosity).sum() / length)


class Batch:
    """What a batch of cells holds, whichever model runs it: meshes, tables, electrolytes, start.

    Of the electrodes' arrays the dim before the last is the electrode, negative first, and `local`
    are the widths (m) of their mesh cells from the collector inwards. `places` is the number of
    places in an electrode that have a particle of their own, or nothing.
    """

    def __init__(
        self,
        cell: Cell,
        state_of_charge: np.ndarray,
        electrolyte: Mapping[str, np.ndarray] | None,
        points: tuple[int, int],
        stretch: float,
        places: tuple[int, ...] = (),
    ) -> None:
        count = len(state_of_charge)
        n, s = points
        pair = (cell.negative, cell.positive)
        self.cell, self.points = cell, points
        self.salt = Salt(cell, points, stretch)
        self.open_circuit = tuple(Table(STOICHIOMETRIES, e.potential) for e in pair)
        self.conductivity = Table(CONCENTRATIONS, cell.conductivity)
        self.factor = Table(CONCENTRATIONS, cell.thermodynamic_factor)
        drawn = electrolytes(electrolyte, count)
        self.diffusivity_scale = drawn.diffusivity_scale
        self.conductivity_scale = drawn.conductivity_scale
        self.transference = cell.transference_number + drawn.transference_number_shift
        self.chi = 2 * (1 - self.transference) * drawn.thermodynamic_factor_scale
        widths = self.salt.widths[:, 0]
        self.local = torch.stack([widths[:n], widths[n + s :].flip(0)], 1)[..., None]
        self.rate = column([e.rate for e in pair])
        soc = torch.as_tensor(np.asarray(state_of_charge, dtype=float))
        empty = column([e.stoichiometry_empty for e in pair])
        full = column([e.stoichiometry_full for e in pair])
        self.start = empty + soc * (full - empty)  # mean stoichiometry (2, cell)
        self.particles = particles(cell, self.start, places)
        self.salt_now = torch.full((len(widths), count), cell.concentration, dtype=torch.float64)
        self.density = torch.zeros(count, dtype=torch.float64)  # A m-2
        self.imbalance = torch.zeros(count, dtype=torch.float64)  # V, what an iteration left

    @property
    def mean(self) -> torch.Tensor:
        """Mean stoichiometries of the particles (..., electrode, cell)."""
        return self.particles.mean

    def rest(self, which: torch.Tensor) -> None:
        """Put cells that have ended at rest, half full: they cannot disturb the others then."""
        self.particles.rest(which)
        self.salt_now[:, which] = self.cell.concentration
        self.density[which] = 0.0


def column(values: Sequence[float]) -> torch.Tensor:
    """A number for each electrode, to go with arrays (electrode, cell)."""
    return torch.tensor(values, dtype=torch.float64)[:, None]
