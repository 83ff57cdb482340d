"""Universal potentials whose weights come with a package: SevenNet and CHGNet."""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import partial
from pathlib import Path

import torch
from ase.data import chemical_symbols

from atomistic.potentials.potential import Potential, sha256

# name: (checkpoint of the sevenn package, modality)
SEVENNET: dict[str, tuple[str, str | None]] = {
    "sevennet-0": ("7net-0", None),
    "sevennet-mf-0-pbe": ("7net-mf-0", "PBE"),
    "sevennet-mf-0-r2scan": ("7net-mf-0", "R2SCAN"),
    "sevennet-l3i5": ("7net-l3i5", None),
}
# name: checkpoint of the chgnet package
CHGNET = {"chgnet": "0.3.0", "chgnet-r2scan": "r2scan"}
CHGNET_ELEMENTS = tuple(chemical_symbols[1:95])


def sevennet(name: str, checkpoint: str, modality: str | None, device: torch.device) -> Potential:
    """Load a SevenNet: one that ships with the package, or a checkpoint file.

    Parameters
    ----------
    name : str
        What to call it.
    checkpoint : str
        Name of the package's, or a file.
    modality : str, optional
        Level of theory, where a model holds several.
    device : torch.device
        Where to evaluate.

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    try:
        from sevenn.torchsim import SevenNetModel
        from sevenn.util import pretrained_name_to_path
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} needs the package sevenn >= 0.13; "
            "install it with: pip install 'multiscale-electrochemistry[mlp]'"
        ) from error
    from torch_sim.neighbors import torch_nl_linked_cell

    build = partial(SevenNetModel, checkpoint, modal=modality, device=device)
    # the default neighbour list compiles for minutes on a CPU
    model = build() if device.type == "cuda" else build(neighbor_list_fn=torch_nl_linked_cell)
    numbers = sorted(int(number) for number in model.model.type_map or {})
    ships = not Path(checkpoint).is_file()
    return Potential(
        name=name,
        model=model,
        species=tuple(chemical_symbols[number] for number in numbers),
        cutoff=float(model.model.cutoff),
        licence="MIT" if ships else "unknown",
        sha256=sha256(Path(pretrained_name_to_path(checkpoint)) if ships else Path(checkpoint)),
    )


def chgnet(name: str, device: torch.device) -> Potential:
    """Load a CHGNet that ships with the package.

    Parameters
    ----------
    name : str
        One of `CHGNET`.
    device : torch.device
        Where to evaluate.

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    try:
        # it announces itself, and one of its own needs is not quite Python
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            from atomistic.potentials.chgnet import pretrained

            model, path, cutoff = pretrained(CHGNET[name], device)
    except ImportError as error:
        raise ImportError(
            f"The potential {name!r} needs the package chgnet >= 0.4; "
            "install it with: pip install 'multiscale-electrochemistry[chgnet]'"
        ) from error
    return Potential(
        name=name,
        model=model,
        species=CHGNET_ELEMENTS,
        cutoff=cutoff,
        licence="BSD-3-Clause",
        sha256=sha256(path),
    )
