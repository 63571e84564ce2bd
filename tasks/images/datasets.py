"""Data sets by name: the bundled digits, and any image-classification set of tensorflow-datasets.

Nothing here needs TensorFlow or the network: prepared sets are read from their array_record files.
"""

import functools
import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.images.image_data import FRACTIONS, ImageData, from_arrays
from tasks.images.prepared import DatasetNotPrepared as DatasetNotPrepared
from tasks.images.prepared import open_prepared, prepared_dir

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLOCK = 1024


@functools.cache
def digits(fractions: tuple[float, ...] = FRACTIONS, seed: int = 0) -> ImageData:
    """The 1,797 handwritten digits that scikit-learn bundles: 8x8x1, values 0..16, ten classes.

    Args:
      fractions: share of each of `SPLITS`.
      seed: of the division into splits.
    """
    images, labels = _bundled_digits()
    return from_arrays(images.astype(np.uint8), labels, fractions=fractions, seed=seed)


def _bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, from the file itself where it lies in its place:
    scikit-learn takes a second to import.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            rows = np.loadtxt(path, delimiter=",")
            return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target


def tfds_images(
    name: str,
    image_size: int | None = None,
    grayscale: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    max_per_class: int | None = None,
    fractions: tuple[float, ...] = FRACTIONS,
    seed: int = 0,
    source_split: str | None = None,
) -> ImageData:
    """An image-classification set of tensorflow-datasets, prepared beforehand in array_record form.

    The set's own `test` split (or else its `validation` split) becomes `test`, and its `train`
    split is divided into the other three; a set with `train` alone is divided into all four.
    Results are kept for the life of the process.

    Args:
      name: as TFDS writes it: `"fashion_mnist"`, `"imagenet_resized/32x32"`, `"cifar10:3.0.2"`.
      image_size: height and width to resize to, by averaging areas; None leaves images as they are.
      grayscale: reduces colour to luma (ITU-R 601).
      data_dir: where the prepared sets lie; None means `TFDS_DATA_DIR`, or else
        `~/tensorflow_datasets`.
      max_per_class: keeps only the first so many examples of each class in each split of the set.
      fractions: share of each of `SPLITS`.
      seed: of the division into splits.
      source_split: a split of the set that alone is divided into all four, such as `"test"` for
        images that no task of the whole set trains on.

    Raises:
      DatasetNotPrepared: if the set is not there, or not in array_record form. The network is never
        tried.
      ValueError: for a set that is no image-classification set, or that has too few examples of a
        class.
    """
    for option, value in (("image_size", image_size), ("max_per_class", max_per_class)):
        if value is not None and value < 1:
            raise ValueError(f"{option} must be 1 or more; got {value}")
    options = (image_size, grayscale, prepared_dir(data_dir), max_per_class, tuple(fractions), seed)
    return _load(name, *options, source_split)


def image_set(data: ImageData | str, source_split: str | None = None) -> ImageData:
    """Images by name: `"digits"`, or a set of tensorflow-datasets as `tfds_images` reads it; images
    that are given stay as they are.

    Raises:
      DatasetNotPrepared: the set is not on this machine.
      ValueError: for a `source_split` of what is no set of tensorflow-datasets.
    """
    if isinstance(data, str) and data != "digits":
        return tfds_images(data, source_split=source_split)
    if source_split is not None:
        raise ValueError(f"only sets of tensorflow-datasets have a source_split {source_split!r}")
    return digits() if isinstance(data, str) else data


@functools.cache
def _load(
    name: str,
    image_size: int | None,
    grayscale: bool,
    data_dir: Path,
    max_per_class: int | None,
    fractions: tuple[float, ...],
    seed: int,
    source_split: str | None,
) -> ImageData:
    builder = open_prepared(name, data_dir)
    source, test = source_and_test(builder, name, source_split)
    read = functools.partial(
        _read, builder, image_size=image_size, grayscale=grayscale, max_per_class=max_per_class
    )
    images, labels = read(source)
    test_images, test_labels = read(test) if test else (None, None)
    return from_arrays(
        images,
        labels,
        test_images=test_images,
        test_labels=test_labels,
        fractions=fractions,
        seed=seed,
    )


def source_and_test(builder: Any, name: str, source_split: str | None) -> tuple[str, str | None]:
    """The split of a set that is divided, and its own that becomes `test`, if it is to have one.

    Raises:
      ValueError: the set has no such split.
    """
    splits, source = set(builder.info.splits), source_split or "train"
    if source not in splits:
        raise ValueError(
            f"data set {name!r} has no split {source!r}; it has {', '.join(sorted(splits))}"
        )
    own = () if source_split else ("test", "validation")
    return source, next((split for split in own if split in splits), None)


