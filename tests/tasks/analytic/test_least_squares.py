import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.analytic.least_squares import least_squares_family


def test_regression_has_unit_solution_and_the_stated_noise():
    family = least_squares_family(dim=5, num_samples=4000, noise_std=0.5)
    regression = family.sample(jax.random.key(0))
    np.testing.assert_allclose(np.linalg.norm(regression.solution), 1, rtol=1e-6)
    residual = regression.targets - regression.inputs @ regression.solution
    np.testing.assert_allclose(np.std(residual), 0.5, rtol=0.05)
    np.testing.assert_allclose(np.cov(regression.inputs.T), np.eye(5), atol=0.1)


def test_splits_divide_the_samples_and_test_is_the_exact_risk():
    family = least_squares_family(dim=4, num_samples=10, noise_std=1.0, num_train=6)
    regression = family.sample(jax.random.key(1))
    task = family.task(regression)
    key, params = jax.random.key(2), jnp.arange(4.0)
    for split, rows in (
        ("train", slice(0, 6)),
        ("inner_valid", slice(6, 10)),
        ("outer_valid", slice(6, 10)),
    ):
        loss, _ = task.loss(params, key, task.sample_batch((), key, split))
        x, y = np.asarray(regression.inputs[rows]), np.asarray(regression.targets[rows])
        np.testing.assert_allclose(loss, np.mean((x @ np.arange(4.0) - y) ** 2) / 2, rtol=1e-5)
    loss, _ = task.loss(params, key, task.sample_batch((), key, "test"))
    np.testing.assert_allclose(
        loss, np.sum((np.arange(4.0) - regression.solution) ** 2) / 2, rtol=1e-5
    )
    np.testing.assert_array_equal(task.init(key), np.zeros(4))


def test_sgd_batches_are_training_rows_and_unbiased():
    family = least_squares_family(dim=3, num_samples=8, noise_std=1.0, num_train=5, batch_size=2)
    task = family.task(family.sample(jax.random.key(3)))
    full = least_squares_family(dim=3, num_samples=8, noise_std=1.0, num_train=5)
    whole = full.task(full.sample(jax.random.key(3)))
    params = jnp.array([0.3, -0.2, 0.1])

    def grad(key):
        return jax.grad(
            lambda params: task.loss(params, key, task.sample_batch((), key, "train"))[0]
        )(params)

    grads = np.asarray(jax.vmap(grad)(jax.random.split(jax.random.key(4), 20_000)))
    key = jax.random.key(5)
    expected = jax.grad(
        lambda params: whole.loss(params, key, whole.sample_batch((), key, "train"))[0]
    )(params)
    z = (grads.mean(0) - expected) / (grads.std(0) / np.sqrt(len(grads)))
    assert np.max(np.abs(z)) < 4


@pytest.mark.parametrize(("norm", "frozen"), [(19.9, False), (20.0, True), (1e5, True)])
def test_gradients_vanish_beyond_forty_sigma(norm, frozen):
    family = least_squares_family(dim=2, num_samples=6, noise_std=0.5)
    task = family.task(family.sample(jax.random.key(6)))
    key = jax.random.key(7)
    params = jnp.array([norm, 0.0])
    value, grad = jax.value_and_grad(
        lambda params: task.loss(params, key, task.sample_batch((), key, "train"))[0]
    )(params)
    assert value > 1
    assert bool(np.all(np.asarray(grad) == 0)) is frozen


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"dim": 0}, "dim"),
        ({"num_samples": 0, "num_train": None}, "num_samples"),
        ({"num_train": 11}, "num_train"),
        ({"noise_std": -1.0}, "noise_std"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_norm": 0.0}, "max_norm"),
    ],
)
def test_bad_input(change, name):
    with pytest.raises(ValueError, match=name):
        least_squares_family(
            **{"dim": 3, "num_samples": 10, "noise_std": 1.0, "num_train": 5, **change}
        )


def test_no_validation_samples():
    family = least_squares_family(dim=3, num_samples=10, noise_std=1.0)
    task = family.task(family.sample(jax.random.key(8)))
    with pytest.raises(ValueError, match="num_train is num_samples, 10"):
        task.sample_batch((), jax.random.key(9), "outer_valid")
