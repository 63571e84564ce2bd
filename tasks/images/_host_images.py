"""Image sets that stay on the host: `grain` reads them from their array_record files, a window of
examples at a time, ahead of the device.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tasks.base import SPLITS, TaskFamily, WindowIterator
from tasks.images.class_subsets import class_subset_family
from tasks.images.classifiers import conv_next_family, vit_family
from tasks.images.datasets import decode, image_and_label, source_and_test
from tasks.images.image_data import FRACTIONS, ImageData, moments, on_device, rows_of_splits
from tasks.images.networks import MLP
from tasks.images.prepared import open_prepared, prepared_dir
from tasks.images.resnet import ResNet

NUM_PREFETCHED = 2
"""Windows that are read ahead, each by a thread."""
MAX_OF_MOMENTS = 10_000
"""Examples of `train` that mean and deviation are taken of."""
_BLOCK = 4096
_MAX_WINDOWS = 2**31 - 1


class HostImages(NamedTuple):
    """An image set on the host.

    Attributes:
      first: one window, on the device.
      windows: as of a `tasks.TaskFamily`.
    """

    first: ImageData
    windows: Callable[[int], WindowIterator]


def host_images(
    name: str,
    window: int,
    image_size: int | None = None,
    grayscale: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    source_split: str | None = None,
) -> HostImages:
    """An image-classification set of tensorflow-datasets, of which a window is on the device.

    The splits are those of `tasks.images.tfds_images`, example by example. A window has equally
    many examples of each class in each split. Windows go through the shuffled examples of a class
    and split in turn, each example once an epoch, so that a batch of a window is distributed as one
    of the whole set. All labels are read once, when the set is opened.

    Args:
      name: as for `tfds_images`, and so are the others.
      window: examples of a class and split; all of them where there are fewer.
      image_size: height and width to resize to.
      grayscale: reduces colour to luma.
      data_dir: where the prepared sets lie.
      fractions: share of each of `SPLITS`.
      seed: of the division into splits.
      source_split: a split of the set that alone is divided into all four.

    Raises:
      ValueError: as `tfds_images`, or for a window below 1.
      tasks.images.DatasetNotPrepared: the set is not on this machine.
    """
    if window < 1 or (image_size is not None and image_size < 1):
        raise ValueError(f"window and image_size must be 1 or more; got {window} and {image_size}")
    builder = open_prepared(name, prepared_dir(data_dir))
    records = _Records(builder, source_and_test(builder, name, source_split), image_size, grayscale)
    labels, *test = records.labels()
    rows = rows_of_splits(labels, test[0] if test else None, fractions, seed)
    sample = np.concatenate(rows[0])
    sample = sample[:: -(-len(sample) // MAX_OF_MOMENTS)]
    images = records.images(sample)
    mean, std = (x.astype(np.float32) for x in moments(images, np.arange(len(images))))
    windows = _Windows(records, rows, window, mean, std)
    return HostImages(on_device(windows[0]), windows.iterator)


class _Records:
    """The records of one or two splits of a set, numbered through."""

    def __init__(
        self,
        builder: Any,
        splits: tuple[str, str | None],
        image_size: int | None,
        grayscale: bool,
    ):
        import tensorflow_datasets as tfds

        self._image, self._label = image_and_label(builder.info)
        self._name, self._options = builder.info.name, (image_size, grayscale)
        self._channels = builder.info.features[self._image].shape[-1]
        skip = {self._image: tfds.decode.SkipDecoding()}
        self._sources = [builder.as_data_source(split, decoders=skip) for split in splits if split]

    def labels(self) -> list[np.ndarray]:
        """Of each split, int32."""
        return [
            np.concatenate(
                [
                    [example[self._label] for example in source.__getitems__(list(block))]
                    for block in _blocks(len(source))
                ]
            ).astype(np.int32)
            for source in self._sources
        ]

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Decoded, in the order of the rows."""
        encoded, first = {}, 0
        for source in self._sources:
            ours = [row for row in rows.tolist() if first <= row < first + len(source)]
            if ours:
                examples = source.__getitems__([row - first for row in ours])
                encoded |= dict(zip(ours, (each[self._image] for each in examples), strict=True))
            first += len(source)
        in_order = [encoded[row] for row in rows.tolist()]
        return decode(in_order, self._channels, *self._options, self._name)


