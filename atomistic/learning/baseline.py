"""A learnt correction to a potential that is there already, nothing counted twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from atomistic.learning.distil import label
from atomistic.potentials.committee import HasMembers
from atomistic.potentials.potential import Potential


def without(frames: Sequence[Atoms], baseline: Potential | None) -> list[Atoms]:
    """Take a baseline's part from the labels, so that the rest is what is learnt.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures; they are copied.
    baseline : Potential, optional
        What is taken off; if none, the frames come back as they are.
    """
    if baseline is None:
        return list(frames)
    rest = []
    for frame, part in zip(frames, label(frames, baseline), strict=True):
        copy = frame.copy()
        shared = {"energy", "forces", "stress"} & set(frame.calc.results) & set(part.calc.results)
        copy.calc = SinglePointCalculator(
            copy, **{name: frame.calc.results[name] - part.calc.results[name] for name in shared}
        )
        rest.append(copy)
    return rest


class Corrected(ModelInterface):
    """A baseline and a committee that was trained on what the baseline leaves.

    Parameters
    ----------
    baseline, correction : torch_sim.models.interface.ModelInterface
        On one device, of one precision; the correction has members.
    """

    def __init__(self, baseline: ModelInterface, correction: ModelInterface) -> None:
        super().__init__()
        self.baseline, self.correction = baseline, correction
        self._device, self._dtype = correction.device, correction.dtype
        self._compute_forces = True
        self._compute_stress = baseline.compute_stress and correction.compute_stress

    def forward(self, state: SimState, **kwargs: object) -> dict[str, torch.Tensor]:
        """Return energy (eV), forces (eV Å-1) and stress (eV Å-3), sums of both."""
        one, other = self.baseline(state), self.correction(state)
        return {name: value + one[name] for name, value in other.items() if name in one}

    def members(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies (eV; system, member) and forces (eV Å-1; atom, member, xyz) of each member."""
        assert isinstance(self.correction, HasMembers)
        energy, forces = self.correction.members(state)
        base = self.baseline(state)
        return energy + base["energy"][:, None], forces + base["forces"][:, None]


def corrected(baseline: Potential, correction: Potential) -> Potential:
    """Put a baseline and its correction together.

    Parameters
    ----------
    baseline, correction : Potential
        What was there, and what was learnt on the rest.
    """
    return Potential(
        name=f"{baseline.name} with {correction.name}",
        model=Corrected(baseline.model, correction.model),
        species=correction.species,
        cutoff=max(baseline.cutoff, correction.cutoff),
        closest_approach=baseline.closest_approach,
    )
