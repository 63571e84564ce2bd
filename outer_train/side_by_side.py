"""Several seeds of one outer-training run as one program:
everything but the mesh is mapped over seeds.

Each device holds its share of every seed's particles. Seeds share the lengths of truncations,
nothing else: what a seed draws follows from the run's key and its own number, whichever seeds run
beside it.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from numpy.typing import NDArray

from outer_train.checks import LARGEST_COUNT, check_count, check_within
from outer_train.devices import PARTICLES
from outer_train.estimators.base import GradientEstimator
from outer_train.particles.collectives import vary
from outer_train.run.loop import max_in_flight
from outer_train.step import OuterStep, outer_step
from outer_train.truncation import TruncationSchedule
from tasks import Feed, as_feed


class SeedsResult(NamedTuple):
    """What outer-training several seeds gave; all on the host.

    Attributes:
      thetas: theta's leaves with `[points, seeds, ...]` in front, from before the first step to
        after the last.
      points: int `[points]`, outer steps done at each.
      outer_loss: `[outer steps, seeds]`, of each truncation.
      inner_steps: int `[outer steps, seeds]`, live inner steps so far, all particles and both sides
        of a pair counted.
      seconds: wall-clock time between two points, `[points - 1]`; the first holds the compilation,
        unless the step was compiled ahead.
      metrics: name -> `[outer steps, seeds]`, of the metrics of a step that were to be kept.
    """

    thetas: Any
    points: NDArray
    outer_loss: NDArray
    inner_steps: NDArray
    seconds: NDArray
    metrics: dict[str, NDArray] = {}  # noqa: RUF012  A NamedTuple's default; never changed.


def outer_step_of_seeds(
    estimators: Sequence[GradientEstimator],
    outer_optimizer: optax.GradientTransformation,
    truncation: TruncationSchedule,
    mesh: Mesh,
    seeds: Sequence[int],
) -> OuterStep:
    """The outer step of all seeds at once: theta, outer optimizer and losses lead with the seeds.

    Arguments as in `outer_train.step.outer_step`; the estimators are built with the mesh's axis
    name. A step that one seed cannot take is not taken by that seed alone.
    """
    for seed in seeds:
        check_within(-LARGEST_COUNT, LARGEST_COUNT, seed=seed)
    numbers = np.asarray(seeds, np.int32)
    mapped = [_over_seeds(estimator, numbers) for estimator in estimators]
    return outer_step(mapped, outer_optimizer, truncation, mesh, map_update=jax.vmap)


def _over_seeds(estimator: GradientEstimator, seeds: NDArray) -> GradientEstimator:
    """The estimator mapped over seeds;
    states keep the particles in front, where the mesh divides them.
    """

    def keys(key: Array) -> Array:
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, seeds)

    def init(thetas, key):
        return jax.vmap(estimator.init, out_axes=1)(thetas, keys(key))

    def estimate(thetas, states, key, num_steps, data=()):
        each = jax.vmap(estimator.estimate, in_axes=(0, 1, 0, None, None), out_axes=(0, 1))
        # Keys that vary over the devices already:
        # a mapped `cond` runs its branches on what the condition made vary.
        return each(thetas, states, vary(keys(key), PARTICLES), num_steps, data)

    return GradientEstimator(init, estimate)


def train_seeds(
    step: OuterStep,
    thetas: Any,
    key: Array,
    datas: tuple | Feed,
    num_outer_steps: int,
    num_points: int,
    keep: tuple[str, ...] = (),
) -> SeedsResult:
    """Runs `num_outer_steps` outer steps of every seed.

    Args:
      step: of `outer_step_of_seeds`.
      thetas: fresh outer parameters, leaves `[seeds, ...]`.
      key: of the run.
      datas: one entry a family, placed on the devices, or the feed that gives each step's.
      num_outer_steps: of each seed.
      num_points: times at which theta is kept, evenly spread, after the fresh one; fewer where
        there are fewer steps.
      keep: how the names of the metrics begin that are kept of each step.

    Raises:
      ValueError: for counts below 1.
    """
    if num_outer_steps < 1 or num_points < 1:
        raise ValueError(
            f"num_outer_steps and num_points must be at least 1, got {num_outer_steps} and "
            f"{num_points}"
        )  # fmt: skip
    check_count(num_outer_steps=num_outer_steps, num_points=num_points)
    key_init, key_steps = jax.random.split(key)
    state = step.init(thetas, key_init)
    key_steps = jax.device_put(key_steps, state.step.sharding)
    points = np.unique(np.round(np.linspace(0, num_outer_steps, num_points + 1)).astype(int))
    kept, seconds, pending = [jax.device_get(state.theta)], [], deque()
    read, feed = _Rows(), as_feed(datas)
    with feed.stream() as stream:
        for length in np.diff(points).tolist():
            start = time.perf_counter()
            for _ in range(length):
                state, metrics = step.step(state, key_steps, stream.next())
                pending.append(
                    {n: x for n, x in metrics.items() if n in _ALWAYS or n.startswith(keep)}
                )
                if len(pending) >= max_in_flight(feed):
                    read.add(pending.popleft())
            kept.append(jax.device_get(state.theta))
            seconds.append(time.perf_counter() - start)
    for row in pending:
        read.add(row)
    found = read.stacked()
    losses, live = (found.pop(name) for name in _ALWAYS)
    return SeedsResult(
        thetas=jax.tree.map(lambda *leaves: np.stack(leaves), *kept),
        points=points,
        outer_loss=losses,
        inner_steps=live.astype(np.int64).cumsum(axis=0),
        seconds=np.asarray(seconds),
        metrics={name: _of_seeds(column, losses) for name, column in found.items()},
    )


_ALWAYS = ("outer_loss", "num_live_inner_steps")
_BLOCK = 1024
"""Rows that are stacked at a time: an array of its own for each number takes ten times its size."""


class _Rows:
    """Metrics of many steps, on the host."""

    def __init__(self):
        self._blocks: list[dict[str, NDArray]] = []
        self._rows: list[dict[str, NDArray]] = []

    def add(self, row: dict[str, Array]) -> None:
        self._rows.append(jax.device_get(row))
        if len(self._rows) == _BLOCK:
            self._stack()

    def _stack(self) -> None:
        if self._rows:
            self._blocks.append(
                {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}
            )
            self._rows = []

    def stacked(self) -> dict[str, NDArray]:
        """Name -> what all rows have under it, `[rows, ...]`."""
        self._stack()
        return {
            name: np.concatenate([block[name] for block in self._blocks])
            for name in self._blocks[0]
        }


def _of_seeds(column: NDArray, losses: NDArray) -> NDArray:
    """`[outer steps, seeds]`: what is the same for all seeds, too."""
    return np.broadcast_to(column.reshape(len(column), -1), losses.shape)
