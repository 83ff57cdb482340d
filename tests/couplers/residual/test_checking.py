"""Shares of the modal run's doubt in a checked band: bounds, coverage, kinds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from continuum.cell import pybamm
from couplers.residual import modal
from couplers.residual.checking import ENOUGH, scores, shares
from couplers.residual.corrector import conformal
from couplers.residual.layers import ELECTROLYTE
from couplers.residual.parameters import Cell, read_cell

TIME = np.arange(0.0, 60.0)


def drawn(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors (V) of a correction and of the modal SPMe, and its doubt; some runs have ended."""
    doubt = 1e-4 * rng.lognormal(size=(count, 1)) * np.ones_like(TIME)
    sure = 0.5 * doubt * rng.normal(size=doubt.shape)
    error = 1e-3 * rng.normal(size=(count, 1)) * np.sin(TIME / 9)
    gone = rng.uniform(20, 90, (count, 1)) < TIME
    error[gone] = sure[gone] = np.nan
    return error, sure, doubt


def test_the_largest_score_is_the_least_share_that_holds_all() -> None:
    error, sure, doubt = drawn(np.random.default_rng(0), 40)
    score, kinds = scores(error, sure, doubt, np.arange(40) % 2)
    np.testing.assert_array_equal(kinds, np.arange(40) % 2)
    for share, outside in ((1.0001 * score.max(), 0), (0.9999 * score.max(), 1)):
        band = np.abs(error - sure) + share * doubt
        assert (np.abs(error) > band).any(axis=1).sum() == outside


def reference(steady: np.ndarray) -> xr.Dataset:
    """Profiles of steady and of changing currents, all at 3.7 V."""
    rate = np.where(steady[:, None], 1.0, np.sin(TIME / 5))
    return xr.Dataset(
        {
            "c_rate": (("draw", "time"), rate),
            "voltage": (("draw", "time"), np.full(rate.shape, 3.7)),
            "state_of_charge": ("draw", np.full(len(rate), 0.5)),
            **{name: ("draw", np.ones(len(rate))) for name in ELECTROLYTE},
        },
        coords={"time": TIME},
    )


@pytest.fixture(scope="module")
def cell() -> Cell:
    return read_cell(pybamm.ParameterValues("Marquis2019"))


def test_nine_of_ten_new_profiles_are_held(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each kind of current, whose doubts mean different things."""
    rng, steady = np.random.default_rng(1), np.arange(300) % 2 == 1
    error, sure, doubt = drawn(rng, 300)
    doubt[steady] /= 3
    monkeypatch.setattr(modal, "voltages", lambda *_, **__: (3.7 + sure, doubt))
    found = shares(cell, [(reference(steady), error)])
    assert found[1] > 2 * found[0]
    error, sure, doubt = drawn(rng, 4000)
    for share, scale in zip(found, (1.0, 3.0), strict=True):
        band = np.abs(error - sure) + share * doubt / scale
        with np.errstate(invalid="ignore"):
            held = ~(np.abs(error) > band).any(axis=1)
        assert held.mean() == pytest.approx(0.9, abs=0.05)


def test_too_few_profiles_of_a_kind_count_with_all(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = np.arange(60) < ENOUGH - 1
    error, sure, doubt = drawn(np.random.default_rng(2), 60)
    doubt[steady] /= 3
    monkeypatch.setattr(modal, "voltages", lambda *_, **__: (3.7 + sure, doubt))
    changing, few = shares(cell, [(reference(steady), error)])
    together = conformal(scores(error, sure, doubt, steady)[0])
    assert few == pytest.approx(together, rel=1e-9)
    assert changing < 0.9 * few
