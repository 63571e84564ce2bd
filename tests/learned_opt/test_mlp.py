"""The update against an independent NumPy version, the kernel against finite differences, bad and odd input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import learned_opt
from learned_opt import blockwise, mlp_kernel
from learned_opt.packing import group_leaves

DECAYS = np.array([0.5, 0.9, 0.99, 0.999, 0.9999])
TIMESCALES = np.array([3, 10, 30, 100, 300, 1000, 3000, 10_000, 300_000.0])


def paper_features(g, w, m, v):
    """Appendix A of arXiv 1810.10180, one tensor, inputs last."""
    inv = 1 / np.sqrt(v + 1e-6)
    rows = [g[None], m * inv, w[None], m, v, inv]
    x = np.concatenate(rows)
    return x / np.sqrt(1e-5 + np.mean(x**2, axis=1, keepdims=True))


def default_features(g, w, m, v, t):
    scale = 1 / np.sqrt(v[0] / (1 - 0.999 ** (t + 1)) + 1e-12)
    unbiased = m / (1 - DECAYS ** (t + 1))[:, None]
    return np.concatenate([(w / np.sqrt(1e-5 + np.mean(w**2)))[None], (g * scale)[None], unbiased * scale])


def numpy_run(theta, params, grads_per_step, preset):
    """Several steps in float64, each tensor on its own."""
    theta = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
    (w0, b0), (w1, b1) = [(theta[f"layer_{i}"]["weights"], theta[f"layer_{i}"]["bias"]) for i in range(2)]
    params = [np.asarray(p, np.float64) for p in params]
    v_decays = np.array([0.999]) if preset is None else DECAYS
    ms = [np.zeros((5, p.size)) for p in params]
    vs = [np.zeros((len(v_decays), p.size)) for p in params]
    for t, grads in enumerate(grads_per_step):
        time = np.tanh(t / TIMESCALES - 1)
        for i, p in enumerate(params):
            g, w = np.asarray(grads[i], np.float64).ravel(), p.ravel()
            ms[i] = DECAYS[:, None] * ms[i] + (1 - DECAYS[:, None]) * g
            if preset != "metz2019_released":
                vs[i] = v_decays[:, None] * vs[i] + (1 - v_decays[:, None]) * g**2
            x = default_features(g, w, ms[i], vs[i], t) if preset is None else paper_features(g, w, ms[i], vs[i])
            x = np.concatenate([x, np.repeat(time[:, None], w.size, axis=1)])
            d, m = w1.T @ np.maximum(w0.T @ x + b0[:, None], 0) + b1[:, None]
            params[i] = p - (1e-3 * d * np.exp(1e-3 * m)).reshape(p.shape)
    return params


def run(opt, params, grads_per_step):
    update = jax.jit(opt.update)
    state = opt.init(params)
    for grads in grads_per_step:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def loud_theta(optimizer, seed=0):
    """Weights large enough that a wrong input shows."""
    return jax.tree.map(lambda x: 30 * x + 1.0, optimizer.init(jax.random.key(seed)))


@pytest.mark.parametrize(("preset", "count"), [(None, 610), ("metz2019", 1090), ("metz2019_released", 1090)])
def test_equals_the_papers_formula(preset, count):
    optimizer = learned_opt.mlp(preset=preset)
    theta = loud_theta(optimizer)
    assert sum(x.size for x in jax.tree.leaves(theta)) == count
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (), (5,)]
    params = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
    grads = [[jnp.asarray(rng.normal(size=s) * 10.0**-i, jnp.float32) for i, s in enumerate(shapes)] for _ in range(4)]
    got, state = run(optimizer.optimizer(theta), params, grads)
    want = numpy_run(theta, params, grads, preset)
    assert int(state.count) == 4
    for p, a, b in zip(params, got, want, strict=True):
        assert np.max(np.abs(b - np.asarray(p))) > 0.02
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_two_hidden_layers_and_none_equal_numpy():
    for sizes in ((), (6, 5)):
        optimizer = learned_opt.mlp(sizes, timescales=(7.0,))
        theta = loud_theta(optimizer)
        g, w = np.array([0.3, -2.0, 1.0]), np.array([1.0, 2.0, -3.0])
        x = default_features(g, w, (1 - DECAYS)[:, None] * g, 0.001 * g[None] ** 2, 0)
        x = np.concatenate([x, np.full((1, 3), np.tanh(-1.0))])
        for i in range(len(sizes) + 1):
            x = np.maximum(x, 0) if i else x
            x = np.asarray(theta[f"layer_{i}"]["weights"]).T @ x + np.asarray(theta[f"layer_{i}"]["bias"])[:, None]
        params = jnp.asarray(w, jnp.float32)
        opt = optimizer.optimizer(theta)
        updates, _ = jax.jit(opt.update)(jnp.asarray(g, jnp.float32), opt.init(params), params)
        np.testing.assert_allclose(updates, -1e-3 * x[0] * np.exp(1e-3 * x[1]), rtol=1e-4)


def test_an_untrained_optimizer_does_little():
    optimizer = learned_opt.mlp()
    params = jax.random.normal(jax.random.key(1), (200,))
    for seed in range(3):
        opt = optimizer.optimizer(optimizer.init(jax.random.key(seed)))
        updates, _ = jax.jit(opt.update)(params, opt.init(params), params)
        assert 0.0 < float(jnp.max(jnp.abs(updates))) < 1e-3  # less than a step of Adam at its usual rate


def test_blocks_equal_one_piece(monkeypatch):
    rng = np.random.default_rng(0)
    w, g = jnp.asarray(rng.normal(size=1003), jnp.float32), jnp.asarray(rng.normal(size=1003), jnp.float32)
    for preset in (None, "metz2019"):
        optimizer = learned_opt.mlp(preset=preset)
        opt = optimizer.optimizer(loud_theta(optimizer))
        monkeypatch.setattr(blockwise, "BLOCK", 10_000)
        whole, state = jax.jit(opt.update)(g, opt.init(w), w)
        monkeypatch.setattr(blockwise, "BLOCK", 100)
        blocks, block_state = jax.jit(opt.update)(g, opt.init(w), w)
        np.testing.assert_allclose(blocks, whole, rtol=2e-5, atol=1e-7)
        np.testing.assert_array_equal(block_state.momenta[0], state.momenta[0])


def test_tensors_are_normalized_apart():
    """A tensor's update does not depend on which tensors it is packed with."""
    optimizer = learned_opt.mlp(preset="metz2019")
    opt = optimizer.optimizer(loud_theta(optimizer))
    tree = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([100.0]), "c": jnp.full((20_000,), 3.0)}
    together, _ = opt.update(tree, opt.init(tree), tree)
    for name, leaf in tree.items():
        alone, _ = opt.update(leaf, opt.init(leaf), leaf)
        np.testing.assert_allclose(together[name], alone, rtol=1e-4)


