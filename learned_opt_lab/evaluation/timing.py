"""Seconds a training step takes, compilation left out and stated beside it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_lab.evaluation.sweep import Factory, check_memory, sharded, spread
from learned_opt_lab.evaluation.training import Runs, begin, start_run
from outer_train import compiler_options
from outer_train.particles import vary
from tasks import TaskFamily

_SAVED = "/jax/compilation_cache/compile_time_saved_sec"
"""JAX's event for a program that came from its cache of compiled programs."""
FASTER = 1.2
"""How many times faster runs must be one by one to be trained so."""


class Timing(NamedTuple):
    """Seconds, each the least of several repetitions.

    Attributes:
      seconds_per_step: of one run alone: batch, gradient and update, without measurements.
      compile_seconds: tracing and compilation of that loop; of one that was compiled by another run
        and cached, what that took.
    """

    seconds_per_step: float
    compile_seconds: float


class Together(NamedTuple):
    """Seconds of a step of many runs in one program, of plain gradient descent.

    Attributes:
      num_runs: how many.
      at_once: in one batch.
      one_by_one: one after the other.
    """

    num_runs: int
    at_once: float
    one_by_one: float

    @property
    def is_faster_one_by_one(self) -> bool:
        """By more than a timing's noise: what is as good as equal runs at once."""
        return FASTER * self.one_by_one < self.at_once

    @property
    def seconds(self) -> float:
        """In the way that is chosen."""
        return self.one_by_one if self.is_faster_one_by_one else self.at_once


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
      min_seconds: the number of steps, two at first, is doubled until a repetition takes this long.
    """
    loop = jax.jit(_make_loop(family, factory, extra_args))
    first = jax.tree.map(lambda leaf: leaf[0], begin(family, runs))
    args = (hyperparameters, first, family.data)
    with saved_seconds() as saved:
        start = time.perf_counter()
        compiled = loop.lower(*args, jnp.int32(1)).compile()
        compile_seconds = time.perf_counter() - start + sum(saved)
    seconds = _seconds_per_step(lambda n: compiled(*args, n), repetitions, min_seconds)
    return Timing(seconds, compile_seconds)


@contextlib.contextmanager
def saved_seconds() -> Iterator[list[float]]:
    """Seconds of compilation that JAX's cache saves inside, one for each program."""
    saved: list[float] = []

    def note(event: str, seconds: float, **_) -> None:
        if event == _SAVED:
            saved.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield saved
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def time_plain_gradient_descent(family: TaskFamily, runs: Runs) -> Timing:
    """The same loop with plain gradient descent at rate zero:
    what a step costs without an optimizer to speak of.
    """
    return time_training(family, optax.sgd, jnp.float32(0.0), runs)


def time_together(
    family: TaskFamily,
    num_configurations: int,
    runs: Runs,
    *,
    repetitions: int = 2,
    min_seconds: float = 0.05,
) -> Together:
    """Times a step of all configurations x runs, spread over devices as in a sweep, in both ways;
    arguments as in `time_training`.
    """
    rates = jnp.zeros(num_configurations)
    check_memory(family, optax.sgd, rates, runs, ())

    def run(rate, begun, data, _, num_steps, *, axis_name):
        _, start, step = start_run(family, optax.sgd, rate, begun, data, ())
        return jax.lax.fori_loop(0, num_steps, step, vary(start, axis_name)).params

    program = sharded(run, compiler_options=compiler_options(family))
    begun = begin(family, runs)

    def seconds(one_by_one: bool) -> float:
        def steps(number: jax.Array) -> Any:
            train = lambda rates, begun, *place: program(
                rates, begun, family.data, (), number, *place, one_by_one
            )
            return spread(train, rates, begun)

        jax.block_until_ready(steps(jnp.int32(1)))
        return _seconds_per_step(steps, repetitions, min_seconds)

    return Together(num_configurations * runs.seed.shape[0], seconds(False), seconds(True))


def _seconds_per_step(
    steps: Callable[[jax.Array], Any], repetitions: int, min_seconds: float
) -> float:
    """Of a compiled function of the number of steps."""

    def once(num_steps: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(steps(jnp.int32(num_steps)))
        return time.perf_counter() - start

    num_steps = 2
    while (elapsed := once(num_steps)) < min_seconds:
        num_steps *= 2
    return min([elapsed, *(once(num_steps) for _ in range(repetitions - 1))]) / num_steps


def _make_loop(family: TaskFamily, factory: Factory, extra_args: tuple[str, ...]) -> Callable:
    def loop(hyperparameters, begun, data, num_steps):
        _, start, step = start_run(family, factory, hyperparameters, begun, data, extra_args)
        # What the optimizer keeps for a further step is not asked for.
        return jax.lax.fori_loop(0, num_steps, step, start)[:2]

    return loop
