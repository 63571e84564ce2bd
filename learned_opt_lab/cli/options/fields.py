"""The options that a dataclass has on the command line, with what the help says of each.

A field is `--name`, one of a dataclass in it `--outer.name`, and the string below a field is its
explanation. A field whose type is a role of `configs.base` is chosen by a word, `estimator:merged`.
A field of a type that no words can say is left out: it is set in a config file only.
"""

import ast
import dataclasses
import enum
import functools
import itertools
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from configs.base import Kind, kinds_of
from learned_opt_lab.cli.options import values


class Mark(enum.Enum):
    """Where a field stands on the command line, if it is no option of its own name."""

    POSITIONAL = enum.auto()
    HIDDEN = enum.auto()
    AT_TOP = enum.auto()


T = TypeVar("T")
Positional = Annotated[T, Mark.POSITIONAL]
"""A field that is given without a flag."""
Hidden = Annotated[T, Mark.HIDDEN]
"""A field that is not on the command line."""
AtTop = Annotated[T, Mark.AT_TOP]
"""A dataclass whose fields stand at the top level: `--seed`, not `--config.seed`."""
ATTRIBUTES = re.compile(r"^Attributes:\n((?:(?: .*)?(?:\n|\Z))+)", re.M)
"""The section of a docstring that says what the fields are."""
ENTRY = re.compile(r"^  (\w+): (.*(?:\n    .*)*)", re.M)
HELP = "help"
"""Key of a field's metadata: its explanation where no source says it."""


class Option(NamedTuple):
    """One field on the command line.

    Attributes:
      flag: `--estimator.std`; of a positional field its name in capitals.
      path: names of the fields that lead to it.
      hint: its type.
      default: value if it is not given; `dataclasses.MISSING` where it must be.
      text: its explanation, on one line.
      group: the dataclass that it is in, as in its flag; empty at the top level.
      is_positional: whether it is given without a flag.
    """

    flag: str
    path: tuple[str, ...]
    hint: Any
    default: Any
    text: str
    group: str
    is_positional: bool


class Choice(NamedTuple):
    """A field that is chosen by a word.

    Attributes:
      name: of the field, as in `estimator:WORD`.
      path: names of the fields that lead to it.
      kinds: word -> class.
      word: of the default.
      text: its explanation, on one line.
    """

    name: str
    path: tuple[str, ...]
    kinds: dict[str, type[Kind]]
    word: str
    text: str


class Table(NamedTuple):
    """What a command takes, in the order of the fields."""

    options: list[Option]
    choices: list[Choice]

    @property
    def flags(self) -> dict[str, Option]:
        """Flag -> option, of those that have one."""
        return {each.flag: each for each in self.options if not each.is_positional}

    def flags_below(self, field: str) -> set[str]:
        """The flags as they are where the dataclass is a field of that name."""
        return {f"--{field.replace('_', '-')}.{flag[2:]}" for flag in self.flags}

    @property
    def positional(self) -> list[Option]:
        """Those without a flag."""
        return [each for each in self.options if each.is_positional]


def table_of(cls: type, default: Any = None) -> Table:
    """The options of a dataclass.

    Args:
      cls: its fields have strings below them.
      default: an instance, whose values are the defaults.
    """
    table = Table([], [])
    _collect(cls, default, (), "", table)
    return table


def opposite_of(flag: str, no: str = "no-") -> str:
    """The flag that says no: `--estimator.no-stagger`.

    Args:
      flag: of a field that is true or false.
      no: what says so.
    """
    before, dot, last = flag[2:].rpartition(".")
    return f"--{before}{dot}{no}{last}"


def _collect(cls: type, default: Any, path: tuple[str, ...], group: str, table: Table) -> None:
    hints, texts = typing.get_type_hints(cls, include_extras=True), described(cls)
    for field in dataclasses.fields(cls):
        hint, marks = bare(hints[field.name])
        if Mark.HIDDEN in marks:
            continue
        where, text = (*path, field.name), texts.get(field.name) or field.metadata.get(HELP, "")
        value = default_of(field) if default is None else getattr(default, field.name)
        name = field.name.replace("_", "-")
        if isinstance(hint, type) and issubclass(hint, Kind):
            kinds = {kind.word: kind for kind in kinds_of(hint).values()}
            table.choices.append(Choice(field.name, where, kinds, type(value).word, text))
            _collect(type(value), value, where, f"{group}{name}.", table)
        elif dataclasses.is_dataclass(hint):
            inner = group if Mark.AT_TOP in marks else f"{group}{name}."
            given = None if value is dataclasses.MISSING else value
            _collect(hint, given, where, inner, table)
        elif values.can_be_written(hint):
            is_positional = Mark.POSITIONAL in marks
            flag = field.name.upper() if is_positional else f"--{group}{name}"
            found = Option(flag, where, hint, value, text, group.rstrip("."), is_positional)
            table.options.append(found)


def bare(hint: Any) -> tuple[Any, tuple]:
    """A type without its marks, and the marks."""
    if typing.get_origin(hint) is not Annotated:
        return hint, ()
    inner, *marks = typing.get_args(hint)
    return inner, tuple(mark for mark in marks if isinstance(mark, Mark))


def default_of(field: dataclasses.Field) -> Any:
    """A field's default; `dataclasses.MISSING` where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def described(cls: type) -> dict[str, str]:
    """Field -> the string below it, or what the docstring's `Attributes` say, in a class and those
    it is made of; nothing without source.
    """
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if dataclasses.is_dataclass(each):
            found |= dict(_texts(each))
    return found


def docstring_of(cls: type) -> str:
    """The docstring in a class's source, which is there under `python -OO` too; empty if none is.

    A dataclass without one would show its signature.
    """
    node = _node_of(cls)
    return (ast.get_docstring(node) or "") if node else ""


def _node_of(cls: type) -> ast.ClassDef | None:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return _classes(file).get(cls.__name__) if file else None


def _texts(cls: type) -> Iterator[tuple[str, str]]:
    node = _node_of(cls)
    body = node.body if node else []
    yield from _attributes(docstring_of(cls))
    for field, text in itertools.pairwise(body):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and is_text:
            yield field.target.id, " ".join(str(text.value.value).split())


def _attributes(doc: str) -> Iterator[tuple[str, str]]:
    """Name and explanation of each entry of a docstring's `Attributes`."""
    section = ATTRIBUTES.search(doc)
    for name, text in ENTRY.findall(section[1] if section else ""):
        said = " ".join(text.replace("`", "").split())
        yield name, said[:1].upper() + said[1:]


@functools.cache
def _classes(file: str) -> dict[str, ast.ClassDef]:
    """The classes of a file, by name."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return {}
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
