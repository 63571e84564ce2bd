"""One, two and eight devices give the same numbers,
for each estimator and for the outer step on real data.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import learned_opt
from outer_train import PARTICLES, estimators, inner_problem, outer_step, particle_mesh, truncation
from tasks import MLP, class_subset_family, digits
from tests.support.outer_train.names import ESTIMATORS
from tests.support.outer_train.systems import linear_quadratic

NUM_PARTICLES = 16
KEY = jax.random.key(3)


def _final_estimate(name, num_devices, **kwargs):
    problem, _ = linear_quadratic(num_steps=10)
    theta = jnp.asarray([0.3, -0.5, 0.2, 0.4], jnp.float32)
    estimator = getattr(estimators, name)(problem, NUM_PARTICLES, axis_name=PARTICLES, **kwargs)
    mesh = particle_mesh(NUM_PARTICLES, num_devices)
    spread = jax.shard_map(estimator.init, mesh=mesh, in_specs=(P(), P()), out_specs=P(PARTICLES))
    in_specs = (P(), P(PARTICLES), P(), P())
    estimate = jax.jit(
        jax.shard_map(
            estimator.estimate, mesh=mesh, in_specs=in_specs, out_specs=(P(), P(PARTICLES))
        )
    )
    state = jax.jit(spread)(theta, KEY)
    for i, length in enumerate((4, 3, 6)):  # the last one runs past the episode's end
        result, state = estimate(theta, state, jax.random.fold_in(KEY, i), jnp.int32(length))
    assert estimate._cache_size() == 1
    return result


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_agree_over_device_counts(name):
    kwargs = {"cross_fit": True} if name == "merged" else {}
    one = _final_estimate(name, 1, **kwargs)
    for num_devices in (2, 8) if name == "merged" else (2,):
        other = _final_estimate(name, num_devices, **kwargs)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def _outer_trained(num_devices):
    family = class_subset_family(digits(), MLP((8,), 3), 3, batch_size=8)
    optimizer = learned_opt.mlp()
    problem = inner_problem(family, optimizer, 40)
    pes = estimators.persistent_es(problem, NUM_PARTICLES, axis_name=PARTICLES, stagger=True)
    run = outer_step(
        [pes],
        optax.adam(1e-2),
        truncation.linear(2, 5, 4),
        particle_mesh(NUM_PARTICLES, num_devices),
    )
    state, datas = run.init(optimizer.init(KEY), KEY), run.place_data((family.data,))
    losses = []
    for _ in range(4):
        state, metrics = run.step(state, KEY, datas)
        losses.append(float(metrics["outer_loss"]))
    assert run.step._cache_size() == 1
    return losses, jax.device_get(state.theta)


def test_outer_training_agrees_on_one_two_and_eight_devices():
    losses, theta = _outer_trained(1)
    for num_devices in (2, 8):
        other_losses, other = _outer_trained(num_devices)
        np.testing.assert_allclose(other_losses, losses, rtol=1e-3)
        for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3)


def test_pairs_that_do_not_divide_over_the_devices_are_refused():
    with pytest.raises(ValueError, match="6 pairs do not divide over 4 devices"):
        particle_mesh(6, 4)
    with pytest.raises(ValueError, match="num_devices must lie in"):
        particle_mesh(6, 99)
    assert particle_mesh(6).size == 6
    assert particle_mesh(7).size == 7
    assert particle_mesh(11).size == 1
