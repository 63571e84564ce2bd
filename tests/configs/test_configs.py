"""Every shipped config builds, and goes through JSON unchanged."""

import dataclasses
import inspect

import jax
import numpy as np
import optax
import pytest

import learned_opt
from configs import base
from configs.base import estimators, optimizers, run, searches, truncations
from configs.base import tasks as families
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.build import build, build_outer_optimizer
from learned_opt_lab.runs.config_json import types_in_json
from tasks.text import ALPHABET
from tests.support.synthetic import write_synthetic_imagenet

NEEDS_DATA = {
    "metz2019_cifar100": "cifar100",
    "metz2019_cnn": "imagenet_resized/32x32",
    "metz2019_small": "fashion_mnist",
    "fashion_mnist_mlp": "fashion_mnist",
    "general": "fashion_mnist",
    "general_es": "fashion_mnist",
    "orthogonal": "fashion_mnist",
}


def num_weights(theta):
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


@pytest.mark.parametrize("name", [name for name in catalog.CONFIGS if name not in NEEDS_DATA])
def test_shipped_configs_build(name):
    config, path = catalog.load(name)
    built = build(config, num_devices=2)
    state = jax.eval_shape(built.step.init, built.theta, built.key)
    assert path is None
    assert state.step.shape == ()
    for leaf in jax.tree.leaves(state.estimator_states):
        assert leaf.shape[0] == config.estimator.num_pairs
    assert num_weights(state.theta) == num_weights(built.untrained_theta)


def test_fashion_mnist_builds(fashion_mnist_dir):
    config, _ = catalog.load("fashion_mnist_mlp")
    family = dataclasses.replace(config.family, data_dir=str(fashion_mnist_dir))
    built = build(dataclasses.replace(config, family=family), num_devices=2)
    task_params = built.families[0].sample(jax.random.key(0))
    batch = (
        built.families[0].task(task_params).sample_batch(built.datas[0], jax.random.key(1), "train")
    )
    assert batch["image"].shape == (128, 8, 8, 1)
    assert task_params.shape == (5,)


def test_the_orthogonal_run_tells_half_of_its_episodes(fashion_mnist_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(fashion_mnist_dir))
    built = build(catalog.load("orthogonal")[0], num_devices=2)
    assert len(built.families) == 7
    assert num_weights(built.theta) < 1000
    states = jax.eval_shape(built.step.init, built.theta, built.key).estimator_states
    assert all(state.inner.told.shape == (16, 2) for state in states)


def shapes_of(built):
    return [
        jax.eval_shape(f.task(f.sample(jax.random.key(0))).init, jax.random.key(0))
        for f in built.families
    ]


FASHION_CNN = 80 + 9 * 8 * 8 + 8
AUTOENCODER = 65 * 24 + 25 * 6 + 7 * 24 + 25 * 64
TRANSFORMER = (
    (len(ALPHABET) + 16) * 16 + 4 * (16 * 16 + 16) + 17 * 32 + 33 * 16 + 3 * 32 + 17 * len(ALPHABET)
)


def test_general_es_builds_its_eleven_families(fashion_mnist_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(fashion_mnist_dir))
    built = build(catalog.load("general_es")[0], num_devices=2)
    assert [num_weights(params) for params in shapes_of(built)] == [
        65 * 32 + 33 * 5,
        65 * 32 + 2 * 33 * 32 + 33 * 5,
        41 * 32 + 33 * 32 + 33 * 4,
        41 * 64 + 65 * 3,
        65 * 64 + 65 * 5,
        65 * 32 + 33 * 5,
        80 + 9 * 8 * 16 + 16 + 17 * 4,
        FASHION_CNN + 9 * 4,
        AUTOENCODER,
        TRANSFORMER,
        30,
    ]
    assert sum(family.weight for family in built.families) == pytest.approx(
        0.5 + 0.3 + 2.0 + 4.0 + 0.3 + 6
    )
    shipped = learned_opt.load_theta("general_es")[1]
    assert jax.tree.map(np.shape, shipped) == jax.tree.map(np.shape, built.theta)


