"""How files are read that anyone may have written:
within bounds, and without running anything they hold.

Only regular files are opened: a pipe or a device would never end.
"""

import collections
import hashlib
import io
import json
import math
import os
import stat
from typing import Any, BinaryIO

MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 32
MAX_DIGITS = 19
"""Of a whole number in JSON: what 64 bits hold."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a file for binary reading.

    Raises:
      ValueError: it is no regular file.
      OSError: it cannot be opened.
    """
    # A look first: to open a device may do something to it. Then again, at what was opened.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is no regular file")
    file = open(  # noqa: SIM115  It is the caller's to close.
        path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    )
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise ValueError(f"{path} is no regular file")


def read_bytes(path: str | os.PathLike, max_bytes: int) -> bytes:
    """The whole of a small file.

    Raises:
      ValueError: it is larger than `max_bytes`, or no regular file.
      OSError: it cannot be read.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"{path} is too large: more than {max_bytes} bytes")
    return data


def read_json(path: str | os.PathLike, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds; raises as `read_bytes` and `parse_json`, with the file's name."""
    return parse_json(read_bytes(path, max_bytes), str(path), max_bytes)


def parse_json(data: bytes, what: str, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Strict JSON in UTF-8.

    Args:
      data: the text.
      what: its name for errors.
      max_bytes: of the text.

    Raises:
      ValueError: for anything else, and for nan and infinity, a name twice in one object, more than
        `MAX_JSON_DEPTH` levels, and whole numbers of more than 64 bits.
    """
    try:
        if len(data) > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        value = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=_constant,
        )
        _check_values(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no valid JSON: {error}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {name[:80]!r} is there twice")
    return found


def _whole_number(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"the number {text[:24]}... has more than 64 bits")
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:24]!r} is out of range")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _check_values(value: Any) -> None:
    """Raises `ValueError` for too many levels, and for halves of characters,
    which cannot be written again.
    """
    waiting = [(value, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested too deeply: more than {MAX_JSON_DEPTH} levels")
        if isinstance(value, dict):
            waiting += [(each, depth + 1) for each in (*value, *value.values())]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]
        elif isinstance(value, str):
            value.encode()


def digest_of(file: BinaryIO) -> str:
    """SHA-256 of an open file from its start, in hexadecimal."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return file.seek(0, io.SEEK_END)
