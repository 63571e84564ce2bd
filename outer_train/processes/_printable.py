"""Text that strangers wrote, as a terminal and a log may show it."""

ELLIPSIS = "..."
QUOTE_LIMIT = 4096
"""Characters of a foreign object's `repr` that are looked at before it is cut."""


def printable(text: str, limit: int = 80) -> str:
    r"""Escapes all that is not a letter, mark, digit, sign or the space of ASCII,
    as `repr` does, and cuts the rest.

    Control characters, ANSI escapes, line breaks, bidirectional marks, zero-width characters, lone
    surrogates and a backslash become `\x1b`, `\n`, `\u202e`, `\\`: one line, and nothing that a
    terminal takes for a command.

    Args:
      text: from a file, a socket or another process. Other values are shown by their `repr`.
      limit: most characters of the result, the `...` of a cut with it.

    Returns:
      The text, at most `limit` characters long; an escape is never cut in two.
    """
    is_repr = not isinstance(text, str)
    if is_repr:
        text = _repr(text)
    pieces, length = [], 0
    for character in text[: limit + 1]:
        pieces.append(character if is_repr and character == "\\" else _escape(character))
        length += len(pieces[-1])
    if length <= limit and len(text) <= limit:
        return "".join(pieces)
    while pieces and length > limit - len(ELLIPSIS):
        length -= len(pieces.pop())
    return "".join(pieces) + ELLIPSIS[: max(limit, 0)]


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return (
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
    )


def _repr(value: object) -> str:
    try:
        return repr(value)[:QUOTE_LIMIT]
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        return f"a {type(value).__name__} too large to show"
