"""CHGNet as a torch-sim model: all systems of a batch in one graph."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import chgnet as package
import torch
from ase.data import chemical_symbols
from ase.units import GPa
from chgnet.model import CHGNet
from pymatgen.core import Lattice, Structure
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

MOST_SYSTEMS = 16  # in one graph, for its memory


class CHGNetModel(ModelInterface):
    """A CHGNet checkpoint; it computes in single precision.

    Parameters
    ----------
    network : chgnet.model.CHGNet
        The network, on the device where it is to be evaluated.

    References
    ----------
    Deng et al., Nat. Mach. Intell. 5, 1031 (2023), https://doi.org/10.1038/s42256-023-00716-3
    """

    def __init__(self, network: CHGNet) -> None:
        super().__init__()
        self.network = network.eval()
        self.network.graph_converter.set_isolated_atom_response("ignore")
        self._device = next(network.parameters()).device
        self._dtype = torch.float32
        self._compute_forces = self._compute_stress = True

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1), stress (eV Å-3) and magnetic moments (mu_B)."""
        cells = state.row_vector_cell.detach().cpu().double().numpy()
        positions = state.positions.detach().cpu().double().numpy()
        symbols = [chemical_symbols[number] for number in state.atomic_numbers.tolist()]
        counts = torch.bincount(state.system_idx, minlength=len(cells)).tolist()
        graphs, begin = [], 0
        for cell, count in zip(cells, counts, strict=True):
            atoms = slice(begin, begin + count)
            structure = Structure(
                Lattice(cell), symbols[atoms], positions[atoms], coords_are_cartesian=True
            )
            graphs.append(self.network.graph_converter(structure).to(str(self._device)))
            begin += count
        parts = []
        with warnings.catch_warnings():
            # it turns volumes that carry gradients into numbers, on purpose
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad", UserWarning)
            for first in range(0, len(graphs), MOST_SYSTEMS):
                parts.append(self.network(graphs[first : first + MOST_SYSTEMS], task="efsm"))
        energy = torch.cat([part["e"].detach() for part in parts])
        if self.network.is_intensive:
            energy = energy * torch.tensor(counts, device=energy.device)
        return {
            "energy": energy.to(self._dtype),
            "forces": torch.cat([each for part in parts for each in part["f"]]).detach(),
            "stress": torch.stack([each for part in parts for each in part["s"]]).detach() * GPa,
            "magnetic_moments": torch.cat([each for part in parts for each in part["m"]]).detach(),
        }


def pretrained(version: str, device: torch.device) -> tuple[CHGNetModel, Path, float]:
    """Load a checkpoint of the wheel: the model, its file and its cutoff (Å).

    Parameters
    ----------
    version : str
        "0.3.0" or "r2scan", folders of the package.
    device : torch.device
        Where to evaluate.
    """
    network: Any = CHGNet.load(model_name=version, use_device=device.type, verbose=False)
    (path,) = (Path(package.__file__).parent / "pretrained" / version).glob("*.pth.tar")
    return CHGNetModel(network), path, float(network.graph_converter.atom_graph_cutoff)
