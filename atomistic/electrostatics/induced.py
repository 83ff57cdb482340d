r"""Charges and induced point dipoles that do not run away: damped at short range, and saturating.

Atoms of polarisability :math:`\alpha_i` carry dipoles :math:`p_i` that minimise

.. math::
    E = \sum_i u_i(p_i) - \sum_i p_i \cdot (E^q_i + F)
        + \tfrac12 \sum_{ij} p_i \cdot T_{ij}\, p_j
        + \sum_{i<j} \frac{k_e q_i q_j}{r_{ij}} - F \cdot \sum_i q_i r_i

in the field :math:`E^q` of the charges and a uniform field F. Linear response is
:math:`u = p^2/2\alpha`. Two bare dipoles nearer than :math:`(4\alpha_i\alpha_j)^{1/6}` then gain
without end: the polarisation catastrophe. Two things prevent it. Thole's smearing damps what
charges and dipoles do to each other at short range,

.. math::
    \lambda_3 = 1 - e^{-a w^3}, \qquad \lambda_5 = 1 - (1 + a w^3)\,e^{-a w^3}, \qquad
    w = r/(\alpha_i \alpha_j)^{1/6},

and a dipole saturates: :math:`u = -\frac{m^2}{2\alpha} \ln(1 - p^2/m^2)` is harmonic for small p
and lets no dipole exceed m, however strong the field; the energy is then bounded below whatever
the distances. It is an exact oracle for learnt dipoles and polarisabilities too.

References
----------
Thole, Chem. Phys. 59, 341 (1981), https://doi.org/10.1016/0301-0104(81)85176-2

van Duijnen, Swart, J. Phys. Chem. A 102, 2399 (1998), https://doi.org/10.1021/jp980221f
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.electrostatics.ewald import COULOMB

DAMPING = 0.572  # a, of the exponential form
STEPS = 60  # of Newton's method, most
SMALL = 1e-12  # of a residual (V Å-1), where it ends


class InducedDipoles(ModelInterface):
    """Charges and induced dipoles of molecules and clusters that do not repeat.

    Parameters
    ----------
    charges : mapping of str to float
        Charge (e) of each element.
    polarisabilities : mapping of str to float
        Polarisability volume (Å3) of each element.
    damping : float
        Thole's a (1); infinite for bare points.
    saturation : mapping of str to float, optional
        Largest dipole m (e Å) of each element; response is linear where none is given.
    field : sequence of float
        Uniform field (V Å-1).
    device, dtype : torch.device, torch.dtype
        Where and in which precision.

    Raises
    ------
    ValueError
        If the numbers are wrong or, on evaluation, if a system is periodic, an element is unknown
        or the linear response is no minimum: the polarisation catastrophe.
    """

    def __init__(
        self,
        charges: Mapping[str, float],
        polarisabilities: Mapping[str, float],
        *,
        damping: float = DAMPING,
        saturation: Mapping[str, float] | None = None,
        field: Sequence[float] = (0.0, 0.0, 0.0),
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        faults = []
        if set(charges) != set(polarisabilities):
            faults.append(
                f"charges are given for {', '.join(sorted(charges))}, polarisabilities for "
                f"{', '.join(sorted(polarisabilities))}; give both for each"
            )
        if any(not value > 0 for value in polarisabilities.values()):
            faults.append(f"polarisabilities are {dict(polarisabilities)} Å3, but must be positive")
        if any(not value > 0 for value in (saturation or {}).values()):
            faults.append(f"saturation is {dict(saturation or {})} e Å, but must be positive")
        if not damping > 0:
            faults.append(f"damping is {damping}, but must be positive")
        if faults:
            raise ValueError("InducedDipoles: " + "; ".join(faults) + ".")
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces, self._compute_stress = True, False
        self.damping = float(damping)
        self.field = torch.tensor(field, dtype=dtype, device=self._device)
        table = torch.full((3, len(chemical_symbols)), math.nan, dtype=dtype, device=self._device)
        table[2] = math.inf
        for row, values in enumerate((charges, polarisabilities, saturation or {})):
            for element, value in values.items():
                table[row, atomic_numbers[element]] = value
        self._charge, self._volume, self._most = table

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1) and dipole_moment (e Å) of each system."""
        given = state.positions.detach().to(self._dtype).requires_grad_(True)
        energies, moments = [], []
        with torch.enable_grad():
            for position, charge, volume, most in self._systems(state, given):
                energy, dipole = self._solved(position, charge, volume, most)
                energies.append(energy)
                total = dipole.sum(0) + (charge[:, None] * position).sum(0)
                moments.append(total.detach())
            energy = torch.stack(energies)
            (slope,) = torch.autograd.grad(energy.sum(), given)
        return {
            "energy": energy.detach(),
            "forces": -slope,
            "dipole_moment": torch.stack(moments),
        }

    def respond(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Return dipoles (e Å; system, xyz) and polarisabilities (e Å2 V-1) of linear response.

        In no field; both with their graph.
        """
        moments, tensors = [], []
        for position, charge, volume, _ in self._systems(state, state.positions.to(self._dtype)):
            atoms = len(position)
            field = self._field_of(position, charge, volume)
            inverse = torch.linalg.inv(self._stiffness(position, volume))
            dipole = (inverse @ field.reshape(-1)).reshape(atoms, 3)
            moments.append((dipole + charge[:, None] * position).sum(0))
            tensors.append(inverse.reshape(atoms, 3, atoms, 3).sum((0, 2)))
        return torch.stack(moments), torch.stack(tensors)

    def _systems(
        self, state: SimState, positions: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Return position, charge, polarisability (e Å2 V-1) and largest dipole, by system."""
        if bool(torch.as_tensor(state.pbc).any()):
            raise ValueError(
                "InducedDipoles: a periodic system was given, whose images it does not see; set "
                "pbc to False, or use Coulomb for charges alone."
            )
        number = state.atomic_numbers.long()
        known = torch.isfinite(self._charge[number])
        if not bool(known.all()):
            lacking = torch.unique(number[~known]).tolist()
            raise ValueError(
                "InducedDipoles: nothing is known of "
                f"{', '.join(chemical_symbols[one] for one in lacking)}."
            )
        counts = state.n_atoms_per_system.tolist()
        parts = (positions, self._charge[number], self._volume[number] / COULOMB)
        return list(
            zip(*(torch.split(each, counts) for each in (*parts, self._most[number])), strict=True)
        )

    def _pairs(
        self, position: torch.Tensor, volume: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return vectors, distances (inf to itself), and Thole's two factors."""
        vector = position[None] - position[:, None]
        itself = torch.eye(len(position), dtype=torch.bool, device=position.device)
        square = torch.where(itself, 1.0, vector.square().sum(2))
        distance = torch.where(itself, math.inf, square.sqrt())
        if math.isinf(self.damping):
            one = torch.ones_like(square)
            return vector, distance, one, one
        size = (volume[:, None] * volume * COULOMB**2).sqrt()
        power = self.damping * square.sqrt() ** 3 / size
        fade = torch.exp(-power)
        return vector, distance, 1 - fade, 1 - (1 + power) * fade

    def _stiffness(self, position: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        """Return the second derivative of the energy by the dipoles (V Å-1 per e Å), linear."""
        vector, distance, third, fifth = self._pairs(position, volume)
        one = torch.eye(3, dtype=position.dtype, device=position.device)
        coupling = (COULOMB * third / distance**3)[:, :, None, None] * one
        outer = vector[..., :, None] * vector[..., None, :]
        coupling = coupling - (3 * COULOMB * fifth / distance**5)[:, :, None, None] * outer
        atoms = len(position)
        matrix = coupling.permute(0, 2, 1, 3).reshape(3 * atoms, 3 * atoms)
        return matrix + torch.diag((1 / volume).repeat_interleave(3))

    def _field_of(
        self, position: torch.Tensor, charge: torch.Tensor, volume: torch.Tensor
    ) -> torch.Tensor:
        """Return the damped field of the charges at each atom (V Å-1)."""
        vector, distance, third, _ = self._pairs(position, volume)
        # the vector points to the other atom, whose field points away from it
        return -((COULOMB * third / distance**3 * charge)[..., None] * vector).sum(1)

    def _solved(
        self,
        position: torch.Tensor,
        charge: torch.Tensor,
        volume: torch.Tensor,
        most: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the energy (eV), with its graph of the positions, and the dipoles (e Å)."""
        stiff = self._stiffness(position, volume)
        field = (self._field_of(position, charge, volume) + self.field).reshape(-1)
        coupled = stiff - torch.diag((1 / volume).repeat_interleave(3))
        dipole = self._minimum(coupled.detach(), field.detach(), volume, most)
        # at the minimum the energy does not depend on the dipoles to first order
        _, distance, _, _ = self._pairs(position, volume)
        product = COULOMB * charge[:, None] * charge / distance
        flat = dipole.reshape(-1)
        energy = (
            _own(dipole, volume, most)
            - flat @ field
            + 0.5 * flat @ coupled @ flat
            + 0.5 * product.sum()
            - (charge[:, None] * position).sum(0) @ self.field
        )
        return energy, dipole

    def _minimum(
        self, coupled: torch.Tensor, field: torch.Tensor, volume: torch.Tensor, most: torch.Tensor
    ) -> torch.Tensor:
        """Find the dipoles (e Å; atom, xyz) that minimise the energy, by Newton's method."""
        dipole = torch.zeros(len(volume), 3, dtype=field.dtype, device=field.device)

        def energy(at: torch.Tensor) -> torch.Tensor:
            flat = at.reshape(-1)
            return _own(at, volume, most) - flat @ field + 0.5 * flat @ coupled @ flat

        for _ in range(STEPS):
            left, bend = _own_slopes(dipole, volume, most)
            slope = left.reshape(-1) + coupled @ dipole.reshape(-1) - field
            if float(slope.abs().max()) < SMALL * max(1.0, float(field.abs().max())):
                break
            curvature = coupled + torch.block_diag(*bend)
            lowest = float(torch.linalg.eigvalsh(curvature)[0])
            if lowest <= 0:
                if bool(torch.isinf(most).any()):
                    raise ValueError(
                        "InducedDipoles: the induced dipoles run away (polarisation catastrophe); "
                        "damp them more, or give saturation."
                    )
                # away from the minimum: downhill all the same
                curvature = curvature + (1e-3 - lowest) * torch.eye(len(field)).to(curvature)
            step = -torch.linalg.solve(curvature, slope).reshape(-1, 3)
            length = 1.0
            inside = torch.where(torch.isinf(most), math.inf, 0.999 * most)
            start = energy(dipole)
            while length > 1e-12 and (
                bool(((dipole + length * step).norm(dim=1) >= inside).any())
                or bool(energy(dipole + length * step) > start + 1e-14 * start.abs())
            ):
                length /= 2
            dipole = dipole + length * step
        return dipole


def _own(dipole: torch.Tensor, volume: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """Return what it costs to have dipoles (eV)."""
    square = dipole.square().sum(1)
    finite = torch.where(torch.isinf(most), 1.0, most).square()
    bounded = -finite * torch.log1p(-torch.where(torch.isinf(most), 0.0, square / finite))
    return (torch.where(torch.isinf(most), square, bounded) / (2 * volume)).sum()


def _own_slopes(
    dipole: torch.Tensor, volume: torch.Tensor, most: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return first (atom, xyz) and second (atom, xyz, xyz) derivatives of `_own` by each dipole."""
    share = dipole.square().sum(1) / most.square()
    soft = 1 / (volume * (1 - share))
    one = torch.eye(3, dtype=dipole.dtype, device=dipole.device)
    outer = dipole[:, :, None] * dipole[:, None]
    steep = 2 * soft / (most.square() * (1 - share))
    return soft[:, None] * dipole, soft[:, None, None] * one + steep[:, None, None] * outer
