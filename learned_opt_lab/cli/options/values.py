"""From words to the value of a field, and how the help calls what may be written."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

NUMBERS = {int: ("INT", "a whole number"), float: ("NUMBER", "a number")}
WORDS = {**NUMBERS, str: ("TEXT", "text"), Path: ("PATH", "a path")}
"""Type of one word -> its name in the help, and in a message."""
NONE = "None"
"""The word that takes a value away."""


def can_be_written(hint: Any) -> bool:
    """Whether words on the command line can say a value of this type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, dict) or _is_union(hint):
        return all(can_be_written(arg) for arg in args if arg not in (Ellipsis, type(None)))
    return origin is Literal or hint is bool or hint in WORDS


def num_words(hint: Any) -> int | None:
    """How many words a value has; None for any number."""
    kind = without_none(hint)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict or (origin is tuple and Ellipsis in args):
        return None
    return sum(num_words(arg) or 1 for arg in args) if origin is tuple else 1


def convert(name: str, hint: Any, words: Sequence[str]) -> Any:
    """The value that words say.

    Args:
      name: what is set, for messages.
      hint: its type.
      words: as many as `num_words` tells.

    Raises:
      ValueError: in one line, for words that say no such value.
    """
    kind = without_none(hint)
    if kind is not hint and list(words) == [NONE]:
        return None
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _tuple(name, args, words)
    if origin is dict:
        if len(words) % 2:
            raise ValueError(f"{name} takes pairs of a name and a value; {words[-1]!r} is alone")
        pairs = zip(words[::2], words[1::2], strict=True)
        return {key: convert(f"{name} {key}", args[1], [word]) for key, word in pairs}
    (word,) = words
    if _is_union(kind):
        return _first_that_fits(name, args, word)
    if origin is Literal:
        return _one_of(name, args, word)
    if kind is bool:
        return _one_of(name, (True, False), word.capitalize())
    if kind is Path and not word:
        raise ValueError(f"{name} must be a path, got nothing")
    try:
        return kind(word)
    except ValueError:
        raise ValueError(f"{name} must be {WORDS[kind][1]}, got {word!r:.200}") from None


def _tuple(name: str, args: tuple, words: Sequence[str]) -> tuple:
    if Ellipsis in args:
        size = num_words(args[0]) or 1
        if len(words) % size:
            raise ValueError(f"{name} takes {size} words at a time, got {len(words)}")
        args = args[:1] * (len(words) // size)
    found, rest = [], list(words)
    for arg in args:
        size = num_words(arg) or 1
        found.append(convert(name, arg, rest[:size]))
        del rest[:size]
    return tuple(found)


def _first_that_fits(name: str, hints: Sequence[Any], word: str) -> Any:
    for hint in hints:
        try:
            return convert(name, hint, [word])
        except ValueError:
            continue
    raise ValueError(f"{name} cannot be {word!r:.200}")


def _one_of(name: str, allowed: Sequence[Any], word: str) -> Any:
    for value in allowed:
        if str(value) == word:
            return value
    names = [str(value) for value in allowed]
    raise ValueError(f"{name} must be one of {', '.join(names)}, got {word!r:.200}")


def without_none(hint: Any) -> Any:
    """The type of what is given where None stands for nothing."""
    if not _is_union(hint):
        return hint
    args = tuple(arg for arg in typing.get_args(hint) if arg is not type(None))
    return typing.Union[args] if len(args) < len(typing.get_args(hint)) else hint  # noqa: UP007


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def metavar(hint: Any) -> str:
    """What the help writes in a value's place: `INT`, `valid|train`, `NUMBER ...`."""
    kind = without_none(hint)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "|".join(map(str, args))
    if origin is dict:
        return "NAME VALUE ..."
    if origin is tuple and Ellipsis in args:
        return f"{metavar(args[0])} ..."
    if origin is tuple:
        return " ".join(map(metavar, args))
    if kind is bool:
        return "True|False"
    return WORDS[kind][0] if kind in WORDS else "VALUE"


def shown(value: Any) -> str:
    """A default as it would be typed; empty where there is none worth a word."""
    if value is dataclasses.MISSING or value is None or value in (False, "", (), {}):
        return "0" if value == 0 and type(value) in (int, float) else ""
    if value is True:
        return "yes"
    if isinstance(value, tuple):
        return " ".join(" ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)
    if isinstance(value, dict):
        return " ".join(f"{key} {each}" for key, each in value.items())
    return str(value)
