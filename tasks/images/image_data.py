"""Labelled images on the device, sorted so that a batch of given split
and classes is an index computation.

Examples are sorted by (split, class). Two small tables say where each block starts and how long it
is, so a batch costs one random word an example and one gather of uint8 rows, all inside the scan:
the host takes no part.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt

from tasks.base import SPLITS, Batch, Key
from tasks.numerics import threefry

FRACTIONS = (0.6, 0.1, 0.15, 0.15)
"""Share of each class that goes to each of `SPLITS` when the source has one split only."""


class ImageData(NamedTuple):
    """Examples sorted by (split, class):
    `n` of them, each of shape `[height, width, channels]` or `[features]`.

    Attributes:
      images: `[n, ...]` as stored: uint8, or float32 where the user gave floats.
      labels: `[n]` int32.
      starts: `[4, num_classes]` int32, first row of each block; splits in the order of `SPLITS`.
      counts: `[4, num_classes]` int32, rows of each block, at least one.
      mean: `[channels]` float32, over the `train` split.
      std: `[channels]` float32, over the `train` split; 1 where that is zero.
    """

    images: Array
    labels: Int[Array, " n"]
    starts: Int[Array, "4 classes"]
    counts: Int[Array, "4 classes"]
    mean: Float[Array, " channels"]
    std: Float[Array, " channels"]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.starts.shape[1]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.images.shape[1:]


def from_arrays(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    test_images: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
) -> ImageData:
    """Splits labelled examples into the four disjoint splits and puts them on the device.

    Each class is shuffled and divided on its own, so that every split has every class. Where a test
    set is given it becomes the `test` split, and the other three share the rest in proportion to
    their fractions.

    Args:
      images: `[n, height, width, channels]`, `[n, height, width]` or `[n, features]`; integers in
        0..255, or floats.
      labels: `[n]` integers 0..num_classes - 1.
      test_images: examples for `test` alone.
      test_labels: their labels.
      fractions: share of each of `SPLITS`, summing to 1.
      seed: of the shuffle; the same seed gives the same splits.

    Returns:
      The data set; `draw_rows` and `sample_images` draw from it.

    Raises:
      ValueError: for arrays that do not fit together, fractions that are no partition of 1, or a
        class with too few examples to give one to each split.
    """
    if (test_images is None) != (test_labels is None):
        raise ValueError("test_images and test_labels go together; got one without the other")
    images, labels = _checked(images, labels, "")
    if test_images is not None:
        test_images, test_labels = _checked(test_images, test_labels, "test_")
        if test_images.shape[1:] != images.shape[1:] or test_images.dtype != images.dtype:
            raise ValueError(
                f"test_images are {test_images.dtype}{list(test_images.shape[1:])}, "
                f"images are {images.dtype}{list(images.shape[1:])}"
            )
    blocks = rows_of_splits(labels, test_labels, fractions, seed)
    if test_images is not None:
        images, labels = (
            np.concatenate([images, test_images]),
            np.concatenate([labels, test_labels]),
        )
    return _on_device(images, labels, blocks)


def rows_of_splits(
    labels: np.ndarray, test_labels: np.ndarray | None, fractions: Sequence[float], seed: int
) -> list[list[np.ndarray]]:
    """Which rows each of `SPLITS` has of each class, `rows[split][class]`; those of a test set
    count on from `len(labels)`. See `from_arrays`.
    """
    _check_fractions(fractions)
    rng = np.random.default_rng(seed)
    num_classes = int(labels.max()) + 1
    if test_labels is None:
        return _divide(labels, num_classes, SPLITS, fractions, rng)
    num_classes = max(num_classes, int(test_labels.max()) + 1)
    rows = _divide(labels, num_classes, SPLITS[:3], fractions[:3], rng)
    return rows + _divide(test_labels, num_classes, SPLITS[3:], (1.0,), rng, offset=len(labels))


def _check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != len(SPLITS) or not (
        min(fractions) > 0 and abs(sum(fractions) - 1) <= 1e-6
    ):
        raise ValueError(
            f"fractions must be four positive numbers that sum to 1, one for each of {SPLITS}; got "
            f"{fractions}"
        )


def _checked(images: np.ndarray, labels: np.ndarray, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images as uint8 or float32 with a channel axis, labels as int32."""
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{prefix}labels must be a non-empty vector of integers; got "
            f"{labels.dtype}{list(labels.shape)}"
        )
    if images.ndim not in (2, 3, 4) or len(images) != len(labels):
        raise ValueError(
            f"{prefix}images must be [n, height, width, channels], [n, height, width] or [n, "
            f"features] with n = {len(labels)} as {prefix}labels have; got {list(images.shape)}"
        )
    if labels.min() < 0:
        raise ValueError(f"{prefix}labels must be 0 or more; got {labels.min()}")
    if images.dtype.kind in "iub":
        if images.dtype != np.uint8 and (images.min() < 0 or images.max() > 255):
            raise ValueError(
                f"integer {prefix}images must be within 0..255; got {images.min()}..{images.max()}"
            )
        images = images.astype(np.uint8)
    elif images.dtype.kind == "f":
        with np.errstate(over="ignore"):
            images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise ValueError(
                f"{prefix}images must be finite, as float32 too; got "
                f"{np.sum(~np.isfinite(images))} that are not"
            )
    else:
        raise ValueError(f"{prefix}images must be integers or floats; got {images.dtype}")
    return images[..., None] if images.ndim == 3 else images, labels.astype(np.int32)


