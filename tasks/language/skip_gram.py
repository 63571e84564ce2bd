"""Word embeddings by skip-gram with negative sampling (arXiv 1310.4546): two tables whose rows are
seldom seen, so that most of a gradient is zero.
"""

import re
from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int
from numpy.typing import NDArray

from tasks.base import SPLITS, Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images.class_subsets import fixed_family
from tasks.language.byte_data import byte_text
from tasks.transformer_block import check_sizes

MIN_COUNT = 5
"""A word that `train` has less often is left out, as in word2vec."""
SUBSAMPLE = 1e-3
"""Frequency above which occurrences of a word are dropped at random, equation 5 of the paper."""
_TABLE_SIZE = 1 << 16


class Words(NamedTuple):
    """A text as words of a vocabulary, and what negatives are drawn from.

    Attributes:
      tokens: `[n]` int32, the most frequent word is 0.
      negatives: `[65536]` int32, word w as often as its count in `train` to the power 3/4 says.
    """

    tokens: Int[Array, " n"]
    negatives: Int[Array, " m"]


def skip_gram_family(
    vocabulary: int = 4096,
    width: int = 64,
    window: int = 4,
    num_negatives: int = 5,
    batch_size: int = 256,
    text: str = "library",
    max_bytes: int | None = None,
) -> TaskFamily:
    """One task: tell the words near a word from words drawn at random.

    -log s(u_o . v_c) - sum over k of log s(-u_k . v_c), nats a pair; a word drawn that is the
    context itself does not count, as in word2vec. It starts near (num_negatives + 1) ln 2, since
    word2vec's second table starts at zero. 2 vocabulary width parameters: 420,480 with the
    defaults, since Python's library has 3,285 words that are frequent enough.

    Args:
      vocabulary: the most words, the most frequent of `train`.
      width: of an embedding.
      window: a context is at most so many words away.
      num_negatives: words drawn at random for each pair.
      batch_size: pairs in a batch.
      text: as in `tasks.language.byte_text`.
      max_bytes: the same.

    Returns:
      The family; its metrics are `{"accuracy"}`, the share of pairs whose context scores above all
      its negatives: 1 / (num_negatives + 1) by chance, 0 at the start, where all scores are equal.

    Raises:
      ValueError: for a size below 1, or a text with too few words.

    Example:
      >>> skip_gram_family(vocabulary=1000, width=32).data.tokens.dtype
      dtype('int32')
    """
    sizes = {"vocabulary": vocabulary, "width": width, "window": window}
    check_sizes(**sizes, num_negatives=num_negatives, batch_size=batch_size)
    words, bounds = _words(text, max_bytes, vocabulary, window)
    num_words = int(jnp.max(words.negatives)) + 1

    def init(key: Key) -> Params:
        bound = 0.5 / width
        center = jax.random.uniform(key, (num_words, width), jnp.float32, -bound, bound)
        return {"center": center, "context": jnp.zeros((num_words, width), jnp.float32)}

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        center = params["center"][batch["center"]]
        near = jnp.sum(params["context"][batch["context"]] * center, axis=-1)
        far = jnp.einsum("bkd,bd->bk", params["context"][batch["negatives"]], center)
        others = batch["negatives"] != batch["context"][:, None]
        surprise = jnp.where(others, -jax.nn.log_sigmoid(-far), jnp.zeros_like(far))
        nats = jnp.sum(surprise, axis=-1) - jax.nn.log_sigmoid(near)
        hits = near > jnp.max(jnp.where(others, far, -jnp.inf), axis=-1)
        return jnp.mean(nats), {"accuracy": jnp.mean(hits.astype(jnp.float32))}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        low, high = bounds[SPLITS.index(split)]
        keys = jax.random.split(key, 4)
        draw = lambda key, low, high, shape: jax.random.randint(key, shape, low, high, jnp.int32)
        at = draw(keys[0], low + window, high - window, (batch_size,))
        steps = draw(keys[1], 1, window + 1, (batch_size,))
        sides = 2 * draw(keys[2], 0, 2, (batch_size,)) - 1
        rows = draw(keys[3], 0, _TABLE_SIZE, (batch_size, num_negatives))
        words_at = {"center": data.tokens[at], "context": data.tokens[at + sides * steps]}
        return {**words_at, "negatives": data.negatives[rows]}

    return fixed_family(Task(init, loss, sample_batch), words)


def _words(
    text: str, max_bytes: int | None, vocabulary: int, window: int
) -> tuple[Words, tuple[tuple[int, int], ...]]:
    """Words of each part of the text, and the bounds of the parts."""
    read = byte_text(text, max_bytes)
    whole = np.asarray(read.tokens).tobytes()
    parts = [re.findall(rb"[a-z]+", whole[low:high].lower()) for low, high in read.bounds]
    counts = Counter(parts[0])
    known = [word for word, count in counts.most_common(vocabulary) if count >= MIN_COUNT]
    index = {word: i for i, word in enumerate(known)}
    frequencies = np.array([counts[word] for word in known], np.float64)
    rng = np.random.default_rng(0)
    tokens = [_kept(part, index, frequencies, rng) for part in parts]
    if len(known) < 2 or min(map(len, tokens)) <= 2 * window:
        raise ValueError(
            f"text {text!r} has too few words: {len(known)} that train has {MIN_COUNT} times, and "
            f"{[len(part) for part in tokens]} of them in its parts, with a window of {window}"
        )
    ends = np.cumsum([len(part) for part in tokens]).tolist()
    bounds = tuple(zip((0, *ends[:-1]), ends, strict=True))
    with jax.ensure_compile_time_eval():
        words = Words(jnp.asarray(np.concatenate(tokens)), jnp.asarray(_table(frequencies)))
    return words, bounds


def _kept(
    part: list[bytes], index: dict[bytes, int], counts: NDArray, rng: np.random.Generator
) -> NDArray:
    """Known words of a part, frequent ones thinned."""
    tokens = np.array([index[word] for word in part if word in index], np.int32)
    if not len(tokens):
        return tokens
    keep = np.sqrt(SUBSAMPLE / (counts / counts.sum()))
    return tokens[rng.random(len(tokens)) < keep[tokens]]


def _table(counts: NDArray) -> NDArray:
    """Each word at least once, so that the table's largest entry is the last word."""
    shares = np.cumsum(counts**0.75) / np.sum(counts**0.75)
    rest = _TABLE_SIZE - len(counts)
    drawn = np.searchsorted(shares, (np.arange(rest) + 0.5) / rest)
    return np.concatenate([np.arange(len(counts)), drawn]).astype(np.int32)
