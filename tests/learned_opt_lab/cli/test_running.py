"""What `train` and `resume` share:
flags become an engine's settings, and a run's end an exit status.
"""

import os
import signal
from pathlib import Path

import pytest

from learned_opt_lab.cli import main as main_module
from learned_opt_lab.cli.main import main
from learned_opt_lab.cli.output import Outcome
from learned_opt_lab.cli.running import EngineArgs, outcome_of
from learned_opt_lab.runs import InStep, NothingLearned, Ray, RunResult
from outer_train.processes import Cluster
from outer_train.run import RunDirectory

RESULT = RunResult(RunDirectory(Path("runs/mine")), None, {}, None)


@pytest.mark.parametrize(
    ("flags", "with_ray", "expected"),
    [
        ({}, False, InStep(2)),
        ({}, True, Ray(num_devices=2)),
        ({"engine": "in-step"}, True, InStep(2)),
        (
            {"engine": "ray", "num_workers": 3, "connect_timeout": 5.0},
            False,
            Ray(None, 3, None, None, None, 2, 5.0),
        ),
        (
            {"coordinator": "127.0.0.1:1", "num_processes": 2, "process_id": 1},
            False,
            InStep(2, Cluster("127.0.0.1:1", 2, 1)),
        ),
    ],
)
def test_flags_choose_the_engine(flags, with_ray, expected):
    assert EngineArgs(**flags).settings(2, started_with_ray=with_ray) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"engine": "ray", "distributed": True}, "--engine ray takes no --distributed"),
        ({"engine": "ray", "token_file": Path("x")}, "--engine ray takes no --token-file"),
        ({"engine": "ray", "connect_timeout": 0.0}, "--connect-timeout must be above 0, got 0.0"),
        ({"gpus_per_worker": 0.5}, "--gpus-per-worker is for --engine ray"),
    ],
)
def test_flags_of_two_engines_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        EngineArgs(**flags).settings(None)


def test_the_end_of_a_run_is_an_exit_status():
    assert outcome_of(lambda: RESULT) == Outcome(0, {"run_dir": RESULT.run.path})
    stopped = outcome_of(lambda: RESULT._replace(signal=signal.SIGTERM))
    assert (stopped.status, stopped.next) == (143, "learned-opt resume runs/mine")
    assert stopped.error == "stopped; go on with `learned-opt resume runs/mine`"


def test_a_run_that_has_learned_nothing_is_no_success():
    def end():
        raise NothingLearned(RESULT)

    outcome = outcome_of(end)
    assert outcome.status == 1
    assert (
        outcome.error == "error: no outer loss of this run was finite, so theta has learned nothing"
    )


@pytest.fixture
def answered(number):
    """The signal does what it does by default: a process in the background may ignore it."""
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, default)
    yield
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_outside_of_the_outer_loop(number, tmp_path, answered):
    run, given_back = tmp_path / "run", []

    def start(makes):
        try:
            if makes:
                run.mkdir(exist_ok=True)
                (run / "config.pending").write_text("{}")
                (run / "config.pending").replace(run / "config.json")
            os.kill(os.getpid(), number)
            os.getpid()  # a signal is taken between two lines of Python
        finally:
            given_back.append(number)

    before = signal.getsignal(number)
    nothing = outcome_of(lambda: start(False), run)
    assert nothing == Outcome(128 + number, error=nothing.error)
    assert nothing.error == "stopped before the run began; the same command starts it"
    there = outcome_of(lambda: start(True), run)
    assert (there.status, there.next) == (128 + number, f"learned-opt resume {run}")
    assert there.error == f"stopped; go on with `learned-opt resume {run}`"
    assert outcome_of(lambda: start(False), run) == there  # as `resume` is
    assert outcome_of(lambda: start(False), run, replaces=True) == nothing
    assert outcome_of(lambda: start(True), run, replaces=True) == there
    assert signal.getsignal(number) == before
    assert given_back == [number] * 5


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert outcome_of(lambda: os.kill(os.getpid(), signal.SIGHUP) or RESULT).status == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_command_that_goes_on_says_so(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "_dispatch", interrupted)
    assert set(main_module.GOES_ON) < set(main_module.COMMANDS)
    assert main(["--quiet", "evaluate", "adam"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"
    assert main(["search", "general"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
