"""The one gate between scales: a Dataset is checked against the schema its producer declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import gcd
from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import Avogadro

from continuum.inputs import FARADAY

IDENTITY_TOLERANCE = 1e-6
CONCENTRATION_TOLERANCE = 1e-2  # a box that breathes has its density as a mean


class ContractError(ValueError):
    """A Dataset does not keep its schema; `faults` holds one sentence for each breach."""

    def __init__(self, name: str, faults: tuple[str, ...]) -> None:
        self.faults = faults
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(f"The Dataset does not keep the schema {name}, {count}:{lines}")


def check(dataset: xr.Dataset, schema: Mapping[str, Any]) -> xr.Dataset:
    r"""Check a Dataset against a schema and list every fault at once.

    Dims are compared by name; their order is free on the way in, and the Dataset returned has each
    variable in the schema's order, ``draw`` last. Rules, for each variable of the schema:

    * it is there unless ``optional``, numeric unless its ``units`` are None, with those units
      spelt exactly so;
    * its values are finite and above the bound ``above``. A nan is allowed where the schema
      says ``missing: True``, and in estimates of conditions whose `diffusive` is False: for that
      species where the estimate belongs to one, for any species otherwise (also in a matrix over
      ``species`` and ``partner``);
    * an ``estimate`` ``x`` has ``x_std``: same dims and units, positive or nan, never 0;
    * ``x_draw``, if there, has the dims of ``x`` and ``draw``, and keeps the same bounds.

    Convention words in ``attrs`` must be there with an allowed value (any text where the schema
    says None), and attrs are flat text or numbers. A variable that the schema does not know is
    left alone, unless its name is close to one that is absent. Where `onsager` :math:`L_{ij}` is
    there, it must be symmetric and without a negative eigenvalue (the second law), and with
    `conductivity` :math:`\kappa` and `charge_number` :math:`z_i` it must keep the identity

    .. math:: \kappa = F^2 \sum_{ij} z_i z_j L_{ij}

    all to a relative 1e-6, in the draws as well. Where there are two ions, `salt_concentration`
    must be that of `number_density`, to 1 %.

    Parameters
    ----------
    dataset : xarray.Dataset
        What a producer hands over.
    schema : mapping
        Its declaration, in the format described in `atomistic.schema`.

    Returns
    -------
    xarray.Dataset
        The same values, attrs and coordinates, dims in the schema's order.

    Raises
    ------
    ContractError
        With one sentence for each fault.

    Examples
    --------
    >>> schema = {
    ...     "name": "LENGTH",
    ...     "variables": {"length": {"dims": ("condition",), "units": "m", "above": 0.0}},
    ...     "attrs": {},
    ... }
    >>> dataset = xr.Dataset({"length": ("condition", [1.0, -2.0], {"units": "nm"})})
    >>> check(dataset, schema)
    Traceback (most recent call last):
        ...
    couplers.contract.ContractError: The Dataset does not keep the schema LENGTH, 2 faults:
      - length has units 'nm', expected 'm'.
      - length has 1 of 2 values that are not above 0 m.
    """
    faults = [
        *_faults_of_names(dataset, schema),
        *(
            fault
            for name, rule in schema["variables"].items()
            for fault in _faults_of_variable(dataset, name, rule)
        ),
        *_faults_of_attrs(dataset, schema["attrs"]),
        *_faults_of_matrix(dataset),
        *_faults_of_conductivity(dataset),
        *_faults_of_concentration(dataset),
    ]
    if faults:
        raise ContractError(schema["name"], tuple(faults))
    return _in_order(dataset, schema["variables"])


def _companions(name: str, rule: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names that belong to a variable of the schema, each with its dims."""
    yield name, rule["dims"]
    if rule.get("estimate"):
        yield f"{name}_std", rule["dims"]
        yield f"{name}_draw", (*rule["dims"], "draw")


def _in_order(dataset: xr.Dataset, variables: Mapping[str, Any]) -> xr.Dataset:
    transposed = {
        label: dataset[label].transpose(*dims)
        for name, rule in variables.items()
        for label, dims in _companions(name, rule)
        if label in dataset.variables and dataset[label].dims != dims
    }
    return dataset.assign(transposed)


