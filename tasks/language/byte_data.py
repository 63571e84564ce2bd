"""Text as bytes, in four disjoint parts: Python's own library, any file, any text set of
tensorflow-datasets.
"""

import functools
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt

from tasks.images.prepared import open_prepared, prepared_dir

SHARES = (0.7, 0.1, 0.1, 0.1)
"""Of a text that goes to each of `SPLITS`."""
PACKAGES = (
    "asyncio",
    "collections",
    "concurrent",
    "email",
    "html",
    "http",
    "importlib",
    "json",
    "logging",
    "multiprocessing",
    "unittest",
    "urllib",
    "wsgiref",
    "xml",
    "xmlrpc",
)
"""Packages of the standard library, folders all: `tasks.text` reads the single files beside them,
on which configs outer-train."""


class ByteText(NamedTuple):
    """A text whose parts lie one behind the other.

    Attributes:
      tokens: `[n]` uint8.
      bounds: of each of `SPLITS`, its first byte and the one behind its last.
    """

    tokens: UInt[Array, " n"]
    bounds: tuple[tuple[int, int], ...]


def byte_text(text: str = "library", max_bytes: int | None = None) -> ByteText:
    """Reads a text; results are kept for the life of the process.

    Args:
      text: `"library"`, the sources of `PACKAGES` of the running Python (3 MB; another version
        has slightly other words); `"tfds:NAME"`, a text set of tensorflow-datasets prepared in
        array_record form, whose own `test` split becomes `test`; or the path of a file.
      max_bytes: keeps only so many of its first bytes; None keeps all.

    Raises:
      tasks.images.datasets.DatasetNotPrepared: the set is not on this machine.
      FileNotFoundError: there is no such file.
      ValueError: for a text of fewer than 40 bytes, or a set without text.

    Example:
      >>> byte_text("library", max_bytes=1000).bounds
      ((0, 700), (700, 800), (800, 900), (900, 1000))
    """
    if max_bytes is not None and max_bytes < 1:
        raise ValueError(f"max_bytes must be 1 or more; got {max_bytes}")
    where = str(prepared_dir(None)) if text.startswith("tfds:") else ""
    return _read(text, max_bytes, where)


@functools.lru_cache(maxsize=8)
def _read(text: str, max_bytes: int | None, data_dir: str) -> ByteText:
    if text == "library":
        parts = [b"\n".join(library_files(PACKAGES))]
    elif text.startswith("tfds:"):
        parts = _tfds_text(text.removeprefix("tfds:"), Path(data_dir), max_bytes)
    else:
        parts = [_file_bytes(Path(text))]
    parts = [np.frombuffer(part[:max_bytes], np.uint8) for part in parts]
    bounds = _bounds([len(part) for part in parts])
    if min(high - low for low, high in bounds) < 4:
        raise ValueError(f"text {text!r} has only {sum(map(len, parts))} bytes, too few for four")
    # Kept by the cache, so it must be concrete even when this runs while something is traced.
    with jax.ensure_compile_time_eval():
        return ByteText(jnp.asarray(np.concatenate(parts)), bounds)


def _bounds(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Of one text, its four parts; of two, the first in three, and the second."""
    shares = np.asarray(SHARES if len(lengths) == 1 else SHARES[:3])
    ends = np.round(np.cumsum(shares / shares.sum()) * lengths[0]).astype(int).tolist()
    ends += [lengths[0] + length for length in lengths[1:]]
    return tuple(zip((0, *ends[:-1]), ends, strict=True))


def library_files(packages: Sequence[str], seed: int = 0) -> list[bytes]:
    """The sources of packages of the standard library, in a random order.

    The order mixes the packages: their contiguous parts differ as texts of one kind do, not as
    `json` differs from `xml`.

    Raises:
      ValueError: where a Python has been left without the sources of a package.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files: list[bytes] = []
    for package in packages:
        found = sorted((root / package).rglob("*.py"))
        # Some systems ship a package's tests and some do not.
        found = [p for p in found if not {"test", "tests"} & set(p.relative_to(root).parts)]
        if not found:
            raise ValueError(f"this Python has no sources of its package {package!r} in {root}")
        files += [path.read_bytes() for path in found]
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    return [files[i] for i in order]


def _file_bytes(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(
            f"there is no text {str(path)!r}; a text is 'library', 'tfds:NAME' or a file"
        )
    if not path.is_file():
        raise ValueError(f"text {str(path)!r} is no regular file")
    return path.read_bytes()


def _tfds_text(name: str, data_dir: Path, max_bytes: int | None) -> list[bytes]:
    builder = open_prepared(name, data_dir)
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = [key for key in features if isinstance(features[key], tfds.features.Text)]
    if not keys or "train" not in builder.info.splits:
        raise ValueError(
            f"data set {name!r} has no text to train on; it has features {', '.join(features)} and "
            f"splits {', '.join(builder.info.splits)}"
        )
    splits = ["train", *(["test"] if "test" in builder.info.splits else [])]
    return [_joined(builder.as_data_source(split), keys[0], max_bytes) for split in splits]


def _joined(source, key: str, max_bytes: int | None) -> bytes:
    """The texts of a split, a line each; no more are read than are kept."""
    parts, size = [], 0
    for i in range(len(source)):
        value = source[i][key]
        parts.append(value if isinstance(value, bytes) else os.fsencode(str(value)))
        size += len(parts[-1]) + 1
        if max_bytes is not None and size > max_bytes:
            break
    return b"\n".join(parts)
