"""How files are written: whole or not at all,
and known to be on the disk before the old ones are given up.

Every writer of the project uses these. A file is written beside its place under the name
`.NAME.pending`, handed to the disk (fsync), and moved to its place; then the folder is handed to
the disk, since a move is not there after a crash of the machine until its folder is. Where anything
fails, what was at the place before is still there, and nothing of the attempt is.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Writer = Callable[[BinaryIO], Any]
"""Writes the content to a file that is open for binary writing."""


def write_atomically(path: str | os.PathLike, write: Writer) -> None:
    """Replaces one file.

    Args:
      path: of the file; its folder exists.
      write: called once with the open file.

    Raises:
      OSError: it could not be written, for want of room for example; it names the file.
    """
    write_together({Path(path): write})


def write_together(writers: Mapping[Path, Writer]) -> None:
    """Replaces files that belong together, all or none as far as a file system can.

    All are written and on the disk before the first is moved to its place. A process that is killed
    between two of the moves leaves the rest under `pending_path`, where a reader who finds that
    they do not belong together looks.

    Args:
      writers: path -> writer, moved to their places in this order.

    Raises:
      OSError: as in `write_atomically`.
    """
    pending = {path: pending_path(path) for path in writers}
    try:
        for path, write in writers.items():
            with _naming(path):
                _write_to_disk(pending[path], write)
        for path in writers:
            with _naming(path):
                os.replace(pending[path], path)
    except BaseException:
        for each in pending.values():
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)
        raise
    for folder in dict.fromkeys(path.parent for path in writers):
        sync_folder(folder)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replaces a text file, in UTF-8 whatever the locale; raises as `write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: str | os.PathLike, value: Any, *, indent: int | None = 2) -> None:
    """Replaces a JSON file; raises as `write_atomically`,
    and `ValueError` for nan or infinity, which JSON has not.
    """
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def write_npz(
    path: str | os.PathLike, arrays: Mapping[str, Any], *, compressed: bool = False
) -> None:
    """Replaces an `.npz` file, whose name may end otherwise; raises as `write_atomically`."""
    write_atomically(
        path, lambda file: (np.savez_compressed if compressed else np.savez)(file, **arrays)
    )


def pending_path(path: Path) -> Path:
    """Where a file waits that is not yet moved to `path`."""
    return path.with_name(f".{path.name}.pending")


def sync_folder(folder: Path) -> None:
    """Hands a folder's entries to the disk; on file systems that cannot, nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_to_disk(path: Path, write: Writer) -> None:
    with path.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _naming(path: Path):
    """Gives an `OSError` that names no file, as those of a full disk, the file's name."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename == str(path):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
