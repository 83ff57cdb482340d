"""The batched modal SPMe against PyBaMM's, against P2D, and against what must stay as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from continuum.cell import pybamm
from continuum.cell_modes import ModalSPMe
from couplers.residual import batch, modal
from couplers.residual.batch import MOST, simulate
from couplers.residual.corrector import LARGEST_BAND, load
from couplers.residual.data import drawn_electrolytes
from couplers.residual.modal import FACTOR, FEWER, FLOOR, Modal
from couplers.residual.p2d import P2D, follow
from couplers.residual.parameters import FARADAY, Cell, read_cell
from couplers.residual.profiles import us06_like
from couplers.residual.spme import SPMe

SETS = ("Chen2020", "Ecker2015")  # the particles of the latter are shells


@pytest.fixture(scope="module")
def cells() -> dict[str, Cell]:
    return {name: read_cell(pybamm.ParameterValues(name)) for name in (*SETS, "Marquis2019")}


def rms(apart: np.ndarray) -> float:
    """In mV."""
    return 1e3 * float(np.sqrt(np.nanmean(apart**2)))


def voltages(model: Modal | P2D | SPMe, current: np.ndarray, time: np.ndarray) -> np.ndarray:
    return follow(model, current, time)["voltage"].values


@pytest.mark.parametrize("name", SETS)
def test_is_pybamms_modal_spme(cells: dict[str, Cell], name: str) -> None:
    cell, time = cells[name], np.arange(241.0)
    current = 2 * cell.capacity * us06_like(7)[: time.size]
    values = pybamm.ParameterValues(name)
    values.set_initial_state(0.7)
    values["Current function [A]"] = pybamm.Interpolant(time, current, pybamm.t)
    model = ModalSPMe()
    simulation = pybamm.Simulation(
        model,
        parameter_values=values,
        var_pts={**model.default_var_pts, "x_n": 20, "x_s": 6, "x_p": 20},
        solver=pybamm.IDAKLUSolver(
            rtol=1e-6,
            atol=1e-7,
            output_variables=["Voltage [V]"],
            options={"suppress_algebraic_error": True},
        ),
    )
    expected = simulation.solve([0, time[-1]], t_interp=time)["Voltage [V]"].entries
    ours = voltages(Modal(cell, np.array([0.7])), current[None], time)[0]
    even = voltages(SPMe(cell, np.array([0.7])), current[None], time)[0]
    assert rms(ours - expected) < 0.05
    assert rms(even - expected) > 0.15


@pytest.mark.parametrize(("name", "share"), [("Chen2020", 0.07), ("Ecker2015", 0.2)])
def test_is_close_to_p2d_at_two_c(cells: dict[str, Cell], name: str, share: float) -> None:
    """Also with electrolytes that a corrector would have to learn; the more modes, the closer."""
    cell, count = cells[name], 6
    time = np.concatenate([np.linspace(0, 20, 11), np.arange(30, 601.0, 10)])
    current = np.full((count, time.size), 2 * cell.capacity)
    current[1::2] *= -0.4
    soc = np.array([0.9, 0.3] * (count // 2))
    drawn = {key: v[:count] for key, v in drawn_electrolytes(np.random.default_rng(3), 40).items()}
    drawn["conductivity_scale"][2:] = 0.7
    truth = voltages(P2D(cell, soc, electrolyte=drawn), current, time)
    even = rms(voltages(SPMe(cell, soc, electrolyte=drawn), current, time) - truth)
    first, third = (
        rms(voltages(Modal(cell, soc, electrolyte=drawn, order=order), current, time) - truth)
        for order in (1, 3)
    )
    assert np.isfinite(truth).all()
    assert third < 0.5
    assert third < share * even
    assert third < 0.8 * first


def test_converges_in_time(cells: dict[str, Cell]) -> None:
    """Of second order where the current is smooth; on both kinds of particles."""
    for name in SETS:
        cell, soc = cells[name], np.array([0.6])

        def voltage(step: float, cell: Cell = cell, soc: np.ndarray = soc) -> np.ndarray:
            time = np.arange(0, 160 + step / 2, step)
            current = 2 * cell.capacity * np.sin(np.pi * time / 80) ** 2
            return voltages(Modal(cell, soc), current[None], time)[0][:: round(8 / step)]

        coarse, middle, fine = (voltage(step) for step in (8.0, 4.0, 2.0))
        order = np.log2(np.linalg.norm(middle - coarse) / np.linalg.norm(fine - middle))
        assert 1.6 < order < 2.6


def test_rest_stays_rest_and_is_come_back_to(cells: dict[str, Cell]) -> None:
    for name in SETS:
        cell, soc = cells[name], np.array([0.2, 0.8])
        batch = Modal(cell, soc)
        idle = voltages(batch, np.zeros((2, 5)), np.arange(5.0) * 100)
        assert np.ptp(idle, axis=1).max() < 1e-9
        assert float(batch.modes.abs().max()) < 1e-6
        time = np.concatenate([np.arange(0, 61.0), np.geomspace(62, 2e5, 120)])
        current = np.where(time < 60, 2 * cell.capacity, 0.0) * np.array([[1.0], [-0.2]])
        batch = Modal(cell, soc)
        rested = voltages(batch, current, time)
        potentials = batch.potentials(batch.mean.mean(0))
        np.testing.assert_allclose(rested[:, -1], potentials[1] - potentials[0], atol=1e-5)
        assert float(batch.modes.abs().max()) < 1e-3


@pytest.mark.parametrize("name", SETS)
def test_salt_and_lithium_are_conserved(cells: dict[str, Cell], name: str) -> None:
    cell, time = cells[name], np.arange(181.0)
    current = 2 * cell.capacity * us06_like(3)[: time.size]
    batch = Modal(cell, np.array([0.7]))
    start = batch.mean.clone()
    follow(batch, current[None], time)
    salt = (batch.capacity * batch.salt_now).sum() / batch.capacity.sum()
    assert float(salt) == pytest.approx(cell.concentration, rel=1e-12)
    assert np.ptp(batch.salt_now.numpy()) > 5, "there is something to conserve"
    moved = (batch.mean - start).mean(0)[:, 0]
    charge = np.trapezoid(current, time) / cell.area
    for e, sign, change in zip((cell.negative, cell.positive), (-1, 1), moved, strict=True):
        sites = e.maximum_concentration * e.area_density * e.particle_radius / 3 * e.thickness
        assert float(change) == pytest.approx(sign * charge / (FARADAY * sites), rel=1e-9)


def test_salt_sees_all_that_the_modes_move(cells: dict[str, Cell]) -> None:
    """Where nothing diffuses, salt counts what was moved; the last step's jump is still owed."""
    cell, scale = cells["Chen2020"], {"diffusivity_scale": np.array([1e-9])}
    batch = Modal(cell, np.array([0.7]), electrolyte=scale)
    moved = torch.zeros(batch.order + 1, 2, 1, dtype=torch.float64)
    before = torch.zeros_like(moved)
    for k, rate in enumerate([1.0, 1.0, -2.0, 3.0, 0.1, 2.0]):
        duration = 2.0 if k else 0.0
        batch.advance(torch.tensor([rate * cell.capacity]), duration)
        now = torch.cat([batch.flux[None], batch.modes])
        moved, before = moved + 0.5 * duration * (before + now), now
    assert float(batch.owed.abs().max()) > 1e-3 * float(moved[1:].abs().max())
    moved[1:] -= batch.owed
    expected = batch.through * (batch.moved @ moved.view(-1, 1)) / batch.capacity
    gained = batch.salt_now - cell.concentration
    np.testing.assert_allclose(gained, expected, atol=1e-6 * float(expected.abs().max()))