def _faults_of_names(dataset: xr.Dataset, schema: Mapping[str, Any]) -> Iterator[str]:
    known = [
        name for label, rule in schema["variables"].items() for name, _ in _companions(label, rule)
    ]
    absent = [name for name in known if name not in dataset.variables]
    for name in dataset.variables:
        if name not in known and name not in dataset.dims:
            for right in get_close_matches(str(name), absent, n=1, cutoff=0.8):
                yield f"{name} is unknown; did you mean {right}?"


def _faults_of_variable(dataset: xr.Dataset, name: str, rule: Mapping[str, Any]) -> Iterator[str]:
    if name not in dataset.variables:
        if not rule.get("optional"):
            listed = ", ".join(rule["dims"])
            unit = f" in {rule['units']!r}" if rule["units"] else ""
            yield f"{name} is missing; expected dims ({listed}){unit}."
        return
    for label, dims in _companions(name, rule):
        if label not in dataset.variables:
            if label.endswith("_std"):
                yield f"{label} is missing; put it beside {name}, nan where it is unknown."
            continue
        variable = dataset[label]
        shaped = sorted(map(str, variable.dims)) == sorted(dims)
        if not shaped:
            yield (
                f"{label} has dims ({', '.join(map(str, variable.dims))}), "
                f"expected ({', '.join(dims)})."
            )
        if rule["units"] is None:
            continue
        if variable.attrs.get("units") != rule["units"]:
            given = variable.attrs.get("units")
            yield (
                f"{label} has {f'units {given!r}' if given is not None else 'no units'}, "
                + (f"expected {rule['units']!r}.")
            )
        if not np.issubdtype(variable.dtype, np.number):
            yield f"{label} holds {variable.dtype}, expected numbers."
        elif label.endswith("_std"):
            yield from _faults_of_deviation(variable, label)
        else:
            yield from _faults_of_values(dataset, variable, label, rule, shaped=shaped)


def _faults_of_deviation(variable: xr.DataArray, label: str) -> Iterator[str]:
    wrong = variable.size - int((variable.isnull() | ((variable > 0) & (variable < np.inf))).sum())
    if wrong:
        yield (
            f"{label} has {wrong} of {variable.size} values that are 0, negative or infinite; "
            "write nan where it is unknown."
        )


def _faults_of_values(
    dataset: xr.Dataset,
    variable: xr.DataArray,
    label: str,
    rule: Mapping[str, Any],
    *,
    shaped: bool,
) -> Iterator[str]:
    finite = np.isfinite(variable)
    allowed = variable.isnull() & bool(rule.get("missing"))
    if shaped and rule.get("estimate") and "diffusive" in dataset.variables:
        settled = dataset["diffusive"].astype(bool)
        own = "species" in rule["dims"] and "partner" not in rule["dims"]
        if not own and "species" in settled.dims:
            settled = settled.all("species")
        if set(settled.dims) <= set(variable.dims):
            allowed = allowed | (variable.isnull() & ~settled)
    wrong = variable.size - int((finite | allowed).sum())
    if wrong:
        yield f"{label} has {wrong} of {variable.size} values that are not finite."
    if "above" in rule:
        wrong = int((finite & ~(variable > rule["above"])).sum())
        if wrong:
            yield (
                f"{label} has {wrong} of {variable.size} values that are not above "
                f"{rule['above']:g} {rule['units']}."
            )


def _faults_of_attrs(
    dataset: xr.Dataset, attrs: Mapping[str, tuple[str, ...] | None]
) -> Iterator[str]:
    for word, values in attrs.items():
        given = dataset.attrs.get(word)
        expected = "some text" if values is None else f"one of {', '.join(map(repr, values))}"
        if word not in dataset.attrs:
            for near in get_close_matches(word, map(str, dataset.attrs), n=1, cutoff=0.8):
                yield f"attribute {near!r} is unknown; did you mean {word!r}?"
            yield f"attribute {word!r} is missing, expected {expected}."
        elif not isinstance(given, str) or not given or (values and given not in values):
            yield f"attribute {word!r} is {given!r}, expected {expected}."
    for word, given in dataset.attrs.items():
        if word not in attrs and (
            isinstance(given, bool) or not isinstance(given, (str, int, float, np.number))
        ):
            yield (
                f"attribute {word!r} is a {type(given).__name__}; attributes are flat text or "
                "numbers (write nested ones as one JSON text)."
            )


