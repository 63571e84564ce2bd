"""Next-byte prediction by a transformer: what people train language models on, in small."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from tasks.base import SPLITS, Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images.class_subsets import fixed_family
from tasks.images.networks import softmax_cross_entropy
from tasks.language.byte_data import ByteText, byte_text
from tasks.language.transformer import NUM_BYTES, ByteTransformer


def byte_transformer_family(
    depth: int = 2,
    width: int = 64,
    num_heads: int = 4,
    length: int = 64,
    batch_size: int = 8,
    text: str = "library",
    max_bytes: int | None = None,
) -> TaskFamily:
    """One task: cross-entropy (nats a byte) of the next byte, on windows of a text.

    At the start the loss is near ln 256 = 5.55. With the defaults 120,704 parameters:
    256 width + length width + depth (12 width^2 + 13 width) + 2 width.

    Args:
      depth: blocks of the `ByteTransformer`.
      width: of its residual stream.
      num_heads: divides `width`.
      length: bytes of a window that are predicted.
      batch_size: windows in a batch.
      text: as in `byte_text`: `"library"`, a file, or `"tfds:NAME"`.
      max_bytes: as in `byte_text`.

    Returns:
      The family; its metrics are `{"bits_per_byte", "accuracy"}`.

    Raises:
      ValueError: for a size below 1, heads that do not divide the width, or a length that no split
        of the text has.

    Example:
      >>> family = byte_transformer_family(depth=4, width=128, text="my_corpus.txt")
    """
    module = ByteTransformer(depth, width, num_heads, length)
    return next_byte_family(module, byte_text(text, max_bytes), batch_size)


def next_byte_family(module: ByteTransformer, text: ByteText, batch_size: int) -> TaskFamily:
    """The family of one task: `module` on windows of its length."""
    length, bounds = module.length, text.bounds
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more; got {batch_size}")
    shortest = min(high - low for low, high in bounds)
    if length >= shortest:
        raise ValueError(
            f"length must be below {shortest}, the bytes of the text's shortest split; got {length}"
        )

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, length), jnp.int32))["params"]

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        inputs, targets = batch[:, :-1], batch[:, 1:].reshape(-1)
        logits = module.apply({"params": params}, inputs).reshape(-1, NUM_BYTES)
        nats = jnp.mean(softmax_cross_entropy(logits, targets))
        hits = jnp.argmax(logits, axis=-1).astype(jnp.int32) == targets
        bits = nats * jnp.asarray(1 / math.log(2), nats.dtype)
        return nats, {"bits_per_byte": bits, "accuracy": jnp.mean(hits.astype(jnp.float32))}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        low, high = bounds[SPLITS.index(split)]
        starts = jax.random.randint(key, (batch_size,), low, high - length, jnp.int32)
        return data[starts[:, None] + jnp.arange(length + 1, dtype=jnp.int32)].astype(jnp.int32)

    return fixed_family(Task(init, loss, sample_batch), text.tokens)
