"""Whether an outer step fits into memory, told by the very program that will run, before anything
is written; and which `chunk_size` makes it fit.

The compiler says what a program takes. What other sizes would take follows: an estimator that is
differentiated keeps `outer_train.memory.num_kept_states` states of each particle, and all that is
not of theta or the data grows with the particles.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from configs import base
from learned_opt_lab.runs import build
from learned_opt_lab.runs.build import Built
from outer_train import OuterStep, compiled_ahead, memory

GB = 1e9
STATES_OF_A_STEP = 24
"""What a step is taken to need beside the kept states, in states, until the compiler has said."""


MARGIN = 0.95
"""Of what there is, what fewer particles may take: the bytes of theirs are not measured."""


class Sizes(NamedTuple):
    """What a run's memory is made of; all bytes are of one memory (`memory.available_bytes`).

    Attributes:
      devices: of this process.
      available: bytes there are; None where JAX does not know.
      allowed: bytes that may be used, of those; None likewise.
      fixed: bytes of what does not grow with the particles: theta, its optimizer's state, the data.
      kept: bytes of one kept state of all particles; 0 where the unroll is not differentiated.
      max_num_steps: the longest truncation.
    """

    devices: list[jax.Device]
    available: int | None
    allowed: int | None
    fixed: int
    kept: int
    max_num_steps: int


def fit(
    config: base.TrainConfig, built: Built, tell: Callable[[str], None] = lambda line: None
) -> Built:
    """The run with its outer step compiled, which is the program that runs.

    With `config.memory_limit_gb` the estimator's `chunk_size` becomes the nearest one with which
    the step keeps to it. The outer gradient is the same up to rounding.

    Args:
      config: of the run.
      built: from `build.build(config)`.
      tell: called with a line that says what memory an outer step takes, and what there is.

    Raises:
      ValueError: it takes more than there is, or than the limit; the line says what would fit.
    """
    sizes = _sizes(config, built)
    configured = getattr(config.estimator, "chunk_size", None)
    if config.memory_limit_gb is None or configured is None:
        step = _compiled(config, built, configured)
        chunk_size, needed = configured, memory.program_bytes(step.step, sizes.devices)
    else:
        step, chunk_size, needed = _with_fitting_chunks(config, built, sizes)
    if sizes.allowed is not None and needed > sizes.allowed:
        raise ValueError(_refusal(config, sizes, needed, chunk_size))
    tell(_statement(sizes, needed, None if chunk_size == configured else chunk_size))
    about = {
        "outer_step_bytes": needed,
        "available_bytes": sizes.available,
        "allowed_bytes": sizes.allowed,
        "chunk_size": chunk_size,
    }
    return built._replace(step=step, memory=about)


def _with_fitting_chunks(
    config: base.TrainConfig, built: Built, sizes: Sizes
) -> tuple[OuterStep, int, int]:
    """The compiled step, its chunk size and its bytes: most often of the first program.

    One that does not fit tells what a step needs beside the kept states; where that misleads too,
    the peak being elsewhere, the chunk size of the fewest states is left.
    """
    configured, smallest = config.estimator.chunk_size, _smallest(sizes)
    rest, tried = sizes.fixed + sizes.kept * STATES_OF_A_STEP, set()
    while True:
        chunk_size = _chunk_size(sizes, configured, rest)
        if chunk_size is None or chunk_size in tried or len(tried) > 1:
            chunk_size = smallest
        step = _compiled(config, built, chunk_size)
        needed = memory.program_bytes(step.step, sizes.devices)
        tried.add(chunk_size)
        if needed <= sizes.allowed or smallest in tried:
            return step, chunk_size, needed
        rest = needed - _kept(sizes, chunk_size)


def _sizes(config: base.TrainConfig, built: Built) -> Sizes:
    here = [d for d in built.mesh.devices.flat if d.process_index == jax.process_index()]
    available = memory.available_bytes(here)
    limit = config.memory_limit_gb
    bounds = [b for b in (available, None if limit is None else int(limit * GB)) if b is not None]
    # Of CPU devices, one memory holds what all of them have.
    num_devices = len(here) if here[0].platform == "cpu" else 1
    state = jax.eval_shape(built.step.init, built.theta, built.key)
    fixed = memory.num_bytes((state.theta, state.opt_state, built.datas))
    problems = [build.build_problem(config, family, built.optimizer) for family in built.families]
    longest = max(problem.num_steps for problem in problems)
    longest = min(build.build_truncation(config).max_num_steps, longest)
    kept = 0
    if hasattr(config.estimator, "chunk_size"):
        one = max(memory.kept_state_bytes(problem, built.theta) for problem in problems)
        sides = 2 if build.particles_field(config.estimator) == "num_pairs" else 1
        particles = sides * build.num_particles(config.estimator)
        kept = one * particles * num_devices // built.mesh.size
    return Sizes(
        here, available, min(bounds, default=None), fixed * num_devices, kept, longest
    )  # fmt: skip


def _compiled(config: base.TrainConfig, built: Built, chunk_size: int | None) -> OuterStep:
    step = built.step
    if chunk_size != getattr(config.estimator, "chunk_size", None):
        estimator = dataclasses.replace(config.estimator, chunk_size=chunk_size)
        config = dataclasses.replace(config, estimator=estimator)
        step = build.build_step(config, built.families, built.optimizer, built.mesh)
    return compiled_ahead(step, built.theta, built.key, built.datas)


def _kept(sizes: Sizes, chunk_size: int) -> int:
    return sizes.kept * memory.num_kept_states(sizes.max_num_steps, chunk_size)


def _chunk_size(sizes: Sizes, configured: int, rest: int) -> int | None:
    """The one nearest to the configured one that fits beside `rest` bytes; None if none does."""
    sizes_of_a_chunk = np.arange(1, max(sizes.max_num_steps, configured) + 1)
    needed = np.array([rest + _kept(sizes, size) for size in sizes_of_a_chunk.tolist()])
    fitting = sizes_of_a_chunk[needed <= sizes.allowed] if sizes.allowed else sizes_of_a_chunk
    if not fitting.size:
        return None
    return int(fitting[np.argmin(np.abs(fitting - configured))])


def _smallest(sizes: Sizes) -> int:
    """The chunk size of the fewest kept states."""
    return min(range(1, sizes.max_num_steps + 1), key=lambda size: _kept(sizes, size))


def _statement(sizes: Sizes, needed: int, chunk_size: int | None) -> str:
    each = f" on each of {len(sizes.devices)} devices" if _are_apart(sizes) else ""
    there = "" if sizes.available is None else f"; {memory.shown(sizes.available)} are there"
    chosen = "" if chunk_size is None else f"; chunk_size {chunk_size} makes it fit"
    return f"an outer step takes {memory.shown(needed)} of memory{each}{there}{chosen}"


def _are_apart(sizes: Sizes) -> bool:
    return len(sizes.devices) > 1 and sizes.devices[0].platform != "cpu"


def _refusal(config: base.TrainConfig, sizes: Sizes, needed: int, chunk_size: int | None) -> str:
    """What is needed, what there is, and the smallest change that would fit."""
    limited = sizes.allowed != sizes.available
    has = "are allowed by memory_limit_gb" if limited else "are there"
    each = " on each device" if _are_apart(sizes) else ""
    told = (
        f"an outer step needs {memory.shown(needed)} of memory{each}, "
        f"{memory.shown(sizes.allowed)} {has}"
    )
    for flag, value, bytes_ in _alternatives(config, sizes, needed, chunk_size):
        return f"{told}\n--estimator.{flag} {value} needs about {memory.shown(bytes_)}"
    return told


def _alternatives(
    config: base.TrainConfig, sizes: Sizes, needed: int, chunk_size: int | None
) -> list[tuple[str, Any, float]]:
    """Flags with which it would fit, the cheapest first, and the bytes it would take."""
    found: list[tuple[str, Any, float]] = []
    if chunk_size is not None:
        rest = needed - _kept(sizes, chunk_size)
        other = _chunk_size(sizes, chunk_size, rest)
        if other is not None:
            found.append(("chunk-size", other, rest + _kept(sizes, other)))
    num_particles = build.num_particles(config.estimator)
    each = (needed - sizes.fixed) / num_particles
    mesh_size = len(sizes.devices) * jax.process_count()
    most = int((MARGIN * sizes.allowed - sizes.fixed) / each) if each > 0 else 0
    fewer = min(most, num_particles - 1) // mesh_size * mesh_size
    if fewer >= 2:
        flag = build.particles_field(config.estimator).replace("_", "-")
        found.append((flag, fewer, sizes.fixed + each * fewer))
    return found
