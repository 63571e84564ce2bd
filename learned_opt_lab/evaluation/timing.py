"""Seconds a training step takes, compilation left out and stated beside it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_lab.evaluation.sweep import Factory
from learned_opt_lab.evaluation.training import Runs, start_run
from tasks import TaskFamily


class Timing(NamedTuple):
    """Seconds, each the least of several repetitions.

    Attributes:
      seconds_per_step: of one run alone: batch, gradient and update, without measurements.
      compile_seconds: tracing and compilation of that loop.
    """

    seconds_per_step: float
    compile_seconds: float


def time_training(
    family: TaskFamily,
    factory: Factory,
    hyperparameters: Any,
    runs: Runs,
    *,
    extra_args: tuple[str, ...] = (),
    repetitions: int = 3,
    min_seconds: float = 0.05,
) -> Timing:
    """Times the training loop of the first run on one device.

    Args:
      family: the tasks.
      factory: `hyperparameters -> optax transformation`.
      hyperparameters: of one configuration, without a leading axis.
      runs: the first one is used.
      extra_args: as in `learned_opt_lab.evaluation.sweep.make_sweep`.
      repetitions: the fastest of these counts.
      min_seconds: the number of steps is doubled until a repetition takes this long.
    """
    loop = jax.jit(_make_loop(family, factory, extra_args))
    args = (hyperparameters, jax.tree.map(lambda keys: keys[0], runs), family.data)
    start = time.perf_counter()
    compiled = loop.lower(*args, jnp.int32(1)).compile()
    compile_seconds = time.perf_counter() - start
    num_steps, elapsed = 16, 0.0
    while True:
        elapsed = _time_once(compiled, args, num_steps)
        if elapsed >= min_seconds:
            break
        num_steps *= 2
    fastest = min(
        [elapsed, *(_time_once(compiled, args, num_steps) for _ in range(repetitions - 1))]
    )
    return Timing(fastest / num_steps, compile_seconds)


def time_plain_gradient_descent(family: TaskFamily, runs: Runs) -> Timing:
    """The same loop with plain gradient descent at rate zero:
    what a step costs without an optimizer to speak of.
    """
    return time_training(family, optax.sgd, jnp.float32(0.0), runs)


def _time_once(compiled: Callable, args: tuple, num_steps: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args, jnp.int32(num_steps)))
    return time.perf_counter() - start


def _make_loop(family: TaskFamily, factory: Factory, extra_args: tuple[str, ...]) -> Callable:
    def loop(hyperparameters, run, data, num_steps):
        _, start, step = start_run(family, factory, hyperparameters, run, data, extra_args)
        # What the optimizer keeps for a further step is not asked for.
        return jax.lax.fori_loop(0, num_steps, step, start)[:2]

    return loop
