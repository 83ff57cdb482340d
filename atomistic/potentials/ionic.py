r"""Rigid-ion melts: Born-Mayer-Huggins pairs and Ewald sums, all systems in one batch.

A classical oracle. It costs microseconds per atom where a learnt potential costs tens, its
conductivity and diffusivities are published, and every term is in closed form, so what the
estimators of `atomistic.observables` claim can be held against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.electrostatics import ewald
from atomistic.electrostatics.ewald import COULOMB
from atomistic.potentials.load import Potential
from atomistic.units import ANGSTROM, ELECTRONVOLT

ACCURACY = 1e-5  # what is left out of either sum of Ewald's, relative to a pair at contact
SWITCH = 0.8  # of the cutoff, from where dispersion and repulsion are taken to zero
AT_ONCE = 120_000  # pairs or phases in one array on a CPU: what its cache holds


@dataclass(frozen=True)
class Pair:
    r"""One pair of Born, Mayer and Huggins.

    .. math:: u(r) = B e^{(\sigma - r)/\rho} - C/r^6 - D/r^8

    Parameters
    ----------
    repulsion : float
        B (eV).
    contact : float
        sigma, the sum of the radii (Å).
    softness : float
        rho (Å).
    dipole_dipole, dipole_quadrupole : float
        C (eV Å6) and D (eV Å8).
    """

    repulsion: float
    contact: float
    softness: float
    dipole_dipole: float
    dipole_quadrupole: float


class RigidIons(ModelInterface):
    r"""Born-Mayer-Huggins pairs with Ewald's sum for the charges.

    .. math:: E = \sum_{i<j} \Big[ s(r_{ij})\,u_{ij}(r_{ij})
              + k_e q_i q_j \frac{\operatorname{erfc}(\alpha r_{ij})}{r_{ij}} \Big]
              + \frac{2 \pi k_e}{V} \sum_{k \ne 0} \frac{e^{-k^2/4\alpha^2}}{k^2} |S(k)|^2
              - \frac{k_e \alpha}{\sqrt\pi} \sum_i q_i^2

    with :math:`S(k) = \sum_j q_j e^{i k \cdot r_j}` and s a smooth switch over the last fifth of
    the cutoff. No correction is made for the dispersion beyond it, which concerns the pressure.
    Every pair of a system is evaluated, so it is meant for some hundred ions a system. With charges
    of zero the pairs are left, for another model to bring the charges (`compose.Sum`).

    Parameters
    ----------
    charges : mapping of str to float
        Charge (e) of each element.
    pairs : mapping of str to Pair
        One for each two elements, named as "Cl-Na", in alphabetical order.
    cutoff : float
        Cutoff of the direct sums (Å); at most half the smallest height of any cell.
    device : torch.device or str
        Where to evaluate.
    dtype : torch.dtype
        Precision of positions in, and results out; float32 is enough for a liquid's dynamics.

    Raises
    ------
    ValueError
        If a pair is missing, or, on evaluation, if the systems differ in size, an element has no
        charge, or a cell is smaller than twice the cutoff.

    References
    ----------
    Fumi, Tosi, J. Phys. Chem. Solids 25, 31 (1964),
    https://doi.org/10.1016/0022-3697(64)90159-3

    Allen, Tildesley, Computer Simulation of Liquids (2017), section 6.2,
    https://doi.org/10.1093/oso/9780198803195.001.0001
    """

    def __init__(
        self,
        charges: Mapping[str, float],
        pairs: Mapping[str, Pair],
        *,
        cutoff: float,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces = self._compute_stress = True
        self.cutoff = float(cutoff)
        self.screening = ewald.screening_of(self.cutoff, ACCURACY)
        self.elements = sorted(charges)
        names = ["-".join(sorted((one, two))) for one in self.elements for two in self.elements]
        if missing := sorted({name for name in names if name not in pairs}):
            raise ValueError(
                f"RigidIons: no pair is given for {', '.join(missing)}; pairs holds "
                f"{', '.join(sorted(pairs))}."
            )
        kinds = torch.full((len(chemical_symbols),), -1, dtype=torch.int64)
        for index, element in enumerate(self.elements):
            kinds[atomic_numbers[element]] = index
        self._kinds = kinds.to(self._device)
        self._charge = self._tensor([charges[element] for element in self.elements])
        size = len(self.elements)
        self._table = [
            self._tensor([getattr(pairs[name], field) for name in names]).reshape(size, size)
            for field in (
                "repulsion", "contact", "softness", "dipole_dipole", "dipole_quadrupole",
            )
        ]  # fmt: skip
        self._seen: tuple[torch.Tensor, torch.Tensor] | None = None
        self._mixed: list[torch.Tensor] = []

    def _tensor(self, values: object) -> torch.Tensor:
        return torch.tensor(values, dtype=self._dtype, device=self._device)

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV, per system), forces (eV Å-1, per atom), stress (eV Å-3)."""
        cell = state.row_vector_cell.detach().to(self._dtype)
        systems = len(cell)
        position = state.positions.detach().to(self._dtype)
        if len(position) % systems or bool(
            (state.n_atoms_per_system != len(position) // systems).any()
        ):
            raise ValueError(
                f"RigidIons: systems of {state.n_atoms_per_system.tolist()} atoms were given; "
                "give systems of equal size in one batch."
            )
        position = position.reshape(systems, -1, 3)
        kind = self._kinds[state.atomic_numbers.long()].reshape(systems, -1)
        self._check(kind, cell, state)
        charge = self._charge[kind]
        energy, force, virial = self._direct(position, cell, kind, charge)
        volume = torch.linalg.det(cell).abs()
        if bool(charge.any()):
            for total, part in zip(
                (energy, force, virial), self._smooth(position, cell, charge), strict=True
            ):
                total += part
            energy -= COULOMB * self.screening / math.sqrt(math.pi) * charge.square().sum(1)
        return {
            "energy": energy,
            "forces": force.reshape(-1, 3),
            "stress": -virial / volume[:, None, None],
        }

    def _check(self, kind: torch.Tensor, cell: torch.Tensor, state: SimState) -> None:
        """Look at elements and cells, once for each that is new."""
        if (
            self._seen is not None
            and self._seen[0].shape == kind.shape
            and torch.equal(self._seen[0], kind)
            and torch.equal(self._seen[1], cell)
        ):
            return
        if (kind < 0).any():
            unknown = {chemical_symbols[int(n)] for n in state.atomic_numbers}
            raise ValueError(
                f"RigidIons: no charge is given for "
                f"{', '.join(sorted(unknown - set(self.elements)))}."
            )
        heights = 1.0 / torch.linalg.inv(cell).norm(dim=1)
        if float(heights.min()) < 2 * self.cutoff:
            raise ValueError(
                f"RigidIons: the cutoff of {self.cutoff:g} Å is more than half the smallest "
                f"height of a cell, {float(heights.min()):.2f} Å; use a larger cell."
            )
        if (
            self._seen is None
            or self._seen[0].shape != kind.shape
            or not torch.equal(self._seen[0], kind)
        ):
            self._mixed = [table[kind[:, :, None], kind[:, None]] for table in self._table]
        self._seen = (kind.clone(), cell.clone())

    def _chunks(self, systems: int, each: int) -> list[slice]:
        """Cut a batch so that a CPU's cache holds the arrays of one cut; a GPU takes it whole."""
        step = systems if self._device.type != "cpu" else max(1, AT_ONCE // each)
        return [slice(start, start + step) for start in range(0, systems, step)]

    def _direct(
        self, position: torch.Tensor, cell: torch.Tensor, kind: torch.Tensor, charge: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs and the short-ranged part of the charges: energy, force, virial."""
        systems, atoms, _ = position.shape
        fractional = position @ torch.linalg.inv(cell)
        energy = position.new_empty(systems)
        force, virial = torch.empty_like(position), torch.empty_like(cell)
        itself = torch.eye(atoms, dtype=torch.bool, device=self._device)
        alpha, begin = self.screening, SWITCH * self.cutoff
        for part in self._chunks(systems, atoms * atoms):
            axes = fractional[part].transpose(1, 2)
            apart = axes[..., :, None] - axes[..., None, :]
            apart -= apart.round()
            # (system, xyz, one, other), each axis contiguous
            vector = torch.einsum("sxij,sxy->syij", apart, cell[part])
            square = vector.square().sum(1)
            square.masked_fill_(itself, 4 * self.cutoff**2)
            inverse = square.rsqrt()
            distance = square * inverse
            repulsion, contact, softness, six, eight = (table[part] for table in self._mixed)
            wall = repulsion * torch.exp((contact - distance) / softness)
            second = inverse.square()
            fourth = second.square()
            sixth = six * second * fourth
            eighth = eight * fourth.square()
            pair = wall - sixth - eighth
            slope = (6 * sixth + 8 * eighth) * inverse - wall / softness  # du/dr
            x = ((distance - begin) / (self.cutoff - begin)).clamp(0.0, 1.0)
            twice = x.square()
            smooth = 1 - x * twice * (10 - 15 * x + 6 * twice)
            bend = -30 * (x - twice).square() / (self.cutoff - begin)
            product = COULOMB * charge[part][:, :, None] * charge[part][:, None]
            screened = product * torch.erfc(alpha * distance) * inverse
            gauss = (2 * alpha / math.sqrt(math.pi)) * torch.exp(-(alpha**2) * square)
            inside = square < self.cutoff**2
            energy[part] = 0.5 * ((smooth * pair + screened) * inside).sum((1, 2))
            push = -(smooth * slope + bend * pair) + (screened + product * gauss) * inverse
            push = push * inverse * inside
            pushed = vector * push[:, None]
            force[part] = pushed.sum(3).transpose(1, 2)
            virial[part] = 0.5 * torch.einsum("sxij,syij->sxy", pushed, vector)
        return energy, force, virial

    def _smooth(
        self, position: torch.Tensor, cell: torch.Tensor, charge: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Smooth part of the charges, a sum over plane waves: energy, force, virial."""
        moved = position.clone().requires_grad_(True)
        strain = torch.zeros_like(cell).requires_grad_(True)
        waves = ewald.waves(cell + cell @ strain, screening=self.screening, accuracy=ACCURACY)
        places = waves.places(moved + moved @ strain)
        energy = waves.energy(waves.spread(charge, places))
        slope, bend = torch.autograd.grad(energy.sum(), [moved, strain])
        return energy.detach(), -slope, -bend


def sodium_chloride(
    *,
    cutoff: float = 9.5,
    charged: bool = True,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Potential:
    """Return the potential of Fumi and Tosi for NaCl, as Lewis, Singer and Woodcock list it.

    Parameters
    ----------
    cutoff : float
        Cutoff of the direct sums (Å).
    charged : bool
        With charges; without them only the pairs are left.
    device : str
        Where to evaluate.
    dtype : torch.dtype
        Precision.

    References
    ----------
    Lewis, Singer, Woodcock, J. Chem. Soc., Faraday Trans. 2 71, 301 (1975),
    https://doi.org/10.1039/F29757100301
    """
    joule, softness = 1.0 / ELECTRONVOLT, 1.0 / 3.15
    radius = {"Na": 1.170, "Cl": 1.585}
    pauling = {"Na-Na": 1.25, "Cl-Na": 1.0, "Cl-Cl": 0.75}
    six = {"Na-Na": 1.68, "Cl-Na": 11.2, "Cl-Cl": 116.0}  # 1e-79 J m6
    eight = {"Na-Na": 0.8, "Cl-Na": 13.9, "Cl-Cl": 233.0}  # 1e-99 J m8
    pairs = {
        name: Pair(
            repulsion=0.338e-19 * pauling[name] * joule,
            contact=sum(radius[symbol] for symbol in name.split("-")),
            softness=softness,
            dipole_dipole=six[name] * 1e-79 * joule / ANGSTROM**6,
            dipole_quadrupole=eight[name] * 1e-99 * joule / ANGSTROM**8,
        )
        for name in pauling
    }
    charges = {"Na": 1.0, "Cl": -1.0} if charged else {"Na": 0.0, "Cl": 0.0}
    model = RigidIons(charges, pairs, cutoff=cutoff, device=device, dtype=dtype)
    return Potential(
        name="Fumi-Tosi NaCl" if charged else "Fumi-Tosi NaCl, pairs only",
        model=model,
        species=("Na", "Cl"),
        cutoff=cutoff,
        licence="published parameters",
        # nearer than this dispersion wins over repulsion and ions fall into each other
        closest_approach={"Cl-Na": 1.5, "Na-Na": 1.5, "Cl-Cl": 2.0},
    )
