"""Checkpoints of the whole state of a run, written by Orbax in the background.

A checkpoint holds every leaf of the state (typed keys as their data). Once Orbax has finished one, a list of its files
with their checksums is put into it, so that damage of any kind is noticed before it is read, and the one before is
taken instead. Several processes write one checkpoint, each its shards, to a directory that all of them see.
"""

import json
import math
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from outer_train import distributed

State = Any

SEAL = "files.json"
"""The list of a checkpoint's files."""


class Checkpoints:
    """The checkpoints of one run: the newest few, and the one of the lowest smoothed outer loss.

    Use as a context manager: leaving it waits until everything is on disk.
    """

    def __init__(self, directory: str | os.PathLike, *, keep: int = 3):
        """Opens or creates `directory`.

        Raises:
          ValueError: `keep` is below 1.
        """
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, got {keep}")
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(n=keep),
                checkpoint_managers.BestN(get_metric_fn=lambda metrics: -metrics["smoothed_loss"], n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, cleanup_tmp_directories=True)
        self._directory = Path(directory).absolute()
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._unsealed: int | None = None

    def __enter__(self) -> "Checkpoints":
        """The object itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc) -> None:
        """Waits for pending writes, unless a process was lost: Orbax would wait for that one until JAX aborts us."""
        if jax.process_count() > 1 and kind is not None and issubclass(kind, jax.errors.JaxRuntimeError):
            return
        self._manager.wait_until_finished()
        self.seal()
        self._manager.close()

    def steps(self) -> list[int]:
        """Outer steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: State, smoothed_loss: float | None) -> None:
        """Starts writing `state`; returns once it may be changed or donated.

        Args:
          step: outer steps made so far; the checkpoint's name.
          state: any pytree of arrays.
          smoothed_loss: by which the best is told; None or not finite counts as worst.
        """
        self._manager.wait_until_finished()
        self.seal()
        worst = sys.float_info.max
        loss = smoothed_loss if smoothed_loss is not None and math.isfinite(smoothed_loss) else worst
        self._manager.save(
            step,
            args=ocp.args.StandardSave(_named_leaves(state)),
            metrics={"smoothed_loss": float(loss)},
        )
        self._unsealed = step

    def seal(self) -> None:
        """Writes the list of files of the last checkpoint if Orbax has finished it; cheap otherwise."""
        if self._unsealed is None or self._manager.is_saving_in_progress():
            return
        if distributed.is_first():
            directory = self._directory / str(self._unsealed)
            temporary = self._directory / f"{SEAL}.tmp"
            temporary.write_text(json.dumps(_file_checksums(directory)))
            temporary.replace(directory / SEAL)
        self._unsealed = None

    def restore_newest(self, like: State, warn: Callable[[str], None]) -> tuple[int, State] | None:
        """Reads the newest checkpoint that is whole.

        Args:
          like: a state of the structure, shapes and shardings wanted; the number of devices may be another than the
            one that wrote it.
          warn: called with a line for each damaged checkpoint, which is then removed.

        Returns:
          Its step and the state, or None if there is no checkpoint.

        Raises:
          ValueError: there are checkpoints, and none can be read.
        """
        damaged = []
        for step in distributed.from_first(lambda: self.steps()[::-1]):
            try:
                if not distributed.from_first(lambda step=step: self._is_whole(step)):
                    raise ValueError("its files are not those that were written")
                state = self._restore(step, like)
            except jax.errors.JaxRuntimeError:  # a process was lost; the files may be sound
                raise
            except Exception as error:  # Orbax and TensorStore raise many types for damaged files
                reason = str(error).strip().splitlines() or [type(error).__name__]
                warn(f"checkpoint {step} is damaged ({reason[0][:120]}); trying the one before")
                damaged.append(step)
                continue
            for bad in damaged:
                self._manager.delete(bad)
            return step, state
        if damaged:
            raise ValueError(f"none of the checkpoints {damaged} can be read")
        return None

    def _is_whole(self, step: int) -> bool:
        directory = self._directory / str(step)
        seal = directory / SEAL
        return not seal.exists() or json.loads(seal.read_text()) == _file_checksums(directory)

    def _restore(self, step: int, like: State) -> State:
        target = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in _named_leaves(like).items()
        }
        return _unflatten(like, self._manager.restore(step, args=ocp.args.StandardRestore(target)))


def _file_checksums(directory: Path) -> dict[str, int]:
    """CRC-32 of every file below `directory` but the list itself, by its path there."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != SEAL)
    return {str(path.relative_to(directory)): zlib.crc32(path.read_bytes()) for path in files}


def _named_leaves(state: State) -> dict[str, jax.Array]:
    """The leaves by their path, typed keys as their data."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves}


def _unflatten(like: State, leaves: dict[str, jax.Array]) -> State:
    def restore(path, leaf):
        value = leaves[jax.tree_util.keystr(path)]
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else value

    return jax.tree_util.tree_map_with_path(restore, like)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
