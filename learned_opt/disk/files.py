"""How files are written: whole or not at all,
and known to be on the disk before the old ones are given up.

Every writer of the project uses these. A file is written beside its place under the name
`.NAME.pending`, handed to the disk (fsync), and moved to its place; then the folder is handed to
the disk, since a move is not there after a crash of the machine until its folder is. Where anything
fails, what was at the place before is still there, and nothing of the attempt is.

The folder may be a stranger's, with a link under any name. None is written through: the file beside
the place is always a new one, and what is written in place is opened by `open_in_place`.
"""

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

Writer = Callable[[BinaryIO], Any]
"""Writes the content to a file that is open for binary writing."""


def write_atomically(path: str | os.PathLike, write: Writer) -> None:
    """Replaces one file.

    Args:
      path: of the file; its folder exists.
      write: called once with the open file.

    Raises:
      OSError: it could not be written, for want of room for example, or since a device or pipe is
        in its place; it names the file.
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
    for path in writers:
        _check_replaceable(path)
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


def open_in_place(path: str | os.PathLike, flags: int) -> BinaryIO:
    """Opens a file for writing that is not replaced but changed where it is.

    Args:
      path: of the file.
      flags: of `os.open`, such as `os.O_WRONLY | os.O_APPEND | os.O_CREAT`.

    Raises:
      OSError: it is a link, whose target is another file, or no regular file, or cannot be opened;
        it names the file.
    """
    if os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link, and is not written through", str(path))
    # Between the look and the opening it may become one; where it is a pipe, nobody is waited for.
    safe = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    descriptor = os.open(path, flags | safe, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return open(descriptor, "wb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file", str(path))


def open_to_append(path: str | os.PathLike) -> TextIO:
    """Opens a text file, or makes one, to write at its end; raises as `open_in_place`."""
    file = open_in_place(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return io.TextIOWrapper(file, encoding="utf-8", newline="\n")


def sync_folder(folder: Path) -> None:
    """Hands a folder's entries to the disk; on file systems that cannot, nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_replaceable(path: Path) -> None:
    """Raises `OSError` for a device, a pipe or a socket: replaced, it would be lost to all.

    A folder is refused where the file would be moved there.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        # `/dev/stdout` leads to a regular file where the output was sent to one.
        is_system_s = os.path.realpath(path.parent) == os.path.dirname(os.devnull)
        if is_system_s or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is no regular file, and is not replaced", str(path))


def _write_to_disk(path: Path, write: Writer) -> None:
    path.unlink(missing_ok=True)
    # Exclusively: a link that lies there is never followed.
    with path.open("xb") as file:
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
