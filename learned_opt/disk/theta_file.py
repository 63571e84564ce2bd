"""What is in the two files of a theta, and what makes them fit together:
the format that `learned_opt.save` writes.
"""

import errno
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from learned_opt.disk import files, moved_names, npz, reading
from learned_opt.disk.npz import Layout
from learned_opt.version import __version__

FORMAT_VERSION = 1
DTYPES = ("float16", "float32", "float64")
"""That theta is kept in."""
MAX_ELEMENTS = 1 << 28
"""Of a theta: 1 GiB in float32."""

MLP = ("mlp", "learned_opt:mlp", "learned_opt.per_parameter:mlp")
"""Names of the optimizer whose arguments may be called by those of `START`."""
START = {
    "adam_learning_rate": "learning_rate",
    "adam_exponents": "exponents",
    "adam_time_exponents": "time_exponents",
    "adam_weight_decay": "weight_decay",
}
"""What files may call parts of the argument `start` of `mlp` -> its field."""

Shapes = Mapping[str, tuple[int, ...]]


class Mismatch(ValueError):
    """The arrays are whole, and not those that are needed."""


def pack(
    optimizer_name: str, kwargs: dict[str, Any], arrays: Mapping[str, NDArray]
) -> tuple[bytes, bytes]:
    """Contents of the `.npz` and of the JSON file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    header = {
        "format_version": FORMAT_VERSION,
        "optimizer": str(optimizer_name),
        "kwargs": kwargs,
        "shapes": {name: list(value.shape) for name, value in arrays.items()},
        "dtypes": {name: value.dtype.name for name, value in arrays.items()},
        "library_version": __version__,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return content, (json.dumps(header, indent=2, allow_nan=False) + "\n").encode()


def plain_kwargs(optimizer_name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they come back from JSON.

    Raises:
      ValueError: they do not come back as they are; tuples that come back as lists do.
    """
    what = f"the arguments of optimizer {optimizer_name!r} cannot be saved as JSON"
    try:
        back = json.loads(json.dumps(dict(kwargs), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{what}: {error}") from error
    if back != _with_lists(dict(kwargs)):
        raise ValueError(f"{what}: {kwargs!r:.200} would come back as {back!r:.200}")
    return back


def with_start(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `mlp` as JSON has them, those of `START` folded into `start`, a dict.

    Raises:
      ValueError: `start` is there too.
    """
    parts = {
        START[name]: value
        for name, value in arguments.items()
        if name in START and value is not None
    }
    others = {name: value for name, value in arguments.items() if name not in START}
    if "learning_rate" not in parts and not any(parts.values()):
        return others
    if others.get("start") is not None:
        named = next(name for name in START if arguments.get(name) is not None)
        raise ValueError(f"got both 'start' and {named!r}, which is a part of it")
    return others | {"start": parts}


def _with_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_with_lists(each) for each in value]
    return (
        {key: _with_lists(each) for key, each in value.items()}
        if isinstance(value, dict)
        else value
    )


def read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], bool]:
    """The JSON of an `.npz` file that is open, and whether it belongs to just these bytes.

    Where a `save` was killed between the moves of its two files, the JSON is still beside its
    place, and is taken from there. One that has no checksum belongs to any.

    Raises:
      ValueError: it is missing, damaged or of another version.
    """
    json_path = path.with_suffix(".json")
    waiting = files.pending_path(json_path)
    if not json_path.exists() and not waiting.exists():
        raise ValueError(
            f"{json_path} is missing; it says which optimizer the weights beside it belong to"
        )
    if reading.size_of(file) > 2 * 8 * MAX_ELEMENTS:
        raise ValueError(f"{path} is too large: {reading.size_of(file)} bytes")
    digest = reading.digest_of(file)
    try:
        header = check_header(json_path, reading.read_json(json_path))
        if header.get("sha256") == digest:
            return header, True
    except (ValueError, OSError) as error:
        header = error
    try:
        newer = check_header(waiting, reading.read_json(waiting))
        if newer.get("sha256") == digest:
            return newer, True
    except (ValueError, OSError):
        pass
    if isinstance(header, Exception):
        raise header
    return header, "sha256" not in header


def check_header(path: Path, header: Any) -> dict[str, Any]:
    """The header, if it has what is needed, with names as they are now;
    else raises `ValueError`.
    """
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(
            f"{path}: got format version {version!r:.80}, this library reads {FORMAT_VERSION}"
        )
    if missing := [key for key in ("optimizer", "kwargs", "shapes") if key not in header]:
        raise ValueError(f"{path} is damaged: {', '.join(missing)} missing")
    for key, kind in (("optimizer", str), ("kwargs", dict), ("shapes", dict)):
        if not isinstance(header[key], kind):
            raise ValueError(f"{path} is damaged: {key} is {header[key]!r:.80}")
    name = moved_names.current_name(header["optimizer"])
    if name not in MLP:
        return header | {"optimizer": name}
    try:
        return header | {"optimizer": name, "kwargs": with_start(header["kwargs"])}
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def read_arrays(file: BinaryIO, what: str, shapes: Shapes) -> dict[str, NDArray]:
    """The arrays of an `.npz` file, if they are of these names and shapes.

    Args:
      file: open for binary reading.
      what: the file's name for errors.
      shapes: name -> shape.

    Raises:
      ValueError: they are of others, or not of `DTYPES`, or the file is damaged, or a pickle.
      OSError: it cannot be read.
    """
    size = reading.size_of(file)
    file.seek(0)
    if file.read(1) == b"\x80":
        raise ValueError(f"{what} is a pickle, which is never read; weights are .npz files")

    def check(layouts: dict[str, Layout]) -> None:
        check_layouts(what, shapes, layouts)
        try:
            npz.check_size(size, layouts)
        except ValueError as error:
            raise Mismatch(f"{what}: {error}") from None

    try:
        return npz.read(file, shapes, check)
    except Mismatch:
        raise
    except OSError as error:
        if error.errno not in (
            None,
            errno.EINVAL,
        ):  # EINVAL is a position before the start, which a damaged file asks for
            raise OSError(error.errno, os.strerror(error.errno), what) from error
        raise ValueError(f"{what} is damaged: {error}") from error
    except Exception as error:  # whatever a library makes of damaged bytes
        if type(error).__name__ == "BadZipFile" and "not a zip file" in str(error):
            raise ValueError(f"{what} is no .npz file, or one that was cut short") from error
        raise ValueError(
            f"{what} is damaged or holds pickled objects, which are never read: {error}"
        ) from error


def check_layouts(what: str, shapes: Shapes, layouts: Mapping[str, Layout]) -> None:
    """Raises `Mismatch` unless names and shapes are those that are needed,
    and types are of `DTYPES`.
    """
    if layouts.keys() != shapes.keys():
        raise Mismatch(
            f"{what}: theta is of another optimizer; it holds {_listed(layouts)}, needed are "
            f"{_listed(shapes)}"
        )
    for name, layout in layouts.items():
        if layout.dtype.hasobject:
            raise Mismatch(
                f"{what} is damaged or holds pickled objects, which are never read: {name!r:.80}"
            )
        if layout.dtype.kind != "f" or layout.dtype.newbyteorder("=").name not in DTYPES:
            raise Mismatch(
                f"{what}: {name} is of type {layout.dtype!s:.80}, theta is of floating types: "
                f"{', '.join(DTYPES)}"
            )
        if layout.shape != shapes[name]:
            raise Mismatch(
                f"{what}: theta has another shape; {name} is {layout.shape!s:.80}, needed is "
                f"{shapes[name]}"
            )


def check_finite(what: str, arrays: Mapping[str, Any]) -> None:
    """Raises `ValueError` that names the first array that is not finite."""
    for name, value in arrays.items():
        if not np.isfinite(np.asarray(value)).all():
            raise ValueError(f"{what}: theta is not finite; {name or 'it'} holds nan or infinity")


def check_belongs(
    path: Path, header: dict[str, Any], arrays: Mapping[str, NDArray], same_bytes: bool
) -> None:
    """Raises `ValueError` unless a header says the same of the arrays as they do themselves."""
    together = f"{path} and its JSON do not belong together"
    if header["shapes"] != {name: list(value.shape) for name, value in arrays.items()}:
        raise ValueError(f"{together}: the shapes differ")
    if "dtypes" in header and header["dtypes"] != {
        name: value.dtype.name for name, value in arrays.items()
    }:
        raise ValueError(f"{together}: the types differ")
    if not same_bytes:
        raise ValueError(f"{together}, or one is damaged: the checksum differs")


def _listed(names: Mapping[str, Any]) -> str:
    shown = [repr(name)[1:-1][:60] for name in sorted(names)]
    return ", ".join(shown[:8] + ["..."] * (len(shown) > 8)) or "nothing"
