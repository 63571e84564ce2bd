"""Checkpoints of the whole state of a run, written by Orbax in the background.

A checkpoint holds every leaf of the state that has elements (typed keys as their data). Once Orbax
has finished one, it is sealed with a list of its files and their checksums, so that damage of any
kind is noticed before it is read; the damaged one is set aside, and the one before is taken.
Several processes write one checkpoint, each its shards, to a directory that all of them see.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from learned_opt.disk import files
from outer_train.processes import cluster
from outer_train.run import checkpoint_files

State = Any

SEAL = checkpoint_files.SEAL
NOTHING = "nothing"
"""Name of the only leaf of a state that has no elements."""


class Checkpoints:
    """The checkpoints of one run: the newest few, and the one of the lowest smoothed outer loss.

    Use as a context manager: leaving it waits until everything is on disk.
    """

    def __init__(self, directory: str | os.PathLike, *, keep: int = 3, record: Path | None = None):
        """Opens or creates `directory`.

        Args:
          directory: of the checkpoints.
          keep: newest ones kept.
          record: a file that says which checkpoint is the newest, so that it is known when all are
            gone.

        Raises:
          ValueError: `keep` is below 1.
          OSError: the directory cannot be made.
        """
        if keep < 1:
            raise ValueError(f"at least one checkpoint must be kept, got {keep}")
        self._directory, self._keep, self._record = Path(directory).absolute(), keep, record
        self._directory.mkdir(parents=True, exist_ok=True)
        self._writer = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())
        self._writing: int | None = None
        self._cleaned = False

    def __enter__(self) -> "Checkpoints":
        """The object itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc) -> None:
        """Waits for pending writes, unless a process was lost:
        Orbax would wait for that one until JAX aborts us.
        """
        if (
            jax.process_count() > 1
            and kind is not None
            and issubclass(kind, jax.errors.JaxRuntimeError)
        ):
            return
        # An error that is already on its way out says more than that of the last checkpoint.
        unheard = () if kind is None else (Exception,)
        try:
            with contextlib.suppress(*unheard):
                self._finish()
        except Exception:
            # It waits once more, and would tell the same in Orbax's words.
            with contextlib.suppress(Exception):
                self._writer.close()
            raise
        with contextlib.suppress(*unheard):
            self._writer.close()

    def steps(self) -> list[int]:
        """Outer steps that have a checkpoint, oldest first."""
        found = checkpoint_files.steps(self._directory)
        return sorted({*found, *(() if self._writing is None else (self._writing,))})

    def save(self, step: int, state: State, smoothed_loss: float | None) -> None:
        """Starts writing `state`; returns once it may be changed or donated.

        Args:
          step: outer steps made so far; the checkpoint's name.
          state: any pytree of arrays.
          smoothed_loss: by which the best is told; None or not finite counts as worst.

        Raises:
          OSError: this checkpoint or the one before cannot be written.
        """
        self._finish()
        with self._written_or_emptied(step):
            cluster.from_first(lambda: self._begin(step, smoothed_loss))
            self._writer.save(
                self._unsealed(step), args=ocp.args.StandardSave(_named_leaves(state))
            )
        self._writing = step

    def seal(self) -> None:
        """Seals the last checkpoint if Orbax has finished it, and deletes older ones;
        cheap otherwise.

        Raises:
          OSError: it cannot be written.
        """
        if self._writing is None:
            return
        with self._written_or_emptied(self._writing):
            self._writer.check_for_errors()
        if cluster.is_first() and self._unsealed(self._writing).is_dir():
            step, self._writing = self._writing, None
            self._seal(step)

    def restore_newest(
        self, like: State, warn: Callable[[str], None], *, allow_none: bool = False
    ) -> tuple[int, State] | None:
        """Reads the newest checkpoint that is whole,
        and moves damaged ones that are newer to the folder `damaged`.

        Args:
          like: a state of the structure, shapes and shardings wanted; the number of devices may be
            another than the one that wrote it.
          warn: called with a line for each damaged checkpoint.
          allow_none: where none can be read, set all aside instead of raising.

        Returns:
          Its step and the state, or None if there is no checkpoint.

        Raises:
          ValueError: there are checkpoints, and none can be read, or one is whole and of another
            state.
          OSError: one cannot be read for a reason that may pass; nothing is moved.
        """
        cluster.from_first(self._adopt)
        damaged: list[int] = []
        restored = None
        for step in cluster.from_first(lambda: checkpoint_files.steps(self._directory)[::-1]):
            try:
                state = self._restore(step, like)
            except _DamagedError as error:
                warn(f"checkpoint {step} is damaged ({error}); trying the one before")
                damaged.append(step)
                continue
            restored = step, state
            break
        if damaged and restored is None and not allow_none:
            raise ValueError(f"none of the checkpoints {damaged} can be read in {self._directory}")
        cluster.from_first(
            lambda: [str(checkpoint_files.set_aside(self._directory, step)) for step in damaged]
        )
        return restored

    def _finish(self) -> None:
        """Waits until the last checkpoint is on disk and sealed."""
        if self._writing is None:
            return
        step, self._writing = self._writing, None
        with self._written_or_emptied(step):
            self._writer.wait_until_finished()
        if cluster.is_first():
            self._seal(step)

    @contextlib.contextmanager
    def _written_or_emptied(self, step: int) -> Iterator[None]:
        """Frees the room of a checkpoint that cannot be written;
        its empty folder stays, a trace that it was begun.
        """
        try:
            with checkpoint_files.telling(self._directory, f"writing checkpoint {step}"):
                yield
        except OSError:
            self._writing = None
            if cluster.is_first():
                checkpoint_files.empty(self._directory, step)
            raise

    def _begin(self, step: int, smoothed_loss: float | None) -> None:
        # Not before, since traces tell a run that was killed early from one that lost files.
        if not self._cleaned:
            checkpoint_files.clean(self._directory)
            self._cleaned = True
        checkpoint_files.begin(self._directory, step, smoothed_loss)

    def _adopt(self) -> None:
        """Seals what Orbax had finished when the run was killed."""
        for step in checkpoint_files.unsealed_steps(self._directory):
            if self._unsealed(step).is_dir() and not (self._directory / str(step)).exists():
                self._seal(step)

    def _seal(self, step: int) -> None:
        with checkpoint_files.telling(self._directory, f"sealing checkpoint {step}"):
            checkpoint_files.seal(self._directory, step)
            if self._record is not None:
                files.write_json(self._record, {"outer_step": step})
            checkpoint_files.prune(self._directory, self._keep)

    def _unsealed(self, step: int) -> Path:
        return self._directory / f"{step}{checkpoint_files.UNSEALED}" / checkpoint_files.STATE

    def _restore(self, step: int, like: State) -> State:
        path = self._directory / str(step) / checkpoint_files.STATE
        if reason := cluster.from_first(lambda: checkpoint_files.defect(self._directory, step)):
            raise _DamagedError(reason)
        wanted = _named_leaves(like)
        target = {
            name: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None)
            )
            for name, leaf in wanted.items()
        }
        with checkpoint_files.telling(path, f"reading checkpoint {step}"):
            reader = ocp.Checkpointer(ocp.StandardCheckpointHandler())
            try:
                difference = _difference(reader.metadata(path).item_metadata, wanted)
                leaves = (
                    None
                    if difference
                    else reader.restore(path, args=ocp.args.StandardRestore(target))
                )
            except jax.errors.JaxRuntimeError:  # a process was lost; the files may be sound
                raise
            except Exception as error:  # Orbax and TensorStore raise many types for damaged files
                if _may_pass(error):
                    raise
                raise _DamagedError(checkpoint_files.first_line(error)) from error
            finally:
                reader.close()
        if difference:
            raise ValueError(
                f"checkpoint {step} in {self._directory} is of another config: {difference}"
            )
        return _unflatten(like, leaves)


