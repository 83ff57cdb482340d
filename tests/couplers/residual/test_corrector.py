"""Features, profiles, training, the band and the abstentions, outside of PyBaMM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from continuum.cell import pybamm
from couplers.residual import profiles, training
from couplers.residual.batch import Corrected, simulate
from couplers.residual.corrector import Corrector, conformal, load
from couplers.residual.data import (
    Design,
    cell_hash,
    fast,
    generate,
    held_out,
    joined,
    reference,
    slow,
)
from couplers.residual.features import (
    ACTIVE,
    END,
    FINEST,
    KINDS,
    SHAPES,
    STATIC,
    STEPS,
    assemble,
    kind,
    memory_times,
    remember,
    shapes,
)
from couplers.residual.model import described
from couplers.residual.p2d import follow
from couplers.residual.parameters import Cell, read_cell
from couplers.residual.quick import QuickSPMe
from couplers.residual.spme import SPMe

MESH = (8, 4)
SET = "Marquis2019"


@pytest.fixture(scope="module")
def cell() -> Cell:
    return read_cell(pybamm.ParameterValues(SET))


@pytest.fixture(scope="module")
def data(cell: Cell) -> dict[str, xr.Dataset]:
    designs = {
        "learn": fast(1, 48, highest=2.0, duration=100),
        "calibrate": fast(2, 64, highest=2.0, duration=100),
        "judge": fast(3, 32, highest=2.0, duration=100),
    }
    whole = reference(cell, joined(designs), points=MESH)
    found, start = {}, 0
    for name, design in designs.items():
        found[name] = whole.isel(draw=slice(start, start + len(design.kind)))
        start += len(design.kind)
    return found


@pytest.fixture(scope="module")
def trained(cell: Cell, data: dict[str, xr.Dataset]) -> Corrector:
    return training.train(
        {"fast": data["learn"]},
        {"fast": data["calibrate"]},
        memory_times=memory_times(cell),
        cell=cell_hash(cell),
        about={"set": SET, **described(pybamm.ParameterValues(SET))},
        members=2,
        epochs=40,
        student_epochs=50,
    )


def test_a_small_corrector_halves_the_error_of_profiles_it_never_saw(
    trained: Corrector, data: dict[str, xr.Dataset]
) -> None:
    judged = training.judge(trained, {"judge": data["judge"]})["judge"]
    for network in ("student", "ensemble"):
        assert judged[network]["rms"] < 0.5 * judged[network]["spme_rms"]
        assert judged[network]["abstained"] < 0.2
        assert judged[network]["covered"] >= 0.7  # 32 profiles of nominal 0.9: 3 s.d. below
    assert trained.size <= 1100


def test_no_correction_at_rest_whatever_the_state(trained: Corrector) -> None:
    rng = np.random.default_rng(0)
    static = trained.static_mean + trained.static_scale * rng.normal(size=(50, len(STATIC)))
    for network in ("student", "ensemble"):
        said = trained.correct(static, np.zeros((50, len(ACTIVE))), network=network)
        np.testing.assert_array_equal(said.voltage, 0.0)


def test_abstains_outside_the_box_and_on_what_is_no_number(trained: Corrector) -> None:
    static = np.tile(trained.static_mean, (4, 1))
    active = np.tile(0.1 * trained.active_scale, (4, 1))
    active[1, 0] = 1.5 * trained.highest[len(STATIC)]
    static[2, 0] = 1.2
    active[3, 2] = np.nan
    said = trained.correct(static, active)
    assert said.abstained.tolist() == [False, True, True, True]
    np.testing.assert_array_equal(said.voltage[1:], 0.0)
    assert (said.band[1:] >= trained.abstained_band).all()
    assert said.voltage[0] != 0
    wary = replace(trained, largest_doubt=np.zeros(2)).correct(static, active)
    assert wary.abstained.all(), "the ensemble's doubt must count too"
    with pytest.raises(ValueError, match="'students', expected 'ensemble' or 'student'"):
        trained.correct(static, active, network="students")


def test_band_holds_for_kinds_that_alternate(
    trained: Corrector, data: dict[str, xr.Dataset]
) -> None:
    """Every other profile is much harder: neither half of them may be all that is looked at."""
    rough = data["calibrate"].copy(deep=True)
    noise = np.random.default_rng(3).normal(size=rough["residual"].shape)
    rough["residual"][::2] += 3e-3 * noise[::2]
    judged = training.judge(training.calibrate(trained, {"fast": rough}), {"again": rough})
    assert judged["again"]["ensemble"]["covered"] >= 0.85


def test_each_class_of_profiles_has_a_band_of_its_own(trained: Corrector) -> None:
    factor = np.arange(1.0, 9.0).reshape(2, len(KINDS), 2)  # of the ensemble 5, 6 and 7, 8
    classes = replace(trained, factor=factor)
    static = np.tile(trained.static_mean, (2, 1))
    static[:, [STATIC.index(name) for name in STATIC if "log" in name or "shift" in name]] = 0.0
    active = np.tile(0.1 * trained.active_scale, (2, 1))
    said = classes.correct(static, active, kind=np.array([0, 1]))
    assert said.band[1] / said.band[0] == pytest.approx(8 / 6)
    np.testing.assert_allclose(classes.correct(static, active).band, said.band[1])
    static[:, STATIC.index("log_diffusivity")] = 1e-3
    other = classes.correct(static[:1], active[:1], kind=np.array([0]))
    assert other.band[0] / said.band[0] == pytest.approx(5 / 6, rel=0.05)


def test_of_which_kind_a_current_is() -> None:
    rng = np.random.default_rng(4)
    second = np.arange(1201.0)
    drives = [make(rng, second.size, 2.0) for make in profiles.FAST]
    np.testing.assert_array_equal(kind(np.array(drives), second), 0)
    time = profiles.slow_times(7200)
    tests = np.array([profiles.steady(rng, time, 2.0)[0] for _ in range(50)])
    np.testing.assert_array_equal(kind(tests, time), 1)
    # the second time of a jump that a solver writes down is no jump more
    assert kind(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 60.0, 60.0, 120.0])) == 1


def test_saved_and_loaded_it_says_the_same(trained: Corrector, tmp_path: Path) -> None:
    trained.save(tmp_path / "kept.npz")
    again = load(tmp_path / "kept.npz")
    rng = np.random.default_rng(1)
    static = trained.static_mean + trained.static_scale * rng.normal(size=(20, len(STATIC)))
    active = trained.active_scale * rng.normal(size=(20, len(ACTIVE)))
    for network in ("student", "ensemble"):
        first, second = (c.correct(static, active, network=network) for c in (trained, again))
        np.testing.assert_allclose(first.voltage, second.voltage, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(first.band, second.band, rtol=1e-6)
    assert again.about == trained.about
    with pytest.raises(ValueError, match="no corrector 'Chen2021'. Shipped are: "):
        load("Chen2021")
    replace(trained, static_mean=trained.static_mean[1:]).save(tmp_path / "kept.npz")
    with pytest.raises(ValueError, match=r"of 21 static and 18 active features, expected 22"):
        load(tmp_path / "kept.npz")
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match=r"other.npz is no corrector: it lacks .*static_mean"):
        load(tmp_path / "other.npz")


def test_conformal_factor_covers_what_it_says() -> None:
    """Over many splits, a new score lies below the factor with at least the asked probability."""
    rng = np.random.default_rng(2)
    scores = rng.gamma(2.0, size=(4000, 41))
    factors = np.array([conformal(row[:40]) for row in scores])
    covered = (scores[:, 40] <= factors).mean()
    assert 0.885 < covered < 0.925
    with pytest.raises(ValueError, match="5 calibration profiles are too few"):
        conformal(np.ones(5))


def test_shapes_of_a_parabola_are_its_derivatives() -> None:
    """U = 3 x^2 + x: slope 6 x + 1 at any step, second difference 6 h^2; kept off the ends."""
    x = np.array([0.3, 0.6])
    found = shapes(lambda at: 3 * at**2 + at, x, kept=lambda at: np.clip(at, END, 1 - END))
    assert set(found) == set(SHAPES)
    for k, h in enumerate(STEPS):
        np.testing.assert_allclose(found[f"slope_{k}"], 6 * x + 1, rtol=1e-9)
        np.testing.assert_allclose(found[f"curvature_{k}"], 6 * h**2, rtol=1e-9)
    np.testing.assert_allclose(found["slope"], 6 * x + 1, rtol=1e-9)
    np.testing.assert_allclose(found["curvature"], 6 * FINEST**2, rtol=1e-9)
    at_the_end = shapes(np.log, np.array([0.0]), kept=lambda at: np.clip(at, END, 1 - END))
    assert all(np.isfinite(value).all() for value in at_the_end.values())


def test_memories_solve_their_equation() -> None:
    """Against the closed form for a ramp, on points of time that are not evenly spread."""
    times = np.array([2.0, 30.0])
    time = np.array([0.0, 0.1, 1.0, 4.0, 20.0, 90.0])
    found = remember(0.3 * time[None], time, times)
    tau = times[:, None]
    expected = 0.3 * (time - tau * (1 - np.exp(-time / tau)))
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)


def test_streaming_is_the_whole_profile_with_the_student(cell: Cell, trained: Corrector) -> None:
    design = fast(5, 8, highest=1.5, duration=60)
    current = design.c_rate * cell.capacity
    batch = Corrected(cell, trained, design.state_of_charge, electrolyte=dict(design.electrolyte))
    held = batch.base.linear.numel() + batch.base.salt.numel()
    for k, duration in enumerate([0.0, *np.diff(design.time)]):
        step = batch.advance(torch.as_tensor(current[:, k]), float(duration))
    assert batch.base.linear.numel() + batch.base.salt.numel() == held
    s, d = np.split(batch.base.features.double().numpy().T, [len(STATIC)], axis=1)
    limitless = replace(trained, largest_doubt=np.full(2, np.inf))
    expected = limitless.correct(s, d, network="student")
    np.testing.assert_array_equal(step.abstained.numpy(), expected.abstained)
    np.testing.assert_allclose(step.correction.numpy(), expected.voltage, atol=2e-8)
    whole = simulate(
        cell,
        limitless,
        current,
        design.time,
        state_of_charge=design.state_of_charge,
        electrolyte=dict(design.electrolyte),
    )
    np.testing.assert_allclose(
        whole["spme_voltage"][:, -1], (step.voltage - step.correction).numpy(), atol=1e-6
    )
    ensemble = limitless.correct(s, d).voltage
    np.testing.assert_allclose(
        (whole["voltage"] - whole["spme_voltage"])[:, -1], ensemble, atol=1e-6
    )


@pytest.mark.parametrize(("make", "rms"), [(fast, 1e-5), (slow, 3e-5)])
def test_quick_spme_is_the_exact_one(cell: Cell, make: Callable[..., Design], rms: float) -> None:
    """Voltages and features, in single precision on a coarse mesh with parabolas in its cells."""
    design = make(6, 32, highest=2.0, duration=240 if make is fast else 1200)
    current = design.c_rate * cell.capacity
    drawn = dict(design.electrolyte)
    exact = SPMe(cell, design.state_of_charge, electrolyte=drawn)
    whole = follow(exact, current, design.time, record=exact.state)
    times = memory_times(cell)
    quick = QuickSPMe(cell, design.state_of_charge, electrolyte=drawn, memory_times=times)
    states = {name: whole[name].values for name in exact.state()}
    broad = {name: v[:, None] * np.ones_like(current) for name, v in drawn.items()}
    memories = remember(design.c_rate, design.time, times)
    static, active = assemble(states, design.c_rate, memories, broad)
    expected = np.stack(static + active)
    size = np.nanstd(expected, axis=(1, 2)) + 1e-3
    errors = []
    for k, duration in enumerate([0.0, *np.diff(design.time)]):
        voltage = quick.advance(torch.as_tensor(current[:, k]), float(duration)).numpy()
        errors.append(voltage - whole["voltage"].values[:, k])
        apart = np.abs(quick.features.numpy() - expected[..., k]) / size[:, None]
        assert np.nanmax(apart) < 0.08
    assert np.sqrt(np.nanmean(np.square(errors))) < rms


def test_a_cell_of_a_batch_ends_alone(cell: Cell, trained: Corrector) -> None:
    """The empty one is nan from its cut-off on; the others are as without it."""
    time = np.arange(31.0)
    current = cell.capacity * np.array([[1.0], [2.0], [-0.5]]) * np.ones_like(time)
    soc = np.array([0.6, 0.01, 0.5])
    together = simulate(cell, trained, current, time, state_of_charge=soc)
    ended = np.isnan(together["voltage"][1].values)
    assert ended[-1] and not ended[0]
    assert (np.diff(ended.astype(int)) >= 0).all()
    alone = simulate(cell, trained, current[[0, 2]], time, state_of_charge=soc[[0, 2]])
    np.testing.assert_allclose(together["voltage"][[0, 2]], alone["voltage"], atol=1e-6)


def test_bad_input_gets_a_sentence(cell: Cell, trained: Corrector) -> None:
    soc = np.array([0.5])
    with pytest.raises(ValueError, match="The current of 1 cells is not finite"):
        Corrected(cell, trained, soc).advance(torch.tensor([float("nan")]), 1.0)
    bad = np.array([[0.0, np.nan, np.inf]])
    with pytest.raises(ValueError, match="2 values of the current are not finite"):
        simulate(cell, trained, bad, np.arange(3.0), state_of_charge=soc)
    other = read_cell(pybamm.ParameterValues("Chen2020"))
    with pytest.raises(ValueError, match="Marquis2019 is not for this cell"):
        Corrected(other, trained, soc)


def test_generation_resumes_from_its_files(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    designs = {
        "a": fast(1, 3, highest=1.0, duration=5),
        "b": fast(2, 2, highest=1.0, duration=5),
        "c": slow(3, 2, highest=1.0, duration=30),
    }
    first = generate(cell, designs, tmp_path)
    assert {name: data.sizes["draw"] for name, data in first.items()} == {"a": 3, "b": 2, "c": 2}
    for name, design in designs.items():
        np.testing.assert_array_equal(first[name]["c_rate"], design.c_rate)

    def broken(*arguments: object) -> None:
        raise AssertionError("nothing is to be run again")

    monkeypatch.setattr("couplers.residual.data._kept", broken)
    again = generate(cell, designs, tmp_path)
    for name in designs:
        xr.testing.assert_identical(first[name], again[name])
    with pytest.raises(AssertionError, match="again"):
        generate(cell, {"d": fast(4, 3, highest=1.0, duration=5)}, tmp_path)


def test_profiles_are_the_same_each_time_and_in_their_range() -> None:
    for cycle, seconds in ((profiles.us06_like, 600), (profiles.wltc_like, 1800)):
        first = cycle()
        np.testing.assert_array_equal(first, cycle())
        assert len(first) == seconds + 1
        assert first.max() == 1.0
        assert first.min() >= -0.6
        assert 0.1 < first.mean() < 0.4
    design = slow(7, 200, highest=2.0)
    spared = [(0.65, 0.85), (1.4, 1.6)]
    rates = design.c_rate[:, 0]
    assert not any(((low < rates) & (rates < high)).any() for low, high in spared)
    assert {len(d.time) for d in held_out(2.0).values()} == {601, 1801, 1351, len(design.time)}
