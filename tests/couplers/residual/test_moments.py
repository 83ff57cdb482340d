"""The closure by moments of the reaction, of benchmarks/residual_moments, beside the P2D itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.residual_moments import Moments
from continuum.cell import pybamm
from couplers.residual.p2d import P2D
from couplers.residual.parameters import Cell, read_cell

POINTS = (6, 3)
RATES = np.array([0.5, 1.0, 2.0, -1.0])
STEPS = 12


@pytest.fixture(scope="module")
def cell() -> Cell:
    return read_cell(pybamm.ParameterValues("Marquis2019"))


def run(model: P2D, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Voltages (V) after steps of 20 s at all rates at once, and the salt at the end (mol m-3)."""
    current = torch.as_tensor(RATES * cell.capacity)
    with torch.no_grad():
        model.advance(current, 0.0)  # the jump
        volts = [model.advance(current, 20.0).numpy() for _ in range(STEPS)]
    return np.array(volts), model.salt_now.numpy()


@pytest.fixture(scope="module")
def exact(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    return run(P2D(cell, np.full(len(RATES), 0.6), points=POINTS), cell)


def of_order(order: int, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    return run(Moments(cell, np.full(len(RATES), 0.6), points=POINTS, order=order), cell)


def test_with_a_moment_for_each_inner_face_it_is_the_p2d(
    cell: Cell, exact: tuple[np.ndarray, np.ndarray]
) -> None:
    """Galerkin's equations on a whole basis are the equations themselves."""
    volts, salt = of_order(POINTS[0] - 1, cell)
    np.testing.assert_allclose(volts, exact[0], rtol=0, atol=2e-7)
    np.testing.assert_allclose(salt, exact[1], rtol=1e-9)


def test_fewer_moments_are_further_off(cell: Cell, exact: tuple[np.ndarray, np.ndarray]) -> None:
    errors = [np.abs(of_order(order, cell)[0] - exact[0]).max() for order in (1, 2, 4)]
    assert errors[0] > 2 * errors[1]
    assert errors[1] > 5 * errors[2]
    assert errors[1] < 1e-4, "V; without the mean over places it is more"


@pytest.mark.parametrize("order", [0, POINTS[0]])
def test_too_few_or_too_many_moments_are_refused(cell: Cell, order: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 5"):
        of_order(order, cell)
