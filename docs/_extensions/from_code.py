"""What the site reads from the code: docstrings, the help of commands, the fields of configs."""

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

SINGLE = re.compile(r"(?<![`:\w])`([^`]+)`(?!`)")
"""Code in docstrings is between single backticks, as in Markdown; Sphinx wants two."""
CODE = re.compile(r"(``[^`]*``)")
LONG_NUMBER = re.compile(r"\d\d\. ")


def to_rst(text: str) -> str:
    """A docstring of this project, which is Markdown between Google's sections, for Sphinx."""
    lines = SINGLE.sub(r"``\1``", text).split("\n")
    found: list[str] = []
    while lines:
        line = lines.pop(0)
        indent = line[: len(line) - len(line.lstrip())]
        if line.lstrip().startswith("|"):
            table = [line, *_while(lines, lambda each: each.lstrip().startswith("|"))]
            found += [f"{indent}{each}".rstrip() for each in _table(table)]
        elif len(indent) >= 4 and _is_block(found):
            block = [line, *_while(lines, lambda each: not each or each.startswith("    "))]
            found += ["::", "", *block, ""]
        elif LONG_NUMBER.match(line):
            found.append(line)
            found += [f" {each}" for each in _while(lines, lambda each: each.startswith("   "))]
        else:
            parts = CODE.split(line)
            found.append("".join(p if p[:2] == "``" else p.replace("|", "\\|") for p in parts))
    return "\n".join(found)


def _while(lines: list[str], fits: Callable[[str], bool]) -> list[str]:
    """Takes away the first lines that fit."""
    number = next((i for i, line in enumerate(lines) if not fits(line)), len(lines))
    taken = lines[:number]
    del lines[:number]
    return taken


def _is_block(before: list[str]) -> bool:
    """Whether what is indented after these lines is code: after a blank one below plain text."""
    if len(before) < 2 or before[-1].strip():
        return False
    above = next((line for line in reversed(before) if line.strip()), "")
    return bool(above) and not above.startswith(" ") and above.strip() != "::"


def _table(lines: list[str]) -> Iterator[str]:
    """A Markdown table as Sphinx's."""
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    yield from ("", ".. list-table::", "   :header-rows: 1", "")
    for row in cells[:1] + cells[2:]:
        for number, cell in enumerate(row):
            yield f"   {'*' if number == 0 else ' '} - {cell}"
    yield ""


def help_of(arguments: list[str]) -> str:
    """What `learned-opt ARGUMENTS --help-all` prints: all that there is."""
    from learned_opt_lab.cli.main import main

    shown = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "92"
    try:
        with contextlib.redirect_stdout(shown):
            main([*arguments, "--help-all"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return shown.getvalue().rstrip()


def described(cls: type) -> dict[str, str]:
    """Field -> the string below it, in a class and those it is made of."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        (node,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(each))).body
        for field, text in zip(node.body, node.body[1:], strict=False):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and is_text:
                found[field.target.id] = " ".join(text.value.value.split())
    return found


def rows(cls: type) -> Iterator[tuple[str, str, str]]:
    """(field, default, what it is) of each field of a dataclass."""
    texts = described(cls)
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            default: Any = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = None
        shown = (
            f"{type(default).__name__}()" if dataclasses.is_dataclass(default) else repr(default)
        )
        yield field.name, shown, texts[field.name]
