"""Battery Parameter eXchange: a cell as a BPX file, beside it what BPX cannot hold, and back."""

from __future__ import annotations

import hashlib
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from continuum.cell import pybamm
from continuum.inputs import Electrolyte
from couplers.battery import LAW_KEYS, on_symbols
from couplers.bpx_body import arity, body, evaluated, same, symbol_of
from couplers.parameter_sets import LAWS, as_record, from_record

with warnings.catch_warnings():
    # bpx 1.1 calls pyparsing by names that pyparsing 3.3 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import bpx

SIDECAR = "multiscale sidecar 1"


def to_bpx(
    values: pybamm.ParameterValues,
    path: str | Path,
    *,
    title: str,
    description: str = "",
    references: str = "",
    electrolyte: Electrolyte | None = None,
    draws: Sequence[Electrolyte] = (),
) -> dict[str, str]:
    r"""Write a cell to a BPX 1.1 file, and what BPX cannot hold to a sidecar beside it.

    BPX has functions of one variable in a small language (+ - * / **, exp, tanh, cosh) or tables,
    one activation energy for each, a transference number that is a number, and the kinetics

    .. math:: j_0 = F K \sqrt{\frac{c_e}{c_e^0} \frac{c_s}{c_\max} \frac{c_\max - c_s}{c_\max}}

    Functions that the language can say go in as they are, others as tables that linear
    interpolation follows to 1e-5 (relative to their largest value; V for potentials). The file is
    then read again, and every parameter that does not come back goes to the sidecar,
    ``NAME.sidecar.json``, with the reason: thermodynamic factor, a transference number that
    varies, a temperature dependence that is no Arrhenius line, double-layer capacity, degradation
    and thermal parameters of each layer. The BPX file says in its header that it is not whole.

    Parameters
    ----------
    values : pybamm.ParameterValues
        A complete set of a lithium-ion cell with one material in each electrode, such as
        `couplers.battery.parameter_values` makes.
    path : str or pathlib.Path
        File to write, ending in ``.json``; an older one is replaced, with its sidecar.
    title : str
        Title of the cell.
    description, references : str
        Texts of the header.
    electrolyte : Electrolyte, optional
        The electrolyte in `values`, so that its Laws come back as themselves with their windows.
    draws : sequence of Electrolyte
        Its posterior draws, of the same forms of Laws.

    Returns
    -------
    dict
        Why each parameter in the sidecar is not in the BPX file, by PyBaMM's name.

    Raises
    ------
    ValueError
        Lists every fault: parameters that are missing or are inputs, an electrolyte that is not
        the one in `values`, draws without it or of other forms, a name that does not end in json.

    References
    ----------
    Battery Parameter eXchange, https://bpxstandard.com
    """
    path = Path(path)
    values = values.copy()
    faults = [*_faults(values), *_faults_of_electrolyte(values, electrolyte, draws)]
    if path.suffix != ".json":
        faults.append(f"the file is called {path.name}, expected a name that ends in .json")
    if faults:
        raise ValueError("BPX: " + "; ".join(faults) + ".")

    reasons: dict[str, str] = {}
    content = body(values, reasons)
    side = _sidecar_path(path)
    note = f"Incomplete without {side.name}, which holds what BPX cannot."
    content["Header"] = {
        "BPX": bpx.__version__,
        "Title": title,
        "Description": " ".join([description, note]).strip(),
        "References": references or "not given",
        "Model": "DFN",
    }
    back = _imported(content)
    lost = {
        key: reasons.get(key, "BPX has no such parameter")
        for key in values
        if key not in back or not same(values, back, key)
    }
    laws = {LAW_KEYS[label] for label in LAWS} if electrolyte is not None else set()
    text = json.dumps(content, indent=1) + "\n"
    sidecar = {
        "format": SIDECAR,
        "belongs_to": _fingerprint(text),
        "reasons": lost,
        "parameters": pybamm.ParameterValues(
            {key: _named(values[key], key) for key in lost if key not in laws}
        ).to_json(),
        "electrolyte": as_record(electrolyte) if electrolyte is not None else None,
        "draws": {
            label: [[float(number) for number in getattr(one, label).coefficients] for one in draws]
            for label in LAWS
        },
    }
    path.write_text(text, encoding="utf-8")
    side.write_text(json.dumps(sidecar) + "\n", encoding="utf-8")
    return lost


