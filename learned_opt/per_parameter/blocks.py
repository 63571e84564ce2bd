"""How an update rule is carried over the elements of a group:
at once, or in blocks for a large tensor.

A rule that XLA makes one loop of, inputs and hidden units included, goes at once over any size. Of
others, all that lies between the state and the update stays in the cache in blocks, and takes no
memory of the size of the model.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from learned_opt.per_parameter.features import OverTensor, inverse_norm
from learned_opt.per_parameter.kernel import in_halves
from learned_opt.per_parameter.rule import Step, UpdateRule
from learned_opt.trees.averages import Averages, FactoredMoments, split_rows
from learned_opt.trees.factors import Factors, expand

BLOCK = 32_768
"""Most elements to a block. State and inputs of a block take 2 MB;
smaller ones pay for starting each loop."""
SAMPLE = 32_768
"""Elements of a larger tensor that a mean square is taken of where a sample will do: one more pass
over the state would cost as much as the update. Its logarithm is off by .002 decades."""
_VECTOR = 16
"""Floats in a vector of the widest kind; blocks are multiples of it."""


class GroupState(NamedTuple):
    """What the update of one group of tensors reads, `n` elements of all;
    averages know this step's gradient.

    Attributes:
      gradient: `[n]`.
      parameter: `[n]`.
      momenta: `[momentum decays, n]`.
      second_moments: `[second-moment decays, n]`; none where none are kept.
      factors: of each tensor; empty where none are kept. Elements are then in the order of their
        matrices' rows.
    """

    gradient: Array
    parameter: Array
    momenta: Array
    second_moments: Array
    factors: tuple[Factors, ...] = ()

    @property
    def flat(self) -> tuple[Array, Array, Array, Array]:
        """All but the factors."""
        return self.gradient, self.parameter, self.momenta, self.second_moments

    def averages(self) -> Averages:
        """Of all elements."""
        return _averages(self.flat, self._expanded())

    def sample(self, stride: int) -> Averages:
        """Of every `stride`-th element."""
        factored = jax.tree.map(lambda x: x[::stride], self._expanded())
        return _averages((x[..., ::stride] for x in self.flat), factored)

    def block(self, start: Array, size: int) -> Averages:
        """Of `size` elements from `start` on;
        where there are factors, whole rows of a single tensor.
        """
        flat = [lax.dynamic_slice_in_dim(x, start, size, axis=-1) for x in self.flat]
        if not self.factors:
            return _averages(flat, FactoredMoments())
        (factors,), row = self.factors, self.factors[0].num_columns
        return _averages(flat, expand(factors, start // row, size // row))

    def block_size(self) -> int:
        """Elements to a block, at most `BLOCK`;
        whole rows, and at least one, where there are factors.
        """
        n = self.gradient.size
        if self.factors:
            row = self.factors[0].num_columns
            return min(max(1, BLOCK // row) * row, n)
        return min(_VECTOR * math.ceil(n / math.ceil(n / BLOCK) / _VECTOR), n)

    def _expanded(self) -> FactoredMoments:
        if not self.factors:
            return FactoredMoments()
        joined = zip(*map(expand, self.factors), strict=True)
        return FactoredMoments(
            *([jnp.concatenate(parts) for parts in zip(*kind, strict=True)] for kind in joined)
        )


def _averages(flat: Sequence[Array], factored: FactoredMoments) -> Averages:
    gradient, parameter, momenta, second_moments = flat
    return Averages(gradient, parameter, split_rows(momenta), split_rows(second_moments), factored)


def update_group(rule: UpdateRule, state: GroupState, sizes: Sequence[int]) -> Array:
    """Updates one group.

    Args:
      rule: of this step.
      state: in the type in which the rule computes.
      sizes: elements of each tensor in the group; they sum to n.

    Returns:
      The update `[n]`, to be added, in the type of the gradient.
    """
    if len(sizes) == 1 and sizes[0] > SAMPLE:
        rule = _with_sampled(rule, state)
    if len(sizes) == 1 and sizes[0] > BLOCK and not rule.is_one_loop:
        update = _in_blocks(rule, state)
    else:
        update = _at_once(rule, state, sizes)
    return jnp.broadcast_to(update, state.gradient.shape)  # a scalar where every row is


def _with_sampled(rule: UpdateRule, state: GroupState) -> UpdateRule:
    """The rule with those rows made whole whose mean square is taken of a sample,
    every k-th element of the tensor.
    """
    is_sampled = [over is not None and over.is_sampled for over in rule.over_tensor]
    if not any(is_sampled):
        return rule
    # Odd, so that a power of two columns does not put the sample in a few of them.
    sample = rule.rows(state.sample(state.gradient.size // SAMPLE | 1))
    mean_squares = [jnp.mean(row * row) for row in sample]

    def rows(averages: Averages) -> list[Array]:
        each = zip(rule.rows(averages), rule.over_tensor, mean_squares, is_sampled, strict=True)
        return [
            over.function(row, square) if sampled else row for row, over, square, sampled in each
        ]

    left = [
        None if sampled else over
        for over, sampled in zip(rule.over_tensor, is_sampled, strict=True)
    ]
    return rule._replace(rows=rows, over_tensor=left)


def _at_once(rule: UpdateRule, state: GroupState, sizes: Sequence[int]) -> Array:
    rows = rule.rows(state.averages())
    rows = [over_tensors(*each, sizes) for each in zip(rows, rule.over_tensor, strict=True)]
    if len(sizes) > 1:
        step = Step(
            *_step_once(
                rule.step, 1 + rule.rms_normalized, state.gradient.dtype, rule.weights, rows
            )
        )
    else:
        # Without the barrier XLA moves the reshapes of the state's rows down to each of their many
        # readers, one to a hidden unit, and then computes the rows apart, since it counts each
        # reader's as another index.
        step = rule.step(rule.weights, lax.optimization_barrier(rows) if rule.is_one_loop else rows)
    return _normalized(step, rows[-1], sizes) if rule.rms_normalized else step.update


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _step_once(
    step: Callable[[Any, list[Array]], Step],
    num_outputs: int,
    dtype: DTypeLike,
    weights: Any,
    rows: list[Array],
) -> list[Array]:
    """What `step(weights, rows)` has, of that type, computed once whatever reads its parts."""
    return in_halves(lambda parts: step(weights, parts)[:num_outputs], rows, num_outputs, dtype)


@_step_once.defjvp
def _step_once_jvp(
    step: Callable, num_outputs: int, dtype: DTypeLike, primals: tuple, tangents: tuple
) -> tuple[list[Array], list[Array]]:
    del dtype
    # The derivative is made of matrix products, which XLA does not copy.
    return jax.jvp(lambda *arguments: list(step(*arguments)[:num_outputs]), primals, tangents)


def over_tensors(row: Array, over: OverTensor | None, sizes: Sequence[int]) -> Array:
    """What becomes of each tensor's part of a packed row `[n]`;
    of a single tensor it may be a scalar.
    """
    if over is None:
        return row
    # Not slices, whose gradient is a sum of padded rows.
    parts = [over.function(part, jnp.mean(part * part)) for part in lax.split(row, tuple(sizes))]
    if len(parts) == 1:
        return parts[0]
    return jnp.concatenate(
        [jnp.broadcast_to(part, (size,)) for part, size in zip(parts, sizes, strict=True)]
    )


def _normalized(step: Step, moving: Array, sizes: Sequence[int]) -> Array:
    """Each tensor's update over the root mean square of its direction;
    parameters at rest are no part of it.
    """
    parts = zip(*(lax.split(x, tuple(sizes)) for x in (*step, moving)), strict=True)
    scaled = [
        u * _inverse_rms(jnp.sum(d * d), jnp.sum(which, dtype=d.dtype)) for u, d, which in parts
    ]
    return scaled[0] if len(scaled) == 1 else jnp.concatenate(scaled)


def _inverse_rms(square: Array, number: Array) -> Array:
    """Of that sum of squares of so many numbers, or none."""
    return inverse_norm(square / jnp.maximum(number, jnp.ones_like(number)))


@jax.custom_jvp
def tangent_once(x: Array) -> Array:
    """x `[n]`, with a derivative that is computed once whatever reads its parts."""
    return x


@tangent_once.defjvp
def _tangent_once_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    padded = jnp.pad(dx, (0, dx.size % 2)).reshape(2, -1)
    return x, lax.map(lax.optimization_barrier, padded).reshape(-1)[: dx.size]


class _Carry(NamedTuple):
    """Of the loop over blocks: the update as far as it is written,
    and the block that is not, with its start.

    `totals` are the sum of squares and the number of the directions of parameters that move, where
    asked for.
    """

    update: Array
    block: Array
    start: Array
    totals: tuple[Array, ...]


def _in_blocks(rule: UpdateRule, state: GroupState) -> Array:
    """The update of one large tensor, in two passes over its blocks: mean squares, then the update.

    All blocks have the same size; the last one reaches back over elements that are done, which it
    computes again.
    """
    g, n, size = state.gradient, state.gradient.size, state.block_size()
    num_blocks = math.ceil(n / size)

    def rows_of(index: Array) -> tuple[Array, list[Array]]:
        start = jnp.minimum(index * size, n - size)
        return start, rule.rows(state.block(start, size))

    def is_new(index: Array, start: Array) -> Array:
        return start + jnp.arange(size, dtype=start.dtype) >= index * size

    def add_squares(index: Array, total: Array) -> Array:
        start, rows = rows_of(index)
        new = is_new(index, start)
        picked = [row for row, over in zip(rows, rule.over_tensor, strict=True) if over]
        return total + jnp.stack([jnp.sum(jnp.where(new, row * row, 0.0)) for row in picked])

    # Zeros like a part of g: under `shard_map` a loop's carry must vary over the devices
    # from the start.
    mean_squares = jnp.zeros_like(g[: sum(over is not None for over in rule.over_tensor)])
    if mean_squares.size:
        mean_squares = lax.fori_loop(0, num_blocks, add_squares, mean_squares) / n

    # Each round writes the block that the round before has computed: XLA spreads a loop over the
    # cores, unless it writes into the middle of an array.
    def next_block(index: Array, carry: _Carry) -> _Carry:
        update = lax.dynamic_update_slice_in_dim(carry.update, carry.block, carry.start, axis=0)
        start, rows = rows_of(index)
        left = iter(mean_squares)
        each = zip(rows, rule.over_tensor, strict=True)
        rows = [row if over is None else over.function(row, next(left)) for row, over in each]
        step = rule.step(rule.weights, rows)
        totals = carry.totals
        if rule.rms_normalized:
            new, (square, number) = is_new(index, start), totals
            square = square + jnp.sum(jnp.where(new, step.direction * step.direction, 0.0))
            totals = square, number + jnp.sum(new & rows[-1], dtype=number.dtype)
        return _Carry(update, step.update, start, totals)

    totals = (jnp.zeros_like(g[0]),) * 2 if rule.rms_normalized else ()
    carry = _Carry(jnp.zeros_like(g), jnp.zeros_like(g[:size]), jnp.zeros((), jnp.int32), totals)
    carry = lax.fori_loop(0, num_blocks, next_block, carry)
    update = lax.dynamic_update_slice_in_dim(carry.update, carry.block, carry.start, axis=0)
    return update * _inverse_rms(*carry.totals) if rule.rms_normalized else update
