r"""SPMe with an uneven reaction, batched in torch: `continuum.cell_modes.ModalSPMe` of many cells.

Nothing is learnt from P2D and nothing is fitted to it, so that a cell without a corrector, or an
electrolyte that no corrector has seen, asks for no training. Over eight published sets it leaves
0.001 to 0.25 mV RMS of a set of profiles, 12 times less than SPMe or better, at a fifth of the cost
of P2D (`benchmarks/residual_modal.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from continuum.cell_modes import ORDER
from couplers.residual.layers import (
    LOWEST_CONCENTRATION,
    SURFACE_MARGIN,
    Batch,
    Table,
    arsinh,
    column,
    tridiagonal,
)
from couplers.residual.p2d import follow
from couplers.residual.parameters import CONCENTRATIONS, FARADAY, STOICHIOMETRIES, Cell

POINTS, STRETCH = (12, 6), 1.2
NEWTON = 6
CLOSE = 1e-3  # V, by which Ohm's law may be missed before the last iteration
SWEEPS, MOST_OWED = 4, 3.0  # mol m-3, what the salt may miss of a step
LEAST_STIFF = 1e-9  # ohm m2, of a reaction
FEWER = 2  # modes, of the run whose distance tells what is left
FLOOR = 2e-5  # V, of the doubt
FACTOR = 1.3  # half width of the 90 % band in doubts, see `benchmarks/residual_modal.py`
_ONE = torch.ones((), dtype=torch.float64)


class Modal(Batch):
    r"""State of a batch of cells; `advance` takes it over one step of time.

    The equations are those of `continuum.cell_modes`, with the mean reaction as their mode 0,
    :math:`j_0 = I / aL`. With :math:`\varphi_0 = \xi`, :math:`\varphi_m = \sin(m\pi\xi) / m\pi` the
    ionic current is :math:`i_\mathrm{e} = aL \sum_m j_m \varphi_m`, and

    .. math::
        R_m = \left\langle (g + \psi) \cos m \pi \xi \right\rangle + a L^2 \sum_k \left(
        \left\langle \frac{\varphi_m \varphi_k}{\kappa} \right\rangle
        + \frac{\langle \vartheta_m \vartheta_k \rangle}{\sigma} \right) j_k,
        \qquad \vartheta_m = \varphi_m - \delta_{0m}

    is 0 by Ohm's law for :math:`m \ge 1`, while :math:`R_0` is the electrode's share of the
    voltage. The particles at the places :math:`\xi_k = (2k + 1) / (2M + 2)` are those of
    `couplers.residual.particles`, and their surfaces, within a step linear in the flux, are joined
    by cosines. Newton's method starts from how the modes answered a change of the current in the
    step before. This guess moves the salt too; what it misses by little, the salt gets in the next
    step, and by more at once. Means over an electrode are Gauss's. The salt takes one step of the
    trapezoidal rule with its diffusivity at the middle, reckoned from the step before, and its mesh
    cells are averages over parabolas,

    .. math:: c_\mathrm{face} = \bar c \pm \tfrac h2 c'_\mathrm{face} - \tfrac{h^2}{6} c'',
        \qquad \epsilon \dot c - S = \epsilon^b D c''

    Parameters
    ----------
    cell : Cell
        Of `couplers.residual.parameters.read_cell`.
    state_of_charge : numpy.ndarray
        State of charge (1) of each cell at the start, at rest.
    order : int
        Number of modes (1) in each electrode.
    electrolyte : mapping, optional
        Electrolyte (1) of each cell relative to the set's own, names as in
        `couplers.residual.layers.ELECTROLYTE`.
    points : pair of int
        Mesh cells (1) of the salt in each electrode and in the separator.
    stretch : float
        Logarithm (1) of the first over the last of their widths in an electrode.
    gauss : int, optional
        Number of Gauss's points (1) in an electrode; two for each mode and two more if not given.

    Raises
    ------
    ValueError
        For an order below one, or an electrolyte that is not possible.
    """

    def __init__(
        self,
        cell: Cell,
        state_of_charge: np.ndarray,
        *,
        order: int = ORDER,
        electrolyte: Mapping[str, np.ndarray] | None = None,
        points: tuple[int, int] = POINTS,
        stretch: float = STRETCH,
        gauss: int | None = None,
    ) -> None:
        if order < 1:
            raise ValueError(f"order is {order}, expected 1 or more modes; SPMe itself has none.")
        super().__init__(cell, state_of_charge, electrolyte, points, stretch, (order + 1,))
        count, pair = len(state_of_charge), (cell.negative, cell.positive)
        self.order = order
        surface = [e.area_density * e.thickness for e in pair]
        self.per_density = column([1.0, -1.0]) / column(surface)
        self.potentials = Table(STOICHIOMETRIES, np.stack([e.potential for e in pair]))
        steps = np.diff(np.log(CONCENTRATIONS))
        factor = 0.5 * (cell.thermodynamic_factor[1:] + cell.thermodynamic_factor[:-1])
        self.salt_potential = Table(CONCENTRATIONS, np.append(0.0, np.cumsum(steps * factor)))
        self.through = 1 - self.transference
        self.per_owed = column([e.area_density / (FARADAY * e.porosity) for e in pair])
        self.capacity = self.salt.porosity * self.salt.widths
        self._means(2 * order + 2 if gauss is None else gauss)
        self._spread_to_salt()
        self.modes = torch.zeros(order, 2, count, dtype=torch.float64)  # A m-2, of the reaction
        self.flux = torch.zeros(2, count, dtype=torch.float64)  # A m-2, its mean
        self.gain = torch.zeros_like(self.modes)  # of the modes in the mean
        self.owed = torch.zeros_like(self.modes)  # A s m-2, of what the salt has not seen yet
        self.salt_change = torch.zeros_like(self.salt_now)  # over the step before
        self.before = 0.0  # s, its duration

    def advance(
        self, current: torch.Tensor, duration: float, implicit: float = 0.5
    ) -> torch.Tensor:
        """Step to `current` (A, discharge positive) in `duration` (s); return the voltages (V)."""
        density = current / self.cell.area
        flux = self.per_density * density
        held, slope = self.particles.hold(duration)
        modes = self.modes + self.gain * (flux - self.flux)
        salt = self.salt_now
        for _ in range(SWEEPS):
            guess = modes
            if duration > 0:
                salt = self._diffused(guess, flux, duration, implicit)
            modes, voltage = self._ohm(guess, flux, held, slope, salt)
            owed = 0.5 * duration * (modes - guess)
            if not bool(((owed * self.per_owed).abs() > MOST_OWED).any()):
                break
        self.particles.take(flux + torch.tensordot(self.in_places, modes, 1))
        if duration > 0:
            self.salt_change, self.before = salt - self.salt_now, duration
        self.modes, self.flux, self.owed = modes, flux, owed
        self.salt_now, self.density = salt, density
        return voltage - density * self.separator

    def rest(self, which: torch.Tensor) -> None:
        """Put some cells at rest, half full."""
        super().rest(which)
        for values in (self.modes, self.flux, self.gain, self.owed):
            values[..., which] = 0.0
        self.salt_change[:, which] = 0.0

    def _means(self, gauss: int) -> None:
        """Matrices from values at Gauss's points to means, and the solid's part of Ohm's law."""
        pair, order = (self.cell.negative, self.cell.positive), self.order
        place, weight = np.polynomial.legendre.leggauss(gauss)
        xi, weight = 0.5 * (place + 1), 0.5 * weight
        number = np.pi * np.arange(1, order + 1)
        cosine = np.cos(np.append(0.0, number)[:, None] * xi)
        ionic = np.concatenate([xi[None], np.sin(number[:, None] * xi) / number[:, None]])
        self.place = xi
        self.uneven = torch.as_tensor(cosine[1:].T.copy())
        places = (np.arange(order + 1) + 0.5) / (order + 1)
        self.in_places = torch.as_tensor(np.cos(places[:, None] * number))
        # their cosines are orthogonal
        self.between = (1 + 2 * self.uneven @ self.in_places.T) / (order + 1)
        # few points miss the mean of a cosine, and at rest that is all there is to see
        projection = cosine * weight
        projection[1:] -= projection[1:].sum(1, keepdims=True) * weight
        self.mean_of = torch.as_tensor(projection)
        self.mean_of_products = torch.as_tensor(cosine[:, None] * cosine * weight)
        self.mean_of_ionic = torch.as_tensor(ionic[:, None] * ionic[None] * weight)
        solid = np.diag(np.append(1 / 3, 0.5 / number**2))
        solid[0, 1:] = solid[1:, 0] = -1 / number**2
        square = column([e.area_density * e.thickness**2 for e in pair])
        self.in_solid = torch.as_tensor(solid)[..., None, None] * (
            square / column([e.conductivity for e in pair])
        )
        self.in_salt = square / column([e.electrolyte_transport for e in pair])

    def _spread_to_salt(self) -> None:
        """Matrices from the modes to the salt's mesh, and from there to Gauss's points."""
        n, s = self.points
        order, gauss = self.order, len(self.place)
        number = np.pi * np.arange(1, order + 1)[:, None]
        moved = np.zeros((2 * n + s, order + 1, 2))
        found = np.zeros((gauss, 2, 2 * n + s))
        for k, e in enumerate((self.cell.negative, self.cell.positive)):
            widths = self.local[:, k, 0].numpy()
            behind = np.append(0.0, widths.cumsum())
            mesh = slice(n) if k == 0 else slice(None, n + s - 1, -1)
            integral = np.concatenate([behind[None], np.sin(number * behind / e.thickness)])
            integral[1:] *= e.thickness / number
            moved[mesh, :, k] = np.diff(integral).T * e.area_density / FARADAY
            # of a spline of the salt behind a point, which keeps that of each mesh cell
            salt = np.concatenate([np.zeros((1, n)), np.diag(widths).cumsum(0)])
            spline = CubicSpline(behind, salt, bc_type=((2, np.zeros(n)), "not-a-knot"))
            found[:, k, mesh] = spline(self.place * e.thickness, 1)
        self.moved = torch.as_tensor(moved).view(2 * n + s, -1)
        self.at_points = torch.as_tensor(found).view(2 * gauss, -1)

    def _diffused(
        self, guess: torch.Tensor, flux: torch.Tensor, duration: float, implicit: float
    ) -> torch.Tensor:
        """Salt (mol m-3) at the end of the step, of the mean reaction and the guessed modes."""
        now = self.salt_now
        uneven = 0.5 * (self.modes + guess) + self.owed / duration
        reaction = torch.cat([0.5 * (self.flux + flux)[None], uneven])
        right = (self.moved @ reaction.view(-1, now.shape[1])).mul_(self.through)
        reach = 0.5 * min(duration / self.before, 1.0) if self.before > 0 else 0.0
        middle = torch.add(now, self.salt_change, alpha=reach).clamp_min_(LOWEST_CONCENTRATION)
        resistance = self.salt.half / (self.salt.table(middle) * self.diffusivity_scale)
        conductance = 1 / (resistance[1:] + resistance[:-1])
        capacity, third = self.capacity / duration, resistance.div_(3)
        share = implicit - third * capacity
        bent = torch.addcmul(now, third, right)
        through = conductance * (bent[1:] - bent[:-1])
        right[:-1] += through
        right[1:] -= through
        diagonal = torch.zeros_like(now)
        diagonal[:-1] += conductance
        diagonal[1:] += conductance
        diagonal.mul_(share).add_(capacity)
        conductance.neg_()
        lower, upper = conductance * share[:-1], conductance * share[1:]
        return now + tridiagonal(lower, diagonal, upper, right)

    def _ohm(
        self,
        modes: torch.Tensor,
        flux: torch.Tensor,
        held: torch.Tensor,
        slope: torch.Tensor,
        salt: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The modes, of particles with surfaces ``held - slope * flux``; and the voltages."""
        n, s = self.points
        thermal, order = self.cell.thermal_voltage, self.order
        c = salt.clamp_min(LOWEST_CONCENTRATION)
        shape = (-1, 2, c.shape[1])
        local = (self.at_points @ c).clamp_min_(LOWEST_CONCENTRATION).view(shape)
        psi = (self.chi * thermal) * self.salt_potential(local)
        root = local.sqrt().mul_(2 * self.rate)
        resistance = (self.conductivity(local) * self.conductivity_scale).reciprocal_()
        law = (
            torch.tensordot(self.mean_of_ionic, resistance, 1)
            .mul_(self.in_salt)
            .add_(self.in_solid)
        )
        across = (self.salt.half[n : n + s] / self.conductivity(c[n : n + s])).sum(0)
        self.separator = 2 * across / self.conductivity_scale
        steep = slope if slope.ndim == 2 else torch.tensordot(self.between, slope, 1)
        for _ in range(NEWTON):
            j = flux + torch.tensordot(self.uneven, modes, 1)
            here = flux + torch.tensordot(self.in_places, modes, 1)
            x = torch.tensordot(self.between, held - slope * here, 1)
            g, gradient = self.potentials.both(x.clamp_(SURFACE_MARGIN, 1 - SURFACE_MARGIN))
            within = x * (1 - x)
            exchange = within.sqrt().mul_(root)
            ratio = j / exchange
            steepness = (2 * thermal) * torch.addcmul(_ONE, ratio, ratio).rsqrt_()
            g.add_(arsinh(ratio), alpha=2 * thermal).add_(psi)
            kinetic = steepness / exchange
            gradient.sub_(steepness.mul_(ratio).mul_(0.5 - x).div_(within))
            stiff = torch.addcmul(kinetic, steep, gradient, value=-1).clamp_min_(LEAST_STIFF)
            all_modes = torch.cat([flux[None], modes])
            missed = torch.tensordot(self.mean_of, g, 1) + (law * all_modes).sum(1)
            matrix = torch.cat(
                [torch.tensordot(self.mean_of_products, stiff, 1) + law, missed[:, None]], 1
            )
            # Gauss and Jordan leave the modes' changes in the last column, and its first row is
            # what they change the voltage to
            for k in range(1, order + 1):
                row, others = matrix[k] / matrix[k, k], matrix[:, k, None].clone()
                matrix.addcmul_(others, row, value=-1)
                matrix[k] = row
            modes = modes - matrix[1:, -1]
            away = missed[1:].abs().amax((0, 1))
            if not bool((away >= CLOSE).any()):
                break
        self.gain = -matrix[1:, 0]
        self.imbalance = away * away / thermal  # what the last iteration leaves
        return modes, matrix[0, -1, 1] - matrix[0, -1, 0]


def voltages(
    cell: Cell,
    current: np.ndarray,
    time: np.ndarray,
    *,
    state_of_charge: np.ndarray,
    electrolyte: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Voltages of many cells along a current each, and how far they may be from P2D's.

    .. math::
        \delta(t) = \max_{t' \le t} \left| V(t') - V_2(t') \right| + \delta_0

    of `Modal` and of a run with `FEWER` modes: a few more would change the voltage by about as much
    less again. `FACTOR` times this doubt is a band for 90 % of profiles, from start to end: the
    most that any of eight published sets asks for, and more than enough for most of them
    (`benchmarks/residual_modal.py`).

    Parameters
    ----------
    cell, state_of_charge, electrolyte
        As `Modal` takes them.
    current : numpy.ndarray
        Current (A) with the dims (draw, time), discharge positive, linear between the points.
    time : numpy.ndarray
        Time (s), rising from 0.

    Returns
    -------
    voltage, doubt : numpy.ndarray
        In V with the dims (draw, time), nan after a cell has left its voltage window or its salt is
        used up; the doubt is infinite where that is so of the run with fewer modes alone.
    """
    voltage, fewer = (
        follow(Modal(cell, state_of_charge, order=order, electrolyte=electrolyte), current, time)[
            "voltage"
        ].values
        for order in (ORDER, FEWER)
    )
    apart = np.where(np.isfinite(fewer), np.abs(voltage - fewer), np.inf)
    doubt = np.maximum.accumulate(np.where(np.isfinite(voltage), apart, 0.0), axis=1) + FLOOR
    return voltage, np.where(np.isfinite(voltage), doubt, np.nan)
