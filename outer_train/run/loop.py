"""The training loop: outer steps, metrics, checkpoints, signals.

A run that was killed and resumed gives bitwise the metrics of one that was not (on the same
devices; timings apart): every random draw of a step follows from the run's key and the step's
number, and a checkpoint holds all that is carried. Of several processes each runs the same loop,
and the first one writes.
"""

import contextlib
import dataclasses
import sys
import time
from collections import deque
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Sharding

from outer_train.processes import cluster
from outer_train.run import lock
from outer_train.run import metrics as metrics_lib
from outer_train.run.checkpoint import Checkpoints
from outer_train.run.continuation import STRICT, Allowed, rows_so_far
from outer_train.run.directory import RunDirectory
from outer_train.run.progress import QUIET, Show
from outer_train.run.signals import SharedSignals, StopSignals
from outer_train.run.trackers import open_all
from outer_train.step import OuterState, OuterStep
from tasks import Feed, Stream, as_feed

MAX_IN_FLIGHT = 8
"""Outer steps dispatched and not yet read. About 50 unread steps deadlock the CPU backend once
there is a psum over two or more devices; with none in flight the devices would wait for the
host."""
MAX_WINDOWS_IN_FLIGHT = 2
"""The same where data come from the host: each step holds a window of its own on the devices."""
SMOOTHING_WINDOW = 50
"""Rows that the smoothed outer loss is a mean of."""


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How long a run goes on and what it keeps;
    both loops are told so, in step and asynchronous.
    """

    num_outer_steps: int
    """At which the run is complete."""
    checkpoint_every: int = 100
    """Outer steps between two checkpoints; the last step is always saved."""
    keep_checkpoints: int = 3
    """Newest ones kept."""
    trackers: tuple[str, ...] = ()
    """Told the numbers of each outer step, too: of `outer_train.run.trackers.TRACKERS`."""

    def __post_init__(self):
        if self.num_outer_steps < 1 or self.checkpoint_every < 1:
            raise ValueError(
                "num_outer_steps and checkpoint_every must be at least 1, "
                f"got {self.num_outer_steps} and {self.checkpoint_every}"
            )


class LoopResult(NamedTuple):
    """How the loop ended.

    Attributes:
      state: after the last step.
      signal: SIGINT, SIGTERM or SIGHUP if one ended the loop early, else None.
    """

    state: OuterState
    signal: int | None


class Checkpointed(NamedTuple):
    """All that a run carries from step to step; `windows` says where each family's windows are."""

    state: OuterState
    key: Array
    windows: tuple = ()


def train(
    outer_step: OuterStep,
    theta: Any,
    key: Array,
    datas: tuple | Feed,
    run: RunDirectory,
    settings: LoopSettings,
    show: Show = QUIET,
    allowed: Allowed = STRICT,
) -> LoopResult:
    """Runs outer steps until all are done,
    going on from the newest whole checkpoint if there is one.

    SIGINT, SIGTERM or SIGHUP let the current step end, save, and return; a second one acts as
    usual.

    Args:
      outer_step: from `outer_train.step.outer_step`.
      theta: fresh outer parameters; not used where a checkpoint is.
      key: the run's key.
      datas: one entry a family, placed on the devices, or the feed that gives each step's.
      run: an existing run directory.
      settings: of the loop.
      show: where progress goes, and a line for each damaged checkpoint.
      allowed: what the run may go on without.

    Raises:
      ValueError: no checkpoint can be read though there are some, rows or checkpoints are missing,
        another process trains this run, or a tracker cannot start.
      OSError: something cannot be read or written, for want of room for example; what was whole is
        whole.
    """
    key_init, key_steps = jax.random.split(key)
    num_outer_steps, every = settings.num_outer_steps, settings.checkpoint_every
    feed = as_feed(datas)
    with (
        feed.stream() as stream,
        lock.hold_by_first(run.path),
        Checkpoints(
            run.checkpoints, keep=settings.keep_checkpoints, record=run.newest_checkpoint
        ) as checkpoints,
        StopSignals() as stop,
    ):
        fresh = outer_step.init(theta, key_init)
        # A restored key is bound to its devices,
        # so it must be on those of the state from the start.
        place = fresh.step.sharding
        fresh = Checkpointed(fresh, _placed(key_steps, place), _where(stream, place))
        step, carried = checkpoints.restore_newest(
            fresh, show.warn, allow_none=allowed.restart
        ) or (0, fresh)
        stream.restore(carried.windows)
        rows = cluster.from_first(
            lambda: rows_so_far(run, step, every, allowed, show.warn)[-SMOOTHING_WINDOW:]
        )
        recorder = _Recorder(run, rows, step, settings, show, max_in_flight(feed))
        signals = SharedSignals(stop, step)
        try:
            state, stopped = carried.state, signals.at(step)
            while step < num_outer_steps and stopped is None:
                state, metrics = outer_step.step(state, carried.key, stream.next())
                recorder.add(step, metrics)
                step += 1
                checkpoints.seal()
                stopped = signals.at(step)  # once a step: what stops the loop is saved
                if step % every == 0 or step == num_outer_steps or stopped is not None:
                    recorder.drain()
                    carried = carried._replace(state=state, windows=_where(stream, place))
                    checkpoints.save(step, carried, recorder.smoothed_loss)
            return LoopResult(state, stopped)
        finally:
            recorder.close(quietly=sys.exception() is not None)


