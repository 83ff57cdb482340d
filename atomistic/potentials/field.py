r"""What a uniform electric field does to a potential: an energy, and so forces, to be added to it.

.. math:: E(F) = E(0) - \mu \cdot F - \tfrac12 F \cdot \alpha F, \qquad
          f_i = f_i(0) + \frac{\partial}{\partial r_i}
          \Big(\mu \cdot F + \tfrac12 F \cdot \alpha F\Big)

with the dipole moment :math:`\mu` (from negative to positive charge) and the polarisability
:math:`\alpha` as functions of the positions. Fixed charges have :math:`\mu = \sum_i q_i r_i` and
feel :math:`q_i F`; a learnt response (`atomistic.learning.response`) may have both terms.

In a periodic cell this is the electric enthalpy at constant field, with :math:`\mu` for volume
times polarisation. A polarisation is known but for a quantum: it is continuous as long as
positions are not wrapped, as in all dynamics here, and so is the energy, whose zero depends on the
images that a run began with. Charges that follow positions would make the forces depend on it too,
and are refused along directions that repeat. For the same reason no stress is given.

References
----------
Souza, Iniguez, Vanderbilt, Phys. Rev. Lett. 89, 117602 (2002),
https://doi.org/10.1103/PhysRevLett.89.117602
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.potentials.compose import together
from atomistic.potentials.potential import Potential
from atomistic.units import NEUTRAL

# from a state to dipole moments (e Å; system, xyz) and polarisabilities (e Å2 V-1; system, xyz,
# xyz) or None, by differentiable operations on its positions
Response = Callable[[SimState], tuple[torch.Tensor, torch.Tensor | None]]

STEEPEST = 2.0  # times the response at rest; a field may free what inner fields had saturated


def fixed_charges(charges: Mapping[str, float]) -> Response:
    r"""Return the response of fixed charges: :math:`\mu = \sum_i q_i r_i`, no polarisability.

    Parameters
    ----------
    charges : mapping of str to float
        Charge (e) of each element.
    """
    table = torch.full((len(chemical_symbols),), torch.nan, dtype=torch.float64)
    for element, charge in charges.items():
        table[atomic_numbers[element]] = charge

    def respond(state: SimState) -> tuple[torch.Tensor, None]:
        number = state.atomic_numbers.long()
        charge = table.to(state.positions)[number]
        if bool(charge.isnan().any()):
            lacking = torch.unique(number[charge.isnan()]).tolist()
            raise ValueError(
                "fixed_charges: no charge is given for "
                f"{', '.join(chemical_symbols[one] for one in lacking)}."
            )
        return _moment(state, charge), None

    return respond


@dataclass(frozen=True)
class ModelCharges:
    r"""The response of charges that follow positions: :math:`\mu = \sum_i q_i(r)\,r_i`.

    For systems that do not repeat along the field.

    Parameters
    ----------
    charges : callable
        From a state to the charges (e) of its atoms, by differentiable operations on its positions.
    """

    charges: Callable[[SimState], torch.Tensor]

    def __call__(self, state: SimState) -> tuple[torch.Tensor, None]:
        """Return the dipole moments (e Å; system, xyz), and no polarisability."""
        return _moment(state, self.charges(state)), None


def _moment(state: SimState, charge: torch.Tensor) -> torch.Tensor:
    """Return dipole moments (e Å), of neutral systems where they repeat."""
    total = charge.new_zeros(state.n_systems).index_add(0, state.system_idx, charge).detach()
    far = float(total.abs().max())
    if bool(torch.as_tensor(state.pbc).any()) and far > NEUTRAL * len(charge):
        raise ValueError(
            f"A periodic system carries {float(total[total.abs().argmax()]):+.4g} e and has no "
            "dipole moment; give neutral ones."
        )
    moment = charge.new_zeros(state.n_systems, 3)
    return moment.index_add(0, state.system_idx, charge[:, None] * state.positions)


class UniformField(ModelInterface):
    """Energy, and so forces, of a response in a uniform field: a term of a `Sum`.

    Parameters
    ----------
    field : sequence of float, or torch.Tensor
        Field (V Å-1), (xyz,), or of each system, (system, xyz).
    response : mapping of str to float, or callable
        Charges (e) of elements; or from a state to dipole moments (e Å; system, xyz) and
        polarisabilities (e Å2 V-1; system, xyz, xyz; None if there is none), by differentiable
        operations on its positions.
    device, dtype : torch.device, torch.dtype
        Where and in which precision.

    Raises
    ------
    ValueError
        If the field is no vector or, on evaluation, if there are not as many fields as systems, a
        periodic system is not neutral, an element has no charge, or charges follow positions where
        the system repeats along the field.
    """

    def __init__(
        self,
        field: Sequence[float] | torch.Tensor,
        response: Mapping[str, float] | Response,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces, self._compute_stress = True, False
        self.field = torch.as_tensor(field, dtype=dtype, device=self._device)
        if self.field.shape[-1:] != (3,) or self.field.dim() > 2:
            raise ValueError(
                f"UniformField: a field of shape {tuple(self.field.shape)} was given; give a "
                "vector of three (V/Å), or one for each system."
            )
        self.response = fixed_charges(response) if isinstance(response, Mapping) else response

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1) and dipole_moment (e Å), the induced one with it."""
        if self.field.dim() == 2 and len(self.field) != state.n_systems:
            raise ValueError(
                f"UniformField: {len(self.field)} fields were given for {state.n_systems} systems."
            )
        field = self.field.expand(state.n_systems, 3)
        along = torch.as_tensor(state.pbc, device=field.device).expand(3) & (field != 0).any(0)
        if isinstance(self.response, ModelCharges) and bool(along.any()):
            raise ValueError(
                "UniformField: charges that follow positions were given for a system that repeats "
                "along the field, where their dipole moment depends on the choice of images; use "
                "fixed charges, or a learnt response."
            )
        with torch.enable_grad():
            given = state.positions.detach().to(self._dtype).requires_grad_(True)
            again = state.clone()
            again.positions = given
            moment, stretch = self.response(again)
            energy = -(moment * field).sum(1)
            if stretch is not None:
                induced = torch.einsum("sxy,sy->sx", stretch, field)
                energy = energy - 0.5 * (induced * field).sum(1)
                moment = moment + induced
            (slope,) = torch.autograd.grad(energy.sum(), given)
        return {
            "energy": energy.detach(),
            "forces": -slope,
            "dipole_moment": moment.detach(),
        }


