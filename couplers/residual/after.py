"""The corrector after the solve: a finished SPMe solution of PyBaMM, with band and abstentions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from continuum.cell import pybamm
from couplers.residual.corrector import Corrector, load
from couplers.residual.features import SIDES, assemble, kind, remember, shapes
from couplers.residual.model import (
    SAME,
    UNCORRECTED,
    _relative,
    electrolyte_at_rest,
    numbers,
    signature,
)

NEEDED = (
    "Time [s]",
    "Current [A]",
    "Voltage [V]",
    "Negative electrode stoichiometry",
    "Positive electrode stoichiometry",
    "X-averaged negative particle surface stoichiometry",
    "X-averaged positive particle surface stoichiometry",
    "X-averaged negative electrolyte concentration [mol.m-3]",
    "X-averaged positive electrolyte concentration [mol.m-3]",
    "Electrolyte concentration [mol.m-3]",
)


def correct(
    solution: pybamm.Solution,
    parameter_values: pybamm.ParameterValues,
    corrector: str | Path | Corrector,
) -> xr.Dataset:
    """Correct the voltage of a finished SPMe solution by the ensemble.

    Parameters
    ----------
    solution : pybamm.Solution
        Of ``pybamm.lithium_ion.SPMe`` or `couplers.residual.model.CorrectedSPMe`, from rest; its
        points of time must follow the current, which is taken as linear in between.
    parameter_values : pybamm.ParameterValues
        Those that it was solved with.
    corrector : str, pathlib.Path or Corrector
        A shipped corrector by the name of its parameter set, a file, or one in hand.

    Returns
    -------
    xarray.Dataset
        `voltage`, `spme_voltage`, `correction`, `band` (half width, 90 % of profiles lie within it
        throughout), all in V; `abstained`, where the correction is 0 and the band wide. `outcome`
        says how often.

    Raises
    ------
    ValueError
        For another cell than the corrector's, saying what differs; for a solution that lacks a
        variable or holds a value that is not finite.
    """
    chosen = corrector if isinstance(corrector, Corrector) else load(corrector)
    refuse_foreign(parameter_values, chosen)
    available = set(
        solution.data if solution.variables_returned else solution.all_models[0].variables
    )
    lacking = [name for name in NEEDED if name not in available]
    if lacking:
        raise ValueError(
            f"The solution lacks {', '.join(lacking)}: it must be one of SPMe, with all variables."
        )
    found = {name: np.asarray(solution[name].entries) for name in NEEDED}
    wrong = [name for name, values in found.items() if not np.isfinite(values).all()]
    if wrong:
        raise ValueError(f"The solution is not finite in {', '.join(wrong)}.")
    base = found["Voltage [V]"]
    if UNCORRECTED in available:
        base = np.asarray(solution[UNCORRECTED].entries)
    time = solution.t
    rest = float(parameter_values["Initial concentration in electrolyte [mol.m-3]"])
    rate = found["Current [A]"] / float(parameter_values["Nominal cell capacity [A.h]"])
    surface = [found[f"X-averaged {side} particle surface stoichiometry"] for side in SIDES]
    salt = found["Electrolyte concentration [mol.m-3]"]
    mesh = solution["Electrolyte concentration [mol.m-3]"].mesh
    known = chosen.about["potential_known"]
    states: dict[str, Any] = {
        "left_salt": _at_collector(salt, mesh.nodes - mesh.edges[0]) / rest,
        "right_salt": _at_collector(salt[::-1], (mesh.edges[-1] - mesh.nodes)[::-1]) / rest,
    }
    for side, x in zip(SIDES, surface, strict=True):
        states[f"{side}_mean"] = found[f"{side.capitalize()} electrode stoichiometry"]
        states[f"{side}_surface"] = x
        for shape, values in shapes(
            _potential(parameter_values, side), x, kept=partial(_clipped, known=known[side])
        ).items():
            states[f"{side}_{shape}"] = values
        name = f"X-averaged {side} electrolyte concentration [mol.m-3]"
        states[f"{side}_salt"] = found[name] / rest
    relative = _relative(chosen, numbers(parameter_values, electrolyte_at_rest()))
    broad = {name: np.full_like(rate, value) for name, value in relative.items()}
    memories = remember(rate, time - time[0], chosen.memory_times)
    static, active = assemble(states, rate, memories, broad)
    said = chosen.correct(
        np.stack(static, -1), np.stack(active, -1), kind=np.full(time.shape, kind(rate, time))
    )
    share = float(said.abstained.mean())
    return xr.Dataset(
        {
            "voltage": ("time", base + said.voltage, {"units": "V"}),
            "spme_voltage": ("time", base, {"units": "V"}),
            "correction": ("time", said.voltage, {"units": "V"}),
            "band": ("time", said.band, {"units": "V", "long_name": "half width, 90 %"}),
            "abstained": ("time", said.abstained),
            "current": ("time", found["Current [A]"], {"units": "A"}),
        },
        coords={"time": ("time", time, {"units": "s"})},
        attrs={
            "sign": "discharge positive",
            "corrector": str(chosen.about.get("set", "")),
            "outcome": "corrected throughout"
            if share == 0
            else f"abstained at {100 * share:.1f} % of the points: outside its training or too "
            "doubtful",
        },
    )


def refuse_foreign(values: pybamm.ParameterValues, corrector: Corrector) -> None:
    """Raise ValueError with what differs, if the cell is not the corrector's."""
    try:
        given = numbers(values, signature())
    except KeyError as error:
        raise ValueError(f"These parameter values are no full cell: {error.args[0]}.") from error
    differing = [
        f"{name} is {given[name]:.5g}, trained for {value:.5g}"
        for name, value in corrector.about["signature"].items()
        if abs(given[name] - value) >= SAME * abs(value)
    ]
    if differing:
        raise ValueError(
            f"The corrector of {corrector.about.get('set')} is not for this cell: "
            + "; ".join(differing)
            + ". Train one with 'multiscale train-corrector'."
        )


def _clipped(x: np.ndarray, known: tuple[float, float]) -> np.ndarray:
    return np.clip(x, *known)


def _at_collector(salt: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Value at the collector, where it is flat, from the two points next to it; (place, time)."""
    near, far = away[:2] ** 2
    return (far * salt[0] - near * salt[1]) / (far - near)


def _potential(values: pybamm.ParameterValues, side: str) -> Callable[[np.ndarray], np.ndarray]:
    parameters = pybamm.LithiumIonParameters()
    domain = parameters.n if side == "negative" else parameters.p
    T = pybamm.Parameter("Ambient temperature [K]")

    def potential(x: np.ndarray) -> np.ndarray:
        symbol = values.process_symbol(domain.prim.U(pybamm.Array(x[:, None]), T))
        return np.ravel(symbol.evaluate())

    return potential