def _matrix(dataset: xr.Dataset, name: str) -> np.ndarray | None:
    """A square matrix over species and partner, these two last; None if it is none."""
    if name not in dataset.variables or not {"species", "partner"} <= set(dataset[name].dims):
        return None
    matrix = dataset[name].transpose(..., "species", "partner").values
    square = matrix.shape[-1] == matrix.shape[-2]
    return matrix if square and np.issubdtype(matrix.dtype, np.number) else None


def _faults_of_matrix(dataset: xr.Dataset) -> Iterator[str]:
    for name in ("onsager", "onsager_draw"):
        matrix = _matrix(dataset, name)
        if matrix is None:
            continue
        matrix = matrix[np.isfinite(matrix).all((-1, -2))]
        scale = np.abs(matrix).max((-1, -2), initial=0.0)
        lopsided = np.abs(matrix - np.swapaxes(matrix, -1, -2)).max((-1, -2), initial=0.0)
        wrong = int((lopsided > IDENTITY_TOLERANCE * scale).sum())
        if wrong:
            yield (
                f"{name} has {wrong} of {len(matrix)} matrices that are not symmetric, which "
                "Onsager's relations ask for."
            )
            continue
        lowest = np.linalg.eigvalsh(matrix).min(-1, initial=0.0)
        wrong = int((lowest < -IDENTITY_TOLERANCE * scale).sum())
        if wrong:
            yield (
                f"{name} has {wrong} of {len(matrix)} matrices with a negative eigenvalue, so that "
                "a gradient could drive its own flux backwards; expected none below 0."
            )


def _faults_of_conductivity(dataset: xr.Dataset) -> Iterator[str]:
    if not {"onsager", "conductivity", "charge_number"} <= set(dataset.variables):
        return
    onsager, charge = dataset["onsager"], dataset["charge_number"]
    if not {"species", "partner"} <= set(onsager.dims) or charge.dims != ("species",):
        return
    if onsager.sizes["species"] != onsager.sizes["partner"]:
        yield "onsager has different numbers of species and partners."
        return
    weight = xr.DataArray(np.outer(charge, charge), dims=("species", "partner"))
    for tail in ("", "_draw"):
        if not {f"onsager{tail}", f"conductivity{tail}"} <= set(dataset.variables):
            continue
        plain = dataset[f"onsager{tail}"].drop_vars(["species", "partner"], errors="ignore")
        given = dataset[f"conductivity{tail}"]
        if not {"species", "partner"} <= set(plain.dims) or given.dims[:1] != ("condition",):
            continue
        expected = FARADAY**2 * (weight * plain).sum(("species", "partner"), skipna=False)
        expected = expected.transpose(*given.dims, missing_dims="ignore")
        if expected.shape != given.shape:
            continue
        wrong = (abs(given - expected) > IDENTITY_TOLERANCE * abs(given)).values
        wrong = wrong.reshape(len(wrong), -1)
        for index in np.flatnonzero(wrong.any(axis=1)):
            at = int(np.argmax(wrong[index]))
            said, right = (one.values[index].flat[at] for one in (given, expected))
            where = f"condition {index}" + (f", draw {at}" if tail else "")
            yield (
                f"conductivity{tail} is {said:.7g} S m-1 at {where}, but "
                f"F^2 sum z_i z_j L_ij is {right:.7g} S m-1; is onsager in "
                "mol2 J-1 m-1 s-1, and charge_number in elementary charges?"
            )


def _faults_of_concentration(dataset: xr.Dataset) -> Iterator[str]:
    names = ("salt_concentration", "number_density", "charge_number")
    if not set(names) <= set(dataset.variables):
        return
    given, density, charge = (dataset[name] for name in names)
    plain = given.dims == ("condition",) and set(density.dims) == {"condition", "species"}
    numbers = charge.values
    if not plain or charge.dims != ("species",) or len(numbers) != 2:
        return
    if not all(float(z).is_integer() for z in numbers) or not numbers.min() < 0 < numbers.max():
        return
    plus, minus = int(numbers.max()), -int(numbers.min())
    ions = density.transpose("condition", "species").values[:, int(np.argmax(numbers))]
    expected = ions / Avogadro / (minus // gcd(plus, minus))
    for index in np.flatnonzero(
        np.abs(given.values - expected) > CONCENTRATION_TOLERANCE * np.abs(expected)
    ):
        yield (
            f"salt_concentration is {given.values[index]:.6g} mol m-3 at condition {index}, but "
            f"the number density of the cations is that of {expected[index]:.6g} mol m-3."
        )
