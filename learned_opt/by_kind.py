"""A learned optimizer for some of the parameters, Optax transformations for the rest."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.tree_util import tree_flatten_with_path

from learned_opt.catalog import near_names
from learned_opt.kinds import KINDS, UNTRAINED, check_kinds, tensor_kinds
from learned_opt.tensor_names import path_keys, path_text
from learned_opt.trees.state_check import REMEDY, check_params

LEARNED, OTHERS = "learned", "others"
"""Names of the groups in the state: `state.inner_states["learned"]`, where `others` is one
transformation, not a dict of them, `state.inner_states["others"]`."""

Only = str | Iterable[str] | Callable[[optax.Params], Any] | Any
Others = optax.GradientTransformation | Mapping[str, optax.GradientTransformation]


class _Choice(NamedTuple):
    """Which group a parameter is of.

    Attributes:
      kinds: those that are learned; None if `only` says it for each parameter.
      only: tree, or function that gives one; None if kinds say it.
      groups: names of the transformations for the rest.
      by_name: whether these are names that the user gave, kinds or labels.
    """

    kinds: frozenset[str] | None
    only: Any
    groups: tuple[str, ...]
    by_name: bool


def with_others(
    learned: optax.GradientTransformationExtraArgs,
    only: Only | None = None,
    others: Others | None = None,
) -> optax.GradientTransformationExtraArgs:
    """`learned` where `only` says so, `others` elsewhere, as `optax.partition` does it.

    What has no gradient and is no number, as functions in an Equinox module, is given to `learned`,
    which leaves it alone, so that the others need not know of such leaves; and where a gradient is
    None, the others' state stays as it is.

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
    choice, groups = _checked(only, others)
    transforms = {LEARNED: learned} | groups

    def parted(params):
        # As a function: a tree of labels in the shape of a model may be callable too.
        labels = _labels(params, choice)
        return optax.partition(transforms, lambda _: labels)

    def update(updates, state, params=None, **extra_args):
        _check_state(state, transforms)
        like = updates if params is None else params
        check_params("load", like, updates)
        updates = _none_at_leaves(updates, like)
        updates, new = parted(like).update(updates, state, params, **extra_args)
        keep = lambda n, o: o if n is None else n
        inner = {
            group: jax.tree.map(keep, new.inner_states[group], old, is_leaf=lambda x: x is None)
            for group, old in state.inner_states.items()
        }
        return updates, new._replace(inner_states=inner)

    return optax.GradientTransformationExtraArgs(lambda params: parted(params).init(params), update)


def _check_state(state: Any, transforms: Mapping[str, Any]) -> None:
    groups = getattr(state, "inner_states", None)
    if not isinstance(groups, Mapping) or set(groups) != set(transforms):
        got = sorted(groups) if isinstance(groups, Mapping) else f"a {type(state).__name__}"
        raise ValueError(
            f"load: the state is not of the groups {', '.join(sorted(transforms))}, got {got}; "
            f"{REMEDY}"
        )


def _none_at_leaves(updates: Any, params: Any) -> Any:
    """None at every leaf of a branch that has no gradient, where there may be one for all."""
    at_leaves = lambda u, p: jax.tree.map(lambda _: None, p) if u is None else u
    return jax.tree.map(at_leaves, updates, params, is_leaf=lambda x: x is None)


def _checked(only: Only | None, others: Others | None) -> tuple[_Choice, dict[str, Any]]:
    """What the arguments mean, as far as it can be known without parameters."""
    if others is None:
        raise ValueError(
            "only says what is learned, and needs others=, an Optax transformation for the rest, "
            "such as optax.adamw(1e-3); optax.set_to_zero() holds it fixed"
        )
    by_name = isinstance(others, Mapping)
    groups = dict(others) if by_name else {OTHERS: others}
    for name, transformation in groups.items():
        if not all(callable(getattr(transformation, n, None)) for n in ("init", "update")):
            what = f"others[{name!r}]" if by_name else "others"
            raise ValueError(
                f"{what} must be an Optax transformation, such as optax.adamw(1e-3), got a "
                f"{type(transformation).__name__}"
            )
        if not isinstance(name, str) or name == LEARNED:
            raise ValueError(f"others: {name!r} cannot be the name of a group, it must be another")
    if not groups:
        raise ValueError("others: got no transformation")
    kinds = _kinds(only, groups if by_name else None)
    return _Choice(kinds, None if kinds else only, tuple(groups), by_name), groups


