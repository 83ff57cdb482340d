"""Streaming observers: exact lags, exact unwrapping, checkpoints, and the same answer."""

from __future__ import annotations

import ase
import ase.io
import numpy as np
import pytest
import torch
import xarray as xr

from atomistic.observables import correlators
from atomistic.observables.displacements import observe
from atomistic.observables.transport import transport
from atomistic.trajectories import observe_files
from tests.atomistic.synthetic import ANGSTROM, brownian, hopping, trajectory

SYMBOLS = ["Li"] * 5 + ["Cl"] * 5
SKEW = np.array([[9.0, 0.0, 0.0], [3.0, 8.0, 0.0], [-2.0, 2.5, 10.0]])


def walkers(frames, *, replicas=2, seed=0, mobile=5):
    rng = np.random.default_rng(seed)
    lithium = brownian(rng, (replicas, frames, mobile), diffusivity=0.4) + rng.random(
        (replicas, 1, mobile, 3)
    )
    return np.concatenate([lithium, np.zeros_like(lithium) + 0.5], axis=2)


def stream(position, cells, state=None, **options):
    """Push wrapped frames (replica, frame, atom, xyz) through an observer."""
    if state is None:
        state = correlators.start(SYMBOLS, systems=position.shape[0], **options)
    for frame in range(position.shape[1]):
        cell = cells[frame] if cells.ndim == 3 else cells
        wrapped = (position[:, frame] @ np.linalg.inv(cell) % 1.0) @ cell
        correlators.push(
            state,
            torch.as_tensor(wrapped),
            torch.as_tensor(np.broadcast_to(cell, (len(position), 3, 3)).copy()),
        )
    return state


@pytest.mark.parametrize("cell", [np.eye(3) * 10.0, SKEW], ids=["cubic", "skew"])
def test_lags_equal_the_stored_trajectory_from_wrapped_frames(cell):
    position = walkers(300)
    state = stream(position, cell, host=["Cl"], slots=4, levels=4)
    lag, level, slot = correlators.lags(state)
    assert lag.tolist() == [1, 2, 3, 4, 8, 12, 16, 32, 48, 64, 128, 192, 256]
    mean = state.square[level, slot].numpy() / state.count[level, slot].numpy()[:, None, None]
    for index, step in enumerate(lag):
        stride = 4 ** level[index]
        origins = np.arange(0, 300 - step, stride)
        expected = ((position[:, origins + step] - position[:, origins]) ** 2).sum(-1).mean(1)
        np.testing.assert_allclose(mean[index], expected, rtol=1e-9, atol=1e-12)


def test_breathing_cell_adds_no_displacement_and_loses_none():
    rng = np.random.default_rng(1)
    scale = 1 + 0.05 * np.cumsum(rng.standard_normal(400)) / 20
    cells = SKEW * scale[:, None, None]
    fractional = np.zeros((1, 400, 10, 3)) + rng.random((10, 3))
    resting = np.einsum("rfax,fxy->rfay", fractional, cells)
    state = stream(resting, cells)
    assert float(state.square.max()) < 1e-20
    jump = 0.3 * SKEW[0] / np.linalg.norm(SKEW[0])
    fractional[:, :, 0] += np.arange(400)[:, None] * jump @ np.linalg.inv(SKEW)
    state = stream(np.einsum("rfax,fxy->rfay", fractional, cells), cells, host=["Cl"])
    middle = (scale[1:] + scale[:-1]) / 2
    np.testing.assert_allclose(state.position[0, 0], jump * middle.sum(), rtol=1e-10, atol=1e-10)


def test_checkpoint_continues_to_the_bit(tmp_path):
    position = walkers(240, seed=2)
    whole = stream(position, SKEW, host=["Cl"], slots=4, levels=3, track=16)
    part = stream(position[:, :101], SKEW, host=["Cl"], slots=4, levels=3, track=16)
    torch.save(correlators.checkpoint(part), tmp_path / "observer.pt")
    again = correlators.restart(torch.load(tmp_path / "observer.pt"))
    again = stream(position[:, 101:], SKEW, state=again)
    for name, value in correlators.checkpoint(whole).items():
        other = correlators.checkpoint(again)[name]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
    with pytest.raises(ValueError, match="the checkpoint holds"):
        correlators.restart({"frames": 3})