def in_field(
    potential: Potential,
    field: Sequence[float],
    response: Mapping[str, float] | Response,
) -> Potential:
    """Put a potential in a uniform field.

    Parameters
    ----------
    potential : Potential
        What acts without a field.
    field : sequence of float
        Field (V Å-1), (xyz,).
    response : mapping of str to float, or callable
        As for `UniformField`.
    """
    model = potential.model
    term = UniformField(field, response, device=model.device, dtype=model.dtype)
    strength = " ".join(f"{component:g}" for component in field)
    name = f"field of {strength} V/Å"
    return together(potential, Potential(name, term, None, 0.0, licence=potential.licence))


@dataclass(frozen=True)
class Ramp:
    """A model in fields of growing strength.

    Parameters
    ----------
    strengths : tuple of float
        Fields (V Å-1).
    response : tuple of float
        Dipole that each further V/Å brings (e Å2 V-1), on the way to each strength but the first.
    largest_force : float
        Largest force on an atom (eV Å-1).
    """

    strengths: tuple[float, ...]
    response: tuple[float, ...]
    largest_force: float

    @property
    def holds(self) -> bool:
        """Whether the response is finite, along the field, and at most twice that at rest."""
        values = np.array([*self.response, self.largest_force])
        most = STEEPEST * self.response[0] + 1e-9
        bounded = (values[:-1] >= -1e-9) & (values[:-1] <= most)
        return bool(np.isfinite(values).all() and bounded.all())

    @property
    def outcome(self) -> str:
        """One sentence."""
        reached = f"Up to {self.strengths[-1]:g} V/Å the response"
        if self.holds:
            return f"{reached} stays within {STEEPEST:g} times that to weak fields."
        worst = float(np.nanmax(np.abs(self.response)))
        return (
            f"{reached} reaches {worst:.3g} e Å2/V from {self.response[0]:.3g} at rest: the model "
            "polarises without bound; damp it at short range and let it saturate."
        )


def field_ramp(
    model_in: Callable[[Sequence[float]], ModelInterface],
    structure: Atoms,
    *,
    direction: Sequence[float] = (0.0, 0.0, 1.0),
    strengths: Sequence[float] = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0),
) -> Ramp:
    """Look whether a model bears strong fields: those between ions are of volts per ångström.

    Parameters
    ----------
    model_in : callable
        From a field (V Å-1; xyz) to the model in it, which returns ``dipole_moment`` (e Å).
    structure : Atoms
        What is put in the field; its positions stay.
    direction : sequence of float
        Of the field.
    strengths : sequence of float
        Fields (V Å-1), rising from zero.
    """
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    moments, force = [], 0.0
    for strength in strengths:
        model = model_in((strength * unit).tolist())
        found = model(ts.io.atoms_to_state([structure], model.device, model.dtype))
        moments.append(float(found["dipole_moment"][0].double().cpu().numpy() @ unit))
        force = max(force, float(found["forces"].norm(dim=1).max()))
    steps = np.diff(moments) / np.diff(strengths)
    return Ramp(tuple(map(float, strengths)), tuple(map(float, steps)), force)
