"""Many tensors of one shape, as the layers of a deep network are: one program goes over all.

Each tensor's update is a program of some seven hundred operations, and compiling one for each of
two hundred kernels takes minutes. Here it is compiled once for a shape. A round copies what it
reads into the cache, the state of a tensor or of a block of a large one, and writes its part of one
array of all updates. Copies of large tensors are dear, and a few of those have their own programs.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from learned_opt.per_parameter.group import (
    GroupState,
    mean_squares_of_sample,
    sample_of,
    sampled_rows,
    whole,
)
from learned_opt.per_parameter.group_update import update_group
from learned_opt.per_parameter.large import BLOCK, repeat
from learned_opt.per_parameter.rule import UpdateRule, stepped
from learned_opt.trees.packing import at_run_time

REPEATED = 9
"""So many tensors of a shape share a program. Fewer have one each, which is faster to run."""

CACHED = 4 * BLOCK
"""Elements of a tensor whose state is copied as a whole: it stays in the cache."""

OWN_PROGRAMS = 36
"""So many tensors beyond `CACHED` have one each all the same; each takes 0.1 seconds to compile."""


def shapes_that_share(shapes: Sequence[tuple[int, int]], is_spread: bool = False) -> list[bool]:
    """Which shapes' tensors share a program.

    Args:
      shapes: of each, the elements of a tensor and the number of tensors.
      is_spread: whether they may lie in parts on several devices: copies are smaller there, and
        programs take longer to compile, so that all of a shape share.

    Returns:
      Whether they do. The largest shapes are the first to have their own.
    """
    share, left = [number >= REPEATED for _, number in shapes], 0 if is_spread else OWN_PROGRAMS
    for i in sorted(range(len(shapes)), key=lambda i: shapes[i], reverse=True):
        elements, number = shapes[i]
        if share[i] and elements > CACHED and number <= left:
            share[i], left = False, left - number
    return share


def update_repeated(
    rule: UpdateRule, states: Sequence[GroupState], count: Array, is_spread: bool = False
) -> list[Array]:
    """Updates tensors of one shape.

    Args:
      rule: of this step, neither factored nor `rms_normalized`.
      states: of each tensor, its gradient unbounded: bounded ones of all tensors would take
        memory.
      count: of updates made before.
      is_spread: whether they may lie in parts on several devices, all in the same way.

    Returns:
      The update of each, in its shape.
    """
    shape = states[0].gradient.shape
    if is_spread or states[0].gradient.size <= CACHED:
        updates = _whole(rule, states, is_spread)
    else:
        updates = _in_blocks(rule, states)
    return [
        lax.dynamic_index_in_dim(updates, tensor, keepdims=False).reshape(shape)
        for tensor in at_run_time(range(len(states)), count)
    ]


def _whole(rule: UpdateRule, states: Sequence[GroupState], is_spread: bool) -> Array:
    """Updates `[tensors, *shape]`, a tensor a round."""
    readers = [lambda state=state: state for state in states]

    def of_tensor(tensor: Array) -> Array:
        state = lax.switch(tensor, readers).bounded()
        return update_group(rule, state, (state.gradient.size,), is_spread)

    return lax.map(of_tensor, jnp.arange(len(states)))


def _in_blocks(rule: UpdateRule, states: Sequence[GroupState]) -> Array:
    """Updates `[tensors, elements]`, a block of a tensor a round."""
    squares = _mean_squares(rule, states)
    flat = [state.flat() for state in states]
    n = flat[0].gradient.size
    num_blocks = math.ceil(n / BLOCK)
    size = math.ceil(n / num_blocks)

    def reader(state: GroupState):
        def read(start: Array) -> GroupState:
            return state.map(lambda x: lax.dynamic_slice_in_dim(x, start, size, axis=-1))

        return read

    readers = [reader(state) for state in flat]

    def next_block(index: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        updates, block, *place = carry
        updates = lax.dynamic_update_slice(updates, block[None], place)
        tensor, start = index // num_blocks, jnp.minimum(index % num_blocks * size, n - size)
        rows = rule.rows(lax.switch(tensor, readers, start).bounded().averages())
        of_tensor = [None if each is None else each[tensor] for each in squares]
        update = stepped(rule, whole(rule, rows, of_tensor)).update
        return updates, jnp.broadcast_to(update, (size,)), tensor, start

    g = flat[0].gradient
    updates, zero = jnp.broadcast_to(jnp.zeros_like(g), (len(states), n)), jnp.zeros((), jnp.int32)
    carry = (updates, jnp.zeros_like(g[:size]), zero, zero)
    updates, block, *place = repeat(len(states) * num_blocks, next_block, carry)
    return lax.dynamic_update_slice(updates, block[None], place)


def _mean_squares(rule: UpdateRule, states: Sequence[GroupState]) -> list[Array | None]:
    """Of each row, `[tensors]`; samples one tensor after the other, in the memory of one."""
    is_sampled = sampled_rows(rule, states[0])
    squares: list[Array | None] = [None] * len(is_sampled)
    if any(is_sampled):
        readers = [lambda state=state: sample_of(state) for state in states]

        def of_tensor(tensor: Array) -> Array:
            return mean_squares_of_sample(rule, is_sampled, lax.switch(tensor, readers).bounded())

        found = iter(lax.map(of_tensor, jnp.arange(len(states))).T)
        squares = [next(found) if sampled else None for sampled in is_sampled]
    is_exact = [
        over is not None and not sampled
        for over, sampled in zip(rule.over_tensor, is_sampled, strict=True)
    ]
    if any(is_exact):
        each = [rule.some_rows(state.bounded().averages(), is_exact) for state in states]
        exact = (jnp.stack([jnp.mean(x * x) for x in rows]) for rows in zip(*each, strict=True))
        squares = [next(exact) if e else s for e, s in zip(is_exact, squares, strict=True)]
    return squares
