"""The asynchronous loop: hands out theta, takes gradients, keeps the roster full,
writes metrics and checkpoints.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from outer_train.run import lock
from outer_train.run.checkpoint import Checkpoints
from outer_train.run.continuation import STRICT, Allowed, rows_so_far
from outer_train.run.directory import RunDirectory
from outer_train.run.loop import LoopSettings
from outer_train.run.progress import QUIET, Show
from outer_train.run.signals import StopSignals
from outer_train.workers.crew import Answer, Crew, foreign
from outer_train.workers.learner import ACCEPTED, REFUSED, Learner, fresh_state
from outer_train.workers.messages import defect, unpack
from outer_train.workers.record import Recorder
from outer_train.workers.roster import Member, Roster
from outer_train.workers.worker import versions

POLL_SECONDS = 0.2
ROSTER_SECONDS = 1.0
"""Between two looks at how many should work."""


class WorkerSettings(NamedTuple):
    """Of the workers of the asynchronous loop.

    Attributes:
      num_workers: how many should work, asked once a second.
      gradients_per_step: gradients that make an outer step.
      parts: names of the parts whose moments are sent; one name where nothing is merged.
      max_staleness: outer steps by which a gradient's theta may be behind.
      weighting: of the parts of a merge.
      start_timeout: seconds in which the first worker must be up.
    """

    num_workers: Callable[[], int]
    gradients_per_step: int
    parts: tuple[str, ...]
    max_staleness: int = 4
    weighting: str = "elementwise"
    start_timeout: float = 60.0


class AsyncResult(NamedTuple):
    """How the loop ended: theta, the signal that ended it early or None,
    and totals for the summary.
    """

    theta: Any
    signal: int | None
    totals: dict[str, Any]


def train_asynchronously(
    crew: Crew,
    theta: Any,
    outer_optimizer: optax.GradientTransformation,
    run: RunDirectory,
    workers: WorkerSettings,
    settings: LoopSettings,
    show: Show = QUIET,
    allowed: Allowed = STRICT,
) -> AsyncResult:
    """Runs until all outer steps are done,
    going on from the newest whole checkpoint if there is one.

    Particles live with their workers and are not saved: a new worker starts new ones at staggered
    steps of their episodes.

    Args:
      crew: makes the workers.
      theta: fresh outer parameters.
      outer_optimizer: an Optax chain.
      run: an existing run directory.
      workers: how many there are, and what they send.
      settings: of the loop.
      show: where progress goes, and a line for each death, refusal and damaged checkpoint.
      allowed: what the run may go on without.

    Raises:
      ValueError: no worker comes in time, workers differ in versions, or die as they start; or as
        `loop.train`.
      OSError: something cannot be read or written, for want of room for example; what was whole is
        whole.
    """
    num_outer_steps, every = settings.num_outer_steps, settings.checkpoint_every
    with (
        lock.hold(run.path),
        Checkpoints(
            run.checkpoints, keep=settings.keep_checkpoints, record=run.newest_checkpoint
        ) as checkpoints,
        StopSignals() as stop,
    ):
        fresh = fresh_state(theta, outer_optimizer)
        step, state = checkpoints.restore_newest(fresh, show.warn, allow_none=allowed.restart) or (
            0,
            fresh,
        )
        learner = Learner(
            state,
            outer_optimizer,
            gradients_per_step=workers.gradients_per_step,
            max_staleness=workers.max_staleness,
            weighting=workers.weighting,
        )
        rows = rows_so_far(run, step, every, allowed, show.warn)
        recorder = Recorder(run, rows, step, settings, workers.parts, show)
        loop = _Loop(crew, learner, Roster(int(state.num_lives)), recorder, workers, show.warn)
        try:
            while learner.step_count < num_outer_steps and stop.signal is None:
                loop.turn()
                done = learner.step_count
                if loop.stepped:
                    checkpoints.seal()
                    if done % every == 0 or done == num_outer_steps:
                        loop.save(checkpoints)
            if stop.signal is not None and learner.step_count not in checkpoints.steps():
                loop.save(checkpoints)
            return AsyncResult(jax.device_get(learner.theta), stop.signal, recorder.totals)
        finally:
            loop.dismiss()
            recorder.close(quietly=sys.exception() is not None)


class _Loop:
    """One turn: hear the workers, step if the batch is full,
    send theta to those who wait, keep the roster full.
    """

    def __init__(self, crew, learner, roster, recorder, settings, warn):
        self._crew, self._learner, self._roster, self._recorder = crew, learner, roster, recorder
        self._settings, self._warn = settings, warn
        self._by_handle: dict[Any, Member] = {}
        self._idle: list[Member] = []
        self._began = time.monotonic()
        self._looked = -float("inf")
        self._someone_came = False
        self._first_step = learner.step_count
        self.stepped = False

    def turn(self) -> None:
        if time.monotonic() - self._looked >= ROSTER_SECONDS:
            self._fill()
        waiting_since = time.perf_counter()
        answers = self._crew.wait(POLL_SECONDS)
        self._recorder.waited(time.perf_counter() - waiting_since)
        for answer in answers:
            if member := self._by_handle.get(answer.handle):
                self._hear(member, answer)
        self.stepped = self._learner.is_ready(self._roster.families)
        if self.stepped:
            batch, merged = self._learner.step()
            self._recorder.write(self._learner.step_count - 1, batch, merged, len(self._by_handle))
        self._send()

    def save(self, checkpoints: Checkpoints) -> None:
        self._recorder.flush()
        state = self._learner.state(self._roster.num_lives)
        checkpoints.save(self._learner.step_count, state, self._recorder.smoothed_loss)

    def dismiss(self) -> None:
        for handle in self._by_handle:
            self._crew.stop(handle)

    def _fill(self) -> None:
        self._looked = time.monotonic()
        num_workers = self._settings.num_workers()
        for place in self._roster.vacancies(num_workers):
            life = self._roster.next_life()
            handle = self._crew.start(place, life)
            self._by_handle[handle] = self._roster.enter(place, life, handle)
        for member in self._roster.superfluous(num_workers):
            self._leave(member)
            self._recorder.event("left", member.name)
        if not self._someone_came and self._looked - self._began > self._settings.start_timeout:
            raise ValueError(
                f"no worker came up within {self._settings.start_timeout:g} s (--connect-timeout): "
                f"has the cluster {num_workers} free CPUs, and the GPUs asked for?"
            )

    def _leave(self, member: Member) -> None:
        self._by_handle.pop(member.handle)
        self._idle = [other for other in self._idle if other is not member]
        self._learner.ledger.forget(member.life)
        self._crew.stop(member.handle)
        self._roster.remove(member)

    def _hear(self, member: Member, answer: Answer) -> None:
        if answer.death is not None:
            self._warn(
                f"{member.name} died ({answer.death}); a new one with new particles takes its place"
            )
            self._recorder.event("died", member.name, answer.death)
            self._looked = -float("inf")
            self._leave(member)
            return
        if answer.description is not None:
            self._check(member, answer.description)
            self._roster.hello(member, answer.description)
            self._someone_came = True
            self._recorder.event("came", member.name)
        else:
            self._take(member, answer.gradient)
        if member.handle in self._by_handle:
            self._idle.append(member)

    def _check(self, member: Member, description: dict[str, Any]) -> None:
        """Raises ValueError if the worker is not of our kind."""
        who = f"worker {member.place} on {description['host']}"
        for name, ours in versions().items():
            theirs = description["versions"][name]
            if theirs != ours and name == "git" and self._learner.step_count > self._first_step:
                # A commit while the run goes on is no reason to end it.
                self._warn(f"{who} runs commit {theirs}, the learner {ours}")
            elif theirs != ours:
                raise ValueError(f"{who} has {name} {theirs}, the learner {ours}")
        if description["size"] != self._learner.size:
            raise ValueError(
                f"{who} has another config: a theta of {description['size']}, the learner's has "
                f"{self._learner.size}"
            )

    def _take(self, member: Member, data: bytes) -> None:
        reason, gradient = None, None
        try:
            gradient = unpack(data, self._learner.size)
            reason = foreign(
                gradient, member.place, member.life, member.family, len(self._settings.parts)
            )
        except ValueError as error:
            reason = str(error)
        verdict = REFUSED if reason else self._learner.offer(gradient)
        self._recorder.heard(verdict, len(data))
        if verdict != REFUSED:
            member.num_refusals = 0
            member.num_delivered += verdict == ACCEPTED
            return
        reason = reason or defect(gradient) or "it is of a theta that does not exist"
        self._warn(f"refused a gradient of {member.name}: {reason}")
        self._recorder.event("refused", member.name, reason)
        if self._roster.refuse(member):
            self._warn(
                f"{member.name} is sent away: its last {member.num_refusals} gradients were refused"
            )
            self._recorder.event("sent away", member.name)
            self._leave(member)

    def _send(self) -> None:
        theta = self._learner.vector.tobytes()
        for member in self._idle:
            self._crew.request(member.handle, theta, self._learner.step_count)
            self._recorder.sent(len(theta))
        self._idle = []
