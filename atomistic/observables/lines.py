"""Straight lines through a mean squared displacement, by least squares that know its noise."""

from __future__ import annotations

import numpy as np


def line_weights(lags: np.ndarray) -> np.ndarray:
    r"""Return weights w such that w @ MSD are slope and intercept of its least-squares line.

    The covariance of the time-averaged MSD of a free walker at lags :math:`t_i \le t_j` is
    :math:`C_{ij} \propto t_i^2 / n_j` with :math:`n_j \propto 1/t_j` independent lengths. That
    makes :math:`\mathrm{MSD}(t)/t` a random walk in t: its increments are independent with variance
    :math:`t_i - t_{i-1}`, the precision is tridiagonal and the weights need no data. The line has
    an intercept: the plateau that rattling leaves.

    Parameters
    ----------
    lags : numpy.ndarray
        Lags (any unit), increasing, at least three.
    """
    precision = 1.0 / np.diff(lags, prepend=0.0)
    difference = np.eye(len(lags)) - np.eye(len(lags), k=-1)
    operator = difference / lags  # MSD to independent increments
    design = operator @ np.column_stack([lags, np.ones_like(lags)])
    weighted = design.T * precision
    return np.asarray(np.linalg.solve(weighted @ design, weighted) @ operator)


def slope_weights(lags: np.ndarray) -> np.ndarray:
    """Return the weights of the slope alone (`line_weights`)."""
    return np.asarray(line_weights(lags)[0])


def curve_covariance(
    curve: np.ndarray, lag: np.ndarray, *, particles: int, duration: float, directions: int = 3
) -> np.ndarray:
    """Covariance (m4) of a mean squared displacement at its lags, for independent walkers.

    Parameters
    ----------
    curve : numpy.ndarray
        Mean squared displacement (m2), (lag,).
    lag : numpy.ndarray
        Lags (s).
    particles : int
        Particles averaged over.
    duration : float
        Length of the run (s).
    directions : int
        Directions summed over.

    References
    ----------
    Qian, Sheetz, Elson, Biophys. J. 60, 910 (1991),
    https://doi.org/10.1016/S0006-3495(91)82125-7
    """
    lower = np.minimum.outer(np.arange(len(lag)), np.arange(len(lag)))
    overlap = 2 * np.maximum.outer(lag, lag) - 2 / 3 * np.minimum.outer(lag, lag)
    return curve[lower] ** 2 * overlap / (directions * particles * duration)
