"""Suites: every task builds; MNIST-1D,
the autoencoder and the character models are what they say.
"""

import itertools
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.base import SPLITS
from tasks.images._mnist1d import NUM_POINTS, mnist1d
from tasks.images.autoencoder import autoencoder_family
from tasks.images.datasets import DatasetNotPrepared, digits
from tasks.language import pretrained_trunk, trunk
from tasks.model_state import as_stateful
from tasks.suite_tasks import task_key
from tasks.suites import SUITES, suite
from tasks.text import ALPHABET, MODELS, TEXTS, char_family, characters

TASKS = {task.name: task for each in SUITES.values() for task in each.tasks}


def test_names_are_unique_and_intervals_divide():
    assert len(TASKS) == sum(len(each.tasks) for each in SUITES.values())
    assert list(SUITES) == [
        "quick",
        "heldout",
        "width",
        "depth",
        "horizon",
        "dataset",
        "architecture",
        "real",
        "real_quick",
    ]
    assert all(task.num_steps % task.eval_every == 0 for task in TASKS.values())
    for each in SUITES.values():
        values = [task.axis_value for task in each.tasks]
        assert (None in values) == (each.axis is None)
        assert each.axis is None or len(set(values)) == len(values)


def test_unknown_suite():
    with pytest.raises(ValueError, match="did you mean quick"):
        suite("quik")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_builds_and_has_gradients_of_its_parameters(name, tmp_path, monkeypatch):
    """Under `eval_shape`: nothing is compiled, every split is drawn."""
    task = TASKS[name]
    # A trained trunk is a minute's work, and has the shapes of a fresh one.
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path))
    monkeypatch.setattr(trunk, "_train", lambda family, n: family.task(()).init(jax.random.key(0)))
    try:
        family = task.build()
    except DatasetNotPrepared:
        pytest.skip("TFDS_DATA_DIR is not set")
    finally:
        pretrained_trunk.cache_clear()

    def step(key, data):
        drawn = as_stateful(family.task(family.sample(task_key(task))))
        params, state = drawn.init(key)
        losses = [
            drawn.eval_loss(params, state, key, drawn.sample_batch(data, key, split))[0]
            for split in SPLITS
        ]
        batch = drawn.sample_batch(data, key, "train")
        grad = jax.grad(lambda p: drawn.loss(p, state, key, batch)[0])(params)
        return losses, params, grad

    closed, (losses, params, grad) = jax.make_jaxpr(step, return_shape=True)(
        jax.random.key(0), family.data
    )
    # A batched decomposition on two CPU devices may never return: see `tasks.text.CharGRU`.
    assert not re.search(r"\b(geqrf|householder_product|qr|svd|eigh|cholesky|lu)\[", str(closed))
    assert all(loss.shape == () and loss.dtype == jnp.float32 for loss in losses)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), grad) == jax.tree.map(
        lambda x: (x.shape, x.dtype), params
    )


def test_task_keys_differ_between_tasks_and_stay():
    keys = np.stack([jax.random.key_data(task_key(task)) for task in TASKS.values()])
    assert len(np.unique(keys, axis=0)) == len(TASKS)
    again = jax.random.key_data(task_key(TASKS["quick_quadratic"]))
    np.testing.assert_array_equal(
        again, jax.random.key_data(jax.random.key(zlib.crc32(b"quick_quadratic")))
    )


def test_mnist1d_is_balanced_seeded_and_harder_than_linear():
    data = mnist1d()
    assert data.images.shape == (5000, NUM_POINTS)
    assert data.num_classes == 10
    np.testing.assert_array_equal(np.asarray(data.counts).sum(axis=0), np.full(10, 500))
    np.testing.assert_array_equal(
        mnist1d(num_examples=100, seed=3).images, mnist1d.__wrapped__(100, 3).images
    )
    assert not np.array_equal(
        mnist1d(num_examples=100, seed=3).images, mnist1d(num_examples=100, seed=4).images
    )
    with pytest.raises(ValueError, match="multiple of 10"):
        mnist1d(num_examples=15)


def test_mnist1d_separates_models_as_the_paper_says():
    """Nearest neighbours beat a linear model,
    which beats chance (arXiv 2011.14439, table 1: 32 % for the linear).
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier

    data = mnist1d()
    images, labels = np.asarray(data.images, np.float64), np.asarray(data.labels)
    test = np.zeros(len(labels), bool)
    for start, count in zip(np.asarray(data.starts)[3], np.asarray(data.counts)[3], strict=True):
        test[start : start + count] = True
    linear, nearest = (
        model.fit(images[~test], labels[~test]).score(images[test], labels[test])
        for model in (RidgeClassifier(), KNeighborsClassifier(5))
    )
    assert 0.15 < linear < 0.5
    assert nearest > linear + 0.1


def test_autoencoder_starts_near_one_and_learns():
    family = autoencoder_family(digits())
    task = family.task(())
    params = task.init(jax.random.key(0))
    batch = task.sample_batch(family.data, jax.random.key(1), "train")
    assert batch["image"].shape[0] == 32
    optimizer = optax.adam(1e-2)

    def step(carry, key):
        params, state = carry
        batch = task.sample_batch(family.data, key, "train")
        loss, grad = jax.value_and_grad(lambda p: task.loss(p, key, batch)[0])(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grad, state, params)
        return (optax.apply_updates(params, updates), state), loss

    keys = jax.random.split(jax.random.key(2), 100)
    losses = jax.jit(lambda c: jax.lax.scan(step, c, keys)[1])((params, optimizer.init(params)))
    assert 0.7 < losses[0] < 2.0
    assert losses[-10:].mean() < 0.6


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_the_alphabets_and_splits_do_not_overlap(name):
    text = characters(name)
    assert len(text) == 200_000
    assert text.max() < len(ALPHABET)
    words = "".join(ALPHABET[i] for i in text)
    assert " the " in words
    assert "  " not in words
    family = char_family("gru", length=8, batch_size=64, text=name)
    places = jnp.arange(len(text), dtype=jnp.int32)
    ranges = []
    for split in SPLITS:
        windows = family.task(()).sample_batch(places, jax.random.key(0), split)
        assert windows.shape == (64, 9)
        np.testing.assert_array_equal(jnp.diff(windows, axis=1), 1)
        ranges.append((int(windows.min()), int(windows.max())))
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(ranges))


@pytest.mark.parametrize("model", ["transformer", "gru"])
def test_character_models_start_near_chance(model):
    family = char_family(model, length=6, batch_size=2)
    task = family.task(())
    params = task.init(jax.random.key(0))
    batch = task.sample_batch(family.data, jax.random.key(1), "test")
    loss, metrics = jax.jit(task.loss)(params, jax.random.key(2), batch)
    assert abs(float(loss) - np.log(len(ALPHABET))) < 1.5
    assert 0 <= float(metrics["accuracy"]) <= 1
    with pytest.raises(ValueError, match="unknown character model"):
        char_family("lstm")


def test_no_prediction_sees_its_own_character():
    tokens = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
    changed = tokens.at[:, 3].set(40)
    for model in MODELS.values():
        module = model()
        variables = module.init(jax.random.key(0), tokens)
        before, after = module.apply(variables, tokens), module.apply(variables, changed)
        np.testing.assert_allclose(before[:, :3], after[:, :3], rtol=1e-5, atol=1e-6)
        assert float(jnp.abs(before[:, 3:] - after[:, 3:]).max()) > 1e-3
