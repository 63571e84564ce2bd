"""How an update rule is carried over the elements of a group: one tensor, or several small ones."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from learned_opt.per_parameter.features import OverTensor, inverse_rms
from learned_opt.per_parameter.group import GroupState, mean_squares, sampled_mean_squares, whole
from learned_opt.per_parameter.kernel import in_halves
from learned_opt.per_parameter.large import BLOCK, in_blocks, in_parts
from learned_opt.per_parameter.rule import Step, UpdateRule, stepped


def update_group(
    rule: UpdateRule, state: GroupState, sizes: Sequence[int], is_spread: bool = False
) -> Array:
    """Updates one group.

    Args:
      rule: of this step.
      state: in the type in which the rule computes.
      sizes: elements of each tensor in the group.
      is_spread: whether the group, of one tensor then, may lie in parts on several devices.

    Returns:
      The update, to be added, in the shape and type of the gradient.
    """
    if len(sizes) > 1:
        update = _together(rule, state, sizes)
    elif rule.is_one_loop or sizes[0] <= BLOCK:
        update = _alone(rule, state, is_spread)
    else:
        update = (in_parts if is_spread else in_blocks)(rule, state)
    return jnp.broadcast_to(update, state.gradient.shape)  # a scalar where every row is


def _alone(rule: UpdateRule, state: GroupState, is_spread: bool) -> Array:
    """The update of one tensor at once."""
    rows = rule.rows(state.averages())
    squares = mean_squares(rule, rows, sampled_mean_squares(rule, state, is_spread))
    step = stepped(rule, whole(rule, rows, squares), is_spread)
    if not rule.rms_normalized:
        return step.update
    number = jnp.sum(rows[-1], dtype=step.update.dtype)
    return step.update * inverse_rms(jnp.sum(step.direction * step.direction), number)


def _together(rule: UpdateRule, state: GroupState, sizes: Sequence[int]) -> Array:
    """The update of several small tensors, flat."""
    rows = [
        over_tensors(*each, sizes)
        for each in zip(rule.rows(state.averages()), rule.over_tensor, strict=True)
    ]
    num_outputs = 1 + rule.rms_normalized
    step = Step(*_step_once(rule.step, num_outputs, state.gradient.dtype, rule.weights, rows))
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
    """What becomes of each tensor's part of a packed row `[n]`."""
    if over is None:
        return row

    def of_each(part: Array) -> Array:
        return over.function(part, jnp.mean(part * part, axis=1, keepdims=True))

    return _over_runs(of_each, [row], sizes)


def _normalized(step: Step, moving: Array, sizes: Sequence[int]) -> Array:
    """Each tensor's update over the root mean square of its direction;
    parameters at rest are no part of it.
    """

    def normalized(update: Array, direction: Array, moving: Array) -> Array:
        number = jnp.sum(moving, axis=1, keepdims=True, dtype=direction.dtype)
        square = jnp.sum(direction * direction, axis=1, keepdims=True)
        return update * inverse_rms(square, number)

    return _over_runs(normalized, [step.update, step.direction, moving], sizes)


def _over_runs(
    function: Callable[..., Array], rows: Sequence[Array], sizes: Sequence[int]
) -> Array:
    """`function` of packed rows `[n]`, seen as `[tensors, elements]` for each run of tensors of one
    size: as many operations as runs, however many tensors there are.
    """
    runs = [(size, len(list(same))) for size, same in itertools.groupby(sizes)]
    # Not slices, whose gradient is a sum of padded rows.
    parts = zip(*(lax.split(x, [size * num for size, num in runs]) for x in rows), strict=True)
    done = []
    for (size, num), each in zip(runs, parts, strict=True):
        out = function(*(x.reshape(num, size) for x in each))
        done.append(jnp.broadcast_to(out, (num, size)).reshape(-1))
    return done[0] if len(done) == 1 else jnp.concatenate(done)


@jax.custom_jvp
def tangent_once(x: Array) -> Array:
    """x `[n]`, with a derivative that is computed once whatever reads its parts."""
    return x


@tangent_once.defjvp
def _tangent_once_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    padded = jnp.pad(dx, (0, dx.size % 2)).reshape(2, -1)
    return x, lax.map(lax.optimization_barrier, padded).reshape(-1)[: dx.size]
