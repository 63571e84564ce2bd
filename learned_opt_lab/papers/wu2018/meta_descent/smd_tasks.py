"""What stochastic meta-descent trains:
a network on an image set, and the whole training set's loss.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from learned_opt import LearnedOptimizer
from learned_opt_lab.papers.schedule_runs import rows_of, split_rows
from tasks import Params, Task
from tasks.images import (
    MLP,
    ConvNet,
    DatasetNotPrepared,
    ImageData,
    classification_task,
    digits,
    from_arrays,
    sample_images,
    tfds_images,
)

DATASETS: dict[str, Callable[[], ImageData]] = {
    "digits": digits,
    "noisy_digits": lambda: with_label_noise(digits(), 0.2),
    "fashion_mnist_8x8": lambda: tfds_images("fashion_mnist", image_size=8),
    "mnist": lambda: tfds_images("mnist"),
    "cifar10": lambda: tfds_images("cifar10"),
}


def with_label_noise(
    data: ImageData,
    share: float,
    *,
    num_samples: int | None = None,
    valid_share: float = 0.25,
    seed: int = 0,
) -> ImageData:
    """The set divided anew, with labels of all but the `test` split replaced at random.

    Args:
      data: the image set.
      share: of the labels that are drawn uniformly from all classes.
      num_samples: how many examples `train`, `inner_valid` and `outer_valid` keep in all; None for
        all of them.
      valid_share: of these, `outer_valid`'s; `inner_valid` is one in a hundred.
      seed: of the choice and the noise.

    Raises:
      ValueError: for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be within [0, 1], got {share}")
    rng = np.random.default_rng(seed)
    images, labels = np.asarray(data.images), np.asarray(data.labels)
    test = split_rows(data, "test")
    rows = rng.permutation(np.setdiff1d(np.arange(len(labels)), test))[:num_samples]
    noisy = np.where(
        rng.random(len(rows)) < share, rng.integers(0, data.num_classes, len(rows)), labels[rows]
    )
    # The last is not used: the test split is given.
    fractions = (0.94 - valid_share, 0.01, valid_share, 0.05)
    return from_arrays(
        images[rows],
        noisy,
        test_images=images[test],
        test_labels=labels[test],
        fractions=fractions,
        seed=seed,
    )


class CaffeNet(nn.Module):
    """The CNN of Wu et al. (arXiv 1803.02021, section 3.3):
    3x3 convolutions, each pooled 2x2, and a hidden layer.
    """

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
    "mlp_32": lambda: MLP((32,)),
    "mlp_100_20": lambda: MLP((100, 20)),
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
      full_loss: `params -> scalar`, over the training set (evenly over at most `max_examples` of
        it).
      test_loss: the same over the test set.
      test_error: `params -> scalar`, the share of the test set that is misclassified.
    """

    task: Task
    data: ImageData
    full_loss: Callable[[Params], Array]
    test_loss: Callable[[Params], Array]
    test_error: Callable[[Params], Array]


def load_data(dataset: str, fallback: str = "digits") -> tuple[str, ImageData]:
    """A set of `DATASETS` and its name;
    `"auto"` is 8x8 Fashion-MNIST where it is prepared, and else `fallback`.

    Raises:
      ValueError: for an unknown name.
    """
    if dataset == "auto":
        try:
            return "fashion_mnist_8x8", DATASETS["fashion_mnist_8x8"]()
        except DatasetNotPrepared:
            dataset = fallback
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; known are auto, {', '.join(DATASETS)}")
    return dataset, DATASETS[dataset]()


def make_training(
    data: ImageData, network: str, batch_size: int, max_examples: int = 2000
) -> Training:
    """Builds the task.

    Raises:
      ValueError: for an unknown network.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; known are {', '.join(NETWORKS)}")
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)

    def sample_batch(data, key, split):
        return sample_images(data, key, split, classes, batch_size)

    task = classification_task(
        NETWORKS[network](), sample_batch, data.image_shape, data.num_classes
    )
    key = jax.random.key(0)  # No network here draws from it.

    def over(split):
        batch = rows_of(data, split_rows(data, split, max_examples))
        return lambda params: task.loss(params, key, batch)

    train, test = over("train"), over("test")
    return Training(
        task,
        data,
        full_loss=lambda params: train(params)[0],
        test_loss=lambda params: test(params)[0],
        test_error=lambda params: 1 - test(params)[1]["accuracy"],
    )


def jit_over(training: Training, function: Callable, *args):
    """`jit(function)(training, *args)` with the images as an argument of the program,
    not a constant in it.
    """
    bound = lambda data, args: function(training._replace(data=data), *args)
    return jax.jit(bound)(training.data, args)


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
