"""Leaves of a parameter tree packed into a few flat vectors:
a small model costs one loop, not one a leaf.

Averages `[decays, *shape]` of the leaves are packed alike, into `[decays, elements]`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

MAX_PACKED_LEAF = 16_384
"""Elements. A larger leaf stands alone:
to copy it into a common vector costs time and memory and no longer pays."""
MAX_PACKED_GROUP = 65_536
"""Elements; a group takes no further leaf beyond it."""


MANY_LEAVES = 16
"""In a group, from which on it pays to compile a program for each shape instead of each leaf."""


class Group(NamedTuple):
    """Leaves that are updated together.

    Attributes:
      leaves: indices of the leaves in the flattened tree.
      sizes: number of elements of each leaf, none of them zero.
      dtype: of the accumulators, at least float32.
      rule: the name of the rule that updates them; "" where there is one for all.
    """

    leaves: tuple[int, ...]
    sizes: tuple[int, ...]
    dtype: DTypeLike
    rule: str = ""

    @property
    def size(self) -> int:
        """Elements of all leaves together."""
        return sum(self.sizes)


def at_least_float32(*dtypes: DTypeLike) -> DTypeLike:
    """float64 if one of the types is, else float32;
    unlike `jnp.promote_types` it passes strict promotion.
    """
    return jnp.dtype(
        jnp.float64 if any(jnp.dtype(dtype) == jnp.float64 for dtype in dtypes) else jnp.float32
    )


def accumulator_dtype(leaf: Array) -> DTypeLike:
    """float32, or float64 for a float64 leaf.

    Raises:
      TypeError: if the leaf is not of a floating type.
    """
    dtype = jnp.result_type(leaf)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            "a learned optimizer updates floating-point parameters, got a leaf of type "
            f"{dtype.name}"
        )
    return at_least_float32(dtype)


def as_update(step: Array, dtype: DTypeLike) -> Array:
    """A step in the parameters' type.

    One that a float16 cannot hold becomes its largest number, not infinity.
    """
    limit = float(jnp.finfo(dtype).max)
    if limit < float(jnp.finfo(step.dtype).max):
        step = jnp.clip(step, -limit, limit)
    return step.astype(dtype)


def group_leaves(
    leaves: Sequence[Array],
    *,
    alone: bool = False,
    by_size: bool = False,
    each: Collection[int] = (),
    rules: Sequence[str] = (),
) -> tuple[Group, ...]:
    """Groups small leaves by accumulator type and rule.

    A leaf above `MAX_PACKED_LEAF` elements is a group of its own.

    Zero-size leaves are in no group.

    Args:
      leaves: of the tree.
      alone: whether every leaf is a group of its own.
      by_size: whether leaves are taken from the smallest to the largest, so that those of one size
        are neighbours; else as they come.
      each: indices of leaves that are groups of their own.
      rules: the name of each leaf's rule; none where there is one for all.
    """
    groups: list[Group] = []
    open_groups: dict[tuple[DTypeLike, str], int] = {}
    sizes = [math.prod(jnp.shape(leaf)) for leaf in leaves]
    for index in sorted(range(len(leaves)), key=lambda i: sizes[i] if by_size else i):
        dtype, size = accumulator_dtype(leaves[index]), sizes[index]
        rule = rules[index] if rules else ""
        is_alone = alone or index in each
        position = None if is_alone else open_groups.get((dtype, rule))
        if not size:
            continue
        if (
            size <= MAX_PACKED_LEAF
            and position is not None
            and groups[position].size + size <= MAX_PACKED_GROUP
        ):
            group = groups[position]
            groups[position] = group._replace(
                leaves=(*group.leaves, index), sizes=(*group.sizes, size)
            )
            continue
        if size <= MAX_PACKED_LEAF and not is_alone:
            open_groups[dtype, rule] = len(groups)
        groups.append(Group((index,), (size,), dtype, rule))
    return tuple(groups)


def computing_dtype(group: Group, theta: Any) -> DTypeLike:
    """In which the update of a group is computed:
    float64 where its accumulators or a weight of theta are.
    """
    return at_least_float32(group.dtype, *(jnp.result_type(x) for x in jax.tree.leaves(theta)))


def pack(leaves: Sequence[Array] | Mapping[int, Array], group: Group, dtype: DTypeLike) -> Array:
    """The group's leaves as one vector `[group.size]` of type `dtype`."""
    return _joined([jnp.ravel(leaves[i]).astype(dtype) for i in group.leaves])


def unpack(
    vector: Array, group: Group, like: Sequence[Array], count: Array | None = None
) -> dict[int, Array]:
    """Undoes `pack`: leaf index -> array with the shape and type of `like`'s leaf.

    With a count, of updates, many leaves come by one program for each shape.
    """
    leaves = [like[i] for i in group.leaves]
    if count is None or len(leaves) < MANY_LEAVES:
        parts = split_packed(vector, group, [jnp.shape(leaf) for leaf in leaves])
    else:
        starts = at_run_time([sum(group.sizes[:i]) for i in range(len(leaves))], count)
        parts = [
            lax.dynamic_slice(vector, (start,), (size,)).reshape(jnp.shape(leaf))
            for start, size, leaf in zip(starts, group.sizes, leaves, strict=True)
        ]
    return {
        i: as_update(part, jnp.result_type(leaf))
        for i, part, leaf in zip(group.leaves, parts, leaves, strict=True)
    }


def split_packed(packed: Array, group: Group, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """The leaves of `[..., group.size]`, each `[..., *shape]`."""
    # Not slices, whose gradient is a sum of padded vectors.
    parts = lax.split(packed, group.sizes, axis=packed.ndim - 1)
    return [
        part.reshape(*part.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)
    ]


def at_run_time(places: Sequence[int], count: Array) -> tuple[Array, ...]:
    """Numbers that the compiler does not know.

    A slice from a place that it knows is a program of its own, some 20 ms to compile. Slices of one
    shape from places that are operands are the same program, compiled once.

    Args:
      places: the numbers.
      count: of updates, at least 0, which it does not know to be so.
    """
    zeros = (np.int32(0),) * len(places)
    return lax.cond(count >= 0, lambda: tuple(map(np.int32, places)), lambda: zeros)


def joined_averages(averages: Sequence[Array]) -> Array:
    """The averages `[decays, *shape]` of a group's leaves as one matrix `[decays, group.size]`."""
    return _joined([each.reshape(each.shape[0], math.prod(each.shape[1:])) for each in averages])


def place(leaves: list[Any], new: Mapping[int, Any]) -> None:
    """Puts new leaves in the place of old ones."""
    for index, leaf in new.items():
        leaves[index] = leaf


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)
