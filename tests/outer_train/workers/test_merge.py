"""The merge over a batch of gradients is the merge over all their samples in one place."""

import numpy as np
import pytest

from outer_train.workers.merge import merge, pool
from tests.outer_train.workers.test_messages import gradient

SIZES = (4, 2, 10)


def sent(samples, family=0):
    """`samples` `[parts, particles, size]` as one worker would send them."""
    return gradient(
        num_samples=samples.shape[1], family=family, means=samples.mean(axis=1), variances=samples.var(axis=1, ddof=1)
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
    scalars = [sent(s[:1])._replace(variances=s[:1].var(axis=1, ddof=1).mean(keepdims=True)) for s in samples]
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
    np.testing.assert_allclose(merged.grad, (mean * inverse).sum(axis=0) / inverse.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(merged.shares.sum(), 1, rtol=1e-6)


def test_a_part_with_a_sample_left_out_weighs_nothing(samples):
    spoilt = [sent(s) for s in samples]
    variances = spoilt[0].variances.copy()
    variances[0, 2] = np.inf
    spoilt[0] = spoilt[0]._replace(variances=variances)
    merged = merge(spoilt)
    np.testing.assert_allclose(merged.grad[2], np.concatenate(samples, axis=1)[1, :, 2].mean(), rtol=1e-5)
    assert np.isfinite(merged.grad).all()


def test_families_count_alike_however_many_gradients_they_sent(samples):
    quiet, loud = sent(samples[0]), sent(samples[1], family=1)
    both = merge([quiet, quiet, quiet, loud])
    alone = [merge([quiet, quiet, quiet]).grad, merge([loud]).grad]
    np.testing.assert_allclose(both.grad, np.mean(alone, axis=0), rtol=1e-6)