def test_cells_of_a_batch_do_not_know_of_each_other(cells: dict[str, Cell]) -> None:
    for name in SETS:
        cell, time = cells[name], np.arange(61.0)
        rate = us06_like(5)[: time.size]
        current = cell.capacity * np.stack([rate, -0.3 * rate, 6.0 + 0 * rate])
        soc = np.array([0.7, 0.4, 0.05])
        drawn = {"diffusivity_scale": np.array([1.0, 0.6, 1.0])}
        together = follow(Modal(cell, soc, electrolyte=drawn), current, time)
        for k in range(3):
            own = {key: values[k : k + 1] for key, values in drawn.items()}
            alone = voltages(Modal(cell, soc[k : k + 1], electrolyte=own), current[k : k + 1], time)
            # one that is far from Ohm's law has the others iterate once more
            np.testing.assert_allclose(together["voltage"][k], alone[0], rtol=0, atol=2e-5)
        assert int(together["end"][2]) < len(time), "the empty cell must reach its cut-off"
        assert np.isfinite(together["voltage"][:2]).all()


def test_refuses_no_modes(cells: dict[str, Cell]) -> None:
    with pytest.raises(ValueError, match="order is 0, expected 1 or more modes"):
        Modal(cells["Chen2020"], np.array([0.5]), order=0)


def electrolytes(count: int) -> dict[str, np.ndarray]:
    return drawn_electrolytes(np.random.default_rng(11), count)


