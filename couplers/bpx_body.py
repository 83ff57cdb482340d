"""What a BPX file can say of a cell, and whether it came back from one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.constants import gas_constant

from continuum.cell import pybamm
from continuum.inputs import FARADAY
from couplers.battery import CONCENTRATION_KEY, LAW_KEYS

REFERENCE = "Reference temperature [K]"
SIDES = ("Negative", "Positive")
LARGEST_TABLE = 4000
OPEN = 1 - 1e-9  # porosity of a layer without any solid
# relative to the largest value of a function, or volts for potentials: far below what moves a cell
CLOSE = 1e-5
PROBES = np.linspace(0.005, 0.995, 67)
UNARY = {pybamm.Exp: "exp", pybamm.Tanh: "tanh", pybamm.Cosh: "cosh"}
BINARY = {
    pybamm.Addition: "+",
    pybamm.Subtraction: "-",
    pybamm.Multiplication: "*",
    pybamm.Division: "/",
    pybamm.Power: "**",
}


def arity(key: str) -> int:
    """How many arguments PyBaMM calls a function of a cell with."""
    if "exchange-current" in key:
        return 4
    if key in LAW_KEYS.values():
        return 2
    return 2 if key.endswith(("diffusivity [m2.s-1]", "electrode conductivity [S.m-1]")) else 1


def symbol_of(values: pybamm.ParameterValues, key: str) -> pybamm.Symbol:
    """Expression that PyBaMM makes of a parameter, to see what it is built of."""
    inputs = {f"argument {i}": pybamm.Variable(f"argument {i}") for i in range(arity(key))}
    return values.process_symbol(pybamm.FunctionParameter(key, inputs))


def same(one: pybamm.ParameterValues, other: pybamm.ParameterValues, key: str) -> bool:
    """Whether a parameter came back, at more points and temperatures than it was made of."""
    if all(isinstance(values[key], (int, float)) for values in (one, other)):
        return bool(np.isclose(one[key], other[key], rtol=1e-12, atol=0))
    if isinstance(one[key], str) or isinstance(other[key], str):
        return bool(one[key] == other[key])
    x = np.linspace(0.003, 0.997, 131)
    reference, rest = _number(one, REFERENCE), _number(one, CONCENTRATION_KEY)
    volts = key.endswith(("OCP [V]",))
    for T in (reference, reference - 15.0, reference + 15.0):
        warm = np.full(len(x), T)
        arguments: tuple[np.ndarray, ...]
        if "exchange-current" in key:
            most = _number(
                one, f"Maximum concentration in {key.split()[0].lower()} electrode [mol.m-3]"
            )
            arguments = (rest * (0.1 + 2 * x[::-1]), most * x, np.full(len(x), most), warm)
        elif key in LAW_KEYS.values():
            arguments = (3 * rest * x, warm)
        elif "OCP" in key:
            arguments = (x,)
        elif "diffusivity" in key or "electrode conductivity" in key:
            arguments = (x, warm)
        else:
            return False
        mine, theirs = (evaluated(values, key, *arguments) for values in (one, other))
        allowed = 2 * CLOSE * (1.0 if volts else float(np.abs(mine).max()))
        if not np.all(np.abs(mine - theirs) <= allowed):
            return False
    return True


def evaluated(values: pybamm.ParameterValues, key: str, *arguments: np.ndarray) -> np.ndarray:
    """Values of a parameter that may be a number or a function, at points."""
    inputs = {f"argument {i}": pybamm.Vector(one) for i, one in enumerate(arguments)}
    symbol = values.process_symbol(pybamm.FunctionParameter(key, inputs))
    return np.asarray(symbol.evaluate(), dtype=float).ravel() * np.ones(len(arguments[0]))


def _number(values: pybamm.ParameterValues, key: str) -> float:
    return float(values.evaluate(values[key]))


def body(values: pybamm.ParameterValues, reasons: dict[str, str]) -> dict[str, Any]:
    """Body of a BPX file, and the reasons for what it can only approximate."""
    reference = _number(values, REFERENCE)
    rest = _number(values, CONCENTRATION_KEY)
    concentrations = rest * np.linspace(0.02, 3.0, 67)
    area = _number(values, "Electrode height [m]") * _number(values, "Electrode width [m]")
    pairs = _number(values, "Number of electrodes connected in parallel to make a cell")
    if pairs != int(pairs):
        area, pairs = area * pairs, 1.0
    cell = {
        "Electrode area [m2]": area,
        "Number of electrode pairs connected in parallel to make a cell": int(pairs),
        "Lower voltage cut-off [V]": _number(values, "Lower voltage cut-off [V]"),
        "Upper voltage cut-off [V]": _number(values, "Upper voltage cut-off [V]"),
        "Nominal cell capacity [A.h]": _number(values, "Nominal cell capacity [A.h]"),
        REFERENCE: reference,
    }
    for key, name, instead in (
        ("Cell cooling surface area [m2]", "External surface area [m2]", 2 * area),
        ("Cell volume [m3]", "Volume [m3]", area * 1e-4),
    ):
        # PyBaMM's reader wants both, though no isothermal model does
        cell[name] = _number(values, key) if key in values else instead
    electrolyte = {
        "Cation transference number": float(
            evaluated(
                values, LAW_KEYS["transference_number"], np.array([rest]), np.array([reference])
            )[0]
        )
    }
    reasons[LAW_KEYS["transference_number"]] = "BPX holds one number, here that at rest"
    reasons[LAW_KEYS["thermodynamic_factor"]] = "BPX has none, and PyBaMM's reader takes it as 1"
    for label, name in (
        ("diffusivity", "Diffusivity [m2.s-1]"),
        ("conductivity", "Conductivity [S.m-1]"),
    ):
        electrolyte |= _with_arrhenius(
            values, LAW_KEYS[label], name, concentrations, reference, reasons
        )
    body: dict[str, Any] = {"Cell": cell, "Electrolyte": electrolyte}
    low_n, high_n, low_p, high_p = (
        float(one) for one in pybamm.lithium_ion.get_min_max_stoichiometries(values)
    )
    for side, limits in zip(SIDES, ((low_n, high_n), (low_p, high_p)), strict=True):
        body[f"{side} electrode"] = _electrode(values, side, limits, reference, reasons)
    porosity = _porosity(values, "Separator", reasons)
    body["Separator"] = {
        "Thickness [m]": _number(values, "Separator thickness [m]"),
        "Porosity": porosity,
        "Transport efficiency": porosity
        ** _number(values, "Separator Bruggeman coefficient (electrolyte)"),
    }
    first = _number(values, "Initial concentration in negative electrode [mol.m-3]")
    share = first / _number(values, "Maximum concentration in negative electrode [mol.m-3]")
    charge = float(np.clip((share - low_n) / (high_n - low_n), 0.0, 1.0))
    for side in SIDES:
        reasons[f"Initial concentration in {side.lower()} electrode [mol.m-3]"] = (
            "BPX holds the state of charge, and its limits only to the solver's tolerance"
        )
    for key in ("Electrode height [m]", "Electrode width [m]"):
        reasons[key] = "BPX holds the area only"
    return {
        "Header": {},
        "Parameterisation": body,
        "State": {
            "Initial conditions": {
                "Initial state-of-charge": charge,
                "Initial temperature [K]": _number(values, "Initial temperature [K]"),
                "Initial electrolyte concentration [mol.m-3]": rest,
            },
            "Thermal environment": {
                "Ambient temperature [K]": _number(values, "Ambient temperature [K]")
            },
        },
    }


def _electrode(
    values: pybamm.ParameterValues,
    side: str,
    limits: tuple[float, float],
    reference: float,
    reasons: dict[str, str],
) -> dict[str, Any]:
    porosity = _porosity(values, f"{side} electrode", reasons)
    radius = _number(values, f"{side} particle radius [m]")
    most = _number(values, f"Maximum concentration in {side.lower()} electrode [mol.m-3]")
    fraction = _number(values, f"{side} electrode active material volume fraction")
    electronic = f"{side} electrode conductivity [S.m-1]"
    solid = f"{side} electrode Bruggeman coefficient (electrode)"
    middle, warm = np.array([0.5]), np.array([reference])
    conductivity = float(evaluated(values, electronic, middle, warm)[0])
    reasons[electronic] = "BPX holds one effective number, and no dependence on anything"
    reasons[solid] = "the effective conductivity of BPX has it inside"
    reasons[f"{side} electrode double-layer capacity [F.m-2]"] = "BPX has no double layer"
    content = {
        "Thickness [m]": _number(values, f"{side} electrode thickness [m]"),
        "Porosity": porosity,
        "Transport efficiency": porosity
        ** _number(values, f"{side} electrode Bruggeman coefficient (electrolyte)"),
        "Conductivity [S.m-1]": conductivity * (1 - porosity) ** _number(values, solid),
        "Minimum stoichiometry": limits[0],
        "Maximum stoichiometry": limits[1],
        "Maximum concentration [mol.m-3]": most,
        "Particle radius [m]": radius,
        "Surface area per unit volume [m-1]": 3 * fraction / radius,
    }
    content |= _with_arrhenius(
        values,
        f"{side} particle diffusivity [m2.s-1]",
        "Diffusivity [m2.s-1]",
        PROBES,
        reference,
        reasons,
    )
    for key, name, close in (
        (f"{side} electrode OCP [V]", "OCP [V]", CLOSE),
        (
            f"{side} electrode OCP entropic change [V.K-1]",
            "Entropic change coefficient [V.K-1]",
            CLOSE / 100,
        ),
    ):
        content[name] = _function(values, key, (), PROBES, close)
        reasons[key] = "a table in BPX cannot follow it"
    return content | _kinetics(values, side, most, reference, reasons)


def _porosity(values: pybamm.ParameterValues, layer: str, reasons: dict[str, str]) -> float:
    """Porosity (1) of a layer, a little less than 1: readers divide by its logarithm."""
    reasons[f"{layer} porosity"] = f"PyBaMM's reader cannot take 1; {OPEN} is in the file"
    return min(_number(values, f"{layer} porosity"), OPEN)


def _kinetics(
    values: pybamm.ParameterValues,
    side: str,
    most: float,
    reference: float,
    reasons: dict[str, str],
) -> dict[str, float]:
    key = f"{side} electrode exchange-current density [A.m-2]"
    rest = _number(values, CONCENTRATION_KEY)
    x, salt = (one.ravel() for one in np.meshgrid(PROBES, rest * np.array([0.1, 1.0, 2.0])))

    def rate(T: float) -> np.ndarray:
        whole = np.full(len(x), most)
        current = evaluated(values, key, salt, x * most, whole, np.full(len(x), T))
        return current / FARADAY / np.sqrt(salt / rest * x * (1 - x))

    middle = (salt == rest) & (np.abs(x - 0.5) < 0.01)
    constant = float(rate(reference)[middle].mean())
    energy = float(_activation_energy(rate, reference)[middle].mean())
    reasons[key] = "not of BPX's form, K sqrt(c_e c_s (c_max - c_s)) with one activation energy"
    return {
        "Reaction rate constant [mol.m-2.s-1]": constant,
        "Reaction rate constant activation energy [J.mol-1]": energy,
    }


def _activation_energy(function: Callable[[float], np.ndarray], reference: float) -> np.ndarray:
    """Activation energy (J mol-1) at each point, from 10 K around the reference."""
    cold, warm = reference - 10.0, reference + 10.0
    ratio = function(warm) / function(cold)
    return gas_constant * np.log(np.where(ratio > 0, ratio, 1.0)) / (1 / cold - 1 / warm)


def _with_arrhenius(
    values: pybamm.ParameterValues,
    key: str,
    name: str,
    probes: np.ndarray,
    reference: float,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """Function at the reference temperature, with the activation energy in its middle."""
    energies = _activation_energy(
        lambda T: evaluated(values, key, probes, np.full(len(probes), T)), reference
    )
    reasons[key] = "BPX holds one activation energy, at any concentration and temperature"
    label = name.split(" [")[0]
    return {
        name: _function(values, key, (reference,), probes, None),
        f"{label} activation energy [J.mol-1]": float(np.median(energies)),
    }


def _function(
    values: pybamm.ParameterValues,
    key: str,
    others: tuple[float, ...],
    probes: np.ndarray,
    close: float | None,
) -> float | str | dict[str, list[float]]:
    """Number, expression or table of a function of one variable, the others held."""
    x = pybamm.Variable("x")
    inputs = {"x": x, **{f"argument {i}": pybamm.Scalar(one) for i, one in enumerate(others)}}
    symbol = values.process_symbol(pybamm.FunctionParameter(key, inputs))
    text = _expression(symbol)
    if text is not None:
        try:
            return float(text)
        except ValueError:
            return text

    def at(points: np.ndarray) -> np.ndarray:
        return evaluated(values, key, points, *(np.full(len(points), one) for one in others))

    knots = [one.x[0] for one in symbol.pre_order() if isinstance(one, pybamm.Interpolant)]
    return _table(at, probes, knots, close)


def _expression(symbol: pybamm.Symbol) -> str | None:
    """Text in BPX's language, or None if it has no words for it."""
    if not symbol.has_symbol_of_classes(pybamm.Variable):
        return repr(float(np.asarray(symbol.evaluate()).item()))
    if isinstance(symbol, pybamm.Variable):
        return "x"
    children = [_expression(child) for child in symbol.children]
    if any(child is None for child in children):
        return None
    if isinstance(symbol, pybamm.Negate):
        return f"(-1.0*{children[0]})"
    if type(symbol) in UNARY:
        return f"{UNARY[type(symbol)]}({children[0]})"
    if isinstance(symbol, pybamm.Sqrt):
        return f"({children[0]}**0.5)"
    if type(symbol) in BINARY:
        left, right = (f"({one})" if str(one).startswith("-") else one for one in children)
        return f"({left}{BINARY[type(symbol)]}{right})"
    return None


