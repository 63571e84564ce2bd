"""Skip-gram: the loss is the paper's, negatives are drawn by its table, parts do not mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.language.skip_gram import _table, _words, skip_gram_family
from tests.support.training import adam_losses, at_start

SMALL = {"vocabulary": 200, "width": 8, "window": 2, "num_negatives": 3, "batch_size": 64}
BYTES = 200_000


@pytest.fixture(scope="module")
def family():
    return skip_gram_family(**SMALL, max_bytes=BYTES)


def test_loss_and_accuracy_equal_numpy(family):
    drawn = jax.random.normal(jax.random.key(3), (200, 8), jnp.float32)
    change = lambda params: {**params, "context": drawn}
    params, batch, _, loss, metrics, _ = at_start(family, change=change)
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "center": (200, 8),
        "context": (200, 8),
    }
    v, u = (np.asarray(params[name], np.float64) for name in ("center", "context"))
    v = v[batch["center"]]
    near = (u[batch["context"]] * v).sum(-1)
    far = (u[batch["negatives"]] * v[:, None]).sum(-1)
    same = np.asarray(batch["negatives"] == batch["context"][:, None])
    assert same.any()
    nats = np.log1p(np.exp(-near)) + (np.log1p(np.exp(far)) * ~same).sum(-1)
    far[same] = -np.inf
    np.testing.assert_allclose(float(loss), nats.mean(), rtol=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((near > far.max(-1)).mean())


def test_it_starts_at_the_uniform_and_learns(family):
    losses = adam_losses(family, 150, 3e-2)
    np.testing.assert_allclose(losses[0], 4 * np.log(2), rtol=0.05)
    assert losses[-20:].mean() < 2.3


def test_most_rows_have_no_gradient(family):
    _, batch, _, _, _, grad = at_start(family)
    rows = np.abs(np.asarray(grad["context"])).sum(-1) > 0
    seen = np.union1d(batch["context"], batch["negatives"])
    np.testing.assert_array_equal(np.flatnonzero(rows), seen)


def test_pairs_are_near_and_of_one_part(family):
    _, bounds = _words("library", BYTES, 200, 2)
    places = family.data._replace(tokens=jnp.arange(bounds[-1][1], dtype=jnp.int32))
    for split, (low, high) in zip(SPLITS, bounds, strict=True):
        batch = family.task(()).sample_batch(places, jax.random.key(0), split)
        apart = np.abs(np.asarray(batch["center"] - batch["context"]))
        assert set(apart.tolist()) == {1, 2}
        for name in ("center", "context"):
            assert low <= int(batch[name].min())
            assert int(batch[name].max()) < high


def test_negatives_follow_the_three_quarter_power():
    counts = np.array([1000.0, 100.0, 5.0])
    drawn = np.bincount(_table(counts)) / 65536
    np.testing.assert_allclose(drawn, counts**0.75 / np.sum(counts**0.75), atol=1e-3)


def test_bad_arguments():
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        skip_gram_family(window=0)
    with pytest.raises(ValueError, match="too few words"):
        skip_gram_family(max_bytes=50)
