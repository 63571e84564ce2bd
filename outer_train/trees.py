"""Trees of numbers: sums, means and norms that do not overflow on the way,
and whether all of a tree is finite.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from learned_opt.trees import at_least_float32

Tree = Any
"""Any pytree of arrays."""


def unit_of(largest: Array, exponent: int = 0) -> Array:
    """A power of two that brings a number near `2**exponent`.

    `in_units` by it rounds nothing, squares stay finite.
    """
    unit = _power_of_two(largest) * 0.5**exponent
    # The largest also where it is nan.
    return jnp.where(unit < _LARGEST, jnp.maximum(unit, 1 / _LARGEST), _LARGEST)


_LARGEST = 2.0**120
"""Its inverse is a normal number still."""


def in_units(x: Array, unit: Array) -> Array:
    """`x / unit` for a `unit_of`, in its type.

    A product, since of `x / unit / y` XLA makes `x / (unit * y)`.
    """
    return x.astype(unit.dtype) * _power_of_two(1 / unit)


def _power_of_two(x):
    # One operation, through which XLA's algebra does not see; frexp and ldexp are some hundred.
    return jax.lax.reduce_precision(x, exponent_bits=jnp.finfo(x.dtype).nexp, mantissa_bits=0)


def largest_of(tree: Tree) -> Array:
    """The largest absolute value in a tree, at least float32; zero if it is empty."""
    leaves = [x for x in jax.tree.leaves(tree) if x.size]
    dtype = at_least_float32(*(x.dtype for x in leaves))
    peaks = [jnp.max(jnp.abs(x)).astype(dtype) for x in leaves]
    return jnp.max(jnp.stack(peaks)) if peaks else jnp.zeros((), dtype)


def scaled_norm(tree: Tree) -> tuple[Array, Array]:
    """`(norm / unit, unit)` of a tree:
    where the norm itself is no number of float32, both of these are.
    """
    unit = unit_of(largest_of(tree))
    squares = [jnp.sum(jnp.square(in_units(x, unit))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros_like(unit))), unit


def global_norm(tree: Tree) -> Array:
    """The Euclidean norm of all leaves together, of which only the result may overflow."""
    norm, unit = scaled_norm(tree)
    return norm * unit


def share_of(num_terms: int) -> float:
    """A power of two: terms that are scaled by it have a sum no larger
    than the largest of `num_terms` of them.
    """
    return 0.5 ** (num_terms - 1).bit_length()


def mean_of_known(trees: Sequence[Tree], known: Sequence[Array]) -> Tree:
    """The mean over the trees for which `known`, bool scalars, holds,
    in sums that stay as small as their terms.
    """
    share = share_of(len(trees))
    count = sum(jnp.asarray(k).astype(jnp.float32) for k in known) * share
    count = jnp.where(count > 0, count, 1)

    def mean(*leaves):
        total = sum(jnp.where(k, x * share, 0) for x, k in zip(leaves, known, strict=True))
        return total / count.astype(total.dtype)

    return jax.tree.map(mean, *trees)


def all_finite(tree: Tree, like: Array | None = None) -> Array:
    """Whether the floating-point numbers of a tree, if any, are all finite.

    Args:
      tree: any.
      like: None for one bool of the whole tree; `[particles]` for one of each particle, by which
        all leaves lead then.
    """
    return _all_hold(jnp.isfinite, like, tree)


def none_lost(before: Tree, after: Tree, like: Array | None = None) -> Array:
    """Whether every floating-point number that was finite still is.

    A state may hold infinities of its own, such as a best loss so far.

    Args:
      before: any tree.
      after: one of the same shapes.
      like: as in `all_finite`.
    """
    kept = lambda new, old: jnp.isfinite(new) | ~jnp.isfinite(old)
    return _all_hold(kept, like, after, before)


def _all_hold(check: Callable[..., Array], like: Array | None, tree: Tree, *others: Tree) -> Array:
    """Whether an elementwise check of trees of the same shapes holds everywhere."""
    num_leading = 0 if like is None else like.ndim
    rows = [
        jnp.all(check(x, *more), axis=tuple(range(num_leading, x.ndim)))
        for x, *more in zip(*map(jax.tree.leaves, (tree, *others)), strict=True)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    if rows:
        return jnp.all(jnp.stack(rows), axis=0)
    return jnp.bool_(True) if like is None else jnp.ones_like(like, bool)


def select(mask: Array, x: Tree, y: Tree) -> Tree:
    """Leaves of x where the mask, bool `[particles]`, holds, of y elsewhere;
    never arithmetic, so inf cannot leak.
    """
    return jax.tree.map(
        lambda a, b: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b), x, y
    )


def widen(tree: Tree) -> Tree:
    """Leaves as arrays of at least float32."""
    return jax.tree.map(
        lambda x: jnp.asarray(x).astype(at_least_float32(jnp.asarray(x).dtype)), tree
    )
