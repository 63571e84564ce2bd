"""How an update rule is carried over the elements of a group: at once, or in blocks for a large tensor.

A rule that XLA makes one loop of, inputs and hidden units included, goes at once over any size. Of others, all that
lies between the state and the update stays in the cache in blocks, and takes no memory of the size of the model.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from learned_opt.per_parameter.features import NORMALIZED, OverTensor
from learned_opt.per_parameter.kernel import in_halves

BLOCK = 32_768
"""Most elements to a block. State and inputs of a block take 2 MB; smaller ones pay for starting each loop."""
SAMPLE = 32_768
"""Elements of a larger tensor that a mean square is taken of where a sample will do: one more pass over the state would
cost as much as the update. Its logarithm is off by .002 decades."""
_VECTOR = 16
"""Floats in a vector of the widest kind; blocks are multiples of it."""


class UpdateRule(NamedTuple):
    """The update of one step.

    Attributes:
      rows: `(g, w, momenta, second moments) -> rows [n]`, numbers or booleans, each element on its own.
      over_tensor: for each row what is made of it once its mean square over the tensor is known; None for nothing.
      step: `(weights, rows) -> update [n]`, from rows `[n]` or scalars that stand for as many equal ones; what may
        carry a derivative comes in by the arguments.
      weights: any tree of arrays, for `step`.
      is_one_loop: whether `step` is elementwise throughout, so that nothing it computes needs memory.
    """

    rows: Callable[[Array, Array, Array, Array], list[Array]]
    over_tensor: Sequence[OverTensor | None]
    step: Callable[[Any, list[Array]], Array]
    weights: Any
    is_one_loop: bool = False


def running_averages(averages: Array, value: Array, decays: Sequence[float]) -> Array:
    """Running averages `[decays, *shape]`, one step on with `value` `[*shape]`, in its type.

    Averages that mirror a parameter are to come in its shape: XLA writes them where the old ones were only if nothing
    reshapes them in between.
    """
    column = (-1, *(1,) * value.ndim)
    decay = jnp.asarray(decays, value.dtype).reshape(column)
    # In Python's precision: 1 - .9999 has only three digits left in float32.
    rest = jnp.asarray([1.0 - d for d in decays], value.dtype).reshape(column)
    return decay * averages.astype(value.dtype) + rest * value[None]


def split_rows(matrix: Array) -> list[Array]:
    """The rows of `[a, n]`; unlike a slice each, whose gradient is a sum of a padded matrices."""
    if not matrix.shape[0]:
        return []
    return [lax.squeeze(row, (0,)) for row in lax.split(matrix, (1,) * matrix.shape[0])]


def apply_rule(rule: UpdateRule, g: Array, w: Array, momentum: Array, second: Array, sizes: Sequence[int]) -> Array:
    """Updates one group.

    Args:
      rule: of this step.
      g: gradient, `[n]`.
      w: parameters, `[n]`.
      momentum: `[momentum decays, n]`, this step's gradient included.
      second: `[second-moment decays, n]`, alike.
      sizes: elements of each tensor in the group; they sum to n.

    Returns:
      The update `[n]`, to be added, in the type of g.
    """
    if len(sizes) == 1 and sizes[0] > SAMPLE:
        rule = _with_sampled(rule, g, w, momentum, second)
    if len(sizes) == 1 and sizes[0] > BLOCK and not rule.is_one_loop:
        update = _in_blocks(rule, g, w, momentum, second)
    else:
        rows = rule.rows(g, w, momentum, second)
        rows = [over_tensors(*each, sizes) for each in zip(rows, rule.over_tensor, strict=True)]
        update = _at_once(rule, rows, len(sizes), g.dtype)
    return jnp.broadcast_to(update, g.shape)  # a scalar where every row is


def _with_sampled(rule: UpdateRule, *state: Array) -> UpdateRule:
    """The rule with those rows made whole whose mean square is taken of a sample, every k-th element of the tensor."""
    is_sampled = [over is not None and over.is_sampled for over in rule.over_tensor]
    if not any(is_sampled):
        return rule
    stride = state[0].size // SAMPLE | 1  # odd, so that a power of two columns does not put the sample in a few of them
    sample = rule.rows(*(x[..., ::stride] for x in state))
    mean_squares = [jnp.mean(row * row) for row in sample]

    def rows(*parts: Array) -> list[Array]:
        each = zip(rule.rows(*parts), rule.over_tensor, mean_squares, is_sampled, strict=True)
        return [over.function(row, square) if sampled else row for row, over, square, sampled in each]

    left = [None if sampled else over for over, sampled in zip(rule.over_tensor, is_sampled, strict=True)]
    return rule._replace(rows=rows, over_tensor=left)


def _at_once(rule: UpdateRule, rows: list[Array], num_tensors: int, dtype: DTypeLike) -> Array:
    if num_tensors > 1:
        return _step_once(rule.step, dtype, rule.weights, rows)
    if rule.is_one_loop:
        # Without it XLA moves the reshapes of the state's rows down to each of their many readers, one to a hidden
        # unit, and then computes the rows apart, since it counts each reader's as another index.
        rows = lax.optimization_barrier(rows)
    return rule.step(rule.weights, rows)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _step_once(step: Callable[[Any, list[Array]], Array], dtype: DTypeLike, weights: Any, rows: list[Array]) -> Array:
    """`step(weights, rows)`, of that type, computed once whatever reads its parts."""
    return in_halves(lambda parts: [step(weights, parts)], rows, 1, dtype)[0]


@_step_once.defjvp
def _step_once_jvp(step: Callable, dtype: DTypeLike, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    del dtype
    # The derivative is made of matrix products, which XLA does not copy.
    return jax.jvp(step, primals, tangents)


def over_tensors(row: Array, over: OverTensor | None, sizes: Sequence[int]) -> Array:
    """What becomes of each tensor's part of a packed row `[n]`; of a single tensor it may be a scalar."""
    if over is None:
        return row
    # Not slices, whose gradient is a sum of padded rows.
    parts = [over.function(part, jnp.mean(part * part)) for part in lax.split(row, tuple(sizes))]
    if len(parts) == 1:
        return parts[0]
    return jnp.concatenate([jnp.broadcast_to(part, (size,)) for part, size in zip(parts, sizes, strict=True)])


