"""Tasks that an optimizer was trained on are said not to be held out."""

import functools
import json

import pytest

from configs import base
from learned_opt_lab.evaluation.suite import training_tasks
from learned_opt_lab.runs.catalog import CONFIGS, load
from learned_opt_lab.runs.config_json import to_json
from tasks import Suite, SuiteTask
from tasks.suites import SUITES

DIGITS = ["quick_digits_mlp"]


def families_of(config):
    return [to_json(config)["family"], *to_json(config)["extra_families"]]


@pytest.mark.parametrize("suite", ["heldout", "real", "real_quick"])
@pytest.mark.parametrize("name", CONFIGS)
def test_no_shipped_config_trains_on_a_held_out_task(name, suite):
    """By name and by data; the images of `real` are compared in `tests/tasks`."""
    config = load(name)[0]
    assert training_tasks.seen_tasks(SUITES[suite], families_of(config)) == []
    families = {
        each.target for each in families_of_kind(config) if isinstance(each, base.CustomFamily)
    }
    builders = {functools.partial(task.build).func.__name__ for task in SUITES["real"].tasks}
    assert not {target.partition(":")[2] for target in families} & builders


def families_of_kind(config):
    return (config.family, *config.extra_families)


@pytest.mark.parametrize(
    ("target", "kwargs", "seen"),
    [
        ("tasks:byte_transformer_family", {"depth": 9}, ["real_byte_transformer"]),
        ("tasks:byte_transformer_family", {"text": "mine.txt"}, []),
        ("tasks.images:vit_family", {}, []),
        (
            "tasks.images:vit_family",
            {"data": "fashion_mnist", "source_split": "test"},
            ["real_vit"],
        ),
        ("tasks:fine_tuning_family", {"mode": "frozen"}, ["real_fine_tuning", "real_lora"]),
        ("tasks.images:tfds_resnet_family", {}, []),
        ("tasks.images:tfds_resnet_family", {"source_split": "test"}, ["real_resnet"]),
        ("tasks.language.skip_gram:skip_gram_family", {"width": 3}, ["real_skip_gram"]),
        ("tasks:tabular_family", {}, []),
    ],
)
def test_tasks_of_the_real_suite(target, kwargs, seen):
    family = {"type": "CustomFamily", "target": target, "kwargs": kwargs}
    assert training_tasks.seen_tasks(SUITES["real"], [family]) == seen


def test_a_builder_of_the_users_is_no_builder_of_ours():
    def quadratic():
        raise AssertionError

    task = SuiteTask("mine", quadratic, 10, 10, "")
    family = {"type": "RandomQuadratic", "dim": 20}
    assert training_tasks.seen_tasks(Suite("mine", 1, "", (task,)), [family]) == []


@pytest.mark.parametrize(
    ("family", "seen"),
    [
        (base.ClassSubset(), []),
        (base.ClassSubset(num_train_classes=9), DIGITS),
        (base.ClassSubset(split_seed=1), DIGITS),
        (base.ClassSubset(num_train_classes=3), []),
        (base.ClassSubset(dataset="mnist1d", split_seed=1), ["quick_mnist1d_mlp"]),
        (base.RandomQuadratic(dim=20), ["quick_quadratic"]),
        (base.RandomQuadratic(dim=21), []),
    ],
)
def test_tasks_of_the_quick_suite(family, seen, tmp_path):
    config = to_json(base.TrainConfig(family=family))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "theta.npz").touch()
    for path in (tmp_path, tmp_path / "theta.npz"):
        families = training_tasks.trained_on(path)
        assert training_tasks.seen_tasks(SUITES["quick"], families) == seen
    said = training_tasks.about(SUITES["quick"], {"trained_on": families})
    assert said == (
        f"NOT held out: it was outer-trained on classes or draws of {', '.join(seen)}"
        if seen
        else None
    )


def test_what_is_not_known_is_said(tmp_path):
    quick = SUITES["quick"]
    own = [{"type": "CustomFamily", "target": "mine:family", "held_out_target": "", "kwargs": {}}]
    assert "mine:family holds tasks of this suite is not known" in training_tasks.about(
        quick, {"trained_on": own}
    )
    assert training_tasks.trained_on(tmp_path / "theta.npz") is None
    (tmp_path / "config.json").write_text("[1")
    assert training_tasks.trained_on(tmp_path) is None
    assert "may not be new to it" in training_tasks.about(quick, {"trained_on": None})
    assert training_tasks.about(quick, {}) is None


SUBSET = {"type": "ClassSubset", "dataset": "digits", "num_train_classes": 7, "split_seed": 0}
CUSTOM = {"type": "CustomFamily", "target": "mine:family", "kwargs": {}}


@pytest.mark.parametrize("family", [SUBSET, CUSTOM, {"type": "RandomQuadratic", "dim": 2}])
@pytest.mark.parametrize("value", ["left out", None, "x", -1, 1e300, [[]], {"a": {}}, "deep"])
def test_an_odd_config_is_not_known(family, value, tmp_path):
    for name in family:
        odd = {**family, name: value}
        if value == "left out":
            del odd[name]
        text = json.dumps({"family": odd})
        text = text.replace('"deep"', "[" * 50_000 + "]" * 50_000)
        (tmp_path / "config.json").write_text(text)
        for suite in SUITES.values():
            training_tasks.about(suite, {"trained_on": training_tasks.trained_on(tmp_path)})


def test_every_kind_of_task_of_the_suites_is_known():
    """A new builder in `tasks.suites` has to be told here what its data is."""
    known = {*training_tasks._CLASSES_OF, *training_tasks._FAMILY_OF, "digits_autoencoder"}
    assert {task.build.func.__name__ for suite in SUITES.values() for task in suite.tasks} == known
