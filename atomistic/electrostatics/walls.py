"""Walls that ions cannot pass, where electrodes are of charges alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState


class Walls(ModelInterface):
    r"""Two walls across z that repel exponentially.

    .. math:: u(z) = u_0 \left[ e^{-(z - z_1)/l} + e^{-(z_2 - z)/l} \right]

    Parameters
    ----------
    low, high : float
        Heights :math:`z_1` and :math:`z_2` (Å) at which a wall has the energy `energy`.
    elements : sequence of str
        Which atoms feel them.
    energy : float
        :math:`u_0` (eV).
    length : float
        Length l (Å) over which a wall falls by e.
    device, dtype : torch.device, torch.dtype
        Where and in which precision.

    Raises
    ------
    ValueError
        If the walls are not above each other, or energy or length are not positive.
    """

    def __init__(
        self,
        *,
        low: float,
        high: float,
        elements: Sequence[str],
        energy: float,
        length: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if not (low < high and energy > 0 and length > 0):
            raise ValueError(
                f"Walls: they stand at {low} and {high} Å with an energy of {energy} eV over "
                f"{length} Å; the first must be the lower one, and the others positive."
            )
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces, self._compute_stress = True, False
        self.low, self.high, self.size, self.length = low, high, energy, length
        self._feels = torch.zeros(len(atomic_numbers), dtype=torch.bool, device=self._device)
        self._feels[[atomic_numbers[element] for element in elements]] = True

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system) and forces (eV Å-1, per atom)."""
        z = state.positions[:, 2].detach().to(self._dtype)
        feels = self._feels[state.atomic_numbers.long()].to(self._dtype)
        below = self.size * torch.exp((self.low - z) / self.length) * feels
        above = self.size * torch.exp((z - self.high) / self.length) * feels
        energy = torch.zeros(state.n_systems, dtype=self._dtype, device=self._device)
        forces = torch.zeros(len(z), 3, dtype=self._dtype, device=self._device)
        forces[:, 2] = (below - above) / self.length
        return {"energy": energy.index_add(0, state.system_idx, below + above), "forces": forces}
