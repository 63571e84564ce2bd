"""Image sets made harder to learn from: wrong labels, and few examples, in `train` alone."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.images.image_data import ImageData, moments


def with_label_noise(data: ImageData, share: float, seed: int = 0) -> ImageData:
    """A share of the `train` examples gets another class, uniformly among the others (symmetric
    noise; arXiv 1406.2080). The other splits stay as they are, so that losses there tell what was
    learned from the true labels and what was fitted of the wrong ones.

    Args:
      data: the set.
      share: of the examples, at least 0 and below 1; rounded to whole ones.
      seed: which, and what they get.

    Raises:
      ValueError: for a share outside of that, one class alone, or noise that leaves a class empty.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and below 1; got {share}")
    if data.num_classes < 2:
        raise ValueError("noise of labels needs two classes or more; got one")
    rng = np.random.default_rng(seed)
    num_train = int(np.asarray(data.counts)[0].sum())
    labels = np.asarray(data.labels)[:num_train].copy()
    wrong = rng.permutation(num_train)[: round(share * num_train)]
    labels[wrong] += rng.integers(1, data.num_classes, len(wrong), dtype=np.int32)
    labels %= data.num_classes
    return _with_train(data, np.arange(num_train), labels)


def with_few_examples(data: ImageData, num_per_class: int) -> ImageData:
    """Of each class's `train` examples the first few (they are in a random order); the mean and
    deviation that images are standardized by are those of what is left.

    Args:
      data: the set.
      num_per_class: examples to keep, at most as many as the rarest class has.

    Raises:
      ValueError: for a number below 1 or above that.
    """
    counts, starts = np.asarray(data.counts)[0], np.asarray(data.starts)[0]
    if not 1 <= num_per_class <= counts.min():
        raise ValueError(f"num_per_class must be within 1..{counts.min()}; got {num_per_class}")
    rows = (starts[:, None] + np.arange(num_per_class)).reshape(-1)
    return _with_train(data, rows, np.asarray(data.labels)[rows])


def _with_train(data: ImageData, rows: np.ndarray, labels: np.ndarray) -> ImageData:
    """The set with these rows as `train`, of these labels, sorted again by class."""
    counts = np.asarray(data.counts).copy()
    num_before = int(counts[0].sum())
    counts[0] = np.bincount(labels, minlength=data.num_classes)
    if counts[0].min() == 0:
        raise ValueError(f"class {int(counts[0].argmin())} would have no examples to train on")
    order = np.argsort(labels, kind="stable")
    images = np.asarray(data.images)
    images = np.concatenate([images[rows[order]], images[num_before:]])
    labels = np.concatenate([labels[order], np.asarray(data.labels)[num_before:]])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape)
    mean, std = moments(images, np.arange(len(rows)))
    with jax.ensure_compile_time_eval():
        return ImageData(
            images=jnp.asarray(images),
            labels=jnp.asarray(labels.astype(np.int32)),
            starts=jnp.asarray(starts.astype(np.int32)),
            counts=jnp.asarray(counts.astype(np.int32)),
            mean=jnp.asarray(mean.astype(np.float32)),
            std=jnp.asarray(std.astype(np.float32)),
        )
