r"""Closed forms of the flat double layer: Gouy-Chapman, Stern, Grahame, Bikerman, Freise.

All of them follow from one first integral. With :math:`u_i = -z_i \psi + (v_i / v_0)\,\delta`,
the potential :math:`\psi = F\phi / RT` against the bulk and :math:`\delta = \ln (w / w^b)` of the
free volume :math:`w = 1 - \sum_i v_i c_i`,

.. math::
    c_i = c_i^b e^{u_i}, \qquad
    w^b (e^\delta - 1) + \sum_i v_i c_i^b (e^{u_i} - 1) = 0, \qquad
    \frac{\sigma^2}{2 \varepsilon R T} = \frac{P}{RT} =
    \sum_i c_i^b\,h(u_i) + \frac{w^b}{v_0} h(\delta), \quad h(u) = e^u - 1 - u

with molar volumes :math:`v_i = N_A a_i^3`; points have :math:`v_i = 0` and :math:`\delta = 0`.
Both sums of P are free of cancellation, so that the charge keeps its digits as :math:`\psi \to 0`.

=====================================  ==================================================
special case                           known as
=====================================  ==================================================
points, z:z                            Gouy-Chapman, Grahame
points, any ions                       Grahame
equal volumes                          Bikerman; Kilic, Bazant, Ajdari for z:z
unequal volumes                        Freise; Kornyshev
any, with ``electrode_potential``      Stern
=====================================  ==================================================

References
----------
Grahame 1947, doi:10.1021/cr60130a002. Kilic, Bazant, Ajdari 2007,
doi:10.1103/PhysRevE.75.021502. Kornyshev 2007, doi:10.1021/jp067857o.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.constants import Avogadro

from continuum.inputs import FARADAY, Solution


def _excess(u: np.ndarray) -> np.ndarray:
    """h(u) = exp(u) - 1 - u to full relative precision."""
    small = np.abs(u) < 0.1
    v = np.where(small, u, 0.0)
    series = v**2 / 2 * (1 + v / 3 * (1 + v / 4 * (1 + v / 5 * (1 + v / 6 * (1 + v / 7)))))
    return np.where(small, series * 1.0, np.expm1(u) - u)


def sizes(solution: Solution) -> tuple[np.ndarray, float]:
    """Molar volumes (m3 mol-1) of the ions and of the cell that sets the entropy of mixing."""
    volumes = np.array([ion.volume for ion in solution.species])
    if solution.solvent_diameter is not None:
        return volumes, Avogadro * solution.solvent_diameter**3
    return volumes, float(volumes[volumes > 0].min()) if np.any(volumes > 0) else 1.0


def crowding(solution: Solution, psi: np.ndarray) -> np.ndarray:
    r"""Logarithm :math:`\delta` (1) of the free volume over its bulk value.

    Parameters
    ----------
    solution : Solution
        The ions.
    psi : numpy.ndarray
        Potential (1, in units of RT/F) against the bulk.
    """
    volumes, cell = sizes(solution)
    bulk = np.array([ion.concentration for ion in solution.species])
    charge = np.array([ion.charge_number for ion in solution.species])
    psi = np.asarray(psi, dtype=float)
    if not np.any(volumes > 0):
        return np.zeros_like(psi)
    ratio, packing = volumes / cell, volumes * bulk
    free = 1.0 - packing.sum()
    drive = -np.multiply.outer(charge, psi)
    sized = volumes > 0
    shape = (-1,) + (1,) * psi.ndim
    # each term alone cannot exceed the whole space: bounds from above, where Newton on a
    # convex function comes down without overshoot
    bound = (-drive[sized] - np.log(packing[sized]).reshape(shape)) / ratio[sized].reshape(shape)
    delta = np.minimum(bound.min(axis=0), -np.log(free))
    ratio, packing = ratio.reshape(shape), packing.reshape(shape)
    for _ in range(100):
        u = drive + ratio * delta
        value = free * np.expm1(delta) + np.sum(packing * np.expm1(u), axis=0)
        slope = free * np.exp(delta) + np.sum(ratio * packing * np.exp(u), axis=0)
        step = value / slope
        delta = delta - step
        if np.all(np.abs(step) <= 1e-15 * np.maximum(np.abs(delta), 1e-3)):
            break
    return delta


def _local(solution: Solution, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents u_i (1), P/RT (mol m-3) and charge density over F (mol m-3)."""
    volumes, cell = sizes(solution)
    shape = (-1,) + (1,) * np.ndim(psi)
    bulk = np.array([ion.concentration for ion in solution.species]).reshape(shape)
    charge = np.array([ion.charge_number for ion in solution.species]).reshape(shape)
    delta = crowding(solution, psi)
    u = -charge * psi + (volumes / cell).reshape(shape) * delta
    free = 1.0 - float(np.sum(volumes * bulk.ravel()))
    pressure = np.sum(bulk * _excess(u), axis=0)
    if np.any(volumes > 0):
        pressure = pressure + free / cell * _excess(delta)
    # the bulk is neutral: take it off, or rounding is all that is left at small psi
    return u, pressure, np.sum(charge * bulk * np.expm1(u), axis=0)


