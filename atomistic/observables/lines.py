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
