"""Where a run starts, and that all optimizers start by one program."""

import jax
import numpy as np
import optax

from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.evaluation.training import begin


def test_a_run_starts_where_its_task_does(regression_family):
    family, runs = regression_family(), make_runs(jax.random.key(6), num_tasks=3)
    begun = begin(family, runs)
    for i in range(3):
        task = family.task(family.sample(runs.task[i]))
        params = task.init(jax.random.split(runs.seed[i], 3)[0])
        for mine, direct in zip(*map(jax.tree.leaves, (begun.params, params)), strict=True):
            np.testing.assert_allclose(mine[i], direct, rtol=1e-6)
    assert begun.keys is not runs
    np.testing.assert_array_equal(*(jax.random.key_data(k.seed) for k in (begun.keys, runs)))


def test_optimizers_on_a_task_share_the_program_that_initializes(regression_family):
    """No sweep's own program initializes: it would be compiled again for each optimizer."""
    family, runs, rates = regression_family(), make_runs(jax.random.key(7), 2), np.ones(1)
    traced = []

    def counted(sampled):
        task = family.task(sampled)
        return task._replace(init=lambda key: traced.append(1) or task.init(key))

    counting = family._replace(task=counted)
    make_sweep(counting, optax.sgd, num_steps=1)(rates, runs)
    once = len(traced)
    for factory in (optax.adam, optax.lion):
        # Built for its shapes alone, which `check_model_state` compares.
        before = len(traced)
        sweep = make_sweep(counting, factory, num_steps=1)
        built = len(traced) - before
        sweep(rates, runs)
        assert len(traced) - before == built < once
