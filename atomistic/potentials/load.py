"""One function from a name, a file or an import path to a potential."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols
from torch_sim.models.interface import ModelInterface

SHIPPED = Path(__file__).parent / "shipped"

# name: (checkpoint of the sevenn package, modality)
SEVENNET: dict[str, tuple[str, str | None]] = {
    "sevennet-0": ("7net-0", None),
    "sevennet-mf-0-pbe": ("7net-mf-0", "PBE"),
    "sevennet-mf-0-r2scan": ("7net-mf-0", "R2SCAN"),
    "sevennet-l3i5": ("7net-l3i5", None),
}


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


def available() -> list[str]:
    """List the names that `load` knows without a file or an import path."""
    return sorted([path.name for path in SHIPPED.iterdir() if path.is_dir()] + list(SEVENNET))


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


def load(name: str, *, device: str = "auto") -> Potential:
    """Load a potential from a name, a file or an import path.

    Parameters
    ----------
    name : str
        One of `available`; a path to a ``nep.txt``; or ``"package.module:factory"``, a
        callable without arguments that returns an ASE calculator, a torch-sim model or a
        `Potential`.
    device : str
        "auto" (a GPU where there is one), "cpu" or "cuda".

    Returns
    -------
    Potential

    Raises
    ------
    ValueError
        If the name is neither known, nor a file, nor an import path, or the device is absent.
    ImportError
        If the package that evaluates the potential is not installed.
    """
    place = choose_device(device)
    if ":" in name and not Path(name).exists():
        return _imported(name)
    if (SHIPPED / name).is_dir():
        return _nep(name, SHIPPED / name / "nep.txt", place)
    if name in SEVENNET:
        return _sevennet(name, place)
    if Path(name).is_file():
        return _nep(name, Path(name), place)
    near = difflib.get_close_matches(name, available(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(
        f"The potential {name!r} is not a file, an import path (package.module:factory) or one "
        f"of {', '.join(available())}{hint}"
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _nep(name: str, path: Path, device: torch.device) -> Potential:
    try:
        from atomistic.potentials.nep import nep, species_and_cutoff
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} is a NEP file, which needs the packages calorine and neppo; "
            "install them with: pip install 'multiscale-electrochemistry[mlp]'"
        ) from error
    species, cutoff = species_and_cutoff(path)
    card_path = path.with_name("card.json")
    card: dict[str, Any] = json.loads(card_path.read_text()) if card_path.is_file() else {}
    return Potential(
        name=name,
        model=nep(path, device=device),
        species=species,
        cutoff=cutoff,
        licence=card.get("licence", "unknown"),
        sha256=_sha256(path),
        closest_approach=card.get("closest_approach", {}),
    )


def _sevennet(name: str, device: torch.device) -> Potential:
    try:
        from sevenn.torchsim import SevenNetModel
        from sevenn.util import pretrained_name_to_path
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} needs the package sevenn >= 0.13; "
            "install it with: pip install 'multiscale-electrochemistry[mlp]'"
        ) from error
    from torch_sim.neighbors import torch_nl_linked_cell

    checkpoint, modality = SEVENNET[name]
    build = partial(SevenNetModel, checkpoint, modal=modality, device=device)
    # the default neighbour list compiles for minutes on a CPU
    model = build() if device.type == "cuda" else build(neighbor_list_fn=torch_nl_linked_cell)
    numbers = sorted(int(number) for number in model.model.type_map or {})
    return Potential(
        name=name,
        model=model,
        species=tuple(chemical_symbols[number] for number in numbers),
        cutoff=float(model.model.cutoff),
        licence="MIT",
        sha256=_sha256(Path(pretrained_name_to_path(checkpoint))),
    )


def _imported(name: str) -> Potential:
    module, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"The potential {name!r} could not be imported ({error}); give "
            "package.module:factory, with the package on the Python path."
        ) from error
    made = factory()
    if isinstance(made, Potential):
        return made
    if isinstance(made, Calculator):
        from atomistic.potentials.calculators import CalculatorModel

        made = CalculatorModel(made)
    if isinstance(made, ModelInterface):
        return Potential(name=name, model=made, species=None, cutoff=float("nan"))
    raise ValueError(
        f"The potential {name!r} returned {type(made).__name__}, but an ASE calculator, a "
        "torch-sim model or a Potential was expected."
    )