def max_in_flight(feed: Feed) -> int:
    """How many outer steps may be dispatched and not yet read."""
    return MAX_WINDOWS_IN_FLIGHT if feed.moves else MAX_IN_FLIGHT


def _where(stream: Stream, sharding: Sharding) -> tuple[Array, ...]:
    """The stream's state on all devices of a mesh, as a checkpoint keeps it."""
    return jax.device_put(stream.state(), sharding)


def _placed(key: Array, sharding: Sharding) -> Array:
    """The key on all devices of a mesh, those of other processes too,
    which `device_put` does for plain data only.
    """
    data = jax.device_put(np.asarray(jax.random.key_data(key)), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


class _Recorder:
    """Reads metrics late, so that the devices never wait for the host;
    the first process writes them in order.
    """

    def __init__(
        self,
        run: RunDirectory,
        rows: list[dict[str, Any]],
        step: int,
        settings: LoopSettings,
        show: Show,
        in_flight: int,
    ):
        self._in_flight = in_flight
        self._pending: deque[tuple[int, dict[str, Array]]] = deque()
        first = cluster.is_first()
        self._writer = (
            metrics_lib.MetricsWriter(run.path, open_all(settings.trackers, run, show.warn))
            if first
            else None
        )
        self._progress = show.progress(settings.num_outer_steps, step) if first else None
        self._recent = deque(rows, maxlen=SMOOTHING_WINDOW)
        self._inner_steps = rows[-1]["inner_steps"] if rows else 0
        self._last_time: float | None = None

    @property
    def smoothed_loss(self) -> float | None:
        return metrics_lib.mean_loss(list(self._recent))

    def add(self, step: int, metrics: dict[str, Array]) -> None:
        self._pending.append((step, metrics))
        if len(self._pending) >= self._in_flight:
            self._retire()

    def drain(self) -> None:
        while self._pending:
            self._retire()
        if self._writer:
            self._writer.flush(to_disk=True)

    def _retire(self) -> None:
        step, metrics = self._pending.popleft()
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        now = time.perf_counter()
        self._inner_steps += values["num_live_inner_steps"]
        row = {
            "outer_step": step,
            **values,
            "inner_steps": self._inner_steps,
            # The first step of a session waits for its compilation,
            # and so do the rows read together with it.
            "seconds": None if self._last_time is None else now - self._last_time,
        }
        self._last_time = now
        self._recent.append(row)
        if self._writer:
            self._writer.write(row)
            self._progress.update(row, self.smoothed_loss)

    def close(self, quietly: bool) -> None:
        """With `quietly`, rows that cannot be written are no error: one is on its way out."""
        if self._writer:
            self._progress.close()
            with contextlib.suppress(*((OSError,) if quietly else ())):
                self._writer.close()
