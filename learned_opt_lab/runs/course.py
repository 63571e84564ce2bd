"""The course of a run, the same for every engine:
directory, lock, build, outer steps, scores, the files at the end.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.base import TrainConfig
from learned_opt_lab.runs import build as builder
from learned_opt_lab.runs.build import Built
from learned_opt_lab.runs.config_json import from_json, to_json
from learned_opt_lab.runs.ending import RunResult, finish
from learned_opt_lab.runs.engines import in_step, ray
from learned_opt_lab.runs.engines.base import Engine, InStep, Ray
from learned_opt_lab.runs.families import build_family, check_trusted
from learned_opt_lab.runs.optimizer import build_optimizer
from learned_opt_lab.runs.user_path import add_to_path
from outer_train import devices
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
)
from outer_train.run import trackers as trackers_lib


def train(
    config: TrainConfig,
    run_dir: str | os.PathLike,
    *,
    engine: InStep | Ray | None = None,
    overwrite: bool = False,
    config_file: str | os.PathLike | None = None,
    trackers: Sequence[str] = (),
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
      trackers: told the numbers of each outer step, too: `"tensorboard"`, `"wandb"`, `"mlflow"`,
        `"trackio"`.
      trust: import and run the code that the file `config.init_theta` names.
      show: where progress and warnings go: `TERMINAL`, or by default no progress, and warnings are
        Python's.

    Raises:
      ValueError: for anything in the config that does not fit, a run or files under the names of
        one's in `run_dir`, or another process that writes there; nothing has been written then.
        Or no outer loss was finite (`NothingLearned`), or the engine failed.
      OSError: something cannot be read or written, for want of room for example; what was whole is
        whole.
    """
    if not os.fspath(run_dir):  # would be the working directory
        raise ValueError("run_dir must name a directory, got an empty path")
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
        shown.tell(f"run directory: {run.path}")
        with shown.phase("building the run"):
            built = build(config, settings.num_devices, trackers, trust=trust)
        with shown.phase("compiling an outer step"):
            built = chosen.fit(built, shown.tell)
        with lock.hold_by_first(run.path):
            cluster.from_first(create)
            trained = chosen.train(built, run, loop_settings(config, trackers), shown, STRICT)
            return finish(config, built, run, trained, shown)


def check(configs: Sequence[TrainConfig], engine: InStep | Ray | None = None) -> None:
    """Refuses what `train` would refuse of several configs, before any of them is trained:
    what shows without a program being traced or compiled.

    Args:
      configs: of the runs.
      engine: as in `train`.

    Raises:
      ValueError: of the first config that does not fit.
    """
    settings, made = engine or InStep(), None
    for config in configs:
        make_engine(config, settings)
        builder.check_numbers(config)
    if isinstance(settings, InStep) and settings.cluster is not None:
        return  # Nothing may run on JAX before the processes have met.
    devices.use_cpu_devices(settings.num_devices)
    for config in configs:
        wanted = config.family, config.extra_families, config.optimizer
        if made is None or made[0] != wanted:  # Only the last one's data is held.
            families = [build_family(each)[0] for each in (config.family, *config.extra_families)]
            made = wanted, families, build_optimizer(config.optimizer)[0]
        mesh = devices.particle_mesh(builder.num_particles(config.estimator), settings.num_devices)
        builder.build_step(config, *made[1:], mesh)


def resume(
    run_dir: str | os.PathLike,
    *,
    engine: InStep | Ray | None = None,
    allowed: Allowed = STRICT,
    trackers: Sequence[str] = (),
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
      trackers: told the numbers of each outer step, too: `"tensorboard"`, `"wandb"`, `"mlflow"`,
        `"trackio"`.
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
        shown.tell(f"run directory: {run.path}")
        with shown.phase("building the run"):
            built = build(config, settings.num_devices, trackers, trust=trust)
        if directory.outer_steps_done(run) < config.num_outer_steps:
            with shown.phase("compiling an outer step"):
                built = chosen.fit(built, shown.tell)
        with lock.hold_by_first(run.path):
            trained = chosen.train(built, run, loop_settings(config, trackers), shown, allowed)
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
    config: TrainConfig, num_devices: int | None, trackers: Sequence[str], *, trust: bool = False
) -> Built:
    """Builds and checks the run; nothing is written.

    Raises:
      ValueError: for anything that does not fit.
    """
    trackers_lib.check(trackers)
    return builder.build(config, num_devices, trust=trust)


def loop_settings(config: TrainConfig, trackers: Sequence[str]) -> LoopSettings:
    """What the loop of either engine is told."""
    return LoopSettings(
        config.num_outer_steps, config.checkpoint_every, config.keep_checkpoints, tuple(trackers)
    )
