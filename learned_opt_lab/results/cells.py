"""Cells: the pieces of a resumable piece of work,
each an `.npz` of arrays with the `.json` that belongs to it.

The record holds a checksum of the arrays, one of itself and what the cell was made of. A cell that
is damaged is told, set aside and made again; one that was made of something else (other code, data
or versions) is told and replaced.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learned_opt.disk import files, npz, reading
from learned_opt_lab.results import folder

_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What readers of arrays and JSON raise for bytes that are not what was written."""
Warn = Callable[[str], None]


class Stored(NamedTuple):
    """A cell as it lies in its files.

    Attributes:
      arrays: name -> array.
      record: what else is kept of it; JSON.
    """

    arrays: dict[str, NDArray]
    record: dict[str, Any]


def write(
    stem: Path, arrays: Mapping[str, Any], record: Mapping[str, Any], made_of: Mapping[str, Any]
) -> None:
    """Writes `STEM.npz` and `STEM.json` together, making the folder.

    Args:
      stem: of both files; its own dots stay.
      arrays: name -> array.
      record: JSON without nan.
      made_of: JSON; a reader that wants something else makes the cell again.

    Raises:
      OSError: they could not be written; what was there is still there.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    packed = buffer.getvalue()
    content = {"record": dict(record), "made_of": dict(made_of), "arrays_sha256": _sha256(packed)}
    text = json.dumps(content | {"sha256": _digest(content)}, indent=2, allow_nan=False) + "\n"
    npz_path, json_path = paths(stem)
    files.write_together(
        {
            npz_path: lambda file: file.write(packed),
            json_path: lambda file: file.write(text.encode()),
        }
    )


def read(
    stem: Path, made_of: Mapping[str, Any] | None = None, warn: Warn = folder.warn
) -> Stored | None:
    """A finished cell; None where there is none, where it is damaged,
    or where it was made of something else.

    Args:
      stem: as in `write`.
      made_of: what it must have been made of; None for anything.
      warn: called with one line that names the file, for a cell that is there and is not taken.
        Such a cell's files are kept beside it under `.damaged`.

    Raises:
      OSError: a file that is there could not be read: no damage, and nothing to replace it for.
    """
    npz_path, json_path = paths(stem)
    if not npz_path.exists() and not json_path.exists():
        return None
    blamed = json_path
    try:
        content = json.loads(_bytes(json_path).decode())
        if not _is_whole(content):
            raise ValueError("its checksum is of something else")
        blamed = npz_path
        packed = _bytes(npz_path)
        if _sha256(packed) != content["arrays_sha256"]:
            raise ValueError("its checksum is of something else")
        arrays = npz.read_all(io.BytesIO(packed), "it")
        stored = Stored(arrays, content["record"])
    except FileNotFoundError:
        warn(f"{blamed} is missing beside its other half; it is measured again")
        return None
    except _DAMAGE as error:
        kept = set_aside(npz_path, json_path)
        warn(f"{blamed} is damaged ({_reason(error)}), kept as {kept.name}, and measured again")
        return None
    if made_of is not None and (different := _different(content["made_of"], made_of)):
        warn(f"{npz_path} was made with {different}; it is measured again")
        return None
    return stored


def paths(stem: Path) -> tuple[Path, Path]:
    """The two files of a cell."""
    return stem.with_name(f"{stem.name}.npz"), stem.with_name(f"{stem.name}.json")


def set_aside(*damaged: Path) -> Path:
    """Renames files that cannot be read to `NAME.damaged`, `.damaged2` and so on;
    returns the last one's new name.

    On a disk that takes no renaming they stay.
    """
    kept = damaged[-1]
    for path in damaged:
        number = 1
        while (
            new := path.with_name(f"{path.name}.damaged{number if number > 1 else ''}")
        ).exists():
            number += 1
        try:
            os.rename(path, new)
            kept = new
        except OSError:
            continue
    return kept


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """JSON with a checksum of itself."""
    return content | {"sha256": _digest(content)}


def _is_whole(content: Any) -> bool:
    """Whether sealed JSON is what it was when it was sealed."""
    return content.get("sha256") == _digest(
        {key: value for key, value in content.items() if key != "sha256"}
    )


def read_sealed(path: Path) -> dict[str, Any]:
    """The content of a file of `sealed` JSON.

    Raises:
      ValueError: it is damaged.
      OSError: it cannot be read.
    """
    try:
        content = json.loads(_bytes(path).decode())
        whole = _is_whole(content)
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged: {_reason(error)}") from error
    if not whole:
        raise ValueError(f"{path} is damaged: its checksum is of something else")
    return content


def _bytes(path: Path) -> bytes:
    """All of a file; `ValueError` where it is a pipe, for example, which would be waited for."""
    try:
        file = reading.open_regular(path)
    except ValueError as error:  # Whoever tells of the damage names the file.
        raise ValueError("it is no regular file") from error
    with file:
        return file.read()


def _different(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What two descriptions differ in, in words; empty for equal ones."""
    names = [name for name in wanted if found.get(name) != json.loads(json.dumps(wanted[name]))]
    return f"another {' and another '.join(names[:3])}" if names else ""


def _digest(content: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:100] or type(error).__name__
