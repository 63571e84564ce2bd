"""Random words of threefry keys, bit for bit those of `jax.random`, for use inside loops on a CPU.

JAX lowers the hash on a CPU to a loop of five groups of rounds, which compiles sooner and runs
slower: starting the loop costs more than hashing a batch's words. Here the twenty rounds are
written out and fuse with what reads them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from tasks.base import Key

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def bits(key: Key, num_words: int) -> Array:
    """`jax.random.bits(key, (num_words,), jnp.uint32)`, for any key."""
    return map_bits(lambda words: words, key, num_words)


def map_bits(function: Callable[[Array], Any], key: Key, num_words: int) -> Any:
    """`function(bits(key, num_words))` for a function of each word alone,
    computed once whoever reads it.

    Args:
      function: `words [n] -> ` a tree of `[n, ...]`, for any n.
      key: any key.
      num_words: words to draw.
    """
    if not _is_threefry(key):
        return function(jax.random.bits(key, (num_words,), jnp.uint32))

    def half(counts: Array) -> Any:
        first, second = _hash(key, counts)
        return function(first ^ second)

    # A loop of two, for XLA would copy the rounds into whatever reads the words,
    # to each element of a gather it makes.
    counts = jnp.arange(num_words + num_words % 2, dtype=jnp.uint32).reshape(2, -1)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_words], lax.map(half, counts))


def split(key: Key, num_keys: int) -> Key:
    """`jax.random.split(key, num_keys)`, for any key."""
    if not _is_threefry(key):
        return jax.random.split(key, num_keys)
    return _as_keys(key, _hash(key, jnp.arange(num_keys, dtype=jnp.uint32)))


def fold_in(key: Key, data: Array) -> Key:
    """`jax.random.fold_in(key, data)` for an integer scalar in [0, 2^31), for any key."""
    if not _is_threefry(key):
        return jax.random.fold_in(key, data)
    return _as_keys(key, _hash(key, data.astype(jnp.uint32)))


def _is_threefry(key: Key) -> bool:
    # The other layout of counters, which JAX keeps for old results, is left to JAX.
    return str(jax.random.key_impl(key)) == "threefry2x32" and jax.config.jax_threefry_partitionable


def _as_keys(key: Key, words: tuple[Array, Array]) -> Key:
    return jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl=jax.random.key_impl(key))


def _hash(key: Key, count: Array) -> tuple[Array, Array]:
    """Threefry-2x32, 20 rounds, of the counters `(0, count)`
    (Salmon et al., SC 2011, doi 10.1145/2063384.2063405).
    """
    data = jax.random.key_data(key)
    schedule = [data[0], data[1], data[0] ^ data[1] ^ jnp.uint32(_PARITY)]
    x, y = jnp.broadcast_to(schedule[0], count.shape), count + schedule[1]
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(distance)) | (y >> jnp.uint32(32 - distance)))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x, y
