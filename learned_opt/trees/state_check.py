"""Whether an optimizer's state was made for the tree that its gradients have:
a wrong one is refused, never used.

Shapes and types are looked at, never values: it costs nothing inside `jit` and nothing on a device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from learned_opt.trees.gradient_tree import is_float, is_trained
from learned_opt.trees.packing import at_least_float32
from learned_opt.trees.tensor_names import path_keys

REMEDY = "make it by init on these parameters, or restore the one that was"


def check_mirrors(
    optimizer: str, what: str, average: Any, updates: Any, leading: int | None = 0
) -> None:
    """Raises unless a part of a state has the tree and the shapes of the gradients.

    A gradient that is None is of a leaf (or a whole branch) that is not trained: the state may hold
    None or anything else there. Every other gradient needs a leaf of the state.

    Args:
      optimizer: its name, for the message.
      what: the part's name, such as "momentum", for the message.
      average: the part: arrays, tracers or `jax.ShapeDtypeStruct`s.
      updates: the gradients.
      leading: how many axes a leaf of `average` has before those of its gradient; None is any
        number, also none.

    Raises:
      ValueError: that names the first leaf which differs.
    """
    _check_tree(f"{optimizer}: the state's {what}", average, updates, leading, REMEDY)


def check_params(optimizer: str, params: Any, updates: Any) -> None:
    """Raises unless the parameters have the tree and the shapes of the gradients;
    anything may be where one is None.

    Args:
      optimizer: its name, for the message.
      params: the parameters, or the whole model that holds them.
      updates: the gradients.

    Raises:
      ValueError: that names the first leaf which differs.
    """
    remedy = "gradients are those of the parameters that update is given"
    _check_tree(f"{optimizer}: the tree of parameters", params, updates, 0, remedy)


def check_precision(optimizer: str, what: str, average: Any, params: Any) -> None:
    """Raises if a leaf of a state is less precise than init would make it:
    float32, or float64 for such parameters.

    Args:
      optimizer: its name, for the message.
      what: the part's name, for the message.
      average: the part, already found to mirror the gradients.
      params: the parameters; None asks for float32 only.

    Raises:
      ValueError: that names the first such leaf.
    """
    leaves = dict(tree_flatten_with_path(params)[0])
    for path, leaf in tree_flatten_with_path(average)[0]:
        param = leaves.get(path)
        needed = at_least_float32(jnp.result_type(param) if is_float(param) else jnp.float32)
        if is_float(leaf) and jnp.finfo(jnp.result_type(leaf)).bits < jnp.finfo(needed).bits:
            raise ValueError(
                f"{optimizer}: the state's {what} is of type {jnp.result_type(leaf).name} at "
                f"{_name(path)}, needed is {needed.name}; {REMEDY}"
            )


def check_type(optimizer: str, state: Any, expected: type) -> None:
    """Raises `ValueError` unless a state is of the type that this optimizer's init gives."""
    if not isinstance(state, expected):
        raise ValueError(
            f"{optimizer}: the state is a {type(state).__name__}, needed is a {expected.__name__}; "
            f"{REMEDY}"
        )


def shapes_of(init: Callable[[Any], Any], params: Any) -> Any:
    """The state that `init(params)` gives, as `jax.ShapeDtypeStruct`s; None where it cannot be
    traced, as that of others' transformations may not.
    """
    try:
        return jax.eval_shape(lambda: init(params))
    except Exception:  # whatever their code raises
        return None


def check_as_made(optimizer: str, state: Any, made: Any) -> None:
    """Raises unless a state has leaves and shapes as init makes them for these parameters: those of
    a state that other transformations read, and take for another tree's without a word.

    Containers and types are not looked at.

    Args:
      optimizer: its name, for the message.
      state: arrays, tracers or anything else.
      made: of `shapes_of`; None lets all pass.

    Raises:
      ValueError: that names the first leaf which differs.
    """
    if made is None:
        return
    error = lambda path, reason: ValueError(
        f"{optimizer}: the state is another at {_name(path)}: {reason}; {REMEDY}"
    )
    found = {path_keys(path): leaf for path, leaf in tree_flatten_with_path(state)[0]}
    for path, leaf in tree_flatten_with_path(made)[0]:
        keys = path_keys(path)
        if keys not in found:
            raise error(path, f"it has none there, where init makes one {_kind(leaf)}")
        if np.shape(got := found.pop(keys)) != leaf.shape:
            raise error(path, f"it is {_kind(got)}, and init makes one {_kind(leaf)}")
    for path, leaf in tree_flatten_with_path(state)[0]:
        if path_keys(path) in found:
            raise error(path, f"it is {_kind(leaf)}, and init makes none there")


def _check_tree(subject, tree, updates, leading, remedy):
    error = lambda path, reason: ValueError(
        f"{subject} is another at {_name(path)}: {reason}; {remedy}"
    )
    wanted, treedef = tree_flatten_with_path(updates, is_leaf=_is_none)
    found, _ = tree_flatten_with_path(tree, is_leaf=_is_none)
    had, gradients = dict(found), dict(wanted)
    for path, gradient in wanted:
        if not is_trained(gradient):
            continue
        if had.get(path) is None:
            raise error(path, f"it has none there, where a gradient is {_kind(gradient)}")
        if not _fits(np.shape(had[path]), np.shape(gradient), leading):
            raise error(path, f"it is {_kind(had[path])} and the gradient {_kind(gradient)}")
    for path, leaf in found:
        if leaf is not None and not any(path[:n] in gradients for n in range(len(path) + 1)):
            raise error(path, f"it is {_kind(leaf)} and the gradients have no such leaf")
    try:
        treedef.flatten_up_to(tree)
    except ValueError as mismatch:  # Same paths, other containers: `(a, b)` and `[a, b]`.
        path = next((path for path, gradient in wanted if gradient is not None), ())
        raise error(
            path, f"its containers are not the gradients', {str(mismatch).splitlines()[0]}"
        ) from mismatch


def _fits(shape: tuple[int, ...], gradient: tuple[int, ...], leading: int | None) -> bool:
    extra = len(shape) - len(gradient)
    return extra >= 0 and shape[extra:] == gradient and leading in (None, extra)


def _name(path: tuple) -> str:
    return keystr(path) or "its only leaf"


def _kind(leaf: Any) -> str:
    return (
        f"of shape {tuple(np.shape(leaf))}"
        if hasattr(leaf, "shape")
        else f"a {type(leaf).__name__}"
    )


def _is_none(leaf: Any) -> bool:
    return leaf is None
