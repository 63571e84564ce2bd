"""The directory of one run: what is in it, and when it may be written."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

LIBRARIES = ("learned-opt", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
CONTENTS = (
    "config.json",
    "config.py",
    "versions.json",
    "metrics.jsonl",
    "engine.json",
    "workers.jsonl",
    "checkpoints",
    "tensorboard",
    "theta.npz",
    "theta.json",
    "heldout_curves.npz",
    "summary.json",
    "figures",
)
"""Everything a run writes; `overwrite` removes these and nothing else."""


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
    def worker_log(self) -> Path:
        """Who came, left, died or was refused in an asynchronous run."""
        return self.path / "workers.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Orbax's directory."""
        return self.path / "checkpoints"

    @property
    def theta(self) -> Path:
        """The trained outer parameters."""
        return self.path / "theta.npz"

    @property
    def summary(self) -> Path:
        """The run in a few numbers; it is written last."""
        return self.path / "summary.json"

    @property
    def held_out_curves(self) -> Path:
        """Test losses of the held-out tasks, optimizer -> `[tasks, steps]`."""
        return self.path / "heldout_curves.npz"


def check_free(path: Path, overwrite: bool) -> None:
    """Raises `ValueError` if a new run may not be written to `path`."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, not a directory")
    if RunDirectory(path).config.exists() and not overwrite:
        raise ValueError(
            f"{path} holds a run\n"
            f"go on with it by `learned-opt resume {path}`, or give another --run-dir, or --overwrite"
        )


def create(path: Path, config: dict[str, Any], *, config_file: Path | None, overwrite: bool) -> RunDirectory:
    """Makes the directory and writes what is known before the first step.

    Args:
      path: of the directory.
      config: the resolved config as JSON.
      config_file: the user's own config file, copied as `config.py`.
      overwrite: remove a run that is there.

    Raises:
      ValueError: the directory holds a run and `overwrite` is false.
    """
    check_free(path, overwrite)
    source = config_file.read_bytes() if config_file else None  # it may lie in the run that is removed
    for name in CONTENTS:
        entry = path / name
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    if source is not None:
        (path / "config.py").write_bytes(source)
    run = RunDirectory(path)
    write_json(run.versions, versions() | {"config_file": str(config_file) if config_file else None})
    write_json(run.config, config)
    return run


def open_run(path: Path) -> tuple[RunDirectory, dict[str, Any]]:
    """The directory of an existing run and its config.

    Raises:
      ValueError: there is no run, or its config cannot be read.
    """
    run = RunDirectory(path)
    if not run.config.exists():
        raise ValueError(f"{path} holds no run: it has no config.json")
    try:
        return run, json.loads(run.config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{run.config} is no valid JSON: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes the file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def versions() -> dict[str, Any]:
    """Versions of Python and of the libraries that matter, and the project's git commit if it is a checkout."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {"python": platform.python_version(), "platform": platform.platform(), **found, "git": _git_commit()}


def _git_commit() -> str | None:
    """The commit of the checkout this file lies in, `-dirty` if it has changes, or None outside of one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
