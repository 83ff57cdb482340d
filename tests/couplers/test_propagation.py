"""Draws through a solver: in order, whoever solves them, and a failure costs one draw only."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from continuum.schema import DISCHARGE
from couplers.contract import check
from couplers.electrolyte import binary_electrolyte
from couplers.fits import fit_laws
from couplers.propagation import band, discharges, propagate
from multiscale.executors import local
from tests.couplers.measured import properties
from tests.couplers.solvers import roots

VALUES = [4.0, -1.0, 9.0, 16.0, -2.0, 25.0, 400.0]


@pytest.mark.parametrize("batches", [1, 2, 3, 7, 20])
def test_failed_draws_are_outcomes_in_their_place(batches: int) -> None:
    result = propagate(roots, VALUES, batches=batches).drop_vars("process")
    expected = [2.0, np.nan, 3.0, 4.0, np.nan, 5.0, np.nan]
    np.testing.assert_array_equal(result["root"].transpose("draw", "copy")[:, 0], expected)
    assert result["reason"].values.tolist() == [
        "",
        "-1 has no root",
        "",
        "",
        "-2 has no root",
        "",
        "too large",
    ]
    assert result["solved"].values.tolist() == [True, False, True, True, False, True, False]
    assert result.attrs["draws"].startswith("4 of 7 draws solved; 1 failed: ")
    assert result.attrs["outcome"] == "4 fine; 2 was not solved; 1 too large"
    assert result.attrs["solver"] == "numpy"
    assert result["scale"].dims == ("copy",)
    assert result["root"].attrs["units"] == "1"


def only_alone(values: list[float]) -> xr.Dataset:
    """Roots, except that 9 wants a batch of its own."""
    if len(values) > 1 and 9.0 in values:
        raise MemoryError
    return roots(values)


def test_draws_of_a_batch_that_fails_as_a_whole_come_back_in_their_place() -> None:
    result = propagate(only_alone, [1.0, 9.0, 4.0, 16.0], batches=2)
    assert result["solved"].all()
    np.testing.assert_array_equal(result["root"].transpose("draw", "copy")[:, 0], [1, 3, 2, 4])
    assert result.attrs["draws"] == "4 of 4 draws solved"


def test_threads_and_processes_give_what_one_process_gives() -> None:
    alone = propagate(roots, VALUES).drop_vars("process")
    with ThreadPoolExecutor(2) as pool:
        threaded = propagate(roots, VALUES, executor=pool, batches=3).drop_vars("process")
    with local(2) as pool:
        spread = propagate(roots, VALUES, executor=pool, batches=3)
    assert threaded.equals(alone)
    assert spread.drop_vars("process").equals(alone)
    assert str(os.getpid()) not in spread["process"].values


def test_a_dask_cluster_does_the_same() -> None:
    distributed = pytest.importorskip("distributed")
    from multiscale.executors import dask

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        dask(cluster.scheduler_address) as pool,
    ):
        spread = propagate(roots, VALUES, executor=pool, batches=3)
    assert spread.drop_vars("process").equals(propagate(roots, VALUES).drop_vars("process"))


def test_nothing_to_do_and_nothing_done_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 0 draws in 1 batches"):
        propagate(roots, [])
    with pytest.raises(ValueError, match="every draw failed; the first: -1 has no root"):
        propagate(roots, [-1.0, -2.0])
    with pytest.raises(ValueError, match="given 2 draws, but returned 1 along 'draw'"):
        propagate(lambda values: roots(values[:1]), [1.0, 2.0])


def test_quantiles_are_those_of_the_draws_that_have_a_value() -> None:
    values = np.arange(101.0)[:, None] * np.array([1.0, 2.0, 1.0])
    values[60:, 1] = np.nan
    values[40:, 2] = np.nan
    given = xr.DataArray(values, dims=("draw", "time"), name="voltage", attrs={"units": "V"})
    found = band(given, levels=[0.1, 0.5])
    np.testing.assert_allclose(found["voltage"][:, 0], [10.0, 50.0])
    np.testing.assert_allclose(found["voltage"][:, 1], [11.8, 59.0])
    assert np.isnan(found["voltage"][:, 2]).all()
    assert found["draws_used"].values.tolist() == [101, 60, 40]
    assert found["voltage"].attrs["units"] == "V"
    with pytest.raises(ValueError, match=r"expected 'draw'.*no units.*from 0 to 1"):
        band(xr.DataArray([1.0], dims="time"), levels=[2.0])


def test_discharges_of_a_posterior_keep_the_contract_and_name_a_bad_draw() -> None:
    laws = fit_laws(properties(0.1), draws=5)
    drawn = [
        binary_electrolyte(laws, concentration=1000.0, temperature=298.15, draw=draw)
        for draw in range(5)
    ]
    coarse = {"x_n": 6, "x_s": 4, "x_p": 6}
    result = propagate(_coarse, drawn)
    check(result, DISCHARGE)
    assert result["solved"].all()
    assert "liquid electrolyte at 298.15 K" in result.attrs["cell"]
    spread = band(result["voltage"])
    width = (spread["voltage"][-1] - spread["voltage"][0]).values[0]
    assert 1e-4 < np.nanmax(width) < 0.1
    single = discharges(drawn[2:3], time_points=11, mesh_points=coarse)
    difference = single["voltage"].values[0, 0] - result["voltage"].values[0, 2]
    assert np.nanmax(np.abs(difference)) < 1e-3


def _coarse(electrolytes: list) -> xr.Dataset:
    coarse = {"x_n": 6, "x_s": 4, "x_p": 6}
    return discharges(electrolytes, time_points=11, mesh_points=coarse)
