"""Neuroevolution potentials (NEP4) as a torch-sim model: compiled on a CPU, in torch on a GPU."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import _nepy
import numpy as np
import torch
from ase.data import chemical_symbols
from calorine.nep import read_model as read_header
from torch_sim.models.interface import ModelInterface
from torch_sim.neighbors import torch_nl_linked_cell, torchsim_nl
from torch_sim.state import SimState


class CompiledNEP(ModelInterface):
    """A ``nep.txt`` file evaluated by calorine's compiled NEP_CPU, one system after another.

    Parameters
    ----------
    path : str or Path
        A NEP4 potential in GPUMD's ``nep.txt`` format (energies in eV, lengths in Å).

    References
    ----------
    Fan et al., J. Chem. Phys. 157, 114801 (2022), https://doi.org/10.1063/5.0106617
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = str(path)
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces = self._compute_stress = True
        self._evaluators: dict[tuple[int, bytes], _nepy.NEPY] = {}

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system), forces (eV Å-1, per atom), stress (eV Å-3)."""
        cells = state.row_vector_cell.numpy()
        positions = state.positions.detach().numpy()
        numbers = state.atomic_numbers.numpy()
        ends = np.cumsum(np.bincount(state.system_idx.numpy(), minlength=len(cells))).tolist()
        energy = np.empty(len(cells))
        forces = np.empty_like(positions)
        stress = np.empty((len(cells), 3, 3))
        begin = 0
        for index, (cell, end) in enumerate(zip(cells, ends, strict=True)):
            atoms = slice(begin, end)
            evaluator = self._evaluator(index, numbers[atoms], cell, positions[atoms])
            energies, per_axis, virials = evaluator.get_potential_forces_and_virials()
            energy[index] = np.sum(energies)
            forces[atoms] = np.reshape(per_axis, (3, -1)).T
            virial = np.reshape(virials, (9, -1)).sum(1).reshape(3, 3)
            stress[index] = -virial / abs(np.linalg.det(cell))
            begin = end
        return {
            "energy": torch.from_numpy(energy),
            "forces": torch.from_numpy(forces),
            "stress": torch.from_numpy(stress),
        }

    def _evaluator(
        self, index: int, numbers: np.ndarray, cell: np.ndarray, positions: np.ndarray
    ) -> _nepy.NEPY:
        columns, axes = list(cell.T.ravel()), list(positions.T.ravel())
        key = (index, numbers.tobytes())
        if key not in self._evaluators:
            symbols = [chemical_symbols[number] for number in numbers]
            with contextlib.redirect_stdout(io.StringIO()):  # it prints the model's header
                self._evaluators[key] = _nepy.NEPY(
                    self.path, len(numbers), columns, symbols, axes, [1.0] * len(numbers)
                )
        else:
            self._evaluators[key].set_cell(columns)
            self._evaluators[key].set_positions(axes)
        return self._evaluators[key]


class TorchNEP(ModelInterface):
    """A ``nep.txt`` file evaluated by neppo in torch, all systems in one batch, on any device.

    Parameters
    ----------
    path : str or Path
        A NEP4 potential in GPUMD's ``nep.txt`` format (energies in eV, lengths in Å).
    device : torch.device or str
        Where to evaluate.
    dtype : torch.dtype
        Precision of the evaluation.
    """

    def __init__(
        self,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        import neppo

        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces = self._compute_stress = True
        self._nep = neppo.read_model(str(path), dtype=dtype).to(self._device)
        types = self._nep.types
        table = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        table[[chemical_symbols.index(symbol) for symbol in types]] = torch.arange(len(types))
        self._species_of = table.to(self._device)
        descriptor = self._nep.descriptor
        self._radial, self._angular = (
            torch.as_tensor(cutoffs, dtype=dtype, device=self._device)
            for cutoffs in (descriptor.radial_cutoffs, descriptor.angular_cutoffs)
        )

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system), forces (eV Å-1, per atom), stress (eV Å-3)."""
        from neppo.graph import Batch

        positions = state.wrap_positions.to(self._dtype)
        cell = state.row_vector_cell.to(self._dtype)
        # the default list compiles for minutes on a CPU
        neighbours = torchsim_nl if positions.is_cuda else torch_nl_linked_cell
        edges, system, shifts = neighbours(
            positions, cell, state.pbc, float(self._radial.max()), state.system_idx
        )
        vectors = positions[edges[1]] - positions[edges[0]]
        vectors = vectors + torch.einsum("eyx,ey->ex", cell[system], shifts.to(self._dtype))
        length = vectors.norm(dim=1)
        species = self._species_of[state.atomic_numbers.long()]
        centre, neighbour = species[edges[0]], species[edges[1]]
        kept = length < 0.5 * (self._radial[centre] + self._radial[neighbour])
        angular = length < 0.5 * (self._angular[centre] + self._angular[neighbour])
        # neppo takes the angular edges first
        order = torch.argsort((~angular[kept]).to(torch.int8), stable=True)
        batch = Batch(
            species=species,
            structure_index=state.system_idx,
            edge_index=edges[:, kept][:, order],
            edge_vectors=vectors[kept][order],
            n_angular_edges=int((angular & kept).sum()),
            n_structures=state.n_systems,
        )
        results = self._nep(batch)
        volume = torch.linalg.det(cell).abs()[:, None, None]
        return {
            "energy": results["energy"].detach(),
            "forces": results["forces"].detach(),
            "stress": (-results["virial"] / volume).detach(),
        }


def nep(path: str | Path, *, device: torch.device | str = "cpu") -> CompiledNEP | TorchNEP:
    """Load a NEP file for a device: compiled code on a CPU, torch elsewhere.

    Parameters
    ----------
    path : str or Path
        A NEP4 potential in GPUMD's ``nep.txt`` format.
    device : torch.device or str
        Where to evaluate.
    """
    if torch.device(device).type == "cpu":
        return CompiledNEP(path)
    return TorchNEP(path, device)


def species_and_cutoff(path: str | Path) -> tuple[tuple[str, ...], float]:
    """Read the chemical symbols and the largest cutoff (Å) from the head of a NEP file."""
    header = read_header(str(path))
    return tuple(header.types), float(np.max(header.radial_cutoff))
