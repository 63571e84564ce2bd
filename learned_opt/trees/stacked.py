"""Layers that lie in one tensor, as `scan` over layers and mixtures of experts have them.

What a rule says of a whole tensor, a mean square or factors, is then each layer's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Stacked = str | Sequence[str] | Callable[[Any], Any] | Any
"""Which parameters hold layers: the name of a key or names, one of which is on the path; a tree of
booleans or of numbers of leading axes, shaped as the parameters or a prefix of it; or a function
that gives such a tree.
"""


def num_stacked(stacked: Stacked | None, params: Any) -> Any:
    """How many leading axes of each parameter count layers: a tree of integers.

    Args:
      stacked: what the user says; None for no layers.
      params: the tree, with leaves that have a shape, or `None` as a leaf.

    Raises:
      ValueError: for a tree that is no prefix of the parameters', numbers that are negative or no
        integers, or more axes than a parameter has; for a name that is on no path.
    """
    if stacked is None:
        return jax.tree.map(lambda leaf: 0, params, is_leaf=_is_none)
    if isinstance(stacked, str):
        stacked = (stacked,)
    if isinstance(stacked, tuple | list) and stacked and all(isinstance(s, str) for s in stacked):
        numbers = _by_name(stacked, params)
    else:
        numbers = _broadcast(stacked(params) if callable(stacked) else stacked, params)
    numbers = jax.tree.map(lambda n: 0 if n is None else n, numbers, is_leaf=_is_none)
    jax.tree_util.tree_map_with_path(_check, numbers, params, is_leaf=_is_none)
    return jax.tree.map(int, numbers)


def _by_name(names: Sequence[str], params: Any) -> Any:
    def is_on(path: tuple, leaf: Any) -> bool:
        del leaf
        keys = {str(getattr(key, "key", getattr(key, "name", None))) for key in path}
        return not keys.isdisjoint(names)

    found = jax.tree_util.tree_map_with_path(is_on, params, is_leaf=_is_none)
    if jax.tree.leaves(params) and not any(jax.tree.leaves(found)):
        raise ValueError(f"stacked: no parameter lies under a key named {' or '.join(names)}")
    return found


def _broadcast(prefix: Any, params: Any) -> Any:
    try:
        return jax.tree.map(
            lambda number, part: jax.tree.map(lambda leaf: number, part, is_leaf=_is_none),
            prefix,
            params,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"stacked must be a tree of the parameters' shape or a prefix of it: {error!s:.300}"
        ) from error


def _check(path: tuple, number: Any, leaf: Any) -> None:
    name = jax.tree_util.keystr(path)
    if not isinstance(number, bool | int) or number < 0:
        raise ValueError(f"stacked: {name} must be a boolean or a number of axes, got {number!r}")
    if leaf is not None and number > jnp.ndim(leaf):
        raise ValueError(
            f"stacked: {name} has shape {jnp.shape(leaf)}, which has no {number} axes of layers"
        )


def _is_none(leaf: Any) -> bool:
    return leaf is None
