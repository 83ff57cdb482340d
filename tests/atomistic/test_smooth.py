"""Slopes of smooth curves through points with errors: what is said of them is what they are."""

import numpy as np
import pytest

from atomistic.observables.smooth import allowed


@pytest.mark.parametrize(
    ("x", "scatter", "most"),
    [
        (np.linspace(-12.0, 12.0, 13), 0.2, 1.6),
        # so few and so exact that what the curve does between them is what is not known
        (np.linspace(-12.0, 12.0, 7), 0.02, 2.5),
    ],
)
def test_slopes_are_as_far_off_as_is_said(x, scatter, most):
    """A charge that saturates, at the voltages of a capacitor: in the middle and at the ends."""
    rng = np.random.default_rng(0)
    truth, slope = 100 * np.tanh(x / 9), 100 / 9 / np.cosh(x / 9) ** 2
    noise = np.full(len(x), scatter)
    off, said = [], []
    for _ in range(40):
        y = truth + noise * rng.standard_normal(len(x))
        found = allowed(x, y, noise)
        drawn = [found.draw(y + noise * rng.standard_normal(len(x)), rng) for _ in range(60)]
        off.append(found.slopes(y) - slope)
        said.append(np.std(drawn, axis=0))
    ratio = np.sqrt(np.mean((np.array(off) / said) ** 2, axis=0))
    assert (ratio > 0.2).all()
    assert (ratio < most).all()
    # a slope is told better between points than at the last one
    assert np.mean(said, axis=0)[len(x) // 2] < 0.5 * np.mean(said, axis=0)[0]


def test_unknown_scales_do_not_matter():
    x = np.array([0.0, 1.0, 2.0, 4.0, 5.0, 7.0])
    y, noise = np.sin(x / 3), np.full(6, 1e-3)
    first = allowed(x, y, noise)
    other = allowed(1e-3 * x + 5.0, -1e6 * y + 3.0, 1e6 * noise)
    turned = -1e9 * first.slopes(y)
    assert other.slopes(-1e6 * y + 3.0) == pytest.approx(turned, rel=1e-6, abs=1e-6 * 1e9)
    assert first.weights.sum() == pytest.approx(1.0)


def test_a_line_has_one_slope():
    x = np.linspace(0.0, 1.0, 7)
    found = allowed(x, 3 * x + 1, np.full(7, 0.01))
    assert found.slopes(3 * x + 1) == pytest.approx(3.0)
    flat = allowed(x, np.zeros(7), np.zeros(7))
    assert flat.slopes(np.zeros(7)) == pytest.approx(0.0)
    exact = allowed(x, x**2, np.full(7, np.nan))  # no error is known of any
    assert exact.slopes(x**2) == pytest.approx(2 * x, abs=2e-3)


def test_few_points_are_given_the_simplest_curve():
    found = allowed(np.array([0.0, 2.0]), np.array([1.0, 5.0]), np.full(2, 0.1))
    assert found.slopes(np.array([1.0, 5.0])) == pytest.approx(2.0)
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 1.0, 9.0, 16.0])
    noise = np.full(4, 0.01)
    assert allowed(x, y, noise).slopes(y) == pytest.approx(2 * x, abs=1e-9)
    straight = allowed(x, y, np.full(4, 10.0))  # errors so large that nothing speaks of a bend
    assert np.ptp(straight.slopes(y)) < 1e-9
