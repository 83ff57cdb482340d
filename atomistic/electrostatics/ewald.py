r"""Ewald's sum of point and Gaussian charges, in cells and in slabs.

A charge :math:`q_i` of width :math:`w_i` is spread as :math:`q_i e^{-r^2/w_i^2}/(\sqrt\pi w_i)^3`;
a width of zero is a point. With :math:`w_{ij}^2 = w_i^2 + w_j^2` and any screening :math:`\alpha`
the energy of all of them is

.. math::
    E = k_e \sum_{i<j} q_i q_j \frac{\operatorname{erfc}(\alpha r_{ij})
        - \operatorname{erfc}(r_{ij}/w_{ij})}{r_{ij}}
        + \frac12 \sum_k W(k) |S(k)|^2
        + k_e \sum_i q_i^2 \Big(\frac{1}{\sqrt{2\pi}\,w_i} - \frac{\alpha}{\sqrt\pi}\Big)

with :math:`S(k) = \sum_i q_i e^{i k \cdot r_i}` (no :math:`1/w_i` for points). In a cell that
repeats in three directions :math:`W = 4\pi k_e e^{-k^2/4\alpha^2}/(k^2 V)`, with conductors around
it all (tin foil), and :math:`W(0) = -\pi k_e/(\alpha^2 V)` is the background of a net charge.

A slab repeats in two directions. An interaction that is cut off at a distance R along z, which no
two charges are apart, is exact for it and has waves in a box of height 2R (Minary et al.):

.. math::
    W = \frac{4\pi k_e}{k^2 V} e^{-k^2/4\alpha^2} \left[1 - (-1)^n e^{-k_\parallel R}\right],
    \qquad W(0) = -\frac{2\pi k_e R^2}{V}, \qquad k_z = \frac{\pi n}{R}

Everything is a quadratic form of the charges and made of torch operations: derivatives with
respect to positions, cell and charges are autograd's.

References
----------
Minary, Tuckerman, Pihakari, Martyna, J. Chem. Phys. 116, 5351 (2002),
https://doi.org/10.1063/1.1453397

Gingrich, Wilson, Chem. Phys. Lett. 500, 178 (2010), https://doi.org/10.1016/j.cplett.2010.10.010
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy import constants

from atomistic.units import ANGSTROM

COULOMB = constants.e / (4 * constants.pi * constants.epsilon_0 * ANGSTROM)  # eV Å e-2
SAME_HEIGHT = 1e-9  # Å, within which atoms of a layer share their phases along z


def screening_of(cutoff: float, accuracy: float) -> float:
    """Return the screening (Å-1) whose direct sum has fallen to `accuracy` (1) at `cutoff` (Å)."""
    return math.sqrt(-math.log(accuracy)) / cutoff


def kernel(distance: torch.Tensor, screening: float) -> torch.Tensor:
    """Return the screened interaction of unit points (eV e-2) at distances (Å)."""
    return COULOMB * torch.erfc(screening * distance) / distance


def softening(distance: torch.Tensor, width: torch.Tensor | float) -> torch.Tensor:
    """Return what a pair of Gaussians lacks against points (eV e-2), of joint width (Å)."""
    return COULOMB * torch.erfc(distance / width) / distance


def own_energy(width: torch.Tensor, screening: float) -> torch.Tensor:
    r"""Return what multiplies :math:`q_i^2` (eV e-2): the last sum of the module's equation."""
    smeared = torch.where(width > 0, width, 1.0)
    spread = torch.where(width > 0, 1.0 / (math.sqrt(2 * math.pi) * smeared), 0.0)
    return COULOMB * (spread - screening / math.sqrt(math.pi))


@dataclass(frozen=True)
class Places:
    """Phases of positions: all that the waves have to know of them.

    Parameters
    ----------
    plane : torch.Tensor
        Phases of the first two cell vectors (1), (system, atom, column), complex.
    height : torch.Tensor
        Phases of the third (1), (system, layer, row), complex.
    layer : torch.Tensor or None
        Layer of each atom, (atom,); None if each atom is its own.
    """

    plane: torch.Tensor
    height: torch.Tensor
    layer: torch.Tensor | None = None


