"""A widened theta makes the same steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt
from learned_opt.per_parameter.theta import with_hidden_units_of
from tests.support.learned_opt.thetas import loud_theta


@pytest.mark.parametrize(
    ("hidden_sizes", "wider"), [((4,), (4,)), ((4,), (7,)), ((4, 3), (4, 5)), ((3, 4), (6, 8))]
)
def test_added_units_change_no_step(hidden_sizes, wider):
    params, grads = {"w": jnp.linspace(-1.0, 2.0, 5)}, {"w": jnp.linspace(3.0, -1.0, 5)}
    optimizers = [learned_opt.mlp(sizes) for sizes in (hidden_sizes, wider)]
    theta = loud_theta(optimizers[0])
    updates = []
    for optimizer, of in zip(
        optimizers,
        (theta, with_hidden_units_of(theta, loud_theta(optimizers[1], seed=1))),
        strict=True,
    ):
        opt = optimizer.optimizer(of)
        updates.append(opt.update(grads, opt.init(params), params)[0]["w"])
    np.testing.assert_allclose(updates[1], updates[0], rtol=1e-5)


@pytest.mark.parametrize(
    "other", [{"hidden_sizes": (3,)}, {"hidden_sizes": (4, 4)}, {"momentum_decays": (0.9,)}]
)
def test_only_hidden_units_are_added(other):
    theta, wider = (
        learned_opt.mlp(**{"hidden_sizes": (4,)} | kwargs).init(jax.random.key(0))
        for kwargs in ({}, other)
    )
    with pytest.raises(ValueError, match="allowed are those within"):
        with_hidden_units_of(theta, wider)
