"""The loop: rows on disk, signals, few steps in flight.

How runs go on is in test_continuation.py.
"""

import errno
import io
import os
import signal

import jax
import optax
import pytest

from learned_opt import mlp
from outer_train.devices import PARTICLES, particle_mesh
from outer_train.estimators import evolution_strategies
from outer_train.problem import inner_problem
from outer_train.run import TERMINAL, LoopSettings, loop, metrics
from outer_train.step import outer_step
from outer_train.truncation import constant
from tasks.analytic.random_quadratic import random_quadratic_family
from tests.support.outer_train.walks import FakeStep, train, without_timings


def test_a_row_for_each_step(new_run):
    run = new_run("a")
    result = train(run)
    rows = metrics.read_rows(run.metrics)
    assert [row["outer_step"] for row in rows] == list(range(23))
    assert rows[-1]["inner_steps"] == 23 * 320
    assert rows[-1]["outer_loss"] == float(result.state.theta**2)
    assert rows[0]["seconds"] is None
    assert all(row["seconds"] > 0 for row in rows[1:])
    assert result.signal is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(new_run, number):
    whole, stopped = new_run("whole"), new_run("stopped")
    train(whole)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = train(
        stopped, FakeStep(lambda step: signal.raise_signal(number) if step == 11 else None)
    )
    assert result.signal == number
    assert int(result.state.step) == 12
    assert len(metrics.read_rows(stopped.metrics)) == 12
    assert (stopped.checkpoints / "12").is_dir()
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    train(stopped)
    assert without_timings(stopped) == without_timings(whole)


def test_a_signal_that_comes_just_after_a_step_stops_the_next(new_run, monkeypatch):
    """The loop asks once a step, so that it never stops without a checkpoint."""
    asked, at = [], loop.SharedSignals.at

    def then_a_signal(self, step):
        answer = at(self, step)
        asked.append(step)
        if step == 12:
            signal.raise_signal(signal.SIGTERM)
        return answer

    monkeypatch.setattr(loop.SharedSignals, "at", then_a_signal)
    run = new_run("a")
    result = train(run)
    assert result.signal == signal.SIGTERM
    assert asked == list(range(14))
    assert int(result.state.step) == len(metrics.read_rows(run.metrics)) == 13
    assert (run.checkpoints / "13").is_dir()


def test_rows_reach_the_disk_every_five_steps(new_run):
    run = new_run("a")
    on_disk = []
    train(
        run,
        FakeStep(lambda step: on_disk.append(len(metrics.read_rows(run.metrics)))),
        checkpoint_every=1000,
    )
    lag = [step - rows for step, rows in enumerate(on_disk)]
    assert max(lag) <= loop.MAX_IN_FLIGHT + metrics.FLUSH_EVERY
    assert on_disk[-1] >= 10


def test_at_most_eight_steps_are_in_flight(new_run, monkeypatch):
    counts = {"made": 0, "read": 0, "most": 0}
    device_get = jax.device_get

    def count_made(step):
        counts["made"] += 1
        counts["most"] = max(counts["most"], counts["made"] - counts["read"])

    def count_read(values):
        counts["read"] += 1
        return device_get(values)

    monkeypatch.setattr(loop.jax, "device_get", count_read)
    train(new_run("a"), FakeStep(count_made), num_outer_steps=100, checkpoint_every=1000)
    assert counts == {"made": 100, "read": 100, "most": loop.MAX_IN_FLIGHT}


@pytest.mark.slow
def test_two_hundred_unattended_steps_on_two_devices(new_run):
    """Unread steps with a psum over two devices deadlocked the CPU backend
    when there were about 50 of them.
    """
    problem = inner_problem(random_quadratic_family(4), mlp(hidden_sizes=(4,)), 20)
    estimator = evolution_strategies(problem, 4, axis_name=PARTICLES, max_num_steps=2)
    step = outer_step([estimator], optax.adam(1e-3), constant(2), particle_mesh(4, 2))
    run = new_run("a")
    theta = jax.device_get(mlp(hidden_sizes=(4,)).init(jax.random.key(0)))
    data = step.place_data(((),))
    loop.train(step, theta, jax.random.key(1), data, run, LoopSettings(200, checkpoint_every=1000))
    rows = metrics.read_rows(run.metrics)
    assert len(rows) == 200
    assert rows[-1]["inner_steps"] == sum(row["num_live_inner_steps"] for row in rows)
    assert all(row["truncation_length"] == 2 for row in rows)


@pytest.mark.parametrize("settings", [{"num_outer_steps": 0}, {"checkpoint_every": 0}])
def test_counts_below_one_are_refused(new_run, settings):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        train(new_run("a"), **settings)


def test_summary_windows():
    rows = [
        {
            "outer_step": i,
            "outer_loss": 100.0 - i,
            "inner_steps": 10 * (i + 1),
            "num_live_inner_steps": 10,
            "num_non_finite": 1,
            "seconds": 0.5 if i else None,
        }
        for i in range(200)
    ]
    summary = metrics.summarize(rows)
    assert summary["outer_loss_window"] == 10
    assert summary["outer_loss_first"] == 95.5
    assert summary["outer_loss_last"] == -94.5
    assert summary["inner_steps_per_second"] == 20.0
    assert summary["num_non_finite"] == 200
    assert metrics.summarize(rows[:4])["outer_loss_window"] == 2


def test_values_that_are_not_finite_become_null(tmp_path):
    writer = metrics.MetricsWriter(tmp_path)
    writer.write({"outer_step": 0, "outer_loss": float("nan"), "grad_norm": float("inf"), "x": 0.1})
    writer.close()
    assert metrics.read_rows(tmp_path / "metrics.jsonl") == [
        {"outer_step": 0, "outer_loss": None, "grad_norm": None, "x": 0.1}
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_hang_up_saves_like_sigterm_unless_it_is_ignored(new_run):
    hang_up = FakeStep(lambda step: signal.raise_signal(signal.SIGHUP) if step == 3 else None)
    # These tests may run under nohup themselves.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        result = train(new_run("a"), hang_up)
        assert (result.signal, int(result.state.step)) == (signal.SIGHUP, 4)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        result = train(new_run("b"), hang_up)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (result.signal, int(result.state.step)) == (None, 23)


def test_nothing_is_shown_unasked(new_run, capsys):
    train(new_run("a"), num_outer_steps=3)
    assert capsys.readouterr() == ("", "")
    train(new_run("b"), show=TERMINAL, num_outer_steps=3)
    shown = capsys.readouterr()
    assert [line.split("  ")[0] for line in shown.out.splitlines()] == [
        "outer step 0/3",
        "outer step 1/3",
        "outer step 3/3",
    ]
    assert shown.err == ""


def test_a_display_that_fails_ends_no_run(new_run, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    run = new_run("a")
    monkeypatch.setattr("sys.stdout", Closed())
    train(run, show=TERMINAL, num_outer_steps=7)
    monkeypatch.setattr("sys.stdout", None)
    train(run, show=TERMINAL)
    assert len(metrics.read_rows(run.metrics)) == 23
    assert (run.checkpoints / "23").is_dir()
