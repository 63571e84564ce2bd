"""SGD with momentum whose learning-rate schedule is theta (Wu et al., ICLR 2018, arXiv 1803.02021, section 3).

All hyperparameters live in log space, and the pair (learning rate, momentum) as `(log(alpha / (1 - mu)), log(1 - mu))`:
the effective rate and the memory are nearly independent, so a meta-optimizer can move one without the other.

| factory | theta | alpha_t |
|---|---|---|
| `constant_schedule` | rate | alpha_0 |
| `inverse_time_schedule` | rate, decay exponent beta | alpha_0 / (1 + t / K)^beta |
| `exponential_schedule` | rate, decay rate gamma | alpha_0 exp(-gamma t) |
| `free_schedule` | rate and momentum of each step | alpha_t |
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Float

from learned_opt.base import LearnedOptimizer

Shape = Callable[[Any, Array], tuple[Array, Array]]


class Pair(NamedTuple):
    """A learning rate and a momentum in the coordinates that are learned; scalars or `[num_steps]`.

    Attributes:
      log_effective_rate: `log(alpha / (1 - mu))`.
      log_one_minus_momentum: `log(1 - mu)`.
    """

    log_effective_rate: Float[Array, "..."]
    log_one_minus_momentum: Float[Array, "..."]


class Decayed(NamedTuple):
    """Theta of a schedule with one decay hyperparameter.

    Attributes:
      pair: at the first step.
      log_decay: log of the decay exponent or decay rate.
    """

    pair: Pair
    log_decay: Float[Array, ""]


class MomentumState(NamedTuple):
    """Steps taken (int32) and the velocity, shaped as the parameters."""

    count: Array
    velocity: Any


def encode_pair(learning_rate: float | Array, momentum: float | Array) -> Pair:
    """`(alpha, mu)` in the learned coordinates.

    Raises:
      ValueError: unless `learning_rate > 0` and `0 <= momentum < 1`, for values that are not traced.
    """
    # NumPy: under a caller's trace the comparison of constants would be traced too.
    if not isinstance(learning_rate, jax.core.Tracer) and not np.all(np.asarray(learning_rate) > 0):
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    if not isinstance(momentum, jax.core.Tracer):
        value = np.asarray(momentum)
        if not np.all((value >= 0) & (value < 1)):
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    dtype = jnp.result_type(float)
    log_one_minus = jnp.log1p(-jnp.asarray(momentum, dtype))
    return Pair(jnp.log(jnp.asarray(learning_rate, dtype)) - log_one_minus, log_one_minus)


def decode_pair(pair: Pair) -> tuple[Array, Array]:
    """`(alpha, mu)` of the learned coordinates."""
    one_minus = jnp.exp(pair.log_one_minus_momentum)
    return jnp.exp(pair.log_effective_rate) * one_minus, 1 - one_minus


def constant_schedule(
    learning_rate: float = 0.1, momentum: float = 0.9, *, learn_momentum: bool = True
) -> LearnedOptimizer:
    """One learning rate and one momentum; theta is a `Pair`.

    Args:
      learning_rate: alpha that theta starts at.
      momentum: mu that theta starts at.
      learn_momentum: False keeps the momentum where it starts.

    Raises:
      ValueError: for a rate or momentum out of range.
    """
    return _learned(encode_pair(learning_rate, momentum), lambda theta, t: decode_pair(theta), learn_momentum)


def inverse_time_schedule(
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    decay_exponent: float = 1.0,
    *,
    time_constant: float = 5000.0,
    learn_momentum: bool = False,
) -> LearnedOptimizer:
    """`alpha_t = alpha_0 / (1 + t / time_constant)^beta` (Wu et al., section 3.2); theta is a `Decayed`.

    Args:
      learning_rate: alpha_0 that theta starts at.
      momentum: mu.
      decay_exponent: beta that theta starts at.
      time_constant: K, in steps; not learned.
      learn_momentum: False keeps the momentum where it starts, as the paper does.

    Raises:
      ValueError: for a value out of range, naming it.
    """
    _check_positive(decay_exponent=decay_exponent, time_constant=time_constant)

    def shape(theta, t):
        alpha, mu = decode_pair(theta.pair)
        return alpha * jnp.exp(-jnp.exp(theta.log_decay) * jnp.log1p(t / time_constant)), mu

    theta = Decayed(encode_pair(learning_rate, momentum), _log(decay_exponent))
    return _learned(theta, shape, learn_momentum)


def exponential_schedule(
    learning_rate: float = 0.1, momentum: float = 0.9, decay_rate: float = 1e-3, *, learn_momentum: bool = False
) -> LearnedOptimizer:
    """`alpha_t = alpha_0 exp(-decay_rate t)`; theta is a `Decayed`.

    Args:
      learning_rate: alpha_0 that theta starts at.
      momentum: mu.
      decay_rate: gamma per step that theta starts at.
      learn_momentum: False keeps the momentum where it starts.

    Raises:
      ValueError: for a value out of range, naming it.
    """
    _check_positive(decay_rate=decay_rate)

    def shape(theta, t):
        alpha, mu = decode_pair(theta.pair)
        return alpha * jnp.exp(-jnp.exp(theta.log_decay) * t), mu

    return _learned(Decayed(encode_pair(learning_rate, momentum), _log(decay_rate)), shape, learn_momentum)


def free_schedule(
    num_steps: int, learning_rate: float = 0.1, momentum: float = 0.9, *, learn_momentum: bool = True
) -> LearnedOptimizer:
    """A learning rate and a momentum of its own for each step; theta is a `Pair` of `[num_steps]`.

    Args:
      num_steps: length of theta; later steps use its last entry.
      learning_rate: at which every step starts.
      momentum: at which every step starts.
      learn_momentum: False keeps the momentum where it starts.

    Raises:
      ValueError: for a length below 1, a rate or momentum out of range.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")

    def shape(theta, t):
        index = jnp.minimum(t.astype(jnp.int32), num_steps - 1)
        return decode_pair(jax.tree.map(lambda x: x[index], theta))

    pair = encode_pair(learning_rate, momentum)
    theta = jax.tree.map(lambda x: jnp.full(num_steps, x), pair)
    return _learned(theta, shape, learn_momentum)


