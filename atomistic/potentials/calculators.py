"""Any ASE calculator as a torch-sim model."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState


class CalculatorModel(ModelInterface):
    """Evaluate an ASE calculator, one system after another, on the CPU.

    Parameters
    ----------
    calculator : ase.calculators.calculator.Calculator
        Gives energy (eV) and forces (eV Å-1); stress (eV Å-3) where it can.
    """

    def __init__(self, calculator: Calculator) -> None:
        super().__init__()
        self.calculator = calculator
        self._device, self._dtype = torch.device("cpu"), torch.float64
        self._compute_forces = True
        self._compute_stress = "stress" in calculator.implemented_properties

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system), forces (eV Å-1, per atom), stress (eV Å-3)."""
        cells = state.row_vector_cell.numpy()
        system = state.system_idx.numpy()
        positions = state.positions.detach().numpy()
        numbers = state.atomic_numbers.numpy()
        energy = np.empty(len(cells))
        forces = np.empty_like(positions)
        stress = np.full((len(cells), 3, 3), np.nan)
        for index, cell in enumerate(cells):
            mine = system == index
            atoms = Atoms(numbers[mine], positions[mine], cell=cell, pbc=state.pbc.numpy())
            atoms.calc = self.calculator
            energy[index] = atoms.get_potential_energy()
            forces[mine] = atoms.get_forces()
            if self._compute_stress:
                try:
                    stress[index] = atoms.get_stress(voigt=False)
                except PropertyNotImplementedError:
                    self._compute_stress = False
        results = {"energy": energy, "forces": forces}
        if self._compute_stress:
            results["stress"] = stress
        return {name: torch.from_numpy(value) for name, value in results.items()}
