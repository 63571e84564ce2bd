"""What stochastic meta-descent trains: a network on an image set, and the whole training set's loss."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from experiments.schedule_runs import rows_of, split_rows
from learned_opt.base import LearnedOptimizer
from tasks.base import Params, Task
from tasks.classifiers import MLP, ConvNet, classification_task
from tasks.datasets import digits, tfds_images
from tasks.image_data import ImageData, sample_images

DATASETS: dict[str, Callable[[], ImageData]] = {
    "digits": digits,
    "fashion_mnist_8x8": lambda: tfds_images("fashion_mnist", image_size=8),
    "mnist": lambda: tfds_images("mnist"),
    "cifar10": lambda: tfds_images("cifar10"),
}


class CaffeNet(nn.Module):
    """The CNN of Wu et al. (arXiv 1803.02021, section 3.3): 3x3 convolutions, each pooled 2x2, and a hidden layer."""

    features: Sequence[int] = (32, 32, 64)
    hidden_size: int = 100
    num_classes: int = 10

    @nn.compact
    def __call__(self, images):
        """Logits."""
        x = images
        for features in self.features:
            x = nn.max_pool(nn.relu(nn.Conv(features, (3, 3))(x)), (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(self.hidden_size)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.num_classes)(x)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp_100_100": lambda: MLP((100, 100)),
    "mlp_32_32": lambda: MLP((32, 32)),
    "caffe_cnn": CaffeNet,
    "small_cnn": lambda: ConvNet((16, 16)),
}


class Training(NamedTuple):
    """A task with its data and its training set.

    Attributes:
      task: batches are drawn from `data`.
      data: the image set.
      full_loss: `params -> scalar`, over the training set (evenly over at most `max_examples` of it).
    """

    task: Task
    data: ImageData
    full_loss: Callable[[Params], Array]


def make_training(dataset: str, network: str, batch_size: int, max_examples: int = 2000) -> Training:
    """Builds the task.

    Raises:
      ValueError: for an unknown data set or network.
    """
    for name, known in ((dataset, DATASETS), (network, NETWORKS)):
        if name not in known:
            raise ValueError(f"unknown name {name!r}; known are {', '.join(known)}")
    data = DATASETS[dataset]()
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)

    def sample_batch(data, key, split):
        return sample_images(data, key, split, classes, batch_size)

    task = classification_task(NETWORKS[network](), sample_batch, data.image_shape, data.num_classes)
    whole = rows_of(data, split_rows(data, "train", max_examples))
    key = jax.random.key(0)  # No network here draws from it.
    return Training(task, data, lambda params: task.loss(params, key, whole)[0])


def sgd_steps(training: Training, learned: LearnedOptimizer, theta, params, opt_state, keys: Array):
    """Steps of the learned schedule, one a key; returns (params, opt_state)."""
    transformation = learned.optimizer(theta)

    def step(carry, key):
        params, opt_state = carry
        key_batch, key_loss = jax.random.split(key)
        batch = training.task.sample_batch(training.data, key_batch, "train")
        grads = jax.grad(lambda params: training.task.loss(params, key_loss, batch)[0])(params)
        updates, opt_state = transformation.update(grads, opt_state, params)
        return (jax.tree.map(jnp.add, params, updates), opt_state), None

    return lax.scan(step, (params, opt_state), keys)[0]