def scheduled_sgd(schedule: Callable[[Array], tuple[Array, Array]]) -> optax.GradientTransformationExtraArgs:
    """`v <- mu_t v - alpha_t g`, `w <- w + v` (Wu et al., eqs 1 and 2): the rate scales what enters the velocity.

    Args:
      schedule: `t -> (alpha_t, mu_t)`, t the steps taken so far as a float scalar.
    """

    def init(params):
        return MomentumState(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None, **extra_args):
        del params, extra_args
        alpha, mu = schedule(state.count.astype(jnp.result_type(float)))
        move = lambda v, g: mu.astype(g.dtype) * v - alpha.astype(g.dtype) * g  # noqa: E731
        velocity = jax.tree.map(move, state.velocity, grads)
        return velocity, MomentumState(state.count + 1, velocity)

    return optax.GradientTransformationExtraArgs(init, update)


def _learned(theta, shape: Shape, learn_momentum: bool) -> LearnedOptimizer:
    def optimizer(theta):
        if not learn_momentum:
            theta = _stop_momentum(theta)
        return scheduled_sgd(lambda t: shape(theta, t))

    return LearnedOptimizer(init=lambda key: theta, optimizer=optimizer)


def _stop_momentum(theta):
    pair = theta.pair if isinstance(theta, Decayed) else theta
    pair = pair._replace(log_one_minus_momentum=jax.lax.stop_gradient(pair.log_one_minus_momentum))
    return theta._replace(pair=pair) if isinstance(theta, Decayed) else pair


def _check_positive(**values):
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be above 0 and finite, got {value}")


def _log(value):
    return jnp.log(jnp.asarray(value, jnp.result_type(float)))
