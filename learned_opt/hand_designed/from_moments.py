"""A learned optimizer made of a rule and of running moments of the gradient,
and the coordinates that its theta is in.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from learned_opt import ranges
from learned_opt.base import LearnedOptimizer
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


class MomentState(NamedTuple):
    """Updates made (int32), and running moments of the gradient shaped
    as the parameters (`()` where there is none).
    """

    count: Array
    mean: Any = ()
    square: Any = ()


def with_moments(
    name: str,
    theta: dict[str, float],
    moments: tuple[str, ...],
    update: Callable[..., tuple[Any, MomentState]],
    needs_params: bool = False,
) -> LearnedOptimizer:
    """The optimizer whose state has these moments.

    Args:
      name: for messages.
      theta: where theta starts, name -> number.
      moments: fields of `MomentState` that it has.
      update: `(theta, grads, state, params) -> (steps, state)`; it sees everything in float32 and
        leaves the count alone.
      needs_params: whether `params` may not be None.
    """

    def init(params):
        return MomentState(zero_count(params), **{m: zeros_for(params) for m in moments})

    def check(grads, state, params):
        check_type(name, state, MomentState)
        for moment in MomentState._fields[1:]:
            check_mirrors(name, moment, getattr(state, moment), grads if moment in moments else ())
            check_precision(name, moment, getattr(state, moment), params)
        if needs_params and params is None:
            raise ValueError(f"{name} needs params at update: its penalties are on them")
        if params is not None:
            check_params(name, params, grads)

    def optimizer(theta):
        def update_fn(grads, state, params=None, **extra):
            del extra
            check(grads, state, params)
            wide = map_trained(widened, grads)
            steps, new = update(
                theta, wide, state, None if params is None else map_trained(_second, grads, params)
            )
            kept = {
                m: kept_where_untrained(grads, getattr(new, m), getattr(state, m)) for m in moments
            }
            steps = map_trained(
                lambda g, s, dtype: as_update(s, dtype), grads, steps, update_dtypes(grads, params)
            )
            return steps, MomentState(optax.safe_increment(state.count), **kept)

        return optax.GradientTransformationExtraArgs(init, update_fn)

    return LearnedOptimizer(
        lambda key: {name: jnp.float32(value) for name, value in theta.items()}, optimizer
    )


def _second(gradient, leaf):
    del gradient
    return widened(leaf)


def exp_like(log: Array, like: Array) -> Array:
    """The value of a logarithm in theta, within `learned_opt.ranges`, in the type of `like`."""
    return ranges.bounded_exp(log).astype(like.dtype)


def log_of(name: str, value: float) -> float:
    """Theta's coordinate of a rate or a penalty.

    Raises:
      ValueError: for a value out of `learned_opt.ranges`, naming it.
    """
    return math.log(ranges.require_positive(name, value))


def log_one_minus(name: str, value: float) -> float:
    """Theta's coordinate of a decay constant.

    Raises:
      ValueError: for a decay outside [0, 1), naming it.
    """
    return math.log1p(-ranges.require_decay(name, value))
