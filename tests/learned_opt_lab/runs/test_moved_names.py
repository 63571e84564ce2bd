"""Runs that name code by modules of other versions go on."""

import dataclasses
import importlib

import pytest

from configs import base
from learned_opt.catalog import NotTrusted, resolve
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.config_json import from_json, to_json
from learned_opt_lab.runs.families import FAMILIES, check_trusted, family_factory
from learned_opt_lab.runs.moved_names import FACES, MODULES, current_name

GENERAL = catalog.load("general")[0]


@pytest.mark.parametrize("old", MODULES)
def test_a_moved_module_is_where_it_is_said_to_be(old):
    importlib.import_module(MODULES[old])
    assert current_name(f"{old}:something") == f"{MODULES[old]}:something"
    with pytest.raises(ValueError, match="cannot be found"):
        resolve(f"{old}:something")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tasks.autoencoder:tfds_autoencoder_family", "tasks.images:tfds_autoencoder_family"),
        (
            "tasks.images.autoencoder:tfds_autoencoder_family",
            "tasks.images:tfds_autoencoder_family",
        ),
        ("tasks.char_model:char_family", "tasks:char_family"),
        ("tasks.text:char_family", "tasks:char_family"),
    ],
)
def test_the_project_s_families_are_read_by_any_of_their_names(old, new):
    stored = to_json(dataclasses.replace(GENERAL, family=base.CustomFamily(new, new, {"dim": 3})))
    stored["family"] |= {"target": old, "held_out_target": old}
    read = from_json(stored)
    assert read.family == base.CustomFamily(new, new, {"dim": 3})
    check_trusted(read)
    assert family_factory(read.family.target) is family_factory(new)


def test_an_optimizer_s_old_name_is_read_and_still_not_trusted():
    stored = to_json(
        dataclasses.replace(
            GENERAL, optimizer=base.NamedOptimizer("learned_opt.hyperparameters:adam")
        )
    )
    read = from_json(stored)
    assert read.optimizer.name == "learned_opt.hand_designed.hyperparameters:adam"
    with pytest.raises(NotTrusted):
        check_trusted(read)
    assert callable(resolve(from_json(stored, trust=True).optimizer.name))


def test_other_names_stay():
    for name in (
        "mlp",
        "",
        "mine:family",
        "tasks:char_family",
        "tasks.autoencoders:x",
        "mine.tasks.toy:x",
    ):
        assert current_name(name) == name
    assert set(FACES.values()) == set(FAMILIES)
