"""Whether an optimizer's state was made for the tree that its gradients have: a wrong one is refused, never used.

Shapes are looked at, never values: it costs nothing inside `jit` and nothing on a device.
"""

from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

REMEDY = "make it by init on these parameters, or restore the one that was"


def check_mirrors(optimizer: str, what: str, average: Any, updates: Any, leading: int | None = 0) -> None:
    """Raises unless a part of a state has the tree and the shapes of the gradients.

    A gradient that is None is of a leaf (or a whole branch) that is not trained: the state may hold None or anything
    else there. Every other gradient needs a leaf of the state.

    Args:
      optimizer: its name, for the message.
      what: the part's name, such as "momentum", for the message.
      average: the part: arrays, tracers or `jax.ShapeDtypeStruct`s.
      updates: the gradients.
      leading: how many axes a leaf of `average` has before those of its gradient; None is any number, also none.

    Raises:
      ValueError: that names the first leaf which differs.
    """
    wanted, treedef = tree_flatten_with_path(updates, is_leaf=_is_none)
    found, _ = tree_flatten_with_path(average, is_leaf=_is_none)
    had = dict(found)
    for path, gradient in wanted:
        if gradient is None:
            continue
        if had.get(path) is None:
            raise _error(optimizer, what, path, f"it has none for that leaf, whose gradient is {_kind(gradient)}")
        if not _fits(np.shape(had[path]), np.shape(gradient), leading):
            raise _error(optimizer, what, path, f"it is {_kind(had[path])} there and the gradient {_kind(gradient)}")
    gradients = dict(wanted)
    for path, leaf in found:
        if leaf is not None and not any(path[:n] in gradients for n in range(len(path) + 1)):
            raise _error(optimizer, what, path, f"it is {_kind(leaf)} there and the gradients have no such leaf")
    _check_containers(optimizer, what, average, treedef, wanted)


def _check_containers(optimizer, what, average, treedef, wanted):
    """Same paths, other containers: `(a, b)` and `[a, b]`, or a model with another static field."""
    try:
        treedef.flatten_up_to(average)
    except ValueError as error:
        path = next((path for path, gradient in wanted if gradient is not None), ())
        reason = str(error).splitlines()[0]
        raise _error(optimizer, what, path, f"its containers are not those of the gradients: {reason}") from error


def _fits(shape: tuple[int, ...], gradient: tuple[int, ...], leading: int | None) -> bool:
    extra = len(shape) - len(gradient)
    return extra >= 0 and shape[extra:] == gradient and leading in (None, extra)


def _error(optimizer, what, path, reason) -> ValueError:
    name = keystr(path) or "(the only leaf)"
    return ValueError(f"{optimizer}: the state's {what} is of another tree at {name}: {reason}; {REMEDY}")


def _kind(leaf: Any) -> str:
    return f"of shape {tuple(np.shape(leaf))}" if isinstance(leaf, jax.Array) or hasattr(leaf, "shape") else repr(leaf)


def _is_none(leaf: Any) -> bool:
    return leaf is None
