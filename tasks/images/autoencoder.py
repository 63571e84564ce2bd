"""Autoencoders: an MLP through a narrow middle that gives its input back."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images import datasets
from tasks.images.class_subsets import fixed_family
from tasks.images.image_data import ImageData, sample_images
from tasks.images.networks import MLP


def autoencoder_family(
    data: ImageData,
    hidden_sizes: Sequence[int] = (32, 8, 32),
    activation: str = "tanh",
    batch_size: int = 32,
) -> TaskFamily:
    """One task: mean squared error between an image (pixels standardized) and the network's output.

    Predicting the mean image costs about 1: the pixels have unit deviation over the `train` split.

    Args:
      data: the images; labels are not used.
      hidden_sizes: widths of the hidden layers, the bottleneck among them.
      activation: a key of `tasks.images.networks.ACTIVATIONS`.
      batch_size: examples in a batch.

    Raises:
      ValueError: for a width or batch size below 1, or an unknown activation.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}")
    num_pixels = 1
    for size in data.image_shape:
        num_pixels *= size
    module = MLP(hidden_sizes=tuple(hidden_sizes), num_classes=num_pixels, activation=activation)
    num_classes = data.num_classes

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, num_pixels), jnp.float32))["params"]

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        target = batch["image"].reshape(batch_size, num_pixels)
        return jnp.mean((module.apply({"params": params}, target) - target) ** 2), {}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        return sample_images(data, key, split, jnp.arange(num_classes, dtype=jnp.int32), batch_size)

    # Names a bad width or activation now, not in the middle of a run.
    jax.eval_shape(init, jax.random.key(0))
    return fixed_family(Task(init, loss, sample_batch), data)


def tfds_autoencoder_family(
    dataset: str = "fashion_mnist",
    image_size: int = 8,
    width: int = 32,
    bottleneck: int = 8,
    activation: str = "tanh",
    batch_size: int = 32,
) -> TaskFamily:
    """`autoencoder_family` of widths (width, bottleneck, width)
    on an image set of tensorflow-datasets.

    All its arguments are numbers and names, so that a config can give it as a `CustomFamily`.

    Raises:
      tasks.images.datasets.DatasetNotPrepared: the set is not on this machine.
    """
    data = datasets.tfds_images(dataset, image_size=image_size, max_per_class=2000)
    return autoencoder_family(data, (width, bottleneck, width), activation, batch_size)
