"""The asynchronous loop with a crew in this process:
deaths, arrivals, departures, refusals, resume.
"""

import json
from functools import partial

import jax
import numpy as np
import optax
import pytest

from outer_train.run import QUIET, LoopSettings, directory, metrics
from outer_train.workers._train import Answer, WorkerSettings, train_asynchronously
from outer_train.workers.worker import Worker
from tests.support.outer_train.sources import NUM_SAMPLES, SIZE, NumpyWorker, parabola

KEY = np.asarray(jax.random.key_data(jax.random.key(0)))


class LocalCrew:
    """Workers in this process, answering one at a time in a fixed order.

    `before` may meddle with each answer.
    """

    def __init__(self, make_worker=NumpyWorker, before=lambda crew, handle, number: None):
        self.make_worker, self.before = make_worker, before
        self.workers, self.queue, self.number, self.stopped = {}, [], 0, []

    def start(self, place, life):
        self.workers[life] = self.make_worker(place, life)
        self.queue.append((life, None))
        return life

    def request(self, handle, theta, version):
        self.queue.append((handle, (theta, version)))

    def wait(self, timeout):
        if not self.queue:
            return []
        handle, request = self.queue.pop(0)
        if request is None:
            return [Answer(handle, description=self.workers[handle].describe())]
        self.number += 1
        meddled = self.before(self, handle, self.number)
        return meddled or [Answer(handle, gradient=self.workers[handle].gradient(*request))]

    def stop(self, handle):
        self.stopped.append(handle)
        self.queue = [entry for entry in self.queue if entry[0] != handle]


@pytest.fixture
def new_run(tmp_path):
    return lambda name="run": directory.create(
        tmp_path / name, {"type": "test"}, config_file=None, overwrite=False
    )


def go(crew, run, num_workers=lambda: 3, num_outer_steps=40, warnings=None, **settings):
    workers = WorkerSettings(num_workers, 2, ("parabola",), **settings)
    theta, settings = np.zeros(SIZE, np.float32), LoopSettings(num_outer_steps, checkpoint_every=10)
    show = QUIET._replace(warn=(warnings if warnings is not None else []).append)
    return train_asynchronously(crew, theta, optax.sgd(0.2), run, workers, settings, show)


def counted(run):
    return [name for row in metrics.read_rows(run.metrics) for name in row["gradients"]]