def concentrations(solution: Solution, potential: ArrayLike) -> np.ndarray:
    """Concentrations (mol m-3), species first, at a potential (V) against the bulk."""
    psi = np.asarray(potential, dtype=float) / solution.thermal_voltage
    u, _, _ = _local(solution, psi)
    bulk = np.array([ion.concentration for ion in solution.species])
    return bulk.reshape((-1,) + (1,) * psi.ndim) * np.exp(u)


def surface_charge(solution: Solution, potential: ArrayLike) -> np.ndarray:
    """Charge (C m-2) of a flat wall whose solution side stands at a potential (V)."""
    psi = np.asarray(potential, dtype=float) / solution.thermal_voltage
    _, pressure, _ = _local(solution, psi)
    energy = 2 * solution.permittivity * solution.thermal_voltage * FARADAY * pressure
    return np.sign(psi) * np.sqrt(energy)


def capacitance(solution: Solution, potential: ArrayLike) -> np.ndarray:
    r"""Differential capacitance (F m-2) of the diffuse layer at a potential (V).

    .. math:: C = \frac{d\sigma}{d\phi} = -\frac{\varepsilon \rho}{\sigma}

    and the Debye value :math:`\varepsilon / \lambda_D` at zero.
    """
    psi = np.asarray(potential, dtype=float) / solution.thermal_voltage
    # nearer to zero rounding of 0/0 would win; the error of standing still is 1e-8 relative
    psi = np.where(np.abs(psi) < 1e-8, 1e-8, psi)
    _, _, charge = _local(solution, psi)
    return (
        -solution.permittivity
        * FARADAY
        * charge
        / surface_charge(solution, psi * solution.thermal_voltage)
    )


def layer_thickness(solution: Solution, potential: float) -> float:
    r"""Gouy-Chapman length (m), 2 eps RT / (F sigma), or the Debye length if that is shorter.

    The distance over which the potential (V) of the solution side of a wall falls by about RT/F.
    """
    charge = abs(float(surface_charge(solution, potential)))
    gouy = 2 * solution.permittivity * solution.thermal_voltage / max(charge, 1e-300)
    return min(gouy, solution.debye_length)


def surface_potential(solution: Solution, charge: ArrayLike) -> np.ndarray:
    """Potential (V) of the solution side of a flat wall with a given charge (C m-2).

    Raises
    ------
    ValueError
        If no potential below 600 RT/F carries the charge, as where no ion of that sign exists.
    """
    target = np.asarray(charge, dtype=float)
    return _invert(solution, target, np.inf)


def electrode_potential(
    solution: Solution, potential: ArrayLike, *, stern_capacitance: float
) -> np.ndarray:
    """Potential (V) of the electrode behind a Stern layer (F m-2) of given solution side (V)."""
    zeta = np.asarray(potential, dtype=float)
    return zeta + surface_charge(solution, zeta) / stern_capacitance


def diffuse_potential(
    solution: Solution, electrode: ArrayLike, *, stern_capacitance: float
) -> np.ndarray:
    """Potential (V) of the solution side of a Stern layer (F m-2) below an electrode (V)."""
    return _invert(solution, np.asarray(electrode, dtype=float), stern_capacitance)


