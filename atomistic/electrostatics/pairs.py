"""Pairs of a batch of systems within a cutoff, searched anew only when atoms have moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch_sim.neighbors import torch_nl_linked_cell

from atomistic.electrostatics import ewald

DENSE = 60_000_000  # distances up to which all are looked at rather than sorted into cells
AT_ONCE = 2_000_000  # distances in one array


@dataclass(frozen=True)
class Near:
    """Pairs that a search found, each once; atoms are counted through the batch.

    Parameters
    ----------
    one, other : torch.Tensor
        The two atoms of each pair; in a mixed pair the second is the still one.
    system : torch.Tensor
        System of each pair.
    images : torch.Tensor
        Translation of the second atom in cell vectors, (pair, 3).
    shift : torch.Tensor
        The same (Å).
    joint : torch.Tensor
        Joint width (Å) of the pairs from `wide` on, which are not both points.
    wide : int
        Where they begin.
    mixed : int
        Where pairs of a still atom and another begin, which come last.
    """

    one: torch.Tensor
    other: torch.Tensor
    system: torch.Tensor
    images: torch.Tensor
    shift: torch.Tensor
    joint: torch.Tensor
    wide: int
    mixed: int

    def distance(self, position: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """Return distances (Å) at positions (Å), (system, atom, 3), with their graph."""
        flat = position.reshape(-1, 3)
        moved = self.shift if shift is None else shift
        apart = flat.index_select(0, self.other) - flat.index_select(0, self.one) + moved
        return apart.square().sum(1).sqrt()

    def softening(self, distance: torch.Tensor) -> torch.Tensor:
        """Return what the pairs from `wide` on lack against points (eV e-2)."""
        return ewald.softening(distance[self.wide :], self.joint)


class Pairs:
    """Search for pairs, as seldom as atoms allow.

    Parameters
    ----------
    cutoff : float
        Distance (Å) within which pairs are wanted.
    skin : float
        How much further the search goes (Å); it is repeated once an atom moved half of it.
    width : torch.Tensor
        Width (Å) of the charge of each atom of a system, zero for points, (atom,).
    still : torch.Tensor, optional
        Atoms whose pairs with each other are left out, (atom,), bool; their widths are not zero.
    """

    def __init__(
        self,
        cutoff: float,
        *,
        skin: float,
        width: torch.Tensor,
        still: torch.Tensor | None = None,
    ) -> None:
        self.cutoff, self.skin, self.width = cutoff, skin, width
        self.still = torch.zeros_like(width, dtype=torch.bool) if still is None else still
        self._searched: tuple[torch.Tensor, torch.Tensor] | None = None
        self.searches = 0

    def of(self, position: torch.Tensor, cell: torch.Tensor) -> Near:
        """Return the pairs at positions (Å), (system, atom, 3), wrapped or not.

        Parameters
        ----------
        position : torch.Tensor
            Positions.
        cell : torch.Tensor
            Cell vectors as rows (Å), (system, 3, 3), all directions periodic.
        """
        position, cell = position.detach(), cell.detach()
        if (
            self._searched is None
            or self._searched[0].shape != position.shape
            or not torch.equal(self._searched[1], cell)
            or float((position - self._searched[0]).square().sum(2).max()) > (self.skin / 2) ** 2
        ):
            self._found = self._search(position, cell)
            self._searched = (position.clone(), cell.clone())
            self.searches += 1
        return self._found

    def _search(self, position: torch.Tensor, cell: torch.Tensor) -> Near:
        heights = 1.0 / torch.linalg.inv(cell).norm(dim=1)
        one_image = float(heights.min()) >= 2 * (self.cutoff + self.skin)
        small = position.shape[1] ** 2 * len(position) <= DENSE
        find = self._nearest_images if one_image and small else self._all_images
        one, other, system, images = find(position, cell)
        systems = len(position)
        still, width = self.still.repeat(systems), self.width.repeat(systems)
        mixed = still[other]
        joint = (width[one].square() + width[other].square()).sqrt()
        rank = (joint > 0).to(torch.int8) + mixed.to(torch.int8)
        order = torch.argsort(rank, stable=True)
        wide, among = int((rank == 0).sum()), int((rank < 2).sum())
        images, system = images[order].to(cell.dtype), system[order]
        return Near(
            one=one[order],
            other=other[order],
            system=system,
            images=images,
            shift=torch.einsum("px,pxy->py", images, cell[system]),
            joint=joint[order][wide:],
            wide=wide,
            mixed=among,
        )

    def _nearest_images(
        self, position: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Find pairs among all, where no pair is near in two images."""
        systems, atoms, _ = position.shape
        moving = (~self.still).nonzero()[:, 0]
        fraction = position @ torch.linalg.inv(cell)
        number = torch.arange(atoms, device=position.device)
        once = self.still[None] | (number[None] > moving[:, None])
        found = []
        step = max(1, AT_ONCE // max(1, len(moving) * atoms))
        for first in range(0, systems, step):
            axes = fraction[first : first + step].transpose(1, 2).contiguous()
            part = cell[first : first + step]
            square = torch.zeros_like(axes[:, 0, moving, None] - axes[:, 0, None])
            turned = []
            for axis in range(3):
                apart = axes[:, axis, None] - axes[:, axis, moving, None]
                turned.append(apart.sub_(apart.round()))
            for component in range(3):
                length = torch.zeros_like(square)
                for axis in range(3):
                    if bool(part[:, axis, component].any()):
                        length.addcmul_(turned[axis], part[:, axis, component, None, None])
                square.addcmul_(length, length)
            near = ((square < (self.cutoff + self.skin) ** 2) & once).nonzero()
            system, one, other = near[:, 0] + first, moving[near[:, 1]], near[:, 2]
            images = -(fraction[system, other] - fraction[system, one]).round()
            found.append((system * atoms + one, system * atoms + other, system, images))
        one, other, system, images = (torch.cat(parts) for parts in zip(*found, strict=True))
        return one, other, system, images

    def _all_images(
        self, position: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Find pairs by linked cells, in as many images as are near."""
        systems, atoms, _ = position.shape
        number = torch.arange(systems, device=position.device)
        (one, other), system, images = torch_nl_linked_cell(
            position.reshape(-1, 3),
            cell,
            torch.ones(systems, 3, dtype=torch.bool, device=position.device),
            self.cutoff + self.skin,
            number.repeat_interleave(atoms),
        )
        still = self.still.repeat(systems)
        # of a pair's two directions the one to the later atom, or of itself to a later image
        later = (images[:, 0] > 0) | (
            (images[:, 0] == 0) & ((images[:, 1] > 0) | ((images[:, 1] == 0) & (images[:, 2] > 0)))
        )
        once = torch.where(still[other], ~still[one], (one < other) | ((one == other) & later))
        kept = (once & ~still[one]).nonzero()[:, 0]
        return one[kept], other[kept], system[kept], images[kept]
