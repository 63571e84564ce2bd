"""From a `TrainConfig` to what the training loop runs:
families x optimizer -> problems -> estimators -> outer step.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from configs import base
from learned_opt import LearnedOptimizer
from learned_opt_lab.runs.builders import builder_of, fields_of
from learned_opt_lab.runs.families import build_family
from learned_opt_lab.runs.optimizer import build_optimizer, initial_theta
from outer_train import (
    OuterStep,
    UnrolledSystem,
    checks,
    clip_by_global_norm,
    devices,
    inner_problem,
    memory,
    outer_step,
    traced_ahead,
    truncation,
)
from outer_train.estimators import GradientEstimator
from tasks import Feed, TaskFamily, as_stateful


class Built(NamedTuple):
    """Everything a run needs.

    Attributes:
      families: the outer-training families.
      held_out: the family that is scored after training.
      optimizer: the learned optimizer.
      optimizer_name: what `learned_opt.save` writes, with `optimizer_kwargs`.
      optimizer_kwargs: see there.
      theta: initial outer parameters.
      untrained_theta: fresh ones, to compare with; equal to `theta` unless the run goes on from a
        saved one.
      step: the outer step.
      datas: one entry a family, replicated over the mesh; a window where data come from the host.
      feed: what the outer steps are given.
      key: of the loop.
      mesh: over the particles.
      memory: what the outer step takes, as `summary.json` says it; None where it is not known yet.
    """

    families: tuple[TaskFamily, ...]
    held_out: TaskFamily
    optimizer: LearnedOptimizer
    optimizer_name: str
    optimizer_kwargs: dict[str, Any]
    theta: Any
    untrained_theta: Any
    step: OuterStep
    datas: tuple
    feed: Feed
    key: jax.Array
    mesh: Mesh
    memory: dict[str, Any] | None = None


def build(
    config: base.TrainConfig, num_devices: int | None = None, *, trust: bool = False
) -> Built:
    """Builds and checks everything, data included.

    Args:
      config: the run.
      num_devices: devices to spread the particles over; as many as divide them if None.
      trust: run the code that the file `init_theta` names; code that the config names is run if it
        is the user's own config, or one that `from_json` was told to trust.

    Raises:
      ValueError: for anything that does not fit; nothing has been written then.
      FileNotFoundError: `init_theta` is no file and no pretrained name.
    """
    check_numbers(config)
    families, held_outs = zip(
        *map(build_family, (config.family, *config.extra_families)), strict=True
    )
    optimizer, name, kwargs = build_optimizer(config.optimizer)
    key_theta, key_loop = jax.random.split(jax.random.key(config.seed))
    # On the host: the outer step donates what is placed on the devices.
    untrained = jax.device_get(optimizer.init(key_theta))
    theta = initial_theta(config.init_theta, optimizer, untrained, name=name, trust=trust)
    mesh = devices.particle_mesh(num_particles(config.estimator), num_devices)
    step = build_step(config, families, optimizer, mesh)
    state = jax.eval_shape(step.init, theta, key_loop)
    memory.check_fits(
        f"{num_particles(config.estimator)} particles: their inner states", memory.num_bytes(state)
    )
    _check_held_out_fits(config.held_out, held_outs[0], optimizer, theta)
    feed = Feed.of(families, config.seed, step.place_data)
    traced_ahead(step, theta, key_loop, feed.datas)  # Tells what does not fit; kept for `fit`.
    return Built(
        families, held_outs[0], optimizer, name, kwargs, theta, untrained, step, feed.datas,
        feed, key_loop, mesh
    )  # fmt: skip


def build_step(
    config: base.TrainConfig,
    families: Sequence[TaskFamily],
    optimizer: LearnedOptimizer,
    mesh: Mesh,
) -> OuterStep:
    """The outer step, of one estimator a family; nothing is compiled."""
    schedule = build_truncation(config)
    estimators = [
        build_estimator(config, family, optimizer, schedule, axis_name=devices.PARTICLES)
        for family in families
    ]
    outer_optimizer = build_outer_optimizer(config.outer_optimizer, config.num_outer_steps)
    return outer_step(estimators, outer_optimizer, schedule, mesh, families=families)


def check_numbers(config: base.TrainConfig) -> None:
    """Raises `ValueError` for what is no config, and for counts that no factory sees."""
    if not isinstance(config, base.TrainConfig):
        raise ValueError(f"a config must be a TrainConfig, got a {type(config).__name__}")
    _check_whole_numbers("", config)
    for name in ("num_outer_steps", "checkpoint_every", "keep_checkpoints"):
        checks.check_count(**{name: getattr(config, name)})
    checks.check_count(**{particles_field(config.estimator): num_particles(config.estimator)})
    checks.check_positive(memory_limit_gb=config.memory_limit_gb)
    if config.held_out.num_tasks < 0 or config.held_out.num_steps < 1:
        raise ValueError(
            "held_out needs num_tasks >= 0 and num_steps >= 1, "
            f"got {config.held_out.num_tasks} and {config.held_out.num_steps}"
        )
    checks.check_count(
        0,
        **{
            "held_out.num_tasks": config.held_out.num_tasks,
            "held_out.num_steps": config.held_out.num_steps,
        },
    )
    check_seed(config.seed)


def _check_whole_numbers(name: str, value: Any) -> None:
    """Raises `ValueError` for one beyond what a size or a count can be, wherever it stands."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.type not in (float, float | None):
                _check_whole_numbers(f"{name}.{field.name}".lstrip("."), getattr(value, field.name))
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            _check_whole_numbers(name, each)
    elif type(value) is int and not name.endswith("seed"):
        checks.check_count(-checks.LARGEST_COUNT, **{name: value})


