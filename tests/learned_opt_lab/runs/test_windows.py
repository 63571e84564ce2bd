"""A run of a config whose images stay on the host: stopped, resumed and scored."""

import dataclasses

import numpy as np
import pytest

from configs import quadratic
from configs.base import CustomFamily, HeldOut
from learned_opt_lab import runs
from learned_opt_lab.runs.build import build
from outer_train.run import metrics
from tests.support.synthetic import write_synthetic_imagenet

pytest.importorskip("grain", reason="grain is not installed")
FAMILY = CustomFamily(
    target="tasks.images:host_images_family",
    kwargs={
        "dataset": "imagenet_resized/32x32",
        "window": 4,
        "image_size": 4,
        "hidden_sizes": [],
        "batch_size": 6,
    },
)
CONFIG = dataclasses.replace(
    quadratic.config,
    family=FAMILY,
    optimizer=dataclasses.replace(quadratic.config.optimizer, hidden_sizes=(2,)),
    problem=dataclasses.replace(quadratic.config.problem, num_steps=8),
    estimator=dataclasses.replace(quadratic.config.estimator, num_pairs=2),
    truncation=dataclasses.replace(quadratic.config.truncation, num_steps=2),
    held_out=HeldOut(num_tasks=2, num_steps=3),
    num_outer_steps=6,
    checkpoint_every=3,
)


@pytest.fixture(autouse=True)
def synthetic(tmp_path, monkeypatch):
    write_synthetic_imagenet(tmp_path / "tfds", 20, 5, 3)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def rows(result):
    found = metrics.read_rows(result.run.metrics)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def test_its_order_is_the_config_s_seed():
    first, again, other = (
        build(dataclasses.replace(CONFIG, seed=seed), 1).feed for seed in (0, 0, 1)
    )
    with first.stream() as one, again.stream() as same, other.stream() as another:
        images = [np.asarray(stream.next()[0].images) for stream in (one, same, another)]
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_a_run_goes_on_bitwise_and_is_scored(tmp_path):
    engine = runs.InStep(num_devices=2)
    whole = runs.train(CONFIG, tmp_path / "whole", engine=engine)
    part = tmp_path / "part"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "learned_opt_lab.runs.course.loop_settings",
            lambda config, trackers: runs.course.LoopSettings(3, 3),
        )
        runs.train(CONFIG, part, engine=engine)
    (part / "summary.json").unlink()
    resumed = runs.resume(part, engine=engine)
    assert rows(resumed) == rows(whole)
    assert len(rows(whole)) == 6
    score = resumed.summary["training_family"]
    assert score == whole.summary["training_family"]