class _DamagedError(Exception):
    """A checkpoint's files are not those that were written."""


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in checkpoint_files.NOT_THERE
    found = checkpoint_files.OS_ERROR.search(str(error))
    return found is not None and int(found[1]) not in checkpoint_files.NOT_THERE


def _difference(metadata: Any, wanted: dict[str, Any]) -> str | None:
    """The first leaf in which a checkpoint is not what is wanted."""
    tree = getattr(metadata, "tree", metadata)
    found = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in dict(tree).items()}
    for name in sorted({*found, *wanted}):
        expected = (
            (tuple(wanted[name].shape), np.dtype(wanted[name].dtype)) if name in wanted else None
        )
        if found.get(name) != expected:
            return f"{name} is {_show(found.get(name))} in it and {_show(expected)} in the run"
    return None


def _show(leaf: tuple | None) -> str:
    return "missing" if leaf is None else f"{leaf[1]}{list(leaf[0])}"


def _named_leaves(state: State) -> dict[str, jax.Array]:
    """The leaves that have elements by their path, typed keys as their data;
    Orbax refuses arrays without any.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    named = {
        jax.tree_util.keystr(path): jax.random.key_data(x) if _is_key(x) else x
        for path, x in leaves
        if x.size
    }
    return named or {NOTHING: np.zeros(1, np.float32)}


def _unflatten(like: State, leaves: dict[str, jax.Array]) -> State:
    def restore(path, leaf):
        if not leaf.size:
            return leaf
        value = leaves[jax.tree_util.keystr(path)]
        return (
            jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else value
        )

    return jax.tree_util.tree_map_with_path(restore, like)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