def test_general_builds_its_twelve_families_from_general_es(fashion_mnist_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(fashion_mnist_dir))
    built = build(catalog.load("general")[0], num_devices=2)
    assert [num_weights(params) for params in shapes_of(built)] == [
        65 * 32 + 33 * 5,
        65 * 64 + 65 * 4,
        65 * 160 + 161 * 5,
        65 * 32 + 2 * 33 * 32 + 33 * 5,
        65 * 24 + 2 * 25 * 24 + 25 * 5,
        80 + 9 * 8 * 16 + 16 + 17 * 4,
        41 * 64 + 65 * 3,
        65 * 64 + 65 * 3,
        FASHION_CNN + 9 * 3,
        AUTOENCODER,
        TRANSFORMER + 8 * 16,
        30,
    ]
    jax.tree.map(
        np.testing.assert_array_equal, built.theta, learned_opt.load_theta("general_es")[1]
    )


def test_the_paper_s_config_builds_on_a_set_of_its_shape(tmp_path):
    write_synthetic_imagenet(tmp_path, images_per_class=6, validation_images_per_class=2)
    config, _ = catalog.load("metz2019_cnn")
    family = dataclasses.replace(
        config.family, data_dir=str(tmp_path), batch_size=10, fractions=(0.25, 0.25, 0.25, 0.25)
    )
    built = build(dataclasses.replace(config, family=family), num_devices=2)
    assert num_weights(built.theta) == 1090
    train = {int(c) for seed in range(300) for c in built.families[0].sample(jax.random.key(seed))}
    held_out = {int(c) for seed in range(100) for c in built.held_out.sample(jax.random.key(seed))}
    assert not train & held_out
    assert 650 < len(train) <= 700
    assert 250 < len(held_out) <= 300
    params = jax.eval_shape(built.families[0].task(jax.numpy.arange(10)).init, jax.random.key(0))
    assert num_weights(params) == 19_722


def drawn(family, number=400):
    """The sets of classes of so many tasks."""
    keys = jax.random.split(jax.random.key(0), number)
    return {tuple(sorted(each)) for each in jax.vmap(family.sample)(keys).tolist()}


def test_the_small_run_has_ten_sets_of_classes_on_both_sides(fashion_mnist_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(fashion_mnist_dir))
    built = build(catalog.load("metz2019_small")[0], num_devices=2)
    sets = [drawn(family) for family in (built.families[0], built.held_out)]
    assert [len(each) for each in sets] == [10, 10]
    assert {len(each) for found in sets for each in found} == {3}
    classes = [set().union(*found) for found in sets]
    assert [len(each) for each in classes] == [5, 5]
    assert not classes[0] & classes[1]
    batch = built.held_out.task(jax.numpy.arange(3)).sample_batch(
        built.datas[0], jax.random.key(1), "test"
    )
    assert batch["image"].shape == (32, 14, 14, 1)
    assert num_weights(built.theta) == 1090


def test_the_run_on_cifar100_builds_on_a_set_of_its_shape(tmp_path):
    write_synthetic_imagenet(tmp_path, 8, 2, num_classes=100)
    config, _ = catalog.load("metz2019_cifar100")
    family = dataclasses.replace(
        config.family,
        dataset="imagenet_resized/32x32",
        data_dir=str(tmp_path),
        batch_size=10,
        fractions=(0.25, 0.25, 0.25, 0.25),
    )
    built = build(dataclasses.replace(config, family=family), num_devices=2)
    classes = [set().union(*drawn(family)) for family in (built.families[0], built.held_out)]
    assert [len(each) for each in classes] == [70, 30]
    assert not classes[0] & classes[1]
    state = jax.eval_shape(built.step.init, built.theta, built.key)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state.estimator_states)} == {8}


