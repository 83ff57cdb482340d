"""Second-order implicit time steps of a length that the error asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from continuum.outcome import Outcome

logger = logging.getLogger(__name__)

GROWTH = 2.0  # BDF2 stays stable up to 1 + sqrt(2)
SHORTEST = 1e-14


class System(Protocol):
    """What the stepper asks of a problem; dispatched by `march` alone."""

    def advance(self, weights: tuple[float, float, float], ahead: float) -> Outcome:
        """Solve for the new state with the weights of d/dt, starting `ahead` of the last."""

    def accept(self) -> None:
        """Make the new state the last one."""

    def reject(self) -> None:
        """Forget the new state."""

    def state(self) -> np.ndarray:
        """Values (any, kind by point) that the error is measured on."""

    def largest(self, ratio: np.ndarray) -> float:
        """Largest value over all processes."""


@dataclass(frozen=True)
class Marched:
    """How a march went: its outcome, and how many steps were taken and repeated (1)."""

    outcome: Outcome
    steps: int
    repeated: int


def march(
    system: System,
    times: Sequence[float],
    *,
    first: float,
    tolerance: float,
    order: int,
    record: Callable[[float], None],
    limit: int = 20000,
) -> Marched:
    r"""Carry a system from time 0 through `times`, landing on each.

    Variable-step BDF2 differentiates the quadratic through the last three states,

    .. math::
        \dot c_{n+1} = \frac{1}{h}\left[\frac{1 + 2r}{1 + r} c_{n+1} - (1 + r) c_n
        + \frac{r^2}{1 + r} c_{n-1}\right], \quad r = h / h'

    whose local error :math:`\frac{h^2 (h + h')^2}{2h + h'}\,[c]_{n+1 \ldots n-2}` is read from
    the third divided difference. The weights sum to zero: what each state conserves, the next
    conserves. The first steps are short backward Euler and BDF2 steps without a history to judge
    them by.

    Parameters
    ----------
    system : System
        What is carried.
    times : sequence of float
        Times (1), increasing.
    first : float
        First step (1).
    tolerance : float
        Local error (1) allowed in a step, relative to ``|state| + 1``.
    order : int
        2, or 1 for backward Euler, which never raises a convex energy.
    record : callable
        Called with each of `times` when the system has reached it.
    limit : int
        Most steps (1).
    """
    now, step, taken, repeated, iterations = 0.0, first, 0, 0, 0
    # the state before a sudden start says nothing about where it is going: not among these
    past: list[tuple[float, np.ndarray]] = []
    last = 0.0
    for target in times:
        while now < target:
            if taken + repeated >= limit:
                sentence = f"{limit} time steps reached only {now:.3g} of {times[-1]:.3g}"
                return Marched(Outcome(False, sentence, iterations), taken, repeated)
            left = target - now
            # two equal steps rather than a sliver before the target
            h = left if step >= 0.999 * left else min(step, 0.5 * left)
            if order == 1 or last == 0.0:
                weights = (1 / h, -1 / h, 0.0)
            else:
                r = h / last
                weights = ((1 + 2 * r) / (1 + r) / h, -(1 + r) / h, r * r / (1 + r) / h)
            ahead = h / last if len(past) > 1 else 0.0
            outcome = system.advance(weights, ahead)
            iterations += outcome.iterations
            if not outcome.converged:
                system.reject()
                repeated += 1
                step = h / 4
                if step < SHORTEST * max(target, first):
                    sentence = f"stopped at {now:.3g} of {times[-1]:.3g}: {outcome.sentence}"
                    return Marched(Outcome(False, sentence, iterations), taken, repeated)
                continue
            new = system.state()
            error = _error(past, now + h, new, order, tolerance, system)
            if error > 1.0:
                system.reject()
                repeated += 1
                step = h * max(0.2, 0.9 * error ** (-1 / (order + 1)))
                continue
            system.accept()
            taken += 1
            now = target if h == left else now + h
            past, last = [*past[-2:], (now, new)], h
            step = h * min(GROWTH, 0.9 * max(error, 1e-9) ** (-1 / (order + 1)))
        record(target)
    sentence = f"reached the end in {taken} steps, {repeated} repeated"
    logger.debug(sentence)
    return Marched(Outcome(True, sentence, iterations), taken, repeated)


def _error(
    past: list[tuple[float, np.ndarray]],
    time: float,
    new: np.ndarray,
    order: int,
    tolerance: float,
    system: System,
) -> float:
    """Local error over what is allowed; small where there is no history to tell it from."""
    depth = order + 1
    if len(past) < depth:
        return 0.1
    nodes = [time, *(t for t, _ in past[-1 : -depth - 1 : -1])]
    column = [new, *(c for _, c in past[-1 : -depth - 1 : -1])]
    for level in range(1, depth + 1):
        column = [
            (column[k] - column[k + 1]) / (nodes[k] - nodes[k + level])
            for k in range(len(column) - 1)
        ]
    h = nodes[0] - nodes[1]
    if order == 1:
        factor = h * h
    else:
        before = nodes[1] - nodes[2]
        factor = h * h * (h + before) ** 2 / (2 * h + before)
    return system.largest(np.abs(factor * column[0]) / (tolerance * (1.0 + np.abs(new))))
