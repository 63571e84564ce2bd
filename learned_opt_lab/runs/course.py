"""The course of a run, the same for every engine:
directory, lock, build, outer steps, scores, the files at the end.
"""

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import learned_opt
from configs.base import TrainConfig
from learned_opt.disk import files
from learned_opt_lab.drawing import training_figures
from learned_opt_lab.evaluation import held_out
from learned_opt_lab.results import folder
from learned_opt_lab.runs import build as builder
from learned_opt_lab.runs.build import Built
from learned_opt_lab.runs.config_json import from_json, to_json
from learned_opt_lab.runs.engines import in_step, ray
from learned_opt_lab.runs.engines.base import Engine, InStep, Ray, Trained
from learned_opt_lab.runs.families import HELD_OUT, TRAINED_ON, check_trusted, scored_on
from learned_opt_lab.runs.user_path import add_to_path
from outer_train.processes import cluster
from outer_train.run import (
    QUIET,
    STRICT,
    Allowed,
    LoopSettings,
    RunDirectory,
    Show,
    directory,
    lock,
    metrics,
)


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
      run: its directory; `run.metrics`, `run.theta` and `run.summary` are files in it.
      theta: the trained outer parameters, on the host.
      summary: what is in `summary.json`; None if a signal ended the run early, and in all processes
        but the first.
      signal: SIGINT, SIGTERM or SIGHUP if one ended the run early, else None. `resume` goes on with
        it.
    """

    run: RunDirectory
    theta: Any
    summary: dict[str, Any] | None
    signal: int | None


class NothingLearned(ValueError):
    """No outer loss of a run was finite. All files are written; `result` is how the run ended."""

    def __init__(self, result: RunResult):
        super().__init__("no outer loss of this run was finite, so theta has learned nothing")
        self.result = result


def train(
    config: TrainConfig,
    run_dir: str | os.PathLike,
    *,
    engine: InStep | Ray | None = None,
    overwrite: bool = False,
    config_file: str | os.PathLike | None = None,
    tensorboard: bool = False,
    trust: bool = False,
    show: Show = QUIET,
) -> RunResult:
    """Outer-trains a learned optimizer, scores it on held-out tasks,
    and writes everything to `run_dir`.

    It is what `learned-opt train` does. SIGINT, SIGTERM or SIGHUP end it early, with a checkpoint,
    if it is called in the main thread. On CPU, call it before anything runs on JAX, and it uses
    every core.

    Args:
      config: the run.
      run_dir: where everything is written.
      engine: where the outer gradient is computed; in step, on the devices of this process, if
        None.
      overwrite: move a run that is in `run_dir` to a folder beside it, `NAME.old-1`, and start a
        new one.
      config_file: the file that `config` is from, copied as `config.py`; `resume` finds modules
        beside it.
      tensorboard: also write TensorBoard scalars.
      trust: import and run the code that the file `config.init_theta` names.
      show: where progress and warnings go: `TERMINAL`, or by default no progress, and warnings are
        Python's.

    Raises:
      ValueError: for anything in the config that does not fit, a run that is in `run_dir`, or
        another process that writes there; nothing has been written then. Or no outer loss was
        finite (`NothingLearned`), or the engine failed.
      OSError: something cannot be read or written, for want of room for example; what was whole is
        whole.
    """
    run, settings = RunDirectory(Path(run_dir)), engine or InStep()

    def create() -> None:
        directory.create(
            run.path,
            to_json(config),
            config_file=None if config_file is None else Path(config_file).absolute(),
            overwrite=overwrite,
            tell=show.tell,
        )

    chosen = make_engine(config, settings)
    with _opened(chosen, run, lambda: directory.check_free(run.path, overwrite), show) as shown:
        built = build(config, settings.num_devices, tensorboard, trust=trust)
        with lock.hold_by_first(run.path):
            cluster.from_first(create)
            trained = chosen.train(built, run, loop_settings(config, tensorboard), shown, STRICT)
            return finish(config, built, run, trained, shown)


def resume(
    run_dir: str | os.PathLike,
    *,
    engine: InStep | Ray | None = None,
    allowed: Allowed = STRICT,
    tensorboard: bool = False,
    trust: bool = False,
    show: Show = QUIET,
) -> RunResult:
    """Goes on with a run that was stopped or killed, from its last whole checkpoint,
    as `learned-opt resume` does.

    On the same number of devices it gives bitwise the metrics of a run that was never stopped. A
    run that is complete is scored again.

    Args:
      run_dir: the run directory.
      engine: where the outer gradient is computed, by the engine the run was started with; there
        may be more or fewer devices, processes or workers than before. If None, as `train` would,
        with the workers of before.
      allowed: what the run may go on without.
      tensorboard: also write TensorBoard scalars.
      trust: import and run the code that the run's files name: a family or an optimizer given as
        `"module:name"`, in modules beside the config file it was started from. Only for runs whose
        author you trust.
      show: as for `train`.

    Raises:
      ValueError: there is no run, its files do not fit together and that is not allowed, it names
        code that is not trusted, it was started by the other engine, or another process writes to
        it. Or as `train`.
      OSError: something cannot be read or written, for want of room for example; what was whole is
        whole.
    """
    run, stored = directory.open_run(Path(run_dir))
    if not allowed.changed_config:
        directory.check_config(run, stored)
    config = read_config(run, stored, trust)
    if trust and (source := directory.config_file(run)):
        add_to_path(Path(source).parent)
    settings = _as_started(run, engine)
    chosen = make_engine(config, settings)
    with _opened(chosen, run, lambda: lock.check(run.path), show) as shown:
        built = build(config, settings.num_devices, tensorboard, trust=trust)
        with lock.hold_by_first(run.path):
            trained = chosen.train(built, run, loop_settings(config, tensorboard), shown, allowed)
            return finish(config, built, run, trained, shown)


def make_engine(config: TrainConfig, settings: InStep | Ray) -> Engine:
    """The engine that the settings are of; raises `ValueError` for numbers that do not fit."""
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config must be a configs.base.TrainConfig, got {config!r:.80}")
    return (
        ray.engine(config, settings)
        if isinstance(settings, Ray)
        else in_step.engine(config, settings)
    )


def _as_started(run: RunDirectory, settings: InStep | Ray | None) -> InStep | Ray:
    """The settings of the engine that the run was started with;
    raises `ValueError` if another one was chosen.
    """
    started = ray.as_started(run, settings if isinstance(settings, Ray) else Ray())
    if isinstance(settings, Ray if started is None else InStep):
        how = "in step" if started is None else "with --engine ray"
        raise ValueError(
            f"{run.path} was started {how}; its checkpoints go on with that engine only"
        )
    return started or settings or InStep()


@contextlib.contextmanager
def _opened(
    engine: Engine, run: RunDirectory, check: Callable[[], None], show: Show
) -> Iterator[Show]:
    """Opens and closes the engine; gives where to show things:
    of several processes, the first one does.
    """
    engine.open(run, check, show)
    try:
        yield show if cluster.is_first() else QUIET._replace(warn=QUIET.tell)
    finally:
        engine.close()


def read_config(run: RunDirectory, stored: dict[str, Any], trust: bool) -> TrainConfig:
    """The config of a run; nothing that it names is imported.

    Raises:
      ValueError: it is none, or names code that is not this project's and is not trusted.
    """
    try:
        config = from_json(stored, trust=trust)
        if not isinstance(config, TrainConfig):
            raise ValueError("it holds no TrainConfig")
        check_trusted(config)
    except ValueError as error:
        raise ValueError(f"{run.config}: {error}") from error
    return config


def build(
    config: TrainConfig, num_devices: int | None, tensorboard: bool, *, trust: bool = False
) -> Built:
    """Builds and checks the run; nothing is written.

    Raises:
      ValueError: for anything that does not fit.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("TensorBoard was asked for, but tensorboardX is not installed")
    return builder.build(config, num_devices, trust=trust)


