"""Parameters by their paths: what a path says, and what a user says of the parameter there.

A path is the parameter's own name and those of the modules around it, as words.

Paths are those of the libraries that make parameters: Flax Linen and NNX, Equinox, Haiku, nested
and flat dicts. `encoder/layers_3/LayerNorm_0/scale` is the words `scale`, within `layer norm`,
`layers` and `encoder`.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey, tree_flatten_with_path

Words = tuple[str, ...]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TABLE_CLASSES = ("Embedding", "Embed")
_NORM_CLASSES = ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm", "InstanceNorm")
_QUERIES, _KEYS = {"q", "query", "queries"}, {"k", "key", "keys", "kv"}
_VALUES = {"v", "value", "values"}


class Tensor(NamedTuple):
    """A parameter as far as its kind depends on it.

    Attributes:
      path: as `path_text` writes it, for messages and rules.
      own: words of its own name; `()` if no key of its path has a name.
      modules: those of the modules around it, outermost first, without those that hold all
        parameters.
      shape: its shape.
      class_name: of the module that holds it, where that is known and tells its kind, or "".
      is_attention: for the whole model, then for each of `modules`: whether its parts are named as
        queries and keys.
    """

    path: str
    own: Words
    modules: tuple[Words, ...]
    shape: tuple[int, ...]
    class_name: str
    is_attention: tuple[bool, ...]

    @property
    def module(self) -> Words:
        """Words of the innermost module's name."""
        return self.modules[-1] if self.modules else ()


def is_projection(name: Words) -> bool:
    """Whether a name has a word for queries, keys or values."""
    return not (_QUERIES | _KEYS | _VALUES).isdisjoint(name)


def is_number(leaf: Any) -> bool:
    """Whether a leaf is a floating or complex number or array, or the shape of one."""
    is_array = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
    return isinstance(leaf, float | complex) or (
        is_array and jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def path_keys(path: tuple) -> tuple[str, ...]:
    """The keys of a path, without that of a box around the array: `nnx.Param`,
    `linen.Partitioned`.
    """
    boxed = path and isinstance(path[-1], GetAttrKey) and path[-1].name in ("value", "raw_value")
    return tuple(_text(key) for key in (path[:-1] if boxed else path))


def path_text(path: tuple) -> str:
    """`"layers/0/kernel"`; `"its only leaf"` for a tree that is one."""
    return "/".join(path_keys(path)) or "its only leaf"


def said_tree(argument: str, said: Any, params: Any, values: str, types: tuple[type, ...]) -> Any:
    """What a user says of these parameters: a tree, or what his function of them gives.

    Args:
      argument: in which it is said, for messages.
      said: the tree or function; a model with values as leaves may be callable too.
      params: the parameters.
      values: what the tree is of, in words.
      types: of its leaves.

    Raises:
      ValueError: for a function that cannot be called with all parameters.
    """
    is_tree = any(isinstance(leaf, types) for leaf in jax.tree.leaves(said))
    if not callable(said) or (is_tree and not isinstance(said, partial)):
        return said
    try:
        return said(params)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"{argument} is called with all parameters and must give a tree of {values}, as "
            f"lambda params: jax.tree.map(lambda x: x.ndim == 2, params) does: {error}"
        ) from error


