"""Checks of `tasks.images.image_data.ImageData` that several tests share."""

import collections

import numpy as np

from tasks.base import SPLITS


def rows_of(data, split):
    row = SPLITS.index(split)
    starts, counts = np.asarray(data.starts)[row], np.asarray(data.counts)[row]
    return np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])


def multiset(images, labels):
    pairs = zip(np.asarray(images), np.asarray(labels), strict=True)
    return collections.Counter((image.tobytes(), int(label)) for image, label in pairs)


def check_blocks(data):
    """The blocks tile the rows, so the splits are disjoint; and each holds one class."""
    rows = np.concatenate([rows_of(data, split) for split in SPLITS])
    np.testing.assert_array_equal(rows, np.arange(len(data.labels)))
    classes = np.tile(np.arange(data.num_classes), len(SPLITS))
    np.testing.assert_array_equal(data.labels, np.repeat(classes, np.asarray(data.counts).ravel()))