def loop_settings(config: TrainConfig, tensorboard: bool) -> LoopSettings:
    """What the loop of either engine is told."""
    return LoopSettings(
        config.num_outer_steps, config.checkpoint_every, config.keep_checkpoints, tensorboard
    )


def finish(
    config: TrainConfig, built: Built, run: RunDirectory, trained: Trained, show: Show
) -> RunResult:
    """Writes theta, scores and figures; of several processes the first one does.

    Raises:
      NothingLearned: no outer loss was finite; everything is written.
    """
    result = RunResult(run, trained.theta, None, trained.signal)
    if not cluster.is_first():
        return result
    learned_opt.save(run.theta, built.optimizer_name, built.optimizer_kwargs, trained.theta)
    if trained.signal is not None:
        return result
    summary, name, curves = (
        metrics.summarize(metrics.read_rows(run.metrics)),
        scored_on(config),
        None,
    )
    if config.held_out.num_tasks:
        summary[name], curves = score(config, built, trained.theta, show.tell)
    summary = folder.finite(summary | trained.about)
    write_results(run, summary, curves, run.curves_of(name))
    training_figures.training_figures(run.path)
    report(summary, run, show.tell)
    result = result._replace(summary=summary)
    if metrics.mean_loss(metrics.read_rows(run.metrics)) is None:
        raise NothingLearned(result)
    return result


def write_results(
    run: RunDirectory,
    summary: dict[str, Any],
    curves: Mapping[str, np.ndarray] | None,
    curves_path: Path,
) -> None:
    """Replaces `summary.json`, and the curves of the scored tasks that it sums up with it."""
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    writers = {run.summary: lambda file: file.write(text.encode())}
    if curves is not None:
        writers = {curves_path: lambda file: np.savez(file, **curves), **writers}
    files.write_together(writers)


def score(
    config: TrainConfig, built: Built, theta: Any, tell: Callable[[str], None]
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Scores the held-out family: that part of `summary.json`;
    the curves, optimizer -> `[tasks, steps]`.

    Where none is held out it is the training family, with other keys
    (`learned_opt_lab.runs.families.scored_on`).
    """
    held_out_or_not = (
        "held-out tasks" if scored_on(config) == HELD_OUT else "tasks of the training family"
    )
    tell(f"scoring {config.held_out.num_tasks} {held_out_or_not}")
    key_score = jax.random.fold_in(jax.random.key(config.seed), 1)
    scored = held_out.score(
        built.held_out,
        built.optimizer,
        theta,
        jax.device_get(built.untrained_theta),
        num_steps=config.held_out.num_steps,
        num_tasks=config.held_out.num_tasks,
        key=key_score,
    )
    settings = {"num_tasks": config.held_out.num_tasks, "num_steps": config.held_out.num_steps}
    return {**scored.summary, **settings}, scored.curves


def report(summary: dict[str, Any], run: RunDirectory, tell: Callable[[str], None]) -> None:
    """Tells the numbers that matter."""
    tell(
        f"outer loss {folder.show(summary['outer_loss_first'])} -> "
        f"{folder.show(summary['outer_loss_last'])}"
    )
    for key, what in ((HELD_OUT, "held-out"), (TRAINED_ON, "training family's")):
        for name in ("learned", "adam_tuned", "adam_1e-3", "untrained") if key in summary else ():
            tell(f"{what} mean test loss  {name:<10} {folder.show(summary[key][name])}")
    tell(f"theta, summary.json and figures are in {run.path}")
