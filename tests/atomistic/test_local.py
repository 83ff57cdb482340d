"""Diffusion by direction and by place, against walkers whose tensor and profile are known."""

from __future__ import annotations

import numpy as np
import pytest

from atomistic.observables.local import diffusion_tensor, survival, wall_diffusivity
from tests.atomistic.synthetic import brownian, ions_in_a_host, rattling, trajectory


def layered(rng, shape=(4, 600, 24)):
    """0.4 Å2/ps along x, 0.1 along y, rattling only along z."""
    position = brownian(rng, shape, diffusivity=1.0) * np.sqrt([0.4, 0.1, 0.0])
    return position + rattling(rng, shape, 0.3)


def test_a_layered_crystal_diffuses_in_its_layers_only():
    rng = np.random.default_rng(3)
    hits = []
    for repeat in range(10):
        found = diffusion_tensor(
            ions_in_a_host(layered(rng)), chosen=["Li"], host=["Cl"], seed=repeat, draws=1000
        )
        assert found["diffusive"].values.ravel().tolist() == [True, True, False]
        assert "Li along z" in found["verdict"].values.ravel()[2]
        for axis, truth in enumerate((0.4e-8, 0.1e-8)):
            low, high = np.percentile(found["self_diffusivity_draw"][0, 0, axis], [2.5, 97.5])
            hits.append(low <= truth <= high)
            error = found["self_diffusivity_std"].values[0, 0, axis]
            assert error < 0.35 * truth
    assert sum(hits) >= 17


def test_the_tensor_turns_with_its_axes():
    rng = np.random.default_rng(1)
    position = layered(rng)
    angle = 0.6
    turn = np.array(
        [[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    straight = diffusion_tensor(ions_in_a_host(position), chosen=["Li"], host=["Cl"])
    turned = diffusion_tensor(
        ions_in_a_host(position @ turn), chosen=["Li"], host=["Cl"], axes=turn
    )
    np.testing.assert_allclose(straight["self_diffusivity"], turned["self_diffusivity"], rtol=1e-4)
    with pytest.raises(ValueError, match="three orthonormal rows"):
        diffusion_tensor(ions_in_a_host(position), axes=2 * np.eye(3))


def test_survival_is_that_of_walkers_between_absorbing_faces():
    rng = np.random.default_rng(2)
    place = rng.random(20_000)
    for _ in range(1000):
        place = place + np.sqrt(2 * 1e-4) * rng.standard_normal(len(place))
        place = place[(place > 0) & (place < 1)]
    seen = 1 + 2 * 0.5826 * np.sqrt(2 * 1e-4)
    expected = survival(np.array(0.1 / seen**2), share=1 / seen)
    assert len(place) / 20_000 == pytest.approx(float(expected), rel=0.03)
    short = np.array(1e-4)
    assert float(survival(short)) == pytest.approx(1 - 4 * np.sqrt(1e-4 / np.pi), rel=1e-3)


def slit(rng, *, height=20.0, along=0.5, gradient=0.06, across=0.3, interval=0.025):
    """Walkers between two hard walls; faster along the wall the higher they are (Å, ps)."""
    replicas, frames, atoms = 6, 1600, 60
    z = height * rng.random((replicas, atoms))
    plane = np.zeros((replicas, atoms, 2))
    out = np.empty((replicas, frames, atoms, 3))
    for frame in range(frames):
        pace = along * (1 + gradient * z)
        plane += np.sqrt(2 * pace * interval)[..., None] * rng.standard_normal(plane.shape)
        z = z + np.sqrt(2 * across * interval) * rng.standard_normal(z.shape)
        z = np.abs(z)
        z = height - np.abs(height - z)
        out[:, frame, :, :2], out[:, frame, :, 2] = plane, z
    return out


def test_diffusivity_varies_with_the_distance_from_the_wall():
    rng = np.random.default_rng(3)
    data = trajectory([slit(rng)], symbols=["Li"] * 60, temperatures=[800.0], length=200.0)
    edges = np.linspace(2.0, 18.0, 5) * 1e-10
    found = wall_diffusivity(data, species_name="Li", edges=edges, lag=4e-12)
    z = found["z"].values * 1e10
    assert z.tolist() == pytest.approx([4, 8, 12, 16])
    expected = 0.5 * (1 + 0.06 * z) * 1e-8
    for name, truth in (
        ("parallel_diffusivity", expected),
        ("perpendicular_diffusivity", np.full(4, 0.3e-8)),
    ):
        error = found[f"{name}_std"].values
        assert (error < 0.12 * truth).all()
        assert (abs(found[name].values - truth) < 3.5 * error).all(), name
    # seen eight times less often, a quarter more would seem to stay were the faces not moved
    rare = trajectory(
        [slit(np.random.default_rng(8))[:, ::8]], symbols=["Li"] * 60, temperatures=[800.0],
        length=200.0, interval=200.0,
    )  # fmt: skip
    again = wall_diffusivity(rare, species_name="Li", edges=edges, lag=4e-12)
    assert again["perpendicular_diffusivity"].mean() == pytest.approx(0.3e-8, rel=0.08)
    slope = np.polyfit(z, found["parallel_diffusivity"], 1)[0]
    assert slope == pytest.approx(0.5e-8 * 0.06, rel=0.35)


def test_bad_input_gets_one_sentence():
    data = trajectory(
        [slit(np.random.default_rng(4))[:1, :200]], symbols=["Li"] * 60, temperatures=[1.0],
        length=200.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"do not increase.*axis is 3.*at least 4.*"):
        wall_diffusivity(data, species_name="Li", edges=np.array([1.0, 0.0]), lag=1e-14, axis=3)
    with pytest.raises(ValueError, match="longer than one of 8 blocks"):
        wall_diffusivity(data, species_name="Li", edges=np.array([0, 1e-9]), lag=2e-12)
    with pytest.raises(ValueError, match="'Na' is not in it"):
        wall_diffusivity(data, species_name="Na", edges=np.array([0, 1e-9]), lag=2e-13)
