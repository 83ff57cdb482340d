"""Lennard-Jones mixtures, all systems of a batch at once: a classical oracle that costs nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.models.interface import ModelInterface
from torch_sim.neighbors import torch_nl_linked_cell, torchsim_nl
from torch_sim.state import SimState

from atomistic.potentials.potential import Potential

SWITCH = 0.8  # of the cutoff, from where the pairs are taken to zero


def neighbours(
    state: SimState, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """List every pair of atoms nearer than the cutoff, images included, in both directions.

    Parameters
    ----------
    state : SimState
        Systems of any size (Å).
    cutoff : float
        Longest distance (Å).

    Returns
    -------
    centre, neighbour : torch.Tensor
        Atoms of each pair.
    system : torch.Tensor
        System of each pair.
    vector : torch.Tensor
        From centre to neighbour (Å), with the gradient of the positions if they carry one.
    """
    positions, cell = state.positions, state.row_vector_cell
    find = torchsim_nl if positions.is_cuda else torch_nl_linked_cell
    pairs, system, shifts = find(
        positions.detach(), cell.detach(), state.pbc, cutoff, state.system_idx
    )
    vector = positions[pairs[1]] - positions[pairs[0]]
    vector = vector + torch.einsum("eyx,ey->ex", cell[system], shifts.to(positions.dtype))
    near = vector.detach().norm(dim=1) < cutoff
    return pairs[0][near], pairs[1][near], system[near], vector[near]


def from_pairs(
    state: SimState,
    centre: torch.Tensor,
    neighbour: torch.Tensor,
    system: torch.Tensor,
    vector: torch.Tensor,
    slope: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Sum what each pair's energy does to its two atoms: forces (eV Å-1) and stress (eV Å-3).

    .. math:: F_i = \sum_e (\delta_{i,c(e)} - \delta_{i,n(e)})\,\partial E/\partial r_e,\qquad
              \sigma = V^{-1} \sum_e \partial E/\partial r_e \otimes r_e

    Parameters
    ----------
    state : SimState
        Systems that the pairs belong to.
    centre, neighbour, system, vector : torch.Tensor
        As `neighbours` returns them.
    slope : torch.Tensor
        Derivative of the energy with respect to each vector (eV Å-1; pair, xyz).
    """
    forces = vector.new_zeros(state.n_atoms, 3)
    forces = forces.index_add(0, centre, slope).index_add(0, neighbour, -slope)
    virial = slope.new_zeros(state.n_systems, 3, 3)
    virial = virial.index_add(0, system, slope[:, :, None] * vector[:, None, :])
    volume = torch.linalg.det(state.row_vector_cell).abs()[:, None, None]
    return forces, 0.5 * (virial + virial.transpose(1, 2)) / volume


class LennardJones(ModelInterface):
    r"""Lennard-Jones pairs with a switch that has two continuous derivatives.

    .. math:: u(r) = 4\epsilon\,[(\sigma/r)^{12} - (\sigma/r)^6]\,s(r)

    Parameters
    ----------
    kinds : mapping of str to (float, float)
        Per element, sigma (Å) and epsilon (eV); unlike pairs by Lorentz and Berthelot.
    cutoff : float
        Where the pairs end (Å).
    device : torch.device or str
        Where to evaluate.
    """

    def __init__(
        self,
        kinds: Mapping[str, tuple[float, float]],
        *,
        cutoff: float,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self._device, self._dtype = torch.device(device), torch.float64
        self._compute_forces = self._compute_stress = True
        self.cutoff = float(cutoff)
        table = torch.full((2, len(chemical_symbols)), torch.nan, dtype=self._dtype)
        for element, parameters in kinds.items():
            table[:, atomic_numbers[element]] = torch.tensor(parameters, dtype=self._dtype)
        self._sigma, self._epsilon = table.to(self._device)

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system), forces (eV Å-1, per atom), stress (eV Å-3)."""
        centre, neighbour, system, vector = neighbours(state, self.cutoff)
        one, other = (state.atomic_numbers[index].long() for index in (centre, neighbour))
        sigma = 0.5 * (self._sigma[one] + self._sigma[other])
        depth = torch.sqrt(self._epsilon[one] * self._epsilon[other])
        distance = vector.norm(dim=1)
        sixth = (sigma / distance) ** 6
        pair = 4 * depth * (sixth**2 - sixth)
        slope = -24 * depth * (2 * sixth**2 - sixth) / distance
        begin = SWITCH * self.cutoff
        x = ((distance - begin) / (self.cutoff - begin)).clamp(0.0, 1.0)
        smooth = 1 - x**3 * (10 - 15 * x + 6 * x**2)
        bend = -30 * (x - x**2) ** 2 / (self.cutoff - begin)
        # each pair is listed from both ends
        pull = 0.5 * (slope * smooth + pair * bend)
        energy = pair.new_zeros(state.n_systems).index_add(0, system, 0.5 * pair * smooth)
        forces, stress = from_pairs(
            state, centre, neighbour, system, vector, (pull / distance)[:, None] * vector
        )
        return {"energy": energy, "forces": forces, "stress": stress}


def lennard_jones(
    kinds: Mapping[str, tuple[float, float]] | None = None,
    *,
    cutoff: float = 8.0,
    device: str = "cpu",
) -> Potential:
    """Return a Lennard-Jones potential; argon if no parameters are given.

    Parameters
    ----------
    kinds : mapping of str to (float, float), optional
        Per element, sigma (Å) and epsilon (eV).
    cutoff : float
        Where the pairs end (Å).
    device : str
        Where to evaluate.

    References
    ----------
    Rahman, Phys. Rev. 136, A405 (1964), https://doi.org/10.1103/PhysRev.136.A405
    """
    kinds = {"Ar": (3.4, 0.01034)} if kinds is None else kinds
    return Potential(
        name=f"Lennard-Jones {' '.join(sorted(kinds))}",
        model=LennardJones(kinds, cutoff=cutoff, device=device),
        species=tuple(sorted(kinds)),
        cutoff=cutoff,
        licence="published parameters",
    )
