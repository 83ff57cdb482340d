r"""What the corrector sees of an SPMe: dimensionless, and split into state and stimulus.

The correction is :math:`\Delta V = \sum_m d_m N_m(s, d)`: a network :math:`N` of all features times
those that vanish at rest. So it is zero at rest whatever the network's weights. The static
features :math:`s` say where the cell stands: mean stoichiometries, the electrolyte relative to the
one of the parameter set, and how the open-circuit potentials run about the particles' surfaces,

.. math::
    \frac{U(x + h) - U(x - h)}{2h}, \qquad U(x + h) - 2 U(x) + U(x - h),

for the particles of one electrode are spread about their mean: what SPMe lacks grows with the
curvature of :math:`U` over that spread. They are not looked for where :math:`U` is not known. The
active ones :math:`d` say how far it is from rest: the C-rate, surface less mean stoichiometry, salt
concentrations less their value at rest and their logarithms, and memories of the C-rate,

.. math:: \dot z_k = (C - z_k) / \tau_k

at quarters and multiples of the electrolyte's own diffusion time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from couplers.residual.parameters import Cell

FINEST = 0.004  # in stoichiometry, of the finest difference of a potential
STEPS = (0.015, 0.04, 0.1)  # in stoichiometry, of the spread of particles that is looked at
END = 0.005  # stoichiometries are kept this far from 0 and 1 in these differences
LEAST_SALT = 0.02  # relative to rest, where logarithms are cut off
SLOPE_SCALE, CURVATURE_SCALE = 0.2, 0.01  # V, where an inverse sinh turns
MEMORIES = (0.05, 0.2, 0.8, 3.2, 12.8, 51.2, 204.8)  # in diffusion times of the electrolyte
JUMP, FEW, SELDOM, ROUNDING = 0.02, 3, 20, 1e-6  # 1/s, 1, 1/h, 1: see `kind`
KINDS = ("changing", "steady")
SAME = 1e-5  # of the features of an electrolyte, to be the set's own
SIDES = ("negative", "positive")
SHAPES = (
    "slope",
    "curvature",
    *(f"{what}_{k}" for k in range(len(STEPS)) for what in ("slope", "curvature")),
)
STATIC = (
    "negative_mean",
    "positive_mean",
    *(f"{side}_{shape}" for side in SIDES for shape in SHAPES),
    "log_diffusivity",
    "log_conductivity",
    "transference_number_shift",
    "log_thermodynamic_factor",
)
ACTIVE = (
    "c_rate",
    "negative_gradient",
    "positive_gradient",
    "negative_salt",
    "positive_salt",
    "left_salt",
    "right_salt",
    "log_negative_salt",
    "log_positive_salt",
    "log_left_salt",
    "log_right_salt",
    *(f"memory_{k}" for k in range(len(MEMORIES))),
)
STATES = (
    "negative_mean",
    "positive_mean",
    "negative_surface",
    "positive_surface",
    *(f"{side}_{shape}" for side in SIDES for shape in SHAPES),
    "negative_salt",
    "positive_salt",
    "left_salt",
    "right_salt",
)
SCALES = {
    "log_diffusivity": "diffusivity_scale",
    "log_conductivity": "conductivity_scale",
    "log_thermodynamic_factor": "thermodynamic_factor_scale",
}


def shapes(
    potential: Callable[[Any], Any], stoichiometry: Any, *, kept: Callable[[Any], Any]
) -> dict[str, Any]:
    """How an open-circuit potential runs about a stoichiometry, the names of `SHAPES` (V).

    Parameters
    ----------
    potential : callable
        Open-circuit potential (V) of a stoichiometry.
    stoichiometry : array
        Stoichiometry (1) at the particle's surface; an array, or a PyBaMM symbol.
    kept : callable
        Keeps a stoichiometry where the potential is known, and `END` away from 0 and 1.
    """
    x = stoichiometry
    middle = potential(kept(x))
    found = {}
    for name, h in (("", FINEST), *((f"_{k}", h) for k, h in enumerate(STEPS))):
        ahead, behind = potential(kept(x + h)), potential(kept(x - h))
        found[f"slope{name}"] = (ahead - behind) / (2 * h)
        found[f"curvature{name}"] = ahead + behind - 2 * middle
    return found


def memory_times(cell: Cell) -> np.ndarray:
    r"""Time constants (s) of the memories of a cell's current.

    Multiples of the salt's diffusion time :math:`(\sum_k L_k \tau_k)^2 / (\pi^2 D)` through
    layers of thickness :math:`L` and tortuosity :math:`\tau = \epsilon^{1 - b}`, at rest.
    """
    from couplers.residual.parameters import CONCENTRATIONS

    diffusivity = np.interp(cell.concentration, CONCENTRATIONS, cell.diffusivity)
    layers = (
        (cell.negative.thickness, cell.negative.porosity, cell.negative.electrolyte_transport),
        (cell.separator_thickness, cell.separator_porosity, cell.separator_transport),
        (cell.positive.thickness, cell.positive.porosity, cell.positive.electrolyte_transport),
    )
    path = sum(thickness * np.sqrt(pores / through) for thickness, pores, through in layers)
    return np.array(MEMORIES) * path**2 / (np.pi**2 * diffusivity)


def remember(c_rate: np.ndarray, time: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Memories of a C-rate, exact where it is linear between the points of time.

    Parameters
    ----------
    c_rate : numpy.ndarray
        C-rate (1) with the dims (..., time).
    time : numpy.ndarray
        Points of time (s); the memories are empty at the first.
    times : numpy.ndarray
        Time constants (s).

    Returns
    -------
    numpy.ndarray
        The memories (1) with the dims (memory, ..., time).
    """
    kept = np.zeros((len(times), *c_rate.shape))
    z = np.zeros((len(times), *c_rate.shape[:-1]))
    shape = (-1, *([1] * (c_rate.ndim - 1)))
    for k in range(1, len(time)):
        ratio = (time[k] - time[k - 1]) / times
        decay = np.exp(-ratio)
        mean = np.where(ratio > 0, -np.expm1(-ratio) / np.where(ratio > 0, ratio, 1), 1.0)
        z = (
            decay.reshape(shape) * z
            + (mean - decay).reshape(shape) * c_rate[..., k - 1]
            + (1 - mean).reshape(shape) * c_rate[..., k]
        )
        kept[..., k] = z
    return kept


