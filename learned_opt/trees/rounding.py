"""Running averages kept in bfloat16: half the memory, rounded at random so that they still move.

A bfloat16 has eight bits. An average that goes on by a thousandth of its value a step would stand
still for ever, rounded to the nearest. Rounded up with a probability that is its place between two
numbers it is right in the mean (stochastic rounding).
"""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

STATE_DTYPES = ("float32", "bfloat16")
"""In which averages may be kept."""


def check_state_dtype(dtype: DTypeLike | None) -> DTypeLike | None:
    """The type of averages that a user asks for; None is that in which they are computed.

    Raises:
      ValueError: for any but `STATE_DTYPES`; a float16 cannot hold the square of a small gradient.
    """
    if dtype is None:
        return None
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in STATE_DTYPES:
        raise ValueError(f"state_dtype: got {name!r}, allowed are {' and '.join(STATE_DTYPES)}")
    return jnp.dtype(name)


def rounded(x: Array, dtype: DTypeLike, count: Array) -> Array:
    """`x` in another type; in bfloat16 rounded at random.

    What is added below the last bit is a hash of the number itself and the count. So it is the same
    on any layout over devices, it needs no key, and zero stays zero.

    Args:
      x: of any shape, float32 or float64.
      dtype: float32, float64 or bfloat16.
      count: int32 scalar, of updates made before.
    """
    if dtype != jnp.bfloat16:
        return x.astype(dtype)
    x = x.astype(jnp.float32)
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    noise = _hash(bits ^ _hash(count.astype(jnp.uint32))) >> 16
    up = lax.bitcast_convert_type((bits + noise) & jnp.uint32(0xFFFF0000), jnp.float32)
    # Carried past the largest exponent it would be another nan, or a number of the other sign.
    return jnp.where(jnp.isfinite(x), up, x).astype(dtype)


def _hash(x: Array) -> Array:
    """A permutation of the 32-bit numbers in which each input bit turns half of the output's.

    Multiplications by odd numbers carry upwards, shifts bring the upper half down again.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x9E3779B1)
    x = (x ^ (x >> 15)) * jnp.uint32(0x85EBCA77)
    return x ^ (x >> 16)
