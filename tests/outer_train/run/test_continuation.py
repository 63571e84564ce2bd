"""A run goes on bitwise from its newest checkpoint, or says what is missing; it has one writer."""

import concurrent.futures
import json
import os
import shutil

import pytest

from outer_train.run import QUIET, Allowed, directory, lock, metrics
from tests.support.outer_train.walks import FakeStep, train, without_timings


@pytest.mark.parametrize(
    "died_at", [14, *(pytest.param(step, marks=pytest.mark.slow) for step in (3, 5, 22))]
)
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


def test_a_run_is_not_overwritten_unasked(new_run, tmp_path):
    run = new_run("a")
    (run.path / "notes.txt").write_text("mine")
    train(run, num_outer_steps=3)
    with pytest.raises(ValueError, match="holds a run"):
        new_run("a")
    again = directory.create(tmp_path / "a", {"type": "second"}, config_file=None, overwrite=True)
    assert sorted(path.name for path in again.path.iterdir()) == [
        "config.json",
        "notes.txt",
        "versions.json",
    ]
    assert directory.open_run(again.path)[1] == {"type": "second"}


@pytest.mark.parametrize("lose", ["folder", pytest.param("checkpoints", marks=pytest.mark.slow)])
@pytest.mark.parametrize("old", [False, pytest.param(True, marks=pytest.mark.slow)])
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
    with pytest.raises(
        ValueError, match=r"checkpoints in .* are gone.*, but .*metrics\.jsonl has 12 rows\n"
    ):
        train(run)
    assert run.metrics.read_bytes() == before
    warnings = []
    train(run, show=QUIET._replace(warn=warnings.append), allowed=Allowed(restart=True))
    assert len(warnings) == 1
    assert (run.path / "metrics.jsonl.old-1").read_bytes() == before
    assert without_timings(run) == without_timings(whole)


@pytest.mark.parametrize(
    ("kept", "says"),
    [(None, "is missing or has no rows"), (7, "ends with the row of outer step 6")],
)
def test_missing_rows_are_told_and_stay_missing_if_allowed(new_run, kept, says):
    run = new_run("a")
    train(run, num_outer_steps=10)
    rows = run.metrics.read_bytes().splitlines(keepends=True)
    run.metrics.unlink() if kept is None else run.metrics.write_bytes(b"".join(rows[:kept]))
    with pytest.raises(
        ValueError,
        match=f"{says}, but the newest checkpoint is of outer step 10\n.*allow-missing-rows",
    ):
        train(run)
    train(run, show=QUIET._replace(warn=lambda line: None), allowed=Allowed(missing_rows=True))
    assert [row["outer_step"] for row in metrics.read_rows(run.metrics)] == [
        *range(kept or 0),
        *range(10, 23),
    ]


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
    train(run, show=QUIET._replace(warn=lambda line: None), allowed=Allowed(missing_rows=True))
    assert [row["outer_step"] for row in metrics.read_rows(run.metrics)] == [
        *range(4),
        *range(5, 23),
    ]
    assert (run.path / "metrics.jsonl.old-1").read_bytes() == before


def test_a_run_that_is_training_is_not_trained_by_another(new_run):
    run = new_run("a")

    def intrude(step):
        if step == 3:
            assert json.loads((run.path / lock.NAME).read_text())["pid"] == os.getpid()
            with pytest.raises(ValueError, match="being written by another thread"):
                in_thread(lambda: train(run))

    train(run, FakeStep(intrude), num_outer_steps=5)
    assert not (run.path / lock.NAME).exists()


def in_thread(call):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()
