"""Two scales that feed each other: the state at which they agree, or why none was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from continuum.outcome import Outcome

PATIENCE = 10  # iterations without progress before a loop is called stalled
RUNAWAY = 1e10  # growth of the residual that is called divergence


@dataclass(frozen=True)
class FixedPoint:
    """What a coupled loop ended with.

    Parameters
    ----------
    x : numpy.ndarray
        The state with the smallest residual (its own units; component).
    x_std : numpy.ndarray
        Its standard deviation from the noise of the function; nan where it is not known.
    residual : numpy.ndarray
        g(x) - x there.
    outcome : Outcome
        Whether x may be used, a sentence, and how often the function was evaluated.
    norms : tuple of float
        Weighted norm (1) of the residual at each evaluation; 1 is the tolerance.
    """

    x: np.ndarray
    x_std: np.ndarray
    residual: np.ndarray
    outcome: Outcome
    norms: tuple[float, ...]


def solve(
    function: Callable[[np.ndarray], ArrayLike],
    start: ArrayLike,
    *,
    damping: float = 1.0,
    memory: int = 5,
    tolerance: float = 1e-8,
    scale: ArrayLike = 0.0,
    noise: ArrayLike | None = None,
    max_iterations: int = 100,
) -> FixedPoint:
    r"""Find x = g(x) by damped iteration, accelerated after Anderson.

    .. math::
        x_{k+1} = x_k + \beta r_k - (\Delta X + \beta \Delta R)\,\gamma, \qquad
        \gamma = \arg\min \| w (r_k - \Delta R\,\gamma) \|_2, \qquad r = g(x) - x

    with the last differences :math:`\Delta X, \Delta R` of states and residuals as columns, no more
    than there are unknowns: one unknown makes it the secant method. It needs no derivative and is
    not bound to contractions. The weights are those of the norm that ends the loop,

    .. math::
        \| r \| = \sqrt{\frac1n \sum_i \left(\frac{r_i}{\tau (s_i + m_i)}\right)^2} \le 1,
        \qquad m_i = \max(|x_i|, |g_i|),

    in which unknowns of different units count alike. If g comes from a simulation, its `noise`
    :math:`\nu` is the floor: the loop ends once r is within it, and differences that do not stand
    out of it are not used. What is left in x is then :math:`J^{-1} \nu` with the slope J of r that
    the differences show.

    ==================== =====================
    symbol               parameter
    ==================== =====================
    :math:`g`            `function`
    :math:`\beta`        `damping`
    :math:`\tau`         `tolerance`
    :math:`s`            `scale`
    :math:`\nu`          `noise`
    ==================== =====================

    Parameters
    ----------
    function : callable
        g; takes and returns as many numbers as `start` has.
    start : array_like
        First state (its own units; component).
    damping : float
        Share (1) of the residual that is taken, above 0 and at most 1.
    memory : int
        How many differences are used (1); 0 is the damped iteration alone.
    tolerance : float
        Relative tolerance (1).
    scale : array_like
        Size (units of x) below which a component counts as zero.
    noise : array_like, optional
        Standard deviation (units of x) of one evaluation of g.
    max_iterations : int
        Most evaluations of g (1).

    Returns
    -------
    FixedPoint
        Not converging is an outcome with its reason, not an exception.

    Raises
    ------
    ValueError
        Lists every fault of the arguments, or says that g changed the number of unknowns.

    References
    ----------
    Walker, Ni 2011, https://doi.org/10.1137/10078356X.

    Examples
    --------
    >>> found = solve(np.cos, 1.0)
    >>> found.x.round(6), found.outcome.converged
    (array([0.739085]), True)
    """
    x = np.atleast_1d(np.array(start, dtype=float))
    floor = np.zeros_like(x) if noise is None else np.broadcast_to(noise, x.shape).astype(float)
    size = np.broadcast_to(np.asarray(scale, dtype=float), x.shape)
    faults = []
    for label, number, good, wanted in (
        ("damping", damping, 0 < damping <= 1, "above 0 and at most 1"),
        ("memory", memory, memory >= 0, "0 or more"),
        ("tolerance", tolerance, 0 < tolerance < np.inf, "positive"),
        ("max_iterations", max_iterations, max_iterations >= 1, "1 or more"),
    ):
        if not good:
            faults.append(f"{label} is {number}, expected {wanted}")
    for label, numbers in (("noise", floor), ("scale", size)):
        if not np.all(np.isfinite(numbers) & (numbers >= 0)):
            faults.append(f"{label} has values that are negative or not finite")
    if x.ndim != 1 or not np.all(np.isfinite(x)):
        faults.append("start must be finite, one number for each unknown")
    if faults:
        raise ValueError("Fixed point: " + "; ".join(faults) + ".")

    first = np.ones_like(x)
    states: list[np.ndarray] = []
    residuals: list[np.ndarray] = []
    norms: list[float] = []
    growth: list[float] = []  # the residual in the first evaluation's weights
    best, outcome = 0, None
    for count in range(1, max_iterations + 1):
        answer = np.atleast_1d(np.asarray(function(x.copy()), dtype=float))
        if answer.shape != x.shape:
            raise ValueError(
                f"Fixed point: the function returned {answer.size} numbers for {x.size} unknowns."
            )
        residual = answer - x
        if not np.all(np.isfinite(residual)):
            outcome = Outcome(False, f"diverged: evaluation {count} was not finite", count)
            break
        states.append(x)
        residuals.append(residual)
        norms.append(_norm(residual, x, tolerance, size))
        if count == 1:
            first = _magnitude(residual, x, size)
        growth.append(float(np.linalg.norm(residual / first)))
        if growth[-1] <= growth[best]:
            best = count - 1
        allowed = np.maximum(tolerance * _magnitude(residual, x, size), floor)
        outcome = _verdict(norms, growth, best, residual / allowed)
        if outcome is not None:
            break
        x = x + _step(states, residuals, floor, size, damping, memory)
        if not np.all(np.isfinite(x)):
            outcome = Outcome(False, f"diverged: step {count} was not finite", count)
            break
    else:
        outcome = Outcome(
            False,
            f"was not converged after {max_iterations} iterations: the residual is "
            f"{norms[best]:.3g} times the tolerance",
            max_iterations,
        )
    if not states:
        nothing = np.full_like(x, np.nan)
        return FixedPoint(x, nothing, nothing, outcome, ())
    if outcome.converged:
        best = len(states) - 1
    return FixedPoint(
        states[best],
        _spread(states, residuals, floor) if noise is not None else np.full_like(x, np.nan),
        residuals[best],
        outcome,
        tuple(norms),
    )


def _norm(residual: np.ndarray, x: np.ndarray, tolerance: float, size: np.ndarray) -> float:
    allowed = tolerance * _magnitude(residual, x, size)
    return float(np.linalg.norm(residual / allowed) / np.sqrt(len(residual)))


def _magnitude(residual: np.ndarray, x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Size of each unknown, which is 0 only where its residual is: 1 there."""
    whole = size + np.maximum(np.abs(x), np.abs(x + residual))
    return np.where(whole > 0, whole, 1.0)


