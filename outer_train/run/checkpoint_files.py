"""The files of checkpoints: which are whole, which are damaged,
what an error of the file system is.

A checkpoint is written to `N.unsealed`. Once it is on the disk, it is given a list of its files
with their checksums, and renamed to `N`. Damaged ones are moved to the folder `damaged`; nobody
deletes them.
"""

import contextlib
import errno
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from learned_opt.disk import files, reading
from outer_train.processes._printable import printable

SEAL = "files.json"
"""The list of a checkpoint's files."""
STATE = "default"
"""Where in a checkpoint Orbax writes the state."""
DAMAGED = "damaged"
UNSEALED = ".unsealed"
DELETED = ".deleted"
LOSS = ("metrics", "metrics")
"""Where in a checkpoint the smoothed outer loss is."""
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors that say that a file is missing; all others may pass, and say nothing of the file."""
_PIECE = 1 << 20
"""Bytes that are read at once."""
OS_ERROR = re.compile(r"os_error_code='(\d+)'")
"""How TensorStore tells the system's error."""


def steps(directory: Path) -> list[int]:
    """Outer steps that have a folder, oldest first."""
    return sorted(
        int(entry.name)
        for entry in os.scandir(directory)
        if _is_step(entry.name) and entry.is_dir()
    )


def unsealed_steps(directory: Path) -> list[int]:
    """Outer steps whose checkpoint has been begun and not sealed, oldest first."""
    names = [
        entry.name.removesuffix(UNSEALED)
        for entry in os.scandir(directory)
        if entry.name.endswith(UNSEALED) and entry.is_dir(follow_symlinks=False)
    ]
    return sorted(int(name) for name in names if _is_step(name))


def has_traces(directory: Path) -> bool:
    """Whether a checkpoint was ever begun here, as far as the folder tells."""
    ours = (entry.name.split(".")[0] for entry in os.scandir(directory))
    return any(_is_step(name) or name == DAMAGED for name in ours)


def begin(directory: Path, step: int, smoothed_loss: float | None) -> Path:
    """Makes the folder that the checkpoint is written to, and returns where the state goes."""
    folder = directory / f"{step}{UNSEALED}"
    _delete(folder)
    path = folder.joinpath(*LOSS)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = smoothed_loss is not None and math.isfinite(smoothed_loss)
    path.write_text(
        json.dumps({"smoothed_loss": float(smoothed_loss) if known else None}), encoding="utf-8"
    )
    return folder / STATE


def empty(directory: Path, step: int) -> None:
    """Deletes what there is of a checkpoint that cannot be written, but not its folder."""
    folder = directory / f"{step}{UNSEALED}"
    with contextlib.suppress(OSError):
        _delete(folder)
        folder.mkdir()


def seal(directory: Path, step: int) -> None:
    """Gives a checkpoint that Orbax has finished its list of files and its name."""
    folder, final = directory / f"{step}{UNSEALED}", directory / str(step)
    checksums = {name: _checksum(folder / name, sync=True) for name in _names(folder)}
    for parent, _, _ in os.walk(folder):
        files.sync_folder(Path(parent))
    files.write_json(folder / SEAL, checksums, indent=None)
    if final.exists():
        set_aside(directory, step)
    os.rename(folder, final)
    files.sync_folder(directory)


def defect(directory: Path, step: int) -> str | None:
    """What is wrong with a checkpoint's files; None if they are those that were written.

    Further files do not matter, unless a reader would wait for them, or be led elsewhere by them.

    Raises:
      OSError: they cannot be read for a reason that may pass.
    """
    folder = directory / str(step)
    try:
        listed = json.loads(_read(folder / SEAL))
        if not isinstance(listed, dict) or not listed or not all(map(_is_within, listed)):
            return "its list of files is broken"
        if any(_checksum(folder / name) != checksum for name, checksum in listed.items()):
            return "its files are not those that were written"
        return _no_file(folder)
    except FileNotFoundError as error:
        if error.filename != str(folder / SEAL):
            name = str(Path(error.filename).relative_to(folder))
            return f"{printable(name)} is missing"
    except (ValueError, RecursionError):
        return "its list of files is broken"
    if not os.path.isdir(folder / STATE):
        return "it was never finished"
    for name in _names(folder):
        _checksum(folder / name)
    return _no_file(folder)