def events(run, kind):
    rows = [json.loads(line) for line in run.worker_log.read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


def test_finds_the_minimum_and_says_how(new_run):
    run = new_run()
    result = go(LocalCrew(lambda place, life: Worker(parabola, place, life, KEY)), run)
    rows = metrics.read_rows(run.metrics)
    np.testing.assert_allclose(result.theta, 1.0, atol=0.1)
    assert [row["outer_step"] for row in rows] == list(range(40))
    assert all(row["num_gradients"] == 2 and row["num_workers"] == 3 for row in rows)
    assert rows[-1]["inner_steps"] == 80 * 2 * NUM_SAMPLES * 3
    assert all(0 <= row["worker_idle"] <= 1 and 0 <= row["learner_idle"] <= 1 for row in rows[1:])
    assert sum(row["bytes_sent"] for row in rows) == 4 * SIZE * (
        80 + 3 - 1
    )  # three at first, then one for each answer but the last
    assert metrics.summarize(rows)["num_outer_steps"] == 40


def test_a_death_costs_one_gradient_and_nothing_counts_twice(new_run):
    def die(crew, handle, number):
        return [Answer(handle, death="killed")] if number % 13 == 0 else None

    run, warnings = new_run(), []
    crew = LocalCrew(before=die)
    result = go(crew, run, warnings=warnings)
    np.testing.assert_allclose(result.theta, 1.0, atol=0.1)
    names = counted(run)
    deaths = crew.number // 13
    assert len(names) == len(set(names)) == 80
    assert len(warnings) == len(events(run, "died")) == deaths >= 6
    assert all(
        "died (killed); a new one with new particles takes its place" in line for line in warnings
    )
    assert max(crew.workers) + 1 == 3 + deaths  # a life for each, none given out twice


def test_a_worker_that_repeats_itself_is_counted_once(new_run):
    def repeat(crew, handle, number):
        return [crew.again] * 2 if getattr(crew, "again", None) and number % 5 == 0 else None

    crew = LocalCrew(before=repeat)
    gradient = crew.wait

    def remember(timeout):
        answers = gradient(timeout)
        if answers and answers[0].gradient:
            crew.again = answers[0]
        return answers

    crew.wait = remember
    run = new_run()
    result = go(crew, run)
    names = counted(run)
    assert len(names) == len(set(names)) == 80
    assert result.totals["num_duplicates"] > 10


def test_staleness_is_bounded_and_counted(new_run):
    """One worker of three is slow: its gradients come many steps late."""
    late = {}

    def delay(crew, handle, number):
        if handle == 2 and handle not in late:
            late[handle] = number
            return [
                Answer(
                    handle,
                    gradient=crew.workers[handle].gradient(np.zeros(SIZE, np.float32).tobytes(), 0),
                )
            ]
        return None

    crew = LocalCrew(before=delay)
    # The third worker arrives once six steps are done, and answers for the theta of step 0.
    run = new_run()
    steps = lambda: len(crew.workers) and (3 if crew.number > 12 else 2)
    result = go(crew, run, num_workers=lambda: steps() or 2, max_staleness=3)
    rows = metrics.read_rows(run.metrics)
    assert result.totals["num_stale"] == sum(row["num_stale"] for row in rows) == len(late)
    assert max(row["staleness_max"] for row in rows) <= 3


def test_nan_is_refused_and_named(new_run):
    run, warnings = new_run(), []
    result = go(LocalCrew(partial(NumpyWorker, sick=1)), run, warnings=warnings)
    np.testing.assert_allclose(result.theta, 1.0, atol=0.1)
    refusals = [line for line in warnings if "refused a gradient of worker 1 (life 1" in line]
    assert len(refusals) == result.totals["num_refused"] == 10
    assert "its mean is not finite" in refusals[0]
    assert "worker 1" in warnings[-1]
    assert "sent away" in warnings[-1]


def test_all_sick_is_an_error(new_run):
    with pytest.raises(ValueError, match="every worker's gradients were refused"):
        go(LocalCrew(partial(NumpyWorker, sick=0)), new_run(), num_workers=lambda: 1)


def test_workers_join_and_leave(new_run, monkeypatch):
    monkeypatch.setattr("outer_train.workers._train.ROSTER_SECONDS", 0.0)
    run = new_run()
    crew = LocalCrew()
    wanted = lambda: 1 if crew.number < 20 else 4 if crew.number < 50 else 2
    result = go(crew, run, num_workers=wanted)
    numbers = [row["num_workers"] for row in metrics.read_rows(run.metrics)]
    assert (numbers[3], max(numbers), numbers[-1]) == (1, 4, 2)
    assert len(events(run, "came")) == 4
    assert len(events(run, "left")) == 2
    np.testing.assert_allclose(result.theta, 1.0, atol=0.1)


def test_families_of_other_workers_are_averaged(new_run):
    """Targets 1 and 2, three workers, so that the first family has two: the mean of both is 1.5."""
    run = new_run()
    result = go(LocalCrew(partial(NumpyWorker, num_families=2)), run)
    np.testing.assert_allclose(result.theta, 1.5, atol=0.1)
    assert {"outer_loss_0", "outer_loss_1"} <= set(metrics.read_rows(run.metrics)[-1])


def test_a_killed_learner_goes_on_from_its_checkpoint(new_run):
    def die(crew, handle, number):
        if number == 55:
            raise MemoryError("killed")

    run = new_run()
    with pytest.raises(MemoryError):
        go(LocalCrew(before=die), run)
    assert len(metrics.read_rows(run.metrics)) > 20
    crew = LocalCrew()
    result = go(crew, run)
    assert [row["outer_step"] for row in metrics.read_rows(run.metrics)] == list(range(40))
    assert min(crew.workers) == 3  # new lives, new particles
    names = counted(run)
    assert len(names) == len(set(names)) == 80
    np.testing.assert_allclose(result.theta, 1.0, atol=0.1)


def test_other_versions_end_the_run(new_run, monkeypatch):
    describe = NumpyWorker.describe

    def older(self):
        found = describe(self)
        return found | {"versions": found["versions"] | {"jax": "0.1"}}

    monkeypatch.setattr(NumpyWorker, "describe", older)
    with pytest.raises(ValueError, match=r"worker 0 on .* has jax 0.1, the learner"):
        go(LocalCrew(), new_run())


def test_workers_that_die_as_they_start_end_the_run(new_run):
    crew = LocalCrew()
    crew.wait = lambda timeout: [Answer(life, death="exit 13") for life in list(crew.workers)[-1:]]
    with pytest.raises(ValueError, match="worker 0 died 3 times before it could start"):
        go(crew, new_run(), num_workers=lambda: 1)


def test_nobody_comes(new_run):
    crew = LocalCrew()
    crew.wait = lambda timeout: []
    with pytest.raises(ValueError, match=r"no worker came up within 0.01 s .*3 free CPUs"):
        go(crew, new_run(), start_timeout=0.01)


def test_a_commit_during_the_run_does_not_end_it(new_run, monkeypatch):
    describe = NumpyWorker.describe

    def newer(self):
        found = describe(self)
        return found | {"versions": found["versions"] | ({"git": "abc"} if self.life > 2 else {})}

    monkeypatch.setattr(NumpyWorker, "describe", newer)
    warnings = []
    die = lambda crew, handle, number: [Answer(handle, death="killed")] if number == 20 else None
    go(LocalCrew(before=die), new_run(), warnings=warnings)
    assert len([line for line in warnings if "runs commit abc, the learner" in line]) == 1
