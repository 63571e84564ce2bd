"""The loop: exact resume, rows on disk, signals, few steps in flight."""

import concurrent.futures
import errno
import io
import json
import os
import shutil
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt import mlp
from outer_train import loop, metrics, run_dir, run_lock
from outer_train.continuation import Allowed
from outer_train.devices import PARTICLES, particle_mesh
from outer_train.estimators import evolution_strategies
from outer_train.problem import inner_problem
from outer_train.step import outer_step
from outer_train.truncation import constant
from tasks.random_quadratic import random_quadratic_family


class FakeState(NamedTuple):
    theta: jax.Array
    step: jax.Array


class FakeStep(NamedTuple):
    """A random walk with the interface of `OuterStep`; `before` is called with each step's number."""

    before: object = lambda step: None

    def init(self, theta, key):
        return FakeState(theta + jax.random.normal(key, ()), jnp.int32(0))

    def step(self, state, key, datas):
        self.before(int(state.step))
        return walk(state, key)


@jax.jit
def walk(state, key):
    theta = state.theta + jax.random.normal(jax.random.fold_in(key, state.step), ())
    row = {
        "outer_loss": theta**2,
        "truncation_length": jnp.int32(10),
        "num_non_finite": jnp.int32(0),
        "num_live_inner_steps": jnp.int32(320),
    }
    return FakeState(theta, state.step + 1), row


@pytest.fixture
def new_run(tmp_path):
    def make(name):
        return run_dir.create(tmp_path / name, {"type": "test"}, config_file=None, overwrite=False)

    return make


def train(run, step=None, **settings):
    settings = {"num_outer_steps": 23, "checkpoint_every": 5} | settings
    return loop.train(step or FakeStep(), jnp.float32(0), jax.random.key(7), (), run, **settings)


def without_timings(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in metrics.read_rows(run.metrics)]


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


@pytest.mark.parametrize("died_at", [3, 5, 14, 22])
def test_a_run_that_died_goes_on_bitwise(new_run, died_at):
    def die(step):
        if step == died_at:
            raise MemoryError("killed")

    whole, killed = new_run("whole"), new_run("killed")
    expected = train(whole).state
    with pytest.raises(MemoryError):
        train(killed, FakeStep(die))
    # Rows beyond the last checkpoint, and one cut short, are what a kill leaves behind.
    with killed.metrics.open("a") as file:
        file.write(json.dumps({"outer_step": died_at, "outer_loss": -1.0}) + '\n{"outer_st')
    resumed = train(killed).state
    assert without_timings(killed) == without_timings(whole)
    assert float(resumed.theta) == float(expected.theta)


def test_a_complete_run_stays_as_it_is(new_run):
    run = new_run("a")
    train(run)
    before = run.metrics.read_bytes()
    assert int(train(run).state.step) == 23
    assert run.metrics.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(new_run, number):
    whole, stopped = new_run("whole"), new_run("stopped")
    train(whole)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = train(stopped, FakeStep(lambda step: os.kill(os.getpid(), number) if step == 11 else None))
    assert result.signal == number
    assert int(result.state.step) == 12
    assert len(metrics.read_rows(stopped.metrics)) == 12
    assert (stopped.checkpoints / "12").is_dir()
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    train(stopped)
    assert without_timings(stopped) == without_timings(whole)


def test_rows_reach_the_disk_every_five_steps(new_run):
    run = new_run("a")
    on_disk = []
    train(run, FakeStep(lambda step: on_disk.append(len(metrics.read_rows(run.metrics)))), checkpoint_every=1000)
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


def test_two_hundred_unattended_steps_on_two_devices(new_run):
    """Unread steps with a psum over two devices deadlocked the CPU backend when there were about 50 of them."""
    problem = inner_problem(random_quadratic_family(4), mlp(hidden_sizes=(4,)), 20)
    estimator = evolution_strategies(problem, 4, axis_name=PARTICLES, max_num_steps=2)
    step = outer_step([estimator], optax.adam(1e-3), constant(2), particle_mesh(4, 2))
    run = new_run("a")
    theta = jax.device_get(mlp(hidden_sizes=(4,)).init(jax.random.key(0)))
    data = step.place_data(((),))
    loop.train(step, theta, jax.random.key(1), data, run, num_outer_steps=200, checkpoint_every=1000)
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


def test_a_run_is_not_overwritten_unasked(new_run, tmp_path):
    run = new_run("a")
    (run.path / "notes.txt").write_text("mine")
    train(run, num_outer_steps=3)
    with pytest.raises(ValueError, match="holds a run"):
        new_run("a")
    again = run_dir.create(tmp_path / "a", {"type": "second"}, config_file=None, overwrite=True)
    assert sorted(path.name for path in again.path.iterdir()) == ["config.json", "notes.txt", "versions.json"]
    assert run_dir.open_run(again.path)[1] == {"type": "second"}


