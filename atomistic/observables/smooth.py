r"""Slopes of a smooth curve known at a few points with errors, by Gaussian processes.

.. math:: y = b_0 + b_1 x + f(x) + \epsilon, \qquad
    \langle f(x) f(x') \rangle = a^2 e^{-(x - x')^2 / 2 l^2}

with any line and with all amplitudes a and lengths l that the points do not speak against, each
weighted by its evidence. What is said of a slope holds what noise does to it and what the curve may
do between the points; a polynomial of the lowest degree that is not at odds with the points knows
nothing of the latter, and at the ends is off by many of its own errors.

References
----------
Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press (2006), chapters 2, 5 and
9.4, https://doi.org/10.7551/mitpress/3206.001.0001
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST = 5  # points from which something is said of a curve between them
NEGLIGIBLE = 1e-3  # of the largest weight
UNLIKELY = 0.05  # chance below which a polynomial is said to miss its points
LENGTHS = 20  # and as many amplitudes: looked at
SHORTEST, LONGEST = 0.15, 4.0  # length, of the span of the points
LEAST, MOST = 1e-3, 30.0  # amplitude, of the span of the values


@dataclass(frozen=True)
class Curves:
    """Curves that points allow.

    Parameters
    ----------
    weights : numpy.ndarray
        Of each curve, adding up to one, (curve,).
    matrices : numpy.ndarray
        By which values at the points give slopes at them, (curve, point, point).
    spreads : numpy.ndarray
        By which normal numbers give what slopes may differ by, were the values exact, (curve,
        point, point).
    """

    weights: np.ndarray
    matrices: np.ndarray
    spreads: np.ndarray

    def slopes(self, values: np.ndarray) -> np.ndarray:
        """Return the mean slopes at the points, of values there."""
        return np.asarray(np.einsum("k,kxy,y->x", self.weights, self.matrices, values))

    def draw(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return slopes as they may be, of values drawn with their errors."""
        one = rng.choice(len(self.weights), p=self.weights)
        free = rng.standard_normal(len(values))
        return np.asarray(self.matrices[one] @ values + self.spreads[one] @ free)


def allowed(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> Curves:
    """Return the curves that points allow; of few points, the polynomial of lowest degree.

    Parameters
    ----------
    x, y : numpy.ndarray
        Points, none above another.
    error : numpy.ndarray
        Standard errors of y; where none is known, the middle one of the others.

    Examples
    --------
    >>> x = np.linspace(0.0, 2.0, 9)
    >>> found = allowed(x, np.sin(x), np.full(9, 1e-4))
    >>> bool(np.abs(found.slopes(np.sin(x)) - np.cos(x)).max() < 2e-3)
    True
    """
    known = np.isfinite(error) & (error > 0)
    typical = np.median(error[known]) if known.any() else max(1e-12, 1e-6 * np.abs(y).max())
    noise = np.where(known, error, typical)
    height = np.ptp(y)
    if len(x) < FEWEST or not height > 0:
        return Curves(np.ones(1), _polynomial(x, y, noise)[None], np.zeros((1, len(x), len(x))))
    span = np.ptp(x)
    u, floor = x / span, 1e-7 * height
    noise = np.maximum(noise, floor)
    line = np.column_stack([np.ones_like(u), u - u.mean()])
    apart = u[:, None] - u
    evidence, matrices, spreads = [], [], []
    shortest = max(SHORTEST, 1 / (len(x) - 1))
    for length in np.geomspace(shortest, LONGEST, LENGTHS):
        shape = np.exp(-((apart / length) ** 2) / 2)
        for amplitude in np.geomspace(LEAST, MOST, LENGTHS) * height:
            both = amplitude**2 * shape
            root = np.linalg.cholesky(both + np.diag(noise**2))
            lined, seen = np.linalg.solve(root, line), np.linalg.solve(root, y)
            inside = lined.T @ lined
            rest = seen - lined @ np.linalg.solve(inside, lined.T @ seen)
            evidence.append(
                -0.5 * rest @ rest
                - np.log(np.diag(root)).sum()
                - 0.5 * np.linalg.slogdet(inside)[1]
            )
            whitened = np.linalg.inv(root)
            best = np.linalg.solve(inside, lined.T @ whitened)  # values to the line
            left = whitened.T @ (whitened - lined @ best)
            tilted = -apart / length**2 * both  # of a slope with a value
            matrix = tilted @ left + np.array([0.0, 1.0]) @ best
            curved = (1 - (apart / length) ** 2) / length**2 * both  # of a slope with a slope
            matrices.append(matrix)
            spreads.append(
                curved - matrix @ tilted.T - tilted @ matrix.T + matrix @ both @ matrix.T
            )
    weights = np.exp(np.array(evidence) - np.max(evidence))
    kept = np.flatnonzero(weights > NEGLIGIBLE)
    return Curves(
        weights[kept] / weights[kept].sum(),
        np.array([matrices[one] for one in kept]) / span,
        np.array([_root(spreads[one]) for one in kept]) / span,
    )


def _root(covariance: np.ndarray) -> np.ndarray:
    value, vector = np.linalg.eigh(covariance)
    return np.asarray(vector * np.sqrt(np.maximum(value, 0.0)))


def _polynomial(x: np.ndarray, y: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return what makes slopes of values, by the lowest degree that is not at odds with them."""
    middle, span = x.mean(), max(float(np.ptp(x)), 1e-300)
    u = (x - middle) / span
    for degree in range(1, len(x)):
        powers = u[:, None] ** np.arange(degree + 1)
        best = np.linalg.pinv(powers / noise[:, None]) / noise
        excess = float((((powers @ best @ y - y) / noise) ** 2).sum())
        left = len(x) - degree - 1
        if left == 0 or stats.chi2.sf(excess, left) > UNLIKELY:
            break
    order = np.arange(degree + 1)
    slope = order * u[:, None] ** np.maximum(order - 1, 0) / span
    return np.asarray(slope @ best)