def _verdict(
    norms: list[float],
    growth: list[float],
    best: int,
    beside_noise: np.ndarray,
) -> Outcome | None:
    """How the loop ends after this evaluation, or None to go on."""
    count = len(norms)
    if norms[-1] <= 1:
        return Outcome(True, f"converged in {count} iterations", count)
    if np.mean(beside_noise**2) <= 1:
        sentence = f"converged in {count} iterations to the noise of one evaluation"
        return Outcome(True, sentence, count)
    if growth[-1] > RUNAWAY * growth[0]:
        sentence = f"diverged: after {count} iterations the residual had grown {RUNAWAY:g} times"
        return Outcome(False, sentence, count)
    if count - 1 - best >= PATIENCE and growth[-1] < 1e3 * growth[best]:
        sentence = (
            f"stalled: {PATIENCE} iterations brought no progress beyond {norms[best]:.3g} times "
            "the tolerance"
        )
        return Outcome(False, sentence, count)
    return None


def _step(
    states: list[np.ndarray],
    residuals: list[np.ndarray],
    floor: np.ndarray,
    size: np.ndarray,
    damping: float,
    memory: int,
) -> np.ndarray:
    x, residual = states[-1], residuals[-1]
    plain = damping * residual
    depth = min(memory, len(x), len(states) - 1)
    if depth == 0:
        return plain
    weight = 1 / _magnitude(residual, x, size)
    moved = np.diff(np.array(states[-depth - 1 :]), axis=0).T
    changed = np.diff(np.array(residuals[-depth - 1 :]), axis=0).T
    if floor.any():
        # a difference of two noisy residuals has sqrt(2) times the noise of one
        clear = np.linalg.norm(weight[:, None] * changed, axis=0) > 3 * np.sqrt(2) * np.linalg.norm(
            weight * floor
        )
        moved, changed = moved[:, clear], changed[:, clear]
        if not clear.any():
            return plain
    matrix = weight[:, None] * changed
    length = np.linalg.norm(matrix, axis=0)
    if not np.all(length > 0):
        return plain
    gamma = np.linalg.lstsq(matrix / length, weight * residual, rcond=1e-12)[0] / length
    return plain - (moved + damping * changed) @ gamma


def _spread(states: list[np.ndarray], residuals: list[np.ndarray], floor: np.ndarray) -> np.ndarray:
    """Standard deviation of x from the noise of g and the slope that the iterations showed."""
    count = len(floor)
    moved = np.diff(np.array(states), axis=0).T
    changed = np.diff(np.array(residuals), axis=0).T
    unit = np.where(floor > 0, floor, 1.0)[:, None]
    clear = np.linalg.norm(changed / unit, axis=0) > 3 * np.sqrt(2 * count)
    moved, changed = moved[:, clear], changed[:, clear]
    if moved.shape[1] < count or np.linalg.matrix_rank(changed / unit) < count:
        return np.full(count, np.nan)
    inverse = moved @ np.linalg.pinv(changed / unit) / unit.T
    return np.sqrt(np.square(inverse * floor).sum(axis=1))
