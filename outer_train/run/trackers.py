"""Where the numbers of a run go beside `metrics.jsonl`:
TensorBoard, Weights & Biases, MLflow, trackio.

Each is imported when a run asks for it, and told what to do by its own environment variables, as
everywhere else: `WANDB_MODE=offline`, `MLFLOW_TRACKING_URI`. A run that goes on from a checkpoint
goes on in the same place, whose name is in `trackers.json`. One that fails is given up, with a
warning: no run ends for want of a tracker.
"""

import importlib
import importlib.util
import json
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from learned_opt.disk import files
from outer_train.processes._printable import printable
from outer_train.run.directory import RunDirectory, read_object

PROJECT = "learned-opt"
"""Of Weights & Biases, MLflow and trackio, where the environment names none."""
MAX_PARAMETER = 500
"""Characters of a config's field in MLflow, which takes no more."""
MLFLOW_BATCH = 100
"""Parameters that MLflow takes at once."""
_ID = re.compile(r"[\w-]{1,64}")


class Tracker(Protocol):
    """Is told the numbers of a run, in the order of its outer steps."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the finite numbers of an outer step, by name."""

    def close(self) -> None:
        """Hands over what is left, and ends."""


class Asked(NamedTuple):
    """What a tracker is opened for.

    Attributes:
      run: the directory.
      name: of the run on pages.
      id: of the run in the tracker, in letters, digits, `_` and `-`; None for a new one.
      config: what `config.json` holds.
    """

    run: RunDirectory
    name: str
    id: str | None
    config: dict[str, Any]


class Kind(NamedTuple):
    """One of `TRACKERS`.

    Attributes:
      module: that it needs.
      extra: of setup.cfg, with which that module comes.
      open: makes one, given its module; returns it and the id by which a run goes on in it, None
        where it needs none.
    """

    module: str
    extra: str
    open: Callable[[Any, Asked], tuple[Tracker, str | None]]


class _Calls(NamedTuple):
    """A tracker made of two functions."""

    scalars: Callable[[int, Mapping[str, float]], None]
    close: Callable[[], None]


def _tensorboard(module: Any, asked: Asked) -> tuple[Tracker, None]:
    writer = module.SummaryWriter(str(asked.run.path / "tensorboard"))

    def scalars(step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return _Calls(scalars, writer.close), None


def _wandb(module: Any, asked: Asked) -> tuple[Tracker, str]:
    run_id = asked.id or uuid.uuid4().hex[:12]
    run = module.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=asked.name,
        id=run_id,
        resume="allow",
        dir=str(asked.run.path),
        config=asked.config,
        # What a run prints and its progress bar stay where they are.
        settings=module.Settings(console="off", silent=True),
    )
    log = lambda step, values: run.log(dict(values), step=step)
    return _Calls(log, run.finish), run_id


def _trackio(module: Any, asked: Asked) -> tuple[Tracker, str]:
    run_id = asked.id or uuid.uuid4().hex[:12]
    run = module.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT),
        name=f"{asked.name}-{run_id}",
        config=asked.config,
        resume="allow",
        embed=False,
    )
    log = lambda step, values: run.log(dict(values), step=step)
    return _Calls(log, run.finish), run_id


def _mlflow(module: Any, asked: Asked) -> tuple[Tracker, str]:
    client, entities = module.MlflowClient(), importlib.import_module("mlflow.entities")
    if (run_id := asked.id) is None:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        run_id = client.create_run(experiment, run_name=asked.name).info.run_id
        parameters = [
            entities.Param(key, value[:MAX_PARAMETER]) for key, value in _flat(asked.config)
        ]
        for start in range(0, len(parameters), MLFLOW_BATCH):
            client.log_batch(run_id, params=parameters[start : start + MLFLOW_BATCH])
    else:
        client.update_run(run_id, status="RUNNING")

    def scalars(step: int, values: Mapping[str, float]) -> None:
        now = round(1000 * time.time())
        rows = [entities.Metric(name, value, now, step) for name, value in values.items()]
        client.log_batch(run_id, metrics=rows)

    return _Calls(scalars, lambda: client.set_terminated(run_id)), run_id


TRACKERS = {
    "tensorboard": Kind("tensorboardX", "train", _tensorboard),
    "wandb": Kind("wandb", "wandb", _wandb),
    "mlflow": Kind("mlflow", "mlflow", _mlflow),
    "trackio": Kind("trackio", "trackio", _trackio),
}
"""Name -> how it is opened."""


def check(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once; nothing is imported.

    Raises:
      ValueError: one is no tracker, or what it needs is not installed.
    """
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if name not in TRACKERS:
            raise ValueError(f"unknown tracker {printable(name)}; known are {', '.join(TRACKERS)}")
        kind = TRACKERS[name]
        if importlib.util.find_spec(kind.module) is None:
            raise ValueError(
                f"the tracker {name} was asked for, but {kind.module} is not installed: "
                f'pip install "learned-opt[{kind.extra}]"'
            )
    return chosen


def open_all(names: Sequence[str], run: RunDirectory, warn: Callable[[str], None]) -> list[Tracker]:
    """Opens the trackers that a run asks for.

    Args:
      names: of `TRACKERS`.
      run: the directory; it exists.
      warn: called with a line for a tracker that fails later on, and is given up.

    Raises:
      ValueError: as `check`, or one cannot be started, for want of a login for example.
    """
    if not (names := check(names)):
        return []
    known, opened = _known(run), []
    config = read_object(run.config) if run.config.exists() else {}
    name = os.path.basename(os.path.abspath(run.path)) or PROJECT
    try:
        for each in names:
            asked = Asked(run, name, known.get(each), config)
            tracker, run_id = _open(each, asked)
            opened.append(_Dispensable(each, tracker, warn))
            if run_id is not None and known.get(each) != run_id:
                known[each] = run_id
                files.write_json(run.trackers, known)
    except BaseException:
        for tracker in opened:
            tracker.close()
        raise
    return opened


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """What a tracker is told of a row of `metrics.jsonl`: its finite numbers but `outer_step`."""
    return {
        name: value
        for name, value in row.items()
        if type(value) in (int, float) and math.isfinite(value) and name != "outer_step"
    }


def _open(name: str, asked: Asked) -> tuple[Tracker, str | None]:
    try:
        return TRACKERS[name].open(importlib.import_module(TRACKERS[name].module), asked)
    except Exception as error:  # whatever a library raises
        raise ValueError(f"the tracker {name} cannot start: {_reason(error)}") from error


def _known(run: RunDirectory) -> dict[str, str]:
    """Tracker -> id of this run in it; raises `ValueError` for a file that holds anything else."""
    found = read_object(run.trackers) if run.trackers.exists() else {}
    for name, value in found.items():
        if name not in TRACKERS or not isinstance(value, str) or not _ID.fullmatch(value):
            raise ValueError(f"{run.trackers}: {printable(name)} is {printable(value)}, no id")
    return found


class _Dispensable:
    """Another tracker, without which the run goes on once it fails."""

    def __init__(self, name: str, tracker: Tracker, warn: Callable[[str], None]):
        self._name, self._warn = name, warn
        self._tracker: Tracker | None = tracker

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._attempt(lambda tracker: tracker.scalars(step, values))

    def close(self) -> None:
        self._attempt(lambda tracker: tracker.close())
        self._tracker = None

    def _attempt(self, call: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            call(self._tracker)
        except Exception as error:  # whatever a library raises
            self._tracker = None
            self._warn(f"the tracker {self._name} failed and is told no more: {_reason(error)}")


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(error).__name__, 200)


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """`a.b` and the text of each field of a config."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value)
