"""`--engine ray` of `train` and `resume`: workers of a Ray cluster, the learner in this process."""

from typing import Any

import jax
import numpy as np

from configs import base
from learned_opt.disk import files
from learned_opt_lab.runs import session
from learned_opt_lab.runs.build import Built, build_outer_optimizer
from learned_opt_lab.runs.engines import sources
from learned_opt_lab.runs.engines.engine import Engine
from outer_train.processes import printable
from outer_train.run import STRICT, Allowed, RunDirectory, directory
from outer_train.workers import Settings, ray_crew, train

DEFAULTS = {"num_workers": 2, "gradients_per_step": None, "max_staleness": 4, "gpus_per_worker": 0.0}


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with defaults for what is not given.

    Raises:
      ValueError: a number is out of range.
    """
    settings = DEFAULTS | settings
    if settings["num_workers"] < 0:
        raise ValueError(f"--num-workers must be at least 0, got {settings['num_workers']}")
    if settings["gradients_per_step"] is None:
        settings["gradients_per_step"] = max(settings["num_workers"], 1)
    if settings["gradients_per_step"] < 1 or settings["max_staleness"] < 0 or settings["gpus_per_worker"] < 0:
        raise ValueError(
            "--gradients-per-step must be at least 1, --max-staleness and --gpus-per-worker at least 0, got "
            f"{settings['gradients_per_step']}, {settings['max_staleness']} and {settings['gpus_per_worker']}"
        )
    return settings


def stored(run: RunDirectory) -> dict[str, Any] | None:
    """The settings the run was started with; None for a run in step.

    Raises:
      ValueError: the file that holds them is broken.
    """
    if not run.engine.exists():
        return None
    found = directory.read_object(run.engine)
    for name, value in found.items():
        if name not in DEFAULTS or not (value is None or type(value) in (int, float)):
            raise ValueError(
                f"{run.engine}: {printable(name)} is {printable(value)}, must be a number of {[*DEFAULTS]}"
            )
    return found


def train_and_score(
    config: base.TrainConfig,
    built: Built,
    run: RunDirectory,
    engine: Engine,
    settings: dict[str, Any],
    tensorboard: bool,
    allowed: Allowed = STRICT,
) -> int:
    """Runs the loop over workers to its end; Ray is connected. Returns the exit status."""
    files.write_json(run.engine, settings)
    source = sources.make_source(
        config, settings["gradients_per_step"], compilation_cache=jax.config.jax_compilation_cache_dir
    )
    key_data = np.asarray(jax.random.key_data(built.key))
    fixed = settings["num_workers"]
    result = train(
        ray_crew.RayCrew(source, key_data, settings["gpus_per_worker"]),
        built.theta,
        build_outer_optimizer(config.outer_optimizer, config.num_outer_steps),
        run,
        Settings(
            num_workers=(lambda: fixed) if fixed else ray_crew.num_cpus,
            gradients_per_step=settings["gradients_per_step"],
            max_staleness=settings["max_staleness"],
            weighting=getattr(config.estimator, "weighting", "elementwise"),
            parts=sources.parts(config),
            start_timeout=engine.connect_timeout,
        ),
        num_outer_steps=config.num_outer_steps,
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        tensorboard=tensorboard,
        warn=session.warn,
        allowed=allowed,
    )
    totals = dict(result.totals)
    busy, idle = totals.pop("seconds_working", 0.0), totals.pop("seconds_waiting", 0.0)
    totals["worker_idle"] = idle / (busy + idle) if busy + idle else None
    return session.finish(config, built, run, result.theta, result.signal, {"workers": {**settings, **totals}})
