"""Noisy linear regression, for step-size tuning by the training
or by a validation loss (arXiv 2006.16495).

`y = x . w* + noise` with x standard normal in `[dim]`, |w*| = 1 and noise of standard deviation
sigma; the loss is half the mean squared residual and training starts at 0. An outer objective on
the split `train` is the paper's train-by-train, one on `outer_valid` its train-by-validation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from tasks.base import Task, TaskFamily


class Regression(NamedTuple):
    """One regression problem: task parameters of the family.

    Attributes:
      inputs: `[num_samples, dim]`.
      targets: `[num_samples]`.
      solution: `[dim]`, w*, of norm 1.
    """

    inputs: Float[Array, "num_samples dim"]
    targets: Float[Array, " num_samples"]
    solution: Float[Array, " dim"]


def least_squares_family(
    dim: int,
    num_samples: int,
    noise_std: float,
    *,
    num_train: int | None = None,
    batch_size: int | None = None,
    max_norm: float | None = None,
) -> TaskFamily:
    """Regression problems that differ in their solution, inputs and noise.

    The first `num_train` samples are the split `train`, the others `inner_valid` and `outer_valid`.
    `test` is exact: a batch whose loss is `1/2 |w - w*|^2`, the population's excess risk.

    Args:
      dim: d.
      num_samples: n, in all.
      noise_std: sigma.
      num_train: None for all of them; then there are no validation splits.
      batch_size: samples drawn with replacement for a training batch (SGD); None for all of them
        (gradient descent).
      max_norm: once |w| reaches it the gradient is zero and plain SGD stays where it is, so that no
        step size makes infinities. None for the paper's 40 sigma, without a limit for sigma = 0.

    Returns:
      The family; parameters are w, `[dim]`.

    Raises:
      ValueError: for a size below 1, a `num_train` above `num_samples`, a negative `noise_std` or a
        `max_norm` that is not positive, naming the argument; on sampling a validation batch when
        there are no validation samples.
    """
    num_train = num_samples if num_train is None else num_train
    _check(dim, num_samples, noise_std, num_train, batch_size, max_norm)
    if max_norm is None:
        max_norm = 40 * noise_std if noise_std > 0 else float("inf")

    def sample(key) -> Regression:
        key_solution, key_inputs, key_noise = jax.random.split(key, 3)
        direction = jax.random.normal(key_solution, (dim,))
        solution = direction / jnp.linalg.norm(direction)
        inputs = jax.random.normal(key_inputs, (num_samples, dim))
        noise = noise_std * jax.random.normal(key_noise, (num_samples,))
        return Regression(inputs, inputs @ solution + noise, solution)

    def loss(params, key, batch):
        del key
        inputs, targets = batch
        value = jnp.mean((inputs @ params - targets) ** 2) / 2
        frozen = jnp.sum(params**2) >= max_norm**2
        return jnp.where(frozen, lax.stop_gradient(value), value), {}

    def task(regression: Regression) -> Task:
        def init(key):
            del key
            return jnp.zeros_like(regression.solution)

        def sample_batch(data, key, split):
            del data
            if split == "test":
                scale = jnp.sqrt(jnp.asarray(dim, regression.solution.dtype))
                return scale * jnp.eye(dim, dtype=scale.dtype), scale * regression.solution
            if split != "train":
                if num_train == num_samples:
                    raise ValueError(
                        f"no samples are left for {split!r}: num_train is num_samples, "
                        f"{num_samples}"
                    )
                return regression.inputs[num_train:], regression.targets[num_train:]
            if batch_size is None:
                return regression.inputs[:num_train], regression.targets[:num_train]
            index = jax.random.randint(key, (batch_size,), 0, num_train)
            return regression.inputs[index], regression.targets[index]

        return Task(init, loss, sample_batch)

    return TaskFamily(sample, task)


def _check(dim, num_samples, noise_std, num_train, batch_size, max_norm):
    sizes = {
        "dim": dim,
        "num_samples": num_samples,
        "num_train": num_train,
        "batch_size": batch_size,
    }
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if num_train > num_samples:
        raise ValueError(f"num_train must be at most num_samples, {num_samples}, got {num_train}")
    if not 0 <= noise_std < float("inf"):
        raise ValueError(f"noise_std must be 0 or more and finite, got {noise_std}")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}")
