"""Fine-tuning: a byte transformer that was trained before learns to say what a piece of text is
from, as a whole, by its last layer, or by low-rank adapters (LoRA, arXiv 2106.09685).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int, UInt

from tasks.base import SPLITS, Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images.class_subsets import fixed_family
from tasks.images.networks import softmax_cross_entropy
from tasks.language.byte_data import SHARES, library_files
from tasks.language.transformer import ByteTransformer
from tasks.language.trunk import pretrained_trunk
from tasks.transformer_block import check_sizes

MODES = ("full", "frozen", "lora")
CLASSES = ("ctypes", "curses", "dbm", "encodings", "re", "tomllib", "venv", "zoneinfo")
"""Packages of the standard library on none of which the trunk is trained."""
LORA_SCALE = 2.0
"""alpha / rank."""


class LabelledText(NamedTuple):
    """Texts of several classes, and the trunk where it is not trained.

    Attributes:
      tokens: `[n]` uint8, sorted by (split, class).
      starts: `[4, classes]` int32, first byte of each block.
      counts: `[4, classes]` int32, bytes of each block.
      trunk: weights, or `()`.
    """

    tokens: UInt[Array, " n"]
    starts: Int[Array, "4 classes"]
    counts: Int[Array, "4 classes"]
    trunk: Params = ()


def fine_tuning_family(
    mode: str = "lora",
    rank: int = 8,
    depth: int = 2,
    width: int = 64,
    length: int = 64,
    batch_size: int = 16,
    num_trunk_steps: int = 1000,
) -> TaskFamily:
    """One task: which package of Python's library a window of text is from.

    The trunk is a `ByteTransformer` with four heads, trained for `num_trunk_steps` on other
    packages (see `pretrained_trunk`). Its features' mean over the window goes through a new linear
    layer that starts at zero, so the loss starts at ln 8 = 2.08 in every mode.

    | mode | what is trained | parameters |
    |---|---|---|
    | `"full"` | trunk and head | those of the `ByteTransformer` + 8 width + 8 |
    | `"frozen"` | the head | 8 width + 8 |
    | `"lora"` | A, B of each kernel W + 2 A B, and the head | 16 depth rank width + 8 width + 8 |

    Args:
      mode: one of the above.
      rank: of an adapter.
      depth: of the trunk.
      width: of the trunk, a multiple of four.
      length: bytes of a window.
      batch_size: windows in a batch; their classes are drawn uniformly.
      num_trunk_steps: of the trunk's own training.

    Returns:
      The family; its metrics are `{"accuracy"}`.

    Raises:
      ValueError: for an unknown mode, a size below 1, or a length that no block of the text has.

    Example:
      >>> family = fine_tuning_family("lora", rank=4, num_trunk_steps=100)
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; modes are {', '.join(MODES)}")
    check_sizes(rank=rank, batch_size=batch_size)
    module = ByteTransformer(depth, width, 4, length)
    data = _labelled(CLASSES)
    shortest = int(jnp.min(data.counts))
    if length >= shortest:
        raise ValueError(
            f"length must be below {shortest}, the bytes of the shortest block; got {length}"
        )
    trunk = pretrained_trunk(module, num_trunk_steps)
    if mode != "full":
        data = data._replace(trunk=jax.tree.map(jnp.asarray, trunk))
    return fixed_family(_task(module, trunk, mode, rank, batch_size), data)


def _task(module: ByteTransformer, trunk: Params, mode: str, rank: int, batch_size: int) -> Task:
    def init(key: Key) -> Params:
        kernel = jnp.zeros((module.width, len(CLASSES)), jnp.float32)
        bias = jnp.zeros((len(CLASSES),), jnp.float32)
        params: Params = {"head": {"kernel": kernel, "bias": bias}}
        if mode == "full":
            # No argument brings data here: the one place where they are constants of a program.
            params["trunk"] = jax.tree.map(jnp.asarray, trunk)
        if mode == "lora":
            params["adapters"] = lora_adapters(key, trunk, rank)
        return params

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        weights = params["trunk"] if mode == "full" else batch["trunk"]
        if mode == "lora":
            weights = with_adapters(weights, params["adapters"])
        features = module.apply({"params": weights}, batch["text"], method="features")
        logits = jnp.mean(features, axis=1) @ params["head"]["kernel"] + params["head"]["bias"]
        hits = jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch["label"]
        accuracy = jnp.mean(hits.astype(jnp.float32))
        return jnp.mean(softmax_cross_entropy(logits, batch["label"])), {"accuracy": accuracy}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        key_label, key_start = jax.random.split(key)
        row = SPLITS.index(split)
        label = jax.random.randint(key_label, (batch_size,), 0, len(CLASSES), jnp.int32)
        room = data.counts[row, label] - module.length
        start = data.starts[row, label] + jax.random.randint(key_start, room.shape, 0, room)
        window = data.tokens[start[:, None] + jnp.arange(module.length, dtype=jnp.int32)]
        return {"text": window.astype(jnp.int32), "label": label, "trunk": data.trunk}

    return Task(init, loss, sample_batch)


def lora_adapters(key: Key, weights: Params, rank: int) -> Params:
    """A fresh pair for each kernel of `weights`: `down` `[in, rank]` normal of deviation
    1 / sqrt(in), `up` `[rank, out]` zero, so that nothing changes at the start.
    """
    kernels = _kernels(weights)
    keys = jax.random.split(key, len(kernels))
    adapters = {}
    for key_kernel, (path, kernel) in zip(keys, kernels.items(), strict=True):
        size_in, size_out = kernel.shape
        down = jax.random.normal(key_kernel, (size_in, rank), jnp.float32)
        up = jnp.zeros((rank, size_out), jnp.float32)
        adapters[path] = {"down": down * np.float32(size_in**-0.5), "up": up}
    return adapters


def with_adapters(weights: Params, adapters: Params) -> Params:
    """`weights` with 2 `down` `up` added to each kernel; no gradient flows into `weights`."""

    def changed(path, leaf):
        leaf, adapter = jax.lax.stop_gradient(leaf), adapters.get(jax.tree_util.keystr(path))
        if adapter is None:
            return leaf
        return leaf + jnp.asarray(LORA_SCALE, leaf.dtype) * (adapter["down"] @ adapter["up"])

    return jax.tree_util.tree_map_with_path(changed, weights)


def _kernels(weights: Params) -> dict[str, Array]:
    named = jax.tree_util.tree_leaves_with_path(weights)
    by_path = {jax.tree_util.keystr(path): leaf for path, leaf in named}
    return {path: leaf for path, leaf in by_path.items() if path.endswith("['kernel']")}


def _labelled(packages: Sequence[str]) -> LabelledText:
    """Each package's text in four contiguous parts."""
    blocks: list[list[bytes]] = [[] for _ in SPLITS]
    for package in packages:
        whole = b"\n".join(library_files((package,)))
        ends = np.round(np.cumsum(SHARES) * len(whole)).astype(int).tolist()
        for block, low, high in zip(blocks, (0, *ends[:-1]), ends, strict=True):
            block.append(whole[low:high])
    counts = np.array([[len(part) for part in block] for block in blocks], np.int32)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape).astype(np.int32)
    tokens = np.frombuffer(b"".join(b"".join(block) for block in blocks), np.uint8)
    with jax.ensure_compile_time_eval():
        return LabelledText(jnp.asarray(tokens), jnp.asarray(starts), jnp.asarray(counts))
