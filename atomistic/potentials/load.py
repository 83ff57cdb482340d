"""One function from a name, a file or an import path to a potential."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from ase.calculators.calculator import Calculator
from torch_sim.models.interface import ModelInterface

from atomistic.potentials.checkpoints import from_file, nep
from atomistic.potentials.potential import Potential, choose_device
from atomistic.potentials.pretrained import CHGNET, SEVENNET, chgnet, sevennet

__all__ = ["SHIPPED", "Potential", "available", "choose_device", "load"]

SHIPPED = Path(__file__).parent / "shipped"


def available() -> list[str]:
    """List the names that `load` knows without a file or an import path."""
    shipped = [path.name for path in SHIPPED.iterdir() if path.is_dir()]
    return sorted([*shipped, *SEVENNET, *CHGNET])


def load(name: str, *, device: str = "auto") -> Potential:
    """Load a potential from a name, a file or an import path.

    Parameters
    ----------
    name : str
        One of `available`; a file, whose kind the ending of its name tells: ``nep.txt``, MACE's
        ``.model``, a compiled ``.nequip.pt2``, SevenNet's ``.pth``, a GAP's ``.xml``, a
        ``.network.pt`` of `atomistic.learning`; or ``"package.module:factory"``, a callable
        without arguments that returns an ASE calculator, a torch-sim model or a `Potential`.
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
        return nep(name, SHIPPED / name / "nep.txt", place)
    if name in SEVENNET:
        return sevennet(name, *SEVENNET[name], place)
    if name in CHGNET:
        return chgnet(name, place)
    if Path(name).is_file():
        return from_file(Path(name), place)
    near = difflib.get_close_matches(name, available(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(
        f"The potential {name!r} is not a file, an import path (package.module:factory) or one "
        f"of {', '.join(available())}{hint}"
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
    try:
        made = factory()
    except Exception as error:  # code of others raises what it likes
        raise ValueError(
            f"The potential {name!r} could not be made ({type(error).__name__}: {error}); give a "
            "function that needs no arguments."
        ) from error
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
