from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import anderson

from couplers.fixed_point import solve


def affine(seed: int, size: int, radius: float):
    """x -> A x + b with the spectral radius of A given, and its fixed point."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((size, size))
    matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
    shift = rng.standard_normal(size)
    return (lambda x: matrix @ x + shift), np.linalg.solve(np.eye(size) - matrix, shift)


def test_contraction_converges_at_its_own_rate() -> None:
    """Without memory the residual shrinks by the slope each time, with damping by 1 - b (1 - q)."""
    for damping, rate in ((1.0, 0.3), (0.5, 0.65)):
        found = solve(lambda x: 0.3 * x + 7.0, 1.0, damping=damping, memory=0, tolerance=1e-10)
        assert found.outcome.converged
        assert found.x == pytest.approx([10.0], rel=1e-9)
        norms = np.array(found.norms)
        shrunk = np.abs(found.x[0] * norms[1:6] / norms[:5])
        assert shrunk / found.x[0] == pytest.approx(rate, rel=0.3)
        assert found.outcome.iterations == len(norms)


@pytest.mark.parametrize("radius", [0.9, 3.0, 40.0])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_affine_map_of_any_slope_takes_one_step_an_unknown(radius: float, size: int) -> None:
    function, exact = affine(3, size, radius)
    found = solve(function, np.zeros(size), tolerance=1e-8, scale=1.0, memory=size)
    assert found.outcome.converged, found.outcome.sentence
    assert found.outcome.iterations <= size + 4
    np.testing.assert_allclose(found.x, exact, rtol=1e-6, atol=1e-6)


def test_expanding_map_without_memory_diverges_as_a_value() -> None:
    found = solve(lambda x: -3.0 * x + 1.0, 5.0, memory=0, max_iterations=200)
    assert not found.outcome.converged
    assert found.outcome.sentence.startswith("diverged: after")
    assert found.x.tolist() == [5.0], "the best state is handed back, not the last"


def test_same_solution_as_scipy() -> None:
    """Walker and Ni's setting in small: an integral equation of Chandrasekhar's kind."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    mu, weights = (nodes + 1) / 2, weights / 2
    kernel = 0.9 / 2 * mu[:, None] * weights / (mu[:, None] + mu)

    def function(h: np.ndarray) -> np.ndarray:
        return 1 / (1 - kernel @ h)

    found = solve(function, np.ones(20), tolerance=1e-12)
    oracle = anderson(lambda h: function(h) - h, np.ones(20), f_tol=1e-12)
    assert found.outcome.converged
    np.testing.assert_allclose(found.x, oracle, rtol=1e-10)
    plain = solve(function, np.ones(20), tolerance=1e-12, memory=0)
    assert found.outcome.iterations < plain.outcome.iterations


@pytest.mark.parametrize("value", [-3.0, 3.0])
def test_sign_and_scale_of_the_unknowns_do_not_matter(value: float) -> None:
    """A charge near 1e-3 and a potential near 1e2 of either sign, started at the other sign."""
    exact = np.array([1e-3 * value, -1e2 * value])

    def function(x: np.ndarray) -> np.ndarray:
        y = (x - exact) / np.abs(exact)
        return exact + np.abs(exact) * np.array([[0.5, -2.0], [1.5, 0.2]]) @ y

    found = solve(function, -exact, tolerance=1e-10)
    assert found.outcome.converged
    np.testing.assert_allclose(found.x, exact, rtol=1e-8)
    assert np.all(np.abs(found.residual) <= 1e-9 * np.abs(found.x))


def test_no_fixed_point_is_an_outcome() -> None:
    found = solve(lambda x: x + 1.0 + x**2, 0.3, max_iterations=60)
    assert not found.outcome.converged
    assert "stalled" in found.outcome.sentence or "not converged" in found.outcome.sentence


def test_too_few_iterations_are_an_outcome() -> None:
    found = solve(lambda x: 0.99 * x + 1.0, 0.0, memory=0, max_iterations=5)
    assert found.outcome.sentence.startswith("was not converged after 5 iterations")
    assert found.outcome.iterations == len(found.norms) == 5


def test_function_that_leaves_its_domain_is_an_outcome() -> None:
    found = solve(lambda x: np.where(x < 2, 3 * x, np.nan), 1.0, memory=0)
    assert found.outcome.sentence == "diverged: evaluation 2 was not finite"
    assert found.x.tolist() == [1.0]


@pytest.mark.parametrize("slope", [0.5, -4.0])
def test_noisy_map_stops_at_its_noise_with_a_true_error(slope: float) -> None:
    """x = g(x) + noise: the answer scatters by noise / |1 - slope|, which x_std must say."""
    rng = np.random.default_rng(7)
    noise, pulls, counts = 0.01, [], []
    for _ in range(200):
        found = solve(
            lambda x: 10.0 + slope * (x - 10.0) + noise * rng.standard_normal(),
            0.0,
            noise=noise,
            tolerance=1e-12,
        )
        assert found.outcome.converged
        assert "to the noise" in found.outcome.sentence
        pulls.append((found.x[0] - 10.0) / found.x_std[0])
        counts.append(found.outcome.iterations)
    assert np.mean(counts) < 8
    # it stops where the residual is within the noise: the truth then lies within about sqrt(2)
    assert 0.6 < np.std(pulls) < 1.6
    assert abs(np.mean(pulls)) < 0.3


def test_noise_does_not_throw_the_acceleration_off() -> None:
    """Two unknowns, one expanding: differences within the noise must not be used as slopes."""
    rng = np.random.default_rng(11)
    matrix = np.array([[0.2, 0.4], [-0.6, -2.5]])
    far = []
    for _ in range(100):
        found = solve(
            lambda x: matrix @ (x - 1.0) + 1.0 + 1e-3 * rng.standard_normal(2),
            [5.0, -4.0],
            noise=1e-3,
            tolerance=1e-12,
        )
        assert found.outcome.converged, found.outcome.sentence
        far.append(np.abs(found.x - 1.0).max())
    assert np.quantile(far, 0.95) < 5e-3


def test_start_is_left_as_it_was_and_faults_come_together() -> None:
    start = np.array([1.0, 2.0])
    solve(lambda x: x / 2, start, scale=1.0)
    assert start.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError) as error:
        solve(np.cos, np.nan, damping=0, memory=-1, tolerance=0, max_iterations=0, noise=-1.0)
    for word in ("damping is 0", "memory is -1", "tolerance is 0", "max_iterations", "noise", "st"):
        assert word in str(error.value)
    with pytest.raises(ValueError, match="2 numbers for 1 unknowns"):
        solve(lambda x: [1.0, 2.0], 0.0)
