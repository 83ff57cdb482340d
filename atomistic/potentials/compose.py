"""Potentials put together: short range and long range, pairs beside a learnt potential."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.potentials.load import Potential

ADDED = ("energy", "forces", "stress")  # what a sum adds up; anything else belongs to one term


class Sum(ModelInterface):
    r"""Several models as one: :math:`E = \sum_m E_m`, and so forces and stress.

    Stress is given where every model gives one, since a part of it would pass for the whole.
    What else a model returns, such as charges, is handed through; the later model wins.

    Parameters
    ----------
    models : sequence of torch_sim ModelInterface
        Two or more, on one device and of one precision.

    Raises
    ------
    ValueError
        If there are fewer than two models, or their devices or precisions differ.
    """

    def __init__(self, models: Sequence[ModelInterface]) -> None:
        super().__init__()
        homes = sorted({f"{model.dtype} on {model.device}" for model in models})
        if len(models) < 2 or len(homes) > 1:
            raise ValueError(
                f"Sum: {len(models)} model(s) of {', '.join(homes) or 'nothing'} were given; give "
                "two or more of one precision on one device."
            )
        # torch_sim's own SumModel counts a model that is given twice once
        self.models = torch.nn.ModuleList(models)
        self._device, self._dtype = models[0].device, models[0].dtype
        self._compute_forces = all(model.compute_forces for model in models)
        self._compute_stress = all(model.compute_stress for model in models)

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return the sum of energies (eV), forces (eV Å-1) and, if all have it, stress (eV Å-3)."""
        found: dict[str, torch.Tensor] = {}
        for index in range(len(self.models)):
            for name, value in self.models[index](state, **kwargs).items():
                added = name in ADDED and name in found
                found[name] = found[name] + value if added else value
        if not self.compute_stress:
            found.pop("stress", None)
        return found


class Among(ModelInterface):
    """A model that sees only atoms of some elements; the others feel and add nothing of it.

    So a potential that was trained on an electrolyte can be used where there are electrodes, with
    what acts between the two as another term of a `Sum`.

    Parameters
    ----------
    model : torch_sim ModelInterface
        The model.
    elements : sequence of str
        What it sees.

    Raises
    ------
    ValueError
        On evaluation, if a system holds none of the elements.
    """

    def __init__(self, model: ModelInterface, elements: Sequence[str]) -> None:
        super().__init__()
        self.model, self.elements = model, tuple(elements)
        self._device, self._dtype = model.device, model.dtype
        self._compute_forces, self._compute_stress = model.compute_forces, model.compute_stress
        self._seen = torch.zeros(len(atomic_numbers), dtype=torch.bool, device=model.device)
        self._seen[[atomic_numbers[element] for element in elements]] = True

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1, zero on atoms not seen), stress if there is one."""
        seen = self._seen[state.atomic_numbers.long()]
        counts = torch.bincount(state.system_idx[seen], minlength=state.n_systems)
        if not bool((counts > 0).all()):
            raise ValueError(
                f"Among: system {int((counts == 0).nonzero()[0])} of the batch holds no "
                f"{' or '.join(self.elements)}."
            )
        part = SimState(
            positions=state.positions[seen],
            masses=state.masses[seen],
            cell=state.cell,
            pbc=state.pbc,
            atomic_numbers=state.atomic_numbers[seen],
            system_idx=state.system_idx[seen],
        )
        found = self.model(part, **kwargs)
        forces = torch.zeros_like(state.positions, dtype=found["forces"].dtype)
        forces[seen] = found["forces"]
        given = {name: found[name] for name in ("energy", "stress") if name in found}
        return {**given, "forces": forces}


def together(*potentials: Potential, name: str | None = None) -> Potential:
    """Return the `Sum` of potentials as one potential.

    It knows the elements that all of its terms know, reaches as far as the farthest of them and
    keeps apart what any of them keeps apart.

    Parameters
    ----------
    potentials : Potential
        Two or more.
    name : str, optional
        What to call it; their names joined by " + " if not given.

    Raises
    ------
    ValueError
        As `Sum` says, or if the terms have no element in common.
    """
    model = Sum([one.model for one in potentials])
    known = [set(one.species) for one in potentials if one.species is not None]
    species = tuple(sorted(set.intersection(*known))) if known else None
    label = name or " + ".join(one.name for one in potentials)
    if species == ():
        raise ValueError(f"together: the terms of {label} have no element in common.")
    pairs = {pair for one in potentials for pair in one.closest_approach}
    return Potential(
        name=label,
        model=model,
        species=species,
        cutoff=max(one.cutoff for one in potentials),
        licence="; ".join(dict.fromkeys(one.licence for one in potentials)),
        sha256="+".join(one.sha256 for one in potentials if one.sha256),
        closest_approach={
            pair: max(one.closest(*pair.split("-")) for one in potentials) for pair in sorted(pairs)
        },
    )
