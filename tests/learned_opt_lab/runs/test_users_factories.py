"""A family or a learned optimizer of the user's own that fails is named in one line."""

import dataclasses
import sys

import pytest

import learned_opt
from configs import base
from learned_opt_lab.cli.main import main
from learned_opt_lab.runs import user_path
from learned_opt_lab.runs.build import build
from learned_opt_lab.runs.families import build_family
from tests.support.lab.strangers import CONFIG

FACTORIES = """
import sys
import jax.numpy as jnp
from learned_opt import LearnedOptimizer, mlp
from tasks import DatasetNotPrepared, Task, TaskFamily

def key(): raise KeyError("missing")
def leaves(): sys.exit(0)
def recursion(): return recursion()
def value(): raise ValueError("of mine")
def number(): return 3
def not_prepared(): raise DatasetNotPrepared("prepare it")

def of(loss, init=lambda key: jnp.zeros(3)):
    batch = lambda data, key, split: jnp.zeros(2)
    return TaskFamily(lambda key: key, lambda drawn: Task(init, loss, batch))

def good(): return of(lambda p, key, batch: (p.sum(), {}))
def vector(): return of(lambda p, key, batch: (p, {}))
def bare(): return of(lambda p, key, batch: p.sum())
def whole(): return of(lambda p, key, batch: (p.sum(), {}), lambda key: jnp.zeros(3, int))
def loss(): return of(lambda p, key, batch: {}["loss"])
def nothing(): return TaskFamily(sample=None, task=None, data=None)
def theta(): return mlp((4,))._replace(init=lambda key: {}["theta"])
"""
FAMILIES = {
    "key": "cannot be made: KeyError: 'missing'",
    "leaves": "cannot be made: SystemExit: 0",
    "recursion": "cannot be made: RecursionError: ",
    "value": "cannot be made: ValueError: of mine",
    "number": "must return a tasks.base.TaskFamily, got int",
    "vector": r"must have a scalar loss in training, got one of shape \[3\]",
    "bare": r"has no \(scalar loss, metrics\): TypeError: ",
    "whole": r"has no \(scalar loss, metrics\): TypeError: grad requires",
    "loss": r"has no \(scalar loss, metrics\): KeyError: 'loss'",
    "nothing": r"has no \(scalar loss, metrics\): TypeError: ",
    "not_prepared": "^prepare it$",
}


@pytest.fixture(autouse=True)
def factories(tmp_path, monkeypatch):
    """A module of the user's in the working directory."""
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(user_path, "_directories", [])
    monkeypatch.delitem(sys.modules, "factories", raising=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family(name):
    named = "" if name == "not_prepared" else f"factories:{name} .*"
    with pytest.raises(ValueError, match=f"{named}{FAMILIES[name]}"):
        build_family(base.CustomFamily(f"factories:{name}"))
    with pytest.raises(ValueError, match=FAMILIES[name]):
        build_family(base.CustomFamily("factories:good", f"factories:{name}"))


@pytest.mark.parametrize("name", ["key", "vector", "number"])
def test_a_kind_of_family(name, monkeypatch):
    monkeypatch.setattr(base.kinds, "_KINDS", base.registered())
    build_family(base.CustomFamily("factories:good"))
    make = getattr(sys.modules["factories"], name)

    @base.register
    @dataclasses.dataclass(frozen=True)
    class OfTheUser(base.Family):
        builds = staticmethod(lambda config: (make(), make()))
        word = "of-the-user"

    with pytest.raises(ValueError, match=r"^family OfTheUser "):
        build_family(OfTheUser())


@pytest.mark.parametrize("name", ["key", "leaves", "recursion", "value"])
def test_a_learned_optimizer(name, capsys, tmp_path):
    wanted = f"optimizer 'factories:{name}' {FAMILIES[name]}"
    build_family(base.CustomFamily("factories:good"))
    with pytest.raises(ValueError, match=wanted):
        learned_opt.catalog.make_optimizer(f"factories:{name}", {})
    words = ["optimizer:named", "--optimizer.name", f"factories:{name}", "--run-dir", "run"]
    assert main(["train", "quadratic", *words]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"error: optimizer 'factories:{name}' cannot be made: ")
    assert not (tmp_path / "run").exists()


def test_a_learned_optimizer_without_theta():
    named = base.NamedOptimizer("factories:theta")
    with pytest.raises(ValueError, match="factories:theta makes no theta: KeyError: 'theta'"):
        build(dataclasses.replace(CONFIG, optimizer=named))