def test_leaves_are_grouped_by_size_and_type():
    with jax.enable_x64(True):
        shapes = [((3,), "float32"), ((0, 2), "float32"), ((200, 200), "float32"), ((), "float64"), ((2,), "bfloat16")]
        groups = group_leaves([jnp.zeros(shape, dtype) for shape, dtype in shapes])
    assert [group.leaves for group in groups] == [(0, 4), (2,), (3,)]
    assert [group.size for group in groups] == [5, 40_000, 1]
    many = group_leaves([jnp.zeros(16_000)] * 9)
    assert [len(group.leaves) for group in many] == [4, 4, 1]


def test_vmap_over_theta_equals_a_loop():
    optimizer = learned_opt.mlp()
    thetas = jax.vmap(lambda key: loud_theta(optimizer) | optimizer.init(key))(jax.random.split(jax.random.key(0), 3))
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}

    def two_steps(theta):
        opt = optimizer.optimizer(theta)

        def step(carry, _):
            w, state = carry
            updates, state = opt.update(jax.tree.map(jnp.sin, w), state, w)
            return (optax.apply_updates(w, updates), state), None

        return lax.scan(step, (params, opt.init(params)), None, length=2)[0][0]

    batched = jax.jit(jax.vmap(two_steps))(thetas)
    for i in range(3):
        single = two_steps(jax.tree.map(lambda x, i=i: x[i], thetas))
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-7), batched, single)


