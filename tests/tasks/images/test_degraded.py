"""Noise of labels and few examples change `train` alone, by as much as is said."""

import numpy as np
import pytest

from tasks.images import digits, with_few_examples, with_label_noise
from tests.support.image_checks import check_blocks, rows_of


def held_out_rows(data):
    rows = np.concatenate(
        [rows_of(data, split) for split in ("inner_valid", "outer_valid", "test")]
    )
    return np.asarray(data.images)[rows], np.asarray(data.labels)[rows]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_share_of_the_labels_is_wrong(share):
    clean, noisy = digits(), with_label_noise(digits(), share, seed=1)
    check_blocks(noisy)
    true = {
        image.tobytes(): label
        for image, label in zip(np.asarray(clean.images), np.asarray(clean.labels), strict=True)
    }
    rows = rows_of(noisy, "train")
    images, labels = np.asarray(noisy.images)[rows], np.asarray(noisy.labels)[rows]
    right = np.array([true[image.tobytes()] for image in images])
    assert (right != labels).sum() == round(share * len(rows))
    assert sorted(x.tobytes() for x in images) == sorted(
        x.tobytes() for x in np.asarray(clean.images)[rows_of(clean, "train")]
    )
    for before, after in zip(held_out_rows(clean), held_out_rows(noisy), strict=True):
        np.testing.assert_array_equal(before, after)
    if share == 0.9:
        # Symmetric: each other class as often.
        table = np.zeros((10, 10))
        np.add.at(table, (right, labels), 1)
        off = table[~np.eye(10, dtype=bool)]
        assert off.min() > 2
        assert off.max() < 3 * off.mean()


def test_few_examples_are_those_of_train():
    clean, few = digits(), with_few_examples(digits(), 7)
    check_blocks(few)
    np.testing.assert_array_equal(np.asarray(few.counts)[0], 7)
    rows = rows_of(few, "train")
    train = {x.tobytes() for x in np.asarray(clean.images)[rows_of(clean, "train")]}
    assert {x.tobytes() for x in np.asarray(few.images)[rows]} <= train
    np.testing.assert_allclose(few.mean, np.asarray(few.images)[rows].mean((0, 1, 2)), rtol=1e-5)
    for before, after in zip(held_out_rows(clean), held_out_rows(few), strict=True):
        np.testing.assert_array_equal(before, after)
    both = with_label_noise(few, 0.5)
    assert int(np.asarray(both.counts)[0].sum()) == 70


@pytest.mark.parametrize("share", [-0.1, 1.0, np.nan])
def test_bad_shares(share):
    with pytest.raises(ValueError, match="share must be at least 0 and below 1"):
        with_label_noise(digits(), share)


def test_bad_numbers():
    for number in (0, 10**4):
        with pytest.raises(ValueError, match=r"num_per_class must be within 1\.\."):
            with_few_examples(digits(), number)
    with pytest.raises(ValueError, match="would have no examples"):
        with_label_noise(with_few_examples(digits(), 1), 0.9)
