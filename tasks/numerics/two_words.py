"""Numbers of twice the precision and without limits of size, for products of many factors.

`TwoWords` is the unevaluated sum of a rounded value and its rounding error: two float32 words carry
about 48 bits. The algorithms are Knuth's sum and Dekker's product (Dekker, "A floating-point
technique for extending the available precision", 1971). `Wide` adds an exponent of its own, so that
a power neither overflows nor vanishes.

Error words are constants under differentiation: derivatives are those of the rounded operations, to
one word.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

POWER_BITS = 31
LOWEST_EXPONENT = np.int32(-(2**29))
"""Of zero: so low that whatever is added to it sets the exponent."""


class TwoWords(NamedTuple):
    """`high + low`, where `low` is at most half a unit in the last place of `high`;
    arrays of one dtype.
    """

    high: Array
    low: Array


class Wide(NamedTuple):
    """`mantissa 2^exponent`, the mantissa's size in [1/2, 1) or 0, the exponent int32."""

    mantissa: TwoWords
    exponent: Array


def two_words(x: Array) -> TwoWords:
    """A float array, without an error."""
    return TwoWords(x, jnp.zeros_like(x))


def exact_product(a: Array, b: Array) -> TwoWords:
    """`a b` of two floats, exactly unless it over- or underflows."""
    # A compiler may fuse a product into the sum after it, unrounded.
    # So all products here are exact: of halves.
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    cross = exact_sum(a_high * b_low, a_low * b_high)
    product = exact_sum(a_high * b_high, cross.high)
    product = lax.stop_gradient(exact_sum(product.high, product.low + (cross.low + a_low * b_low)))
    fixed_a, fixed_b = lax.stop_gradient((a, b))
    # Zero, with the derivatives of a b, which bit masks do not have.
    return TwoWords(product.high + ((a - fixed_a) * b + fixed_a * (b - fixed_b)), product.low)


def exact_sum(a: Array, b: Array) -> TwoWords:
    """`a + b` of two floats, exactly."""
    # Barriers keep the compiler from simplifying `(a + b) - a`.
    total = lax.optimization_barrier(a + b)
    a, b, rounded = lax.stop_gradient((a, b, total))
    virtual = lax.optimization_barrier(rounded - a)
    return TwoWords(total, (a - lax.optimization_barrier(rounded - virtual)) + (b - virtual))


def add(a: TwoWords, b: TwoWords) -> TwoWords:
    """`a + b`, to a few units in the last place of the larger low word."""
    high, low = exact_sum(a.high, b.high)
    tail, tail_low = exact_sum(*lax.stop_gradient((a.low, b.low)))
    high, low = exact_sum(high, low + tail)
    return exact_sum(high, low + tail_low)


def subtract(a: TwoWords, b: TwoWords) -> TwoWords:
    """`a - b`, as `add`."""
    return add(a, TwoWords(-b.high, -b.low))


def multiply(a: TwoWords, b: TwoWords) -> TwoWords:
    """`a b`, to a few units in the last place of its low word."""
    product, error = exact_product(a.high, b.high)
    cross = lax.stop_gradient(a.high * b.low + a.low * b.high)
    return exact_sum(product, error + cross)


def total(a: TwoWords) -> TwoWords:
    """The sum over the last axis, by halves."""
    length = a.high.shape[-1]
    while length > 1:
        half = length // 2
        rest = TwoWords(*(x[..., 2 * half :] for x in a))
        halves = add(
            TwoWords(*(x[..., :half] for x in a)), TwoWords(*(x[..., half : 2 * half] for x in a))
        )
        a = TwoWords(*(jnp.concatenate(pair, -1) for pair in zip(halves, rest, strict=True)))
        length = half + length % 2
    return TwoWords(*(x[..., 0] for x in a))


def scaled(a: TwoWords, exponent: Array) -> TwoWords:
    """`a 2^exponent`, exactly unless it over- or underflows."""
    return TwoWords(*(jnp.ldexp(x, exponent) for x in a))


def wide(a: TwoWords, exponent: Array | int = 0) -> Wide:
    """`a 2^exponent`, its mantissa normalized."""
    _, own = jnp.frexp(lax.stop_gradient(a.high))
    return Wide(scaled(a, -own), jnp.where(a.high == 0, LOWEST_EXPONENT, own + exponent))


def wide_product(a: Wide, b: Wide) -> Wide:
    """`a b`."""
    return wide(multiply(a.mantissa, b.mantissa), a.exponent + b.exponent)


def wide_power(a: Wide, n: Array) -> Wide:
    """`a^n` for an int32 scalar n >= 0, its relative error growing as n."""
    one = wide(two_words(jnp.ones_like(a.mantissa.high)))

    def next_bit(i, power):
        square = wide_product(power, power)
        times = wide_product(square, a)
        bit = (n >> (POWER_BITS - 1 - i)) & 1
        return Wide(
            TwoWords(
                *(
                    jnp.where(bit, x, y)
                    for x, y in zip(times.mantissa, square.mantissa, strict=True)
                )
            ),
            jnp.where(bit, times.exponent, square.exponent),
        )

    return lax.fori_loop(0, POWER_BITS, next_bit, one)


def wide_total(a: Wide) -> Wide:
    """The sum over the last axis."""
    largest = jnp.max(a.exponent, -1)
    return wide(total(scaled(a.mantissa, a.exponent - largest[..., None])), largest)


def wide_ratio(a: Wide, b: Wide) -> Array:
    """`a / b` as a float; 0 where b is 0."""
    divisor = jnp.where(b.mantissa.high == 0, 1, b.mantissa.high)
    ratio = jnp.ldexp(a.mantissa.high / divisor, a.exponent - b.exponent)
    return jnp.where(b.mantissa.high == 0, 0, ratio)


def _split(a):
    """Upper and lower half of the significand, by its bits: a factor would overflow."""
    a = lax.stop_gradient(a)
    low_bits = jnp.finfo(a.dtype).nmant // 2 + 1
    integer = jnp.int32 if a.dtype.itemsize == 4 else jnp.int64
    mask = jnp.asarray(-(2**low_bits), integer)
    high = lax.bitcast_convert_type(lax.bitcast_convert_type(a, integer) & mask, a.dtype)
    return high, a - high