def said_of_each(argument: str, said: Any, params: Any, is_needed: Sequence[bool]) -> list[Any]:
    """What a tree, or a prefix of the parameters' tree, says at each of their leaves; None where
    it says nothing.

    By the keys of the paths, since the same parameters come as arrays and in boxes, in dicts and in
    frozen ones.

    Args:
      argument: in which it is said, for messages.
      said: the tree.
      params: the parameters.
      is_needed: of which leaves something must be said.

    Raises:
      ValueError: if nothing is said of one of these, or something of parameters that are not there;
        None and empty ones are.
    """
    given = {path_keys(path): leaf for path, leaf in tree_flatten_with_path(said)[0]}
    spread = []
    for (path, _), must_be in zip(tree_flatten_with_path(params)[0], is_needed, strict=True):
        keys = path_keys(path)
        prefix = next((keys[:n] for n in range(len(keys) + 1) if keys[:n] in given), None)
        if prefix is None and must_be:
            raise ValueError(
                f"{argument} does not match the parameters: it says nothing of {path_text(path)}"
            )
        spread.append(None if prefix is None else given[prefix])
    is_empty = lambda x: not jax.tree.leaves(x)
    there = tree_flatten_with_path(params, is_leaf=is_empty)[0]
    known = {path_keys(path)[:n] for path, _ in there for n in range(len(path) + 1)}
    empty = {path_keys(path) for path, leaf in there if is_empty(leaf)}
    for keys in given:
        if keys not in known and not any(keys[:n] in empty for n in range(len(keys))):
            name = "/".join(keys) or "leaf"
            raise ValueError(f"{argument} does not match the parameters: they have no {name}")
    return spread


def tensors(params: Any) -> list[Tensor | None]:
    """One for every leaf of the parameters, in their order; None for what is no number."""
    found = list(_leaves((), params))
    names = [_names(path) if is_number(leaf) else None for path, leaf, _ in found]
    given = [n for n in names if n is not None]
    start = _num_common(given)
    attention = _attention([n[start:] for n in given])
    return [
        None if name is None else _tensor(path, leaf, class_name, name[start:], attention)
        for (path, leaf, class_name), name in zip(found, names, strict=True)
    ]


def _tensor(path, leaf, class_name, names, attention):
    modules = tuple(names[:-1])
    return Tensor(
        path="/".join(path_keys(path)),
        own=names[-1] if names else (),
        modules=modules,
        shape=tuple(getattr(leaf, "shape", ())),
        class_name=class_name,
        is_attention=tuple(modules[:n] in attention for n in range(len(modules) + 1)),
    )


def _leaves(start: tuple, node: Any) -> Iterator[tuple[tuple, Any, str]]:
    """(path, leaf, name of the class that tells the leaf's kind) of all leaves, in order."""
    is_inner = lambda x: x is not node and type(x).__name__ in _TABLE_CLASSES + _NORM_CLASSES
    own = type(node).__name__ if type(node).__name__ in _TABLE_CLASSES + _NORM_CLASSES else ""
    for path, child in tree_flatten_with_path(node, is_leaf=is_inner)[0]:
        if is_inner(child):
            yield from _leaves(start + path, child)
        else:
            # Of a module that holds other modules it says nothing.
            yield start + path, child, own if len(path_keys(path)) == 1 else ""


def _text(key: Any) -> str:
    for attribute in ("name", "key", "idx"):
        if hasattr(key, attribute):
            value = getattr(key, attribute)
            return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return str(key)


def _names(path: tuple) -> list[Words]:
    """Words of each name of a path, cut where flat dicts and Haiku join them: `LayerNorm_0` is
    `layer norm`; an index, Haiku's `~` and the collection `params` of Flax are no names.
    """
    parts = [part for key in path_keys(path) for part in re.split(r"[/.]", key)]
    named = [tuple(word.lower() for word in _WORD.findall(part)) for part in parts]
    names = [words for words in named if words]
    return names[1:] if len(names) > 1 and names[0] == ("params",) else names


def _num_common(names: list[list[Words]]) -> int:
    """How many modules hold all parameters: one that is the whole model tells nothing of a part.
    The only layer of a model is a part all the same.
    """
    most = min((len(n) - 1 for n in names), default=0)
    common = next((i for i in range(most) if len({n[i] for n in names}) > 1), max(most, 0))
    is_layer = common and all(len(n) == common + 1 for n in names)
    return common - 1 if is_layer else common


def _attention(names: list[list[Words]]) -> set[tuple[Words, ...]]:
    """Modules whose parts are named as queries and keys."""
    parts: dict[tuple[Words, ...], set[str]] = {}
    for name in names:
        for i, words in enumerate(name):
            parts.setdefault(tuple(name[:i]), set()).update(words)
    return {
        module
        for module, words in parts.items()
        if "qkv" in words or (words & _QUERIES and words & _KEYS)
    }
