"""Several seeds of one outer-training run as one program:
everything but the mesh is mapped over seeds.

Each device holds its share of every seed's particles. Seeds share the lengths of truncations,
nothing else: what a seed draws follows from the run's key and its own number, whichever seeds run
beside it.
"""

import time
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from numpy.typing import NDArray

from learned_opt.disk import files
from outer_train.checks import LARGEST_COUNT, check_count, check_within
from outer_train.devices import PARTICLES
from outer_train.estimators.base import GradientEstimator
from outer_train.particles.collectives import vary
from outer_train.run.loop import max_in_flight
from outer_train.step import OuterState, OuterStep, outer_step
from outer_train.truncation import TruncationSchedule
from tasks import Feed, Stream, TaskFamily, as_feed

SECONDS_TO_CHECKPOINT = 180.0
"""Of outer-training, between two checkpoints of several seeds."""


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
    *,
    families: Sequence[TaskFamily] = (),
) -> OuterStep:
    """The outer step of all seeds at once: theta, outer optimizer and losses lead with the seeds.

    Arguments as in `outer_train.step.outer_step`; the estimators are built with the mesh's axis
    name. A step that one seed cannot take is not taken by that seed alone.
    """
    for seed in seeds:
        check_within(-LARGEST_COUNT, LARGEST_COUNT, seed=seed)
    numbers = np.asarray(seeds, np.int32)
    mapped = [_over_seeds(estimator, numbers) for estimator in estimators]
    return outer_step(
        mapped, outer_optimizer, truncation, mesh, families=families, map_update=jax.vmap
    )


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
    *,
    checkpoint: Path | None = None,
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
      checkpoint: file that all is written to every `SECONDS_TO_CHECKPOINT`, and from which the same
        call goes on as if nothing had been; one that is damaged is warned of and begun anew.
        Nothing is written if None.
      keep: how the names of the metrics begin that are kept of each step.

    Raises:
      ValueError: for counts below 1, or a checkpoint of another run.
      OSError: the checkpoint cannot be written.
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
    feed = as_feed(datas)
    with feed.stream() as stream:
        course = _Course.of(state)
        if checkpoint is not None:
            course = _restored(checkpoint, course, step, stream) or course
        for done in range(len(course.rows) + 1, num_outer_steps + 1):
            course.take(step, key_steps, stream, max_in_flight(feed), keep)
            if done in points:
                course.keep_theta()
            if checkpoint is not None and course.is_due():
                course.save(checkpoint, stream)
        course.read_rows()
    found = _stacked(course.rows)
    losses, live = (found.pop(name) for name in _ALWAYS)
    return SeedsResult(
        thetas=jax.tree.map(lambda *leaves: np.stack(leaves), *course.thetas),
        points=points,
        outer_loss=losses,
        inner_steps=live.astype(np.int64).cumsum(axis=0),
        seconds=np.asarray(course.seconds[:-1]),
        metrics={name: _of_seeds(column, losses) for name, column in found.items()},
    )


def _stacked(rows: list[dict[str, NDArray]]) -> dict[str, NDArray]:
    """Name -> what all rows have under it, `[rows, ...]`."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _of_seeds(column: NDArray, losses: NDArray) -> NDArray:
    """`[outer steps, seeds]`: what is the same for all seeds, too."""
    return np.broadcast_to(column.reshape(len(column), -1), losses.shape)


_ALWAYS = ("outer_loss", "num_live_inner_steps")


class _Course:
    """What all seeds have come to.

    Attributes:
      state: after the last step.
      thetas: kept so far, on the host.
      rows: the metrics of each step that was read.
      seconds: between two points; the last of them is not over.
    """

    def __init__(self, state: OuterState, thetas: list, rows: list, seconds: list[float]):
        self.state, self.thetas, self.rows, self.seconds = state, thetas, rows, seconds
        self._pending: deque = deque()
        self._since = self._saved = time.perf_counter()

    @classmethod
    def of(cls, state: OuterState) -> "_Course":
        """Before the first step."""
        return cls(state, [jax.device_get(state.theta)], [], [0.0])

    def take(
        self, step: OuterStep, key: Array, stream: Stream, in_flight: int, keep: tuple[str, ...]
    ) -> None:
        """One step, with so many that are not yet read; `keep` as in `train_seeds`."""
        self.state, metrics = step.step(self.state, key, stream.next())
        self._pending.append(
            {n: x for n, x in metrics.items() if n in _ALWAYS or n.startswith(keep)}
        )
        if len(self._pending) >= in_flight:
            self.rows.append(jax.device_get(self._pending.popleft()))

    def keep_theta(self) -> None:
        """At a point."""
        self.thetas.append(jax.device_get(self.state.theta))
        self._count_seconds()
        self.seconds.append(0.0)

    def read_rows(self) -> None:
        """Reads the rows of all steps that were taken."""
        while self._pending:
            self.rows.append(jax.device_get(self._pending.popleft()))

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.perf_counter() - self._saved >= SECONDS_TO_CHECKPOINT

    def save(self, path: Path, stream: Stream) -> None:
        """Replaces the checkpoint; its time counts for no interval."""
        self.read_rows()
        self._count_seconds()
        kept = jax.tree.leaves(jax.tree.map(lambda *x: np.stack(x), *self.thetas))
        arrays = {f"thetas_{i}": leaf for i, leaf in enumerate(kept)}
        arrays |= {f"row_{name}": column for name, column in _stacked(self.rows).items()}
        arrays |= {f"state_{i}": _plain(x) for i, x in enumerate(jax.tree.leaves(self.state))}
        arrays |= {f"window_{i}": x for i, x in enumerate(stream.state())}
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_npz(path, arrays | {"seconds": np.asarray(self.seconds)})
        self._since = self._saved = time.perf_counter()

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.seconds[-1] += now - self._since
        self._since = now


def _restored(path: Path, fresh: _Course, step: OuterStep, stream: Stream) -> _Course | None:
    """What a checkpoint holds; None where there is none, or a damaged one."""
    try:
        # Of a file of its own, NumPy would leave a damaged one open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(f"{path} is damaged ({error}); it is begun anew", stacklevel=3)
        return None
    leaves, structure = jax.tree.flatten(fresh.state)
    found = [arrays[name] for name in _names("state", arrays)]
    if [x.shape for x in found] != [_plain(x).shape for x in leaves]:
        raise ValueError(f"{path} is a checkpoint of another run")
    state = jax.tree.unflatten(structure, map(_like, found, leaves))
    state = jax.device_put(state, step.shardings(state))
    stream.restore([arrays[name] for name in _names("window", arrays)])
    kept = [arrays[name] for name in _names("thetas", arrays)]
    of_theta = jax.tree.structure(fresh.state.theta)
    thetas = [jax.tree.unflatten(of_theta, leaves) for leaves in zip(*kept, strict=True)]
    columns = {n.removeprefix("row_"): x for n, x in arrays.items() if n.startswith("row_")}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _Course(state, thetas, rows, arrays["seconds"].tolist())


def _names(kind: str, arrays: dict[str, NDArray]) -> list[str]:
    return [name for i in range(len(arrays)) if (name := f"{kind}_{i}") in arrays]


def _plain(leaf: Array) -> NDArray:
    """A leaf as a file can hold it: a key as its data."""
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.device_get(jax.random.key_data(leaf) if is_key else leaf)


def _like(found: NDArray, leaf: Array) -> NDArray | Array:
    """Inverse of `_plain`; files know no bfloat16 by its name."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(found, impl=jax.random.key_impl(leaf))
    return found.view(leaf.dtype)
