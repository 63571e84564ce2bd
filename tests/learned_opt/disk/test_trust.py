"""A name in a file never becomes code unless the caller gives
that code or says that he trusts the file.
"""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.catalog import FromFile, NotTrusted, make_optimizer, resolve

STRANGER = """
import pathlib
from learned_opt import mlp
from learned_opt.base import LearnedOptimizer
from os import system

pathlib.Path({touched!r}).write_text("imported")
calls = []

def make(n):
    calls.append(n)
    return mlp((n,))

def annotated(n) -> str:
    calls.append(n)
    return "no optimizer"

def other(n):
    return n

class Kind:
    def __init__(self, n):
        calls.append(n)
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported; gives the file's path."""
    (tmp_path / "code").mkdir()
    touched = tmp_path / "touched"
    (tmp_path / "code" / "stranger.py").write_text(STRANGER.format(touched=str(touched)))
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield touched
    sys.modules.pop("stranger", None)


@pytest.fixture
def saved(tmp_path):
    """The theta of `mlp((5,))`, and a function that makes its file name something else."""
    theta = learned_opt.mlp((5,)).init(jax.random.key(0))
    path = learned_opt.save(tmp_path / "theta.npz", "mlp", {"hidden_sizes": (5,)}, theta)

    def name(optimizer, **kwargs):
        file = path.with_suffix(".json")
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"optimizer": optimizer, "kwargs": kwargs})
        )
        return path

    return name


@pytest.mark.parametrize(
    "name", ["subprocess:getoutput", "os:system", "builtins:eval", "stranger:make", ":", "a:b:c"]
)
def test_without_trust_nothing_is_imported_or_called(name, saved, stranger, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(subprocess, "getoutput", called.append)
    path = saved(name, cmd=f"touch {tmp_path}/executed")
    for load in (learned_opt.load, learned_opt.load_theta):
        with pytest.raises(ValueError, match="--trust") as error:
            load(path)
        assert str(path) in str(error.value)
        assert repr(name) in str(error.value)
        assert "\n" not in str(error.value)
    assert called == []
    assert "stranger" not in sys.modules
    assert not stranger.exists()
    assert not (tmp_path / "executed").exists()


def test_the_caller_s_own_code_takes_the_place_of_the_name(saved, stranger):
    path = saved("stranger:make", n=5)
    given = []

    def mine(n):
        given.append(n)
        return learned_opt.mlp((n,))

    optimizer, theta = learned_opt.load_theta(path, factory=mine)
    assert given == [5]
    assert (
        theta["layer_0"]["weights"].shape
        == optimizer.init(jax.random.key(0))["layer_0"]["weights"].shape
        == (16, 5)
    )
    params = jnp.ones(3)
    own = learned_opt.load(path, factory=mine)
    want = optimizer.optimizer(theta)
    updates = [o.update(params, o.init(params), params)[0] for o in (own, want)]
    np.testing.assert_array_equal(*updates)
    assert "stranger" not in sys.modules
    with pytest.raises(ValueError, match="does not take these arguments"):
        learned_opt.load_theta(path, factory=lambda width: learned_opt.mlp((width,)))
    with pytest.raises(ValueError, match="got int"):
        learned_opt.load_theta(path, factory=lambda n: n)
    with pytest.raises(ValueError, match="another shape"):
        learned_opt.load_theta(path, factory=lambda n: learned_opt.mlp((n + 1,)))
    again = learned_opt.save(path, "stranger:make", {"n": 5}, theta, factory=mine)
    jax.tree.map(
        np.testing.assert_array_equal, learned_opt.load_theta(again, factory=mine)[1], theta
    )
    assert not stranger.exists()


def test_with_trust_the_named_code_is_checked_before_it_is_called(saved, stranger, tmp_path):
    assert learned_opt.load_theta(saved("stranger:make", n=5), trust=True)[1]["layer_0"][
        "weights"
    ].shape == (16, 5)
    calls = sys.modules["stranger"].calls
    assert calls == [5]
    refused = {
        "stranger:annotated": "annotated to return str",
        "stranger:Kind": "a class of another kind",
        "stranger:calls": "a list cannot be called",
        "stranger:pathlib": "a module cannot be called",
        "stranger:nothing": "cannot be found",
        "stranger:other": "must return a LearnedOptimizer, got int",
    }
    for name, message in refused.items():
        with pytest.raises(ValueError, match=message):
            learned_opt.load_theta(saved(name, n=5), trust=True)
    with pytest.raises(ValueError, match="does not take these arguments"):
        learned_opt.load_theta(saved("stranger:make", width=5), trust=True)
    assert calls == [5]
    own = {
        "subprocess:getoutput": "cmd",
        "stranger:system": "command",
        "os:popen": "cmd",
        "os:remove": "path",
    }
    for name, argument in own.items():
        with pytest.raises(ValueError, match="Python's own module"):
            learned_opt.load_theta(
                saved(name, **{argument: f"touch {tmp_path}/executed"}), trust=True
            )
    assert not (tmp_path / "executed").exists()


def test_a_name_from_a_file_equals_the_typed_one_and_is_refused_where_it_would_become_code(
    stranger,
):
    name = FromFile("stranger:make")
    assert name == "stranger:make"
    assert json.dumps({"name": name}) == '{"name": "stranger:make"}'
    with pytest.raises(NotTrusted, match="'stranger' would be imported and run"):
        resolve(name)
    with pytest.raises(NotTrusted, match="optimizer 'stranger:make'"):
        make_optimizer(name, {"n": 3})
    assert not stranger.exists()
    assert make_optimizer(FromFile("mlp"), {}).init(jax.random.key(0))["layer_1"]["bias"].shape == (
        2,
    )