def check_seed(seed: int) -> None:
    """Raises `ValueError` for a seed that is no whole number of 32 bits:
    JAX would cut it to those without a word.
    """
    if not isinstance(seed, int) or not -(2**31) <= seed < 2**32:
        raise ValueError(f"seed must be a whole number within {-(2**31)}..{2**32 - 1}, got {seed}")


def _check_held_out_fits(
    config: base.HeldOut, family: TaskFamily, optimizer: LearnedOptimizer, theta: Any
) -> None:
    """Refuses before training what could not be scored after it."""

    def start(key):
        params, model_state = as_stateful(family.task(family.sample(key))).init(key)
        return params, model_state, optimizer.fastest(theta).init(params)

    size = (
        memory.num_bytes(jax.eval_shape(start, jax.random.key(0)))
        + np.dtype(np.float32).itemsize * config.num_steps
    )
    memory.check_fits(
        f"held_out.num_tasks {config.num_tasks} of {config.num_steps} steps",
        config.num_tasks * size,
    )


def num_particles(estimator: base.Estimator) -> int:
    """What is spread over the devices: pairs, or particles where there are no pairs."""
    return getattr(estimator, particles_field(estimator))


def particles_field(estimator: base.Estimator) -> str:
    """The field that holds their number."""
    return "num_pairs" if hasattr(estimator, "num_pairs") else "num_particles"


def build_truncation(config: base.TrainConfig) -> truncation.TruncationSchedule:
    """The schedule of truncation lengths.

    Raises:
      ValueError: for a schedule that does not fit in itself, or whose lengths exceed the episode.
    """
    kind = type(config.truncation)
    longest = getattr(config.truncation, kind.longest)
    if longest > config.problem.num_steps:
        raise ValueError(
            f"the truncation grows to {longest} inner steps, above the episode's "
            f"{config.problem.num_steps} (problem.num_steps)"
        )
    return builder_of(kind)(**fields_of(config.truncation))


def build_problem(
    config: base.TrainConfig, family: TaskFamily, optimizer: LearnedOptimizer
) -> UnrolledSystem:
    """The inner problem of one family, whose episodes may have a length of their own."""
    settings = fields_of(config.problem)
    if family.num_steps is not None:
        settings["num_steps"] = family.num_steps
    family = family._replace(share_told=settings.pop("share_told"))
    return inner_problem(family, optimizer, **settings)


def build_estimator(
    config: base.TrainConfig,
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    schedule: truncation.TruncationSchedule,
    *,
    axis_name: str | None = None,
) -> GradientEstimator:
    """The estimator of one family's outer gradient."""
    problem = build_problem(config, family, optimizer)
    settings, kind = fields_of(config.estimator), type(config.estimator)
    if kind.truncates:
        settings["max_num_steps"] = min(schedule.max_num_steps, problem.num_steps)
    return builder_of(kind)(problem, axis_name=axis_name, **settings)


def build_outer_optimizer(
    config: base.OuterOptimizer, num_outer_steps: int
) -> optax.GradientTransformation:
    """Clip, then Adam or AdamW under the schedule.

    Raises:
      ValueError: for a rate, clip or epsilon that is not positive and finite, a decay outside
        `[0, 1)`, or a warm-up longer than the run.
    """
    _check_outer_optimizer(config)
    if not 0 <= config.num_warmup_steps < num_outer_steps:
        raise ValueError(
            f"num_warmup_steps must be within 0..{num_outer_steps - 1}, got "
            f"{config.num_warmup_steps}"
        )
    checks.check_count(0, num_warmup_steps=config.num_warmup_steps)
    clips = {
        "global_norm": functools.partial(clip_by_global_norm, config.clip_at),
        "value": functools.partial(optax.clip, config.clip_at),
        "none": optax.identity,
    }
    moments = {"b1": config.b1, "b2": config.b2, "eps": config.eps}
    rate = _rate(config, num_outer_steps)
    if config.name == "adamw":
        adam = optax.adamw(rate, weight_decay=config.weight_decay, **moments)
    else:
        adam = optax.adam(rate, **moments)
    return optax.chain(clips[config.clip](), adam)


def _check_outer_optimizer(config: base.OuterOptimizer) -> None:
    if not config.learning_rate > 0 or (config.clip != "none" and not config.clip_at > 0):
        raise ValueError(
            f"learning_rate and clip_at must be above 0, got {config.learning_rate} and "
            f"{config.clip_at}"
        )
    checks.check_positive(learning_rate=config.learning_rate, eps=config.eps)
    if config.clip != "none":
        checks.check_positive(clip_at=config.clip_at)
    checks.check_within(0, 1, below=True, b1=config.b1, b2=config.b2)
    checks.check_within(0, 1, final_fraction=config.final_fraction)
    checks.check_within(0, checks.LARGEST_FLOAT, weight_decay=config.weight_decay)


def _rate(config: base.OuterOptimizer, num_outer_steps: int) -> optax.ScalarOrSchedule:
    num_decay_steps = num_outer_steps - config.num_warmup_steps
    if config.decay == "cosine":
        rate = optax.cosine_decay_schedule(
            config.learning_rate, num_decay_steps, alpha=config.final_fraction
        )
    elif config.num_warmup_steps == 0:
        return config.learning_rate
    else:
        rate = optax.constant_schedule(config.learning_rate)
    warmup = optax.linear_schedule(0.0, config.learning_rate, max(config.num_warmup_steps, 1))
    return optax.join_schedules([warmup, rate], [config.num_warmup_steps])
