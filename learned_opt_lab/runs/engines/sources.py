"""From a config to a worker's source of gradients.

It runs in the worker's process, from the config's JSON.
"""

import dataclasses
import sys
from functools import partial
from typing import Any

import jax

from configs import base
from learned_opt_lab.runs import build
from learned_opt_lab.runs.config_json import from_json, to_json
from outer_train import estimators
from outer_train.estimators import part_moments
from outer_train.workers import MakeSource, Source
from tasks import Feed


def make_source(
    config: base.TrainConfig, gradients_per_step: int, *, compilation_cache: str | None = None
) -> MakeSource:
    """What a crew sends to its workers: a function of a module with the config as JSON, no closure.

    Workers take the config's families in turn, by their places.

    Args:
      config: of the run.
      gradients_per_step: the estimator's particles are shared out among so many gradients.
      compilation_cache: directory of compiled programs, so that a worker that is started again
        compiles nothing.

    Raises:
      ValueError: the particles do not divide, or the estimator cannot be merged over workers.
    """
    num_particles = build.num_particles(config.estimator)
    if num_particles % gradients_per_step:
        raise ValueError(
            f"{num_particles} pairs do not divide over {gradients_per_step} gradients a step"
        )
    if isinstance(config.estimator, base.Merged):
        if config.estimator.cross_fit:
            raise ValueError(
                "cross_fit weighs halves of the pairs in one place: not with --engine ray"
            )
        if num_particles // gradients_per_step < 2:
            raise ValueError(
                f"{num_particles} pairs over {gradients_per_step} gradients: each needs 2 to have "
                "a variance"
            )
    return partial(_source, to_json(config), gradients_per_step, list(sys.path), compilation_cache)


def parts(config: base.TrainConfig) -> tuple[str, ...]:
    """Names of the parts that a worker's moments are of, in their order."""
    if isinstance(config.estimator, base.Merged):
        return config.estimator.parts
    return (base.name_of(type(config.estimator)),)


def _source(
    config_json: dict[str, Any],
    gradients_per_step: int,
    path: list[str],
    compilation_cache: str | None,
    place: int,
) -> Source:
    # For `module:name` of a config.
    sys.path.extend(directory for directory in path if directory not in sys.path)
    if compilation_cache:
        jax.config.update("jax_compilation_cache_dir", compilation_cache)
    # The learner has built it, and sends what it runs itself.
    config = from_json(config_json, trust=True)
    family_configs = (config.family, *config.extra_families)
    index = place % len(family_configs)
    family, _ = build.build_family(family_configs[index])
    optimizer, _, _ = build.build_optimizer(config.optimizer)
    schedule = build.build_truncation(config)
    share = build.num_particles(config.estimator) // gradients_per_step
    fewer = {build.particles_field(config.estimator): share}
    config = dataclasses.replace(config, estimator=dataclasses.replace(config.estimator, **fewer))
    is_merged = isinstance(config.estimator, base.Merged)
    estimator = (_part_moments if is_merged else build.build_estimator)(
        config, family, optimizer, schedule
    )
    theta = jax.eval_shape(optimizer.init, jax.random.key(0))
    theta = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), theta)
    # Each worker has an order of its own, from the start whenever it starts anew.
    feed = Feed.of((family,), f"{config.seed}/{place}")
    return Source(
        estimator, schedule, theta, share, index, feed, parts(config) if is_merged else None
    )  # fmt: skip


def _part_moments(config, family, optimizer, schedule) -> estimators.GradientEstimator:
    problem = build.build_problem(config, family, optimizer)
    settings = config.estimator
    return part_moments(
        problem,
        settings.num_pairs,
        settings.std,
        parts=settings.parts,
        max_num_steps=min(schedule.max_num_steps, problem.num_steps),
        chunk_size=settings.chunk_size,
        stagger=settings.stagger,
    )
