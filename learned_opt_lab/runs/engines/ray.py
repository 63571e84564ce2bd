"""The asynchronous engine: workers of a Ray cluster, the learner in this process."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from configs.base import TrainConfig
from learned_opt.disk import files
from learned_opt_lab.runs.build import Built, build_outer_optimizer, check_numbers
from learned_opt_lab.runs.engines import sources
from learned_opt_lab.runs.engines.base import Engine, Ray, Trained
from outer_train import devices
from outer_train.processes import printable
from outer_train.run import Allowed, LoopSettings, RunDirectory, Show, directory
from outer_train.workers import WorkerSettings, ray_crew, train_asynchronously

DEFAULTS = {
    "num_workers": 2,
    "gradients_per_step": None,
    "max_staleness": 4,
    "gpus_per_worker": 0.0,
}
"""Of the settings that a run keeps; with None, as many gradients a step as workers."""


def engine(config: TrainConfig, settings: Ray) -> Engine:
    """The engine of a run of `config`; Ray is not started yet.

    Raises:
      ValueError: a number is out of range, or the particles do not divide over the gradients of a
        step.
    """
    numbers = _kept(settings)
    check_numbers(config)
    if config.memory_limit_gb is not None:
        raise ValueError("memory_limit_gb is for runs in step: not with --engine ray")
    source = sources.make_source(
        config,
        numbers["gradients_per_step"],
        compilation_cache=jax.config.jax_compilation_cache_dir,
    )

    def open_(run: RunDirectory, check: Callable[[], None], show: Show) -> None:
        del run
        check()
        devices.use_cpu_devices(settings.num_devices)
        ray_crew.connect(
            settings.address, settings.connect_timeout, numbers["num_workers"], show.warn
        )

    def train(
        built: Built, run: RunDirectory, loop_settings: LoopSettings, show: Show, allowed: Allowed
    ) -> Trained:
        files.write_json(run.engine, numbers)
        fixed = numbers["num_workers"]
        workers = WorkerSettings(
            num_workers=(lambda: fixed) if fixed else ray_crew.num_cpus,
            gradients_per_step=numbers["gradients_per_step"],
            max_staleness=numbers["max_staleness"],
            weighting=getattr(config.estimator, "weighting", "elementwise"),
            parts=sources.parts(config),
            start_timeout=settings.connect_timeout,
        )
        crew = ray_crew.RayCrew(
            source, np.asarray(jax.random.key_data(built.key)), numbers["gpus_per_worker"]
        )
        optimizer = build_outer_optimizer(config.outer_optimizer, config.num_outer_steps)
        result = train_asynchronously(
            crew, built.theta, optimizer, run, workers, loop_settings, show, allowed
        )
        return Trained(
            result.theta, result.signal, {"workers": {**numbers, **_totals(result.totals)}}
        )

    # Workers compile their programs, on machines of their own.
    return Engine(open_, lambda built, tell: built, train, ray_crew.disconnect)


def as_started(run: RunDirectory, settings: Ray) -> Ray | None:
    """The settings, with those the run was started with for what is None;
    None for a run that was started in step.

    Raises:
      ValueError: the file that holds them is broken.
    """
    if not run.engine.exists():
        return None
    found = directory.read_object(run.engine)
    for name, value in found.items():
        if name not in DEFAULTS or not (value is None or type(value) in (int, float)):
            raise ValueError(
                f"{run.engine}: {printable(name)} is {printable(value)}, must be a number of "
                f"{[*DEFAULTS]}"
            )
    return dataclasses.replace(
        settings, **{k: v for k, v in found.items() if getattr(settings, k) is None}
    )


def _kept(settings: Ray) -> dict[str, Any]:
    """The settings that a run keeps, with defaults for what is not given."""
    given = {name: value for name in DEFAULTS if (value := getattr(settings, name)) is not None}
    numbers = DEFAULTS | given
    if numbers["num_workers"] < 0:
        raise ValueError(f"--num-workers must be at least 0, got {numbers['num_workers']}")
    if numbers["gradients_per_step"] is None:
        numbers["gradients_per_step"] = max(numbers["num_workers"], 1)
    if (
        numbers["gradients_per_step"] < 1
        or numbers["max_staleness"] < 0
        or numbers["gpus_per_worker"] < 0
    ):
        raise ValueError(
            "--gradients-per-step must be at least 1, --max-staleness and --gpus-per-worker at "
            f"least 0, got {numbers['gradients_per_step']}, {numbers['max_staleness']} and "
            f"{numbers['gpus_per_worker']}"
        )
    return numbers


def _totals(totals: dict[str, Any]) -> dict[str, Any]:
    """What the loop has counted, with the share of their time in which the workers waited."""
    totals = dict(totals)
    busy, idle = totals.pop("seconds_working", 0.0), totals.pop("seconds_waiting", 0.0)
    return {**totals, "worker_idle": idle / (busy + idle) if busy + idle else None}
