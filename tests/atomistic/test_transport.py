"""Self-diffusion, conductivity and verdicts against trajectories of known truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import constants, stats

from atomistic.observables.conductivity import conductivity
from atomistic.observables.displacements import (
    lag_grid,
    mean_squared_displacement,
    observe,
    relative_positions,
    walk,
)
from atomistic.observables.lines import curve_covariance, slope_weights
from atomistic.observables.self_diffusion import (
    SCAN_LEVEL,
    agreed,
    estimate,
    self_diffusivity,
    start_scan,
)
from atomistic.observables.shared_motion import correlations, linked, pace
from atomistic.observables.slow_relaxation import slow_excess
from atomistic.observables.transport import transport
from atomistic.schema import TRANSPORT
from tests.atomistic.synthetic import (
    ANGSTROM,
    assert_covers,
    brownian,
    caged_hopping,
    clustered,
    hopping,
    inside,
    ions_in_a_host,
    langevin,
    rattling,
)

SHAPE = (4, 600, 24)
REPEATS = 30


def paired_clusters(rng, shape):
    """Rattling ions whose hops are shared by four: the Haven ratio is 1/4."""
    replicas, frames, atoms = shape
    shared, diffusivity = hopping(rng, (replicas, frames, atoms // 4), back=1 / 6, vibration=0.0)
    return np.repeat(shared, 4, axis=2) + rattling(rng, shape, 0.3), diffusivity


SCENARIOS = {
    "brownian": lambda rng: (brownian(rng, SHAPE), 0.1, 1.0),
    "clustered": lambda rng: (clustered(rng, SHAPE), 0.1, 1 / 2.5),
    "langevin": lambda rng: (langevin(rng, SHAPE), 0.1, 1.0),
    "hopping": lambda rng: (*hopping(rng, SHAPE), 1.0),
    "caged": lambda rng: (*caged_hopping(rng, SHAPE, cage=0.25), 1.0),
    "shared": lambda rng: (*paired_clusters(rng, SHAPE), 1 / 4),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_posteriors_cover_the_truth_without_bias(name):
    rng = np.random.default_rng(7)
    errors, hits_68, hits_95 = (
        {"D": [], "sigma": []},
        {"D": [], "sigma": []},
        {"D": [], "sigma": []},
    )
    for repeat in range(REPEATS):
        position, diffusivity, haven = SCENARIOS[name](rng)
        diffusivity *= 1e-8
        number = SHAPE[2] / (20 * ANGSTROM) ** 3
        ideal = constants.e**2 * number * diffusivity / (constants.k * 800.0)
        found = transport(
            ions_in_a_host(position), charges={"Li": 1, "Cl": -1}, mobile="Li", seed=repeat
        )
        if not found["diffusive"].sel(species="Li").item():
            continue  # a refusal is no claim; how often it may refuse is asserted below
        for key, value, truth in (
            ("D", found["self_diffusivity_draw"].sel(species="Li"), diffusivity),
            ("sigma", found["conductivity_draw"], ideal / haven),
        ):
            within_68, within_95 = inside(value.values.ravel(), truth)
            hits_68[key].append(within_68)
            hits_95[key].append(within_95)
            errors[key].append(np.median(value) / truth - 1)
    assert len(errors["D"]) >= 0.85 * REPEATS
    for key in errors:
        assert_covers(hits_95[key], 0.95, above=0.0)
        assert_covers(hits_68[key], 0.68)
        spread = np.std(errors[key]) / np.sqrt(len(errors[key]))
        assert abs(np.mean(errors[key])) <= 3.5 * spread + 0.03, name


def test_a_run_too_short_to_see_jumps_back_still_covers():
    """Three hops an ion: a straight line is a quarter too steep and sees no bend."""
    rng = np.random.default_rng(11)
    hits, off = [], []
    for repeat in range(24):
        position, diffusivity = hopping(rng, SHAPE, rate=0.2, back=0.3, jump=3.0, vibration=0.4)
        found = estimate(
            walk(observe(ions_in_a_host(position), host=["Cl"]), 0, "Li"),
            rng=np.random.default_rng(repeat),
        )
        if found.diffusive:
            hits.append(inside(found.draws, diffusivity * 1e-8))
            off.append(found.value / (diffusivity * 1e-8) - 1)
    assert len(hits) >= 20
    assert_covers(np.array(hits)[:, 1], 0.95, above=0.0)
    assert np.mean(off) < 0.25


def test_evidence_for_a_late_start_grows_with_its_cost():
    lags = 2.0 ** np.arange(16)
    chance = 2 * stats.t.sf(agreed(31.0, lags), 31.0)
    np.testing.assert_allclose(chance * lags[1:] / lags[0], SCAN_LEVEL / 2, rtol=1e-6)
    assert chance.sum() < SCAN_LEVEL


@pytest.mark.parametrize(("departs", "moves"), [(-1, False), (4, True)])
def test_a_departure_far_away_is_not_the_evidence_that_one_nearby_is(departs, moves):
    """4.3 standard errors off: in the latest slope alone, or in all from five lags on."""
    frames, particles = 2000, 32
    lags = lag_grid(frames).astype(float)
    candidates = lags[lags <= 0.3 * frames]
    weights = np.zeros((len(candidates), len(lags)))
    for index, lag in enumerate(candidates):
        weights[index, lags >= lag] = slope_weights(lags[lags >= lag])
    walkers = curve_covariance(lags, lags, particles=particles, duration=frames)
    noise = weights @ walkers @ weights.T
    own = np.random.default_rng(3).standard_normal((len(candidates), particles))
    scan = np.linalg.cholesky(particles * noise) @ (own - own.mean(1, keepdims=True))
    scan *= 0.9 / scan.std(1, keepdims=True) * np.sqrt(particles * np.diag(noise))[:, None]
    spread = np.sqrt(np.diag(noise) + noise[0, 0] - 2 * noise[0])
    shift = np.zeros(len(candidates))
    shift[departs:] = 4.3 * spread[departs:]
    scan = (1.0 + scan + shift[:, None])[:, None]
    taken = start_scan(scan, candidates, np.ones(len(candidates)), noise)
    assert (candidates[taken] > 2 * candidates[0]) == moves


def test_slow_relaxation_is_told_from_diffusion():
    lag = np.geomspace(1.0, 60.0, 40) * 1e-12
    relaxing = 6e-20 * (1 - np.exp(-lag / 12e-12))
    curve = 6 * 1e-9 * lag + 2e-20 + relaxing
    rng = np.random.default_rng(0)
    excess = slow_excess(curve, lag, np.full(2000, (6 * 1e-11) ** 2), rng)
    line = slope_weights(lag) @ curve
    assert np.median(line - excess) / 6 == pytest.approx(1e-9, rel=0.1)
    assert line / 6 > 1.2e-9
    straight = slow_excess(curve - relaxing, lag, np.full(2000, (6 * 1e-11) ** 2), rng)
    assert np.median(straight) == 0.0


def test_mean_squared_displacement_is_that_of_all_origins():
    position = np.random.default_rng(0).standard_normal((2, 40, 3, 3)).cumsum(1)
    lags = np.array([1, 7, 30])
    found = mean_squared_displacement(position, lags)
    for index, lag in enumerate(lags):
        squares = [
            ((position[1, origin + lag, 2] - position[1, origin, 2]) ** 2).sum()
            for origin in range(40 - lag)
        ]
        assert found[1, 2, index] == pytest.approx(np.mean(squares), rel=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_thinned_origins_and_products_give_exact_displacements(kind):
    position = np.random.default_rng(1).standard_normal((2, 1500, 3, 3)).cumsum(1).astype(kind)
    drift = np.random.default_rng(2).standard_normal((2, 1500, 3)).cumsum(1)
    lags = lag_grid(1500)
    assert 40 <= len(lags) <= 48
    assert lags[-1] == pytest.approx(0.7 * 1500, rel=0.01)
    found = mean_squared_displacement(position, lags, drift=drift)
    still = position - drift[:, :, None]
    for index, lag in enumerate(lags):
        stride = 1 if lag < 16 else 2 if lag < 32 else 4
        assert lag % stride == 0
        origin = np.arange(0, 1500 - lag, stride)
        expected = np.square(still[:, origin + lag] - still[:, origin]).sum(-1).mean(1)
        np.testing.assert_allclose(
            found[..., index], expected, rtol=1e-4 if kind is np.float32 else 1e-10
        )


def test_slope_weights_are_exact_for_a_line_and_equal_dense_least_squares():
    lags = np.array([3.0, 4, 6, 9, 13, 21, 40])
    weights = slope_weights(lags)
    assert weights @ (2.5 * lags + 7.0) == pytest.approx(2.5, rel=1e-12)
    covariance = np.minimum.outer(lags, lags) ** 2 * np.maximum.outer(lags, lags)
    precision = np.linalg.inv(covariance)
    design = np.column_stack([lags, np.ones_like(lags)])
    dense = np.linalg.solve(design.T @ precision @ design, design.T @ precision)[0]
    np.testing.assert_allclose(weights, dense, rtol=1e-8)


def shared_displacements(position):
    replicas, _, atoms, _ = position.shape
    return linked(*correlations(position, 32), atoms=atoms, replicas=replicas)


def test_correlations_count_what_displacements_share():
    rng = np.random.default_rng(8)
    alone = brownian(rng, (10, 400, 12))
    independent, significance = shared_displacements(alone)
    assert independent == pytest.approx(1.0, abs=0.05)
    assert significance < 3
    in_fours, significance = shared_displacements(np.repeat(alone[:, :, :3], 4, axis=2))
    assert in_fours == pytest.approx(4.0, abs=0.2)
    assert significance > 100
    sixes, _ = shared_displacements(clustered(rng, (10, 400, 12)))
    assert sixes == pytest.approx(1 + 5 * 0.3**2, abs=0.06)  # squares correlate as rho squared


def test_what_makes_all_particles_faster_for_a_while_widens_the_error():
    """A shared pace is in no linear correlation, but in squares over origins."""
    rng = np.random.default_rng(12)
    steps = rng.standard_normal((60, 800, 20, 3))
    speed = np.ones((60, 800))
    for frame in range(1, 800):  # relaxes over 20 frames
        speed[:, frame] = 1 + 0.95 * (speed[:, frame - 1] - 1) + 0.1 * rng.standard_normal(60)
    alone = np.cumsum(steps, axis=1)
    shared = np.cumsum(steps * np.sqrt(np.maximum(speed, 0.0))[:, :, None, None], axis=1)
    assert shared_displacements(shared)[0] < 1.2
    assert np.median(pace(alone, 10, rng=rng)) == pytest.approx(1.0, abs=0.1)
    found = np.median(pace(shared, 10, rng=rng))
    lags = np.array([10, 12, 15, 19, 24, 30, 40, 60])
    slope = mean_squared_displacement(shared, lags) @ slope_weights(lags.astype(float))
    scatter = slope.mean(1).var(ddof=1) / (slope.var(1, ddof=1).mean() / 20)
    assert found == pytest.approx(scatter, rel=0.4)  # what the replicas really scatter by
    assert scatter > 4


def test_particles_that_interact_are_taken_to_share_a_pace_where_a_run_is_too_short_to_say():
    rng = np.random.default_rng(21)
    short = [brownian(rng, (1, 100, 30)) for _ in range(12)]
    alone, together = (
        np.mean([pace(one, 10, significance=sure, draws=1000, rng=rng) == 1.0 for one in short])
        for sure in (0.0, 6.0)
    )
    assert alone > 0.6
    assert together < 0.3
    # but what a long run would have shown is not assumed
    long = brownian(rng, (1, 3000, 30))
    assert np.quantile(pace(long, 10, significance=6.0, draws=1000, rng=rng), 0.6) < 1.3


@pytest.mark.parametrize("together", [1, 2])
def test_a_single_replica_covers_too(together):
    """No scatter between replicas comes to the rescue of the error within one."""
    rng = np.random.default_rng(9)
    hits = []
    for repeat in range(60):
        free = brownian(rng, (1, 500, 24 // together), diffusivity=0.4)
        ions = np.repeat(free, together, axis=2)
        seen = observe(ions_in_a_host(ions), host=["Cl"])
        found = estimate(walk(seen, 0, "Li"), rng=np.random.default_rng(repeat))
        if found.diffusive:
            hits.append(inside(found.draws, 0.4e-8))
    assert len(hits) >= 55
    within_68, within_95 = np.transpose(hits)
    assert_covers(within_95, 0.95, above=0.0)
    assert_covers(within_68, 0.68)


def test_collective_error_follows_the_number_of_independent_displacements():
    rng = np.random.default_rng(10)
    data = ions_in_a_host(hopping(rng, (4, 600, 24))[0])
    found = transport(data, charges={"Li": 1, "Cl": -1}, mobile="Li", draws=4000)
    freedom = found["freedom"].item()
    start = found["start_lag"].sel(species="Li").item()
    assert freedom == pytest.approx(3 * 4 * 599 * 25e-15 / (1.5 * start), rel=0.15)
    ratio = 1 / found["haven_ratio_draw"].values
    assert ratio.std() / ratio.mean() == pytest.approx(np.sqrt(2 / freedom), rel=0.15)
    relative = found["conductivity_std"].item() / found["conductivity"].item()
    assert relative > np.sqrt(2 / freedom)


def test_conductivity_of_a_shared_motion_shows_its_haven_ratio():
    rng = np.random.default_rng(3)
    found = conductivity(
        ions_in_a_host(clustered(rng, (8, 1000, 24))), charges={"Li": 1, "Cl": -1}, mobile="Li"
    )
    assert abs(found["haven_ratio"].item() - 0.4) < 3.5 * found["haven_ratio_std"].item() < 0.3
    assert found.attrs["frame"] == "lab"


def test_any_rigid_drift_of_everything_leaves_the_answer_unchanged():
    rng = np.random.default_rng(1)
    still = ions_in_a_host(hopping(rng, (4, 300, 12))[0])
    still["position"] = still["position"].astype(float)
    drift = np.cumsum(rng.standard_normal((4, 300, 1, 3)), axis=1) * ANGSTROM
    moved = still.copy()
    everything = xr.DataArray(drift[:, :, 0], dims=("replica", "frame", "xyz"))
    moved["position"] = (still["position"] + everything).transpose(*still["position"].dims)
    np.testing.assert_allclose(
        relative_positions(moved, 0, host=["Cl"]), relative_positions(still, 0, host=["Cl"]),
        atol=1e-6 * ANGSTROM,
    )  # fmt: skip
    one, other = (
        transport(data, charges={"Li": 1, "Cl": -1}, mobile="Li") for data in (still, moved)
    )
    np.testing.assert_allclose(one["conductivity_draw"], other["conductivity_draw"], rtol=1e-6)


def test_a_solid_that_only_rattles_is_refused_with_a_sentence():
    rng = np.random.default_rng(2)
    found = self_diffusivity(ions_in_a_host(rattling(rng, (4, 600, 12), 0.5, memory=40.0)))
    assert not found["diffusive"].any()
    assert np.isnan(found["self_diffusivity"]).all()
    assert all("too few hops" in said and "longer" in said for said in found["verdict"].values.flat)


@pytest.mark.parametrize("memory", [60.0, 120.0, 200.0])
def test_a_cage_that_relaxes_over_much_of_the_run_is_refused(memory):
    rng = np.random.default_rng(4)
    slow = rattling(rng, (4, 600, 24), 3.0, memory=memory)
    found = estimate(walk(observe(ions_in_a_host(slow)), 0, "Li"))
    assert not found.diffusive
    assert found.verdict.startswith("not diffusive yet")
    assert "at least 3 times longer" in found.verdict


def test_a_melt_that_freezes_half_way_is_drifting():
    rng = np.random.default_rng(5)
    position = brownian(rng, (4, 800, 24), diffusivity=0.4)
    position[:, 400:] = position[:, 399:400] + brownian(rng, (4, 400, 24), diffusivity=0.1)
    found = estimate(walk(observe(ions_in_a_host(position)), 0, "Li"))
    assert found.verdict.startswith("drifting")


def test_transport_satisfies_its_schema_and_mixes_the_members():
    rng = np.random.default_rng(6)
    slow = brownian(rng, (4, 400, 12), diffusivity=0.4)
    fast = brownian(rng, (4, 400, 12), diffusivity=0.8)
    data = ions_in_a_host(np.concatenate([slow, fast]))
    data["potential_name"] = ("replica", ["a"] * 4 + ["b"] * 4)
    before = data.copy(deep=True)
    found = transport(data, charges={"Li": 1, "Cl": -1}, mobile="Li", draws=101)
    xr.testing.assert_identical(data, before)
    for name, rule in TRANSPORT["variables"].items():
        if rule.get("optional"):
            continue
        assert found[name].dims == rule["dims"], name
        if rule["units"]:
            assert found[name].attrs["units"] == rule["units"], name
        if rule.get("estimate"):
            assert found[f"{name}_std"].dims == rule["dims"]
            assert found[f"{name}_draw"].dims == (*rule["dims"], "draw")
    for key, allowed in TRANSPORT["attrs"].items():
        assert found.attrs[key] in allowed
    lithium = found["self_diffusivity_draw"].sel(species="Li").isel(condition=0)
    of_member = lithium.groupby("member").median()
    assert of_member.sel(member="a").item() == pytest.approx(0.4e-8, rel=0.15)
    assert of_member.sel(member="b").item() == pytest.approx(0.8e-8, rel=0.15)
    mixture = found["self_diffusivity_std"].sel(species="Li").item()
    assert mixture == pytest.approx(0.2e-8, rel=0.3)  # half the difference of the members


@pytest.mark.parametrize(
    ("change", "charges", "mobile", "said"),
    [
        (lambda d: d, {"Li": 1}, "Li", "no charge is given for Cl"),
        (lambda d: d, {"Li": 1, "Cl": -2}, "Li", "neutral"),
        (lambda d: d, {"Li": 1, "Cl": -1}, "Na", "'Na' is not in it"),
        (lambda d: d.isel(frame=slice(0, 1)), {"Li": 1, "Cl": -1}, "Li", "1 frames"),
        (lambda d: d.drop_vars("cell"), {"Li": 1, "Cl": -1}, "Li", "'cell' is missing"),
        (lambda d: d.assign(position=d["position"] * np.nan), {"Li": 1, "Cl": -1}, "Li", "finite"),
        (lambda d: d.assign(time=d["time"] ** 2), {"Li": 1, "Cl": -1}, "Li", "equally spaced"),
        (
            lambda d: d.assign(position=d["position"] % (20 * ANGSTROM)),
            {"Li": 1, "Cl": -1},
            "Li",
            "unwrap",
        ),
    ],
)
def test_bad_input_gets_one_sentence(change, charges, mobile, said):
    data = ions_in_a_host(brownian(np.random.default_rng(0), (1, 100, 4), diffusivity=1.0))
    with pytest.raises(ValueError, match=said):
        transport(change(data), charges=charges, mobile=mobile)
