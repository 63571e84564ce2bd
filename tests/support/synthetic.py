"""A made-up data set with the name, shape and file format of `imagenet_resized/32x32`.

It lets everything written for the real set build and run where that (some 4 GB) is not at hand.
Numbers obtained on it say nothing about ImageNet.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_NAME, _CONFIG, _VERSION = "imagenet_resized", "32x32", "0.1.0"
_SIZE, _GRID = 32, 4


def write_synthetic_imagenet(
    data_dir: str | os.PathLike[str],
    images_per_class: int = 30,
    validation_images_per_class: int = 5,
    num_classes: int = 1000,
    seed: int = 0,
) -> Path:
    """Writes the set, for `tfds_images("imagenet_resized/32x32", data_dir=data_dir)` to read.

    A class is a 4x4 grid of colours, an image is its class's grid with noise, blown up to 32x32x3:
    learnable, and small on disk. Needs neither TensorFlow nor a network.

    Args:
      data_dir: where prepared TFDS sets lie, or shall lie.
      images_per_class: in the split `train`.
      validation_images_per_class: in the split `validation`.
      num_classes: 1000 in the real set.
      seed: of the images.

    Returns:
      The directory of the set.

    Raises:
      ValueError: if a count is below 1, or the directory exists: it may hold the real set.
    """
    counts = {"train": images_per_class, "validation": validation_images_per_class}
    if min(*counts.values(), num_classes) < 1:
        raise ValueError(f"counts must be 1 or more; got {counts} of {num_classes} classes")
    target = Path(data_dir) / _NAME / _CONFIG / _VERSION
    if target.exists():
        raise ValueError(f"{target} exists; remove it, or choose another data_dir")
    # Written beside its place and then moved,
    # so that an interrupted run leaves nothing that looks prepared.
    scratch = target.with_name(f"{_VERSION}.incomplete{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        _write(scratch, counts, num_classes, np.random.default_rng(seed))
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return target


def _write(
    directory: Path, counts: dict[str, int], num_classes: int, rng: np.random.Generator
) -> None:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(_SIZE, _SIZE, 3)),
            "label": tfds.features.ClassLabel(num_classes=num_classes),
        }
    )
    palette = rng.integers(0, 256, (num_classes, _GRID, _GRID, 3))
    splits = []
    for split, images_per_class in counts.items():
        writer = ArrayRecordWriter(
            str(directory / f"{_NAME}-{split}.array_record-00000-of-00001"), "group_size:1"
        )
        num_bytes = 0
        for record in _records(features, palette, images_per_class, rng):
            writer.write(record)
            num_bytes += len(record)
        writer.close()
        lengths = [images_per_class * num_classes]
        splits.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=num_bytes))
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        version=_VERSION,
        split_infos=splits,
        check_data=False,
        description="Synthetic stand-in: random colour grids, not ImageNet.",
        supervised_keys=("image", "label"),
    )


def _records(
    features: Any, palette: np.ndarray, images_per_class: int, rng: np.random.Generator
) -> Iterator[bytes]:
    """Serialised examples in random order, as TFDS's own shuffle leaves them."""
    labels = rng.permutation(np.repeat(np.arange(len(palette)), images_per_class))
    grids = np.clip(palette[labels] + rng.normal(0, 24, palette[labels].shape), 0, 255).astype(
        np.uint8
    )
    for label, grid in zip(labels.tolist(), grids, strict=True):
        yield features.serialize_example(
            features.encode_example({"image": _png(grid), "label": label})
        )


def _png(grid: np.ndarray) -> io.BytesIO:
    from PIL import Image

    scale = _SIZE // _GRID
    file = io.BytesIO()
    # Handing TFDS a finished file keeps it from encoding pixels itself,
    # for which it would import TensorFlow.
    Image.fromarray(grid.repeat(scale, axis=0).repeat(scale, axis=1)).save(file, "png")
    file.seek(0)
    return file
