"""The suites of tasks that people train are what they say, and new to every config."""

import functools
import os

import jax
import numpy as np
import pytest

from tasks.base import StatefulTask
from tasks.images.datasets import image_set, tfds_images
from tasks.model_state import as_stateful
from tasks.real_suites import IMAGE_SPLIT, IMAGES, noisy_labels_family
from tasks.suites import SUITES

needs_images = pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR is not set"
)


def test_numbers_of_tasks_and_steps():
    real, quick = SUITES["real"].tasks, SUITES["real_quick"].tasks
    assert len(real) == 10
    assert all(1000 <= task.num_steps <= 5000 for task in real)
    assert all(200 <= task.num_steps <= 500 for task in quick)
    # A first look needs no data set that has to be prepared.
    assert not [t for t in quick if "data" in functools.partial(t.build).keywords]


@needs_images
def test_images_are_none_that_configs_train_on():
    """Of the whole set, as configs read it, they are the `test` split."""
    ours = {x.tobytes() for x in np.asarray(image_set(IMAGES, IMAGE_SPLIT).images)}
    whole = tfds_images(IMAGES)
    train_rows = int(np.asarray(whole.counts)[:3].sum())
    theirs = {x.tobytes() for x in np.asarray(whole.images)[:train_rows]}
    assert not ours & theirs
    assert len(ours) == 10_000


@needs_images
def test_the_resnet_is_of_the_same_images_and_has_batch_normalization():
    task = next(task for task in SUITES["real"].tasks if task.name == "real_resnet")
    family = task.build()
    assert family.data.image_shape == (28, 28, 1)
    np.testing.assert_array_equal(family.data.images, image_set(IMAGES, IMAGE_SPLIT).images)
    drawn = family.task(family.sample(jax.random.key(0)))
    assert isinstance(drawn, StatefulTask)
    params, state = jax.eval_shape(drawn.init, jax.random.key(0))
    assert 1e5 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 5e5
    assert [*state] == ["batch_stats"]


@needs_images
def test_noisy_labels_are_in_train_alone():
    data = noisy_labels_family(share=0.2, num_per_class=30, width=8, batch_size=8).data
    assert int(np.asarray(data.counts)[0].sum()) == 300
    assert data.images.shape == (300 + 4000, 28, 28, 1)


def test_sizes_are_within_the_bounds_of_the_suite():
    """Of those that need neither prepared images nor a trained trunk."""
    for task in SUITES["real"].tasks:
        kwargs = functools.partial(task.build).keywords
        has_images = {"data", "dataset"} & kwargs.keys() or task.name == "real_noisy_labels"
        if has_images or task.name in ("real_fine_tuning", "real_lora"):
            continue
        family = task.build()
        drawn = as_stateful(family.task(family.sample(jax.random.key(0))))
        shapes, _ = jax.eval_shape(drawn.init, jax.random.key(0))
        assert 9e3 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 3e6, task.name
