"""Weights of a byte transformer that a short run makes when they are first asked for.

The run is deterministic. Its outcome is kept under a digest of what it follows from: the sizes,
the text, this project's code of the model and the run, the versions of JAX and its like.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from tasks import transformer_block
from tasks.base import Params
from tasks.language import language_model, transformer
from tasks.language.byte_data import byte_text
from tasks.language.transformer import ByteTransformer

LEARNING_RATE = 2e-3
BATCH_SIZE = 8
_SEED = 0
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


@functools.lru_cache(maxsize=8)
def pretrained_trunk(module: ByteTransformer, num_steps: int, text: str = "library") -> Params:
    """Parameters of `module` after `num_steps` of Adam on the `train` part of a text.

    Adam at 2e-3 with a linear decay to zero, batches of eight windows. The outcome is read from
    `LEARNED_OPT_CACHE` or else `~/.cache/learned_opt`, folder `trunks`, where it is known, and
    written there where it can be; a damaged file is made again.

    Args:
      module: the sizes.
      num_steps: of the run; 0 gives the initialization.
      text: as in `tasks.language.byte_text`.

    Returns:
      A tree of NumPy arrays.

    Raises:
      ValueError: for a negative number of steps, or a length that the text does not have.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be 0 or more; got {num_steps}")
    read = byte_text(text)
    family = language_model.next_byte_family(module, read, BATCH_SIZE)
    shapes = jax.eval_shape(family.task(()).init, jax.random.key(_SEED))
    path = _path(_digest(module, num_steps, np.asarray(read.tokens), read.bounds))
    known = _read(path, shapes)
    if known is None:
        known = _train(family, num_steps)
        _write(path, known)
    return known


def _train(family, num_steps: int) -> Params:
    """One program: the whole run is a scan."""
    task = family.task(())
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.adam(optax.linear_schedule(LEARNING_RATE, 0.0, max(1, num_steps)))

        def step(carry, index):
            params, state = carry
            key_batch, key_loss = jax.random.split(jax.random.fold_in(key, index))
            batch = task.sample_batch(data, key_batch, "train")
            grads = jax.grad(lambda p: task.loss(p, key_loss, batch)[0])(params)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        key_init, key = jax.random.split(jax.random.key(_SEED))
        # One device, however many there are, and outside of whatever is being traced.
        with jax.ensure_compile_time_eval():
            data = jax.device_put(family.data, jax.local_devices()[0])
            params = task.init(key_init)
            steps = np.arange(num_steps, dtype=np.int32)
            run = jax.jit(lambda start: jax.lax.scan(step, start, steps)[0][0])
            return jax.tree.map(np.asarray, run((params, optimizer.init(params))))


def _digest(module: ByteTransformer, num_steps: int, tokens: np.ndarray, bounds: Any) -> str:
    sizes = (module.depth, module.width, module.num_heads, module.length)
    made_of = [repr((sizes, num_steps, LEARNING_RATE, BATCH_SIZE, _SEED, bounds)).encode()]
    made_of += [f"{name} {importlib.metadata.version(name)}".encode() for name in _LIBRARIES]
    made_of += [f"{jax.default_backend()} {jax.config.jax_enable_x64}".encode()]
    modules = (transformer_block, transformer, language_model)
    made_of += [Path(each.__file__).read_bytes() for each in modules]
    made_of += [Path(__file__).read_bytes(), tokens.tobytes()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in made_of)).hexdigest()


def _path(digest: str) -> Path | None:
    try:
        root = Path(os.environ.get("LEARNED_OPT_CACHE") or Path.home() / ".cache" / "learned_opt")
    except RuntimeError:  # there is no home
        return None
    return root / "trunks" / f"byte_transformer.{digest[:16]}.npz"


def _read(path: Path | None, shapes: Params) -> Params | None:
    """What is kept, or None where there is nothing, or something else."""
    leaves, structure = jax.tree.flatten(shapes)
    try:
        if path is None or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            arrays = [stored[str(i)] for i in range(len(leaves))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = all(
        array.shape == leaf.shape and array.dtype == leaf.dtype and np.isfinite(array).all()
        for array, leaf in zip(arrays, leaves, strict=True)
    )
    return jax.tree.unflatten(structure, arrays) if fits else None


def _write(path: Path | None, params: Params) -> None:
    """Beside the file, then renamed, so that no reader finds half of it."""
    if path is None:
        return
    arrays = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    # A cache that cannot be written costs time, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            np.savez(Path(folder, path.name), **arrays)
            os.replace(Path(folder, path.name), path)
