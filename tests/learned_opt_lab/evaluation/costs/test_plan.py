"""The arithmetic of a plan: what programs cost, how far a budget gets, how long it still takes."""

import numpy as np
import pytest

from learned_opt_lab.evaluation.costs.countdown import Countdown, shared
from learned_opt_lab.evaluation.costs.ledger import Ledger
from learned_opt_lab.evaluation.costs.plan import (
    Measured,
    Plan,
    Program,
    lines,
    minutes,
    program_seconds,
    with_guesses,
)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_seconds_of_a_program():
    measured = Measured(step=2.0, compilation=5.0, plain_step=1.0, num_together=11, together=6.0)
    program = Program(2, 3, num_calls=4, num_steps=10, num_batches=30, compilation=3.0)
    # Six runs at once: 1 + (6 - 1) / 2 for a plain step, twice that for the optimizer's.
    assert program_seconds(program, measured) == pytest.approx(3 * 5 + 4 * (10 * 7 + 30 * 3.5 / 3))
    alone = measured._replace(num_together=1)
    assert program_seconds(program, alone) == pytest.approx(3 * 5 + 4 * (10 * 12 + 30 * 6 / 3))
    # More at once never cost less.
    odd = measured._replace(together=0.5)
    assert program_seconds(program, odd) == pytest.approx(3 * 5 + 4 * (10 * 2 + 30 / 3))


PLAN = Plan(
    tasks=("a", "absent", "bee"),
    labels=("x", "y"),
    seconds=(0.0, 60.0, 0.0, 0.0, 120.0, 240.0),
    skipped=("absent",),
    num_seeds=5,
)


@pytest.mark.parametrize(
    ("max_seconds", "spent", "reached"),
    [
        (None, 0, (2, 4)),
        (420, 0, (2, 4)),
        (419, 0, (1, 3)),
        (420, 1, (1, 3)),
        (179, 0, (1, 2)),
        (60, 0, (1, 2)),
        (59, 0, (0, 1)),
    ],
)
def test_how_far_a_budget_gets(max_seconds, spent, reached):
    assert PLAN._replace(max_seconds=max_seconds, spent=spent).reach() == reached


def test_a_plan_in_words():
    assert lines(PLAN) == [
        "cost: about 7.0 minutes for 3 cells; in all 2 tasks x 2 optimizers x 5 seeds",
        "  a    1.0 minutes",
        "  bee  6.0 minutes",
    ]
    limited = lines(PLAN._replace(max_seconds=200.0, guessed=("bee",)))
    assert limited[2:] == [
        "  guessed by the others, since the budget ends before: bee",
        "a budget of 3.3 minutes gets as far as 1 of 2 tasks, 3 of 4 cells",
    ]
    (line,) = lines(PLAN._replace(seconds=(0.0,) * 6))
    assert line.startswith("cost: nothing, all cells are there")
    assert [minutes(s) for s in (-1, 0.4, 59, 90, 1800, 7200)] == [
        "0 seconds",
        "0 seconds",
        "59 seconds",
        "1.5 minutes",
        "30 minutes",
        "2.0 hours",
    ]


def test_cells_that_were_not_measured_are_guessed_by_their_optimizer():
    assert with_guesses([1.0, 0.0, 3.0, 8.0, None, None], 2) == (1, 0, 3, 8, 2, 8)
    assert with_guesses([1.0, 0.0, None, None], 2) == (1, 0, 1, 1)
    assert with_guesses([None, None], 2) == (0, 0)


def test_a_ratio_counts_for_others_as_far_as_it_is_beyond_the_error_of_plans():
    assert shared(1.0, 1) == 1
    assert shared(0.75, 1) == shared(1.3, 1) == 1
    assert shared(5.0, 1) == pytest.approx(5.0, rel=0.06)
    assert shared(0.2, 1) == pytest.approx(0.2, rel=0.06)
    # The mean of many has less of an error.
    assert shared(0.75, 10) == pytest.approx(0.75, rel=0.04)
    assert 1.0 == shared(0.0, 3) == shared(2.0, 0)


