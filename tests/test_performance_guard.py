"""What would make it slow again, caught without a clock:
compilations, fusions, products, flop, bytes, transfers.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from outer_train import (
    PARTICLES,
    compiler_options,
    estimators,
    inner_problem,
    outer_step,
    particle_mesh,
    truncation,
)
from tasks import MLP, ConvNet, class_subset_family, from_arrays

KEY = jax.random.key(0)
_COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations():
    """Names of the programs that XLA compiles while the test runs."""
    seen = []
    count = lambda event, seconds, **kwargs: seen.append(event) if event == _COMPILED else None
    jax.monitoring.register_event_duration_secs_listener(count)
    yield seen
    jax.monitoring.unregister_event_duration_listener(count)


@pytest.fixture(scope="module")
def quickstart_like():
    """The outer step of quickstart in small: PES, truncations, Adam, image batches;
    its state and data on the mesh.
    """
    images = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 1), dtype=np.uint8)
    family = class_subset_family(
        from_arrays(images, np.arange(400) % 4), MLP((8,), 2), 2, batch_size=8
    )
    optimizer = learned_opt.mlp((4,))
    problem = inner_problem(family, optimizer, 20)
    made = estimators.persistent_es(problem, 4, axis_name=PARTICLES, max_num_steps=5, stagger=True)
    run = outer_step([made], optax.adam(3e-3), truncation.constant(5), particle_mesh(4, 2))
    return (
        run,
        run.init(optimizer.init(KEY), KEY),
        jax.block_until_ready(run.place_data((family.data,))),
    )


def test_a_step_compiles_once_and_moves_nothing_to_or_from_the_host(quickstart_like, compilations):
    run, state, datas = quickstart_like
    key = run.place_data(KEY)
    state, metrics = run.step(state, key, datas)
    first = len(compilations)
    assert first <= 2
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, metrics = run.step(state, key, datas)
    assert len(compilations) == first
    assert int(metrics["num_live_inner_steps"]) > 0


@pytest.mark.skipif(not compiler_options(), reason="this JAX has no such option")
def test_products_are_not_chained_into_graphs():
    def loss(first, second, x):
        return jnp.sum(jnp.maximum(x @ first, 0.0) @ second, axis=-1)

    arguments = jnp.ones((4, 16, 8)), jnp.ones((4, 8, 8)), jnp.ones((4, 32, 16))
    text = (
        jax.jit(jax.vmap(loss), compiler_options=compiler_options())
        .lower(*arguments)
        .compile()
        .as_text()
    )
    bodies = re.split(r"\n\n", text)
    assert sum(body.count(" dot(") for body in bodies) == 2
    assert max(body.count(" dot(") for body in bodies if "ENTRY" not in body) <= 1


@pytest.mark.skipif(not compiler_options(), reason="this JAX has no such option")
def test_over_large_arrays_xla_is_left_alone():
    """Its own loops go by columns over arrays of a convolution, and compute them anew for each."""
    images = from_arrays(np.zeros((320, 32, 32, 3), np.uint8), np.arange(320) % 4)
    small = class_subset_family(images, MLP((8,), 4), 4, batch_size=2)
    assert compiler_options(small) == compiler_options()
    family = class_subset_family(images, ConvNet(num_classes=4), 4, batch_size=8)
    assert compiler_options(small, family) == compiler_options(family) == {}
    with jax.disable_jit():  # whoever looks into a program operation by operation builds it too
        assert compiler_options(small) == compiler_options()
        assert compiler_options(family) == {}
    task = family.task(family.sample(KEY))

    def loss(params, data):
        return task.loss(params, KEY, task.sample_batch(data, KEY, "train"))[0]

    params = jax.vmap(task.init)(jax.random.split(KEY, 4))
    longest = {}
    for name, options in {"left": compiler_options(family), "own": compiler_options()}.items():
        gradient = jax.jit(jax.vmap(jax.grad(loss), (0, None)), compiler_options=options)
        text = gradient.lower(params, family.data).compile().as_text()
        bodies = [body for body in text.split("\n\n") if re.search(r" (reduce|copy)\(", body)]
        longest[name] = max(body.count(" parameter(") for body in bodies if "ENTRY" not in body)
    assert longest["left"] <= 4 < 9 <= longest["own"]


def test_the_update_of_small_tensors_is_one_loop_without_products():
    optimizer = learned_opt.mlp()
    opt = optimizer.optimizer(optimizer.init(KEY))
    params = {
        "a": jnp.ones((64, 32)),
        "b": jnp.ones(32),
        "c": jnp.ones((32, 10)),
        "d": jnp.ones(10),
    }
    compiled = jax.jit(opt.update).lower(params, opt.init(params), params).compile()
    text, cost = compiled.as_text(), compiled.cost_analysis()
    n = sum(x.size for x in params.values())
    assert text.count(" dot(") <= 1  # of the time features, not of the parameters
    assert text.count(" fusion(") <= 60
    assert f"[32,{n}]" not in text  # no hidden units in memory
    assert compiled.memory_analysis().temp_size_in_bytes <= 48 * n
    # 2 (7 inputs x 32 + 32 x 2 outputs) flop is the MLP; XLA counts one round of the loop of two.
    assert 576 * n / 2 <= cost["flops"] <= 2 * 576 * n
    assert cost["bytes accessed"] <= 400 * n


@pytest.mark.parametrize("shape", [(2_000_000,), (2738, 2738), (1024, 4096), (2 * 10_007, 64)])
def test_what_load_gives_needs_no_temporary_memory_of_a_large_tensor_s_size(shape):
    """Of an axis with few divisors too: 2738 is twice a prime's square."""
    opt, params = learned_opt.load(), jax.ShapeDtypeStruct(shape, jnp.float32)
    state = jax.eval_shape(opt.init, params)
    compiled = jax.jit(opt.update, donate_argnums=1).lower(params, state, params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.5 * params.size


def test_a_large_tensor_needs_no_temporary_memory_of_its_size():
    optimizer = learned_opt.mlp()
    opt = optimizer.optimizer(optimizer.init(KEY))
    params = jax.ShapeDtypeStruct((2_000_000,), jnp.float32)
    state = jax.eval_shape(opt.init, params)
    compiled = jax.jit(opt.update, donate_argnums=1).lower(params, state, params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.1 * params.size
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) <= 28 * params.size
    text = compiled.as_text()
    assert text.count(" dot(") <= 1
    assert " while(" not in text  # one loop of XLA's own, which it spreads over the cores
    # Inputs and hidden units are in it.
    assert len(re.findall(r"f32\[2000000\]\S* fusion\(", text)) == 1
