"""Digests of lists of bytes, and arrays as such lists."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np


def hexdigest(parts: Iterable[bytes]) -> str:
    """SHA-256 of a list of bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        # With its length in front, so that no two lists of parts run into the same bytes.
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def array_parts(leaf: Any) -> Iterator[bytes]:
    """Type, shape and values of an array, or of typed keys."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        yield str(leaf.dtype).encode()
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    yield f"{array.dtype}{array.shape}".encode()
    yield (
        repr(array.tolist()).encode()
        if array.dtype == object
        else np.ascontiguousarray(array).tobytes()
    )
