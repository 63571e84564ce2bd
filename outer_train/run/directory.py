"""The directory of one run: what is in it, and when it may be written."""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from learned_opt.disk import aside, files, reading
from outer_train.run import lock, made_with

CONTENTS = (
    "config.py",
    "metrics.jsonl",
    "engine.json",
    "workers.jsonl",
    "checkpoints",
    "tensorboard",
    "wandb",
    "trackers.json",
    "theta.npz",
    "theta.json",
    "heldout_curves.npz",
    "training_family_curves.npz",
    "summary.json",
    "figures",
    "newest_checkpoint.json",
    "versions.json",
    "config.json",
)
"""Everything a run writes; `overwrite` moves these and nothing else,
`config.json`, which makes it a run, last, and before it what shows that the rest is of one."""
CONFIG_HASH = "config_sha256"


class RunDirectory(NamedTuple):
    """Paths inside the directory of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config; a directory that has it holds a run."""
        return self.path / "config.json"

    @property
    def versions(self) -> Path:
        """Versions of the libraries, the git commit, and which config file the run is from."""
        return self.path / "versions.json"

    @property
    def metrics(self) -> Path:
        """One row an outer step."""
        return self.path / "metrics.jsonl"

    @property
    def engine(self) -> Path:
        """Settings of the asynchronous engine; a run that has none is in step."""
        return self.path / "engine.json"

    @property
    def trackers(self) -> Path:
        """Ids of the run in the trackers that were told of it."""
        return self.path / "trackers.json"

    @property
    def worker_log(self) -> Path:
        """Who came, left, died or was refused in an asynchronous run."""
        return self.path / "workers.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Orbax's directory."""
        return self.path / "checkpoints"

    @property
    def newest_checkpoint(self) -> Path:
        """The outer step of the newest checkpoint,
        so that it is known when the checkpoints are gone.
        """
        return self.path / "newest_checkpoint.json"

    @property
    def theta(self) -> Path:
        """The trained outer parameters."""
        return self.path / "theta.npz"

    @property
    def summary(self) -> Path:
        """The run in a few numbers; it is there once the run is complete."""
        return self.path / "summary.json"

    def curves_of(self, scored: str) -> Path:
        """As `held_out_curves`; another file where the tasks that were scored,
        `scored`, are not held out.
        """
        return self.path / f"{scored}_curves.npz"

    @property
    def held_out_curves(self) -> Path:
        """Test losses of the held-out tasks, optimizer -> `[tasks, steps]`."""
        return self.path / "heldout_curves.npz"


def check_free(path: Path, overwrite: bool) -> None:
    """Raises `ValueError` if a new run may not be written to `path`,
    and `OSError` if its lock cannot be read.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise ValueError(
            f"{path} is {'a file' if path.exists() else 'a broken link'}, not a directory"
        )
    lock.check(path)
    run = RunDirectory(path)
    if run.config.exists() and not overwrite:
        raise ValueError(
            f"{path} holds a run\n"
            f"go on with it by `learned-opt resume {path}`, or give another --run-dir, or "
            "--overwrite"
        )
    if not run.config.exists() and (found := _contents(path)) and not _was_a_run(run):
        raise ValueError(
            f"{path} holds no run, but has {', '.join(found)} where a run would write\n"
            "move that away, or give another --run-dir"
        )


def create(
    path: Path,
    config: dict[str, Any],
    *,
    config_file: Path | None,
    overwrite: bool,
    tell: Callable[[str], None] = lambda line: None,
) -> RunDirectory:
    """Makes the directory and writes what is known before the first step.

    A run in the directory, or what is left of one, is moved to a folder beside it, `NAME.old-1`,
    or, where that is another file system, within it; it comes back if the new run cannot be
    written.

    Args:
      path: of the directory.
      config: the resolved config as JSON.
      config_file: the user's own config file, copied as `config.py`.
      overwrite: move a run that is there out of the way.
      tell: called with a line that says where the old run is.

    Raises:
      ValueError: the directory holds a run and `overwrite` is false, or no run but files under the
        names of one's, or another process writes to it.
      OSError: something cannot be moved or written; what was there is untouched.
    """
    check_free(path, overwrite)
    # It may lie in the run that is moved.
    source = config_file.read_bytes() if config_file else None
    path.mkdir(parents=True, exist_ok=True)
    run = RunDirectory(path)
    about = made_with.versions() | {
        "config_file": str(config_file) if config_file else None,
        CONFIG_HASH: _hash(config),
    }
    contents = {run.versions: _json(about)}
    if source is not None:
        contents[path / "config.py"] = source
    contents[run.config] = _json(config)
    with lock.hold(path):
        check_free(path, overwrite)
        with aside.moved(path, _contents(path)) as old:
            files.write_together(
                {name: functools.partial(_put, data) for name, data in contents.items()}
            )
        if old is not None:
            tell(f"the run that was in {path} is now in {old}")
    return run


def open_run(path: Path) -> tuple[RunDirectory, dict[str, Any]]:
    """The directory of an existing run and its config.

    Raises:
      ValueError: there is no run, or its config cannot be read.
      OSError: its config cannot be read for a reason of the file system.
    """
    run = RunDirectory(path)
    if not run.config.exists():
        raise ValueError(f"{path} holds no run: it has no config.json")
    return run, read_object(run.config)


def check_config(run: RunDirectory, config: dict[str, Any]) -> None:
    """Raises `ValueError` if `config.json` was changed since the run began;
    runs of older versions cannot tell.
    """
    if not run.versions.exists():
        return
    known = read_object(run.versions).get(CONFIG_HASH)
    if known is not None and known != _hash(config):
        raise ValueError(
            f"{run.config} was changed since the run began\n"
            "put it back, or go on with it by --allow-changed-config"
        )


def config_file(run: RunDirectory) -> str | None:
    """The user's own config file that the run is from;
    raises `ValueError` if `versions.json` is broken.
    """
    found = read_object(run.versions).get("config_file") if run.versions.exists() else None
    if found is not None and (not isinstance(found, str) or "\0" in found):
        raise ValueError(f"{run.versions}: config_file must be a path")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
      ValueError: it holds something else; it names the file.
      OSError: it cannot be read.
    """
    value = reading.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got a {type(value).__name__}")
    return value


def outer_steps_done(run: RunDirectory) -> int:
    """The outer step of the newest checkpoint, whether it is still there or not; 0 without one.

    Raises `ValueError` or `OSError` for a file that is broken or cannot be read.
    """
    if not run.newest_checkpoint.exists():
        return 0
    value = read_object(run.newest_checkpoint).get("outer_step")
    return value if type(value) is int and 0 < value < 2**63 else 0


def _contents(path: Path) -> list[str]:
    """Names in a directory that are those of a run's files, in the order of `CONTENTS`."""
    return [name for name in CONTENTS if os.path.lexists(path / name)]


def _was_a_run(run: RunDirectory) -> bool:
    """Whether what lies in a directory without `config.json` is provably left of a run."""
    for path, name in ((run.versions, CONFIG_HASH), (run.newest_checkpoint, "outer_step")):
        with contextlib.suppress(ValueError, OSError):
            if name in read_object(path):
                return True
    return False


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _hash(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
