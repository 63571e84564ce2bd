"""HD, RTHO and MARTHE as baselines: curves of a sweep equal the optimizer run alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.hypergradient._marthe import hd, marthe, rtho
from learned_opt_lab.evaluation.baselines import BASELINES
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from tasks.base import SPLITS

ALONE = {
    "hd": hd,
    "rtho": rtho,
    "marthe": lambda inner, rate, meta_step: marthe(inner, rate, meta_step=meta_step),
}


@pytest.mark.parametrize("name", ["hd", "rtho", "marthe"])
def test_final_loss_in_a_sweep_equals_the_optimizer_alone(name, regression_family):
    family, runs, entry = regression_family(), make_runs(jax.random.key(1), 2), BASELINES[name]
    configurations = entry.configurations(1, 0)
    assert len(configurations["learning_rate"]) == 12
    # First rates of .01 and .1.
    picked = {key: values[7:] for key, values in configurations.items()}
    sweep = make_sweep(
        family,
        entry.factory,
        num_steps=4,
        splits=("test",),
        extra_args=entry.extra_args,
        eval_every=4,
    )
    together = sweep(picked, runs)["test"]["loss"]
    for index in (0, 3):
        rate, hyper = (
            float(picked[key][index]) for key in ("learning_rate", "hyper_learning_rate")
        )
        loss, state = train_alone(family, ALONE[name](optax.sgd, rate, hyper), runs, 1, 4)
        np.testing.assert_allclose(together[index, 1, -1], loss, rtol=1e-5)
        assert float(jnp.abs(state.hypergradient)) > 0


def train_alone(family, tx, runs, index, num_steps):
    """A plain loop with the keys of `learned_opt_lab.evaluation.sweep`;
    E is the loss of a fresh validation batch.
    """
    init_key, train_key, eval_key = jax.random.split(runs.seed[index], 3)
    task = family.task(family.sample(runs.task[index]))
    params = task.init(init_key)
    state = tx.init(params)

    def loss_on(params, batch_key, loss_key, split):
        return task.loss(params, loss_key, task.sample_batch(family.data, batch_key, split))[0]

    @jax.jit
    def step(params, state, key):
        keys = jax.random.split(key, 4)
        value_fn = lambda p: loss_on(p, keys[0], keys[1], "train")
        objective_grad = jax.grad(loss_on)(params, keys[2], keys[3], "inner_valid")
        grads = jax.grad(value_fn)(params)
        updates, state = tx.update(
            grads, state, params, value_fn=value_fn, objective_grad=objective_grad
        )
        return optax.apply_updates(params, updates), state

    for i in range(num_steps):
        params, state = step(params, state, jax.random.fold_in(train_key, i))
    keys = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(eval_key, 1), SPLITS.index("test"))
    )
    return loss_on(params, *keys, "test"), state
