"""Sums over the devices of a mesh axis;
without one, or outside `shard_map`, all particles are at hand.
"""

import itertools

import jax
import jax.numpy as jnp
from jax import lax

from outer_train.trees import Tree

HALF = 12
"""Bits of each of the two numbers as which an integer travels."""


def is_bound(axis_name: str | None) -> bool:
    """Whether there is such an axis here."""
    if axis_name is None:
        return False
    try:
        lax.axis_size(axis_name)
    except NameError:
        return False
    return True


def axis_size(axis_name: str | None) -> int:
    """Devices on the axis; 1 where it is not bound."""
    return lax.axis_size(axis_name) if is_bound(axis_name) else 1


def vary(tree: Tree, axis_name: str | None) -> Tree:
    """Makes the replicated leaves of a tree count as different on each device.

    Without it `shard_map` would sum the gradient with respect to theta over devices by itself, and
    the estimator's own mean would count it twice.
    """
    if not is_bound(axis_name):
        return tree
    cast = lambda x: x if axis_name in _varying_axes(x) else lax.pcast(x, axis_name, to="varying")
    return jax.tree.map(cast, tree)


def _varying_axes(x):
    kind = jax.typeof(x)
    # The name before JAX 0.10.
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def total(tree: Tree, axis_name: str | None) -> Tree:
    """Sum over devices of arrays that are already summed over this device's particles."""
    return lax.psum(tree, axis_name) if is_bound(axis_name) else tree


def packed_total(tree: Tree, axis_name: str | None) -> Tree:
    """`total` of a whole tree in one message:
    between hosts a message costs more than what it holds, if that is small.

    All travel as the widest floating dtype; integers from 0 on as two numbers of `HALF` bits each,
    the sums of which floats hold exactly for up to 4,096 devices.
    """
    leaves, structure = jax.tree.flatten(tree)
    if not leaves or not is_bound(axis_name):
        return tree
    floats = [x.dtype for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    widest = max(floats, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))
    parts = [_as_floats(x).astype(widest) for x in leaves]
    message = lax.psum(jnp.concatenate(parts), axis_name)
    ends = list(itertools.accumulate(part.size for part in parts))
    sums = [message[end - part.size : end] for part, end in zip(parts, ends, strict=True)]
    return structure.unflatten([_from_floats(s, x) for s, x in zip(sums, leaves, strict=True)])


def _as_floats(x):
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return x.ravel()
    return jnp.concatenate([x.ravel() >> HALF, x.ravel() & (1 << HALF) - 1])


def _from_floats(sums, x):
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        high, low = sums.astype(x.dtype).reshape(2, -1)
        sums = (high << HALF) + low
    return sums.astype(x.dtype).reshape(x.shape)
