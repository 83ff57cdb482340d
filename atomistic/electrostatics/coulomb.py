"""Fixed charges as a model of their own, to be added to one of short range."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.electrostatics import ewald
from atomistic.electrostatics.ewald import COULOMB
from atomistic.electrostatics.mesh import Mesh, mesh
from atomistic.electrostatics.pairs import Near, Pairs

NEUTRAL = 1e-6  # e


def switch(distance: torch.Tensor, begin: float, end: float) -> torch.Tensor:
    r"""Return a switch (1) from 1 at `begin` (Å) to 0 at `end` (Å).

    It has three continuous derivatives, so that the force of what it switches has two.

    .. math:: s = 1 - x^4 (35 - 84 x + 70 x^2 - 20 x^3), \qquad x = \frac{r - r_1}{r_2 - r_1}

    Examples
    --------
    >>> switch(torch.tensor([1.0, 2.5, 9.0]), 2.0, 3.0).tolist()
    [1.0, 0.5, 0.0]
    """
    x = ((distance - begin) / (end - begin)).clamp(0.0, 1.0)
    return 1 - x.square().square() * (35 - 84 * x + 70 * x.square() - 20 * x * x.square())


class Coulomb(ModelInterface):
    r"""Ewald's sum of the charges of a batch, all of it or what a switch leaves to long range.

    With a `split` from :math:`r_1` to :math:`r_2` the interaction of two charges is
    :math:`(1 - s(r))\,k_e q_i q_j / r` for points: near ones are left to a model of short range
    that was trained on what remains. `part="short"` gives what was left out,
    :math:`s(r)\,k_e q_i q_j / r`, so that both together are the whole.

    Parameters
    ----------
    charges : mapping of str to float, or callable
        Charges (e): of each element, or from a state to those of its atoms, (atom,), by
        differentiable operations on ``state.positions``.
    widths : mapping of str to float, optional
        Widths (Å) of the Gaussian charges of elements that are no points.
    slab : bool
        Whether the third cell vector, along z, does not repeat; it must be as high as what the
        cell holds. There is no stress then.
    cutoff : float
        Cutoff (Å) of the direct sum.
    accuracy : float
        What either sum leaves out, relative to its first term (1).
    split : (float, float), optional
        Distances (Å) between which short range hands over to long range.
    part : str
        "long" or, with a split, "short".
    spacing : float, optional
        Distance of mesh points (Å), for many charges; plane waves without a mesh if not given.
    skin : float
        How far beyond the cutoff pairs are searched (Å).
    device, dtype : torch.device, torch.dtype
        Where and in which precision.

    Raises
    ------
    ValueError
        If the numbers are wrong or, on evaluation, if a system is not neutral, an element has no
        charge, systems differ in size, or a slab's cell is too low or tilted.
    """

    def __init__(
        self,
        charges: Mapping[str, float] | Callable[[SimState], torch.Tensor],
        *,
        widths: Mapping[str, float] | None = None,
        slab: bool = False,
        cutoff: float = 9.0,
        accuracy: float = 1e-6,
        split: tuple[float, float] | None = None,
        part: str = "long",
        spacing: float | None = None,
        skin: float = 1.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        faults = []
        if not cutoff > 0:
            faults.append(f"cutoff is {cutoff} Å, but must be positive")
        if not 0 < accuracy < 0.1:
            faults.append(f"accuracy is {accuracy}, expected a small number such as 1e-6")
        if part not in ("long", "short") or (part == "short" and split is None):
            faults.append(f"part is {part!r}; expected 'long' or, with a split, 'short'")
        if split is not None and not 0 < split[0] < split[1] <= cutoff:
            faults.append(
                f"split is {split} Å, but must rise and end within the cutoff of {cutoff:g} Å"
            )
        if spacing is not None and not spacing > 0:
            faults.append(f"spacing is {spacing} Å, but must be positive")
        if any(not width > 0 for width in (widths or {}).values()):
            faults.append(f"widths are {dict(widths or {})} Å, but must be positive")
        if faults:
            raise ValueError("Coulomb: " + "; ".join(faults) + ".")
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces, self._compute_stress = True, not slab
        self.slab, self.split, self.part = slab, split, part
        self.cutoff, self.accuracy = float(cutoff), float(accuracy)
        self.screening = ewald.screening_of(cutoff, accuracy)
        self.charges, self.skin, self.spacing = charges, float(skin), spacing
        size = len(chemical_symbols)
        self._width = torch.zeros(size, dtype=dtype, device=self._device)
        for element, width in (widths or {}).items():
            self._width[atomic_numbers[element]] = width
        self._charge = torch.full((size,), math.nan, dtype=dtype, device=self._device)
        if isinstance(charges, Mapping):
            for element, charge in charges.items():
                self._charge[atomic_numbers[element]] = charge
        self._pairs: Pairs | None = None
        self._waves: tuple[torch.Tensor, ewald.Waves | Mesh] | None = None

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1), charges (e) and, but for slabs, stress (eV Å-3)."""
        cell = state.row_vector_cell.detach().to(self._dtype)
        systems = len(cell)
        atoms, rest = divmod(len(state.positions), systems)
        if rest or bool((state.n_atoms_per_system != atoms).any()):
            raise ValueError(
                f"Coulomb: systems of {state.n_atoms_per_system.tolist()} atoms were given; give "
                "systems of equal size in one batch."
            )
        given = state.positions.detach().to(self._dtype).requires_grad_(True)
        position = given.reshape(systems, atoms, 3)
        strain = torch.zeros_like(cell).requires_grad_(self.compute_stress)
        deformed = cell
        if self.compute_stress:
            position = position + position @ strain
            deformed = cell + cell @ strain
        charge = self._charges(state, given).reshape(systems, atoms)
        width = self._width[state.atomic_numbers.long()].reshape(systems, atoms)
        if bool((width != width[0]).any()):
            raise ValueError(
                "Coulomb: the systems of a batch have charges of different widths in the same "
                "place; sort their atoms alike, or evaluate them one by one."
            )
        energy = self.energy(position, deformed, charge, width=width)
        wanted = [given, strain] if self.compute_stress else [given]
        slopes = torch.autograd.grad(energy.sum(), wanted)
        found = {
            "energy": energy.detach(),
            "forces": -slopes[0],
            "charges": charge.detach().reshape(-1),
        }
        if self.compute_stress:
            symmetric = 0.5 * (slopes[1] + slopes[1].transpose(1, 2))
            found["stress"] = symmetric / torch.linalg.det(cell).abs()[:, None, None]
        return found

    def energy(
        self,
        position: torch.Tensor,
        cell: torch.Tensor,
        charge: torch.Tensor,
        *,
        width: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the energy (eV), (system,), with its graph: autograd differentiates all of it.

        Parameters
        ----------
        position : torch.Tensor
            Positions (Å), (system, atom, 3).
        cell : torch.Tensor
            Cell vectors as rows (Å), (system, 3, 3).
        charge : torch.Tensor
            Charges (e), (system, atom).
        width : torch.Tensor, optional
            Widths (Å), (system, atom), the same in all systems; points if not given.
        """
        width = torch.zeros_like(charge) if width is None else width
        if self._pairs is None or not torch.equal(self._pairs.width, width[0]):
            self._pairs = Pairs(self.cutoff, skin=self.skin, width=width[0])
        box, reach = cell, None
        if self.slab:
            box, reach = self._slab(position, cell)
        near = self._pairs.of(position, box)
        shift = torch.einsum("px,pxy->py", near.images, box.index_select(0, near.system))
        distance = near.distance(position, shift)
        loads = charge.reshape(-1)
        product = loads.index_select(0, near.one) * loads.index_select(0, near.other)
        pairs = product * torch.where(distance < self.cutoff, self._kernel(distance, near), 0.0)
        energy = torch.zeros_like(position[:, 0, 0]).index_add(0, near.system, pairs)
        if self.part == "short":
            return energy
        waves = self._waves_of(cell, reach)
        places: Any = waves.places(position)  # each kind knows its own
        smooth = waves.energy(waves.spread(charge, places))
        own = ewald.own_energy(width, self.screening)
        return energy + (own * charge.square()).sum(1) + smooth

    def _kernel(self, distance: torch.Tensor, near: Near) -> torch.Tensor:
        """Return the interaction of each pair in the direct sum (eV e-2)."""
        soft = torch.cat([torch.zeros_like(distance[: near.wide]), near.softening(distance)])
        left = torch.zeros_like(distance)
        if self.split is not None:
            left = switch(distance, *self.split) * (COULOMB / distance - soft)
        if self.part == "short":
            return left
        return ewald.kernel(distance, self.screening) - soft - left

    def _waves_of(self, cell: torch.Tensor, reach: float | None) -> ewald.Waves | Mesh:
        """Return the waves, or the mesh, of cells; the last ones if cells are still the same."""
        # of a cell with a graph, the stress is asked for, which kept waves do not know
        kept = None if cell.requires_grad else self._waves
        if kept is not None and torch.equal(kept[0], cell):
            return kept[1]
        settings = {"screening": self.screening, "accuracy": self.accuracy}
        made = (
            ewald.waves(cell, **settings, reach=reach)
            if self.spacing is None
            else mesh(cell, **settings, spacing=self.spacing, reach=reach)
        )
        if not cell.requires_grad:
            self._waves = (cell.clone(), made)
        return made

    def _slab(self, position: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return a cell so high that images are out of reach, and how far charges are apart."""
        height = float(cell[:, 2, 2].detach().max())
        tilt = torch.stack([cell[:, 0, 2], cell[:, 1, 2], cell[:, 2, 0], cell[:, 2, 1]])
        span = float((position[..., 2].amax(1) - position[..., 2].amin(1)).detach().max())
        if float(tilt.detach().abs().max()) > 1e-6 * height or span > height:
            raise ValueError(
                f"Coulomb: a slab's third cell vector must stand on the others along z and be as "
                f"high as what it holds, {span:.4g} Å, but the cell is "
                f"{cell[0].detach().cpu().numpy().round(3).tolist()} Å."
            )
        tall = torch.zeros_like(cell)
        tall[:, 2, 2] = height + self.cutoff + self.skin + 1.0
        return torch.cat([cell[:, :2], tall[:, 2:]], dim=1), height

    def _charges(self, state: SimState, position: torch.Tensor) -> torch.Tensor:
        if callable(self.charges):
            again = state.clone()
            again.positions = position
            charge = self.charges(again)
        else:
            charge = self._charge[state.atomic_numbers.long()]
        if not bool(torch.isfinite(charge).all()):
            lacking = torch.unique(state.atomic_numbers[~torch.isfinite(charge)]).tolist()
            raise ValueError(
                f"Coulomb: no charge is given for "
                f"{', '.join(chemical_symbols[int(number)] for number in lacking)}."
            )
        total = charge.detach().reshape(state.n_systems, -1).sum(1)
        if float(total.abs().max()) > NEUTRAL * max(1, len(charge)):
            raise ValueError(
                f"Coulomb: a system carries {float(total[total.abs().argmax()]):+.4g} e, and "
                "nothing compensates it; give neutral systems, or electrodes."
            )
        return charge
