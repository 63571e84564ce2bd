"""Trackers are told each row's finite numbers, go on where they were, and end no run."""

import importlib.machinery
import json
import math
import sys
import types

import pytest

from outer_train.run import metrics, trackers
from tests.support.outer_train.runs import new_run, train

ROW = {"outer_step": 3, "outer_loss": 0.5, "seconds": None, "grad_norm": math.nan, "gradients": []}


class Stub:
    """A module that notes what is called, in place of a tracker's."""

    def __init__(self, name, monkeypatch):
        self.calls = []
        self.module = types.ModuleType(name)
        self.module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, self.module)

    def note(self, name, result=None):
        def call(*args, **kwargs):
            self.calls.append((name, args, kwargs))
            return result

        return call

    def named(self, name):
        return [(args, kwargs) for each, args, kwargs in self.calls if each == name]


@pytest.fixture
def wandb(monkeypatch):
    stub = Stub("wandb", monkeypatch)
    run = types.SimpleNamespace(log=stub.note("log"), finish=stub.note("finish"))
    stub.module.init = stub.note("init", run)
    stub.module.Settings = dict
    return stub


@pytest.fixture
def trackio(monkeypatch):
    stub = Stub("trackio", monkeypatch)
    run = types.SimpleNamespace(log=stub.note("log"), finish=stub.note("finish"))
    stub.module.init = stub.note("init", run)
    return stub


@pytest.fixture
def mlflow(monkeypatch):
    stub, entities = Stub("mlflow", monkeypatch), Stub("mlflow.entities", monkeypatch)
    made = types.SimpleNamespace(info=types.SimpleNamespace(run_id="run1"))
    names = ("update_run", "log_batch", "set_terminated", "get_experiment_by_name")
    client = types.SimpleNamespace(
        create_experiment=stub.note("create_experiment", "7"),
        create_run=stub.note("create_run", made),
        **{name: stub.note(name) for name in names},
    )
    stub.module.MlflowClient = lambda: client
    entities.module.Param = lambda key, value: (key, value)
    entities.module.Metric = lambda key, value, time, step: (key, value, step)
    return stub


def told(run, name, warn=None):
    """Opens one tracker, tells it `ROW`, and closes it."""
    (tracker,) = trackers.open_all((name,), run, warn or pytest.fail)
    tracker.scalars(ROW["outer_step"], trackers.numbers_of(ROW))
    tracker.close()


def test_only_finite_numbers_are_told():
    assert trackers.numbers_of(ROW) == {"outer_loss": 0.5}
    assert trackers.numbers_of({"outer_step": 0, "a": True, "b": 1, "c": "1"}) == {"b": 1}


def test_wandb_goes_on_in_the_same_run(wandb, tmp_path):
    run = new_run(tmp_path / "mine", {"type": "test", "seed": 3})
    told(run, "wandb")
    told(run, "wandb")
    (_, first), (_, second) = wandb.named("init")
    assert first["id"] == second["id"]
    assert (first["name"], first["project"], first["resume"]) == ("mine", "learned-opt", "allow")
    assert first["config"] == {"type": "test", "seed": 3}
    assert first["dir"] == str(run.path)
    assert wandb.named("log") == [(({"outer_loss": 0.5},), {"step": 3})] * 2
    assert len(wandb.named("finish")) == 2
    assert json.loads(run.trackers.read_text()) == {"wandb": first["id"]}


def test_trackio_goes_on_in_the_same_run(trackio, tmp_path):
    run = new_run(tmp_path / "mine")
    told(run, "trackio")
    told(run, "trackio")
    (_, first), (_, second) = trackio.named("init")
    assert first["name"] == second["name"]
    assert first["name"].startswith("mine-")
    assert first["resume"] == "allow"
    assert trackio.named("log")[0] == (({"outer_loss": 0.5},), {"step": 3})


def test_mlflow_goes_on_in_the_same_run(mlflow, tmp_path):
    run = new_run(tmp_path / "mine", {"type": "test", "a": {"b": 2}, "long": "x" * 1000})
    told(run, "mlflow")
    told(run, "mlflow")
    assert mlflow.named("create_run") == [(("7",), {"run_name": "mine"})]
    assert mlflow.named("update_run") == [(("run1",), {"status": "RUNNING"})]
    (_, parameters), (_, numbers), _ = mlflow.named("log_batch")
    assert parameters["params"] == [("type", "test"), ("a.b", "2"), ("long", "x" * 500)]
    assert numbers["metrics"] == [("outer_loss", 0.5, 3)]
    assert mlflow.named("set_terminated") == [(("run1",), {})] * 2


def test_projects_are_named_by_the_environment(wandb, trackio, mlflow, tmp_path, monkeypatch):
    for variable in ("WANDB_PROJECT", "TRACKIO_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(variable, "mine")
    for name in ("wandb", "trackio", "mlflow"):
        told(new_run(tmp_path / name), name)
    assert wandb.named("init")[0][1]["project"] == "mine"
    assert trackio.named("init")[0][1]["project"] == "mine"
    assert mlflow.named("create_experiment") == [(("mine",), {})]


def test_a_run_tells_all_that_it_is_asked_to(wandb, trackio, tmp_path):
    run = new_run(tmp_path / "run")
    train(run, trackers=("wandb", "trackio", "tensorboard"))
    rows = metrics.read_rows(run.metrics)
    for stub in (wandb, trackio):
        logged = stub.named("log")
        assert [kwargs["step"] for _, kwargs in logged] == list(range(23))
        assert [args[0]["outer_loss"] for args, _ in logged] == [row["outer_loss"] for row in rows]
        assert len(stub.named("finish")) == 1
    assert list((run.path / "tensorboard").iterdir())


def test_one_that_fails_is_given_up_with_a_warning(wandb, tmp_path):
    warned = []

    def fails(*args, **kwargs):
        raise RuntimeError("no\x1b network\nmore")

    wandb.module.init = lambda **kwargs: types.SimpleNamespace(log=fails, finish=pytest.fail)
    told(new_run(tmp_path / "run"), "wandb", warned.append)
    assert warned == ["the tracker wandb failed and is told no more: no\\x1b network"]


def test_one_that_cannot_start_closes_the_others(wandb, trackio, tmp_path):
    def fails(**kwargs):
        raise RuntimeError("log in first")

    wandb.module.init = fails
    with pytest.raises(ValueError, match="the tracker wandb cannot start: log in first"):
        trackers.open_all(("trackio", "wandb"), new_run(tmp_path / "run"), pytest.fail)
    assert len(trackio.named("finish")) == 1


def test_names_are_checked_without_an_import(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, kind in trackers.TRACKERS.items():
        with pytest.raises(ValueError, match=f'pip install "learned-opt\\[{kind.extra}\\]"'):
            trackers.check((name,))
    with pytest.raises(ValueError, match=r"unknown tracker a.*known are tensorboard, wandb"):
        trackers.check(("a\x1b",))
    assert trackers.check(()) == ()


@pytest.mark.parametrize("content", ['{"wandb": "../x"}', '{"wandb": 1}', '{"x": "y"}', "[]"])
def test_ids_of_a_damaged_file_are_refused(content, wandb, tmp_path):
    run = new_run(tmp_path / "run")
    run.trackers.write_text(content)
    with pytest.raises(ValueError, match=r"trackers\.json"):
        trackers.open_all(("wandb",), run, pytest.fail)
    assert wandb.calls == []
