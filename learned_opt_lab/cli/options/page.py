"""The help of a command: a screen with what is used most, or all of it."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from learned_opt_lab.cli.options import values
from learned_opt_lab.cli.options.fields import (
    ATTRIBUTES,
    Choice,
    Option,
    Table,
    docstring_of,
    opposite_of,
)

ALL = "--help-all"
COMMON = {
    "--json": "Print what was found as one JSON object on standard output, all else on standard "
    "error.",
    "--quiet": "Print nothing but errors and the last line.",
    "--help": "Show this.",
}
"""What every command takes, beside its own."""
MIN_COLUMNS, MAX_COLUMNS = 40, 100
LEFT = 28
"""Columns of flags, left of their explanation."""


def page(cls: type, table: Table, prog: str, *, everything: bool) -> str:
    """The help of a command.

    Args:
      cls: its dataclass; where that has `usual`, names of flags, a page that is not of everything
        shows those alone, each by the first sentence of its explanation.
      table: its options.
      prog: how it is called.
      everything: show all options.
    """
    usual = () if everything else getattr(cls, "usual", ())
    columns = min(max(shutil.get_terminal_size().columns, MIN_COLUMNS), MAX_COLUMNS)
    lines = [*_usage(table, prog, columns), ""]
    for number, paragraph in enumerate(_paragraphs(cls)):
        if not (usual and number):
            lines += [*_wrapped(paragraph, columns), ""]
    lines += _described(table.positional, columns)
    if usual:
        shown = [table.flags[f"--{name}"] for name in usual if f"--{name}" in table.flags]
        lines += ["most used:", *_described(shown, columns, first=True), ""]
        lines += _choices(table.choices, columns)
    else:
        lines += _groups(table, columns)
    common = dict(COMMON)
    if getattr(cls, "usual", ()):
        common[ALL] = f"Explain all {len(table.options)} options."
    lines += _rows(common.items(), columns)
    return "\n".join(lines)


def usage_of(option: Option) -> str:
    """How an option is written."""
    if option.is_positional:
        return f"{option.flag} ..." if values.num_words(option.hint) is None else option.flag
    if option.hint is bool:
        return opposite_of(option.flag, "[no-]") if option.default is True else option.flag
    return f"{option.flag} {values.metavar(option.hint)}"


def _usage(table: Table, prog: str, columns: int) -> list[str]:
    parts = [usage_of(each) for each in table.positional]
    if table.choices:
        parts.append("[FIELD:KIND ...]")
    text = " ".join([f"usage: {prog}", *parts, "[--option VALUE ...]"])
    return textwrap.wrap(text, columns, subsequent_indent="  ", break_on_hyphens=False)


def _paragraphs(cls: type) -> list[str]:
    """The paragraphs of a docstring but for its `Attributes`, which are said of each option."""
    doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
    if not doc or doc.startswith(f"{cls.__name__}("):  # Python left it out, or wrote one of its own
        doc = docstring_of(cls)
    return [part for part in re.split(r"\n\s*\n", ATTRIBUTES.sub("", doc)) if part.strip()]


def _wrapped(paragraph: str, columns: int) -> list[str]:
    """Its lines; a command, which is indented, stays as it is."""
    if paragraph.startswith(" "):
        return paragraph.splitlines()
    return textwrap.wrap(" ".join(paragraph.replace("`", "").split()), columns)


def _groups(table: Table, columns: int) -> Iterator[str]:
    """All options, those of a group below its name."""
    yield from _choices(table.choices, columns)
    flags = list(table.flags.values())
    for group in sorted({each.group: None for each in flags}, key=bool):  # the top level first
        word = next((c.word for c in table.choices if c.name.replace("_", "-") == group), None)
        yield f"{group} ({word}):" if word else f"{group}:" if group else "options:"
        yield from _described([each for each in flags if each.group == group], columns)
        yield ""


def _choices(choices: list[Choice], columns: int) -> Iterator[str]:
    if choices:
        yield "kinds, the first as it is, the others with their own defaults:"
        rows = {}
        for each in choices:
            words = [each.word, *(word for word in each.kinds if word != each.word)]
            rows[f"{each.name}:KIND"] = ", ".join(words)
        yield from _rows(rows.items(), columns)
        yield ""


def _described(options: list[Option], columns: int, first: bool = False) -> list[str]:
    rows = []
    for each in options:
        text = _first_sentence(each.text) if first else each.text
        default = values.shown(each.default)
        rows.append((usage_of(each), f"{text} [{default}]" if default else text))
    found = list(_rows(rows, columns))
    return [*found, ""] if found and options[0].is_positional else found


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s|;\s", text, maxsplit=1)[0].rstrip(".") + "."


def _rows(rows: Any, columns: int) -> Iterator[str]:
    """Names in a column of their own, and what is said of them right of it."""
    left = LEFT if columns >= 2 * LEFT else 6
    for name, text in rows:
        wrapped = textwrap.wrap(text.replace("`", ""), columns - left, break_on_hyphens=False)
        wrapped = wrapped or [""]
        if len(name) + 4 <= left:
            yield f"  {name:<{left - 2}}{wrapped.pop(0)}".rstrip()
        else:
            yield f"  {name}"
        yield from (f"{'':<{left}}{line}" for line in wrapped)
