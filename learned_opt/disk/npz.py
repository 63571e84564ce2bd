"""How `.npz` files are read that anyone may have written: within bounds, and never a pickle.

What a file says of its own size is believed only as far as it agrees with what is needed; names,
types and shapes are read and checked before any data.
"""

import errno
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learned_opt.disk import reading

MAX_HEADER_BYTES = 10_000
"""Of the text in an array's header that says its type and shape."""
MAX_ARRAYS = 1 << 12
"""Of a file whose arrays are not known before."""
FREE_BYTES = 1 << 24
"""What a file may unpack to, however small it is; more takes one of at least half the size."""
_PIECE = 1 << 16
_ENTRY_BYTES = 1 << 10
"""Of a zip directory, for each member; what holds a name of 900 characters."""


class Layout(NamedTuple):
    """What an array's header says of it."""

    dtype: np.dtype
    shape: tuple[int, ...]
    is_fortran: bool


def read(
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
        members = _members(archive)
        # Those that are not wanted are named by `check`; nothing of them is read.
        layouts = {name: _layout(archive, info) for name, info in members.items() if name in shapes}
        check(
            layouts
            | {name: Layout(np.dtype("V0"), (), False) for name in members.keys() - shapes.keys()}
        )
        arrays = {name: _array(archive, members[name], layout) for name, layout in layouts.items()}
    return {name: np.ascontiguousarray(x).reshape(x.shape) for name, x in arrays.items()}


def read_all(file: BinaryIO, what: str) -> dict[str, NDArray]:
    """The arrays of an `.npz` file whose names and shapes are not known before,
    in native byte order and the order of the file.

    Args:
      file: open for binary reading, seekable.
      what: its name for errors.

    Raises:
      ValueError: the file is damaged, holds anything else than arrays, more than `MAX_ARRAYS` of
        them, or such as would unpack to more than `check_size` allows.
      OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(_Bounded(file, 2 * _PIECE + _ENTRY_BYTES * MAX_ARRAYS)) as archive:
            members = _members(archive)
            if len(members) > MAX_ARRAYS:
                raise ValueError(f"it holds more than {MAX_ARRAYS} arrays")
            layouts = {name: _layout(archive, info) for name, info in members.items()}
            check_size(reading.size_of(file), layouts)
            return {name: _array(archive, members[name], each) for name, each in layouts.items()}
    except OSError as error:
        # EINVAL is a position before the start, which a damaged file asks for.
        if error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, os.strerror(error.errno), what) from error
        raise ValueError(f"{what} is damaged: {error}") from error
    except Exception as error:  # whatever a library makes of damaged bytes
        raise ValueError(f"{what} is damaged or no .npz file: {error}") from error


def check_size(size: int, layouts: Mapping[str, Layout]) -> None:
    """Raises `ValueError` unless a file of `size` bytes may hold such arrays."""
    needed = sum(math.prod(each.shape) * each.dtype.itemsize for each in layouts.values())
    if needed > FREE_BYTES + 2 * size:
        raise ValueError(f"the {size} bytes of this file would unpack to {needed}")


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {_checked_name(info): info for info in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a name is there twice")
    return members


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
    return array.astype(layout.dtype.newbyteorder("="), copy=False)
