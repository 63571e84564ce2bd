"""SGD with momentum whose learning-rate schedule is theta
(Wu et al., ICLR 2018, arXiv 1803.02021, section 3).

All hyperparameters live in log space, and the pair (learning rate, momentum) as
`(log(alpha / (1 - mu)), log(1 - mu))`: the effective rate and the memory are nearly independent, so
a meta-optimizer can move one without the other.

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
import optax
from jax import Array

from learned_opt import ranges
from learned_opt.base import LearnedOptimizer
from learned_opt.hand_designed.pairs import Pair, as_float, decode_pair, encode_pair
from learned_opt.trees.gradient_tree import (
    kept_where_untrained,
    map_trained,
    update_dtypes,
    widened,
    zeros_for,
)
from learned_opt.trees.packing import as_update
from learned_opt.trees.spread import zero_count
from learned_opt.trees.state_check import check_mirrors, check_params, check_precision, check_type

Shape = Callable[[Any, Array], tuple[Array, Array]]
MAX_FREE_STEPS = 2**24
"""Of `free_schedule`: a float32 counts the steps exactly up to there."""


class Decayed(NamedTuple):
    """Theta of a schedule with one decay hyperparameter.

    Attributes:
      pair: at the first step.
      log_decay: log of the decay exponent or decay rate.
    """

    pair: Pair
    log_decay: Array


class MomentumState(NamedTuple):
    """Steps taken (int32) and the velocity, shaped as the parameters."""

    count: Array
    velocity: Any


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
    return _learned(
        _start(learning_rate, momentum), lambda theta, t: decode_pair(theta), learn_momentum
    )


def inverse_time_schedule(
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    decay_exponent: float = 1.0,
    *,
    time_constant: float = 5000.0,
    learn_momentum: bool = False,
) -> LearnedOptimizer:
    """`alpha_t = alpha_0 / (1 + t / time_constant)^beta` (Wu et al., section 3.2);
    theta is a `Decayed`.

    Args:
      learning_rate: alpha_0 that theta starts at.
      momentum: mu.
      decay_exponent: beta that theta starts at.
      time_constant: K, in steps; not learned.
      learn_momentum: False keeps the momentum where it starts, as the paper does.

    Raises:
      ValueError: for a value out of range, naming it.
    """
    time_constant = ranges.require_positive("time_constant", time_constant)
    log_decay = math.log(ranges.require_positive("decay_exponent", decay_exponent))

    def shape(theta, t):
        alpha, mu = decode_pair(theta.pair)
        return alpha * jnp.exp(
            -ranges.bounded_exp(theta.log_decay) * jnp.log1p(t / time_constant)
        ), mu

    return _learned(_start(learning_rate, momentum, log_decay), shape, learn_momentum)


def exponential_schedule(
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    decay_rate: float = 1e-3,
    *,
    learn_momentum: bool = False,
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
    log_decay = math.log(ranges.require_positive("decay_rate", decay_rate))

    def shape(theta, t):
        alpha, mu = decode_pair(theta.pair)
        return alpha * jnp.exp(-ranges.bounded_exp(theta.log_decay) * t), mu

    return _learned(_start(learning_rate, momentum, log_decay), shape, learn_momentum)


def free_schedule(
    num_steps: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    *,
    learn_momentum: bool = True,
) -> LearnedOptimizer:
    """A learning rate and a momentum of its own for each step; theta is a `Pair` of `[num_steps]`.

    Args:
      num_steps: length of theta, at most `MAX_FREE_STEPS`; later steps use its last entry.
      learning_rate: at which every step starts.
      momentum: at which every step starts.
      learn_momentum: False keeps the momentum where it starts.

    Raises:
      ValueError: for a length, rate or momentum out of range.
    """
    num_steps = ranges.require_count("num_steps", num_steps, 1, MAX_FREE_STEPS)
    pair = _start(learning_rate, momentum)

    def shape(theta, t):
        index = jnp.minimum(t, num_steps - 1).astype(jnp.int32)
        return decode_pair(jax.tree.map(lambda x: x[index], theta))

    return _learned(
        lambda: jax.tree.map(lambda x: jnp.full(num_steps, x), pair()), shape, learn_momentum
    )


def scheduled_sgd(
    schedule: Callable[[Array], tuple[Array, Array]],
) -> optax.GradientTransformationExtraArgs:
    """`v <- mu_t v - alpha_t g`, `w <- w + v` (Wu et al., eqs 1 and 2):
    the rate scales what enters the velocity.

    Args:
      schedule: `t -> (alpha_t, mu_t)`, scalars, t the steps taken so far as a float scalar. A value
        that is not finite counts as 0: an infinite rate would move even what has no gradient.
    """

    def init(params):
        return MomentumState(zero_count(params), zeros_for(params))

    def update(grads, state, params=None, **extra_args):
        del extra_args
        _check_call(grads, state, params)
        values = schedule(state.count.astype(jnp.result_type(float)))
        alpha, mu = (ranges.finite_or_zero(jnp.asarray(value)) for value in values)
        move = lambda g, v: (
            mu.astype(v.dtype) * v - alpha.astype(v.dtype) * widened(g).astype(v.dtype)
        )
        velocity = map_trained(move, grads, state.velocity)
        updates = map_trained(
            lambda g, v, dtype: as_update(v, dtype), grads, velocity, update_dtypes(grads, params)
        )
        kept = kept_where_untrained(grads, velocity, state.velocity)
        return updates, MomentumState(optax.safe_increment(state.count), kept)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_call(grads, state, params):
    name = "scheduled_sgd"
    check_type(name, state, MomentumState)
    check_mirrors(name, "velocity", state.velocity, grads)
    check_precision(name, "velocity", state.velocity, params)
    if params is not None:
        check_params(name, params, grads)


def _learned(start: Callable[[], Any], shape: Shape, learn_momentum: bool) -> LearnedOptimizer:
    """`start` makes new arrays at every init:
    a theta that was donated must not be the factory's own.
    """

    def optimizer(theta):
        if not learn_momentum:
            theta = _stop_momentum(theta)
        dtype = jnp.result_type(jax.tree.leaves(theta)[0])  # A float32 theta is used under x64 too.
        return scheduled_sgd(lambda t: shape(theta, t.astype(dtype)))

    return LearnedOptimizer(init=lambda key: start(), optimizer=optimizer)


def _start(learning_rate, momentum, log_decay=None):
    """Checks now, and gives what makes theta's arrays."""
    traced = lambda value: isinstance(value, jax.core.Tracer)
    rate = (
        learning_rate
        if traced(learning_rate)
        else ranges.require_positive("learning_rate", learning_rate)
    )
    mu = momentum if traced(momentum) else ranges.require_decay("momentum", momentum)

    def theta():
        pair = encode_pair(rate, mu)
        return pair if log_decay is None else Decayed(pair, as_float(log_decay))

    return theta


def _stop_momentum(theta):
    pair = theta.pair if isinstance(theta, Decayed) else theta
    pair = pair._replace(log_one_minus_momentum=jax.lax.stop_gradient(pair.log_one_minus_momentum))
    return theta._replace(pair=pair) if isinstance(theta, Decayed) else pair
