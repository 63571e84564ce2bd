"""A donated state is updated where it is:
a copy of it costs as much time as the averages themselves.
"""

import re

import jax
import jax.numpy as jnp
import pytest

import learned_opt

SIDE = 200
"""A matrix of its own group, above `packing.MAX_PACKED_LEAF`."""


@pytest.mark.parametrize("make", [learned_opt.mlp, learned_opt.adafactor_mlp])
def test_a_donated_state_is_not_copied(make):
    optimizer = make(hidden_sizes=())
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    params = {"w": jnp.ones((SIDE, SIDE))}
    state = jax.eval_shape(opt.init, params)
    compiled = jax.jit(opt.update, donate_argnums=1).lower(params, state, params).compile()
    averages = rf"f32\[\d+,{SIDE},{SIDE}\]"
    assert re.search(averages, compiled.as_text())
    assert not re.findall(rf"= {averages}\S* copy\(", compiled.as_text())