def kernel_arguments(n=37, hidden=8, inputs=3):
    rng = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(rng.normal(size=shape))

    return (array(inputs, hidden), array(hidden, 2)), (array(hidden), array(2)), tuple(array(n) for _ in range(inputs))


def test_kernel_equals_matmul_and_its_derivatives_equal_finite_differences(monkeypatch):
    monkeypatch.setattr(mlp_kernel, "TANGENT_BLOCK", 10)
    with jax.enable_x64(True):
        arguments = kernel_arguments()
        weights, biases, rows = arguments
        got = jnp.stack(mlp_kernel.one_hidden_layer(*arguments))
        np.testing.assert_allclose(got, mlp_kernel.matmul_mlp(weights, biases, jnp.stack(rows)), rtol=1e-12, atol=1e-12)
        direction = jax.tree.map(jnp.cos, arguments)
        out, tangent = jax.jvp(mlp_kernel.one_hidden_layer, arguments, direction)

        def at(h):
            return mlp_kernel.one_hidden_layer(*jax.tree.map(lambda x, d: x + h * d, arguments, direction))

        for plus, minus, t in zip(at(1e-7), at(-1e-7), tangent, strict=True):
            np.testing.assert_allclose((plus - minus) / 2e-7, t, rtol=1e-5, atol=1e-6)
        cotangent = tuple(jnp.sin(x) for x in out)
        _, pullback = jax.vjp(mlp_kernel.one_hidden_layer, *arguments)
        forward = sum(jnp.vdot(c, t) for c, t in zip(cotangent, tangent, strict=True))
        reverse = jax.tree.map(jnp.vdot, pullback(cotangent), direction)
        np.testing.assert_allclose(forward, sum(jax.tree.leaves(reverse)), rtol=1e-12)


def test_kernel_is_twice_differentiable():
    with jax.enable_x64(True):
        arguments = kernel_arguments(n=5, hidden=4, inputs=2)

        def plain(w, b, r):
            return jnp.sum(mlp_kernel.matmul_mlp(w, b, jnp.stack(r)) ** 2)

        def fast(w, b, r):
            return sum(jnp.sum(x**2) for x in mlp_kernel.one_hidden_layer(w, b, r))

        want, got = jax.hessian(plain)(*arguments), jax.hessian(fast)(*arguments)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), want, got)


def test_blocks_of_columns():
    columns = jnp.arange(22.0).reshape(2, 11)
    got = mlp_kernel.in_blocks(lambda x: x[:1] * x[1:], columns, 4)
    np.testing.assert_array_equal(got, columns[:1] * columns[1:])


