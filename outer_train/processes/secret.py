"""The token by which the processes of a run know each other; it never travels."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

VARIABLE, FILE_VARIABLE = "LEARNED_OPT_TOKEN", "LEARNED_OPT_TOKEN_FILE"
MIN_LENGTH = 16
"""Characters of a token: whoever has recorded a meeting may try guesses
as fast as they can compute."""
RECIPE = "(umask 077; head -c 32 /dev/urandom | base64 > FILE)"
LOCAL_FOLDER = "/tmp/learned-opt-{}"
"""The same for all processes of a user on a machine, whatever their environments."""


def given() -> bytes | None:
    """The token that the environment gives, itself or by the path of its file, or None.

    Raises:
      ValueError: it is too short, or others may read the file.
      OSError: the file cannot be read.
    """
    path = os.environ.get(FILE_VARIABLE)
    if path:
        return _read(Path(path))
    token = os.environ.get(VARIABLE, "").strip()
    return _long_enough(os.fsencode(token), VARIABLE) if token else None


def local() -> bytes | None:
    """A token that only this user's processes on this machine can read, made at the first call;
    None without a place.

    Raises:
      ValueError: others may read or write where it is kept, or it is damaged.
    """
    if not hasattr(os, "getuid"):
        return None
    folder = Path(LOCAL_FOLDER.format(os.getuid()))
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(
            f"{folder} is no folder: remove it, or give a token ({VARIABLE})"
        ) from error
    except OSError:
        return None
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ValueError(
            f"{folder} is not this user's alone: remove it, or give a token ({VARIABLE})"
        )
    path = folder / "token"
    if not path.exists():
        try:
            _make(path)
        except OSError:  # a full disk, say
            return None
    return _read(path)


def write_private(path: Path, token: bytes) -> None:
    """Writes a new file that only this user can read.

    Raises:
      OSError: it exists, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(token + b"\n")


def _make(path: Path) -> None:
    """Of several processes that do so at once, the first one's stays."""
    pending = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(pending, secrets.token_hex(32).encode())
        with contextlib.suppress(FileExistsError):
            os.link(pending, path)
    finally:
        pending.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if hasattr(os, "getuid") and (
            found.st_mode & 0o077 or found.st_uid not in (0, os.getuid())
        ):
            raise ValueError(
                f"{path} holds a token that others may read or write: chmod 600 {path}"
            )
        return _long_enough(file.read(4096).strip(), str(path))


def _long_enough(token: bytes, where: str) -> bytes:
    if len(token) < MIN_LENGTH:
        raise ValueError(f"{where} must hold a token of at least {MIN_LENGTH} characters: {RECIPE}")
    return token
