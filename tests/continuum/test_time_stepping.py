"""Steps of a length that the error asks for: their order, and what they conserve."""

from __future__ import annotations

import numpy as np
import pytest

from continuum.outcome import Outcome
from continuum.time_stepping import march

RATES = np.array([[-1.0, 0.5], [1.0, -0.5]])  # an exchange: the columns sum to zero


class Exchange:
    """Two amounts that exchange by first-order rates, with the exact answer known."""

    def __init__(self) -> None:
        self.now, self.before = np.array([1.0, 0.0]), np.zeros(2)
        self.new = self.now

    def advance(self, weights, ahead):
        new, now, before = weights
        rest = now * self.now + before * self.before
        self.new = np.linalg.solve(new * np.eye(2) - RATES, -rest)
        return Outcome(True, "", 1)

    def accept(self):
        self.before, self.now = self.now, self.new

    def reject(self):
        self.new = self.now

    def state(self):
        return self.new

    def largest(self, ratio):
        return float(ratio.max())


def exact(time):
    fraction = (1 + 2 * np.exp(-1.5 * time)) / 3
    return np.array([fraction, 1 - fraction])


@pytest.mark.parametrize(
    ("order", "tolerances"), [(1, [1e-5, 1e-6, 1e-7]), (2, [1e-6, 1e-7, 1e-8, 1e-9])]
)
def test_the_error_falls_with_the_order_of_the_steps(order, tolerances):
    errors, steps = [], []
    for tolerance in tolerances:
        system = Exchange()
        marched = march(
            system, [2.0], first=1e-5, tolerance=tolerance, order=order, record=lambda time: None
        )
        errors.append(np.abs(system.now - exact(2.0)).max())
        steps.append(marched.steps)
        assert system.now.sum() == pytest.approx(1.0, abs=1e-12)
    found = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert found == pytest.approx(order, abs=0.1), (steps, errors)


def test_every_time_is_landed_on():
    reached, system = [], Exchange()

    def record(time):
        reached.append((time, system.now.copy()))

    march(system, [0.1, 0.3, 2.0], first=1e-4, tolerance=1e-7, order=2, record=record)
    assert [time for time, _ in reached] == [0.1, 0.3, 2.0]
    for time, state in reached:
        np.testing.assert_allclose(state, exact(time), atol=3e-5)
