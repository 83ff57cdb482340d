"""The corrector inside PyBaMM: an SPMe whose voltage, cut-offs and control are corrected."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import casadi
import numpy as np

from continuum.cell import pybamm
from continuum.cell_beyond import BeyondSPMe
from continuum.cell_nodes import IfNear, Node
from couplers.residual.corrector import Corrector, load
from couplers.residual.features import LEAST_SALT, SIDES, assemble, shapes
from couplers.residual.parameters import potential_known

# A solver's absolute tolerance is for states as they are scaled. What follows each bend of the
# current, in units of 1C, is looked at that much less closely, and does not shorten the steps.
SMALL = 1e-4
SAME = 1e-3  # relative difference in which two cells are still one
MEMORY = "Corrector memory {}"
CORRECTION = "Voltage correction [V]"
UNCORRECTED = "Uncorrected voltage [V]"
INSIDE = "Corrector weight"
GATE = 0.02  # of the box's width, over which the correction fades outside it
LARGEST = 0.2  # V, that no correction exceeds


def signature() -> dict[str, pybamm.Symbol]:
    """What tells one cell from another, as PyBaMM symbols; a corrector keeps their numbers.

    Of the electrolyte only how its properties fall with concentration: their size is a feature.
    """
    parameters = pybamm.LithiumIonParameters()
    T = pybamm.Parameter("Ambient temperature [K]")
    rest = pybamm.Parameter("Initial concentration in electrolyte [mol.m-3]")
    found = {
        name: pybamm.Parameter(name)
        for name in (
            "Nominal cell capacity [A.h]",
            "Separator thickness [m]",
            "Separator porosity",
            "Ambient temperature [K]",
            "Initial concentration in electrolyte [mol.m-3]",
        )
    }
    for side, domain in (("Negative", parameters.n), ("Positive", parameters.p)):
        for name in (
            f"{side} electrode thickness [m]",
            f"{side} electrode porosity",
            f"{side} electrode active material volume fraction",
            f"{side} electrode conductivity [S.m-1]",
            f"{side} particle radius [m]",
            f"Maximum concentration in {side.lower()} electrode [mol.m-3]",
        ):
            found[name] = pybamm.Parameter(name)
        half = 0.5 * domain.prim.c_max
        found[f"{side} particle diffusivity [m2.s-1]"] = domain.prim.D(half, T)
        for x in (0.2, 0.8):
            law = domain.prim.D(x * domain.prim.c_max, T)
            found[f"{side} particle diffusivity at {x} [m2.s-1]"] = law
        found[f"{side} electrode exchange-current density [A.m-2]"] = domain.prim.j0(rest, half, T)
        for x in (0.3, 0.6):
            found[f"{side} electrode OCP at {x} [V]"] = domain.prim.U(pybamm.Scalar(x), T)
    for name, law in (
        ("diffusivity", parameters.D_e),
        ("conductivity", parameters.kappa_e),
        ("thermodynamic factor", parameters.chi),
    ):
        for share in (0.4, 2.0):
            found[f"electrolyte {name} at {share} of rest"] = law(share * rest, T) / law(rest, T)
    return found


def electrolyte_at_rest() -> dict[str, pybamm.Symbol]:
    """Diffusivity, conductivity, transference number and thermodynamic factor, as symbols."""
    parameters = pybamm.LithiumIonParameters()
    T = pybamm.Parameter("Ambient temperature [K]")
    rest = pybamm.Parameter("Initial concentration in electrolyte [mol.m-3]")
    transference = parameters.t_plus(rest, T)
    return {
        "diffusivity": parameters.D_e(rest, T),
        "conductivity": parameters.kappa_e(rest, T),
        "transference_number": transference,
        "thermodynamic_factor": parameters.chi(rest, T) / (2 * (1 - transference)),
    }


def numbers(
    values: pybamm.ParameterValues, symbols: Mapping[str, pybamm.Symbol]
) -> dict[str, float]:
    """Evaluate symbols such as `signature` with parameter values."""
    return {name: np.ravel(values.evaluate(symbol)).item() for name, symbol in symbols.items()}


def described(values: pybamm.ParameterValues) -> dict[str, Any]:
    """What a corrector must keep of the cell that it is trained for: goes into its `about`."""
    parameters = pybamm.LithiumIonParameters()
    return {
        "signature": numbers(values, signature()),
        "electrolyte": numbers(values, electrolyte_at_rest()),
        "potential_known": {
            side: list(potential_known(values, domain))
            for side, domain in zip(SIDES, (parameters.n, parameters.p), strict=True)
        },
    }


class CorrectedSPMe(BeyondSPMe):
    """SPMe with the residual corrector, for ``pybamm.Simulation`` and experiments.

    The memories of the current are states, in a scale that a solver with the usual tolerances
    keeps to about a hundredth of a C-rate, for with a closer eye on the quickest it would follow
    each bend of the current. The student network is one node of the graph, which the cut-offs look
    at only when SPMe's voltage is within `LARGEST` of them, and
    ``"Voltage [V]"``, ``"Terminal voltage [V]"``, both cut-offs and voltage or power control are
    corrected. ``"Uncorrected voltage [V]"`` and ``"Voltage correction [V]"`` stand beside them.
    ``"Corrector weight"`` is 1 inside the box of features that the network was trained in; the
    correction fades to 0 outside it, and is 0 throughout for a cell of other measures. The
    ensemble's spread is for `couplers.residual.after.correct`, after the solve. The model's own
    ``default_solver`` takes steps of a minute at most: at a constant current another one may leap
    over a cut-off, to where a potential means nothing.

    Parameters
    ----------
    corrector : str, pathlib.Path or Corrector
        A shipped corrector by the name of its parameter set, a file, or one in hand.
    options : dict, optional
        PyBaMM's options of the SPMe; the corrector was trained on the default ones.
    name : str
        Name of the model.

    Raises
    ------
    ValueError
        If there is no such corrector, or for options that it was not trained on.

    Examples
    --------
    >>> simulation = pybamm.Simulation(
    ...     CorrectedSPMe("Chen2020"), parameter_values=pybamm.ParameterValues("Chen2020")
    ... )
    >>> solution = simulation.solve([0, 600])
    >>> bool(abs(solution["Voltage correction [V]"].entries).max() > 1e-4)
    True
    """

    def __init__(
        self,
        corrector: str | Path | Corrector = "Chen2020",
        options: dict[str, Any] | None = None,
        name: str = "Single Particle Model with electrolyte, corrected to P2D",
    ) -> None:
        chosen = corrector if isinstance(corrector, Corrector) else load(corrector)
        super().__init__(options, name)
        self.corrector = chosen
        known = self.variables
        rate = known["Current [A]"] / self.param.Q
        memories = []
        for k, tau in enumerate(chosen.memory_times):
            memory = pybamm.Variable(MEMORY.format(k))
            self.rhs[memory] = (SMALL * rate - memory) / float(tau)
            self.initial_conditions[memory] = pybamm.Scalar(0)
            known[MEMORY.format(k)] = memory / SMALL
            memories.append(memory / SMALL)
        static, active = assemble(
            self._states(),
            rate,
            memories,
            _relative(chosen, electrolyte_at_rest()),
            log=lambda x: pybamm.log(pybamm.maximum(x, LEAST_SALT)),
            arcsinh=pybamm.arcsinh,
        )
        same: pybamm.Symbol = pybamm.Scalar(1)
        symbols = signature()
        for key, value in chosen.about["signature"].items():
            same = same * (abs(symbols[key] - value) < SAME * abs(value))
        features, says = static + active, _correction(chosen)
        correction = same * Node(says, features, "residual_corrector")
        known[INSIDE] = same * Node(_gate(chosen), features, "corrector_weight")
        known[CORRECTION] = correction
        self.see(
            known["Voltage [V]"] + correction,
            kept_as=UNCORRECTED,
            if_near=lambda margin, reach: (
                same * IfNear(says, [margin, *features], "correction_if_near", reach=reach)
            ),
            apart=(LARGEST, LARGEST),
        )

    def _states(self) -> dict[str, pybamm.Symbol]:
        """The states of `couplers.residual.features` as symbols."""
        known, rest = self.variables, self.param.c_e_init
        T = known["X-averaged cell temperature [K]"]
        negative = known["X-averaged negative particle surface stoichiometry"]
        positive = known["X-averaged positive particle surface stoichiometry"]
        found: dict[str, pybamm.Symbol] = {}
        for side, x in zip(SIDES, (negative, positive), strict=True):
            domain = self.param.n if side == "negative" else self.param.p
            low, high = self.corrector.about["potential_known"][side]
            about = shapes(
                partial(domain.prim.U, T=T), x, kept=partial(_clipped, low=low, high=high)
            )
            found |= {f"{side}_{shape}": symbol for shape, symbol in about.items()}
        return {
            "negative_mean": known["Negative electrode stoichiometry"],
            "positive_mean": known["Positive electrode stoichiometry"],
            "negative_surface": negative,
            "positive_surface": positive,
            **found,
            "negative_salt": known["X-averaged negative electrolyte concentration [mol.m-3]"]
            / rest,
            "positive_salt": known["X-averaged positive electrolyte concentration [mol.m-3]"]
            / rest,
            "left_salt": pybamm.boundary_value(
                known["Negative electrolyte concentration [mol.m-3]"], "left"
            )
            / rest,
            "right_salt": pybamm.boundary_value(
                known["Positive electrolyte concentration [mol.m-3]"], "right"
            )
            / rest,
        }


def _correction(corrector: Corrector) -> casadi.Function:
    """The student as a CasADi function of all features, faded out by `_gate`, in V."""
    count = len(corrector.lowest)
    x = casadi.SX.sym("features", count)
    first = len(corrector.static_mean)
    offset = np.concatenate([corrector.static_mean, np.zeros(count - first)])
    scale = np.concatenate([corrector.static_scale, corrector.active_scale])
    scaled = (x - casadi.DM(offset)) / casadi.DM(scale)
    h = scaled
    for k, (matrix, bias) in enumerate(corrector.student):
        h = casadi.mtimes(casadi.DM(matrix), h) + casadi.DM(bias)
        if k < len(corrector.student) - 1:
            h = casadi.tanh(h)
    voltage = corrector.unit * casadi.dot(h, scaled[first:])
    bounded = casadi.fmax(-LARGEST, casadi.fmin(LARGEST, voltage))
    return casadi.Function("residual_corrector", [x], [bounded * _gate(corrector)(x)])


def _gate(corrector: Corrector) -> casadi.Function:
    """1 inside the box of features, fading to 0 outside."""
    x = casadi.SX.sym("features", len(corrector.lowest))
    width = casadi.DM(corrector.highest - corrector.lowest)
    over = casadi.fmax(x - casadi.DM(corrector.highest), casadi.DM(corrector.lowest) - x) / width
    out = casadi.sumsqr(casadi.fmax(over, 0)) / GATE**2
    return casadi.Function("corrector_weight", [x], [casadi.exp(-out)])


def _clipped(stoichiometry: pybamm.Symbol, low: float, high: float) -> pybamm.Symbol:
    return pybamm.maximum(low, pybamm.minimum(high, stoichiometry))


def _relative(corrector: Corrector, at_rest: Mapping[str, Any]) -> dict[str, Any]:
    """The electrolyte relative to the one of the corrector's set."""
    own = corrector.about["electrolyte"]
    found = {
        f"{name}_scale": at_rest[name] / own[name]
        for name in ("diffusivity", "conductivity", "thermodynamic_factor")
    }
    found["transference_number_shift"] = at_rest["transference_number"] - own["transference_number"]
    return found
