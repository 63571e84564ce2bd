"""A learning rate and a momentum in the coordinates that are learned."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from learned_opt import ranges


class Pair(NamedTuple):
    """A learning rate and a momentum in the coordinates that are learned; scalars or `[num_steps]`.

    Attributes:
      log_effective_rate: `log(alpha / (1 - mu))`.
      log_one_minus_momentum: `log(1 - mu)`.
    """

    log_effective_rate: Array
    log_one_minus_momentum: Array


def encode_pair(learning_rate: float | Array, momentum: float | Array) -> Pair:
    """`(alpha, mu)` in the learned coordinates.

    Raises:
      ValueError: unless `learning_rate > 0` and `0 <= momentum < 1`, within `learned_opt.ranges`,
        for values that are not traced.
    """
    rate, mu = _checked("learning_rate", learning_rate), _checked("momentum", momentum)
    log_rate, log_one_minus = as_float(_log(rate)), as_float(_log1p(-mu))
    return Pair(log_rate - log_one_minus, log_one_minus)


def decode_pair(pair: Pair) -> tuple[Array, Array]:
    """`(alpha, mu)` of the learned coordinates; alpha within `learned_opt.ranges`."""
    alpha = ranges.bounded_exp(pair.log_effective_rate + pair.log_one_minus_momentum)
    return alpha, 1 - ranges.bounded_exp(pair.log_one_minus_momentum)


_ALLOWED = {
    "learning_rate": (
        f"above 0, from {ranges.SMALLEST:g} to {ranges.LARGEST:g}",
        ranges.SMALLEST,
        ranges.LARGEST,
    ),
    "momentum": (
        f"in [0, 1), and at least {ranges.SMALLEST_COMPLEMENT:g} below 1",
        0.0,
        1 - ranges.SMALLEST_COMPLEMENT,
    ),
}


def _checked(name, value):
    """In float64 and by NumPy, which a caller's trace does not reach.

    A traced value is the caller's.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    allowed, low, high = _ALLOWED[name]
    try:
        number = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        number = np.array(math.nan)
    if not np.all((number >= low) & (number <= high)):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def _log(value):
    return jnp.log(value) if isinstance(value, jax.core.Tracer) else np.log(value)


def _log1p(value):
    return jnp.log1p(value) if isinstance(value, jax.core.Tracer) else np.log1p(value)


def as_float(value: float | Array) -> Array:
    """A new array of the default floating type."""
    return jnp.array(value, jnp.result_type(float))
