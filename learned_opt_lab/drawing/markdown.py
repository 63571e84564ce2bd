"""Tables of Markdown pages that are written from results."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from learned_opt_lab.drawing.text import markdown_cell

SHOWN_AS_CODE = re.compile(r"""[\w.@:/=+ (),'"-]*[\w.)'"]""")


class Raw(str):
    """Text of a cell that is Markdown already."""


def code(text: str) -> Raw:
    """A name as code, or as plain text where it holds what code would not show."""
    return Raw(f"`{text}`" if SHOWN_AS_CODE.fullmatch(text) else markdown_cell(text))


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table; what is not `Raw` is shown as it is, whatever it holds."""
    lines = [head, [Raw("---")] * len(head), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(value: Any) -> str:
    """A formula's bars and stars are Markdown's too; what is in backticks is left alone."""
    text = str(value)
    return text if isinstance(value, Raw) else markdown_cell(text)


def show(value: float, digits: int = 3) -> str:
    """A number with so many digits, and no exponent where it reads as well without."""
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-4 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1 else f"{value:.{digits + 3}f}"
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