def test_track_is_thinned_evenly_and_memory_stays():
    position = walkers(1000, seed=3)
    state = stream(position, SKEW, host=["Cl"], track=64, slots=8, levels=3)
    size = sum(value.nelement() for value in (state.buffer, state.square, state.track))
    seen = correlators.observed(state, interval=1e-15, temperatures=[500.0], potential_name="toy")
    assert state.stride == 16
    assert seen.sizes["frame"] == 63
    expected = (position - position[:, :1])[:, ::16] * ANGSTROM
    np.testing.assert_allclose(seen["track"].values[0], expected, rtol=1e-5, atol=1e-15)
    stream(position, SKEW, state=state)
    assert size == sum(value.nelement() for value in (state.buffer, state.square, state.track))


def test_collective_displacement_is_whole_across_chunks(monkeypatch):
    monkeypatch.setattr(correlators, "CHUNK", 32)
    position = walkers(150, seed=4)
    state = stream(position, SKEW, host=["Cl"])
    found = correlators.collective_displacement(state)
    expected = (position - position[:, :1])[:, :, :5].sum(2)
    np.testing.assert_allclose(found[:, :, 0], expected, atol=1e-9)
    assert found.shape == (2, 150, 2, 3)


def test_transport_agrees_between_stream_and_store():
    rng = np.random.default_rng(5)
    lithium, _ = hopping(rng, (4, 800, 12))
    position = np.concatenate([lithium, np.zeros_like(lithium)], axis=2)
    data = trajectory([position], symbols=["Li"] * 12 + ["Cl"] * 12, temperatures=[800.0])
    state = correlators.start(["Li"] * 12 + ["Cl"] * 12, systems=4, host=["Cl"])
    cell = torch.eye(3, dtype=torch.float64).expand(4, 3, 3) * 20.0
    for frame in range(800):
        correlators.push(state, torch.as_tensor(position[:, frame]), cell)
    streamed = correlators.observed(
        state, interval=25e-15, temperatures=[800.0], potential_name="toy"
    )
    one, other = (
        transport(seen, charges={"Li": 1, "Cl": -1}, mobile="Li") for seen in (data, streamed)
    )
    for name in ("self_diffusivity", "conductivity"):
        first, second = (found[name].values.ravel()[0] for found in (one, other))
        error = one[f"{name}_std"].values.ravel()[0]
        assert abs(first - second) < error, name  # the same data, other lags and origins
    assert streamed["non_gaussian"].sel(species="Li").values[0, -1] == pytest.approx(0, abs=0.8)


def test_files_go_through_the_same_door(tmp_path):
    position = walkers(120, seed=6)
    paths = []
    for replica in range(2):
        path = tmp_path / f"{replica}.extxyz"
        frames = [ase.Atoms(SYMBOLS, each, cell=SKEW, pbc=True) for each in position[replica]]
        for atoms in frames:
            atoms.wrap()
        ase.io.write(path, frames)
        paths.append(path)
    seen = observe_files(paths, interval=25.0, temperature=700.0, host=["Cl"])
    stored = observe(trajectory([position], symbols=SYMBOLS, temperatures=[700.0]), host=["Cl"])
    assert set(stored.data_vars) <= set(seen.data_vars)
    first = seen["mean_squared_displacement"].isel(lag=0)
    np.testing.assert_allclose(
        first, stored["mean_squared_displacement"].isel(lag=0), rtol=1e-3, atol=1e-26
    )
    xr.testing.assert_allclose(seen["temperature"], stored["temperature"])


def test_bad_input_gets_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="slots is 1.*host 'Na'"):
        correlators.start(SYMBOLS, slots=1, host=["Na"])
    state = correlators.start(SYMBOLS)
    with pytest.raises(ValueError, match="were pushed, expected"):
        correlators.push(state, torch.zeros(1, 3, 3), torch.eye(3)[None])
    with pytest.raises(ValueError, match="0 frame"):
        correlators.observed(state, interval=1e-15, temperatures=[1.0], potential_name="toy")
    ase.io.write(tmp_path / "a.xyz", [ase.Atoms("Li", [[0, 0, 0]])] * 3)
    with pytest.raises(ValueError, match="has no cell"):
        observe_files([tmp_path / "a.xyz"], interval=1.0, temperature=300.0)
