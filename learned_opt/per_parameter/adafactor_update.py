"""How `learned_opt.adafactor_mlp` goes over the elements of a group: at once, or a large tensor by blocks of rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from learned_opt.per_parameter.adafactor_features import Averages, Decays, Factors, expand
from learned_opt.per_parameter.blocks import normalize, split_rows
from learned_opt.per_parameter.features import inverse_norm
from learned_opt.per_parameter.kernel import in_blocks
from learned_opt.trees.packing import Group, pack

BLOCK = 32_768
"""Elements of a large tensor that are updated at once, rounded down to whole rows."""


GroupAverages = tuple[Array, Array, tuple[Factors, ...]]
"""Of one group: momenta `[momentum decays, n]`, second moments `[second-moment decays, n]`, each leaf's factors."""


class Rule(NamedTuple):
    """The update of one step.

    Attributes:
      decays: of the running averages.
      rows: `averages -> rows [n]`, the inputs before they are normalised.
      is_moving: `averages -> [n]`, which parameters move; the others rest.
      is_normalized: for each row whether it is divided by its root mean square over the tensor.
      outputs: `rows -> (d, m)`, `[n]` each.
      step: `(d, m) -> update [n]`, linear in d.
      rms_normalized: whether d is divided by its root mean square over the parameters of the tensor that move.
      dtype: in which all is computed.
    """

    decays: Decays
    rows: Callable[[Averages], list[Array]]
    is_moving: Callable[[Averages], Array]
    is_normalized: Sequence[bool]
    outputs: Callable[[list[Array]], Sequence[Array]]
    step: Callable[[Array, Array], Array]
    rms_normalized: bool
    dtype: DTypeLike


def update_group(
    rule: Rule, group: Group, gradients: Mapping[int, Array], matrices: Sequence[Array], averages: GroupAverages
) -> Array:
    """The update `[n]` of one group, to be added.

    Args:
      rule: of this step.
      group: indices into the following two.
      gradients: as the averages count them, `[batch, rows, columns]` each, in the rule's type.
      matrices: the parameters, shaped alike.
      averages: this step's gradient included, in the rule's type.
    """
    g, w = pack(gradients, group, rule.dtype), pack(matrices, group, rule.dtype)
    momentum, second, factors = averages
    if len(group.leaves) == 1 and group.size > BLOCK:
        return _by_rows(rule, g, w, momentum, second, factors[0])
    return _at_once(rule, group.sizes, g, w, momentum, second, factors)


def _at_once(rule: Rule, sizes: Sequence[int], g, w, momentum, second, factors: tuple[Factors, ...]) -> Array:
    expanded = [expand(each, 0, math.prod(each.rows.shape[1:])) for each in factors]
    joined = [[jnp.concatenate(parts) for parts in zip(*kind, strict=True)] for kind in zip(*expanded, strict=True)]
    averages = Averages(g, w, split_rows(momentum), split_rows(second), *joined)
    moving = rule.is_moving(averages)
    rows = rule.rows(averages)
    rows = [normalize(row, sizes) if norm else row for row, norm in zip(rows, rule.is_normalized, strict=True)]
    if len(sizes) == 1:
        direction, magnitude = rule.outputs(rows)
    else:
        # As a loop of two: XLA copies the MLP to each leaf that reads it, but not out of a loop.
        block = math.ceil(g.size / 2)
        direction, magnitude = in_blocks(lambda part: jnp.stack(rule.outputs(part)), rows, block)
    direction = _while_moving(direction, moving)
    if rule.rms_normalized:
        direction = _normalize_moving(direction, moving, sizes)
    return rule.step(direction, magnitude)


def _while_moving(direction: Array, moving: Array) -> Array:
    return jnp.where(moving, direction, jnp.zeros_like(direction))


def _normalize_moving(direction: Array, moving: Array, sizes: Sequence[int]) -> Array:
    """Each tensor's direction over its root mean square; parameters at rest are no part of it."""
    parts = zip(lax.split(direction, tuple(sizes)), lax.split(moving, tuple(sizes)), strict=True)
    scaled = [
        part * inverse_norm(jnp.sum(part * part) / _count(jnp.sum(which, dtype=part.dtype))) for part, which in parts
    ]
    return scaled[0] if len(scaled) == 1 else jnp.concatenate(scaled)


def _count(number: Array) -> Array:
    return jnp.maximum(number, jnp.ones_like(number))


def _by_rows(rule: Rule, g, w, momentum, second, factors: Factors) -> Array:
    """One large tensor in two passes over blocks of its rows: mean squares of the inputs, then the update.

    All blocks have the same size; the last one reaches back over rows that are done, which it computes again.
    """
    num_rows, num_columns = math.prod(factors.rows.shape[1:]), factors.columns.shape[2]
    in_block = min(max(1, BLOCK // num_columns), num_rows)
    num_blocks, size = math.ceil(num_rows / in_block), in_block * num_columns

    def rows_of(index: Array) -> tuple[Array, list[Array], Array, Array]:
        first = jnp.minimum(index * in_block, num_rows - in_block)
        flat = [lax.dynamic_slice_in_dim(x, first * num_columns, size, axis=-1) for x in (g, w, momentum, second)]
        is_new = jnp.repeat(first + jnp.arange(in_block, dtype=first.dtype) >= index * in_block, num_columns)
        averages = Averages(*flat[:2], *map(split_rows, flat[2:]), *expand(factors, first, in_block))
        return first * num_columns, rule.rows(averages), rule.is_moving(averages), is_new

    def add_squares(index: Array, total: Array) -> Array:
        _, rows, _, is_new = rows_of(index)
        picked = [row for row, norm in zip(rows, rule.is_normalized, strict=True) if norm]
        return total + jnp.stack([jnp.sum(jnp.where(is_new, row * row, 0.0)) for row in picked])

    # Zeros like a part of g: under `shard_map` a loop's carry must vary over the devices from the start.
    scales = jnp.zeros_like(g[: sum(rule.is_normalized)])
    if any(rule.is_normalized):
        scales = inverse_norm(lax.fori_loop(0, num_blocks, add_squares, scales) / g.size)

    def write_block(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        update, square, number = carry
        start, rows, moving, is_new = rows_of(index)
        left = iter(scales)
        rows = [row * next(left) if norm else row for row, norm in zip(rows, rule.is_normalized, strict=True)]
        direction, magnitude = rule.outputs(rows)
        direction = _while_moving(direction, moving)
        square = square + jnp.sum(jnp.where(is_new, direction * direction, 0.0))
        number = number + jnp.sum(is_new & moving, dtype=number.dtype)
        return lax.dynamic_update_slice_in_dim(update, rule.step(direction, magnitude), start, axis=0), square, number

    nothing = jnp.zeros_like(g[0])
    update, square, number = lax.fori_loop(0, num_blocks, write_block, (jnp.zeros_like(g), nothing, nothing))
    return update * inverse_norm(square / _count(number)) if rule.rms_normalized else update