def test_many_cells_with_nothing_learnt(
    cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces as at once; the band holds P2D, and grows with what fewer modes miss."""
    cell, count, time = cells["Chen2020"], 5, np.arange(0, 301.0, 5)
    current = np.linspace(0.3, 1.8, count)[:, None] * np.full(time.size, cell.capacity)
    soc, drawn = np.linspace(0.5, 0.9, count), electrolytes(count)
    run = simulate(cell, None, current, time, state_of_charge=soc, electrolyte=drawn)
    monkeypatch.setattr(batch, "CHUNK", 2)
    pieces = simulate(cell, None, current, time, state_of_charge=soc, electrolyte=drawn)
    np.testing.assert_allclose(pieces["voltage"], run["voltage"], rtol=0, atol=2e-5)
    assert set(run) == {"voltage", "band", "abstained"}
    assert not run["abstained"].any()
    ours = voltages(Modal(cell, soc, electrolyte=drawn), current, time)
    np.testing.assert_array_equal(run["voltage"], ours)
    truth = voltages(P2D(cell, soc, electrolyte=drawn), current, time)
    assert (np.abs(ours - truth) <= run["band"].values).all()
    fewer = voltages(Modal(cell, soc, electrolyte=drawn, order=FEWER), current, time)
    expected = FACTOR * (np.abs(ours - fewer).max(1) + FLOOR)
    np.testing.assert_allclose(run["band"][:, -1], expected, atol=1e-7)
    assert (np.diff(run["band"], axis=1) >= 0).all()
    assert float(run["band"][-1, -1]) > 2 * float(run["band"][0, -1])


def test_what_fewer_modes_do_not_reach_is_abstained(
    cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their salt is used up, or they are stopped by hand: then the band is as wide as it gets."""
    cell, time = cells["Chen2020"], np.arange(0, 41.0, 5)
    current = np.full((2, time.size), cell.capacity)

    def stopped(model: Modal, *about: np.ndarray) -> xr.Dataset:
        run = follow(model, *about)
        if model.order == FEWER:
            run["voltage"][1, 4:] = np.nan
        return run

    monkeypatch.setattr(modal, "follow", stopped)
    run = simulate(cell, None, current, time, state_of_charge=np.array([0.8, 0.8]))
    assert np.isfinite(run["voltage"]).all()
    assert not run["abstained"][0].any()
    np.testing.assert_array_equal(run["abstained"][1], np.arange(time.size) >= 4)
    assert (run["band"][1, 4:] == LARGEST_BAND).all()


@pytest.mark.parametrize("wrong", [False, True])
def test_a_checked_correction_is_near_the_modal_voltage_or_is_that(
    cells: dict[str, Cell], wrong: bool
) -> None:
    """Far from what it has learnt, and spoilt: what a corrector says is used where it is right."""
    cell, time = cells["Marquis2019"], np.arange(301.0)
    current = np.stack([us06_like(seed)[: time.size] for seed in range(4)]) * 2.5 * cell.capacity
    drawn = {"diffusivity_scale": np.array([1.0, 1.0, 0.15, 0.15])}
    about = {"state_of_charge": np.full(4, 0.6), "electrolyte": drawn}
    corrector = load("Marquis2019")
    if wrong:
        corrector = replace(corrector, unit=4 * corrector.unit)
    plain = simulate(cell, corrector, current, time, **about)
    checked = simulate(cell, corrector, current, time, **about, checked=True)
    alone = simulate(cell, None, current, time, **about)
    assert set(plain) == set(checked)
    truth = voltages(P2D(cell, about["state_of_charge"], electrolyte=drawn), current, time)
    voltage, band, away = (checked[key].values for key in ("voltage", "band", "abstained"))
    np.testing.assert_array_equal(voltage[away], alone["voltage"].values[away])
    np.testing.assert_array_equal(band[away], alone["band"].values[away])
    assert (np.abs(voltage - alone["voltage"].values)[~away] < band[~away]).all()
    assert band.max() <= MOST
    both = ~away & ~plain["abstained"].values
    np.testing.assert_array_equal(voltage[both], plain["voltage"].values[both])
    assert np.abs(voltage - truth).max() < MOST
    assert np.mean(np.abs(voltage - truth) <= band) > 0.97
    if wrong:
        assert away.mean() > 0.01, "there is something to flag"
        apart = np.abs(plain["voltage"].values - truth)[~plain["abstained"].values]
        assert apart.max() > MOST
    else:
        distrusted = ~away & plain["abstained"].values
        apart = np.abs(voltage - plain["spme_voltage"].values)[distrusted]
        assert apart.max() > 5e-4, "corrected where it did not trust itself"


def test_nothing_can_be_checked_without_a_corrector(cells: dict[str, Cell]) -> None:
    with pytest.raises(ValueError, match="nothing to check without a corrector"):
        simulate(
            cells["Chen2020"],
            None,
            np.zeros((1, 3)),
            np.arange(3.0),
            state_of_charge=np.array([0.5]),
            checked=True,
        )