def test_values_that_are_not_finite_become_null(tmp_path):
    writer = metrics.MetricsWriter(tmp_path)
    writer.write({"outer_step": 0, "outer_loss": float("nan"), "grad_norm": float("inf"), "x": 0.1})
    writer.close()
    assert metrics.read_rows(tmp_path / "metrics.jsonl") == [
        {"outer_step": 0, "outer_loss": None, "grad_norm": None, "x": 0.1}
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_hang_up_saves_like_sigterm_unless_it_is_ignored(new_run):
    hang_up = FakeStep(lambda step: os.kill(os.getpid(), signal.SIGHUP) if step == 3 else None)
    result = train(new_run("a"), hang_up)
    assert (result.signal, int(result.state.step)) == (signal.SIGHUP, 4)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = train(new_run("b"), hang_up)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (result.signal, int(result.state.step)) == (None, 23)


@pytest.mark.parametrize("lose", ["folder", "checkpoints"])
@pytest.mark.parametrize("old", [False, True])
def test_lost_checkpoints_are_told_and_a_restart_keeps_the_rows(new_run, lose, old):
    whole, run = new_run("whole"), new_run("a")
    train(whole)
    train(run, num_outer_steps=12)
    shutil.rmtree(run.checkpoints)
    if lose == "checkpoints":
        run.checkpoints.mkdir()
    if old:
        run.newest_checkpoint.unlink()
    before = run.metrics.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoints in .* are gone.*, but .*metrics\.jsonl has 12 rows\n"):
        train(run)
    assert run.metrics.read_bytes() == before
    warnings = []
    train(run, allowed=Allowed(restart=True), warn=warnings.append)
    assert len(warnings) == 1
    assert (run.path / "metrics.jsonl.old-1").read_bytes() == before
    assert without_timings(run) == without_timings(whole)


@pytest.mark.parametrize(
    ("kept", "says"), [(None, "is missing or has no rows"), (7, "ends with the row of outer step 6")]
)
def test_missing_rows_are_told_and_stay_missing_if_allowed(new_run, kept, says):
    run = new_run("a")
    train(run, num_outer_steps=10)
    rows = run.metrics.read_bytes().splitlines(keepends=True)
    run.metrics.unlink() if kept is None else run.metrics.write_bytes(b"".join(rows[:kept]))
    with pytest.raises(
        ValueError, match=f"{says}, but the newest checkpoint is of outer step 10\n.*allow-missing-rows"
    ):
        train(run)
    train(run, allowed=Allowed(missing_rows=True), warn=lambda line: None)
    assert [row["outer_step"] for row in metrics.read_rows(run.metrics)] == [*range(kept or 0), *range(10, 23)]


def test_a_row_out_of_place_and_a_broken_one_are_told(new_run):
    run = new_run("a")
    train(run, num_outer_steps=10)
    rows = run.metrics.read_bytes().splitlines(keepends=True)
    run.metrics.write_bytes(b"".join(rows[:4] + rows[5:]))
    with pytest.raises(ValueError, match="has no row of outer step 4 in its place"):
        train(run)
    run.metrics.write_bytes(b"".join([*rows[:4], b"{\n", *rows[5:]]))
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 5 is no row"):
        train(run)
    before = run.metrics.read_bytes()
    train(run, allowed=Allowed(missing_rows=True), warn=lambda line: None)
    assert [row["outer_step"] for row in metrics.read_rows(run.metrics)] == [*range(4), *range(5, 23)]
    assert (run.path / "metrics.jsonl.old-1").read_bytes() == before


def test_a_run_that_is_training_is_not_trained_by_another(new_run):
    run = new_run("a")

    def intrude(step):
        if step == 3:
            assert json.loads((run.path / run_lock.NAME).read_text())["pid"] == os.getpid()
            with pytest.raises(ValueError, match="being written by another thread"):
                in_thread(lambda: train(run))

    train(run, FakeStep(intrude), num_outer_steps=5)
    assert not (run.path / run_lock.NAME).exists()


def in_thread(call):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_a_display_that_fails_ends_no_run(new_run, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    run = new_run("a")
    monkeypatch.setattr("sys.stdout", Closed())
    train(run, num_outer_steps=7)
    monkeypatch.setattr("sys.stdout", None)
    train(run)
    assert len(metrics.read_rows(run.metrics)) == 23
    assert (run.checkpoints / "23").is_dir()