def _kinds(only: Only | None, groups: Mapping[str, Any] | None) -> frozenset[str] | None:
    """The kinds that are learned, or None if that is said for each parameter."""
    if only is None:
        if groups is None:
            raise ValueError(
                "others needs only=, which says what is learned, such as only='matrix'; or give it "
                "by kind, others={'embedding': ..., 'head': ..., 'vector': ...}"
            )
        kinds = frozenset(KINDS) - check_kinds("others", groups)
        if not kinds:
            raise ValueError("others takes every kind of tensor, and none is left to be learned")
        return kinds
    if not _are_names(only):
        return None
    kinds = check_kinds("only", only)
    if groups is not None:
        rest = check_kinds("others", groups)
        if twice := kinds & rest:
            raise ValueError(f"{_listed(twice)} are both in only and in others")
        if missing := frozenset(KINDS) - kinds - rest:
            raise ValueError(f"{_listed(missing)} are neither in only nor in others")
    return kinds


def _are_names(only: Any) -> bool:
    if isinstance(only, str | set | frozenset):
        return True
    is_sequence = isinstance(only, list | tuple) and not hasattr(only, "_fields")
    return is_sequence and all(isinstance(name, str) for name in only)


def _labels(params: Any, choice: _Choice) -> Any:
    """The name of its group at every parameter."""
    found, treedef = tree_flatten_with_path(params)
    if not found:  # also what stands for the parameters in optax.tree.map_params
        return params
    kinds = jax.tree.leaves(tensor_kinds(params))
    if choice.kinds is not None:
        chosen = [kind in choice.kinds for kind in kinds]
    else:
        numbers = [kind != UNTRAINED for kind in kinds]
        said = _tree_of(choice.only, params)
        chosen = _spread(said, [path for path, _ in found], numbers)
        _check_used(said, params)
    groups = [
        LEARNED if kind == UNTRAINED else _group(path, kind, said, choice)
        for (path, _), kind, said in zip(found, kinds, chosen, strict=True)
    ]
    return jax.tree.unflatten(treedef, groups)


def _tree_of(only: Any, params: Any) -> Any:
    """What `only` says of these parameters; a model with bools as leaves may be callable too."""
    is_tree = any(isinstance(leaf, bool | str | np.bool_) for leaf in jax.tree.leaves(only))
    if not callable(only) or (is_tree and not isinstance(only, partial)):
        return only
    try:
        said = only(params)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            "only is called with all parameters and must give a tree of bools or labels, as "
            f"lambda params: jax.tree.map(lambda x: x.ndim == 2, params) does: {error}"
        ) from error
    if said is False and not jax.tree_util.all_leaves([params]):
        raise ValueError(
            "only must give a tree of bools or labels, got False for all parameters; to ask every "
            "array, give lambda params: jax.tree.map(only, params)"
        )
    return said


def _spread(said: Any, paths: list[tuple], numbers: list[bool]) -> list[Any]:
    """What a tree, or a prefix of the parameters' tree, says at each of their leaves.

    By the keys of the paths, since the same parameters come as arrays and in boxes, in dicts and in
    frozen ones.
    """
    given = {path_keys(path): leaf for path, leaf in tree_flatten_with_path(said)[0]}
    spread = []
    for path, is_number in zip(paths, numbers, strict=True):
        keys = path_keys(path)
        prefix = next((keys[:n] for n in range(len(keys) + 1) if keys[:n] in given), None)
        if prefix is None and is_number:
            raise ValueError(
                f"only does not match the parameters: it says nothing of {path_text(path)}"
            )
        spread.append(None if prefix is None else given[prefix])
    return spread


def _check_used(said: Any, params: Any) -> None:
    """Raises for what a tree says of parameters that are not there; None and empty ones are."""
    there = tree_flatten_with_path(params, is_leaf=lambda x: not jax.tree.leaves(x))[0]
    known = {path_keys(path)[:n] for path, _ in there for n in range(len(path) + 1)}
    for path, _ in tree_flatten_with_path(said)[0]:
        if path_keys(path) not in known:
            raise ValueError(f"only does not match the parameters: they have no {path_text(path)}")


def _group(path: tuple, kind: str, said: Any, choice: _Choice) -> str:
    if isinstance(said, str):
        known = {LEARNED, *choice.groups, *(KINDS if choice.by_name else ())}
        if said not in known:
            hint = near_names(said, sorted(known))
            raise ValueError(f"only: {said!r} at {path_text(path)} is no group; {hint}")
        return said if said in choice.groups else LEARNED
    if _as_bool(path, said):
        return LEARNED
    if not choice.by_name:
        return OTHERS
    if kind not in choice.groups:
        raise ValueError(
            f"others has no {kind!r}, which {path_text(path)} is and only does not take"
        )
    return kind


def _as_bool(path: tuple, said: Any) -> bool:
    if isinstance(said, bool | np.bool_):
        return bool(said)
    is_flag = getattr(said, "dtype", None) == np.bool_ and said.shape == ()
    if is_flag and not isinstance(said, jax.core.Tracer):
        return bool(said)
    what = f"of shape {said.shape}" if hasattr(said, "shape") else repr(said)[:100]
    raise ValueError(
        f"only must say True, False or a label, known while compiling, of every parameter; at "
        f"{path_text(path)} it is {what}"
    )


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join(repr(kind) for kind in KINDS if kind in kinds)
