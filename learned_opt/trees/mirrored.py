"""What a per-parameter rule updates:
the leaves that have a gradient, and the averages that mirror them.

Parameters may be a whole model and the gradients `None` wherever nothing is trained, as
`learned_opt.trees.gradient_tree` says. A running average mirrors the parameters: the same tree,
leaves of the same shapes with an axis of the decays in front, `None` at leaves that no gradient can
have.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import PyTreeDef, keystr, tree_flatten_with_path
from jax.typing import DTypeLike

from learned_opt.trees.gradient_tree import is_float, is_trained
from learned_opt.trees.packing import accumulator_dtype
from learned_opt.trees.spread import zeros_beside
from learned_opt.trees.state_check import check_mirrors, check_params

_NUMBER = re.compile(r"\d+")


class Trained(NamedTuple):
    """The leaves that have a gradient.

    Attributes:
      gradients: of each.
      params: of each.
      indices: of these leaves among all.
      all_gradients: those that are none too.
      treedef: of the gradients, in which `None` is a leaf.
    """

    gradients: list[Array]
    params: list[Array]
    indices: list[int]
    all_gradients: list[Any]
    treedef: PyTreeDef


def trained(optimizer: str, updates: Any, params: Any) -> Trained:
    """Pairs gradients with their parameters.

    Raises:
      ValueError: without parameters; for parameters that have no leaf, or one of another shape,
        where a gradient is.
    """
    if params is None:
        raise ValueError(
            "a learned optimizer reads the parameters: got None, call update(grads, state, params)"
        )
    check_params(optimizer, params, updates)
    gradients, treedef = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
    leaves = treedef.flatten_up_to(params)
    indices = [i for i, gradient in enumerate(gradients) if is_trained(gradient)]
    picked = ([tree[i] for i in indices] for tree in (gradients, leaves))
    return Trained(*picked, indices, gradients, treedef)


def place_of_each(which: Trained) -> list[Hashable]:
    """How each of the trained leaves lies on the devices, as far as it is known: the same for those
    that lie alike.

    A traced array on a mesh of `Auto` axes does not tell. There it is taken from the path, in which
    numbers count for nothing: the layers of a network are cut in one way.
    """
    paths = tree_flatten_with_path(
        jax.tree.unflatten(which.treedef, range(len(which.all_gradients)))
    )[0]
    names = {i: _NUMBER.sub("#", keystr(path)) for path, i in paths}
    places = zip((names[i] for i in which.indices), which.gradients, strict=True)
    return [(name, jax.typeof(g).sharding) for name, g in places]


def averages_of(which: Trained, tree: Any) -> list[Array]:
    """The averages of the trained leaves, from a tree that mirrors the parameters."""
    leaves = which.treedef.flatten_up_to(tree)
    return [leaves[i] for i in which.indices]


def with_leaves(which: Trained, leaves: Sequence[Any], tree: Any = None) -> Any:
    """The gradients' tree with `leaves` where something is trained,
    elsewhere what `tree` has, or the gradients.
    """
    everywhere = list(which.all_gradients) if tree is None else which.treedef.flatten_up_to(tree)
    for i, leaf in zip(which.indices, leaves, strict=True):
        everywhere[i] = leaf
    return jax.tree.unflatten(which.treedef, everywhere)


def zero_averages(
    params: Any,
    num_decays: int,
    flat: Callable[[tuple[int, ...], int], Sequence[int]] = lambda shape, layers: (),
    layers: Any = None,
    dtype: DTypeLike | None = None,
) -> Any:
    """Fresh averages `[num_decays, *shape]` of every leaf of a floating type, `None` for others.

    They lie on the devices as the leaf does.

    Args:
      params: any tree.
      num_decays: averages of each leaf.
      flat: of a shape and its number of leading axes that count layers, the axes along which an
        average has one element.
      layers: that number for each leaf, a tree; None is 0.
      dtype: of the averages; None is that in which they are computed.

    Raises:
      TypeError: if there are leaves, and none is of a floating type.
    """
    leaves = jax.tree.leaves(params)
    if leaves and not any(is_float(leaf) for leaf in leaves):
        accumulator_dtype(leaves[0])  # raises

    def zeros(leaf: Any, layers: int = 0) -> Array | None:
        if not is_float(leaf):
            return None
        kept_in = accumulator_dtype(leaf) if dtype is None else dtype
        return zeros_beside(leaf, kept_in, num_decays, flat(jnp.shape(leaf), layers))

    return jax.tree.map(zeros, params, *(() if layers is None else (layers,)))


def check_averages(optimizer: str, what: str, averages: Any, updates: Any, num_decays: int) -> None:
    """Raises `ValueError` unless averages mirror the gradients, with that many decays in front."""
    check_mirrors(optimizer, what, averages, updates, leading=1)
    numbers = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(averages)}
    if numbers - {num_decays}:
        raise ValueError(
            f"{optimizer}: the state's {what} has {numbers.pop()} decays, needed are {num_decays}"
        )