def normalize(row: Array, sizes: Sequence[int]) -> Array:
    """`x * rsqrt(1e-5 + mean(x^2))`, the mean taken over each tensor of a packed row `[n]`."""
    return over_tensors(row, NORMALIZED, sizes)


@jax.custom_jvp
def tangent_once(x: Array) -> Array:
    """x `[n]`, with a derivative that is computed once whatever reads its parts."""
    return x


@tangent_once.defjvp
def _tangent_once_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    padded = jnp.pad(dx, (0, dx.size % 2)).reshape(2, -1)
    return x, lax.map(lax.optimization_barrier, padded).reshape(-1)[: dx.size]


def _in_blocks(rule: UpdateRule, g: Array, w: Array, momentum: Array, second: Array) -> Array:
    """The update of one large tensor, in two passes over its blocks: mean squares, then the update.

    All blocks have the same size; the last one reaches back over elements that are done, which it computes again.
    """
    n, num_blocks = g.size, math.ceil(g.size / BLOCK)
    size = min(_VECTOR * math.ceil(n / num_blocks / _VECTOR), n)

    def rows_of(index: Array) -> tuple[Array, list[Array]]:
        start = jnp.minimum(index * size, n - size)
        parts = [lax.dynamic_slice_in_dim(x, start, size, axis=-1) for x in (g, w, momentum, second)]
        return start, rule.rows(*parts)

    def add_squares(index: Array, total: Array) -> Array:
        start, rows = rows_of(index)
        is_new = start + jnp.arange(size, dtype=start.dtype) >= index * size
        picked = [row for row, over in zip(rows, rule.over_tensor, strict=True) if over]
        return total + jnp.stack([jnp.sum(jnp.where(is_new, row * row, 0.0)) for row in picked])

    # Zeros like a part of g: under `shard_map` a loop's carry must vary over the devices from the start.
    mean_squares = jnp.zeros_like(g[: sum(over is not None for over in rule.over_tensor)])
    if mean_squares.size:
        mean_squares = lax.fori_loop(0, num_blocks, add_squares, mean_squares) / n

    # Each round writes the block that the round before has computed: XLA spreads a loop over the cores, unless it
    # writes into the middle of an array.
    def next_block(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        update, block, block_start = carry
        update = lax.dynamic_update_slice_in_dim(update, block, block_start, axis=0)
        start, rows = rows_of(index)
        left = iter(mean_squares)
        each = zip(rows, rule.over_tensor, strict=True)
        rows = [row if over is None else over.function(row, next(left)) for row, over in each]
        return update, rule.step(rule.weights, rows), start

    carry = (jnp.zeros_like(g), jnp.zeros_like(g[:size]), jnp.zeros((), jnp.int32))
    update, block, start = lax.fori_loop(0, num_blocks, next_block, carry)
    return lax.dynamic_update_slice_in_dim(update, block, start, axis=0)
