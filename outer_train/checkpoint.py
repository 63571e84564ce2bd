"""Checkpoints of the whole state of a run, written by Orbax in the background.

A checkpoint holds every leaf of the state (typed keys as their data) and a checksum over all of them, so that damage of
any kind is noticed when it is read, and the one before is taken instead.
"""

import math
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

State = Any


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
        self._manager = ocp.CheckpointManager(Path(directory).absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        """The object itself."""
        return self

    def __exit__(self, *_exc) -> None:
        """Waits for pending writes."""
        self._manager.wait_until_finished()
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
        leaves = _named_leaves(state)
        worst = sys.float_info.max
        loss = smoothed_loss if smoothed_loss is not None and math.isfinite(smoothed_loss) else worst
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(leaves),
                info=ocp.args.JsonSave({"checksum": _checksum(leaves)}),
            ),
            metrics={"smoothed_loss": float(loss)},
        )

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
        for step in reversed(self.steps()):
            try:
                state = self._restore(step, like)
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

    def _restore(self, step: int, like: State) -> State:
        target = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in _named_leaves(like).items()
        }
        read = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), info=ocp.args.JsonRestore())
        )
        if _checksum(read["state"]) != read["info"]["checksum"]:
            raise ValueError("the checksum differs")
        return _unflatten(like, read["state"])


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


def _checksum(leaves: dict[str, jax.Array]) -> int:
    """CRC-32 over names and contents; leaves that span hosts are left out, since no host sees them whole."""
    checksum = 0
    for name in sorted(leaves):
        checksum = zlib.crc32(name.encode(), checksum)
        if leaves[name].is_fully_addressable:
            checksum = zlib.crc32(np.ascontiguousarray(leaves[name]).tobytes(), checksum)
    return checksum
