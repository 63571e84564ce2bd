r"""Text from outside, made fit for the place where it is shown:
pictures, pages, tables and names of files.

Labels, names of directories, tasks and hyperparameters and the messages of errors come from users
and from files, so they may hold anything: `$\bad$` is a formula to Matplotlib, `</script>` ends a
script, `|` a cell of a table. All that is drawn or written goes through one of these functions;
nothing else escapes. (For terminals and logs there is `outer_train.processes._printable`.)
"""

import functools
import hashlib
import json
import math
import re
from typing import Any
from urllib.parse import quote

UNKNOWN = "–"
"""What stands where a number is not known."""
LABEL_LIMIT = 40
"""Characters of a label in a picture: longer ones would leave no room for the picture."""
_JOINERS = "\u200c\u200d"
"""Invisible, but words of Persian and many emoji are written with them."""
_WORD_JOINER = "\u2060"
_MAX_FILE_NAME = 120


def plain(text: object, limit: int | None = None) -> str:
    r"""One line without anything invisible:
    `\x1b`, `\u202e` and the like stand for characters that do not print.

    Line breaks and other spaces become a space. The result can be encoded in UTF-8 and is its own
    `plain`.

    Args:
      text: a string; other values are shown by their `str`.
      limit: most characters of the result, where the middle of a longer one is left out; None is no
        limit.
    """
    text = str(text)
    if limit is not None and len(text) > 2 * limit:
        text = text[:limit] + text[-limit:]
    return _cut([_visible(character) for character in text], limit)


def well_formed(text: str) -> str:
    r"""The same text where it can be encoded.

    A lone surrogate, of a file's name that is no UTF-8, becomes `\udcff`.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def figure_label(text: object, limit: int | None = LABEL_LIMIT) -> str:
    r"""Text for Matplotlib, which shows it as it is:
    no formulas, and no name that a legend would leave out.

    Characters that the font does not have are written as `\u65e5`, since boxes all look the same.
    """
    from matplotlib import font_manager  # Names of files and tables do without.

    glyphs = _glyphs(font_manager.findfont(font_manager.FontProperties()))
    pieces = [c if ord(c) in glyphs else _escape(c) for c in plain(text, limit)]
    shown = _cut(pieces, limit).replace("$", r"\$")
    # A label that starts with an underscore is a private one: legends skip it.
    return _WORD_JOINER + shown if shown.startswith("_") else shown or "(no name)"


def json_for_script(value: Any) -> str:
    """JSON for the inside of a script element, where `</script>` and `<!--` would be markup.

    Raises:
      ValueError: for nan and infinity, which JSON has not.
    """
    # ASCII: U+2028 and U+2029, which were line breaks to JavaScript,
    # and lone surrogates are escaped as well.
    text = json.dumps(value, allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def markdown_cell(text: object) -> str:
    """Text for a cell of a Markdown table, shown as it is.

    Underscores within a word need no backslash, and names stay readable in the source.
    """
    whole = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", whole)


def file_name(text: object) -> str:
    """A name for a file: letters, digits and `_.-~`, all else as `%20`;
    long ones end in a digest of the whole.

    It names no folder and no hidden file, and different texts have different names.
    """
    name = quote(str(text), safe="", errors="surrogatepass")
    name = "%2E" + name[1:] if name.startswith(".") else name or "%"
    if len(name) <= _MAX_FILE_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _MAX_FILE_NAME - 17]}-{digest}"


def format_number(value: Any) -> str:
    """Three digits that matter; a dash for what is unknown, null or not finite.

    The `str` of what is no number.
    """
    if value is None:
        return UNKNOWN
    if isinstance(value, int) or not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    return character if character.isprintable() or character in _JOINERS else _escape(character)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(pieces: list[str], limit: int | None) -> str:
    """The pieces joined, whole ones left out of the middle if that is too long:
    names differ at their ends.
    """
    if limit is None or sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    first, last, room = [], [], max(limit - 1, 0)
    head = (room + 1) // 2
    for piece in pieces:
        if len(piece) > head:
            break
        first.append(piece)
        head -= len(piece)
    tail = room - sum(map(len, first))
    for piece in reversed(pieces):
        if len(piece) > tail:
            break
        last.append(piece)
        tail -= len(piece)
    return "".join(first) + "…" + "".join(reversed(last))


@functools.cache
def _glyphs(path: str) -> frozenset[int]:
    """The characters that a font file has."""
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(path).get_charmap())
