"""Digests follow what numbers follow from, and nothing else."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_lab.results import content

MINE = """
import mine_too

RATE = 0.1

def make(scale):
    def optimizer(theta):
        return theta * scale * RATE * mine_too.FACTOR
    return optimizer
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's module that uses another one beside it;
    `write` edits them and imports them afresh.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = ("mine", "mine_too")

    def write(text=MINE, other="FACTOR = 1"):
        for name, source in zip(names, (text, other), strict=True):
            (tmp_path / f"{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module("mine")

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_code_follows_the_users_file_and_the_files_it_uses(mine):
    digests = [
        content.code(mine().make(1.0)),
        content.code(mine(MINE.replace("0.1", "0.2")).make(1.0)),
        content.code(mine(other="FACTOR = 2").make(1.0)),
        content.code(mine().make(2.0)),
    ]
    assert len(set(digests)) == 4
    assert content.code(mine().make(1.0)) == digests[0]


def test_code_follows_what_is_set_from_outside(mine):
    module = mine()
    before = content.code(module.make(1.0))
    module.RATE = 0.3
    assert content.code(module.make(1.0)) != before


def test_code_of_the_same_thing_made_twice_is_the_same():
    def make(array, width):
        return jax.jit(lambda x: jnp.sum(array) * width * x)

    first, same = (content.code(make(np.arange(3.0), 2)) for _ in range(2))
    assert first == same
    assert content.code(make(np.arange(3.0), 3)) != first
    assert content.code(make(np.arange(3.0) + 1, 2)) != first


def test_data_follows_values_shapes_dtypes_and_structure():
    trees = [
        {"a": np.zeros(4, np.float32)},
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.array([0, 0, 0, 1e-30], np.float32)},
        {"a": jax.random.key(0)},
        {"a": jax.random.key(1)},
        (),
    ]
    assert len({content.data(tree) for tree in trees}) == len(trees)
    assert content.data({"a": jnp.zeros(4)}) == content.data(trees[0])


def test_versions_are_those_that_are_installed():
    found = content.environment()
    assert found["jax"] == jax.__version__
    assert found["numpy"] == np.__version__
    assert found["x64"] is False
