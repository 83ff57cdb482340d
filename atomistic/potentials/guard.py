r"""A running check in dynamics: it stops with a sentence, and keeps the last state that was good.

Energy is watched without knowing the integrator or its thermostat. Whatever moves the atoms, what
the energy loses between two calls is the work of the forces on the way,

.. math:: D = U(t) - U(0) + \sum_n \tfrac12 (F_n + F_{n+1}) \cdot (r_{n+1} - r_n) .

In the microcanonical ensemble D is the drift of the total energy, under a thermostat that of its
conserved quantity, but for a term of the last step that does not grow. Forces that are no
gradient, energies that jump and a timestep that is too long all make it grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch_sim as ts
from ase.data import atomic_numbers, chemical_symbols
from ase.io import write
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.potentials.committee import force_spread, members
from atomistic.potentials.pairs import neighbours
from atomistic.potentials.potential import Potential

JUMP = 0.5  # Å; an atom that went further between two calls was put there, not moved


class Untrustworthy(RuntimeError):
    """A model was asked about something that it does not know."""


class Guarded(ModelInterface):
    """A model that refuses what it cannot vouch for, whoever drives it.

    Parameters
    ----------
    model : torch_sim.models.interface.ModelInterface
        What is guarded.
    closest_approach : mapping of str to float
        Per pair ("Li-S"), the smallest distance (Å) allowed.
    force_cap : float, optional
        Largest force on an atom (eV Å-1) allowed.
    spread_cap : float, optional
        Largest spread of a component of an atom's force over the members (eV Å-1) allowed.
    drift_cap : float, optional
        Largest drift D (eV per atom) allowed. While the cell changes, nothing is counted.
    every : int
        Calls between looks at the spread, which costs all members; the rest is always looked at.
    last_good : Path, optional
        File (extxyz) for the state before the one that is refused.
    """

    def __init__(
        self,
        model: ModelInterface,
        *,
        closest_approach: Mapping[str, float] | None = None,
        force_cap: float | None = None,
        spread_cap: float | None = None,
        drift_cap: float | None = None,
        every: int = 10,
        last_good: Path | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._device, self._dtype = model.device, model.dtype
        self._compute_forces, self._compute_stress = model.compute_forces, model.compute_stress
        self.force_cap, self.spread_cap, self.every = force_cap, spread_cap, every
        self.drift_cap, self.last_good = drift_cap, last_good
        self.calls = 0
        self._good: SimState | None = None
        self._found: tuple[torch.Tensor, torch.Tensor] | None = None
        self._account: torch.Tensor | None = None
        self._nearest = torch.zeros(len(chemical_symbols), len(chemical_symbols))
        for pair, distance in (closest_approach or {}).items():
            one, other = (atomic_numbers[symbol] for symbol in pair.split("-"))
            self._nearest[one, other] = self._nearest[other, one] = distance
        self._nearest = self._nearest.to(self._device, self._dtype)
        self._reach = float(self._nearest.max())

    def members(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (eV; system, member) and forces (eV Å-1; atom, member, xyz) of each member."""
        return self.model.members(state)  # type: ignore[operator, no-any-return]

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return what the model does; raise Untrustworthy where it cannot be believed."""
        results: dict[str, torch.Tensor] = self.model(state)
        if self.drift_cap is not None:
            self._account = self._drifted(state, results)
        if fault := self._fault(state, results):
            saved = ""
            if self.last_good is not None and self._good is not None:
                write(self.last_good, ts.io.state_to_atoms(self._good), format="extxyz")
                saved = f" The state before it is in {self.last_good}."
            raise Untrustworthy(
                f"{fault}, in call {self.calls} of the guarded model; label such structures and "
                f"train again, or lower the temperature.{saved}"
            )
        self.calls += 1
        self._good = state.clone()
        if self.drift_cap is not None:
            self._found = (results["energy"].double(), results["forces"].double())
        return results

    @property
    def drift(self) -> torch.Tensor | None:
        """Drift D of each system so far (eV per atom); None before the first call with a cap."""
        if self._account is None or self._good is None:
            return None
        return self._account / self._good.n_atoms_per_system

    def _drifted(self, state: SimState, results: dict[str, torch.Tensor]) -> torch.Tensor:
        """Add what one more step leaves unaccounted for (eV; system); none of what was put."""
        energy, forces = results["energy"].double(), results["forces"].double()
        good, found = self._good, self._found
        if (
            good is None
            or found is None
            or self._account is None
            or good.positions.shape != state.positions.shape
            or not torch.equal(good.system_idx, state.system_idx)
            or not torch.equal(good.atomic_numbers, state.atomic_numbers)
        ):
            return torch.zeros_like(energy)
        moved = state.positions.double() - good.positions.double()
        work = torch.zeros_like(energy).index_add(
            0, state.system_idx, 0.5 * ((forces + found[1]) * moved).sum(1)
        )
        farthest = torch.zeros_like(energy).scatter_reduce(
            0, state.system_idx, moved.norm(dim=1), "amax"
        )
        same = (good.cell == state.cell).flatten(1).all(1) & (farthest < JUMP)
        return self._account + torch.where(same, energy - found[0] + work, 0.0)

    def _fault(self, state: SimState, results: dict[str, torch.Tensor]) -> str | None:
        force = results["forces"].norm(dim=1)
        if not bool(torch.isfinite(force).all()):
            return "A force is not a number"
        if self.force_cap is not None and float(force.max()) > self.force_cap:
            return (
                f"The force on {self._name(state, int(force.argmax()))} is "
                f"{float(force.max()):.3g} eV/Å, above the {self.force_cap:g} eV/Å allowed"
            )
        if self.drift_cap is not None and self._account is not None:
            drift = (self._account / state.n_atoms_per_system).abs()
            if float(drift.max()) > self.drift_cap:
                return (
                    f"Energy and the work of the forces have come apart by "
                    f"{float(drift.max()):.2g} eV per atom in system {int(drift.argmax())}, above "
                    f"the {self.drift_cap:g} eV allowed: the timestep is too long, or the forces "
                    "are no gradient of the energy"
                )
        if self._reach:
            centre, neighbour, _, vector = neighbours(state, self._reach)
            numbers = state.atomic_numbers.long()
            inside = self._nearest[numbers[centre], numbers[neighbour]] - vector.norm(dim=1)
            if len(inside) and float(inside.max()) > 0:
                at = int(inside.argmax())
                return (
                    f"{self._name(state, int(centre[at]))} and "
                    f"{self._name(state, int(neighbour[at]))} are {float(vector[at].norm()):.2f} Å "
                    f"apart, nearer than the {float(inside[at] + vector[at].norm()):.2f} Å allowed"
                )
        if self.spread_cap is not None and self.calls % self.every == 0:
            spread = force_spread(members(self.model, state)[1])
            if float(spread.max()) > self.spread_cap:
                return (
                    f"The members differ by {float(spread.max()):.3g} eV/Å in the force on "
                    f"{self._name(state, int(spread.argmax()))}, above the "
                    f"{self.spread_cap:g} eV/Å allowed"
                )
        return None

    def _name(self, state: SimState, atom: int) -> str:
        symbol = chemical_symbols[int(state.atomic_numbers[atom])]
        return f"{symbol} (atom {atom}, system {int(state.system_idx[atom])})"


def guarded(
    potential: Potential,
    *,
    force_cap: float | None = None,
    spread_cap: float | None = None,
    drift_cap: float | None = None,
    every: int = 10,
    last_good: Path | None = None,
) -> Potential:
    """Put a guard before a potential; its own closest approaches are among what is checked.

    Parameters
    ----------
    potential : Potential
        What is guarded.
    force_cap : float, optional
        Largest force on an atom (eV Å-1) allowed.
    spread_cap : float, optional
        Largest spread of a component of an atom's force over the members (eV Å-1) allowed.
    drift_cap : float, optional
        Largest drift of the conserved energy (eV per atom) allowed; see the module.
    every : int
        Calls between looks at the spread.
    last_good : Path, optional
        File (extxyz) for the state before the one that is refused.
    """
    model = Guarded(
        potential.model,
        closest_approach=potential.closest_approach,
        force_cap=force_cap,
        spread_cap=spread_cap,
        drift_cap=drift_cap,
        every=every,
        last_good=last_good,
    )
    return Potential(
        name=potential.name,
        model=model,
        species=potential.species,
        cutoff=potential.cutoff,
        licence=potential.licence,
        sha256=potential.sha256,
        closest_approach=potential.closest_approach,
    )