def _divide(
    labels: np.ndarray,
    num_classes: int,
    splits: Sequence[str],
    fractions: Sequence[float],
    rng: np.random.Generator,
    offset: int = 0,
) -> list[list[np.ndarray]]:
    """Shuffled row numbers of each class, divided over `splits`: `blocks[split][class]`."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")] + offset
    by_class = np.split(order, np.cumsum(np.bincount(labels, minlength=num_classes))[:-1])
    shares = np.asarray(fractions[1:]) / sum(fractions)
    blocks: list[list[np.ndarray]] = [[] for _ in splits]
    for label, rows in enumerate(by_class):
        rest = np.maximum(np.rint(shares * len(rows)).astype(int), 1)
        first = len(rows) - rest.sum()
        if first < 1:
            raise ValueError(
                f"class {label} has {len(rows)} examples, too few to give at least one to each of "
                f"{', '.join(splits)}"
            )
        for block, part in zip(blocks, np.split(rows, np.cumsum([first, *rest])[:-1]), strict=True):
            block.append(part)
    return blocks


def _on_device(images: np.ndarray, labels: np.ndarray, blocks: list[list[np.ndarray]]) -> ImageData:
    counts = np.array([[len(rows) for rows in split] for split in blocks], np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape).astype(np.int32)
    mean, std = moments(images, np.concatenate(blocks[0]))
    rows = np.concatenate([np.concatenate(split) for split in blocks])
    mean, std = mean.astype(np.float32), std.astype(np.float32)
    return on_device(ImageData(images[rows], labels[rows], starts, counts, mean, std))


def on_device(data: ImageData) -> ImageData:
    """NumPy arrays put on the device."""
    # The result may be cached by the caller,
    # so it must be concrete even when this runs while something is traced.
    with jax.ensure_compile_time_eval():
        return jax.tree.map(jnp.asarray, data)


def moments(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over all axes but the last, in blocks:
    a float64 copy of ImageNet would take 30 GB.
    """
    blocks = np.array_split(rows, -(-len(rows) // 4096))
    axes = tuple(range(images.ndim - 1))
    size = len(rows) * np.prod(images.shape[1:-1])
    mean = sum(images[block].sum(axes, dtype=np.float64) for block in blocks) / size
    variance = sum(((images[block] - mean) ** 2).sum(axes) for block in blocks) / size
    std = np.sqrt(variance)
    return mean, np.where(std <= 1e-6 * np.abs(mean), 1, std)


def draw_rows(
    data: ImageData, key: Key, split: str, classes: Int[Array, " k"], batch_size: int
) -> tuple[Int[Array, " batch"], Int[Array, " batch"]]:
    """Draws rows with replacement: a class uniformly among `classes`,
    then one of its examples in `split`.

    One random word serves both. Read as a fraction in [0, 1), its product with k has the class
    before the point and a fresh fraction behind it; no probability is off by more than k * count /
    2^32 of itself.

    Returns:
      Rows of `data.images`, and the label of each: the position of its class in `classes`.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; splits are {', '.join(SPLITS)}")
    row = SPLITS.index(split)
    starts, counts = data.starts[row, classes], data.counts[row, classes]

    def draw(word: UInt[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
        position, fraction = _multiply_wide(word, jnp.full_like(word, classes.shape[0]))
        label = position.astype(jnp.int32)
        within, _ = _multiply_wide(fraction, counts[label].astype(jnp.uint32))
        return starts[label] + within.astype(jnp.int32), label

    return threefry.map_bits(draw, key, batch_size)


def _multiply_wide(
    x: UInt[Array, " n"], y: UInt[Array, " n"]
) -> tuple[UInt[Array, " n"], UInt[Array, " n"]]:
    """High and low words of the products of uint32 arrays; 64-bit integers are off by default."""
    mask, half = jnp.uint32(0xFFFF), jnp.uint32(16)
    x_high, x_low, y_high, y_low = x >> half, x & mask, y >> half, y & mask
    upper = x_high * y_low + ((x_low * y_low) >> half)
    lower = x_low * y_high + (upper & mask)
    return x_high * y_high + (upper >> half) + (lower >> half), x * y


def sample_images(
    data: ImageData, key: Key, split: str, classes: Int[Array, " k"], batch_size: int
) -> Batch:
    """A batch of a k-way classification task, drawn with replacement.

    Args:
      data: the data set.
      key: PRNG key.
      split: one of `SPLITS`; static.
      classes: the classes of the task; the label of an example is the position of its class here.
      batch_size: examples in the batch.

    Returns:
      `{"image": float32 [batch, ...], "label": int32 [batch]}`; over `train`, a channel has mean 0
      and deviation 1.
    """
    rows, label = draw_rows(data, key, split, classes, batch_size)
    image = data.images.at[rows].get(mode="promise_in_bounds").astype(jnp.float32)
    mean, std = (jnp.broadcast_to(x, image.shape) for x in (data.mean, data.std))
    return {"image": (image - mean) / std, "label": label}
