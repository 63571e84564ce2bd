"""Statistics against SciPy, an independent NumPy version and tables worked out by hand."""

import numpy as np
import pytest
import scipy.stats

from learned_opt_lab.evaluation import statistics

SCORES = np.random.default_rng(0).lognormal(size=(5, 8))


@pytest.mark.parametrize("shape", [(5, 8), (1, 7), (3, 3), (2, 1)])
def test_interquartile_mean_equals_scipys_trimmed_mean(shape):
    scores = np.random.default_rng(1).normal(size=shape)
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert statistics.interquartile_mean(scores) == pytest.approx(expected, rel=1e-12)


def test_scores_that_cancel_are_level_and_small_ones_are_not():
    """A reference against itself has 0, not what its terms round to."""
    assert statistics.interquartile_mean([0.1 + 0.2 - 0.3, 0.7, -0.7]) == 0
    assert statistics.interquartile_mean([1e-18, 3e-18]) == pytest.approx(2e-18)


def test_interquartile_mean_by_hand_and_along_axes():
    assert statistics.interquartile_mean([0, 1, 2, 3, 4, 5, 6, 100]) == pytest.approx(
        (2 + 3 + 4 + 5) / 4
    )
    stack = np.random.default_rng(2).normal(size=(3, 4, 5))
    along = statistics.interquartile_mean(stack, axis=(-2, -1))
    np.testing.assert_allclose(
        along, [scipy.stats.trim_mean(part, 0.25, axis=None) for part in stack]
    )


def test_bootstrap_equals_an_independent_version():
    interval = statistics.stratified_bootstrap(SCORES, num_resamples=300, seed=7)
    indices = np.random.default_rng(7).integers(8, size=(300, 5, 7))
    values = [
        scipy.stats.trim_mean(np.concatenate([SCORES[t][draw[t]] for t in range(5)]), 0.25)
        for draw in indices
    ]
    assert interval.estimate == pytest.approx(scipy.stats.trim_mean(SCORES, 0.25, axis=None))
    assert (interval.low, interval.high) == pytest.approx(
        (np.quantile(values, 0.025), np.quantile(values, 0.975))
    )


def test_bootstrap_of_the_mean_agrees_with_scipys():
    """Of many runs, where one draw more or less does not count."""
    scores = np.random.default_rng(1).lognormal(size=200)
    ours = statistics.stratified_bootstrap(scores[None], statistics.mean, num_resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="percentile", rng=0
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


@pytest.mark.parametrize("num_runs", [2, 3, 5])
def test_the_variance_of_a_resampled_mean_is_unbiased(num_runs):
    scores = np.random.default_rng(num_runs).normal(size=(1, num_runs))
    means = []
    statistics.stratified_bootstrap(
        scores,
        lambda drawn, axis: means.append(drawn.mean(axis=axis)) or drawn.mean(axis=axis),
        num_resamples=20_000,
    )
    expected = scores.var(ddof=1) / num_runs
    assert means[-1].var() == pytest.approx(expected, rel=0.05)


def test_bootstrap_never_mixes_tasks():
    """Runs of a task are all alike here, so a resample within tasks changes nothing."""
    scores = np.repeat(np.array([[1.0], [5.0], [9.0], [40.0]]), 6, axis=1)
    interval = statistics.stratified_bootstrap(scores, statistics.mean)
    assert interval == pytest.approx((13.75, 13.75, 13.75))


def test_probability_of_improvement_equals_mann_whitney():
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 6, (4, 7)), rng.integers(0, 6, (4, 9))  # integers: ties happen
    expected = np.mean(
        [scipy.stats.mannwhitneyu(b, a).statistic / (7 * 9) for a, b in zip(x, y, strict=True)]
    )
    interval = statistics.probability_of_improvement_interval(x, y, num_resamples=200)
    assert interval.estimate == pytest.approx(expected)
    assert interval.low < expected < interval.high
    assert statistics.probability_of_improvement(y, x) == pytest.approx(1 - expected)


def test_probability_of_improvement_interval_equals_a_loop():
    x, y = SCORES[:2, :3], SCORES[2:4, :3]
    interval = statistics.probability_of_improvement_interval(x, y, num_resamples=50, seed=4)
    rows = np.random.default_rng(4).integers(3, size=(50, 2, 2))
    columns = np.random.default_rng(5).integers(3, size=(50, 2, 2))
    values = [
        np.mean([a < b for t in range(2) for a in x[t][r[t]] for b in y[t][c[t]]])
        for r, c in zip(rows, columns, strict=True)
    ]
    assert interval[1:] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_performance_profile_by_hand():
    scores = [[0.0, 1.0], [2.0, 2.0]]
    np.testing.assert_array_equal(
        statistics.performance_profile(scores, [-1, 0, 1, 1.5, 2]), [0, 0.25, 0.5, 0.5, 1]
    )


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 2)), np.zeros((1, 2, 3))])
def test_shapes_that_are_no_table_are_refused(scores):
    with pytest.raises(ValueError, match="tasks, runs"):
        statistics.stratified_bootstrap(scores)
    with pytest.raises(ValueError, match="same tasks"):
        statistics.probability_of_improvement(np.zeros((2, 2)), np.zeros((3, 2)))


def test_what_cannot_be_known_is_nan():
    """One nan of many is neither cut off as an outlier nor counted as a loss.

    One run has no interval.
    """
    scores = SCORES.copy()
    scores[2, 3] = np.nan
    assert np.isnan(statistics.interquartile_mean(scores))
    assert np.isnan(statistics.stratified_bootstrap(scores)).all()
    np.testing.assert_array_equal(
        np.isnan(statistics.interquartile_mean(scores, axis=1)), [0, 0, 1, 0, 0]
    )
    assert np.isnan(statistics.probability_of_improvement(scores, SCORES))
    assert np.isnan(statistics.probability_of_improvement_interval(SCORES, scores)).all()
    assert np.isnan(statistics.performance_profile(scores, [0.0, 1.0])).all()
    one = statistics.stratified_bootstrap(SCORES[:, :1], statistics.mean)
    assert one.estimate == pytest.approx(SCORES[:, 0].mean())
    assert np.isnan([one.low, one.high]).all()
    pair = statistics.probability_of_improvement_interval(SCORES[:, :1], SCORES[:, 1:])
    assert pair.estimate == pytest.approx((SCORES[:, :1] < SCORES[:, 1:]).mean())
    assert np.isnan([pair.low, pair.high]).all()


def test_what_was_never_reached_is_infinite():
    steps = np.array([[10.0, 20.0, 30.0, 40.0, np.inf, np.inf, np.inf, np.inf]])
    interval = statistics.stratified_bootstrap(steps, statistics.interquartile_mean)
    assert interval.estimate == np.inf
    assert np.isfinite(interval.low)
    assert interval.high == np.inf
    assert statistics.interval_of([1.0, 2.0, np.inf], confidence=1.0) == (1.0, np.inf)
    assert statistics.interval_of([np.inf] * 3) == (np.inf, np.inf)
    values = np.random.default_rng(5).normal(size=99)
    assert statistics.interval_of(values) == tuple(
        np.quantile(values, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    )


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([np.nan, 3.0, 2.0, np.inf], 2),
        ([np.inf, np.nan], None),
        ([], None),
        ([1.0, 1.0], 0),
        ([-np.inf, 5.0], 1),
    ],
)
def test_lowest_is_never_what_is_unknown(values, index):
    assert statistics.lowest(values) == index
