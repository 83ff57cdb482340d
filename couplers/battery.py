"""From an electrolyte to the parameters of a PyBaMM cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from atomistic.schema import CAPACITANCE
from continuum.cell import pybamm
from continuum.inputs import Electrolyte
from continuum.laws import FORMS, Law
from couplers.contract import check

# field of Electrolyte: the name under which PyBaMM reads it
LAW_KEYS = {
    "conductivity": "Electrolyte conductivity [S.m-1]",
    "diffusivity": "Electrolyte diffusivity [m2.s-1]",
    "transference_number": "Cation transference number",
    "thermodynamic_factor": "Thermodynamic factor",
}
CONCENTRATION_KEY = "Initial concentration in electrolyte [mol.m-3]"
TEMPERATURE_KEYS = ("Ambient temperature [K]", "Initial temperature [K]")
SINGLE_ION_ONE = ("transference_number", "thermodynamic_factor")
# read where a cell is charged to a given state, not by the model
LIMITS_OF_CHARGE = ("Open-circuit voltage at 0% SOC [V]", "Open-circuit voltage at 100% SOC [V]")
KINETICS_WORD = "xchange-current density"


def parameter_values(
    electrolyte: Electrolyte,
    *,
    base: str | Path | pybamm.ParameterValues = "Chen2020",
    as_inputs: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> pybamm.ParameterValues:
    r"""Put an electrolyte into a PyBaMM parameter set, whole: all four properties or none.

    The Laws go in as themselves, evaluated on PyBaMM's symbols, never as tables. PyBaMM's
    conventions are those of `Electrolyte`: its electrolyte diffusivity is the salt diffusivity
    with the thermodynamic factor inside, and the factor itself enters once more in

    .. math:: i_e = \kappa_\mathrm{eff} \left[ -\nabla \phi_e
              + 2 (1 - t_+)\, \chi \frac{RT}{F} \nabla \ln c_e \right]

    ================== ================================================
    symbol             PyBaMM's name
    ================== ================================================
    :math:`\kappa`     Electrolyte conductivity [S.m-1]
    :math:`D`          Electrolyte diffusivity [m2.s-1]
    :math:`t_+`        Cation transference number
    :math:`\chi`       Thermodynamic factor
    :math:`c_e`        Initial concentration in electrolyte [mol.m-3]
    :math:`T`          Ambient temperature [K], Initial temperature [K]
    ================== ================================================

    Everything else stays that of the base set, above all its geometry, porosities and Bruggeman
    exponents, which turn :math:`\kappa` into :math:`\kappa_\mathrm{eff}`, its electrode kinetics
    and its reference temperature.

    Exchange-current densities of PyBaMM's sets contain :math:`\sqrt{c_e}` of a liquid. A
    single-ion solid holds some 30 times more cations, all of them needed to balance the lattice,
    so that the root would change the kinetics by a factor of about 5 for no physical reason. For a
    ``single_ion`` electrolyte every exchange-current density is therefore evaluated at the base
    set's own initial electrolyte concentration: the electrodes keep their published kinetics.

    Parameters
    ----------
    electrolyte : Electrolyte
        The electrolyte, with its concentration (mol m-3) and temperature (K).
    base : str, pathlib.Path or pybamm.ParameterValues
        Name of a PyBaMM parameter set, a BPX file (``.json``, with its sidecar), or a set, for the
        rest of the cell; left as it is.
    as_inputs : sequence of str
        Laws (fields of `Electrolyte`) whose coefficients become input parameters, so that one
        discretised model serves many draws; `inputs` gives their values. In a single-ion
        conductor PyBaMM averages an input conductivity arithmetically over the edge of the
        separator and a number harmonically, so that the two differ by the mesh error, 0.1 mV.
    overrides : mapping, optional
        Further parameters in PyBaMM's spelling and units that differ from the base set, numbers or
        functions. Each must be one that the DFN reads: another would do nothing, silently.
    options : mapping, optional
        Options of the DFN for which the set is made, such as ``{"surface form": "differential"}``;
        they decide what it reads.

    Returns
    -------
    pybamm.ParameterValues
        A complete set.

    Raises
    ------
    ValueError
        Lists every fault: a base set that PyBaMM does not have or that lacks a key, names in
        `as_inputs` or `overrides` that do not exist, with the nearest right name, overrides that
        the model does not read, or inputs that a single-ion conductor fixes at 1.

    References
    ----------
    Sulzer et al., J. Open Res. Softw. 9, 14 (2021), https://doi.org/10.5334/jors.309

    Examples
    --------
    >>> one = Law("constant", (1.0,), "1")
    >>> electrolyte = Electrolyte(
    ...     conductivity=Law("constant", (0.16,), "S m-1"),
    ...     diffusivity=Law("constant", (1e-11,), "m2 s-1"),
    ...     transference_number=one,
    ...     thermodynamic_factor=one,
    ...     concentration=40e3,
    ...     temperature=300.0,
    ...     single_ion=True,
    ... )
    >>> values = parameter_values(electrolyte, as_inputs=["conductivity"])
    >>> values["Ambient temperature [K]"]
    300.0
    >>> inputs(electrolyte, ["conductivity"])
    {'conductivity, constant: value': 0.16}
    """
    _refuse_unknown_laws(as_inputs)
    values = _base_values(base)
    overrides = dict(overrides or {})
    owned = [*LAW_KEYS.values(), CONCENTRATION_KEY, *TEMPERATURE_KEYS]
    fixed = [label for label in as_inputs if electrolyte.single_ion and label in SINGLE_ION_ONE]
    faults = [f"the base set lacks {key!r}" for key in owned if key not in values]
    faults += [f"{label} is 1 in a single-ion conductor and no input" for label in fixed]
    read = pybamm.lithium_ion.DFN(dict(options or {})).get_parameter_info() if overrides else {}
    for key in overrides:
        if key in owned:
            faults.append(f"override {key!r} belongs to the electrolyte; change it there")
        elif key not in values and key not in read:
            near = get_close_matches(key, [*map(str, values.keys()), *read], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            faults.append(f"override {key!r} is not in the base set{hint}")
        elif key not in read and key not in LIMITS_OF_CHARGE:
            faults.append(
                f"override {key!r} is not read by the DFN with the options {dict(options or {})}; "
                "leave it out, or give the options that read it"
            )
    if faults:
        raise ValueError("Parameters of the cell: " + "; ".join(faults) + ".")

    updates: dict[str, Any] = {}
    if electrolyte.single_ion:
        ratio = float(values[CONCENTRATION_KEY]) / electrolyte.concentration
        for key, value in values.items():
            if KINETICS_WORD in key and callable(value):
                updates[key] = _at_scaled_concentration(value, ratio)
    for label, key in LAW_KEYS.items():
        law: Law = getattr(electrolyte, label)
        if label in as_inputs:
            symbols = tuple(pybamm.InputParameter(name) for name in _input_names(label, law))
            law = replace(law, coefficients=symbols)
        updates[key] = on_symbols(law)
    updates[CONCENTRATION_KEY] = electrolyte.concentration
    updates.update(dict.fromkeys(TEMPERATURE_KEYS, electrolyte.temperature))
    values.update({**updates, **overrides})
    return values


def double_layer_capacity(
    capacitance: xr.Dataset, *, potential: float, draw: int | None = None
) -> xr.Dataset:
    """Collapse a differential capacitance to the one number that PyBaMM takes.

    PyBaMM's double-layer capacities know the temperature, not the potential. The capacitance is
    interpolated at the operating potential, and the result says so, with how much it varies.

    Parameters
    ----------
    capacitance : xarray.Dataset
        A CAPACITANCE of the electrode's surface; it is checked first.
    potential : float
        Operating potential (V) against its reference.
    draw : int, optional
        Posterior draw to take; the estimates if not given.

    Returns
    -------
    xarray.Dataset
        `double_layer_capacity` (F m-2) with `_std`, for `overrides` under
        ``"Negative electrode double-layer capacity [F.m-2]"`` or the positive one; the attribute
        `assumption` belongs beside the results.

    Raises
    ------
    ContractError
        Lists every breach of CAPACITANCE.
    ValueError
        If the potential lies outside the data, or the draw does not exist.
    """
    ordered = check(capacitance, CAPACITANCE).sortby("potential")
    known = ordered["potential"].values
    faults = []
    if not known[0] <= potential <= known[-1]:
        faults.append(
            f"the operating potential, {potential:g} V, lies outside the data, {known[0]:g} to "
            f"{known[-1]:g} V"
        )
    values = ordered["differential_capacitance"]
    if draw is not None:
        count = ordered.sizes.get("draw", 0)
        if not 0 <= draw < count:
            faults.append(f"draw is {draw}, but there are {count}")
        else:
            values = ordered["differential_capacitance_draw"].isel(draw=draw)
    if faults:
        raise ValueError("Double-layer capacity: " + "; ".join(faults) + ".")
    value = float(np.interp(potential, known, values.values))
    std = float(np.interp(potential, known, ordered["differential_capacitance_std"].values))
    low, high = float(values.min()), float(values.max())
    return xr.Dataset(
        {
            "double_layer_capacity": ((), value, {"units": "F m-2"}),
            "double_layer_capacity_std": ((), std, {"units": "F m-2"}),
        },
        attrs={
            "assumption": f"double-layer capacity of {value:.3g} F m-2 at {potential:g} V against "
            f"{ordered.attrs['reference']}, held at any potential; it runs from {low:.3g} to "
            f"{high:.3g} F m-2 between {known[0]:g} and {known[-1]:g} V"
        },
    )


def inputs(electrolyte: Electrolyte, as_inputs: Sequence[str]) -> dict[str, float]:
    """Values of the input parameters that `parameter_values` made of the Laws in `as_inputs`.

    Parameters
    ----------
    electrolyte : Electrolyte
        One draw; its Laws must have the same forms as those given to `parameter_values`.
    as_inputs : sequence of str
        The same names as there.

    Returns
    -------
    dict
        Value (in the coefficient's own unit) of each input parameter.

    Raises
    ------
    ValueError
        If a name is not one of the four Laws of an electrolyte.
    """
    _refuse_unknown_laws(as_inputs)
    return {
        name: float(value)
        for label in as_inputs
        for name, value in zip(
            _input_names(label, getattr(electrolyte, label)),
            getattr(electrolyte, label).coefficients,
            strict=True,
        )
    }


def concentration_window(electrolyte: Electrolyte) -> tuple[float, float]:
    """Salt concentrations (mol m-3) within which every Law of an electrolyte is known.

    Parameters
    ----------
    electrolyte : Electrolyte
        The electrolyte.
    """
    windows = [getattr(electrolyte, label).concentration_window for label in LAW_KEYS]
    return max(low for low, _ in windows), min(high for _, high in windows)


def assumptions(
    electrolyte: Electrolyte, *, base: str | Path | pybamm.ParameterValues = "Chen2020"
) -> dict[str, str]:
    """Say what a cell with this electrolyte takes from elsewhere, as attrs of its results.

    Parameters
    ----------
    electrolyte : Electrolyte
        The electrolyte given to `parameter_values`.
    base : str, pathlib.Path or pybamm.ParameterValues
        The base set given there.

    Returns
    -------
    dict
        Sentences under `cell`, `porous_structure`, `exchange_current` and `window`.

    Raises
    ------
    ValueError
        If PyBaMM has no set of that name.
    """
    name = "the given parameter set"
    if isinstance(base, (str, Path)):
        name = Path(base).name
    concentration = float(_base_values(base)[CONCENTRATION_KEY])
    outside = [
        f"{label}: {sentence}"
        for label in LAW_KEYS
        if (
            sentence := getattr(electrolyte, label).outside(
                electrolyte.concentration, electrolyte.temperature
            )
        )
    ]
    return {
        "cell": f"{name} with its electrolyte replaced by {electrolyte.name} at "
        f"{electrolyte.temperature:g} K",
        "porous_structure": f"porosities and Bruggeman exponents of {name}",
        "exchange_current": (
            f"as in {name}, at its own electrolyte concentration of {concentration:g} mol m-3"
            if electrolyte.single_ion
            else f"as in {name}, at the electrolyte's local concentration"
        ),
        "window": "; ".join(outside) or "every law is inside its window at the start",
    }


def _base_values(base: str | Path | pybamm.ParameterValues) -> pybamm.ParameterValues:
    if isinstance(base, Path) or (isinstance(base, str) and base.endswith(".json")):
        from couplers.bpx import from_bpx  # which imports this module

        return from_bpx(base)
    if not isinstance(base, str):
        return base.copy()
    known = sorted(pybamm.parameter_sets)
    if base not in known:
        near = get_close_matches(base, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}."
        raise ValueError(f"PyBaMM has no parameter set {base!r}; {hint}")
    return pybamm.ParameterValues(base)


def _refuse_unknown_laws(as_inputs: Sequence[str]) -> None:
    names = [as_inputs] if isinstance(as_inputs, str) else as_inputs
    unknown = [name for name in names if name not in LAW_KEYS]
    if unknown or isinstance(as_inputs, str):
        raise ValueError(
            f"as_inputs is {as_inputs!r}; give a list of laws from {', '.join(LAW_KEYS)}."
        )


def _input_names(label: str, law: Law) -> list[str]:
    return [f"{label}, {law.form}: {coefficient}" for coefficient in FORMS[law.form][0]]


def on_symbols(law: Law) -> Callable[[Any, Any], Any]:
    """Make of a Law the function (c_e, T) that PyBaMM calls with its symbols."""

    def evaluate(c_e: Any, T: Any) -> Any:
        return law(c_e, T, exp=pybamm.exp)

    return evaluate


def _at_scaled_concentration(function: Callable[..., Any], ratio: float) -> Callable[..., Any]:
    @wraps(function)
    def evaluate(c_e: Any, *others: Any, **named: Any) -> Any:
        return function(c_e * ratio, *others, **named)

    return evaluate
