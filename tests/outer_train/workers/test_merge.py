"""The merge over a batch of gradients is the merge over all their samples in one place."""

import numpy as np
import pytest

from outer_train.workers.merge import merge, pool
from tests.outer_train.workers.test_messages import gradient

SIZES = (4, 2, 10)


def sent(samples, family=0):
    """`samples` `[parts, particles, size]` as one worker would send them."""
    return gradient(
        num_samples=samples.shape[1],
        family=family,
        means=samples.mean(axis=1),
        variances=samples.var(axis=1, ddof=1),
    )


@pytest.fixture
def samples():
    rng = np.random.default_rng(1)
    return [rng.normal([[[1.0]], [[3.0]]], [[[1.0]], [[4.0]]], size=(2, n, 6)) for n in SIZES]


def test_pooled_moments_are_those_of_all_samples(samples):
    together = np.concatenate(samples, axis=1)
    pooled = pool([sent(s) for s in samples])
    np.testing.assert_allclose(pooled.means, together.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(pooled.variances, together.var(axis=1, ddof=1), rtol=1e-12)


def test_a_scalar_variance_is_the_mean_over_theta(samples):
    together = np.concatenate([s[:1] for s in samples], axis=1)
    scalars = [
        sent(s[:1])._replace(variances=s[:1].var(axis=1, ddof=1).mean(keepdims=True))
        for s in samples
    ]
    merged = merge(scalars)
    np.testing.assert_allclose(merged.grad, together[0].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.variances, together[0].var(axis=0, ddof=1).mean(), rtol=1e-12)


@pytest.mark.parametrize("weighting", ["elementwise", "global"])
def test_parts_weigh_by_inverse_variance(samples, weighting):
    together = np.concatenate(samples, axis=1)
    mean, inverse = together.mean(axis=1), 1 / together.var(axis=1, ddof=1)
    if weighting == "global":
        inverse = 1 / together.var(axis=1, ddof=1).sum(axis=1, keepdims=True)
    merged = merge([sent(s) for s in samples], weighting)
    np.testing.assert_allclose(
        merged.grad, (mean * inverse).sum(axis=0) / inverse.sum(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(merged.shares.sum(), 1, rtol=1e-6)


def test_a_part_with_a_sample_left_out_weighs_nothing(samples):
    spoilt = [sent(s) for s in samples]
    variances = spoilt[0].variances.copy()
    variances[0, 2] = np.inf
    spoilt[0] = spoilt[0]._replace(variances=variances)
    merged = merge(spoilt)
    np.testing.assert_allclose(
        merged.grad[2], np.concatenate(samples, axis=1)[1, :, 2].mean(), rtol=1e-5
    )
    assert np.isfinite(merged.grad).all()


def test_families_count_alike_however_many_gradients_they_sent(samples):
    quiet, loud = sent(samples[0]), sent(samples[1], family=1)
    both = merge([quiet, quiet, quiet, loud])
    alone = [merge([quiet, quiet, quiet]).grad, merge([loud]).grad]
    np.testing.assert_allclose(both.grad, np.mean(alone, axis=0), rtol=1e-6)


def test_one_sample_each_has_a_variance_together():
    """A gradient of one pair says nan for its variance; of several such the spread is known."""
    rng = np.random.default_rng(4)
    alone = [
        gradient(
            num_samples=1, num_non_finite=0, means=row[None], variances=np.full((1, 1), np.nan)
        )
        for row in rng.normal(size=(5, 3))
    ]
    means = np.concatenate([g.means for g in alone])
    merged = merge(alone)
    np.testing.assert_allclose(merged.grad, means.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.variances, means.var(axis=0, ddof=1).mean(), rtol=1e-12)
    assert np.isnan(merge(alone[:1]).variances).all()


def test_a_gradient_without_a_finite_sample_does_not_dilute_the_others(samples):
    nothing = {"num_non_finite": 4, "num_samples": 4, "loss": float("nan")}
    good = sent(samples[0])
    bad = gradient(**nothing, means=np.zeros((2, 6)), variances=np.full((2, 6), np.nan))
    pooled = pool([good, bad])
    np.testing.assert_array_equal(pooled.means, good.means)
    assert np.isposinf(pooled.variances).all()
    np.testing.assert_array_equal(pooled.counts, 4)
    assert merge([good, bad]).known
    # A single part sends one variance for all of theta.
    single = gradient(
        num_samples=4, num_non_finite=0, means=good.means[:1], variances=np.ones((1, 1))
    )
    empty = gradient(**nothing, means=np.zeros((1, 6)), variances=np.full((1, 1), np.nan))
    np.testing.assert_array_equal(merge([single, empty]).grad, single.means[0])
    # No family of which nothing is known counts, and nothing is known of a batch without any.
    np.testing.assert_array_equal(merge([single, empty._replace(family=1)]).grad, single.means[0])
    for batch in ([empty], [bad, bad], [empty, empty._replace(family=1)]):
        merged = merge(batch)
        assert not merged.known
        np.testing.assert_array_equal(merged.grad, 0.0)
        assert np.isnan(merged.variances).all()


def test_a_part_without_a_sample_weighs_nothing_even_where_the_other_lost_some(samples):
    means, variances = samples[0].mean(axis=1), samples[0].var(axis=1, ddof=1)
    means[0, 1], variances[0, 1], variances[1, 1] = 0, np.nan, np.inf
    merged = merge([gradient(num_samples=4, means=means, variances=variances)])
    np.testing.assert_allclose(merged.grad[1], means[1, 1], rtol=1e-6)


def test_variances_beyond_float32_still_weigh(samples):
    means = np.stack([samples[0][0].mean(axis=0), samples[0][1].mean(axis=0)])
    variances = np.stack([np.full(6, 1e50), np.full(6, 3e50)])
    np.testing.assert_allclose(
        merge([gradient(num_samples=4, means=means, variances=variances)]).shares,
        [0.75, 0.25],
        rtol=1e-5,
    )
