"""How files are read that anyone may have written:
within bounds, and without running anything they hold.

Only regular files are opened: a pipe or a device would never end. What a file says of its own size
is believed only as far as it agrees with what is needed; names, types and shapes are read and
checked before any data.
"""

import collections
import hashlib
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 32
MAX_DIGITS = 19
"""Of a whole number in JSON: what 64 bits hold."""
MAX_HEADER_BYTES = 10_000
"""Of the text in an array's header that says its type and shape."""
_PIECE = 1 << 16
_ENTRY_BYTES = 1 << 10
"""Of a zip directory, for each member; what holds a name of 900 characters."""


class Layout(NamedTuple):
    """What an array's header says of it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool


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


def read_npz(
    file: BinaryIO,
    shapes: Mapping[str, tuple[int, ...]],
    check: Callable[[dict[str, Layout]], None],
) -> dict[str, NDArray]:
    """The arrays of an `.npz` file, in native byte order and C order.

    Memory is taken for the arrays that are wanted, and a fixed amount beside them, whatever the
    file says.

    Args:
      file: open for binary reading, seekable.
      shapes: of the arrays that are wanted, name -> shape.
      check: called with the layouts of those before any data is read; raises `ValueError` for what
        is not wanted.

    Raises:
      ValueError: the file is damaged, does not hold exactly the members it says, or `check` raises.
    """
    names = sum(len(name.encode()) for name in shapes)
    most = 2 * _PIECE + _ENTRY_BYTES * len(shapes) + 4 * names
    with zipfile.ZipFile(_Bounded(file, most)) as archive:
        members = {_checked_name(info): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("a name is there twice")
        # Those that are not wanted are named by `check`; nothing of them is read.
        layouts = {name: _layout(archive, info) for name, info in members.items() if name in shapes}
        check(
            layouts
            | {name: Layout(np.dtype("V0"), (), False) for name in members.keys() - shapes.keys()}
        )
        return {name: _array(archive, members[name], layout) for name, layout in layouts.items()}


class _Bounded:
    """A file of which only so many bytes can be had at once:
    a zip directory of millions of entries cannot.
    """

    def __init__(self, file: BinaryIO, most: int):
        self._file, self._most = file, most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= self._most else self._most + 1)
        if len(data) > self._most:
            raise ValueError(f"it asks for more than {self._most} bytes at once")
        return data


def _checked_name(info: zipfile.ZipInfo) -> str:
    """The array's name; raises `ValueError` for a member that is none,
    or is packed as NumPy never does.
    """
    if not info.filename.endswith(".npy"):
        raise ValueError(f"the member {info.filename[:80]!r} is no array")
    # The other methods take what memory they like, for a piece at once or for their dictionary.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError(
            f"the member {info.filename[:80]!r} is encrypted or compressed by an unknown method"
        )
    return info.filename.removesuffix(".npy")


def _layout(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Layout:
    with archive.open(info) as stream:
        return _read_header(stream)


def _read_header(stream: Any) -> Layout:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"the array format {version} is unknown")
    shape, is_fortran, dtype = readers[version](
        _Bounded(stream, MAX_HEADER_BYTES), max_header_size=MAX_HEADER_BYTES
    )
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never read")
    return Layout(dtype, shape, is_fortran)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, layout: Layout) -> NDArray:
    size = math.prod(layout.shape) * layout.dtype.itemsize
    said = info.file_size
    # One byte more than it says: reading then goes to the true end,
    # where the checksum is, and a byte after it shows.
    info.file_size += 1
    with archive.open(info) as stream:
        _read_header(stream)
        header = stream.tell()
        if said != header + size:
            raise ValueError(
                f"{info.filename!r} says that it has {said} bytes, needed are {header + size}"
            )
        data = np.empty(size, np.uint8)
        filled, view = 0, memoryview(data)
        while filled < size and (read := stream.readinto(view[filled : filled + _PIECE])):
            filled += read
        if filled < size or stream.read(1):
            raise ValueError(f"{info.filename!r} is not of the {said} bytes that it says")
    array = data.view(layout.dtype).reshape(layout.shape, order="F" if layout.is_fortran else "C")
    return np.ascontiguousarray(array, layout.dtype.newbyteorder("=")).reshape(layout.shape)


def digest_of(file: BinaryIO) -> str:
    """SHA-256 of an open file from its start, in hexadecimal."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return file.seek(0, io.SEEK_END)