ABSTRACT = {base.PairEstimator, base.CrossEntropy}
"""What kinds have in common."""


def test_json_knows_every_config_class():
    modules = (base, estimators, families, optimizers, run, searches, truncations)
    classes = {
        c for module in modules for c in vars(module).values() if dataclasses.is_dataclass(c)
    }
    assert set(types_in_json().values()) == classes - ABSTRACT


@pytest.mark.parametrize("estimator", base.kinds_of(base.Estimator).values())
def test_every_estimator_builds(estimator):
    """On two layers of two units, and with the schedule whose jitter exceeds the episode."""
    small = {field: 2 for field in ("num_pairs", "num_particles") if hasattr(estimator, field)}
    config = dataclasses.replace(
        catalog.load("quadratic")[0],
        optimizer=base.Mlp(hidden_sizes=(2, 2)),
        estimator=estimator(**small),
        truncation=base.Linear(2, 100, 10),
    )
    built = build(config, num_devices=2)
    state = jax.eval_shape(built.step.init, built.theta, built.key)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state.estimator_states)} == {2}


def test_every_field_is_explained():
    """The help shows the string below a field; one without stands in the help bare."""
    for cls in (*types_in_json().values(), *ABSTRACT):
        num_docstrings = inspect.getsource(cls).count('"""') / 2
        assert num_docstrings == 1 + len(cls.__annotations__), cls.__name__


def test_cosine_with_warmup():
    config = base.OuterOptimizer(
        learning_rate=0.5, num_warmup_steps=10, final_fraction=0.1, clip="none"
    )
    optimizer = build_outer_optimizer(config, 110)
    params = {"w": np.float32(0)}
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(params)
        rates = []
        for _ in range(111):
            updates, state = jax.jit(optimizer.update)({"w": np.float32(1)}, state, params)
            rates.append(-float(updates["w"]))
    # A constant gradient makes Adam's step the rate itself.
    assert rates[0] == 0
    assert rates[5] == pytest.approx(0.25, rel=1e-4)
    assert rates[10] == pytest.approx(0.5, rel=1e-4)
    assert rates[60] == pytest.approx(0.5 * (0.9 * 0.5 + 0.1), rel=1e-4)
    assert rates[110] == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize(
    ("clip", "expected"), [("global_norm", [0.6, 0.8]), ("value", [1.0, 1.0]), ("none", [3, 4])]
)
def test_clipping(clip, expected):
    """AdamW's first moment after one step is (1 - b1) times what the clip let through."""
    optimizer = build_outer_optimizer(
        base.OuterOptimizer(clip=clip, clip_at=1.0, b1=0.5, decay="none"), 10
    )
    with jax.numpy_dtype_promotion("standard"):
        _, state = optimizer.update(
            np.array([3.0, 4.0], np.float32), optimizer.init(np.zeros(2, np.float32))
        )
    mu = optax.tree_utils.tree_get(state, "mu")
    np.testing.assert_allclose(mu, 0.5 * np.array(expected), rtol=1e-6)


def test_a_kind_can_be_chosen_after_its_flags():
    from learned_opt_lab.cli.commands.train import Args
    from learned_opt_lab.cli.parsing import parse_with_config

    for argv in (
        ["estimator:merged", "--estimator.num-pairs", "8"],
        ["--estimator.num-pairs", "8", "estimator:merged"],
    ):
        chosen = parse_with_config(
            Args, ["quickstart", *argv], "learned-opt train"
        ).config.estimator
        assert isinstance(chosen, base.Merged)
        assert chosen.num_pairs == 8
    kept = parse_with_config(
        Args, ["quickstart", "--estimator.std", "0.02"], "learned-opt train"
    ).config.estimator
    assert isinstance(kept, base.PersistentES)
    assert (kept.std, kept.num_pairs) == (0.02, 32)
