r"""The smooth part of Ewald's sum on a mesh, for many charges: N log N instead of N squared.

Charges are spread to a mesh by B-splines, Fourier transformed, weighted and read off by the same
splines (Essmann et al.), so that a potential that is read and an energy are of one quadratic form.
The weights are those of `atomistic.electrostatics.ewald`, slabs included, and all systems of a
batch go through one transform; torch-pme, whose mesh serves one system at a time and knows no
cut-off interaction, is what this is tested against.

References
----------
Essmann, Perera, Berkowitz, Darden, Lee, Pedersen, J. Chem. Phys. 103, 8577 (1995),
https://doi.org/10.1063/1.470117
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from atomistic.electrostatics import ewald

ORDER = 8  # of the splines; even, for at the highest wave odd ones vanish


@dataclass(frozen=True)
class Nodes:
    """Mesh points that charges go to: index (system, atom, node) and weight (1) of each."""

    index: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class Mesh:
    """A mesh over a batch of cells; it stands in for `ewald.Waves`.

    Parameters
    ----------
    box : torch.Tensor
        Cells of the waves as rows (Å), (system, 3, 3).
    shape : (int, int, int)
        Mesh points along each cell vector.
    weight : torch.Tensor
        Weight of each wave (eV e-2), (system, first, second, half of the third).
    """

    box: torch.Tensor
    shape: tuple[int, int, int]
    weight: torch.Tensor

    @cached_property
    def inverse(self) -> torch.Tensor:
        """Inverse of the box (Å-1), (system, 3, 3)."""
        return torch.linalg.inv(self.box)

    def places(self, position: torch.Tensor, *, layered: bool = False) -> Nodes:
        """Return the nodes of positions (Å), (system, atom, 3); layers make no difference here."""
        size = torch.tensor(self.shape, device=position.device)
        scaled = (position @ self.inverse) * size
        corner = scaled.detach().floor()
        spline = splines(scaled - corner)  # (system, atom, 3, order)
        steps = torch.arange(ORDER, device=position.device)
        node = (corner.long()[..., None] - steps) % size[:, None]
        index = (node[:, :, 0, :, None] * self.shape[1] + node[:, :, 1, None, :])[..., None]
        index = index * self.shape[2] + node[:, :, 2, None, None, :]
        weight = spline[:, :, 0, :, None, None] * spline[:, :, 1, None, :, None]
        weight = weight * spline[:, :, 2, None, None, :]
        shape = (*position.shape[:2], ORDER**3)
        return Nodes(index.reshape(shape), weight.reshape(shape))

    def spread(self, charge: torch.Tensor, places: Nodes) -> torch.Tensor:
        """Return the transform of charges (e), (system, atom), (system, *mesh)."""
        systems = max(len(charge), len(places.index))
        loads = (charge[..., None] * places.weight).expand(systems, -1, -1).reshape(systems, -1)
        index = places.index.expand(systems, -1, -1).reshape(systems, -1)
        mesh = loads.new_zeros(systems, math.prod(self.shape)).scatter_add(1, index, loads)
        return torch.fft.rfftn(mesh.reshape(systems, *self.shape), dim=(1, 2, 3))

    def energy(self, spread: torch.Tensor) -> torch.Tensor:
        """Return the energy of the waves (eV), (system,)."""
        power = spread.real.square() + spread.imag.square()
        twice = torch.full_like(self.weight[0, 0, 0], 2.0)
        twice[0] = 1.0
        if self.shape[2] % 2 == 0:
            twice[-1] = 1.0
        return 0.5 * (self.weight * twice * power).sum((1, 2, 3))

    def read(self, spread: torch.Tensor, places: Nodes) -> torch.Tensor:
        """Return the potential (eV e-1) at places, (system, atom), of what was spread."""
        field = torch.fft.irfftn(
            self.weight * spread, s=self.shape, dim=(1, 2, 3), norm="forward"
        ).reshape(len(spread), -1)
        index = places.index.expand(len(spread), -1, -1)
        values = field.gather(1, index.reshape(len(spread), -1)).reshape(index.shape)
        return (values * places.weight).sum(2)


def splines(offset: torch.Tensor) -> torch.Tensor:
    r"""Return B-splines :math:`M_p(u + j)` (1), (..., j), of offsets u (mesh steps) in [0, 1)."""
    values = torch.stack([offset, 1 - offset], dim=-1)
    for order in range(3, ORDER + 1):
        shift = offset[..., None] + torch.arange(order, device=offset.device)
        nought = torch.zeros_like(offset)[..., None]
        rising = shift * torch.cat([values, nought], dim=-1)
        falling = (order - shift) * torch.cat([nought, values], dim=-1)
        values = (rising + falling) / (order - 1)
    return values


def mesh(
    cell: torch.Tensor,
    *,
    screening: float,
    accuracy: float,
    spacing: float,
    reach: float | None = None,
) -> Mesh:
    """Return a mesh over cells.

    Parameters
    ----------
    cell : torch.Tensor
        Cell vectors as rows (Å), (system, 3, 3).
    screening : float
        Screening alpha (Å-1).
    accuracy : float
        As for `ewald.waves`; of the height of a slab's box.
    spacing : float
        Distance between mesh points (Å), or less; a third of 1/alpha is accurate to some 1e-5.
    reach : float, optional
        For a slab, a distance along z that no two charges exceed (Å).
    """
    box = ewald.box_of(cell, screening=screening, accuracy=accuracy, reach=reach)
    lengths = box.detach().norm(dim=2).max(0).values.tolist()
    first, second, third = (_handy(math.ceil(length / spacing)) for length in lengths)
    shape = (first, second, third)
    device = cell.device
    waves = [(torch.fft.fftfreq(n, device=device) * n).round().long() for n in shape[:2]]
    rows = torch.arange(third // 2 + 1, device=device)
    weight, _ = ewald.weights(
        box, torch.cartesian_prod(*waves), rows, screening=screening, slab=reach is not None
    )
    weight = weight.reshape(len(box), *shape[:2], len(rows))
    knots = splines(torch.zeros((), dtype=cell.dtype, device=device))
    for axis, size in enumerate(shape):
        wave = torch.arange(weight.shape[axis + 1], device=device).to(cell.dtype)
        turn = 2 * math.pi * wave[:, None] * torch.arange(ORDER, device=device) / size
        sharp = (knots * turn.cos()).sum(1) ** 2 + (knots * turn.sin()).sum(1) ** 2
        view = [1, 1, 1, 1]
        view[axis + 1] = -1
        weight = weight / sharp.reshape(view)
    return Mesh(box, shape, weight)


def _handy(size: int) -> int:
    """Return the next even number without prime factors above five."""
    while True:
        left = size
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        if left == 1 and size % 2 == 0:
            return max(size, 2 * ORDER)
        size += 1
