"""Large tensors that may be spread over devices are gone over in parts, whatever their sides."""

import math

import jax
import jax.numpy as jnp
import pytest

from learned_opt import adafactor_mlp, mlp
from learned_opt.per_parameter.large import SPREAD_BLOCK, _parted
from learned_opt.trees.sample import PARTS, divisors_beside_a_mesh

AWKWARD = [(2738, 2738), (1369, 5000), (50257, 768), (2741, 2048), (2000, 2000), (74, 37, 1100)]


@pytest.mark.parametrize("shape", AWKWARD)
def test_parts_are_about_as_large_as_wanted_and_leave_a_mesh_its_own(shape):
    axis, num = _parted(shape)
    assert shape[axis] % (num * math.gcd(shape[axis], PARTS)) == 0
    assert SPREAD_BLOCK / 4 < math.prod(shape) / num < SPREAD_BLOCK * 8


@pytest.mark.parametrize("n", [1, 2, 7, 64, 2738, 5000, 50257])
def test_divisors_beside_a_mesh(n):
    whole = n // math.gcd(n, PARTS)
    assert divisors_beside_a_mesh(n) == [i for i in range(1, whole + 1) if whole % i == 0]


@pytest.mark.parametrize("make", [lambda: mlp(hidden_sizes=(32, 32)), adafactor_mlp])
def test_an_awkward_matrix_takes_no_memory_of_its_hidden_units(make):
    assert len(jax.devices()) > 1
    optimizer = make()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    params = {"w": jax.ShapeDtypeStruct((2738, 2738), jnp.float32)}
    state = jax.eval_shape(opt.init, params)
    update = jax.jit(opt.update, donate_argnums=1).lower(params, state, params).compile()
    # One hidden layer of 32 alone would be 128 bytes a parameter.
    assert update.memory_analysis().temp_size_in_bytes < 24 * 2738**2
