"""A model with what one has to know before trusting it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from ase import Atoms
from torch_sim.models.interface import ModelInterface


@dataclass(frozen=True)
class Potential:
    """A model with what one has to know before trusting it.

    Parameters
    ----------
    name : str
        Name it was loaded by.
    model : torch_sim.models.interface.ModelInterface
        State to energy (eV), forces (eV Å-1) and stress (eV Å-3).
    species : tuple of str or None
        Elements it was trained on; None if it does not say.
    cutoff : float
        Interaction cutoff (Å); nan if unknown.
    licence : str
        Licence of the weights.
    sha256 : str
        Hash of the weights file; empty if there is none.
    closest_approach : mapping of str to float
        Per pair ("Li-S"), the distance (Å) below which the potential is not to be believed.
    """

    name: str
    model: ModelInterface
    species: tuple[str, ...] | None
    cutoff: float
    licence: str = "unknown"
    sha256: str = ""
    closest_approach: Mapping[str, float] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """Precision that it computes in: "float32" or "float64"."""
        return str(self.model.dtype).removeprefix("torch.")

    def describe(self) -> dict[str, str | float]:
        """Say what one has to know of it, in flat words and numbers: units, limits, origin."""
        return {
            "name": self.name,
            "species": "unstated" if self.species is None else " ".join(self.species),
            "cutoff_angstrom": self.cutoff,
            "units": "eV, Å, eV Å-1, eV Å-3",
            "precision": self.precision,
            "device": str(self.model.device),
            "gives_stress": str(bool(self.model.compute_stress)),
            "parameters": sum(each.numel() for each in self.model.parameters()),
            "licence": self.licence,
            "sha256": self.sha256,
        }

    def closest(self, one: str, other: str) -> float:
        """Closest approach of two elements (Å); 0 if none is stated."""
        return self.closest_approach.get("-".join(sorted((one, other))), 0.0)

    def check_elements(self, structures: Iterable[Atoms]) -> None:
        """Raise ValueError if a structure holds an element that the potential does not know."""
        if self.species is None:
            return
        unknown = {symbol for atoms in structures for symbol in set(atoms.symbols)}
        unknown -= set(self.species)
        if unknown:
            raise ValueError(
                f"The structure holds {', '.join(sorted(unknown))}, but the potential "
                f"{self.name!r} knows only {', '.join(self.species)}; choose a potential that "
                "was trained on every element."
            )


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device.

    Raises
    ------
    ValueError
        If the word is unknown, or "cuda" is asked for and no GPU is there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"Device {device!r} is unknown; use 'auto', 'cpu' or 'cuda'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "Device 'cuda' was asked for, but torch sees no GPU; use device = 'auto' or 'cpu'."
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
