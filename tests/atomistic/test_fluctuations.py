"""Errors of means and variances of what relaxes slowly, against series whose truth is known."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

from atomistic.observables import fluctuations
from atomistic.observables.fluctuations import fluctuation

BLOCKS, FRAMES = 16, 32


def series(rng, runs, parts, frames=BLOCKS * FRAMES):
    """Runs (run, frame) of variance one: shares of it relax so many times in a run."""
    found = np.zeros((runs, frames))
    for share, times in parts:
        kept = np.exp(-times / frames)
        step = np.sqrt(share * (1 - kept**2)) * rng.standard_normal((runs, frames))
        step[:, 0] = np.sqrt(share) * rng.standard_normal(runs)
        found += lfilter([1.0], [1.0, -kept], step)
    return found


def blocks(values):
    """Means of values and of their squares over blocks."""
    cut = values.reshape(len(values), BLOCKS, -1)
    return cut.mean(2), (cut**2).mean(2)


@pytest.mark.parametrize("runs", [1, 3])
def test_what_ways_of_relaxing_say_of_runs_is_what_their_covariance_says(runs):
    ways = fluctuations._ways(4, 5)
    mean, squared, rows = ways.over(20)
    chosen = np.flatnonzero(ways.share == 0.35)[[0, 40, -1]]
    apart = abs(np.arange(20)[:, None] - np.arange(20))
    for way in [*chosen, 7]:
        w = ways.share[way]
        one = (1 - w) * np.exp(-ways.rates[ways.fast[way]] * apart)
        one += w * np.exp(-ways.rates[ways.slow[way]] * apart)
        whole = np.kron(np.eye(runs), one)
        centred = np.eye(len(whole)) - 1 / len(whole)
        lost = mean[way] / runs
        assert lost == pytest.approx(whole.mean(), rel=1e-10)
        # the variance about the common mean: what is expected of it, and its own variance
        expected = np.trace(centred @ whole) / len(whole)
        assert 1 - lost == pytest.approx(expected, rel=1e-10)
        spread = 2 * np.trace(centred @ whole @ centred @ whole) / len(whole) ** 2
        said = 2 * (squared[way] / runs - 2 * rows[way] / runs**2 + lost**2)
        assert said == pytest.approx(spread, rel=1e-8)
        # of block means, and inside of blocks
        averaging = np.kron(np.eye(4), np.ones((1, 5)) / 5)
        covariance = averaging @ one @ averaging.T
        white = ways.whitening[way] @ covariance @ ways.whitening[way].T
        assert white == pytest.approx(np.eye(4), abs=1e-6)
        assert ways.volume[way] == pytest.approx(np.linalg.slogdet(covariance)[1], abs=1e-6)
        inner = (np.eye(5) - 0.2) @ one[:5, :5]
        assert ways.inside[way] == pytest.approx(np.trace(inner) / 5, rel=1e-8)
        shape = np.trace(inner) ** 2 / (2 * np.trace(inner @ inner))
        assert ways.shape[way] == pytest.approx(shape, rel=1e-6)


CASES = [
    (3, [(1.0, 5)]),
    (2, [(1.0, 10)]),
    (2, [(1.0, 40)]),
    (2, [(1.0, 500)]),
    (3, [(0.3, 5), (0.7, 500)]),
    (4, [(0.5, 10), (0.5, 200)]),
]


def test_errors_of_variance_and_mean_cover_what_they_should():
    rng = np.random.default_rng(3)
    rank, off, ratio = [], [], []
    for runs, parts in CASES:
        for _ in range(100):
            found = fluctuation(*blocks(series(rng, runs, parts)), frames=FRAMES)
            drawn = np.array([found.draw(rng)[0] for _ in range(150)])
            rank.append((drawn < 1.0).mean())
            off.append(abs(found.mean / found.error))
            ratio.append(found.variance)
    within = 2 * abs(np.array(rank) - 0.5), 2 * norm.cdf(off) - 1
    for values in within:
        assert 0.63 < (values < 0.6827).mean() < 0.74  # of 600, which scatter by 0.019
        assert 0.92 < (values < 0.95).mean() < 0.98
    # what runs are too short to see is put back
    assert np.median(ratio) == pytest.approx(1.0, abs=0.03)


def test_frames_that_do_not_last_have_the_errors_of_independent_ones():
    rng = np.random.default_rng(5)
    values = 7.0 + 2.0 * rng.standard_normal((4, BLOCKS * FRAMES))
    found = fluctuation(*blocks(values), frames=FRAMES)
    assert found.mean == pytest.approx(values.mean())
    assert found.variance == pytest.approx(values.var(), rel=2e-3)
    assert found.error == pytest.approx(2.0 / np.sqrt(values.size), rel=0.1)
    drawn = np.array([found.draw(rng) for _ in range(4000)])
    assert drawn[:, 0].std() == pytest.approx(4.0 * np.sqrt(2 / values.size), rel=0.1)
    assert np.sqrt(drawn[:, 1].mean()) == pytest.approx(found.error, rel=0.1)


def test_units_and_offsets_do_not_matter_and_what_stands_still_has_no_error():
    rng = np.random.default_rng(6)
    values = series(rng, 2, [(1.0, 20)])
    plain = fluctuation(*blocks(values), frames=FRAMES)
    moved = fluctuation(*blocks(1e-3 * (values + 5.0)), frames=FRAMES)
    assert moved.mean == pytest.approx(1e-3 * (plain.mean + 5.0))
    assert moved.error == pytest.approx(1e-3 * plain.error, rel=1e-3)
    assert moved.variance == pytest.approx(1e-6 * plain.variance, rel=1e-6)
    still = fluctuation(np.full((2, 8), 3.0), np.full((2, 8), 9.0), frames=4)
    assert (still.mean, still.variance) == (3.0, 0.0)
    assert np.isnan(still.error)
    assert still.draw(rng) == (0.0, 0.0)
    with pytest.raises(ValueError, match=r"1 block\(s\) were given"):
        fluctuation(np.ones((1, 1)), np.ones((1, 1)), frames=4)