@dataclass(frozen=True)
class Waves:
    """Plane waves of a batch of cells, with the weight of each; half of them, with doubled weight.

    Phases factorise in the three cell vectors, so that a structure factor is a matrix product of
    columns (the first two) and rows (the third).

    Parameters
    ----------
    box : torch.Tensor
        Cell vectors of the waves as rows (Å), (system, 3, 3); in a slab the third is its height.
    first, second : torch.Tensor
        Integers of each column, (column,).
    third : torch.Tensor
        Integers of the rows, (row,).
    weight : torch.Tensor
        W of the module's equation (eV e-2), (system, column, row).
    """

    box: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    third: torch.Tensor
    weight: torch.Tensor

    @cached_property
    def inverse(self) -> torch.Tensor:
        """Inverse of the box (Å-1), (system, 3, 3)."""
        return torch.linalg.inv(self.box)

    def places(self, position: torch.Tensor, *, layered: bool = False) -> Places:
        """Return the phases of positions (Å), (system, atom, 3).

        With `layered`, atoms of equal height are found, which saves work where there are few
        layers. It is for systems that have their atoms at the same places, such as electrodes.
        """
        height, layer = position, None
        if layered:
            z = position[0, :, 2].detach()
            order, layer = torch.unique(z / SAME_HEIGHT // 1, return_inverse=True)
            first = torch.stack([(layer == n).nonzero()[0, 0] for n in range(len(order))])
            height = position[:, first]
        turns = position @ self.inverse
        steps = torch.arange(int(self.first.max()) + 1, device=position.device)
        one = _turned(turns[..., 0, None] * steps)
        reach = int(self.second.max())
        steps = torch.arange(-reach, reach + 1, device=position.device)
        two = _turned(turns[..., 1, None] * steps)
        plane = one.index_select(2, self.first) * two.index_select(2, self.second + reach)
        # a third vector along z, as in a slab, has phases of z alone
        up = (height @ self.inverse)[..., 2, None] * self.third
        return Places(plane, _turned(up), layer)

    def spread(self, charge: torch.Tensor, places: Places) -> torch.Tensor:
        """Return S of charges (e), (system, atom), at their places: (system, column, row)."""
        if places.layer is None:
            loaded = charge[..., None] * places.plane
        else:
            systems = max(len(charge), len(places.plane))
            loaded = places.plane.new_zeros(systems, places.height.shape[1], len(self.first))
            loaded = loaded.index_add(1, places.layer, charge[..., None] * places.plane)
        return loaded.transpose(1, 2) @ places.height.expand(len(loaded), -1, -1)

    def energy(self, spread: torch.Tensor) -> torch.Tensor:
        """Return the energy of the waves (eV), (system,)."""
        return 0.5 * (self.weight * (spread.real.square() + spread.imag.square())).sum((1, 2))

    def read(self, spread: torch.Tensor, places: Places) -> torch.Tensor:
        """Return the potential (eV e-1) at places, (system, atom), of what was spread."""
        field = (self.weight * spread).transpose(1, 2)
        rows = places.height.conj().expand(len(field), -1, -1) @ field
        if places.layer is not None:
            rows = rows.index_select(1, places.layer)
        return torch.linalg.vecdot(places.plane, rows, dim=2).real

    def matrix(self, places: Places) -> torch.Tensor:
        """Return the potential (eV e-2) of a unit charge at each place at each other place.

        For places of one system, (atom, atom).
        """
        plane, height = places.plane[0], places.height[0]
        layer = places.layer
        if layer is None:
            layer = torch.arange(len(plane), device=plane.device)
        found = plane.real.new_zeros(len(plane), len(plane))
        for one in range(len(height)):
            here = (layer == one).nonzero()[:, 0]
            # columns of what one layer does to each: weight over rows
            mixed = torch.einsum("pz,z,lz->lp", self.weight[0] + 0j, height[one].conj(), height)
            found[here] = (plane[here].conj() @ (plane * mixed[layer]).T).real
        return 0.5 * (found + found.T)


def _turned(turns: torch.Tensor) -> torch.Tensor:
    """Return e^(2 pi i turns)."""
    angle = 2 * math.pi * turns
    return torch.complex(angle.cos(), angle.sin())


def waves(
    cell: torch.Tensor, *, screening: float, accuracy: float, reach: float | None = None
) -> Waves:
    """Return the waves of cells, as many as the accuracy asks for.

    Parameters
    ----------
    cell : torch.Tensor
        Cell vectors as rows (Å), (system, 3, 3).
    screening : float
        Screening alpha (Å-1).
    accuracy : float
        What the smallest wave left out weighs, relative to the first (1).
    reach : float, optional
        For a slab, a distance along z that no two charges exceed (Å). Without it the cell repeats
        in three directions.
    """
    box = box_of(cell, screening=screening, accuracy=accuracy, reach=reach)
    longest = longest_of(screening, accuracy)
    fixed = box.detach()
    most = (longest / (2 * math.pi) * fixed.norm(dim=2).max(0).values).ceil().int().tolist()
    device = cell.device
    columns = torch.cartesian_prod(
        torch.arange(most[0] + 1, device=device), torch.arange(-most[1], most[1] + 1, device=device)
    )
    rows = torch.arange(-most[2], most[2] + 1, device=device)
    _, square = weights(fixed, columns, rows, screening=screening, slab=reach is not None)
    columns = columns[square.amin((0, 2)) < longest**2]
    weight, square = weights(box, columns, rows, screening=screening, slab=reach is not None)
    twice = torch.where(columns[:, 0] > 0, 2.0, 1.0).to(cell.dtype)
    weight = weight * twice[None, :, None] * (square.detach() < longest**2)
    return Waves(box, columns[:, 0], columns[:, 1], rows, weight)


def longest_of(screening: float, accuracy: float) -> float:
    """Return the longest wave vector (Å-1) that a screening (Å-1) and an accuracy ask for."""
    return 2 * screening * math.sqrt(-math.log(accuracy))


def box_of(
    cell: torch.Tensor, *, screening: float, accuracy: float, reach: float | None
) -> torch.Tensor:
    """Return the cells (Å), (system, 3, 3), whose waves are summed: of slabs, high ones."""
    if reach is None:
        return cell
    up = cell.new_zeros(len(cell), 3)
    up[:, 2] = 2 * (reach + math.sqrt(-math.log(accuracy)) / screening)
    return torch.stack([cell[:, 0], cell[:, 1], up], dim=1)


def weights(
    box: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor, *, screening: float, slab: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return W of the module's equation (eV e-2) and the squares of the wave vectors (Å-2).

    Both (system, column, row).

    Parameters
    ----------
    box : torch.Tensor
        Cells of the waves (Å), (system, 3, 3), as of `box_of`.
    columns, rows : torch.Tensor
        Integers of the first two cell vectors, (column, 2), and of the third, (row,).
    screening : float
        Screening alpha (Å-1).
    slab : bool
        Whether the interaction is cut off at half the height of the box.
    """
    inverse = torch.linalg.inv(box)
    # rows of the inverse's transpose are the reciprocal vectors
    across = 2 * math.pi * columns.to(box.dtype) @ inverse[:, :, :2].transpose(1, 2)
    along = 2 * math.pi * inverse[:, None, :, 2] * rows.to(box.dtype)[None, :, None]
    square = (across[:, :, None] + along[:, None]).square().sum(3)
    still = (columns == 0).all(1)
    origin = (still[:, None] & (rows == 0))[None]
    volume = torch.linalg.det(box).abs()[:, None, None]
    safe = torch.where(origin, 1.0, square)
    weight = 4 * math.pi * COULOMB / volume * torch.exp(-square / (4 * screening**2)) / safe
    if not slab:
        nought = -math.pi * COULOMB / (screening**2 * volume)
        return torch.where(origin, nought, weight), square
    far = box[0, 2, 2] / 2
    length = torch.where(still[None], 1.0, across.square().sum(2)).sqrt()
    left = torch.where(still[None], 1.0, torch.exp(-length * far))
    sign = 1.0 - 2.0 * (rows % 2).to(box.dtype)
    nought = -2 * math.pi * COULOMB * far**2 / volume
    return torch.where(origin, nought, weight * (1.0 - sign * left[:, :, None])), square
