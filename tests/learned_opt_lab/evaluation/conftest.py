"""A task family small enough that its programs compile in a second,
and an Optax loop to compare with.
"""

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt_lab.evaluation.suite.run import Settings
from tasks.base import SPLITS, Task, TaskFamily
from tests.support.lab.tiny import make_suite


def make_regression_family(num_features=3, batch_size=4):
    """Noisy linear regression: a task is its true weights;
    the splits draw different rows of the data.
    """
    inputs = jax.random.normal(jax.random.key(0), (len(SPLITS), 16, num_features))

    def task(truth):
        def init(key):
            return {"w": 0.1 * jax.random.normal(key, (num_features,)), "b": jnp.zeros(())}

        def loss(params, key, batch):
            noise = 0.01 * jax.random.normal(key, batch.shape[:1])
            error = batch @ (params["w"] - truth) + params["b"] + noise
            return jnp.mean(error**2), {"absolute_error": jnp.mean(jnp.abs(error))}

        def sample_batch(data, key, split):
            rows = data[SPLITS.index(split)]
            return rows[jax.random.randint(key, (batch_size,), 0, rows.shape[0])]

        return Task(init, loss, sample_batch)

    return TaskFamily(lambda key: jax.random.normal(key, (num_features,)), task, inputs)


def plain_loop(family, optimizer, runs, index, num_steps, split, eval_every=1, hypergradient=False):
    """An independent Optax loop: no vmap, no scan.

    The keys are those `learned_opt_lab.evaluation.sweep` documents.

    With `hypergradient` the optimizer gets the batch's loss and the gradient of an `inner_valid`
    batch.
    """
    init_key, train_key, eval_key = jax.random.split(runs.seed[index], 3)
    task = family.task(family.sample(runs.task[index]))
    params = task.init(init_key)
    state = optimizer.init(params)
    losses = []

    def measure(point):
        batch_key, loss_key = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(eval_key, point), SPLITS.index(split))
        )
        losses.append(
            float(task.loss(params, loss_key, task.sample_batch(family.data, batch_key, split))[0])
        )

    grad_fn = jax.jit(jax.grad(lambda p, k, b: task.loss(p, k, b)[0]))
    with jax.numpy_dtype_promotion("standard"):
        for step in range(num_steps):
            if step % eval_every == 0:
                measure(step // eval_every)
            batch_key, loss_key, valid_batch_key, valid_loss_key = jax.random.split(
                jax.random.fold_in(train_key, step), 4
            )
            batch = task.sample_batch(family.data, batch_key, "train")
            grad = grad_fn(params, loss_key, batch)
            extra = {}
            if hypergradient:
                valid = task.sample_batch(family.data, valid_batch_key, "inner_valid")
                extra["value_fn"] = lambda p, k=loss_key, b=batch: task.loss(p, k, b)[0]
                extra["objective_grad"] = grad_fn(params, valid_loss_key, valid)
            updates, state = optimizer.update(grad, state, params, **extra)
            params = optax.apply_updates(params, updates)
        measure(num_steps // eval_every)
    return losses


@pytest.fixture(scope="session")
def regression_family():
    return make_regression_family


@pytest.fixture(scope="session", name="plain_loop")
def plain_loop_fixture():
    return plain_loop


@pytest.fixture(scope="module")
def suite(regression_family):
    return make_suite(regression_family)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(num_seeds=6, num_tuning_seeds=2, cache_dir=tmp_path_factory.mktemp("cache"))
