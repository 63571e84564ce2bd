"""Ranges of hyperparameters: a value that a user gives is refused outside them,
a theta is held inside where used.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SMALLEST, LARGEST = 1e-30, 1e30
"""Of what theta holds the logarithm of:
a float32 holds these, their inverses and their products with gradients."""
SMALLEST_COMPLEMENT = 1e-12
"""Of `1 - b`, b a decay constant."""
LARGEST_GRADIENT = 2.0**50
"""A gradient counts as at most this in running averages:
its square is then a float32, with room for a sum."""
_FLOAT32 = np.finfo(np.float32)


def as_number(value: Any) -> float | None:
    """A concrete real scalar as a float; None for anything else, booleans too."""
    is_scalar = (
        isinstance(value, int | float | np.ndarray | np.generic | Array) and np.ndim(value) == 0
    )
    if (
        not is_scalar
        or isinstance(value, jax.core.Tracer)
        or np.dtype(getattr(value, "dtype", type(value))).kind == "b"
    ):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def require(name: str, value: Any, allowed: str, low: float, high: float) -> float:
    """Checks a hyperparameter that a user gave.

    Args:
      name: of the argument.
      value: what was given.
      allowed: the range in words, after "must".
      low: the smallest allowed value.
      high: the largest.

    Returns:
      The value as a float.

    Raises:
      ValueError: unless it is a real number from `low` to `high`.
    """
    number = as_number(value)
    if number is None or not low <= number <= high:
        raise ValueError(f"{name} must {allowed}, got {value!r}")
    return number


def require_positive(name: str, value: Any) -> float:
    """Checks a value whose logarithm is theta:
    above zero, and neither it nor its inverse out of float32's reach.

    Raises:
      ValueError: naming it.
    """
    return require(
        name, value, f"be above 0 and finite, from {SMALLEST:g} to {LARGEST:g}", SMALLEST, LARGEST
    )


def require_decay(name: str, value: Any) -> float:
    """Checks a decay constant b of a running average.

    Raises:
      ValueError: naming it.
    """
    allowed = f"lie in [0, 1), and at least {SMALLEST_COMPLEMENT:g} below 1"
    return require(name, value, allowed, 0.0, 1.0 - SMALLEST_COMPLEMENT)


def require_non_negative(name: str, value: Any, allowed: str) -> float:
    """Checks a value that may be zero, but not by rounding to float32, nor overflow there.

    Raises:
      ValueError: naming it.
    """
    return require_finite(name, value, allowed, 0.0)


def require_finite(
    name: str, value: Any, allowed: str = "be finite", low: float = -float(_FLOAT32.max)
) -> float:
    """The same for a value of either sign, from `low`.

    Raises:
      ValueError: naming it.
    """
    number = require(name, value, allowed, low, float(_FLOAT32.max))
    if 0 < abs(number) < _FLOAT32.tiny:
        raise ValueError(
            f"{name} must be 0 or at least {_FLOAT32.tiny:.3g}, the smallest float32, got {value!r}"
        )
    return number


def require_count(name: str, value: Any, low: int, high: int, allowed: str | None = None) -> int:
    """Checks a whole number.

    Raises:
      ValueError: naming it.
    """
    allowed = f"be a whole number from {low} to {high}" if allowed is None else allowed
    number = require(name, value, allowed, low, high)
    if number != int(number):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(number)


def bounded_exp(log: Array) -> Array:
    """`exp(log)` within `SMALLEST` and `LARGEST`:
    an infinite rate would move even what has no gradient, by inf * 0.
    """
    return jnp.exp(jnp.clip(log, math.log(SMALLEST), math.log(LARGEST)))


def finite_or_zero(x: Array) -> Array:
    """`x`, and 0 where it is infinite or nan."""
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))


def bounded_gradient(gradient: Array) -> Array:
    """A gradient as running averages count it, within plus and minus `LARGEST_GRADIENT`;
    nan stays nan.
    """
    return jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
