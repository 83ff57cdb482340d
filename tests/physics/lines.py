"""Ions on a line by the method of lines: another discretisation, another integrator, only scipy.

Concentrations are the unknowns (not electrochemical potentials), fluxes are those of Scharfetter
and Gummel between vertices (not finite elements), time is left to `scipy.integrate.solve_ivp`
(not our stepper). All is in SI units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.constants import physical_constants
from scipy.integrate import BDF, solve_ivp
from scipy.linalg import solve_banded

from continuum.inputs import Electrolyte, Solution, Wall

FARADAY = physical_constants["Faraday constant"][0]


def vertices(count: int, length: float, finest: float) -> np.ndarray:
    """Vertices (m) that a smooth map draws towards both ends, where they lie about `finest` (m)."""
    s = np.linspace(-1, 1, count)
    sharp = 1.0
    for _ in range(60):  # by fixed point: the slope of the map at its ends
        slope = finest * (count - 1) / length
        sharp = np.arccosh(np.sqrt(max(sharp / (np.tanh(sharp) * slope), 1.0 + 1e-9)))
    return length * 0.5 * (1 + np.tanh(sharp * s) / np.tanh(sharp))


def _bernoulli(u: np.ndarray) -> np.ndarray:
    small = np.abs(u) < 1e-4
    safe = np.where(small, 1.0, u)
    return np.where(small, 1 - u / 2 + u * u / 12, safe / np.expm1(safe))


def nernst_planck(
    solution: Solution,
    walls: Sequence[Wall],
    x: np.ndarray,
    times: Sequence[float],
    *,
    initial: Sequence[Callable[[np.ndarray], np.ndarray]] | None = None,
) -> dict[str, np.ndarray]:
    """Blocking walls behind Stern layers, their potentials set at time 0: charge and profiles.

    Returns ``charge`` (C m-2; time, wall), ``potential`` (V; time, x) and ``concentration``
    (mol m-3; time, species, x).
    """
    h = np.diff(x)
    volume = np.concatenate([[h[0] / 2], (h[:-1] + h[1:]) / 2, [h[-1] / 2]])
    z = np.array([ion.charge_number for ion in solution.species], dtype=float)
    D = np.array([ion.diffusivity for ion in solution.species])
    bulk = np.array([ion.concentration for ion in solution.species])
    stern = np.array([wall.stern_capacitance for wall in walls])
    held = np.array([wall.potential for wall in walls])
    link = solution.permittivity / h
    matrix = np.zeros((3, len(x)))
    matrix[0, 1:] = matrix[2, :-1] = -link
    matrix[1, :-1] += link
    matrix[1, 1:] += link
    matrix[1, [0, -1]] += stern

    def field(c: np.ndarray) -> np.ndarray:
        charge = FARADAY * z @ c * volume
        charge[[0, -1]] += stern * held
        return solve_banded((1, 1), matrix, charge)

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        c = y.reshape(len(z), len(x))
        u = np.diff(field(c)) / solution.thermal_voltage * z[:, None]
        flux = D[:, None] / h * (_bernoulli(u) * c[:, :-1] - _bernoulli(-u) * c[:, 1:])
        out = np.zeros_like(c)
        out[:, :-1] -= flux
        out[:, 1:] += flux
        return (out / volume).ravel()

    start = [np.full(len(x), b) for b in bulk] if initial is None else [f(x) for f in initial]
    y = _integrate(slope, np.concatenate(start), times)
    c = y.reshape(len(times), len(z), len(x))
    phi = np.stack([field(each) for each in c])
    return {
        "charge": stern * (held - phi[:, [0, -1]]),
        "potential": phi,
        "concentration": c,
    }


def polarisation(
    electrolyte: Electrolyte, x: np.ndarray, current: float, times: Sequence[float]
) -> dict[str, np.ndarray]:
    """A layer between two cation electrodes under a current density (A m-2), from rest.

    Returns ``concentration`` (mol m-3; time, x) and ``drop`` (V; time), of a reference electrode
    of the cation's metal.
    """
    h, T = np.diff(x), electrolyte.temperature
    volume = np.concatenate([[h[0] / 2], (h[:-1] + h[1:]) / 2, [h[-1] / 2]])
    volt = 8.31446261815324 * T / FARADAY

    def slope(_: float, c: np.ndarray) -> np.ndarray:
        between = (c[:-1] + c[1:]) / 2
        flux = -electrolyte.diffusivity(between, T) * np.diff(c) / h
        flux += electrolyte.transference_number(between, T) * current / FARADAY
        through = np.concatenate([[current / FARADAY], flux, [current / FARADAY]])
        return -np.diff(through) / volume

    rest = np.full(len(x), electrolyte.concentration)
    c = _integrate(slope, rest, times)
    between = (c[:, :-1] + c[:, 1:]) / 2
    anion = 1 - electrolyte.transference_number(between, T)
    pull = 2 * volt * anion * electrolyte.thermodynamic_factor(between, T)
    drop = current * h / electrolyte.conductivity(between, T) - pull * np.diff(np.log(c))
    return {"concentration": c, "drop": drop.sum(axis=1)}


class _Bdf(BDF):
    """Scipy's BDF leaves its higher differences unset: what lies there may warn when subtracted."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.D[2:] = 0.0


def _integrate(slope: Callable[..., Any], start: np.ndarray, times: Sequence[float]) -> np.ndarray:
    solved = solve_ivp(
        slope,
        [0.0, times[-1]],
        start,
        method=_Bdf,
        t_eval=times,
        rtol=1e-8,
        atol=1e-9 * float(np.abs(start).max()),
        first_step=1e-9 * times[-1],
    )
    assert solved.success, solved.message
    return solved.y.T
