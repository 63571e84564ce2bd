"""Saved thetas that name code by modules of other versions load as they did."""

import importlib

import jax
import numpy as np
import pytest

import learned_opt
from learned_opt.catalog import NotTrusted, resolve
from learned_opt.disk.moved_names import MODULES, current_name
from tests.support.learned_opt.saved_theta import change_header

NAMES = [
    "learned_opt.hyperparameters:adam",
    "learned_opt.adafactor_mlp:adafactor_mlp",
    "learned_opt.mlp:mlp",
    "learned_opt.schedules:exponential_schedule",
]


@pytest.mark.parametrize("old", MODULES)
def test_a_moved_module_is_where_it_is_said_to_be(old):
    importlib.import_module(MODULES[old])
    with pytest.raises(ValueError, match="cannot be found"):
        resolve(f"{old}:something")


@pytest.mark.parametrize("old", NAMES)
def test_a_theta_of_a_moved_factory_is_loaded_where_it_is_trusted(old, tmp_path):
    new = current_name(old)
    theta = resolve(new)().init(jax.random.key(0))
    path = learned_opt.save(tmp_path / "theta.npz", new, {}, theta)
    change_header(path, optimizer=old)
    with pytest.raises(NotTrusted, match=new):
        learned_opt.load_theta(path)
    assert learned_opt.saving.optimizer_name(path) == new
    optimizer, loaded = learned_opt.load_theta(path, trust=True)
    jax.tree.map(np.testing.assert_array_equal, loaded, theta)
    jax.tree.map(np.testing.assert_array_equal, optimizer.init(jax.random.key(0)), theta)


@pytest.mark.parametrize("name", ["learned_opt.mlp:mlp", "learned_opt:mlp"])
def test_the_four_arguments_of_a_start_are_folded_under_any_name_of_mlp(name, tmp_path):
    start = {"learning_rate": 0.02}
    theta = learned_opt.mlp((4,), start=start).init(jax.random.key(0))
    path = learned_opt.save(
        tmp_path / "theta.npz", "mlp", {"hidden_sizes": [4], "start": start}, theta
    )
    change_header(path, optimizer=name, kwargs={"hidden_sizes": [4], "adam_learning_rate": 0.02})
    optimizer, loaded = learned_opt.load_theta(path, trust=True)
    jax.tree.map(np.testing.assert_array_equal, optimizer.init(jax.random.key(0)), loaded)


def test_other_names_stay():
    for name in ("mlp", "", "mine:own", "learned_opt.mlps:mlp", "mine.learned_opt.mlp:mlp"):
        assert current_name(name) == name
