"""Potentials from files of other codes: NEP, MACE, NequIP and Allegro, SevenNet, GAP."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from ase.data import chemical_symbols

from atomistic.potentials.potential import Potential, sha256
from atomistic.potentials.pretrained import sevennet

# endings of file names, and whose they are; of two that fit, the longer
ENDINGS = {
    ".txt": "NEP",
    ".model": "MACE",
    ".nequip.pt2": "NequIP",
    ".nequip.pth": "NequIP",
    ".pth": "SevenNet",
    ".xml": "GAP",
    ".network.pt": "atom network",
    ".charged.pt": "charged atom network",
}


def from_file(path: Path, device: torch.device) -> Potential:
    """Load a potential by the ending of its file's name, as `ENDINGS` has them.

    Parameters
    ----------
    path : Path
        The file. All but NEP and GAP are pickled by torch and may run code as they load: open
        none that you would not run.
    device : torch.device
        Where to evaluate.

    Raises
    ------
    ValueError
        If the ending is unknown, or the file is not what its ending says.
    ImportError
        If the package that evaluates the potential is not installed.
    """
    fitting = [ending for ending in ENDINGS if path.name.endswith(ending)]
    if not fitting:
        kinds = ", ".join(f"{ending} ({kind})" for ending, kind in ENDINGS.items())
        raise ValueError(
            f"The kind of the potential {str(path)!r} is not known from its name; the file's name "
            f"must end in one of {kinds}."
        )
    kind = ENDINGS[max(fitting, key=len)]
    if kind == "SevenNet":
        return sevennet(str(path), str(path), None, device)
    if kind == "atom network":
        from atomistic.learning.networks import load_network

        return load_network(path, device)
    if kind == "charged atom network":
        from atomistic.learning.charged import load_charged

        return load_charged(path)
    open_one = {"NEP": nep, "MACE": _mace, "NequIP": _nequip, "GAP": _gap}[kind]
    return open_one(str(path), path, device)


def nep(name: str, path: Path, device: torch.device) -> Potential:
    """Load a ``nep.txt``; a ``card.json`` beside it says licence and closest approaches.

    Parameters
    ----------
    name : str
        What to call it.
    path : Path
        The file.
    device : torch.device
        Where to evaluate.
    """
    try:
        from atomistic.potentials.nep import nep as model
        from atomistic.potentials.nep import species_and_cutoff
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} is a NEP file, which needs the packages calorine and neppo; "
            "install them with: pip install 'multiscale-electrochemistry[mlp]'"
        ) from error
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not first.startswith(("nep", "qnep")):
        raise ValueError(
            f"The file {str(path)!r} is no NEP potential: it begins with {first.strip()[:40]!r}, "
            "but should begin with nep4."
        )
    species, cutoff = species_and_cutoff(path)
    card_path = path.with_name("card.json")
    card: dict[str, Any] = json.loads(card_path.read_text()) if card_path.is_file() else {}
    return Potential(
        name=name,
        model=model(path, device=device),
        species=species,
        cutoff=cutoff,
        licence=card.get("licence", "unknown"),
        sha256=sha256(path),
        closest_approach=card.get("closest_approach", {}),
    )


def _mace(name: str, path: Path, device: torch.device) -> Potential:
    try:
        from mace.calculators.mace_torchsim import MaceTorchSimModel
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} is a MACE checkpoint, which needs mace-torch >= 0.3.16; it "
            "cannot share an environment with sevenn (they need different versions of e3nn), so "
            "make a new one: pip install multiscale-electrochemistry mace-torch"
        ) from error
    from torch_sim.neighbors import torch_nl_linked_cell, torchsim_nl

    network = torch.load(path, map_location=device, weights_only=False)
    model = MaceTorchSimModel(
        network,
        device=device,
        dtype=next(network.parameters()).dtype,
        neighbor_list_fn=torchsim_nl if device.type == "cuda" else torch_nl_linked_cell,
    )
    return Potential(
        name=name,
        model=model,
        species=tuple(chemical_symbols[int(number)] for number in network.atomic_numbers),
        cutoff=float(network.r_max),
        sha256=sha256(path),
    )


def _nequip(name: str, path: Path, device: torch.device) -> Potential:
    try:
        from nequip.integrations.torchsim import NequIPTorchSimCalc
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} is a compiled NequIP or Allegro model, which needs nequip "
            ">= 0.17; install it with: pip install nequip"
        ) from error
    options = {} if device.type == "cuda" else {"neighborlist_backend": "matscipy"}
    model = NequIPTorchSimCalc.from_compiled_model(path, device=str(device), **options)
    # what the file says of itself is kept by the transforms that prepare the network's input
    names: list[str] = next(
        (each.model_type_names for each in model.transforms if hasattr(each, "model_type_names")),
        [],
    )
    cutoff = next((each.r_max for each in model.transforms if hasattr(each, "r_max")), float("nan"))
    return Potential(
        name=name,
        model=model,
        species=tuple(names) if set(names) <= set(chemical_symbols) and names else None,
        cutoff=float(cutoff),
        sha256=sha256(path),
    )


def _gap(name: str, path: Path, device: torch.device) -> Potential:
    try:
        # its own terms are the GPL's and an academic licence, so nothing here depends on it
        from quippy.potential import Potential as Gap
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} is a Gaussian approximation potential, which needs quippy; "
            "install it, under its own licence, with: pip install quippy-ase"
        ) from error
    from atomistic.potentials.calculators import CalculatorModel

    species, cutoff = _gap_terms(path)
    return Potential(
        name=name,
        model=CalculatorModel(Gap(param_filename=str(path))),
        species=species,
        cutoff=cutoff,
        sha256=sha256(path),
    )


def _gap_terms(path: Path) -> tuple[tuple[str, ...] | None, float]:
    """Read the elements and the largest cutoff (Å) of a GAP from the descriptors in its file.

    Raises
    ------
    ValueError
        If the file is no GAP.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"The file {str(path)!r} is no GAP: {error}.") from error
    terms = [each.text or "" for each in root.iter("descriptor")]
    if not terms:
        raise ValueError(
            f"The file {str(path)!r} is no GAP: it holds no descriptor; give the .xml that gap_fit "
            "writes."
        )
    numbers = {
        int(number)
        for term in terms
        for numbers in re.findall(r"\b(?:Z\d?|species_Z)=\{?([\d ]+)", term)
        for number in numbers.split()
    }
    cutoffs = [float(one) for term in terms for one in re.findall(r"\bcutoff=([\d.]+)", term)]
    return (
        tuple(chemical_symbols[number] for number in sorted(numbers)) or None,
        max(cutoffs, default=float("nan")),
    )
