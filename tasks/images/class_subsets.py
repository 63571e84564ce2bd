"""Families of classification tasks: every task tells k drawn classes apart."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import (
    SPLITS,
    Batch,
    Data,
    Key,
    StatefulTask,
    Task,
    TaskFamily,
    TaskParams,
)
from tasks.images.image_data import ImageData, sample_images
from tasks.images.networks import classification_task


def class_split(
    num_classes: int, num_train_classes: int, seed: int = 0
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divides the classes 0..num_classes - 1 at random into those
    for outer-training and those held out.

    Metz et al. (arXiv 1810.10180) divide the 1000 classes of ImageNet into 700 and 300.

    Returns:
      `(training classes, held-out classes)`, each in rising order.

    Raises:
      ValueError: if either would be empty.
    """
    if not 0 < num_train_classes < num_classes:
        raise ValueError(
            f"num_train_classes must be within 1..{num_classes - 1}; got {num_train_classes}"
        )
    order = np.random.default_rng(seed).permutation(num_classes).tolist()
    return tuple(sorted(order[:num_train_classes])), tuple(sorted(order[num_train_classes:]))


def class_subset_family(
    data: ImageData,
    module: nn.Module,
    num_classes_per_task: int,
    classes: Sequence[int] | None = None,
    batch_size: int = 128,
) -> TaskFamily:
    """Each task draws k classes without replacement and trains `module`
    to tell them apart (arXiv 1810.10180).

    Args:
      data: the data set.
      module: `images -> logits [batch, outputs]`, with at least k outputs; as for
        `tasks.classification_task`.
      num_classes_per_task: k.
      classes: the classes to draw from; None means all. See `class_split` for a held-out family.
      batch_size: examples in every batch, drawn with replacement.

    Returns:
      The family; its task parameters are the drawn classes, int32 `[k]`, and a label is a position
      among them.

    Raises:
      ValueError: if k exceeds the number of classes, a class does not exist, a batch is larger than
        the smallest split that a task may have, or the module does not fit.
    """
    pool = np.arange(data.num_classes) if classes is None else np.asarray(classes, np.int32)
    _check_classes(data, pool, num_classes_per_task)
    _check_batch_size(data, pool, num_classes_per_task, batch_size)
    pool = tuple(pool.tolist())

    def sample_batch_of(drawn: TaskParams):
        def sample_batch(data: Data, key: Key, split: str) -> Batch:
            return sample_images(data, key, split, drawn, batch_size)

        return sample_batch

    every_class = jnp.arange(num_classes_per_task, dtype=jnp.int32)
    template = classification_task(
        module, sample_batch_of(every_class), data.image_shape, num_classes_per_task
    )

    def sample(key: Key) -> TaskParams:
        return jax.random.permutation(key, jnp.array(pool, jnp.int32))[:num_classes_per_task]

    def task(drawn: TaskParams) -> Task | StatefulTask:
        return template._replace(sample_batch=sample_batch_of(drawn))

    return TaskFamily(sample, task, data)


def _check_classes(data: ImageData, pool: np.ndarray, num_classes_per_task: int) -> None:
    if not 1 <= num_classes_per_task <= len(pool):
        raise ValueError(
            f"num_classes_per_task must be within 1..{len(pool)}, the classes to draw from; got "
            f"{num_classes_per_task}"
        )
    if len(set(pool.tolist())) < len(pool):
        raise ValueError(f"classes must be different; got {pool.tolist()}")
    if pool.min() < 0 or pool.max() >= data.num_classes:
        raise ValueError(
            f"classes must be within 0..{data.num_classes - 1}; got {pool.min()}..{pool.max()}"
        )


def _check_batch_size(
    data: ImageData, pool: np.ndarray, num_classes_per_task: int, batch_size: int
) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}")
    counts = np.sort(np.asarray(data.counts)[:, pool], axis=1)[:, :num_classes_per_task].sum(axis=1)
    for split, count in zip(SPLITS, counts.tolist(), strict=True):
        if batch_size > count:
            raise ValueError(
                f"batch_size {batch_size} is larger than split {split!r} of a task of "
                f"{num_classes_per_task} classes, which may have only {count} examples"
            )


def fixed_family(task: Task | StatefulTask, data: Data = ()) -> TaskFamily:
    """The family that holds one task: nothing is drawn, and the task parameters are `()`."""
    return TaskFamily(sample=lambda key: (), task=lambda task_params: task, data=data)