def _table(
    function: Callable[[np.ndarray], np.ndarray],
    probes: np.ndarray,
    knots: Sequence[np.ndarray],
    close: float | None,
) -> dict[str, list[float]]:
    """Points between which a straight line follows the function."""
    low, high = (0.0, 1.0) if probes[-1] < 1 else (float(probes[0]), float(probes[-1]))
    low, high = low + 1e-6 * (high - low), high - 1e-6 * (high - low)
    x = np.unique(np.concatenate([np.linspace(low, high, 65), *knots]))
    x = x[(x >= low) & (x <= high)]
    y = function(x)
    allowed = close if close is not None else CLOSE * float(np.abs(y).max())
    while len(x) < LARGEST_TABLE:
        # at three points of each interval: one may lie where the curve crosses its chord
        shares = np.array([0.25, 0.5, 0.75])[:, None]
        exact = function((x[:-1] + shares * np.diff(x)).ravel()).reshape(3, -1)
        off = np.any(np.abs(exact - y[:-1] - shares * np.diff(y)) > allowed, axis=0)
        if not off.any():
            break
        middle = 0.5 * (x[1:] + x[:-1])[off]
        x, y = np.concatenate([x, middle]), np.concatenate([y, exact[1, off]])
        order = np.argsort(x)
        x, y = x[order], y[order]
    return {"x": x.tolist(), "y": y.tolist()}
