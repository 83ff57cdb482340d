"""Pairs of a batch of systems within a cutoff, searched anew only when atoms have moved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch_sim.neighbors import torch_nl_linked_cell

from atomistic.electrostatics import ewald


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
        systems, atoms, _ = position.shape
        number = torch.arange(systems, device=position.device)
        (one, other), system, images = torch_nl_linked_cell(
            position.reshape(-1, 3),
            cell,
            torch.ones(systems, 3, dtype=torch.bool, device=position.device),
            self.cutoff + self.skin,
            number.repeat_interleave(atoms),
        )
        still, width = self.still.repeat(systems), self.width.repeat(systems)
        # of a pair's two directions the one to the later atom, or of itself to a later image
        later = (images[:, 0] > 0) | (
            (images[:, 0] == 0) & ((images[:, 1] > 0) | ((images[:, 1] == 0) & (images[:, 2] > 0)))
        )
        mixed = still[one] ^ still[other]
        wanted = torch.where(mixed, still[other], (one < other) | ((one == other) & later))
        kept = (wanted & ~(still[one] & still[other])).nonzero()[:, 0]
        one, other, system, images = one[kept], other[kept], system[kept], images[kept]
        joint = (width[one].square() + width[other].square()).sqrt()
        rank = (joint > 0).to(torch.int8) + mixed[kept].to(torch.int8)
        order = torch.argsort(rank, stable=True)
        wide, among = int((rank == 0).sum()), int((rank < 2).sum())
        images = images[order].to(cell.dtype)
        system = system[order]
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
