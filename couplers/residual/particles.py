r"""Spherical particles of many cells at once: exact modes, or shells where diffusion is not linear.

Within a step the stoichiometry at a particle's surface is linear in the flux :math:`j` (A m-2,
positive out of the particle) at the step's end, and whoever asks for it settles the flux:

.. math:: x_\mathrm{surf} = h - s j

`hold` gives :math:`h` and :math:`s`, `take` ends the step with the flux that was found. All arrays
have the dims (..., electrode, cell), the first ones being places in the electrode, if there are
any. Besides, `mean` is the mean stoichiometry and `flux` the flux, where the last step ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from continuum.cell_particles import ladder
from couplers.residual.parameters import FARADAY, STOICHIOMETRIES, Cell, Electrode

ROWS = 8001  # of the tables of the diffusivities
GAMMA = 1 - np.sqrt(0.5)  # share of a step that each of its two stages is implicit for


class Modes:
    r"""Particles of constant diffusivity: low-pass memories of their flux.

    .. math::
        x_\mathrm{surf} = \bar x - \sum_k w_k m_k, \qquad \dot m_k = r_k (j - m_k)

    exact for a flux that is linear over the step. A shorter list of memories is filled up with
    memories of no weight.

    Parameters
    ----------
    electrodes : sequence of Electrode
        Of constant diffusivity.
    start : torch.Tensor
        Stoichiometry (1) at rest, (electrode, cell).
    places : tuple of int
        Number of places (1) in an electrode, or nothing.
    """

    def __init__(
        self, electrodes: Sequence[Electrode], start: torch.Tensor, places: tuple[int, ...] = ()
    ) -> None:
        count = max(len(e.memory_rates) for e in electrodes)
        rates, weights = np.ones((count, len(electrodes))), np.zeros((count, len(electrodes)))
        for k, e in enumerate(electrodes):
            rates[: len(e.memory_rates), k] = e.memory_rates
            weights[: len(e.memory_weights), k] = memory_weights(e)
        self.rates, self.weights = torch.as_tensor(rates), torch.as_tensor(weights)
        self.per_charge = _per_charge(electrodes)
        self.mean = start.expand(*places, *start.shape).clone()
        self.flux = torch.zeros_like(self.mean)
        self.memory = torch.zeros(count, *self.mean.shape, dtype=torch.float64)
        self._broad = (count, *(1 for _ in places), len(electrodes), 1)
        self._steps: dict[float, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def hold(self, duration: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the surface would be without flux at the end of a step (s), and what it takes."""
        decay, start, end = self._coefficients(duration)
        self.memory.mul_(decay.view(self._broad)).addcmul_(start.view(self._broad), self.flux)
        half = 0.5 * duration * self.per_charge
        self.mean = self.mean - half[:, None] * self.flux
        self._end, self._half = end, half[:, None]
        held = self.mean - (self.weights.view(self._broad) * self.memory).sum(0)
        return held, ((self.weights * end).sum(0) + half)[:, None]

    def take(self, flux: torch.Tensor) -> None:
        """End the step with this flux (A m-2)."""
        self.memory.addcmul_(self._end.view(self._broad), flux)
        self.mean = self.mean - self._half * flux
        self.flux = flux

    def rest(self, which: torch.Tensor) -> None:
        """Put some cells at rest, half full."""
        self.memory[..., which] = 0.0
        self.mean[..., which] = 0.5
        self.flux[..., which] = 0.0

    def _coefficients(self, duration: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decay and the shares of the flux at the start and at the end of a step."""
        if duration not in self._steps:
            product = self.rates * duration
            if duration == 0:
                nothing = torch.zeros_like(product)
                self._steps[duration] = (torch.ones_like(product), nothing, nothing)
            else:
                decay = torch.exp(-product)
                slope = -torch.expm1(-product) / product
                self._steps[duration] = (decay, slope - decay, 1 - slope)
        return self._steps[duration]


class Shells:
    r"""Particles whose diffusivity depends on the stoichiometry: nested shells.

    .. math::
        V_k \dot x_k = g_k (x_{k+1} - x_k) - g_{k-1} (x_k - x_{k-1}), \qquad
        V_N \dot x_N = -g_{N-1} (x_N - x_{N-1}) - j, \qquad x_\mathrm{surf} = x_N

    with :math:`g_k` the conductance :math:`G_k` times the mean of :math:`D(x)` over
    :math:`x_k \dots x_{k+1}` by Simpson's rule, which is what a steady flux sees. Volumes :math:`V`
    and conductances :math:`G` are those of `continuum.cell_particles.ladder`: were :math:`D`
    constant, the surface would answer just as the memories do. A step has two implicit stages with
    the diffusivities at its middle, reckoned from the step before; it is of second order, damps
    what is quicker than the step, and conserves the lithium to rounding.

    Parameters
    ----------
    electrodes : sequence of Electrode
        With a `diffusivity_ratio`, or without.
    start : torch.Tensor
        Stoichiometry (1) at rest, (electrode, cell).
    places : tuple of int
        Number of places (1) in an electrode, or nothing.
    dtype : torch.dtype
        Of the shells.

    References
    ----------
    Alexander, SIAM J. Numer. Anal. 14, 1006 (1977), https://doi.org/10.1137/0714068
    """

    def __init__(
        self,
        electrodes: Sequence[Electrode],
        start: torch.Tensor,
        places: tuple[int, ...] = (),
        *,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        found = [ladder(_relative_rates(e), e.memory_weights) for e in electrodes]
        count = max(len(volumes) for volumes, _ in found)
        # a shorter ladder is filled up at the centre with shells of no volume
        volumes, conductances = (np.full((count - k, len(found)), float(k)) for k in (0, 1))
        for k, (e, (volume, conductance)) in enumerate(zip(electrodes, found, strict=True)):
            sites = e.particle_radius * e.maximum_concentration * FARADAY
            volumes[count - len(volume) :, k] = volume * sites
            conductances[count - len(volume) :, k] = (
                conductance * sites * e.particle_diffusivity / e.particle_radius**2
            )
        x = np.linspace(0, 1, ROWS)
        rows = [
            np.interp(x, STOICHIOMETRIES, e.diffusivity_ratio)
            if e.diffusivity_ratio is not None
            else np.ones(ROWS)
            for e in electrodes
        ]
        broad = (-1, *(1 for _ in places), len(found), 1)
        self.volumes = torch.as_tensor(volumes).to(dtype).view(broad)
        self.conductances = torch.as_tensor(conductances).to(dtype).view(broad)
        self.table = torch.as_tensor(np.concatenate(rows)).to(dtype)
        self.first = torch.arange(len(found), dtype=torch.int32)[:, None] * ROWS
        self.per_charge = _per_charge(electrodes)
        self.mean = start.expand(*places, *start.shape).clone()
        self.flux = torch.zeros(self.mean.shape, dtype=dtype)
        self.x = self.mean.to(dtype).expand(count, *self.mean.shape).clone()
        self.change = torch.zeros_like(self.x)  # over the step before
        self.before = 0.0  # s, its duration
        self._room = torch.empty(4, *self.x.shape, dtype=dtype)

    def hold(self, duration: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the surface would be without flux at the end of a step (s), and what it takes."""
        self.duration = duration
        x, volumes, top = self.x, self.volumes, len(self.x) - 1
        if duration == 0:
            return x[top], torch.zeros_like(x[top])
        middle = x
        if self.before > 0:
            reach = 0.5 * min(duration / self.before, 1.0)
            middle = torch.add(x, self.change, alpha=reach)
        implicit = GAMMA * duration
        ratios = self._ratios(middle)
        conductance = self._ratios(0.5 * (middle[1:] + middle[:-1])).mul_(4)
        conductance.add_(ratios[1:]).add_(ratios[:-1]).mul_(implicit / 6 * self.conductances)
        # elimination from the centre to the surface, in terms that are all positive
        inverse, ratio, stage, answer = self._room
        pivot, right = volumes[0], volumes[0] * x[0]
        for k in range(top):
            torch.add(pivot, conductance[k], out=inverse[k]).reciprocal_()
            torch.mul(conductance[k], inverse[k], out=ratio[k])
            torch.mul(right, inverse[k], out=stage[k])
            pivot = torch.addcmul(volumes[k + 1], ratio[k], pivot)
            right = torch.addcmul(volumes[k + 1] * x[k + 1], ratio[k], right)
        torch.reciprocal(pivot, out=answer[top])
        torch.mul(right, answer[top], out=stage[top])
        for k in range(top - 1, -1, -1):
            stage[k].addcmul_(ratio[k], stage[k + 1])
            torch.mul(ratio[k], answer[k + 1], out=answer[k])
        # the second stage's right side without flux, and what the surface makes of it
        bent = (1 - GAMMA) / GAMMA
        stage.sub_(x).mul_(bent).add_(x)
        weighed = volumes * answer
        quadratic = (weighed * answer).sum(0)
        held = (weighed * stage).sum(0)
        held.addcmul_(quadratic, self.flux, value=-bent * implicit * (1 - GAMMA))
        slope = quadratic.mul_(1 - GAMMA).add_(answer[top]).mul_(implicit)
        return held, slope

    def take(self, flux: torch.Tensor) -> None:
        """End the step with this flux (A m-2)."""
        if self.duration == 0:
            self.flux = flux
            return
        inverse, ratio, stage, answer = self._room
        volumes, top, implicit = self.volumes, len(self.x) - 1, GAMMA * self.duration
        first_stage = (1 - GAMMA) * self.flux + GAMMA * flux
        stage.addcmul_(answer, first_stage, value=-(1 - GAMMA) / GAMMA * implicit)
        right = volumes[0] * stage[0]
        for k in range(top):
            torch.mul(right, inverse[k], out=stage[k])
            right = torch.addcmul(volumes[k + 1] * stage[k + 1], ratio[k], right)
        torch.mul(right.sub_(flux, alpha=implicit), answer[top], out=stage[top])
        for k in range(top - 1, -1, -1):
            stage[k].addcmul_(ratio[k], stage[k + 1])
        torch.sub(stage, self.x, out=self.change)
        self.x.copy_(stage)
        half = 0.5 * self.duration * self.per_charge[:, None]
        self.mean = self.mean - half * (self.flux + flux)
        self.flux, self.before = flux, self.duration

    def rest(self, which: torch.Tensor) -> None:
        """Put some cells at rest, half full."""
        self.x[..., which] = 0.5
        self.change[..., which] = 0.0
        self.mean[..., which] = 0.5
        self.flux[..., which] = 0.0

    def _ratios(self, x: torch.Tensor) -> torch.Tensor:
        """Diffusivities, relative to the smallest, from the nearest rows of the table."""
        row = (x * (ROWS - 1)).add_(0.5).clamp_(0, ROWS - 1).int().add_(self.first)
        return self.table[row]


class OfEach:
    """A kind of particles for each electrode, as if they were one."""

    def __init__(self, kinds: Sequence[Modes | Shells]) -> None:
        self.kinds = tuple(kinds)

    @property
    def mean(self) -> torch.Tensor:
        """Mean stoichiometry."""
        return torch.cat([kind.mean for kind in self.kinds], -2)

    @property
    def per_charge(self) -> torch.Tensor:
        """Change of the mean stoichiometry for each C m-2."""
        return torch.cat([kind.per_charge for kind in self.kinds])

    @property
    def flux(self) -> torch.Tensor:
        """Flux (A m-2)."""
        return torch.cat([kind.flux for kind in self.kinds], -2)

    def hold(self, duration: float) -> tuple[torch.Tensor, torch.Tensor]:
        """As of the kinds."""
        pairs = [kind.hold(duration) for kind in self.kinds]
        slopes = [slope.expand_as(held) for held, slope in pairs]
        return torch.cat([held for held, _ in pairs], -2), torch.cat(slopes, -2)

    def take(self, flux: torch.Tensor) -> None:
        """As of the kinds."""
        for k, kind in enumerate(self.kinds):
            kind.take(flux[..., k : k + 1, :])

    def rest(self, which: torch.Tensor) -> None:
        """As of the kinds."""
        for kind in self.kinds:
            kind.rest(which)


def particles(
    cell: Cell, start: torch.Tensor, places: tuple[int, ...] = ()
) -> Modes | Shells | OfEach:
    """The particles of both electrodes: modes for a constant diffusivity, shells for others."""
    pair = (cell.negative, cell.positive)
    kinds = [Modes if e.diffusivity_ratio is None else Shells for e in pair]
    if kinds[0] is kinds[1]:
        return kinds[0](pair, start, places)
    return OfEach([kinds[k]([pair[k]], start[k : k + 1], places) for k in range(2)])


def memory_weights(e: Electrode) -> np.ndarray:
    """Weights of an electrode's memories, in stoichiometry for each A m-2."""
    sites = FARADAY * e.particle_diffusivity * e.maximum_concentration
    return e.memory_weights * e.particle_radius / sites


def _relative_rates(e: Electrode) -> np.ndarray:
    return e.memory_rates * e.particle_radius**2 / e.particle_diffusivity


def _per_charge(electrodes: Sequence[Electrode]) -> torch.Tensor:
    """Change of the mean stoichiometry for each C m-2."""
    return torch.as_tensor(
        [3 / (FARADAY * e.particle_radius * e.maximum_concentration) for e in electrodes],
        dtype=torch.float64,
    )