def _is_within(name: str) -> bool:
    """Whether a path that a list has is one of the checkpoint's own folder."""
    path = Path(name)
    return not path.anchor and ".." not in path.parts


def _no_file(folder: Path) -> str | None:
    """The first thing in a checkpoint that is neither file nor folder: a pipe would be waited for,
    and what a linked folder holds is not known.
    """
    for parent, folders, names in os.walk(folder, onerror=_raise):
        for name in (*folders, *names):
            path = Path(parent, name)
            strange = path.is_symlink() if name in folders else path.exists() and not path.is_file()
            if strange:
                return f"{printable(str(path.relative_to(folder)))} is no file"
    return None


def set_aside(directory: Path, step: int) -> Path:
    """Moves a damaged checkpoint out of the way and returns where it is now."""
    (directory / DAMAGED).mkdir(exist_ok=True)
    names = (str(step), *(f"{step}-{number}" for number in range(2, 10_000)))
    target = next(
        target for name in names if not os.path.lexists(target := directory / DAMAGED / name)
    )
    os.rename(directory / str(step), target)
    return target


def prune(directory: Path, keep: int) -> None:
    """Deletes all whole checkpoints but the newest few and the one
    of the lowest smoothed outer loss.
    """
    found = steps(directory)
    kept = set(found[-keep:])
    losses = {
        step: loss for step in found if (loss := _smoothed_loss(directory / str(step))) is not None
    }
    if losses:
        kept.add(min(losses, key=lambda step: (losses[step], -step)))
    for step in set(found) - kept:
        with contextlib.suppress(OSError):  # it stays a whole checkpoint
            os.rename(directory / str(step), directory / f"{step}{DELETED}")
    clean(directory, (DELETED,))


def clean(directory: Path, endings: tuple[str, ...] = (DELETED, UNSEALED)) -> None:
    """Deletes what a kill left of checkpoints that were not finished, or were being deleted."""
    for entry in list(os.scandir(directory)):
        step, dot, rest = entry.name.partition(".")
        if _is_step(step) and (
            f".{rest}" in endings or (dot and rest.startswith("orbax-checkpoint-tmp"))
        ):
            with contextlib.suppress(OSError):
                _delete(Path(entry.path))


@contextlib.contextmanager
def telling(path: Path, doing: str) -> Iterator[None]:
    """Turns what Orbax and TensorStore raise into one `OSError` of one line,
    if the system refused something.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno in NOT_THERE:
            raise
        raise type(error)(
            error.errno, f"{error.strerror} ({doing})", error.filename or str(path)
        ) from error
    except Exception as error:
        found = OS_ERROR.search(str(error))
        if not found or int(found[1]) in NOT_THERE:
            raise
        raise OSError(
            int(found[1]), f"{os.strerror(int(found[1]))} ({doing})", str(path)
        ) from error


def first_line(error: BaseException) -> str:
    """The start of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _delete(folder: Path) -> None:
    """Deletes a folder as far as that goes; of a link or file under its name only that.

    Raises:
      OSError: a link or file cannot be deleted, so that writing would lead elsewhere.
    """
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.unlink(missing_ok=True)


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 20


def _names(folder: Path) -> list[str]:
    """Paths of all files of a checkpoint but the list itself, within it."""
    found = []
    for parent, _, names in os.walk(folder, onerror=_raise):
        found += [str(Path(parent, name).relative_to(folder)) for name in names]
    return sorted(name for name in found if name != SEAL and (folder / name).is_file())


def _raise(error: OSError) -> None:
    raise error


def _open(path: Path) -> BinaryIO:
    """Opens a file; `FileNotFoundError` if there is no file of this name,
    whatever else there is.
    """
    try:
        return reading.open_regular(path)
    except ValueError as error:  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        if error.errno in NOT_THERE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise


def _read(path: Path) -> bytes:
    with _open(path) as file:
        return file.read()


def _checksum(path: Path, sync: bool = False) -> int:
    checksum = 0
    with _open(path) as file:
        if sync:
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())
        while piece := file.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _smoothed_loss(folder: Path) -> float | None:
    """None where it is unknown; files of older versions say so by the largest float."""
    try:
        loss = json.loads(_read(folder.joinpath(*LOSS)))["smoothed_loss"]
        return float(loss) if float(loss) < 1e308 else None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