def kind(c_rate: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Which of `KINDS` a current is: one that changes all the time, or that seldom jumps.

    Parameters
    ----------
    c_rate : numpy.ndarray
        C-rate (1) with the dims (..., time).
    time : numpy.ndarray
        Points of time (s), rising.

    Returns
    -------
    numpy.ndarray
        Of int, with the other dims: a place in `KINDS`. Seldom is at most `FEW` jumps and
        `SELDOM` more an hour, as in tests at constant current.
    """
    jumps = np.abs(np.diff(c_rate)) > np.maximum(JUMP * np.diff(time), ROUNDING)
    seldom = jumps.sum(axis=-1) <= FEW + SELDOM * (time[-1] - time[0]) / 3600
    return seldom.astype(int)


def as_published(static: np.ndarray) -> np.ndarray:
    """Whether the electrolyte is the set's own, by the static features (1), their dim the last."""
    apart = [STATIC.index(name) for name in (*SCALES, "transference_number_shift")]
    return (np.abs(static[..., apart]) < SAME).all(axis=-1)


def assemble(
    states: Mapping[str, Any],
    c_rate: Any,
    memories: Any,
    electrolyte: Mapping[str, Any],
    *,
    log: Any = None,
    arcsinh: Any = np.arcsinh,
) -> tuple[list[Any], list[Any]]:
    """Form the static and the active features from the states of an SPMe.

    Parameters
    ----------
    states : mapping
        The names of `STATES`: stoichiometries (1), `shapes` (V), concentrations relative to rest
        (1).
        Arrays, or PyBaMM symbols with `log` and `arcsinh` to match.
    c_rate : array
        C-rate (1), discharge positive.
    memories : sequence of array
        `remember` of it, in the order of `MEMORIES`.
    electrolyte : mapping
        The electrolyte relative to the set's own (1), names as in `couplers.residual.layers`.
    log, arcsinh : callable
        The functions for that kind of array; the logarithm must not fall below that of
        `LEAST_SALT`.

    Returns
    -------
    static, active : list
        In the order of `STATIC` and `ACTIVE`.
    """
    log = _log if log is None else log
    found: dict[str, Any] = {
        "negative_mean": states["negative_mean"],
        "positive_mean": states["positive_mean"],
        "transference_number_shift": electrolyte["transference_number_shift"],
        "c_rate": c_rate,
        "negative_gradient": states["negative_surface"] - states["negative_mean"],
        "positive_gradient": states["positive_surface"] - states["positive_mean"],
    }
    for side in SIDES:
        for shape in SHAPES:
            turn = SLOPE_SCALE if shape.startswith("slope") else CURVATURE_SCALE
            found[f"{side}_{shape}"] = arcsinh(states[f"{side}_{shape}"] / turn)
    for name, scale in SCALES.items():
        found[name] = log(electrolyte[scale])
    for name in ("negative_salt", "positive_salt", "left_salt", "right_salt"):
        found[name] = states[name] - 1
        found[f"log_{name}"] = log(states[name])
    for k in range(len(MEMORIES)):
        found[f"memory_{k}"] = memories[k]
    return [found[name] for name in STATIC], [found[name] for name in ACTIVE]


def _log(x: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(x, LEAST_SALT))
