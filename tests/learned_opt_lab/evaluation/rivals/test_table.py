"""Every rival at its default is what a plain Optax loop with the published numbers makes of it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from learned_opt_lab.evaluation.baselines import BASELINES, searched
from learned_opt_lab.evaluation.rivals.table import RIVALS
from learned_opt_lab.evaluation.sweep import EXTRA_ARGS, make_runs, make_sweep
from tasks.base import SPLITS, Task, TaskFamily

NAMES = [
    "sgd",
    "momentum",
    "adam",
    "adamw",
    "nadamw",
    "lion",
    "adabelief",
    "muon",
    "schedule_free",
    "prodigy",
    "dadapt_adamw",
    "ademamix",
    "adopt",
    "momo_adam",
    "sophia",
]
NUM_STEPS = 6


def muon_and_adam():
    labels = lambda params: {name: "muon" if name == "w" else "adam" for name in params}
    adam = optax.adam(3e-4, b2=0.95, eps=1e-10)
    return optax.partition({"muon": contrib.muon(0.02), "adam": adam}, labels)


def ademamix_with_warm_ups():
    half_life = lambda decay: math.log(0.5) / math.log(decay)
    between = lambda low, high: lambda count: low + (high - low) * count / NUM_STEPS
    of_slow = between(half_life(0.9), half_life(0.9999))
    slow = lambda count: 0.5 ** (1 / of_slow(count))
    return contrib.ademamix(1e-3, b3=slow, alpha=between(0.0, 5.0))


ALONE = {
    "sgd": lambda: optax.sgd(0.01),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "rmsprop": lambda: optax.rmsprop(1e-3),
    "adam": lambda: optax.adam(1e-3),
    "adamw": lambda: optax.adamw(1e-3),
    "nadamw": lambda: optax.nadamw(2e-3),
    "lion": lambda: optax.lion(1e-4),
    "adabelief": lambda: optax.adabelief(1e-3),
    "muon": muon_and_adam,
    "schedule_free": lambda: contrib.schedule_free_adamw(2.5e-3),
    "prodigy": lambda: contrib.prodigy(1.0),
    "dadapt_adamw": lambda: contrib.dadapt_adamw(1.0),
    "ademamix": ademamix_with_warm_ups,
    "adopt": lambda: contrib.adopt(1e-3),
    "momo_adam": lambda: contrib.momo_adam(1e-2),
    "sophia": lambda: contrib.sophia(1e-4, weight_decay=0.1),
}


def matrix_family():
    """Regression of two outputs: a matrix, which Muon has its rule for, and a vector."""
    inputs = jax.random.normal(jax.random.key(0), (len(SPLITS), 16, 3))

    def task(truth):
        def loss(params, key, batch):
            del key
            error = batch @ (params["w"] - truth) + params["b"]
            return jnp.mean(error**2), {}

        def sample_batch(data, key, split):
            return data[SPLITS.index(split)][jax.random.randint(key, (8,), 0, 16)]

        init = lambda key: {"w": 0.1 * jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}
        return Task(init, loss, sample_batch)

    return TaskFamily(lambda key: jax.random.normal(key, (3, 2)), task, inputs)


def plain_loop(optimizer, run, num_steps):
    """Test losses of Optax alone, step by step; keys as `learned_opt_lab.evaluation.sweep` says."""
    family = matrix_family()
    init_key, train_key, eval_key = jax.random.split(run.seed, 3)
    task = family.task(family.sample(run.task))
    params = task.init(init_key)
    optimizer = optax.with_extra_args_support(optimizer)
    state, losses = optimizer.init(params), []
    for step in range(num_steps + 1):
        batch_key, loss_key = jax.random.split(
            jax.random.fold_in(jax.random.fold_in(eval_key, step), SPLITS.index("test"))
        )
        at = params
        if isinstance(state, contrib.ScheduleFreeState):
            at = contrib.schedule_free_eval_params(state, params)
        batch = task.sample_batch(family.data, batch_key, "test")
        losses.append(float(task.loss(at, loss_key, batch)[0]))
        keys = jax.random.split(jax.random.fold_in(train_key, step), 4)
        batch = task.sample_batch(family.data, keys[0], "train")
        loss = lambda p, b=batch, k=keys[1]: task.loss(p, k, b)[0]
        value, grad = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grad, state, params, value=value, obj_fn=loss)
        params = optax.apply_updates(params, updates)
    return losses


def swept(entry, configurations, runs, num_steps):
    sweep = make_sweep(
        matrix_family(),
        entry.factory_for(num_steps),
        num_steps=num_steps,
        splits=("test",),
        extra_args=entry.extra_args,
    )
    return np.asarray(sweep(configurations, runs)["test"]["loss"])


def test_every_rival_has_its_name_and_a_loop_here():
    assert set(NAMES) <= set(RIVALS) == set(ALONE)
    assert set(RIVALS) <= set(BASELINES)


@pytest.mark.parametrize("name", sorted(ALONE))
def test_its_default_equals_a_plain_optax_loop(name):
    runs = make_runs(jax.random.key(1), 1)
    entry = searched(RIVALS[name])
    curve = swept(entry, entry.search_space(1, 0), runs, NUM_STEPS)[0, 0]
    with jax.numpy_dtype_promotion("standard"):
        alone = plain_loop(ALONE[name](), jax.tree.map(lambda k: k[0], runs), NUM_STEPS)
    np.testing.assert_allclose(curve, alone, rtol=1e-5)
    assert abs(alone[-1] - alone[0]) > 1e-6


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_rows_are_whole(name):
    rival = RIVALS[name]
    assert set(rival.space.default) == set(rival.space.axes)
    assert set(rival.extra_args) <= set(EXTRA_ARGS)
    assert rival.source
    assert rival.description
    entry = searched(rival)
    rows = entry.search_space(200, 0)
    for row in rows.values():
        assert row.shape == (200,)
    # The default is written as a report tells it, words and all, and is the first that is drawn.
    told = entry.told({name: row[0] for name, row in rows.items()})
    assert rival.space.default == pytest.approx(told)
