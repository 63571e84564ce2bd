"""What an accelerator computes is what the CPU computes. `make gpu-check` runs this on one; where
JAX has none, a second part of the CPU stands in for it.
"""

import contextlib

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh

import learned_opt
from outer_train import (
    PARTICLES,
    compiled_ahead,
    estimators,
    inner_problem,
    memory,
    outer_step,
    truncation,
)
from tasks import MLP, class_subset_family, digits
from tests.support.uses import trained

KEY = jax.random.key(0)
ACCELERATOR = jax.devices()[0 if jax.default_backend() != "cpu" else -1]
CPU = jax.devices("cpu")[0]


@contextlib.contextmanager
def on(device: jax.Device):
    """There, and with float32 products that are no shorter."""
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        yield


def test_an_update_is_that_of_the_cpu():
    with on(CPU):
        expected = trained()
    with on(ACCELERATOR):
        found = trained()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def _outer_trained(name: str, device: jax.Device):
    """Losses and theta after three outer steps, and what a step was said to take."""
    with on(device):
        family = class_subset_family(digits(), MLP((8,), 3), 3, batch_size=8)
        optimizer = learned_opt.mlp(hidden_sizes=(4,))
        estimator = getattr(estimators, name)(
            inner_problem(family, optimizer, 20), 4, axis_name=PARTICLES, max_num_steps=5
        )
        mesh = Mesh(np.asarray([device]), (PARTICLES,), axis_types=(AxisType.Auto,))
        run = outer_step([estimator], optax.adam(1e-2), truncation.constant(5), mesh)
        theta, datas = jax.device_get(optimizer.init(KEY)), run.place_data((family.data,))
        run = compiled_ahead(run, theta, KEY, datas)
        state = run.init(theta, KEY)
        key, losses = jax.device_put(KEY, state.step.sharding), []
        for _ in range(3):
            state, metrics = run.step(state, key, datas)
            losses.append(float(metrics["outer_loss"]))
        return losses, jax.device_get(state.theta), memory.program_bytes(run.step, [device])


@pytest.mark.parametrize("name", ["persistent_es", "merged"])
def test_outer_steps_are_those_of_the_cpu(name):
    losses, theta, _ = _outer_trained(name, CPU)
    found, found_theta, needed = _outer_trained(name, ACCELERATOR)
    np.testing.assert_allclose(found, losses, rtol=1e-3)
    # Adam's steps of 0.01 turn around where a gradient is nothing but rounding.
    gaps = jax.tree.map(lambda a, b: np.abs(a - b).ravel(), found_theta, theta)
    assert np.mean(np.concatenate(jax.tree.leaves(gaps))) < 1e-3
    assert 0 < needed < (memory.available_bytes([ACCELERATOR]) or np.inf)
