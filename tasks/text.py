"""Character models on text that every Python brings along:
its help topics, or its library's source.
"""

import functools
import sysconfig
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt

from tasks.base import SPLITS, Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images.class_subsets import fixed_family

ALPHABET = " \nabcdefghijklmnopqrstuvwxyz0123456789.,:;()[]'\"`_-=*/\\"
"""What text is reduced to: lower case, everything else a space."""
_SPLIT_SHARES = (0.7, 0.1, 0.1, 0.1)


def _topics() -> str:
    """Of `pydoc_data.topics`, by name."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _library() -> str:
    """Modules of the standard library that are single files, by name;
    no page of help is among them.
    """
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files[:40])


TEXTS: dict[str, Callable[[], str]] = {"topics": _topics, "library": _library}
"""The running Python's own: another version has slightly other words."""


@functools.cache
def characters(text: str = "topics", max_characters: int = 200_000) -> UInt[np.ndarray, " n"]:
    """Positions in `ALPHABET` of a text of `TEXTS`, runs of spaces made one."""
    lower = TEXTS[text]().lower()
    known = "".join(c if c in ALPHABET else " " for c in lower)
    lines = (" ".join(line.split()) for line in known.splitlines())
    joined = "\n".join(line for line in lines if line)[:max_characters]
    index = {character: i for i, character in enumerate(ALPHABET)}
    return np.array([index[character] for character in joined], np.uint8)


class CharTransformer(nn.Module):
    """Causal attention blocks with pre-normalization; learned positions.

    Attributes:
      num_blocks: attention and feed-forward pairs.
      width: of the residual stream; the feed-forward layer has twice that.
      num_heads: divides `width`.
    """

    num_blocks: int = 1
    width: int = 32
    num_heads: int = 2

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length alphabet"]:
        """Logits of the next character at each position."""
        length = tokens.shape[1]
        x = jax.nn.one_hot(tokens, len(ALPHABET)) @ self.param(
            "embedding", nn.initializers.normal(0.3), (len(ALPHABET), self.width)
        )
        x = x + self.param("positions", nn.initializers.normal(0.3), (length, self.width))[None]
        mask = nn.make_causal_mask(tokens)
        for _ in range(self.num_blocks):
            x = x + nn.MultiHeadDotProductAttention(self.num_heads)(nn.LayerNorm()(x), mask=mask)
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(len(ALPHABET))(nn.LayerNorm()(x))


class CharGRU(nn.Module):
    """One gated recurrent layer with a learned initial state.

    The initial state is a parameter that is drawn from the key, and so varies over devices as the
    states after it do: a constant, zeros at initialization included, would not carry through a scan
    inside `jax.shard_map`. The recurrent weights start normal, not orthogonal as in Flax: jaxlib
    spreads a batched QR decomposition over the very threads that its CPU devices run on, and two
    devices that decompose at once wait for each other for ever.

    Attributes:
      width: of the state.
    """

    width: int = 48

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length alphabet"]:
        """Logits of the next character at each position."""
        start = self.param("initial_state", nn.initializers.normal(0.01), (self.width,))
        start = jnp.broadcast_to(start, (tokens.shape[0], self.width))
        cell = nn.GRUCell(self.width, recurrent_kernel_init=nn.initializers.lecun_normal())
        states = nn.RNN(cell)(jax.nn.one_hot(tokens, len(ALPHABET)), initial_carry=start)
        return nn.Dense(len(ALPHABET))(states)


MODELS: dict[str, Callable[..., nn.Module]] = {"transformer": CharTransformer, "gru": CharGRU}


def char_family(
    model: str = "transformer",
    length: int = 32,
    batch_size: int = 16,
    width: int | None = None,
    text: str = "topics",
) -> TaskFamily:
    """One task: cross-entropy (nats a character) of the next character, on windows of the text.

    The four splits are contiguous parts of the text, so no window lies in two of them.

    Args:
      model: a key of `MODELS`.
      length: characters of a window that are predicted.
      batch_size: windows in a batch.
      width: of the model; its own default if None.
      text: a key of `TEXTS`.

    Raises:
      ValueError: for an unknown model or text, a length, batch size or width below 1, or a length
        that no split has.
    """
    if model not in MODELS:
        raise ValueError(f"unknown character model {model!r}; there are {', '.join(MODELS)}")
    if text not in TEXTS:
        raise ValueError(f"unknown text {text!r}; there are {', '.join(TEXTS)}")
    if length < 1 or batch_size < 1 or (width is not None and width < 1):
        raise ValueError(
            f"length, batch_size and width must be at least 1, got {length}, {batch_size} and "
            f"{width}"
        )  # fmt: skip
    module = MODELS[model]() if width is None else MODELS[model](width=width)
    tokens = characters(text)
    ends = np.round(np.cumsum(_SPLIT_SHARES) * len(tokens)).astype(int)
    bounds = list(zip((0, *ends[:-1].tolist()), ends.tolist(), strict=True))
    shortest = min(high - low for low, high in bounds)
    if length >= shortest:
        raise ValueError(
            f"length must be below {shortest}, the characters of the text's shortest split, got "
            f"{length}"
        )

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, length), jnp.int32))["params"]

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        inputs, targets = batch[:, :-1], batch[:, 1:]
        logits = jax.nn.log_softmax(module.apply({"params": params}, inputs))
        hits = jnp.argmax(logits, axis=-1).astype(jnp.int32) == targets
        losses = -jnp.sum(logits * jax.nn.one_hot(targets, len(ALPHABET)), axis=-1)
        return jnp.mean(losses), {"accuracy": jnp.mean(hits.astype(jnp.float32))}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        low, high = bounds[SPLITS.index(split)]
        starts = jax.random.randint(key, (batch_size,), low, high - length)
        return data[starts[:, None] + jnp.arange(length + 1)[None]].astype(jnp.int32)

    return fixed_family(Task(init, loss, sample_batch), jnp.asarray(tokens))
