"""A learned optimizer for some of the parameters, Optax transformations for the rest."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.choice import LEARNED, Only, Others, checked_choice, group_labels
from learned_opt.trees.gradient_tree import map_trained
from learned_opt.trees.spread import state_beside
from learned_opt.trees.state_check import REMEDY, check_as_made, check_params, shapes_of
from learned_opt.trees.tensor_names import is_number


def with_others(
    learned: optax.GradientTransformationExtraArgs,
    only: Only | None = None,
    others: Others | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`learned` where `only` says so, `others` elsewhere, as `optax.partition` does it.

    What has no gradient and is no number, as functions in an Equinox module, is given to `learned`,
    which leaves it alone, so that the others need not know of such leaves. A parameter whose
    gradient is None does not move; to the others that gradient is zero. Inside
    `optax.inject_hyperparams` a function as `only` is among its `static_args`, as a `mask` is.

    Args:
      learned: the learned optimizer.
      only: kinds of `tensor_kinds`, one or several by name; or a tree of bools shaped as the
        parameters, or a prefix of it, or a function that gives one, as in `optax.masked`; or the
        same with labels, `"learned"` and those of `others`. None with a dict of kinds as `others`
        is all kinds that are not in it.
      others: for the rest; or kind -> transformation, or label -> transformation.

    Returns:
      The transformation; its state is an `optax` one, `inner_states` by the group's name. `learned`
      itself if both are None.

    Raises:
      ValueError: for one of the two without the other, an unknown kind or label, kinds that nothing
        is said of, what is no transformation, or, in `init` and `update`, a tree that does not
        match the parameters.

    Example:
      >>> adamw = optax.adamw(1e-3)
      >>> optimizer = with_others(learned_opt.load(), only="matrix", others=adamw)
      >>> optimizer = with_others(learned_opt.load(), others={"embedding": adamw, "head": adamw})
    """
    if only is None and others is None:
        return learned
    choice, groups = checked_choice(only, others)
    transforms: dict[Hashable, optax.GradientTransformation] = {LEARNED: learned, **groups}

    def parted(labels):
        # As a function: a tree of labels in the shape of a model may be callable too.
        return optax.partition(transforms, lambda _: labels)

    def init(params):
        return state_beside(parted(group_labels(params, choice)).init(params), params)

    def update(updates, state, params=None, **extra_args):
        _check_state(state, transforms)
        check_params("load", updates if params is None else params, updates)
        grads = updates if params is None else _none_at_leaves(updates, params)
        like, is_known = updates, False
        if params is not None:
            like, is_known = _as_at_init(init, state, params, grads)
        labels = group_labels(like, choice)
        if is_known:
            _check_others(state, groups, labels, like)
        filled = _filled(grads, like, labels)
        of_init = None if params is None else like
        new, state = parted(labels).update(filled, state, of_init, **extra_args)
        return map_trained(lambda g, u: u, grads, new), state

    return optax.GradientTransformationExtraArgs(init, update)


def _as_at_init(
    init: Callable[[Any], Any], state: Any, params: Any, grads: Any
) -> tuple[Any, bool]:
    """The parameters with None where `init` was given None, and whether that is known.

    A state may be of a whole model, or of its arrays, or of those alone that are trained, and the
    whole model may come with any of them. Where every gradient is there, so is every parameter.
    """
    if all(g is not None for g in jax.tree.leaves(grads, is_leaf=_is_none)):
        return params, True
    for kept in (
        lambda w, g: True,
        lambda w, g: g is not None,
        lambda w, g: is_number(w),
        lambda w, g: hasattr(w, "dtype") and is_number(w),
        lambda w, g: hasattr(w, "dtype"),
    ):
        some = jax.tree.map(lambda w, g, kept=kept: w if kept(w, g) else None, params, grads)
        shapes = jax.eval_shape(lambda some=some: init(some))
        if jax.tree.structure(shapes) == jax.tree.structure(state):
            return some, True
    return params, False


def _filled(grads: Any, params: Any, labels: Any) -> Any:
    """Zero in place of None where the others update a number, None where there is no parameter:
    most of Optax takes None only where the state has it too.
    """

    def fill(w, g, label):
        if w is None or g is not None:
            return None if w is None else g
        return jnp.zeros_like(w) if label != LEARNED and is_number(w) else None

    return jax.tree.map(fill, params, grads, labels, is_leaf=_is_none)


def _check_state(state: Any, transforms: Mapping[Hashable, Any]) -> None:
    groups = getattr(state, "inner_states", None)
    if not isinstance(groups, Mapping) or set(groups) != set(transforms):
        got = sorted(groups) if isinstance(groups, Mapping) else f"a {type(state).__name__}"
        known = ", ".join(sorted(map(str, transforms)))
        raise ValueError(f"load: the state is not of the groups {known}, got {got}; {REMEDY}")


def _check_others(state: Any, groups: Mapping[Hashable, Any], labels: Any, params: Any) -> None:
    """Raises `ValueError` for a state of another tree: the learned part is checked where it is
    used, and most of Optax checks none.
    """
    alone = optax.partition({LEARNED: optax.identity(), **groups}, lambda _: labels)
    made = shapes_of(lambda params: _of_others(alone.init(params)), params)
    check_as_made("load", _of_others(state), made)


def _of_others(state: Any) -> dict[Hashable, Any]:
    return {name: of_one for name, of_one in state.inner_states.items() if name != LEARNED}


def _none_at_leaves(updates: Any, params: Any) -> Any:
    """None at every leaf of a branch that has no gradient, where there may be one for all."""
    at_leaves = lambda u, p: jax.tree.map(lambda _: None, p) if u is None else u
    return jax.tree.map(at_leaves, updates, params, is_leaf=_is_none)


def _is_none(leaf: Any) -> bool:
    return leaf is None
