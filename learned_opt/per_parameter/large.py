"""How an update rule is carried over a large tensor: in blocks.

A rule that XLA makes one loop of, inputs and hidden units included, needs none of this. Of others,
all that lies between the state and the update stays in the cache in blocks, and takes no memory of
the size of the model.

A tensor that may be spread over devices keeps its shape. A block of it is what lies `num` apart
along one axis, so that each device has its part of every block.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from learned_opt.per_parameter.features import inverse_rms
from learned_opt.per_parameter.group import (
    GroupState,
    mean_squares,
    sampled_mean_squares,
    whole,
)
from learned_opt.per_parameter.rule import UpdateRule, stepped
from learned_opt.trees.sample import divisors_beside_a_mesh
from learned_opt.trees.spread import joined_axis, split_axis

BLOCK = 32_768
"""Most elements to a block. State and inputs of a block take 2 MB;
smaller ones pay for starting each loop."""
SPREAD_BLOCK = 8 * BLOCK
"""The same of all devices together."""
MAX_INDEX = 2**31 - 1
"""The last place that an index may have: an int32."""
_VECTOR = 16
"""Floats in a vector of the widest kind; blocks of a vector are multiples of it."""


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


class _Blocks:
    """A tensor in blocks along one axis.

    All have the same size; the last one reaches back over elements that are done. A tensor whose
    elements an int32 does not count keeps its axes.

    Raises:
      ValueError: if it does not count those along one axis either.
    """

    def __init__(self, state: GroupState):
        keeps_axes = state.factors or state.gradient.size > MAX_INDEX
        self.state = state if keeps_axes else state.flat()
        shape, n = self.state.gradient.shape, self.state.gradient.size
        wanted = math.ceil(n / BLOCK)
        self.axis = next((i for i, d in enumerate(shape) if d >= wanted), shape.index(max(shape)))
        self.length = shape[self.axis]
        if self.length > MAX_INDEX:
            raise ValueError(
                f"a tensor of shape {shape} has more than {MAX_INDEX} elements along an axis, "
                "where a block has no place"
            )
        if len(shape) == 1:
            size = _VECTOR * math.ceil(math.ceil(n / wanted) / _VECTOR)
            self.size = min(size, self.length)
        else:
            self.size = max(1, BLOCK * self.length // n)
        self.num = math.ceil(self.length / self.size)

    def start(self, index: Array) -> Array:
        return jnp.minimum(index * self.size, self.length - self.size)

    def part(self, start: Array) -> GroupState:
        """What a block reads."""

        def cut(x: Array) -> Array:
            axis = x.ndim - self.state.gradient.ndim + self.axis
            if x.shape[axis] < self.length:  # a factor that is the same along the axis
                return x
            return lax.dynamic_slice_in_dim(x, start, self.size, axis)

        return self.state.map(cut)

    def is_new(self, index: Array, start: Array) -> Array:
        """Which elements of a block are not of one before."""
        new = start + jnp.arange(self.size, dtype=start.dtype) >= index * self.size
        return jnp.expand_dims(new, range(1, self.state.gradient.ndim - self.axis))

    def write(self, whole: Array, block: Array, start: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(whole, block, start, self.axis)


def repeat(num: int, body: Callable[[Array, Any], Any], carry: Any) -> Any:
    """`carry` after `num` rounds of `body(index, carry)`. The index may become part of the carry:
    it is an int32 also where JAX counts in 64 bits.
    """
    # Bounds of Python's: with arrays, which are traced inside `jit`, it has no reverse mode.
    return lax.fori_loop(0, num, lambda i, carry: body(i.astype(jnp.int32), carry), carry)


def in_blocks(rule: UpdateRule, state: GroupState) -> Array:
    """The update of one large tensor, in two passes over its blocks: mean squares, then the update.

    Args:
      rule: of this step.
      state: of the tensor, in any shape.

    Returns:
      The update, in the tensor's shape.
    """
    blocks, squares = _Blocks(state), sampled_mean_squares(rule, state)
    g = blocks.state.gradient
    wanted = [o is not None and s is None for o, s in zip(rule.over_tensor, squares, strict=True)]

    def rows_of(index: Array) -> tuple[Array, list[Array]]:
        start = blocks.start(index)
        return start, rule.rows(blocks.part(start).averages())

    def add_squares(index: Array, total: Array) -> Array:
        start, rows = rows_of(index)
        new = blocks.is_new(index, start)
        picked = [row for row, want in zip(rows, wanted, strict=True) if want]
        return total + jnp.stack([jnp.sum(jnp.where(new, row * row, 0.0)) for row in picked])

    # Zeros like a part of g: under `shard_map` a loop's carry must vary over the devices
    # from the start.
    exact = jnp.zeros_like(g.reshape(-1)[: sum(wanted)])
    if exact.size:
        left = iter(repeat(blocks.num, add_squares, exact) / float(g.size))
        squares = [next(left) if want else s for want, s in zip(wanted, squares, strict=True)]

    # Each round writes the block that the round before has computed: XLA spreads a loop over the
    # cores, unless it writes into the middle of an array.
    def next_block(index: Array, carry: _Carry) -> _Carry:
        update = blocks.write(carry.update, carry.block, carry.start)
        start, rows = rows_of(index)
        step = stepped(rule, whole(rule, rows, squares))
        totals = carry.totals
        if rule.rms_normalized:
            new, (square, number) = blocks.is_new(index, start), totals
            square = square + jnp.sum(jnp.where(new, step.direction * step.direction, 0.0))
            totals = square, number + jnp.sum(new & rows[-1], dtype=number.dtype)
        return _Carry(update, step.update, start, totals)

    totals = (jnp.zeros_like(g.reshape(-1)[0]),) * 2 if rule.rms_normalized else ()
    block = lax.slice_in_dim(g, 0, blocks.size, axis=blocks.axis)
    carry = _Carry(jnp.zeros_like(g), jnp.zeros_like(block), jnp.zeros((), jnp.int32), totals)
    carry = repeat(blocks.num, next_block, carry)
    update = blocks.write(carry.update, carry.block, carry.start)
    update = update * inverse_rms(*carry.totals) if rule.rms_normalized else update
    return update.reshape(state.gradient.shape)


def in_parts(rule: UpdateRule, state: GroupState) -> Array:
    """The same of a tensor that may be spread over devices; nothing is sent but mean squares."""
    shape = state.gradient.shape
    axis, num = _parted(shape)
    known = sampled_mean_squares(rule, state, is_spread=True)
    squares = mean_squares(rule, rule.rows(state.averages()), known)

    def part(index: Array) -> tuple[Array, ...]:
        def cut(x: Array) -> Array:
            along = x.ndim - len(shape) + axis
            if x.shape[along] < shape[axis]:  # a factor that is the same along the axis
                return x
            parts = split_axis(x, along, num)
            return lax.dynamic_index_in_dim(parts, index, along + 1, keepdims=False)

        chosen = state.map(cut)
        rows = rule.rows(chosen.averages())
        step = stepped(rule, whole(rule, rows, squares), is_spread=True)
        update = jnp.broadcast_to(step.update, chosen.gradient.shape)
        if not rule.rms_normalized:
            return (update,)
        number = jnp.sum(rows[-1], dtype=update.dtype)
        return update, jnp.sum(step.direction * step.direction), number

    update, *totals = lax.map(part, jnp.arange(num))
    update = joined_axis(jnp.moveaxis(update, 0, axis + 1), axis)
    return update * inverse_rms(*map(jnp.sum, totals)) if rule.rms_normalized else update


def _parted(shape: tuple[int, ...]) -> tuple[int, int]:
    """Along which axis a tensor is split, and into how many: as near to what is wanted as a divisor
    is that leaves each device its part of every block.
    """
    wanted = math.prod(shape) / SPREAD_BLOCK
    choices = [(axis, num) for axis, n in enumerate(shape) for num in divisors_beside_a_mesh(n)]
    return min(choices, key=lambda choice: abs(math.log(choice[1] / wanted)))