def passes(planned, real, group):
    """(seconds left, what a countdown says) at the start and in the middle of each cell that begins
    after a tenth of the time.
    """
    clock = Clock()
    countdown = Countdown(planned, clock, group=group)
    ends = np.cumsum(real)
    for number in range(len(planned)):
        countdown.begins(number)
        for part in (0.0, 0.5):
            clock.now = 100 + ends[number] - real[number] * (1 - part)
            if (passed := clock.now - 100) >= 0.1 * ends[-1]:
                yield ends[-1] - passed, countdown.left()
        clock.now = 100 + ends[number]
    countdown.begins(len(planned))
    assert countdown.left() == 0


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_after_a_tenth_the_time_left_is_right_within_a_quarter(factor, seed):
    """Tasks and optimizers of which the dearest costs 30 times the cheapest, planned wrongly by a
    factor that all share and by up to 30 % of each cell.
    """
    rng = np.random.default_rng(seed)
    planned = np.outer(np.geomspace(20, 200, 10), np.geomspace(1, 3, 6)).ravel()
    planned[:12:5] = 0  # there
    planned = planned.reshape(10, 6)[rng.permutation(10)].ravel()
    real = np.where(planned, planned * factor * rng.uniform(0.7, 1.3, 60), 0.1)
    checked = list(passes(planned, real, 1))
    for left, said in checked:
        # In the last cells the error of one cell is all there is.
        assert said == pytest.approx(left, rel=0.25, abs=0.04 * real.sum())
    assert len(checked) > 50


@pytest.mark.parametrize("of_tasks", [True, False])
def test_it_is_so_for_errors_of_whole_tasks_but_for_one_time_in_fifty(of_tasks):
    """Whether a plan errs by up to 30 % of each task, or of each cell, is not known beforehand."""
    wrong = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        tasks = np.outer(np.geomspace(20, 200, 10), np.geomspace(1, 3, 6))[rng.permutation(10)]
        errors = rng.uniform(0.7, 1.3, (10, 1) if of_tasks else (10, 6))
        planned, real = tasks.ravel(), (tasks * errors).ravel()
        wrong += [
            abs(said - left) > max(0.25 * left, 0.04 * real.sum())
            for left, said in passes(planned, real, 6)
        ]
    assert np.mean(wrong) <= 0.02


def test_a_task_that_is_planned_wrongly_says_little_of_the_others():
    """Minutes of the suite `real` with eight optimizers, planned and real. By the first task's
    ratio, 39 minutes were left of 59.
    """
    tasks = np.array([5.3, 4.8, 5.2, 18.0, 4.7, 5.0, 5.8, 4.6, 3.4, 1.0])
    times = np.array([4.0, 5.0, 6.1, 18.0, 5.3, 5.6, 6.0, 5.2, 3.8, 1.1])
    planned, real = (np.repeat(each * 60 / 8, 8) for each in (tasks, times))
    checked = list(passes(planned, real, 8))
    assert len(checked) > 120
    for left, said in checked:
        assert said == pytest.approx(left, rel=0.17)


def test_cells_that_are_there_do_not_count_and_a_budget_ends_it():
    clock = Clock()
    countdown = Countdown((0.0, 10.0, 10.0), clock)
    countdown.begins(0)
    clock.now += 7
    countdown.begins(1)
    assert (countdown.left(), countdown.of_next()) == (20, 10)
    clock.now += 5
    assert countdown.left() == 15
    clock.now += 15
    assert countdown.left() == pytest.approx(10 * shared(2.0, 1))
    countdown.begins(2)
    assert countdown.left() == countdown.of_next() == pytest.approx(10 * shared(2.0, 1))
    of_one_task = Countdown((10.0, 10.0), clock, group=2)
    of_one_task.begins(0)
    clock.now += 20
    assert of_one_task.left() == 20
    of_one_task.begins(1)
    # One cell of two weighs as much as what others say.
    assert of_one_task.left() == pytest.approx(10 * (2 + shared(2.0, 1)) / 2)
    limited = Countdown((10.0,), clock, max_seconds=4)
    assert limited.left() == 4
    clock.now += 9
    assert limited.left() == 0


WRONG = ("[1]", '[1, "b"]', "[1, -1]", "3", "null")


def test_a_ledger_measures_once_and_survives_damage(tmp_path):
    path, calls = tmp_path / "costs.json", []

    def measure():
        calls.append(1)
        return [1.0, 2.0]

    for _ in range(2):
        assert Ledger(path).measured("a", 2, measure) == [1.0, 2.0]
    assert len(calls) == 1
    for text in (
        '{"a": [1, 2]}',
        "[]",
        "{",
        *(f'{{"a": {{"seconds": {wrong}}}}}' for wrong in WRONG),
    ):
        path.write_text(text)
        assert Ledger(path).measured("a", 2, measure) == [1.0, 2.0]
    assert len(calls) == 9
    assert Ledger(tmp_path / "nowhere" / "costs.json").measured("a", 2, measure) == [1.0, 2.0]
