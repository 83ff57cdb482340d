"""Pairs of a batch of systems within a cutoff, searched anew only when atoms have moved."""

from __future__ import annotations

import torch
from torch_sim.neighbors import torch_nl_linked_cell


class Pairs:
    """List of pairs, each once, with the images that are near.

    Parameters
    ----------
    cutoff : float
        Distance (Å) within which pairs are wanted.
    skin : float
        How much further the search goes (Å); it is repeated once an atom moved half of it.
    still : torch.Tensor
        Atoms whose pairs with each other are left out, (atom,), bool.
    """

    def __init__(self, cutoff: float, *, skin: float, still: torch.Tensor) -> None:
        self.cutoff, self.skin, self.still = cutoff, skin, still
        self._searched: tuple[torch.Tensor, torch.Tensor] | None = None
        self.searches = 0

    def of(
        self, position: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return both atoms of each pair and the lattice translation (Å) of the second.

        Atoms are counted through the batch. In a pair of a still atom and another the still one is
        second, and such pairs come last, from `self.mixed` on. `self.images` holds the
        translations in cell vectors, for those who need their derivative.

        Parameters
        ----------
        position : torch.Tensor
            Positions (Å), (system, atom, 3), wrapped or not.
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
            self._search(position, cell)
        return self._found

    def _search(self, position: torch.Tensor, cell: torch.Tensor) -> None:
        systems, atoms, _ = position.shape
        number = torch.arange(systems, device=position.device)
        (one, other), system, shift = torch_nl_linked_cell(
            position.reshape(-1, 3),
            cell,
            torch.ones(systems, 3, dtype=torch.bool, device=position.device),
            self.cutoff + self.skin,
            number.repeat_interleave(atoms),
        )
        still = self.still.repeat(systems)
        # of the two directions of a pair the one to the later atom, or of itself to a later image
        later = (shift[:, 0] > 0) | (
            (shift[:, 0] == 0) & ((shift[:, 1] > 0) | ((shift[:, 1] == 0) & (shift[:, 2] > 0)))
        )
        both = still[one] & still[other]
        mixed = still[one] ^ still[other]
        wanted = torch.where(mixed, still[other], (one < other) | ((one == other) & later)) & ~both
        kept = wanted.nonzero()[:, 0]
        kept = kept[torch.argsort(mixed[kept].to(torch.int8), stable=True)]
        translation = torch.einsum("px,pxy->py", shift[kept].to(cell.dtype), cell[system[kept]])
        self._found = (one[kept], other[kept], translation)
        self.images = shift[kept].to(cell.dtype)  # the translations in cell vectors
        self.mixed = int((~mixed[kept]).sum())
        self._searched = (position.clone(), cell.clone())
        self.searches += 1
