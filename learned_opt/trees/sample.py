"""A sample of a large tensor: a lattice of its elements, so many apart along each axis.

The same elements whatever the layout, and each device of a mesh picks them of its own part: strides
are divisors that leave an axis as many parts as a mesh is likely to make of it, or, where it has
too few divisors, go over each of those parts alone.
"""

import math

from jax import Array, lax

from learned_opt.trees.spread import joined_axis, split_axis

SAMPLE = 32_768
"""Elements of a larger tensor that a mean square is taken of where a sample will do: one more pass
over the state would cost as much as the update. Its logarithm is off by .002 decades."""
PARTS = 64
"""An even axis keeps as many factors of two as this has."""


def lattice(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride along each axis, for a sample of at least `SAMPLE` elements;
    of more where the axes do not divide well.
    """
    strides, wanted = [1] * len(shape), math.prod(shape) // SAMPLE
    while steps := [
        (n // stride, axis, factor)
        for axis, (n, stride) in enumerate(zip(shape, strides, strict=True))
        if (factor := next_factor(n, stride)) * math.prod(strides) <= wanted and factor > 1
    ]:
        _, axis, factor = max(steps)
        strides[axis] *= factor
    return tuple(strides)


def next_factor(n: int, stride: int) -> int:
    """By how much a stride along an axis of n may grow; 1 is by nothing.

    Args:
      n: elements along the axis.
      stride: so far.
    """
    if n % 2:
        # No mesh of an even number of devices parts it, so it need not divide.
        return 2 if 2 * stride <= n else 1
    least = stride * _num_parts(n)
    factors = (f for f in (2, 3, 5, 7, 11, 13) if n % (f * least) == 0)
    # Without a divisor it goes over each part by itself.
    return next(factors, 2 if 2 * least <= n else 1)


def divisors_beside_a_mesh(n: int) -> list[int]:
    """Into how many equal blocks an axis of n can be divided, each spread as the axis is."""
    whole = n // _num_parts(n)
    low = [i for i in range(1, math.isqrt(whole) + 1) if whole % i == 0]
    return sorted({*low, *(whole // i for i in low)})


def _num_parts(n: int) -> int:
    """That a mesh is likely to make of an axis at most."""
    return math.gcd(n, PARTS)


def _goes_by_parts(n: int, stride: int) -> bool:
    """Whether a stride does not divide the parts that a mesh may make of an even axis."""
    least = stride * _num_parts(n)
    return n % 2 == 0 and least <= n and n % least != 0


def picked(x: Array, strides: tuple[int, ...], is_spread: bool) -> Array:
    """Those elements of the last axes of `x`, as many as there are strides.

    Of what may be spread over devices each picks its part; else it is one slice, where no axis is
    gone over by parts.
    """
    first = x.ndim - len(strides)
    shape = x.shape[first:]
    by_parts = [_goes_by_parts(n, stride) for n, stride in zip(shape, strides, strict=True)]
    if not is_spread and not any(by_parts):
        starts = [0] * first + [stride // 2 for stride in strides]
        return lax.slice(x, starts, x.shape, [1] * first + list(strides))
    for axis, (stride, each) in enumerate(zip(strides, by_parts, strict=True), first):
        if stride == 1:
            continue
        n = x.shape[axis]
        if each:
            part = n // _num_parts(n)
            x = split_axis(x, axis, part)
            x = joined_axis(lax.slice_in_dim(x, stride // 2, part, stride, axis + 1), axis)
        elif n % stride or not is_spread:
            x = lax.slice_in_dim(x, stride // 2, n, stride, axis)
        else:
            x = lax.index_in_dim(split_axis(x, axis, stride), stride // 2, axis + 1, keepdims=False)
    return x
