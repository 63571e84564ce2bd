"""Image data made from arrays: splits, normalisation,
draws that are uniform and stay on the device.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tasks.images.datasets import digits
from tasks.images.image_data import _multiply_wide, draw_rows, from_arrays, sample_images
from tests.support.image_checks import check_blocks, rows_of


def test_batches_are_normalised_over_train():
    data = digits()
    train = rows_of(data, "train")
    pixels = np.asarray(data.images, np.float64)[train]
    np.testing.assert_allclose(
        [data.mean[0], data.std[0]], [pixels.mean(), pixels.std()], rtol=1e-6
    )
    batch = sample_images(data, jax.random.key(0), "test", jnp.arange(10, dtype=jnp.int32), 32)
    rows, labels = draw_rows(data, jax.random.key(0), "test", jnp.arange(10, dtype=jnp.int32), 32)
    expected = (
        np.asarray(data.images, np.float64)[np.asarray(rows)] - pixels.mean()
    ) / pixels.std()
    assert batch["image"].dtype == jnp.float32
    np.testing.assert_allclose(batch["image"], expected, atol=2e-6)
    np.testing.assert_array_equal(batch["label"], labels)


def test_user_arrays_are_kept_apart_and_constant_features_do_not_divide_by_zero():
    # Each example is its own number, so that a row of the result can be traced back to the source.
    labels = np.arange(90) % 3
    features = np.stack([np.arange(90), np.full(90, 0.1)], axis=1)
    data = from_arrays(features, labels, fractions=(0.4, 0.2, 0.2, 0.2), seed=3)
    check_blocks(data)
    np.testing.assert_array_equal(data.counts, np.array([[12], [6], [6], [6]]) * np.ones(3))
    source = np.asarray(data.images)[:, 0].astype(int)
    np.testing.assert_array_equal(np.sort(source), np.arange(90))
    np.testing.assert_array_equal(data.labels, source % 3)
    assert data.images.dtype == jnp.float32
    assert data.std[1] == 1.0


def test_a_test_set_becomes_the_test_split():
    labels = np.arange(34) % 2
    test = {"test_images": np.arange(200, 204)[:, None], "test_labels": np.array([0, 1, 1, 1])}
    data = from_arrays(np.arange(34)[:, None], labels, **test)
    np.testing.assert_array_equal(data.counts, [[12, 12], [2, 2], [3, 3], [1, 3]])
    np.testing.assert_array_equal(
        np.sort(np.asarray(data.images)[rows_of(data, "test"), 0]), np.arange(200, 204)
    )
    assert np.asarray(data.images)[:30].max() < 34


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (np.zeros((6, 2, 2)), np.repeat([0, 1], 3), {}, "class 0 has 3 examples"),
        (np.zeros((6, 2, 2)), np.array([0, 0, 0, 0, 2, 2]), {}, "class 1 has 0 examples"),
        (np.zeros((6, 2, 2)), np.zeros(5, int), {}, "with n = 5"),
        (np.zeros((6, 2, 2)), np.zeros(6), {}, "vector of integers; got float64"),
        (np.zeros((6, 2, 2)), np.full(6, -1), {}, "0 or more; got -1"),
        (np.full((6, 2), 256), np.zeros(6, int), {}, "got 256..256"),
        (
            np.zeros((6, 2)),
            np.zeros(6, int),
            {"fractions": (0.5, 0.5, 0.0, 0.0)},
            "positive numbers that sum to 1",
        ),
        (
            np.zeros((6, 2)),
            np.zeros(6, int),
            {"fractions": (0.5, 0.3, 0.2)},
            "must be four positive",
        ),
        (np.zeros((6, 2)), np.zeros(6, int), {"test_images": np.zeros((2, 2))}, "go together"),
        (
            np.zeros((6, 2)),
            np.zeros(6, int),
            {"test_images": np.zeros((2, 3)), "test_labels": np.zeros(2, int)},
            r"test_images are float32\[3\]",
        ),
    ],
)
def test_bad_arrays_are_refused(images, labels, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(images, labels, **options)


def test_four_examples_of_a_class_give_one_to_each_split():
    data = from_arrays(np.arange(4)[:, None], np.zeros(4, int))
    np.testing.assert_array_equal(data.counts, np.ones((4, 1)))


def test_arrays_made_while_tracing_are_concrete():
    made = []
    jax.eval_shape(lambda: made.append(from_arrays(np.arange(8)[:, None], np.zeros(8, int))))
    np.testing.assert_array_equal(np.sort(np.asarray(made[0].images)[:, 0]), np.arange(8))


def test_wide_product_is_exact():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2**32, (2, 1000), dtype=np.uint32)
    x[:3], y[:3] = [0xFFFFFFFF, 0xFFFFFFFF, 0], [0xFFFFFFFF, 1, 0xFFFFFFFF]
    high, low = _multiply_wide(jnp.asarray(x), jnp.asarray(y))
    product = [int(a) * int(b) for a, b in zip(x, y, strict=True)]
    assert [int(h) << 32 | int(w) for h, w in zip(high, low, strict=True)] == product


def test_draws_are_uniform_over_classes_and_over_the_examples_of_a_class():
    labels = np.repeat([0, 1, 2, 3], [20, 50, 110, 40])
    data = from_arrays(np.arange(220)[:, None] % 256, labels, fractions=(0.4, 0.2, 0.2, 0.2))
    classes = jnp.array([2, 0, 1], jnp.int32)
    with jax.enable_x64(True):
        rows, label = draw_rows(data, jax.random.key(0), "train", classes, 60_000)
    rows, label = np.asarray(rows), np.asarray(label)
    np.testing.assert_array_equal(np.asarray(data.labels)[rows], np.asarray(classes)[label])
    assert np.isin(rows, rows_of(data, "train")).all()
    assert stats.chisquare(np.bincount(label, minlength=3)).pvalue > 1e-3
    for position, number in enumerate(classes.tolist()):
        start, count = int(data.starts[0, number]), int(data.counts[0, number])
        seen = np.bincount(rows[label == position] - start, minlength=count)
        assert len(seen) == count == [8, 20, 44][number]
        assert stats.chisquare(seen).pvalue > 1e-3


def test_batches_in_a_scan_need_no_transfer_and_equal_eager_ones():
    data, classes = digits(), jnp.array([3, 8], jnp.int32)
    keys = jax.random.split(jax.random.key(1), 5)

    @jax.jit
    def scan(data, keys):
        return jax.lax.scan(
            lambda c, key: (c, sample_images(data, key, "inner_valid", classes, 7)), 0, keys
        )[1]

    scan(data, keys)
    with jax.transfer_guard("disallow"):
        batches = scan(data, keys)
    eager = sample_images(data, keys[4], "inner_valid", classes, 7)
    np.testing.assert_array_equal(batches["label"][4], eager["label"])
    np.testing.assert_allclose(batches["image"][4], eager["image"], rtol=1e-6)
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        sample_images(data, keys[0], "valid", classes, 7)
