"""What Adam's direction is made of: averages of decays near one, their weights, and a root,
with derivatives that are finite wherever theta may go.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from learned_opt import ranges

LOG_RANGE = (math.log(ranges.SMALLEST), math.log(ranges.LARGEST))
"""Of the logarithm of an eps."""


@jax.custom_jvp
def over_root(m: Array, v: Array, log_eps: Array) -> Array:
    """`m / sqrt(v + eps^2)` with no square of eps, which float32 does not hold."""
    return m / _root(v, log_eps)


@over_root.defjvp
def _over_root_jvp(primals, tangents):
    """No factor is larger than the inverse of `ranges.SMALLEST`, so that none is infinite:
    inf * 0 would be nan.

    The factor of v's tangent is a product: XLA makes one division of several, by a product of roots
    that may be 0. A v above 0 is at least the smallest normal number, so that what bounds its
    square from below only matters where v is 0.
    """
    (m, v, log_eps), (m_dot, v_dot, log_eps_dot) = primals, tangents
    root = _root(v, log_eps)
    out = m / root
    square = jnp.maximum(jnp.square(root), jnp.finfo(root.dtype).tiny)
    to_v = jnp.clip(out * (0.5 / square), -ranges.LARGEST, ranges.LARGEST)
    return out, m_dot / root - to_v * v_dot - out * jnp.square(
        jnp.exp(log_eps) / root
    ) * log_eps_dot


def _root(v, log_eps):
    a, b = jnp.sqrt(v), jnp.exp(log_eps)
    large, small = jnp.maximum(a, b), jnp.minimum(a, b)
    return large * jnp.sqrt(1 + jnp.square(small / large))


def average(log_one_minus: Array, old: Array, new: Array) -> Array:
    """`b old + (1 - b) new` in the type of `old`."""
    one_minus = jnp.exp(_bounded_complement(log_one_minus))
    return complement(log_one_minus).astype(old.dtype) * old + one_minus.astype(
        old.dtype
    ) * new.astype(old.dtype)


def total_weight(log_one_minus: Array, t: Array) -> Array:
    """`1 - b^t`, precise where b is nearly 1; its derivatives are finite at b = 0 too."""
    x = _bounded_complement(log_one_minus).astype(t.dtype)
    near_one = jnp.log1p(-jnp.exp(jnp.minimum(x, -0.5)))
    near_zero = jnp.log(jnp.maximum(-jnp.expm1(x), ranges.SMALLEST))
    return -jnp.expm1(t * jnp.where(x < -0.7, near_one, near_zero))


def _bounded_complement(log_one_minus):
    """Of a b in [0, 1); `where` keeps the derivative at b = 0, of which `minimum` would halve."""
    return jnp.where(
        log_one_minus > 0, 0, jnp.maximum(log_one_minus, math.log(ranges.SMALLEST_COMPLEMENT))
    )


def complement(log_one_minus: Array) -> Array:
    """The b of a `log(1 - b)`."""
    return -jnp.expm1(_bounded_complement(log_one_minus))
