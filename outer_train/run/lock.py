"""One writer a run: a lock in the run directory that says who holds it.

The lock is a file, made exclusively, so it works where `flock` does not. It names host and process,
and when that one started, since process ids are used again. A lock whose process is gone, or that
was copied along with a directory, is taken over; one of another machine, whose processes cannot be
seen from here, is left to the user.
"""

import contextlib
import errno
import json
import os
import platform
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learned_opt.disk import reading
from outer_train.processes._printable import printable

NAME = "run.lock"
UNREADABLE_SECONDS = 10.0
"""After which a lock without content is no longer taken for one that is being written."""
MAX_BYTES = 4096

_held: dict[tuple[int, str], tuple[int, int]] = {}
"""Locks of this process: (process, path) -> (thread, times it was taken)."""
_guard = threading.Lock()


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keeps all others from writing to the run directory `path`; may be nested within a thread.

    Raises:
      ValueError: another process, or another thread of this one, writes to it.
      OSError: the lock cannot be written, or is no file.
    """
    key = (os.getpid(), os.path.realpath(path))
    with _guard:
        thread, count = _held.get(key, (threading.get_ident(), 0))
        if thread != threading.get_ident():
            raise ValueError(f"{path} is being written by another thread of this process")
        if not count:
            _take(path / NAME)
        _held[key] = (thread, count + 1)
    try:
        yield
    finally:
        with _guard:
            thread, count = _held.pop(key, (0, 0))
            if count > 1:
                _held[key] = (thread, count - 1)
            elif count:
                _give_back(path / NAME)


@contextlib.contextmanager
def hold_by_first(path: Path) -> Iterator[None]:
    """As `hold`, held by the first of several processes for all of them;
    all raise if it cannot be had.
    """
    from outer_train.processes import cluster  # which imports JAX

    with contextlib.ExitStack() as stack:
        cluster.from_first(lambda: stack.enter_context(hold(path)))
        yield


def check(path: Path) -> None:
    """Raises `ValueError` if another process writes to the run directory `path`,
    and `OSError` if what lies in the lock's place cannot be read.
    """
    owner, _ = _read(path / NAME)
    if owner is not None and not _is_mine(owner) and (reason := _alive(owner, path / NAME)):
        raise ValueError(reason)


def release_all() -> None:
    """Gives back what this process holds; for an end that runs no `finally`."""
    for pid, path in list(_held):
        if pid == os.getpid():
            _give_back(Path(path) / NAME)


def process_start(pid: int) -> str | None:
    """When the process started, in units of the system's choice;
    None if there is no such process.
    """
    try:
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        found = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=10
        )
        return found.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return _signalled(pid)


def _signalled(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "unknown"


def _me(directory: Path) -> dict[str, Any]:
    return {
        "host": platform.node(),
        "machine": _first_line("/etc/machine-id"),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "namespace": _pid_namespace(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "inode": directory.stat().st_ino,
    }


def _is_mine(owner: dict[str, Any]) -> bool:
    return (owner.get("pid"), owner.get("started")) == (
        os.getpid(),
        process_start(os.getpid()),
    ) and _is_here(owner)


def _is_here(owner: dict[str, Any]) -> bool:
    """Whether the owner's processes are those that this process sees."""
    ours = (platform.node(), _first_line("/proc/sys/kernel/random/boot_id"), _pid_namespace())
    return (owner.get("host"), owner.get("boot"), owner.get("namespace")) == ours


def _alive(owner: dict[str, Any], lock: Path) -> str | None:
    """Why the lock stands, as an error's text; None if it is stale."""
    if owner.get("inode") not in (None, lock.parent.stat().st_ino):
        return None  # copied along with the directory of another run
    host, since = printable(owner.get("host")), printable(owner.get("since"))
    who = f"{lock.parent} is being written by process {owner['pid']} on {host} since {since}"
    if _is_here(owner):
        started = process_start(owner["pid"])
        if started is None or (owner.get("started") and started != owner["started"]):
            return None
        return f"{who}\nwait until it ends, or stop it, and try again"
    rebooted = owner.get("host") == platform.node() and owner.get("machine") == _first_line(
        "/etc/machine-id"
    )
    if rebooted and owner.get("boot") != _first_line("/proc/sys/kernel/random/boot_id"):
        return None
    return f"{who}, which cannot be seen from here\nif it is gone, delete {lock} and try again"


def _take(lock: Path) -> None:
    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 1.5 * UNREADABLE_SECONDS
    while not _make(lock):
        owner, content = _read(lock)
        if owner is not None and (reason := _alive(owner, lock)):
            raise ValueError(reason)
        if time.monotonic() > deadline or (
            owner is None and content is not None and _is_fresh(lock)
        ):
            raise ValueError(f"{lock.parent} is being locked by another process; try again")
        if content is not None:
            _remove_stale(lock, content)


def _make(lock: Path) -> bool:
    """Makes the lock whole, unless there is one."""
    mine = lock.with_name(f".{NAME}.{uuid.uuid4().hex}")
    content = json.dumps(_me(lock.parent)).encode()
    try:
        mine.write_bytes(content)
        os.link(mine, lock)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (
            errno.EPERM,
            errno.ENOTSUP,
            errno.EOPNOTSUPP,
            errno.ENOSYS,
            errno.EMLINK,
            errno.EACCES,
        ):
            raise OSError(error.errno, error.strerror, str(lock)) from error
    finally:
        with contextlib.suppress(OSError):
            mine.unlink()
    return _make_exclusively(lock, content)


def _make_exclusively(lock: Path, content: bytes) -> bool:
    """For file systems without hard links: for a moment the lock is there without content."""
    try:
        with lock.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    except OSError:
        with contextlib.suppress(OSError):
            lock.unlink()
        raise
    return True


def _remove_stale(lock: Path, stale: bytes) -> None:
    """Removes a stale lock, one process at a time,
    so that nobody removes the new one of another that was quicker.
    """
    turn = lock.with_name(f".{NAME}.turn")
    try:
        turn.mkdir()
    except FileExistsError:
        if _is_fresh(turn):
            time.sleep(0.02)
        else:  # left by a process that was killed
            with contextlib.suppress(OSError):
                turn.rmdir()
        return
    try:
        if _read(lock)[1] == stale:
            lock.unlink()
    finally:
        with contextlib.suppress(OSError):
            turn.rmdir()


def _give_back(lock: Path) -> None:
    with contextlib.suppress(OSError):
        owner, _ = _read(lock)
        if owner is not None and _is_mine(owner):
            lock.unlink()


def _read(lock: Path) -> tuple[dict[str, Any] | None, bytes | None]:
    """The owner, None if it cannot be read; and the content, None if there is no lock.

    Raises `OSError` for what no process leaves there, such as a pipe or a link.
    """
    try:
        if lock.is_symlink():
            raise ValueError(f"{lock} is a link")
        with reading.open_regular(lock) as file:
            content = file.read(MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except ValueError as error:
        raise OSError(errno.EINVAL, "it is no regular file; delete it", str(lock)) from error
    try:
        owner = json.loads(content)
        return (
            owner if isinstance(owner, dict) and type(owner.get("pid")) is int else None
        ), content
    except (ValueError, RecursionError):
        return None, content


def _is_fresh(lock: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - lock.stat().st_mtime < UNREADABLE_SECONDS
    return False


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