def _invert(solution: Solution, target: np.ndarray, stern: float) -> np.ndarray:
    """Bisection, then Newton, on sigma(zeta) or on zeta + sigma(zeta) / C."""
    volt = solution.thermal_voltage

    def value(zeta: np.ndarray) -> np.ndarray:
        charge = surface_charge(solution, zeta)
        return charge if np.isinf(stern) else zeta + charge / stern

    high = np.full_like(target, 600 * volt / max(abs(i.charge_number) for i in solution.species))
    sign = np.where(target < 0, -1.0, 1.0)
    if np.any(sign * value(sign * high) < np.abs(target)):
        raise ValueError(
            "No potential of the wall carries the given charge: the solution holds too few ions "
            "of the opposite sign."
        )
    low = np.zeros_like(target)
    for _ in range(30):
        middle = 0.5 * (low + high)
        above = sign * value(sign * middle) > np.abs(target)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    zeta = sign * 0.5 * (low + high)
    for _ in range(4):
        slope = capacitance(solution, zeta)
        slope = slope if np.isinf(stern) else 1 + slope / stern
        zeta = zeta - (value(zeta) - target) / slope
    return zeta


def profile(solution: Solution, x: ArrayLike, *, potential: float) -> np.ndarray:
    r"""Potential (V) at distances x (m) from a flat wall whose solution side has `potential` (V).

    The first integral gives :math:`d\psi/dx = -E(\psi)`; its quadrature
    :math:`x = \int d\psi / E` is inverted by Newton's method, panel by panel. Exact for any ions.
    """
    zeta = potential / solution.thermal_voltage
    x = np.asarray(x, dtype=float) / solution.debye_length
    if zeta == 0:
        return np.zeros_like(x)
    sign = np.sign(zeta)
    point, weight = np.polynomial.legendre.leggauss(16)
    edge, reach = _reach(solution, zeta)
    half = 0.5 * (edge[:-1] - edge[1:])
    tail = x >= reach[-1]
    inside = np.where(tail, 0.0, x)
    panel = np.clip(np.searchsorted(reach, inside, side="right") - 1, 0, len(half) - 1)
    share = (inside - reach[panel]) / (reach[panel + 1] - reach[panel])
    y = edge[panel] - share * 2 * half[panel]
    for _ in range(6):
        span = 0.5 * (edge[panel] - y)
        nodes = 0.5 * (edge[panel] + y)[..., None] + span[..., None] * point
        inner = _pace(solution, sign, nodes) @ weight
        y = y + (reach[panel] + span * inner - inside) / _pace(solution, sign, y)
    y = np.where(tail, edge[-1] - (x - reach[-1]), y)
    return solution.thermal_voltage * sign * np.exp(y)


def _pace(solution: Solution, sign: float, y: np.ndarray) -> np.ndarray:
    """-dx/dy (1, in Debye lengths) with y = ln |psi|, smooth down to zero potential."""
    psi = np.exp(y)
    _, pressure, _ = _local(solution, sign * psi)
    return psi / np.sqrt(2 * pressure / solution.ionic_sum)


def _reach(solution: Solution, zeta: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of ln |psi| falling from the wall, and how far from it (Debye lengths) they lie."""
    top = abs(zeta)
    first = np.log(np.arange(top, 0.75, -0.25)) if top > 1 else np.array([np.log(top)])
    edge = np.concatenate([first, np.arange(first[-1], np.log(1e-14), -0.25)[1:]])
    half = 0.5 * (edge[:-1] - edge[1:])
    point, weight = np.polynomial.legendre.leggauss(16)
    nodes = 0.5 * (edge[:-1] + edge[1:])[:, None] + half[:, None] * point
    pace = _pace(solution, float(np.sign(zeta)), nodes)
    return edge, np.concatenate([[0.0], np.cumsum(half * (pace @ weight))])


def sketch(solution: Solution, distance: np.ndarray, *, potential: float) -> np.ndarray:
    """As `profile`, by linear interpolation: good to some percent, for an initial guess."""
    if potential == 0:
        return np.zeros_like(distance)
    edge, reach = _reach(solution, potential / solution.thermal_voltage)
    x = distance / solution.debye_length
    y = np.where(x < reach[-1], np.interp(x, reach, edge), edge[-1] - (x - reach[-1]))
    return np.copysign(solution.thermal_voltage * np.exp(y), potential)
