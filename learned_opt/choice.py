"""Which optimizer updates which parameter: what `only` and `others` of `learned_opt.load` mean."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np
import optax
from jax.tree_util import tree_flatten_with_path

from learned_opt.hints import near_names
from learned_opt.kinds import KINDS, UNTRAINED, check_kinds, tensor_kinds
from learned_opt.trees.tensor_names import path_text, said_of_each, said_tree

LEARNED, OTHERS = "learned", "others"
"""Groups in the state's `inner_states`; the second is that of `others` unless it is a dict, of
which the keys are the groups.
"""

Only = str | Iterable[str] | Callable[[optax.Params], Any] | Any
Others = optax.GradientTransformation | Mapping[str, optax.GradientTransformation]


class Choice(NamedTuple):
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


def checked_choice(only: Only | None, others: Others | None) -> tuple[Choice, dict[str, Any]]:
    """What the arguments mean, as far as it can be known without parameters; and the others by
    their group.

    Raises:
      ValueError: as `learned_opt.by_kind.with_others`.
    """
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
    return Choice(kinds, None if kinds else only, tuple(groups), by_name), groups


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


def _are_names(only: Any) -> TypeGuard[str | Iterable[str]]:
    if isinstance(only, str | set | frozenset):
        return True
    is_sequence = isinstance(only, list | tuple) and not hasattr(only, "_fields")
    return is_sequence and all(isinstance(name, str) for name in only)


def group_labels(params: Any, choice: Choice) -> Any:
    """The name of its group at every parameter, for `optax.partition`.

    Raises:
      ValueError: if what `only` says does not match the parameters.
    """
    found, treedef = tree_flatten_with_path(params)
    if not found:  # also what stands for the parameters in optax.tree.map_params
        return params
    kinds = jax.tree.leaves(tensor_kinds(params))
    if choice.kinds is not None:
        chosen = [kind in choice.kinds for kind in kinds]
    else:
        numbers = [kind != UNTRAINED for kind in kinds]
        said = _tree_of(choice.only, params)
        chosen = said_of_each("only", said, params, numbers)
    groups = [
        LEARNED if kind == UNTRAINED else _group(path, kind, said, choice)
        for (path, _), kind, said in zip(found, kinds, chosen, strict=True)
    ]
    return jax.tree.unflatten(treedef, groups)


def _tree_of(only: Any, params: Any) -> Any:
    """What `only` says of these parameters."""
    said = said_tree("only", only, params, "bools or labels", (bool, str, np.bool_))
    if said is False and callable(only) and not jax.tree_util.all_leaves([params]):
        raise ValueError(
            "only must give a tree of bools or labels, got False for all parameters; to ask every "
            "array, give lambda params: jax.tree.map(only, params)"
        )
    return said


def _group(path: tuple, kind: str, said: Any, choice: Choice) -> str:
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
