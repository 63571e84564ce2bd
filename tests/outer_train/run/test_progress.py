"""What the progress lines say."""

import io
import sys

import pytest

from outer_train.run.progress import (
    QUIET,
    TERMINAL,
    Clock,
    DispensableProgress,
    PlainProgress,
    describe,
    make_progress,
)


def row(step, seconds, **more):
    base = {
        "outer_step": step,
        "seconds": seconds,
        "num_live_inner_steps": 640,
        "truncation_length": 20,
    }
    return base | {"num_non_finite": 0} | more


@pytest.mark.parametrize(
    ("num_outer_steps", "seconds", "expected"),
    [(12, 2.0, "00:20"), (102, 3.0, "05:00"), (3602, 2.0, "2:00:00")],
)
def test_time_left_leaves_compilation_out(num_outer_steps, seconds, expected):
    clock = Clock(num_outer_steps, 0)
    clock.add(row(0, None))
    assert clock.time_left == "--:--"
    clock.add(row(1, seconds))
    assert clock.time_left == expected
    assert clock.inner_steps_per_second == 640 / seconds


def test_a_line_names_loss_truncation_share_and_rate():
    clock = Clock(11, 0)
    clock.add(row(0, None))
    clock.add(row(1, 0.5))
    line = describe(row(1, 0.5, weight_reparameterization=0.25, num_non_finite=3), 1.23456, clock)
    assert line == (
        "outer loss 1.2346  truncation 20  RP share 0.25  non-finite 3  1,280 inner steps/s  "
        "ETA 00:04"
    )
    assert describe(row(1, 0.5), None, clock).startswith("outer loss nan  truncation 20  1,280")


def test_time_left_follows_the_pace_of_the_last_rows():
    clock = Clock(160, 0)
    for step in range(100):
        clock.add(row(step, 1.0 if step < 50 else 3.0))
    assert clock.time_left == "03:00"


def test_plain_lines_come_at_the_start_and_at_the_first_and_last_step(capsys):
    progress = PlainProgress(100, 0)
    for step in range(100):
        progress.update(row(step, 0.01 if step else None), 1.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "outer step 0/100",
        "outer step 1/100",
        "outer step 100/100",
    ]


class Fails:
    """A display whose `update` fails; counts the calls."""

    def __init__(self, error):
        self.error, self.calls = error, []

    def update(self, row, smoothed_loss):
        self.calls.append("update")
        raise self.error

    def close(self):
        self.calls.append("close")


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed file"), SystemExit(1)]
)
def test_a_display_that_failed_once_is_left_alone(error):
    fails = Fails(error)
    progress = DispensableProgress(lambda: fails)
    progress.update(row(0, None), 1.0)
    progress.update(row(1, 0.1), 1.0)
    progress.close()
    assert fails.calls == ["update"]


def test_no_output_at_all_is_no_error(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    progress = make_progress(2, 0)
    progress.update(row(0, None), 1.0)
    progress.close()


def test_what_is_wrong_is_told_either_way(capsys):
    with pytest.warns(UserWarning, match="a checkpoint is damaged"):
        QUIET.warn("a checkpoint is damaged")
    QUIET.tell("news")
    assert capsys.readouterr() == ("", "")
    TERMINAL.warn("a checkpoint is damaged")
    TERMINAL.tell("news")
    assert capsys.readouterr() == ("news\n", "warning: a checkpoint is damaged\n")


def test_a_warning_needs_no_reader(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    sys.stderr.close()
    TERMINAL.warn("a checkpoint is damaged")
