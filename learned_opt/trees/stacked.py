"""Layers that lie in one tensor, as `scan` over layers and mixtures of experts have them.

What a rule says of a whole tensor, a mean square or factors, is then each layer's own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path

from learned_opt.trees.tensor_names import (
    is_number,
    path_keys,
    path_text,
    said_of_each,
    said_tree,
)

Stacked = str | Sequence[str] | Callable[[Any], Any] | Any
"""Which parameters hold layers: the name of a key or names, one of which is on the path; a tree of
booleans or of numbers of leading axes, shaped as the parameters or a prefix of it; or a function
that gives such a tree.
"""


def num_stacked(stacked: Stacked | None, params: Any) -> Any:
    """How many leading axes of each parameter count layers: the parameters' tree, of integers.

    Args:
      stacked: what the user says; None for no layers.
      params: the tree; leaves that are no numbers have no layers.

    Raises:
      ValueError: for a tree that does not match the parameters, numbers that are negative or no
        integers, or more axes than a parameter has; for a name that is on no path.
    """
    found, treedef = tree_flatten_with_path(params)
    paths, leaves = [path for path, _ in found], [leaf for _, leaf in found]
    if stacked is None or not found:  # no leaves, as what stands for the parameters in Optax
        numbers = [0] * len(found)
    elif names := _names(stacked):
        numbers = [not names.isdisjoint(path_keys(path)) for path in paths]
        if not any(numbers):
            known = " or ".join(sorted(names))
            raise ValueError(f"stacked: no parameter lies under a key named {known}")
    else:
        said = said_tree("stacked", stacked, params, "booleans or numbers of axes", (bool, int))
        numbers = said_of_each("stacked", said, params, [is_number(leaf) for leaf in leaves])
    checked = map(_checked, paths, leaves, numbers)
    return jax.tree.unflatten(treedef, list(checked))


def _names(stacked: Stacked) -> set[str]:
    """Of keys; none if something else is said."""
    names = (stacked,) if isinstance(stacked, str) else stacked
    is_sequence = isinstance(names, list | tuple)
    return set(names) if is_sequence and all(isinstance(name, str) for name in names) else set()


def _checked(path: tuple, leaf: Any, number: Any) -> int:
    if number is None or not is_number(leaf):
        return 0
    name = path_text(path)
    if not isinstance(number, bool | int | np.bool_) or number < 0:
        raise ValueError(f"stacked: {name} must be a boolean or a number of axes, got {number!r}")
    if number > jnp.ndim(leaf):
        raise ValueError(
            f"stacked: {name} has shape {jnp.shape(leaf)}, which has no {number} axes of layers"
        )
    return int(number)
