"""Evaluations of stateful tasks equal a plain loop of Flax and Optax, optimizers that ask for
`value_fn` and `objective_grad` included.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.hypergradient import marthe
from learned_opt_lab.evaluation.sweep import EXTRA_ARGS, make_runs, make_sweep
from learned_opt_lab.evaluation.timing import time_training
from tasks.base import SPLITS
from tasks.images.class_subsets import class_subset_family
from tasks.images.datasets import digits

NUM_STEPS, RATES = 6, (0.05, 0.3)


class Normalized(nn.Module):
    """A layer, normalized over the batch, with dropout: the batch and the key make a difference."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.Dense(4)(images.reshape(images.shape[0], -1))
        x = nn.relu(nn.BatchNorm(not train, momentum=0.6)(x))
        return nn.Dense(3)(nn.Dropout(0.2, deterministic=not train)(x))


def loss_of(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


def plain_loop(family, optimizer, runs, asked):
    """The keys are those that the sweep documents."""
    module = Normalized()
    init_key, train_key, eval_key = jax.random.split(runs.seed[0], 3)
    task = family.task(family.sample(runs.task[0]))
    params, variables = task.init(init_key)
    stats, state, curves = variables["batch_stats"], optimizer.init(params), []

    @jax.jit
    def training(params, stats, batch, key):
        logits, new = module.apply(
            {"params": params, "batch_stats": stats}, batch["image"], True,
            rngs={"dropout": key}, mutable=["batch_stats"],
        )  # fmt: skip
        return loss_of(logits, batch), new["batch_stats"]

    @jax.jit
    def testing(params, stats, batch):
        logits = module.apply({"params": params, "batch_stats": stats}, batch["image"], False)
        return loss_of(logits, batch), jnp.mean(jnp.argmax(logits, -1) == batch["label"])

    grad_of_training = jax.jit(jax.grad(lambda *args: training(*args)[0]))
    grad_of_testing = jax.jit(jax.grad(lambda *args: testing(*args)[0]))
    for step in range(NUM_STEPS + 1):
        key = jax.random.fold_in(jax.random.fold_in(eval_key, step), SPLITS.index("test"))
        batch = task.sample_batch(family.data, jax.random.split(key)[0], "test")
        curves.append(testing(params, stats, batch))
        keys = jax.random.split(jax.random.fold_in(train_key, step), 4)
        batch = task.sample_batch(family.data, keys[0], "train")
        grad = grad_of_training(params, stats, batch, keys[1])
        extra = {}
        if asked:
            valid = task.sample_batch(family.data, keys[2], "inner_valid")
            extra["objective_grad"] = grad_of_testing(params, stats, valid)
            extra["value_fn"] = lambda p, s=stats, b=batch, k=keys[1]: training(p, s, b, k)[0]
        stats = training(params, stats, batch, keys[1])[1]
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grad, state, params, **extra)
            params = optax.apply_updates(params, updates)
    return np.asarray(curves).T


@pytest.mark.parametrize("asked", [False, True])
def test_curves_equal_a_plain_loop(asked):
    family = class_subset_family(digits(), Normalized(), 3, batch_size=8)
    # No Adam: normalized inputs leave some weights a gradient of rounding alone, of which it makes
    # whole steps.
    momentum = lambda rate: optax.sgd(rate, momentum=0.9)
    factory = (lambda rate: marthe(optax.sgd, rate, meta_step=1e-3)) if asked else momentum
    extra_args = ("value_fn", "objective_grad") if asked else ()
    runs = make_runs(jax.random.key(1), 1)
    sweep = make_sweep(
        family, factory, num_steps=NUM_STEPS, splits=("test",), extra_args=extra_args
    )
    curves = sweep(jnp.asarray(RATES), runs)["test"]
    for row, rate in enumerate(RATES):
        losses, accuracies = plain_loop(family, factory(rate), runs, asked)
        np.testing.assert_allclose(curves["loss"][row, 0], losses, rtol=2e-4)
        np.testing.assert_allclose(curves["accuracy"][row, 0], accuracies, atol=1e-6)


def test_a_stateful_task_is_timed():
    family = class_subset_family(digits(), Normalized(), 3, batch_size=8)
    runs = make_runs(jax.random.key(1), 1)
    found = time_training(
        family, lambda rate: marthe(optax.sgd, rate), jnp.float32(0.1), runs,
        extra_args=EXTRA_ARGS, repetitions=1, min_seconds=0.0,
    )  # fmt: skip
    assert found.seconds_per_step > 0