def _blocks(size: int) -> list[range]:
    return [range(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]


@dataclasses.dataclass(frozen=True)
class _Windows:
    """Window after window, each a function of its number: what `grain` reads at random."""

    records: _Records
    rows: list[list[np.ndarray]]
    window: int
    mean: np.ndarray
    std: np.ndarray
    seed: int = 0

    def __len__(self) -> int:
        return _MAX_WINDOWS

    def __getitem__(self, number: int) -> ImageData:
        counts = self.counts
        rows = [
            in_turn(rows, number * count, count, (self.seed, split, label))
            for split, classes in enumerate(self.rows)
            for label, (rows, count) in enumerate(zip(classes, counts[split], strict=True))
        ]
        labels = np.tile(np.arange(counts.shape[1], dtype=np.int32), len(SPLITS))
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape)
        return ImageData(
            images=self.records.images(np.concatenate(rows)),
            labels=np.repeat(labels, counts.ravel()),
            starts=starts.astype(np.int32),
            counts=counts,
            mean=self.mean,
            std=self.std,
        )

    @property
    def counts(self) -> np.ndarray:
        """Examples of each split and class, the same in all windows."""
        return np.array(
            [[min(self.window, len(rows)) for rows in classes] for classes in self.rows], np.int32
        )

    def iterator(self, seed: int) -> WindowIterator:
        """`grain`'s iterator of the windows of this seed, which reads ahead."""
        import grain

        options = grain.ReadOptions(num_threads=NUM_PREFETCHED, prefetch_buffer_size=NUM_PREFETCHED)
        windows = grain.MapDataset.source(dataclasses.replace(self, seed=seed))
        return iter(windows.to_iter_dataset(options))


def in_turn(rows: np.ndarray, first: int, count: int, seed: tuple[int, ...]) -> np.ndarray:
    """Places `first` to `first + count` of an endless list: the rows in a new order each epoch."""
    epochs, places = np.divmod(np.arange(first, first + count), len(rows))
    drawn = np.empty_like(rows, shape=count)
    for epoch in np.unique(epochs):
        order = np.random.default_rng([*seed, int(epoch)]).permutation(rows)
        drawn[epochs == epoch] = order[places[epochs == epoch]]
    return drawn


def _mlp(
    data: ImageData, hidden_sizes: Sequence[int] = (128, 128), batch_size: int = 64
) -> TaskFamily:
    module = MLP(tuple(hidden_sizes), data.num_classes)
    return class_subset_family(data, module, data.num_classes, batch_size=batch_size)


def _resnet(
    data: ImageData, width: int = 16, depth: int = 8, batch_size: int = 64, first_stride: int = 1
) -> TaskFamily:
    module = ResNet(width, depth, data.num_classes, first_stride=first_stride)
    return class_subset_family(data, module, data.num_classes, batch_size=batch_size)


NETWORKS: dict[str, Callable[..., TaskFamily]] = {
    "mlp": _mlp,
    "resnet": _resnet,
    "vit": vit_family,
    "conv_next": conv_next_family,
}
"""What `host_images_family` can train: `ImageData` and sizes -> a family."""


def host_images_family(
    network: str = "mlp",
    dataset: str = "fashion_mnist",
    window: int = 100,
    image_size: int | None = None,
    source_split: str | None = None,
    **sizes: Any,
) -> TaskFamily:
    """One task: all classes of an image set that stays on the host, by a network.

    All its arguments are numbers and names, so that a config can give it as a `CustomFamily`.

    Args:
      network: a key of `NETWORKS`.
      dataset: of tensorflow-datasets.
      window: examples of a class and split that are on the device at a time.
      image_size: pixels a side; None leaves images as they are.
      source_split: of the set, as in `tasks.images.tfds_images`.
      sizes: of the network and its batches, as its own family takes them: `hidden_sizes` of the
        MLP, `width` and `depth` of the others, `batch_size`.

    Raises:
      tasks.images.DatasetNotPrepared: the set is not on this machine.
      ValueError: for an unknown network, or as `host_images` and the network's family.

    Example:
      >>> family = host_images_family("vit", "imagenet_resized/32x32", window=20, width=64)
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; networks are {', '.join(NETWORKS)}")
    images = host_images(dataset, window, image_size, source_split=source_split)
    return from_host(images, NETWORKS[network], **sizes)


def from_host(images: HostImages, family: Callable[..., TaskFamily], **sizes: Any) -> TaskFamily:
    """The family that `family(images, **sizes)` makes of images, fed from the host.

    Args:
      images: from `host_images`.
      family: takes `ImageData`, and asks no more of them than shapes when it is made:
        `tasks.images.vit_family`, or one of your own over `tasks.images.class_subset_family`.
      sizes: its other arguments.
    """
    return family(images.first, **sizes)._replace(windows=images.windows)