def _read(
    builder: Any, split: str, image_size: int | None, grayscale: bool, max_per_class: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """All images of one split, uint8 `[n, height, width, channels]`, and their labels `[n]`."""
    image_key, label_key = image_and_label(builder.info)
    channels = builder.info.features[image_key].shape[-1]
    images, labels = [], []
    for block in _blocks(builder, split, image_key, label_key, max_per_class):
        encoded = [png for png, _ in block]
        images.append(decode(encoded, channels, image_size, grayscale, builder.info.name))
        labels += [label for _, label in block]
    if len({block.shape[1:] for block in images}) > 1:
        raise ValueError(
            f"images of data set {builder.info.name!r} differ in size; give image_size"
        )
    return np.concatenate(images), np.array(labels, np.int32)


def image_and_label(info: Any) -> tuple[str, str]:
    """The names of the two features of an image-classification set; `ValueError` for another."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys or ("image", "label")
    kinds = [type(info.features[key]) for key in keys if key in info.features]
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(
            f"data set {info.name!r} is no image-classification set; it has features "
            f"{', '.join(info.features)}"
        )
    return keys


def _blocks(
    builder: Any, split: str, image_key: str, label_key: str, max_per_class: int | None
) -> Iterator[list[tuple[bytes, int]]]:
    """Encoded images with their labels, in file order (which TFDS shuffles), a block at a time."""
    import tensorflow_datasets as tfds

    # Skipping TFDS's decoding leaves images that max_per_class drops undecoded.
    source = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    limit = len(source) if max_per_class is None else max_per_class
    kept = np.zeros(builder.info.features[label_key].num_classes, int)
    for start in range(0, len(source), _BLOCK):
        block = []
        for example in source.__getitems__(list(range(start, min(start + _BLOCK, len(source))))):
            label = int(example[label_key])
            if kept[label] < limit:
                kept[label] += 1
                block.append((example[image_key], label))
        if block:
            yield block
        if kept.min() == limit:
            return


def decode(
    encoded: list[bytes], channels: int, image_size: int | None, grayscale: bool, name: str
) -> np.ndarray:
    """Images of the set `name` as TFDS stores them, uint8 `[n, height, width, channels]`."""
    images = [_decoded(each, channels) for each in encoded]
    if image_size is None and len({image.shape for image in images}) > 1:
        raise ValueError(f"images of data set {name!r} differ in size; give image_size")
    return _prepared(images, image_size, grayscale)


def _decoded(encoded: bytes, channels: int) -> np.ndarray:
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    with Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], channels)


def _prepared(images: list[np.ndarray], image_size: int | None, grayscale: bool) -> np.ndarray:
    """Stacks decoded images, in grey and resized if asked;
    one matrix product where all sizes agree.
    """
    same = len({image.shape for image in images}) == 1
    groups = [np.stack(images)] if same else [image[None] for image in images]
    return np.concatenate(
        [_resized(_grey(group) if grayscale else group, image_size) for group in groups]
    )


def _grey(images: np.ndarray) -> np.ndarray:
    if images.shape[-1] < 3:
        return images
    return np.rint(images[..., :3].astype(np.float32) @ _LUMA).astype(np.uint8)[..., None]


def _resized(images: np.ndarray, size: int | None) -> np.ndarray:
    if size is None or images.shape[1:3] == (size, size):
        return images
    rows, columns = _area_weights(images.shape[1], size), _area_weights(images.shape[2], size)
    averaged = np.einsum(
        "yh,nhwc,xw->nyxc", rows, images.astype(np.float32), columns, optimize=True
    )
    return np.rint(averaged).astype(np.uint8)


def _area_weights(size_in: int, size_out: int) -> np.ndarray:
    """`[size_out, size_in]`: the share of output pixel i's extent that input pixel j covers;
    rows sum to 1.
    """
    out_edges, in_edges = np.arange(size_out + 1) * (size_in / size_out), np.arange(size_in + 1)
    upper = np.minimum(out_edges[1:, None], in_edges[None, 1:])
    lower = np.maximum(out_edges[:-1, None], in_edges[None, :-1])
    return (np.maximum(upper - lower, 0) * (size_out / size_in)).astype(np.float32)