def test_forward_and_reverse_mode_agree_through_ten_steps():
    """Also where a gradient is always zero."""
    with jax.enable_x64(True):
        for preset in (None, "metz2019"):
            optimizer = learned_opt.mlp(preset=preset)
            theta = jax.tree.map(lambda x: x.astype(jnp.float64), loud_theta(optimizer))

            def final_loss(theta, optimizer=optimizer):
                opt = optimizer.optimizer(theta)

                def loss(w):
                    return jnp.sum(jnp.array([0.0, 1.0, 5.0]) * (w["w"] - 1.0) ** 2) + w["b"] ** 2

                def step(carry, _):
                    w, state = carry
                    updates, state = opt.update(jax.grad(loss)(w), state, w)
                    return (optax.apply_updates(w, updates), state), None

                w = {"w": jnp.zeros(3), "b": jnp.ones(())}
                return loss(lax.scan(step, (w, opt.init(w)), None, length=10)[0][0])

            direction = jax.tree.map(jnp.cos, theta)
            grad = jax.jit(jax.grad(final_loss))(theta)
            tangent = jax.jit(lambda t, d, f=final_loss: jax.jvp(f, (t,), (d,))[1])(theta, direction)
            reverse = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (grad, direction)), strict=True))
            np.testing.assert_allclose(reverse, tangent, rtol=1e-9)
            assert all(np.isfinite(g).all() for g in jax.tree.leaves(grad))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_updates_keep_the_type_and_accumulators_do_not(dtype):
    with jax.enable_x64(dtype == "float64"):
        optimizer = learned_opt.mlp()
        opt = optimizer.optimizer(loud_theta(optimizer))
        params = {"a": jnp.ones((2, 2), dtype), "s": jnp.ones((), dtype), "none": jnp.zeros((0, 3), dtype)}
        updates, state = jax.jit(opt.update)(params, opt.init(params), params)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(updates)} == {dtype}
        wide = "float64" if dtype == "float64" else "float32"
        assert {x.dtype.name for x in (*state.momenta, *state.second_moments)} == {wide}
        np.testing.assert_allclose(state.momenta[0][0], 0.5 * np.ones(5), rtol=1e-6)
        assert updates["none"].shape == (0, 3)
        in_single = jax.tree.map(lambda x: x.astype(jnp.float32), params)
        want, _ = opt.update(in_single, opt.init(in_single), in_single)
        np.testing.assert_allclose(updates["a"].astype(jnp.float32), want["a"], rtol=1e-2)


def test_an_empty_tree():
    optimizer = learned_opt.mlp()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    updates, state = opt.update({}, opt.init({}), {})
    assert updates == {}
    assert int(state.count) == 1


def test_state_takes_24_bytes_a_parameter():
    optimizer = learned_opt.mlp()
    params = {"w": jnp.zeros((1000, 20)), "b": jnp.zeros(20)}
    state = jax.eval_shape(optimizer.optimizer(optimizer.init(jax.random.key(0))).init, params)
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) == 24 * 20_020 + 4


def test_refuses_what_it_cannot_update():
    optimizer = learned_opt.mlp()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    with pytest.raises(TypeError, match="int32"):
        opt.init({"a": jnp.zeros(3, jnp.int32)})
    with pytest.raises(ValueError, match="params"):
        opt.update(jnp.ones(2), opt.init(jnp.ones(2)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"preset": "metz"}, "'metz2019'"),
        ({"momentum_decays": (0.5, 1.0)}, "momentum_decays: got 1.0"),
        ({"second_moment_decays": (-0.1,)}, "second_moment_decays: got -0.1"),
        ({"hidden_sizes": (0,)}, "hidden_sizes: got 0"),
        ({"timescales": (0.0,)}, "timescales: got 0.0"),
        ({"features": ("adam",)}, "features: got 'adam'"),
        ({"features": ()}, "at least one"),
        ({"step_multiplier": float("nan")}, "step_multiplier: got nan"),
        ({"second_moment_decays": (0.9, 0.99)}, "5 momentum decays and 2"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.mlp(**kwargs)


def test_inputs_can_be_taken_away():
    optimizer = learned_opt.mlp(preset="metz2019_released", momentum_decays=(), timescales=())
    theta = optimizer.init(jax.random.key(0))
    assert theta["layer_0"]["weights"].shape == (1 + 1 + 5 + 5, 32)
    opt = optimizer.optimizer(theta)
    params = jnp.ones(3)
    _, state = opt.update(params, opt.init(params), params)
    assert state.momenta[0].shape == (0, 3)
