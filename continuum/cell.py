"""Battery cells: discharges and impedance of PyBaMM models, as Datasets."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
import xarray as xr

from continuum.cell_mesh import electrode_submeshes, pybamm
from continuum.cell_modes import ModalSPMe
from continuum.cell_particles import on_ladder

MODELS = ("DFN", "ModalSPMe", "SPMe", "SPM")
MESH_POINTS = {"x_n": 30, "x_s": 10, "x_p": 30}
CURRENT = "Current function [A]"
LOWEST, HIGHEST = (f"{end} electrolyte concentration [mol.m-3]" for end in ("Lowest", "Highest"))
ROUNDING = 1e-6  # relative, of a concentration that stays where it was
CAPACITY = "Nominal cell capacity [A.h]"
ABSOLUTE = 1e-2  # tolerance of states, which are of order one, over the relative one
CAPACITY_MARGIN = 1.2  # how far a discharge may go beyond the nominal capacity
REACHED = "reached the cut-off voltage"
BELOW = "was below the cut-off voltage as soon as the current flowed"


def discharge(
    parameter_values: pybamm.ParameterValues,
    *,
    c_rates: Sequence[float],
    inputs: Sequence[Mapping[str, float]] = ({},),
    model: str = "DFN",
    initial_state_of_charge: float | None = None,
    time_points: int = 121,
    mesh_points: Mapping[str, int] | None = None,
    relative_tolerance: float = 1e-5,
    concentration_window: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    r"""Discharge a cell at constant current, once for each C-rate and each draw of inputs.

    .. math:: I = C\, Q_0 / (1\,\mathrm{h}), \qquad Q(t) = \int_0^t I\, dt'

    with the C-rate :math:`C` and the nominal capacity :math:`Q_0`, until the cut-off voltage or
    1.2 nominal capacities. The model is discretised once and solved with IDAKLU for all draws.

    The mesh has 30 points in each electrode, drawn together towards the separator (even ones for
    the modal model), and in each particle the few shells that answer as a sphere does
    (`continuum.cell_particles`). At 1C the voltage of Chen2020 is 0.04 mV (RMS; at most 0.1) from
    a fine mesh's, on PyBaMM's default one 1.0 (3.4); with a single-ion electrolyte of 0.16 S m-1
    0.1 (0.2), on the default 0.3 (2.0).

    Parameters
    ----------
    parameter_values : pybamm.ParameterValues
        A complete set; what varies between draws stands in it as ``pybamm.InputParameter``.
    c_rates : sequence of float
        C-rates (1), positive; the dim ``condition``.
    inputs : sequence of mapping
        Value of each input parameter (in its own unit), one mapping for each ``draw``.
    model : str
        ``"DFN"``, ``"SPMe"``, ``"SPM"``, or ``"ModalSPMe"`` (`continuum.cell_modes`).
    initial_state_of_charge : float, optional
        State of charge at the start (1), from 0 to 1 between the voltage limits; if not given, the
        initial concentrations in `parameter_values`, which not every published set has charged.
    time_points : int
        Number of points in time (1) of each curve.
    mesh_points : mapping, optional
        Number of mesh points (1) in ``x_n``, ``x_s``, ``x_p``, for those that differ from the
        default.
    relative_tolerance : float
        Relative tolerance of the time integration (1); the absolute one is a hundredth of it.
    concentration_window : tuple of float, optional
        Salt concentrations (mol m-3) within which the electrolyte's laws are known; a discharge
        that leaves them says so in its outcome.
    progress : callable, optional
        Called as ``progress(done, total)`` after each discharge.

    Returns
    -------
    xarray.Dataset
        Schema `continuum.schema.DISCHARGE`. `voltage` is nan after the end of a discharge.
        `outcome` holds one sentence for each discharge; one that the solver could not do is nan
        throughout, and one that starts below the cut-off has no voltage and a capacity of 0. It
        also says where an interpolated function was used outside its data, or the electrolyte
        outside `concentration_window`.

    Raises
    ------
    ValueError
        Lists every fault: what is no set of parameters, unknown model, C-rates that are not
        positive, fewer than two points, a state of charge outside 0 to 1, inputs that the model
        does not read or that it lacks; or says which parameter the model reads that the set does
        not have.

    References
    ----------
    Doyle, Fuller, Newman, J. Electrochem. Soc. 140, 1526 (1993), https://doi.org/10.1149/1.2221597
    Sulzer et al., J. Open Res. Softw. 9, 14 (2021), https://doi.org/10.5334/jors.309
    """
    faults = []
    if model not in MODELS:
        faults.append(f"model is {model!r}, but must be one of {', '.join(MODELS)}")
    if len(c_rates) == 0 or not all(np.isfinite(rate) and rate > 0 for rate in c_rates):
        faults.append(f"c_rates are {list(c_rates)}, but must be positive and finite")
    if time_points < 2:
        faults.append(f"time_points is {time_points}, but must be at least 2")
    if len(inputs) == 0:
        faults.append("inputs is empty; give one mapping for each draw, {} for a single one")
    faults += _faults_of_cell(parameter_values, initial_state_of_charge, mesh_points)
    if faults:
        raise ValueError("Discharge: " + "; ".join(faults) + ".")

    values = parameter_values.copy()
    try:
        if initial_state_of_charge is not None:
            values.set_initial_state(float(initial_state_of_charge))
        values[CURRENT] = "[input]"
        simulation = _simulation(values, model, mesh_points or {}, relative_tolerance)
    except KeyError as error:
        raise ValueError(_lacking(error, model)) from error
    known = {symbol.name for symbol in simulation.built_model.input_parameters} - {CURRENT}
    _refuse_wrong_inputs(inputs, known, model)

    nominal = float(simulation.parameter_values[CAPACITY])
    rates = np.asarray(c_rates, dtype=float)
    current = rates * nominal
    elapsed = np.linspace(0, CAPACITY_MARGIN * 3600 / rates, time_points, axis=-1)
    shape = (len(rates), len(inputs))
    voltage = np.full((*shape, time_points), np.nan)
    capacity = np.full(shape, np.nan)
    reached = np.full((2, *shape), np.nan)
    low, high = concentration_window or (0.0, np.inf)
    outcome = np.full(shape, "", dtype=object)
    for done, (condition, draw) in enumerate(np.ndindex(*shape), start=1):
        grid = elapsed[condition]
        times, volts, ends, sentence = _solve(
            simulation, float(current[condition]), inputs[draw], grid
        )
        if len(times):
            reached[:, condition, draw] = ends
            if ends[0] < low * (1 - ROUNDING) or ends[1] > high * (1 + ROUNDING):
                sentence += f"; the electrolyte left its laws' {low:g} to {high:g} mol m-3"
        outcome[condition, draw] = sentence
        if len(times):
            voltage[condition, draw] = np.interp(grid, times, volts, right=np.nan)
            capacity[condition, draw] = current[condition] * times[-1] / 3600
        elif sentence == BELOW:
            capacity[condition, draw] = 0.0
        if progress is not None:
            progress(done, voltage.shape[0] * voltage.shape[1])

    return xr.Dataset(
        {
            "c_rate": ("condition", rates, {"units": "1"}),
            "current": ("condition", current, {"units": "A"}),
            "elapsed_time": (("condition", "time"), elapsed, {"units": "s"}),
            "capacity": (
                ("condition", "time"),
                current[:, None] * elapsed / 3600,
                {"units": "A h", "long_name": "charge passed since the start"},
            ),
            "voltage": (
                ("condition", "draw", "time"),
                voltage,
                {"units": "V", "long_name": "terminal voltage, nan after the end"},
            ),
            "discharged_capacity": (("condition", "draw"), capacity, {"units": "A h"}),
            "lowest_electrolyte_concentration": (
                ("condition", "draw"),
                reached[0],
                {"units": "mol m-3"},
            ),
            "highest_electrolyte_concentration": (
                ("condition", "draw"),
                reached[1],
                {"units": "mol m-3"},
            ),
            "outcome": (("condition", "draw"), outcome.astype(str)),
        },
        attrs={
            "sign": "discharge positive",
            "model": model,
            "cut_off_voltage": float(simulation.parameter_values["Lower voltage cut-off [V]"]),
            "outcome": _summary(outcome),
            "solver": f"PyBaMM {pybamm.__version__}, IDAKLU, relative tolerance "
            f"{relative_tolerance:g}",
        },
    )


def impedance(
    parameter_values: pybamm.ParameterValues,
    *,
    frequencies: Sequence[float],
    initial_state_of_charge: float | None = None,
    inputs: Mapping[str, float] | None = None,
    mesh_points: Mapping[str, int] | None = None,
) -> xr.Dataset:
    r"""Impedance of a cell at rest, from its DFN with double layers, linearised.

    .. math::
        (i \omega M - J)\,\hat x = \hat b, \qquad Z = -A\,\hat V / \hat I

    with the current positive on discharge and the electrodes' area A (all layers), so that a
    resistance is positive. The double layers charge by PyBaMM's surface form, each with the number
    in its double-layer capacity. It is the DFN and no reduced model: the high-frequency resistance
    of the SPMe, whose electrolyte does not know the electrodes' depth, is twice as large. The 30
    shells of each particle leave at most 0.6 % in Chen2020's spectrum from 1 mHz to 10 kHz.

    Parameters
    ----------
    parameter_values : pybamm.ParameterValues
        A complete set, with double-layer capacities.
    frequencies : sequence of float
        Frequencies (Hz), positive.
    initial_state_of_charge : float, optional
        State of charge (1) between the voltage limits; the set's initial concentrations if not
        given.
    inputs : mapping, optional
        Value of each input parameter (in its own unit).
    mesh_points : mapping, optional
        Number of mesh points (1) in ``x_n``, ``x_s``, ``x_p``, for those that differ from the
        default.

    Returns
    -------
    xarray.Dataset
        Schema `continuum.schema.IMPEDANCE`: ``resistance`` and ``reactance`` (ohm m2; frequency).

    Raises
    ------
    ValueError
        Lists every fault: frequencies that are not positive, a state of charge outside 0 to 1,
        mesh points or inputs that do not exist; or says which parameter the set lacks.

    References
    ----------
    Hallemans et al., J. Electrochem. Soc. 172, 060507 (2025).
    """
    hertz = np.asarray(frequencies, dtype=float)
    faults = _faults_of_cell(parameter_values, initial_state_of_charge, mesh_points)
    if hertz.ndim != 1 or hertz.size == 0 or np.any(~(hertz > 0)) or np.any(np.isinf(hertz)):
        faults.append("frequencies (Hz) must be positive and finite")
    if faults:
        raise ValueError("Impedance: " + "; ".join(faults) + ".")
    values = parameter_values.copy()
    equations = pybamm.lithium_ion.DFN({"surface form": "differential"})
    submeshes = on_ladder(equations)
    try:
        if initial_state_of_charge is not None:
            values.set_initial_state(float(initial_state_of_charge))
        simulation = pybamm.EISSimulation(
            equations,
            parameter_values=values,
            submesh_types={**submeshes, **electrode_submeshes()},
            var_pts={**equations.default_var_pts, **MESH_POINTS, **(mesh_points or {})},
        )
        simulation.build(inputs=dict(inputs or {}))
    except KeyError as error:
        raise ValueError(_lacking(error, "DFN with double layers")) from error
    known = {symbol.name for symbol in simulation.built_model.input_parameters}
    _refuse_wrong_inputs([inputs or {}], known, "DFN")
    found = np.asarray(simulation.solve(hertz, inputs=dict(inputs or {})).impedance)
    area = (
        values.evaluate(values["Electrode height [m]"])
        * values.evaluate(values["Electrode width [m]"])
        * values.evaluate(values["Number of electrodes connected in parallel to make a cell"])
    )
    return xr.Dataset(
        {
            "resistance": ("frequency", found.real * area, {"units": "ohm m2"}),
            "reactance": ("frequency", found.imag * area, {"units": "ohm m2"}),
        },
        coords={"frequency": ("frequency", hertz, {"units": "Hz"})},
        attrs={
            "reference": "terminals of the cell, times the area of its electrodes",
            "sign": "discharge positive",
            "outcome": "linearised about rest",
            "model": "DFN with double layers",
            "area": float(area),
            "solver": f"PyBaMM {pybamm.__version__}",
        },
    )


def _faults_of_cell(
    parameter_values: pybamm.ParameterValues,
    initial_state_of_charge: float | None,
    mesh_points: Mapping[str, int] | None,
) -> list[str]:
    faults = []
    if not isinstance(parameter_values, pybamm.ParameterValues):
        faults.append(
            f"parameter_values is {parameter_values!r:.80}, expected a set such as "
            'pybamm.ParameterValues("Chen2020")'
        )
    if initial_state_of_charge is not None and not 0 <= initial_state_of_charge <= 1:
        faults.append(f"initial_state_of_charge is {initial_state_of_charge}, expected 0 to 1")
    unknown = sorted(set(mesh_points or {}) - set(MESH_POINTS))
    if unknown:
        faults.append(f"mesh_points has {unknown}, expected names from {sorted(MESH_POINTS)}")
    return faults


def _lacking(error: KeyError, model: str) -> str:
    lacking = str(error.args[0]).split(" not found")[0]
    return (
        f"The {model} of a lithium-ion cell cannot be built: {lacking} is not in these "
        "parameter values. Use the set of a full cell with one material in each electrode."
    )


def _simulation(
    values: pybamm.ParameterValues,
    model: str,
    mesh_points: Mapping[str, int],
    relative_tolerance: float,
) -> pybamm.Simulation:
    if model == "ModalSPMe":
        equations = ModalSPMe()
        submeshes, points = equations.default_submesh_types, {}
    else:
        equations = getattr(pybamm.lithium_ion, model)()
        submeshes, points = {**on_ladder(equations), **electrode_submeshes()}, MESH_POINTS
    salt = equations.variables["Electrolyte concentration [mol.m-3]"]
    equations.variables[LOWEST], equations.variables[HIGHEST] = pybamm.min(salt), pybamm.max(salt)
    simulation = pybamm.Simulation(
        equations,
        parameter_values=values,
        solver=pybamm.IDAKLUSolver(
            rtol=relative_tolerance,
            atol=ABSOLUTE * relative_tolerance,
            output_variables=["Voltage [V]", LOWEST, HIGHEST],
            options={"silence_sundials_errors": True},
        ),
        submesh_types=submeshes,
        var_pts={**equations.default_var_pts, **points, **mesh_points},
    )
    simulation.build()
    return simulation


def _refuse_wrong_inputs(
    inputs: Sequence[Mapping[str, float]], known: set[str], model: str
) -> None:
    """PyBaMM passes over inputs that it does not read, so a misspelt one would do nothing."""
    given = {name for draw in inputs for name in draw}
    faults = []
    for name in sorted(given - known):
        near = get_close_matches(name, sorted(known - given), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        faults.append(f"the {model} does not read the input {name!r}{hint}")
    for name in sorted(known):
        lacking = [draw for draw, values in enumerate(inputs) if name not in values]
        if lacking:
            faults.append(f"the input {name!r} is missing from {len(lacking)} of {len(inputs)}")
    for draw, values in enumerate(inputs):
        wrong = [name for name, value in values.items() if not np.isfinite(value)]
        if wrong:
            faults.append(f"draw {draw} has values that are not finite: {', '.join(wrong)}")
    if faults:
        raise ValueError("Inputs of the cell: " + "; ".join(faults) + ".")


def _solve(
    simulation: pybamm.Simulation,
    current: float,
    inputs: Mapping[str, float],
    grid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, tuple[float, float], str]:
    """Times (s), voltages (V), lowest and highest salt concentration (mol m-3), and a sentence.

    The arrays are empty if the discharge failed.
    """
    nothing = np.empty(0), np.empty(0), (np.nan, np.nan)
    try:
        with warnings.catch_warnings():
            # said in the sentence of the outcome instead
            warnings.filterwarnings("ignore", ".*extrapolation occurred", pybamm.SolverWarning)
            solution = simulation.solve(
                [0, grid[-1]], t_interp=grid, inputs={**inputs, CURRENT: current}
            )
    except pybamm.SolverError as error:
        sentence = str(error).splitlines()[0]
        if "Minimum voltage [V]" in sentence and "initial conditions" in sentence:
            return *nothing, BELOW
        return *nothing, f"was not solved: {sentence}"
    volts = solution["Voltage [V]"].entries
    if not np.all(np.isfinite(volts)):
        return *nothing, "was not solved: the voltage is not finite"
    if solution.termination == "event: Minimum voltage [V]":
        sentence = REACHED
    elif solution.termination == "final time":
        sentence = f"was above the cut-off voltage at {CAPACITY_MARGIN:g} nominal capacities"
    else:
        sentence = f"was stopped by the {solution.termination}"
    if solution.extrap_events:
        sentence += f" after leaving the data of {', '.join(solution.extrap_events)}"
    ends = float(solution[LOWEST].entries.min()), float(solution[HIGHEST].entries.max())
    return solution.t, volts, ends, sentence


def _summary(outcome: np.ndarray) -> str:
    counts = Counter(outcome.ravel())
    parts = [f"{counts.pop(REACHED, 0)} of {outcome.size} discharges {REACHED}"]
    parts += [f"{count} {sentence}" for sentence, count in counts.most_common()]
    return "; ".join(parts) + "."