def from_bpx(path: str | Path) -> pybamm.ParameterValues:
    """Read a cell from a BPX file, whole with its sidecar if there is one beside it.

    Parameters
    ----------
    path : str or pathlib.Path
        A BPX file of version 1, of anyone.

    Returns
    -------
    pybamm.ParameterValues
        Laws of an electrolyte in the sidecar are themselves again. Without a sidecar PyBaMM takes
        the thermodynamic factor to be 1.

    Raises
    ------
    ValueError
        If the file is no BPX of a full cell, its sidecar is missing although it says that it has
        one, or belongs to another version of it.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        described = str(content["Header"].get("Description", ""))
        values = _imported(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path.name} is no BPX file of a full cell ({type(error).__name__}: "
            f"{str(error).splitlines()[0]})."
        ) from error
    sidecar = _sidecar(path, text, described)
    if sidecar is None:
        return values
    stored = pybamm.ParameterValues.from_json(dict(sidecar["parameters"]))
    updates = {key: _as_function(stored[key]) for key in sidecar["parameters"]}
    if sidecar["electrolyte"] is not None:
        electrolyte = from_record(sidecar["electrolyte"])
        for label in LAWS:
            updates[LAW_KEYS[label]] = on_symbols(getattr(electrolyte, label))
    values.update(updates)
    return values


def electrolytes_of_bpx(path: str | Path) -> tuple[Electrolyte, ...]:
    """Read the electrolyte of a sidecar, and after it its posterior draws.

    Parameters
    ----------
    path : str or pathlib.Path
        The BPX file that the sidecar stands beside.

    Returns
    -------
    tuple of Electrolyte
        Empty if no sidecar holds one.

    Raises
    ------
    ValueError
        As `from_bpx`.
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    sidecar = _sidecar(path, text, str(json.loads(text)["Header"].get("Description", "")))
    if sidecar is None or sidecar["electrolyte"] is None:
        return ()
    one = from_record(sidecar["electrolyte"])
    draws = zip(*(sidecar["draws"][label] for label in LAWS), strict=True)
    return (
        one,
        *(
            replace(
                one,
                **{
                    label: replace(getattr(one, label), coefficients=tuple(numbers))
                    for label, numbers in zip(LAWS, draw, strict=True)
                },
            )
            for draw in draws
        ),
    )


def _sidecar_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.sidecar.json")


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sidecar(path: Path, text: str, described: str) -> dict[str, Any] | None:
    side = _sidecar_path(path)
    if not side.exists():
        if side.name in described:
            raise ValueError(
                f"{path.name} says that it is incomplete without {side.name}, which is not beside "
                "it; bring the file along."
            )
        return None
    sidecar = json.loads(side.read_text(encoding="utf-8"))
    if sidecar.get("format") != SIDECAR:
        raise ValueError(f"{side.name} has the format {sidecar.get('format')!r}, not {SIDECAR!r}.")
    if sidecar["belongs_to"] != _fingerprint(text):
        raise ValueError(
            f"{side.name} belongs to another version of {path.name}; write both again, or remove "
            "it to read the BPX file alone."
        )
    return sidecar


def _faults(values: pybamm.ParameterValues) -> Iterator[str]:
    wanted = sorted(pybamm.lithium_ion.DFN().get_parameter_info())
    for key in wanted:
        if key not in values:
            yield f"the set lacks {key!r}"
        elif not isinstance(values[key], (int, float)) and symbol_of(
            values, key
        ).has_symbol_of_classes(pybamm.InputParameter):
            yield f"{key!r} is an input; export the set of one draw"


def _faults_of_electrolyte(
    values: pybamm.ParameterValues, electrolyte: Electrolyte | None, draws: Sequence[Electrolyte]
) -> Iterator[str]:
    if electrolyte is None:
        if draws:
            yield "draws are given without their electrolyte"
        return
    c, T = electrolyte.concentration, electrolyte.temperature
    for label in LAWS:
        law, key = getattr(electrolyte, label), LAW_KEYS[label]
        if key in values:
            found = evaluated(values, key, np.array([c]), np.array([T]))[0]
            if not np.isclose(found, float(law(c, T)), rtol=1e-9, atol=0):
                yield f"{key!r} is not that of {electrolyte.name}"
        if any(getattr(one, label).form != law.form for one in draws):
            yield f"draws have another form of {label}"


def _imported(content: Mapping[str, Any]) -> pybamm.ParameterValues:
    with warnings.catch_warnings():
        # the open-circuit limits are those of the voltage, as intended here
        warnings.filterwarnings("ignore", "'Open-circuit voltage at", UserWarning)
        # solver's tolerance in the limits of stoichiometry
        warnings.filterwarnings("ignore", "The m..imum voltage computed", UserWarning)
        # PyBaMM 26.10 reads bpx's models by a name that pydantic deprecates
        warnings.filterwarnings("ignore", "Accessing the 'model_fields'", DeprecationWarning)
        return pybamm.ParameterValues.create_from_bpx_obj(json.loads(json.dumps(content)))


def _named(value: Any, key: str) -> Any:
    """Give a callable object the names that PyBaMM writes a function down with."""
    if not callable(value) or hasattr(value, "__name__") or hasattr(value, "func"):
        return value
    names = [f"argument_{i}" for i in range(arity(key))]

    def evaluate(*arguments: Any, **named: Any) -> Any:
        return value(*arguments, *(named[name] for name in names[len(arguments) :]))

    return _with_signature(evaluate, names)


def _with_signature(function: Any, names: Sequence[str]) -> Any:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return function


def _as_function(value: Any) -> Any:
    """Make a Python function of an expression read from a file; others are left as they are."""
    if not isinstance(value, pybamm.ExpressionFunctionParameter):
        return value
    names = list(value.func_args)

    def evaluate(*arguments: Any, **named: Any) -> Any:
        given = {**dict(zip(names, arguments, strict=False)), **named}
        # parameters of other names stay, and PyBaMM puts the set's own values in
        return pybamm.replace(
            value.child, {pybamm.Parameter(name): one for name, one in given.items()}
        )

    return _with_signature(evaluate, names)
