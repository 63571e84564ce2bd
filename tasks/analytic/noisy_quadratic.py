"""The noisy quadratic: a quadratic whose minimum is drawn anew for each gradient,
in exact moments and sampled.

SGD with momentum on it, `v' = mu v - alpha h (theta - c)`, `theta' = theta + v'` with
`c ~ N(0, noise_variances)`, is a linear system, so the expected loss under any schedule is a
deterministic recursion of second moments (Wu et al., ICLR 2018, arXiv 1803.02021, Theorem 1).
Reported losses leave out the floor `1/2 sum(curvatures * noise_variances)` that no schedule can
reach under.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from tasks.base import Key, Task, TaskFamily


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class NoisyQuadratic:
    """Curvatures, gradient noise and the distribution of the start,
    one coordinate each (Wu et al., eq. 3).

    Attributes:
      curvatures: `[dim]`, h > 0; eigenvalues of the Hessian.
      noise_variances: `[dim]`, variances >= 0 of the minimum's coordinates; zeros make gradients
        exact.
      mean: `[dim]`, expectation of the starting parameters; the expected minimum is at 0.
      variance: `[dim]`, variances >= 0 of the starting parameters.

    Raises:
      ValueError: for shapes that differ, an entry out of range or not finite, naming the argument.
        Values that are traced are not looked at.
    """

    curvatures: Float[Array, " dim"]
    noise_variances: Float[Array, " dim"]
    mean: Float[Array, " dim"]
    variance: Float[Array, " dim"]

    def __post_init__(self):
        shape = jnp.shape(self.curvatures)
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(f"curvatures must have shape [dim] with dim >= 1, got {shape}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if jnp.shape(value) != shape:
                raise ValueError(
                    f"{field.name} must have the shape of curvatures, {shape}, got "
                    f"{jnp.shape(value)}"
                )
            _check_range(
                field.name, value, positive=field.name == "curvatures", signed=field.name == "mean"
            )
            object.__setattr__(self, field.name, jnp.asarray(value, jnp.result_type(float)))

    def tree_flatten(self) -> tuple[tuple[Array, Array, Array, Array], None]:
        """The four arrays; no static part."""
        return (self.curvatures, self.noise_variances, self.mean, self.variance), None

    @classmethod
    def tree_unflatten(cls, static: None, children: Iterable[Any]) -> "NoisyQuadratic":
        """Unchecked: JAX puts placeholders of any kind into a pytree."""
        del static
        problem = object.__new__(cls)
        for field, child in zip(dataclasses.fields(cls), children, strict=True):
            object.__setattr__(problem, field.name, child)
        return problem


class Moments(NamedTuple):
    """Second moments times curvature, so that half the sum of `params` is the loss; `[dim]` each.

    Attributes:
      params: `h E[theta^2]`.
      velocity: `h E[v^2]`.
      cross: `h E[theta v]`.
    """

    params: Float[Array, " dim"]
    velocity: Float[Array, " dim"]
    cross: Float[Array, " dim"]


def chebyshev_curvatures(dim: int, h_min: float, h_max: float) -> Float[Array, " dim"]:
    """Zeros of the Chebyshev polynomial on `[h_min, h_max]`, descending:
    conjugate gradient's worst case (Li, 2005).

    Args:
      dim: number of curvatures.
      h_min: lower end of the interval, > 0.
      h_max: its upper end.

    Returns:
      `(h_max + h_min) / 2 + (h_max - h_min) / 2 * cos((2 i - 1) pi / (2 dim))`, i = 1 .. dim.

    Raises:
      ValueError: if `dim` is below 1 or not `0 < h_min <= h_max`.
    """
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
    if not 0 < h_min <= h_max:
        raise ValueError(
            f"h_min must be above 0 and at most h_max, got h_min={h_min}, h_max={h_max}"
        )
    angles = (2 * np.arange(1, dim + 1) - 1) * np.pi / (2 * dim)
    zeros = (h_max + h_min) / 2 + (h_max - h_min) / 2 * np.cos(angles)
    return jnp.asarray(zeros, jnp.result_type(float))


def initial_moments(problem: NoisyQuadratic) -> Moments:
    """At the start, with the velocity at rest."""
    zeros = jnp.zeros_like(problem.curvatures)
    return Moments(problem.curvatures * (problem.mean**2 + problem.variance), zeros, zeros)


def moments_step(
    problem: NoisyQuadratic,
    moments: Moments,
    learning_rate: Float[Array, ""],
    momentum: Float[Array, ""],
) -> Moments:
    """One step of SGD with momentum, exactly
    in expectation (Wu et al., Theorem 1, means and variances together).

    Args:
      problem: the quadratic.
      moments: before the step.
      learning_rate: alpha.
      momentum: mu.

    Returns:
      Moments after the step.
    """
    rate = learning_rate * problem.curvatures
    noise = problem.curvatures * problem.noise_variances
    params, velocity, cross = moments
    new_velocity = momentum**2 * velocity + rate**2 * (params + noise) - 2 * momentum * rate * cross
    drift = momentum * cross - rate * params
    return Moments(params + 2 * drift + new_velocity, new_velocity, drift + new_velocity)


def expected_loss(moments: Moments) -> Float[Array, ""]:
    """Half the summed energies: the expected loss without the noise floor (Wu et al., eq. 6)."""
    return jnp.sum(moments.params) / 2


def expected_losses(
    problem: NoisyQuadratic, learning_rates: Float[Array, " T"], momenta: Float[Array, " T"]
) -> Float[Array, " T+1"]:
    """Expected loss before the first step and after each one, without the noise floor.

    Args:
      problem: the quadratic.
      learning_rates: alpha of each step.
      momenta: mu of each step, below 1.

    Raises:
      ValueError: if the schedules are not two vectors of one length >= 1, or a momentum is 1 or
        more.
    """
    check_schedule(learning_rates, momenta)

    def step(moments, rates):
        moments = moments_step(problem, moments, *rates)
        return moments, expected_loss(moments)

    dtype = problem.curvatures.dtype
    rates = (jnp.asarray(learning_rates, dtype), jnp.asarray(momenta, dtype))
    moments = initial_moments(problem)
    _, losses = lax.scan(step, moments, rates)
    return jnp.concatenate([expected_loss(moments)[None], losses])


def check_schedule(learning_rates, momenta):
    """Raises `ValueError` unless these are `[T]` and `[T]` with T >= 1
    and momenta below 1 (if not traced).
    """
    shape = jnp.shape(learning_rates)
    if len(shape) != 1 or shape[0] < 1:
        raise ValueError(
            f"learning_rates must have shape [num_steps] with num_steps >= 1, got {shape}"
        )
    if jnp.shape(momenta) != shape:
        raise ValueError(
            f"momenta must have the shape of learning_rates, {shape}, got {jnp.shape(momenta)}"
        )
    if not isinstance(momenta, jax.core.Tracer) and not np.all(np.asarray(momenta) < 1):
        raise ValueError(f"momenta must be below 1, got {np.max(np.asarray(momenta))}")


def noisy_quadratic_task(problem: NoisyQuadratic) -> Task:
    """The same problem for real SGD runs: the batch is the minimum `[dim]` that a gradient sees.

    The split `train` draws the minimum from `N(0, noise_variances)`; on every other split it is 0,
    the expected one, so that those losses have no noise and no floor.

    Args:
      problem: the quadratic; its arrays may be traced.
    """

    def init(key: Key):
        return problem.mean + jnp.sqrt(problem.variance) * jax.random.normal(
            key, problem.mean.shape, problem.mean.dtype
        )

    def loss(params, key, batch):
        del key
        return jnp.sum(problem.curvatures * (params - batch) ** 2) / 2, {}

    def sample_batch(data, key, split):
        del data
        if split != "train":
            return jnp.zeros_like(problem.mean)
        return jnp.sqrt(problem.noise_variances) * jax.random.normal(
            key, problem.mean.shape, problem.mean.dtype
        )

    return Task(init, loss, sample_batch)


def noisy_quadratic_family(problem: NoisyQuadratic) -> TaskFamily:
    """Episodes of one noisy quadratic, each from its own start."""
    return TaskFamily(sample=lambda key: problem, task=noisy_quadratic_task)


def _check_range(name, value, positive, signed):
    if isinstance(value, jax.core.Tracer):
        return
    value = np.asarray(value)
    if not np.all(np.isfinite(value)):
        raise ValueError(f"{name} must be finite, got {value}")
    if positive and not np.all(value > 0):
        raise ValueError(f"{name} must be above 0, got {value.min()}")
    if not signed and not np.all(value >= 0):
        raise ValueError(f"{name} must be 0 or more, got {value.min()}")
