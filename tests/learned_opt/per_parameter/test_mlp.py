"""The update against an independent NumPy version;
blocks, groups, vmap, forward and reverse mode.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import learned_opt
from learned_opt.trees.packing import group_leaves
from tests.support.learned_opt.thetas import LOG_FEATURES, loud_theta

DECAYS = np.array([0.5, 0.9, 0.99, 0.999, 0.9999])
TIMESCALES = np.array([3, 10, 30, 100, 300, 1000, 3000, 10_000, 300_000.0])


def paper_features(g, w, m, v):
    """Appendix A of arXiv 1810.10180, one tensor, inputs last."""
    inv = 1 / np.sqrt(v + 1e-6)
    rows = [g[None], m * inv, w[None], m, v, inv]
    x = np.concatenate(rows)
    return x / np.sqrt(1e-5 + np.mean(x**2, axis=1, keepdims=True))


def default_features(g, w, m, v, t):
    scale = 1 / np.sqrt(v[0] / (1 - 0.999 ** (t + 1)))
    unbiased = m / (1 - DECAYS ** (t + 1))[:, None]
    return np.concatenate(
        [(w / np.sqrt(1e-5 + np.mean(w**2)))[None], (g * scale)[None], unbiased * scale]
    )


def numpy_run(theta, params, grads_per_step, preset):
    """Several steps in float64, each tensor on its own."""
    theta = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
    (w0, b0), (w1, b1) = [
        (theta[f"layer_{i}"]["weights"], theta[f"layer_{i}"]["bias"]) for i in range(2)
    ]
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
            x = (
                default_features(g, w, ms[i], vs[i], t)
                if preset is None
                else paper_features(g, w, ms[i], vs[i])
            )
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


@pytest.mark.parametrize(
    ("preset", "count"), [(None, 610), ("metz2019", 1090), ("metz2019_released", 1090)]
)
def test_equals_the_papers_formula(preset, count):
    optimizer = learned_opt.mlp(preset=preset)
    theta = loud_theta(optimizer)
    assert sum(x.size for x in jax.tree.leaves(theta)) == count
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (), (5,)]
    params = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
    grads = [
        [jnp.asarray(rng.normal(size=s) * 10.0**-i, jnp.float32) for i, s in enumerate(shapes)]
        for _ in range(4)
    ]
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
            x = (
                np.asarray(theta[f"layer_{i}"]["weights"]).T @ x
                + np.asarray(theta[f"layer_{i}"]["bias"])[:, None]
            )
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
        # Less than a step of Adam at its usual rate.
        assert 0.0 < float(jnp.max(jnp.abs(updates))) < 1e-3


@pytest.mark.parametrize("hidden_sizes", [(4,), (4, 4)])
def test_bounded_inputs_make_bounded_steps(hidden_sizes):
    """Gradients 9 and 30 of Adam's units long make the same step where inputs end at 4,
    and one within 4 as without.
    """
    arguments = {
        "hidden_sizes": hidden_sizes,
        "momentum_decays": (),
        "timescales": (),
        "features": ("adam_gradient",),
    }
    opts = [
        learned_opt.mlp(**arguments, exp_multiplier=0.01, input_bound=bound)
        for bound in (4.0, None)
    ]
    params, updates = jnp.zeros(3), []
    for optimizer in opts:
        opt = optimizer.optimizer(loud_theta(optimizer))
        state, update = opt.init(params), jax.jit(opt.update)
        for _ in range(1000):
            _, state = update(jnp.ones(3), state, params)
        updates.append(opt.update(jnp.array([2.0, 10.0, 100.0]), state, params)[0])
    bounded, free = updates
    np.testing.assert_allclose(bounded[0], free[0], rtol=1e-6)
    np.testing.assert_allclose(bounded[1], bounded[2], rtol=1e-6)
    assert abs(free[1] - free[2]) > 0.1 * abs(free[1])
    with pytest.raises(ValueError, match=r"input_bound: got -1.0, allowed are positive numbers"):
        learned_opt.mlp(input_bound=-1.0)


def test_inputs_of_the_tensor_alone():
    optimizer = learned_opt.mlp((4,), features=("log_parameter",), timescales=())
    opt = optimizer.optimizer(loud_theta(optimizer))
    params = jnp.arange(3.0)
    updates, _ = jax.jit(opt.update)(params + 1.0, opt.init(params), params)
    assert updates.shape == (3,)
    np.testing.assert_array_equal(updates, updates[0])


@pytest.mark.parametrize(
    "arguments", [{"preset": "metz2019"}, {"hidden_sizes": (4,), "features": LOG_FEATURES}]
)
def test_tensors_are_normalized_apart(arguments):
    """A tensor's update does not depend on which tensors it is packed with."""
    optimizer = learned_opt.mlp(**arguments)
    opt = optimizer.optimizer(loud_theta(optimizer))
    tree = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([100.0]), "c": jnp.full((20_000,), 3.0)}
    together, _ = opt.update(tree, opt.init(tree), tree)
    for name, leaf in tree.items():
        alone, _ = opt.update(leaf, opt.init(leaf), leaf)
        np.testing.assert_allclose(together[name], alone, rtol=1e-4)


def test_leaves_are_grouped_by_size_and_type():
    with jax.enable_x64(True):
        shapes = [
            ((3,), "float32"),
            ((0, 2), "float32"),
            ((200, 200), "float32"),
            ((), "float64"),
            ((2,), "bfloat16"),
        ]
        groups = group_leaves([jnp.zeros(shape, dtype) for shape, dtype in shapes])
    assert [group.leaves for group in groups] == [(0, 4), (2,), (3,)]
    assert [group.size for group in groups] == [5, 40_000, 1]
    many = group_leaves([jnp.zeros(16_000)] * 9)
    assert [len(group.leaves) for group in many] == [4, 4, 1]


def test_vmap_over_theta_equals_a_loop():
    optimizer = learned_opt.mlp()
    thetas = jax.vmap(lambda key: loud_theta(optimizer) | optimizer.init(key))(
        jax.random.split(jax.random.key(0), 3)
    )
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
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-7),
            batched,
            single,
        )


def test_forward_and_reverse_mode_agree_through_ten_steps():
    """Also where a gradient is always zero."""
    with jax.enable_x64(True):
        for arguments in (
            {},
            {"preset": "metz2019"},
            {"features": LOG_FEATURES, "momentum_decays": (0.5, 0.9)},
        ):
            optimizer = learned_opt.mlp(**arguments)
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
            tangent = jax.jit(lambda t, d, f=final_loss: jax.jvp(f, (t,), (d,))[1])(
                theta, direction
            )
            reverse = sum(
                jnp.vdot(g, d)
                for g, d in zip(*map(jax.tree.leaves, (grad, direction)), strict=True)
            )
            np.testing.assert_allclose(reverse, tangent, rtol=1e-9)
            assert all(np.isfinite(g).all() for g in jax.tree.leaves(grad))
