"""The step of theta that is only taken where its result is finite, and norms that do not overflow on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt.packing import at_least_float32

Tree = Any


def unit_of(largest: Array, exponent: int = 0) -> Array:
    """A power of two that brings a number near `2**exponent`; `in_units` by it rounds nothing, squares stay finite."""
    unit = _power_of_two(largest) * 0.5**exponent
    return jnp.where(unit < _LARGEST, jnp.maximum(unit, 1 / _LARGEST), _LARGEST)  # that also where it is nan


_LARGEST = 2.0**120
"""Its inverse is a normal number still."""


def in_units(x: Array, unit: Array) -> Array:
    """`x / unit` for a `unit_of`, in its type; a product, since of `x / unit / y` XLA makes `x / (unit * y)`."""
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
    """`(norm / unit, unit)` of a tree: where the norm itself is no number of float32, both of these are."""
    unit = unit_of(largest_of(tree))
    squares = [jnp.sum(jnp.square(in_units(x, unit))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros_like(unit))), unit


def global_norm(tree: Tree) -> Array:
    """The Euclidean norm of all leaves together, of which only the result may overflow."""
    norm, unit = scaled_norm(tree)
    return norm * unit


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm`, for gradients of any size that is finite: squares of 1e20 are infinite in float32.

    Args:
      max_norm: longest update that is let through.
    """

    def update(updates, state, params=None):
        del params
        norm, unit = scaled_norm(updates)
        short = norm < max_norm / unit
        divisor = jnp.where(short, 1, norm)
        clipped = lambda x: (in_units(x, unit) / divisor * max_norm).astype(x.dtype)  # noqa: E731
        return jax.tree.map(lambda x: jnp.where(short, x, clipped(x)), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def share_of(num_terms: int) -> float:
    """A power of two: terms that are scaled by it have a sum no larger than the largest of `num_terms` of them."""
    return 0.5 ** (num_terms - 1).bit_length()


def mean_of_known(trees: Sequence[Tree], known: Sequence[Array]) -> Tree:
    """The mean over the trees for which `known`, bool scalars, holds, in sums that stay as small as their terms."""
    share = share_of(len(trees))
    count = sum(jnp.asarray(k).astype(jnp.float32) for k in known) * share
    count = jnp.where(count > 0, count, 1)

    def mean(*leaves):
        total = sum(jnp.where(k, x * share, 0) for x, k in zip(leaves, known, strict=True))
        return total / count.astype(total.dtype)

    return jax.tree.map(mean, *trees)


def all_finite(tree: Tree) -> Array:
    """Whether every floating-point number of a tree is finite."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves])) if leaves else jnp.bool_(True)


def guarded_update(
    optimizer: optax.GradientTransformation,
) -> Callable[[Tree, Any, Tree, Array], tuple[Tree, Any, Array]]:
    """Builds `(theta, opt_state, grad, known) -> (theta, opt_state, taken)`.

    The step is taken only if the gradient is known, and the gradient, the update, the new theta and every number of the
    optimizer's state that was finite before are finite: otherwise theta and the state come back as they went in. An
    infinite second moment would not show in theta, which could never move again.

    Args:
      optimizer: an Optax chain.
    """

    def step(theta, opt_state, grad, known):
        with jax.numpy_dtype_promotion("standard"):
            updates, new_state = optimizer.update(grad, opt_state, theta)
            new_theta = optax.apply_updates(theta, updates)
            taken = known & all_finite((grad, updates, new_theta)) & _none_lost(opt_state, new_state)
            keep = lambda new, old: jnp.where(taken, new, old)  # noqa: E731
            return jax.tree.map(keep, new_theta, theta), jax.tree.map(keep, new_state, opt_state), taken

    return step


def _none_lost(before, after):
    """Whether what was finite still is; a state may hold infinities of its own, such as a best loss so far."""
    rows = [
        jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if jnp.issubdtype(new.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack(rows)) if rows else jnp.bool_(True)
