"""Several potentials as one: their mean drives, their spread says where they do not know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.potentials.potential import Potential


@runtime_checkable
class HasMembers(Protocol):
    """A model of several members: a `Committee`, or a network with several heads."""

    def members(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (eV; system, member) and forces (eV Å-1; atom, member, xyz) of each member."""
        ...


class Committee(ModelInterface):
    """Mean energy, forces and stress of several models.

    Parameters
    ----------
    models : sequence of torch_sim.models.interface.ModelInterface
        At least two, on one device and of one precision. Stress is given where all of them give it.

    Raises
    ------
    ValueError
        If there are fewer than two, or they differ in device or precision.
    """

    def __init__(self, models: Sequence[ModelInterface]) -> None:
        super().__init__()
        if len(models) < 2:
            raise ValueError(
                f"A committee needs at least two members, but was given {len(models)}."
            )
        kinds = {(str(model.device), str(model.dtype)) for model in models}
        if len(kinds) > 1:
            raise ValueError(
                "The members of a committee must compute on one device in one precision, but were "
                f"given on {', '.join(sorted(' in '.join(kind) for kind in kinds))}."
            )
        self.models = torch.nn.ModuleList(models)
        self._device, self._dtype = models[0].device, models[0].dtype
        self._compute_forces = True
        self._compute_stress = all(model.compute_stress for model in models)

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1) and stress (eV Å-3), means over the members."""
        results = [model(state) for model in self.models]
        return {
            name: torch.stack([result[name].detach() for result in results]).mean(0)
            for name in ("energy", "forces", "stress")
            if all(name in result for result in results)
        }

    def members(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (eV; system, member) and forces (eV Å-1; atom, member, xyz) of each member."""
        results = [model(state) for model in self.models]
        return (
            torch.stack([result["energy"].detach() for result in results], dim=1),
            torch.stack([result["forces"].detach() for result in results], dim=1),
        )


def committee(potentials: Sequence[Potential]) -> Potential:
    """Make one potential of several: it knows the elements that all of them know.

    Parameters
    ----------
    potentials : sequence of Potential
        At least two.

    Raises
    ------
    ValueError
        If there are fewer than two, they differ in device or precision or share no element.
    """
    model = Committee([potential.model for potential in potentials])
    known = [set(potential.species) for potential in potentials if potential.species is not None]
    species = tuple(sorted(set.intersection(*known))) if known else None
    if species == ():
        raise ValueError(
            f"The potentials {', '.join(one.name for one in potentials)} share no element; a "
            "committee of them knows nothing."
        )
    closest: dict[str, float] = {}
    for potential in potentials:
        for pair, distance in potential.closest_approach.items():
            closest[pair] = max(distance, closest.get(pair, 0.0))
    digests = [potential.sha256 for potential in potentials]
    return Potential(
        name=f"committee of {', '.join(potential.name for potential in potentials)}",
        model=model,
        species=species,
        cutoff=max(potential.cutoff for potential in potentials),
        licence="; ".join(sorted({potential.licence for potential in potentials})),
        sha256=hashlib.sha256("".join(digests).encode()).hexdigest() if all(digests) else "",
        closest_approach=closest,
    )


def members(model: ModelInterface, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (eV; system, member) and forces (eV Å-1; atom, member, xyz) of a committee.

    Parameters
    ----------
    model : torch_sim.models.interface.ModelInterface
        With members.
    state : SimState
        Systems to look at.

    Raises
    ------
    ValueError
        If the model has no members, or a single one.
    """
    if not isinstance(model, HasMembers):
        raise ValueError(
            f"{type(model).__name__} has no members, so it cannot say where it does not know; "
            "train a committee or put several potentials together with committee(...)."
        )
    energy, forces = model.members(state)
    if energy.shape[1] < 2:
        raise ValueError(
            "The model has a single member, so nothing spreads; train it with at least two."
        )
    return energy, forces


def force_spread(forces: torch.Tensor) -> torch.Tensor:
    r"""Standard deviation over members of a component of the force on each atom (eV Å-1).

    .. math:: s_i^2 = \frac{1}{3(K-1)} \sum_k |F_{ik} - \bar F_i|^2

    Parameters
    ----------
    forces : torch.Tensor
        As `members` returns them (eV Å-1; atom, member, xyz).
    """
    apart = (forces - forces.mean(1, keepdim=True)).square().sum((1, 2))
    return (apart / (3 * (forces.shape[1] - 1))).sqrt()
