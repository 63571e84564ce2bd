"""The update against an independent NumPy version;
blocks of rows, factored axes, both modes of differentiation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import learned_opt
from learned_opt.per_parameter._adafactor_mlp import adafactor_mlp
from learned_opt.trees.factors import as_matrices, factored_axes, from_matrices
from tests.support.learned_opt.thetas import loud_theta

DECAYS = [0.9, 0.99, 0.999]
TIMESCALES = np.array([3, 10, 30, 100, 300, 1000, 3000, 10_000, 300_000.0])
PAPER_TIMESCALES = np.array([1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000.0])
SHAPES = {"matrix": (4, 3), "vector": (5,), "scalar": (), "kernel": (2, 5, 2, 3)}
FACTORED = {"matrix": (0, 1), "kernel": (1, 3)}


def factored(name, row, column):
    """The estimate of a tensor's second moment from its means over its columns' axis
    and over its rows'.
    """
    if name not in FACTORED:
        return column
    r, _ = FACTORED[name]
    return row * column / row.mean(axis=r, keepdims=True)


def means(name, square):
    if name not in FACTORED:
        return np.full_like(square, square.mean()), square
    r, c = FACTORED[name]
    return square.mean(axis=c, keepdims=True), square.mean(axis=r, keepdims=True)


def unit(x):
    return x / np.sqrt(1e-5 + np.mean(x**2))


def features(preset, name, g, w, ms, v, rows, columns, t):
    estimates = [factored(name, r, c) for r, c in zip(rows, columns, strict=True)]
    if preset is None:
        debias = [1 / (1 - d ** (t + 1)) for d in DECAYS]
        adam = 1 / np.sqrt(v * debias[2] + 1e-12)
        fac = [1 / np.sqrt(e * b + 1e-12) for e, b in zip(estimates, debias, strict=True)]
        ms = [m * b for m, b in zip(ms, debias, strict=True)]
        own = [m * f for m, f in zip(ms, fac, strict=True)]
        return [unit(w), g * adam, *(m * adam for m in ms), *(g * f for f in fac), *own]

    def full(xs):
        return [np.broadcast_to(x, w.shape) for x in xs]

    def inverse(xs):
        return [1 / np.sqrt(x + 1e-6) for x in xs]

    rest = [
        v,
        *(m * inverse([v])[0] for m in ms),
        *inverse([v]),
        *(g * f for f in inverse(estimates)),
    ]
    rest += full(rows) + full(columns) + full(inverse(rows)) + full(inverse(columns))
    rest += [m * f for m, f in zip(ms, inverse(estimates), strict=True)]
    return [unit(x) for x in [g, w, *ms, *rest]]


def numpy_run(theta, params, grads_per_step, preset, rms_normalized=False):
    """Several steps in float64, each tensor on its own."""
    theta = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
    layers = [theta[f"layer_{i}"] for i in range(len(theta))]
    params = {name: np.asarray(p, np.float64) for name, p in params.items()}
    state = {}
    for t, grads in enumerate(grads_per_step):
        time = np.tanh(t / (TIMESCALES if preset is None else PAPER_TIMESCALES) - 1)
        for name, w in params.items():
            g = np.asarray(grads[name], np.float64)
            zero = [0.0] * 3
            ms, v, rows, columns = state.get(name, (zero, 0.0, zero, zero))

            def blend(old, new):
                return [d * o + (1 - d) * new for d, o in zip(DECAYS, old, strict=True)]

            row, column = means(name, g**2)
            ms, v, rows, columns = (
                blend(ms, g),
                0.999 * v + 0.001 * g**2,
                blend(rows, row),
                blend(columns, column),
            )
            state[name] = ms, v, rows, columns
            x = np.stack([f.ravel() for f in features(preset, name, g, w, ms, v, rows, columns, t)])
            x = np.concatenate([x, np.repeat(time[:, None], w.size, axis=1)])
            for i, layer in enumerate(layers):
                x = layer["weights"].T @ (np.maximum(x, 0) if i else x) + layer["bias"][:, None]
            d = unit(x[0]) if rms_normalized else x[0]
            params[name] = w - (1e-3 * d * np.exp(1e-3 * x[1])).reshape(w.shape)
    return params


def draw(num_steps):
    rng = np.random.default_rng(0)

    def array(shape, scale=1.0):
        return jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)

    params = {name: array(shape) for name, shape in SHAPES.items()}
    return params, [
        {name: array(shape, 10.0**-i) for name, shape in SHAPES.items()} for i in range(num_steps)
    ]


def run(opt, params, grads_per_step):
    update, state = jax.jit(opt.update), opt.init(params)
    for grads in grads_per_step:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(
    ("preset", "rms_normalized", "count"),
    [(None, False, 738), (None, True, 738), ("metz2022", False, 190)],
)
def test_equals_numpy(preset, rms_normalized, count):
    optimizer = adafactor_mlp(preset=preset, rms_normalized=rms_normalized)
    theta = loud_theta(optimizer)
    assert sum(x.size for x in jax.tree.leaves(theta)) == count
    params, grads = draw(3)
    got, state = run(optimizer.optimizer(theta), params, grads)
    want = numpy_run(theta, params, grads, preset, rms_normalized)
    assert int(state.count) == 3
    for name in SHAPES:
        moved = np.max(np.abs(want[name] - np.asarray(params[name])))
        assert moved > 1e-3
        np.testing.assert_allclose(got[name], want[name], atol=2e-4 * moved + 1e-6)


def test_rms_normalized_steps_have_the_length_of_the_multiplier():
    optimizer = adafactor_mlp(
        (4,), rms_normalized=True, step_multiplier=0.02, output_init_scale=1.0
    )
    theta = optimizer.init(jax.random.key(0))
    params, (grads, *_) = draw(1)
    updates, _ = jax.jit(lambda *a: optimizer.optimizer(theta).update(*a))(
        grads, optimizer.optimizer(theta).init(params), params
    )
    for name in ("matrix", "kernel"):
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(updates[name]))), 0.02, rtol=0.01)


def test_the_two_largest_axes_are_factored():
    assert factored_axes((3, 3, 16, 32)) == (2, 3)
    assert factored_axes((64, 3, 3, 8)) == (0, 3)
    assert factored_axes((5, 5, 5)) == (1, 2)
    for shape in ((), (4,), (2, 3), (7, 2, 3), (64, 3, 3, 8)):
        x = jnp.arange(float(np.prod(shape))).reshape(shape)
        assert as_matrices(x).ndim == 3
        np.testing.assert_array_equal(from_matrices(as_matrices(x), shape), x)


def test_memory_is_four_numbers_a_parameter_and_the_factors():
    optimizer = adafactor_mlp()
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    state = jax.eval_shape(opt.init, {"w": jnp.zeros((300, 200)), "empty": jnp.zeros((0, 3))})
    # An empty leaf has columns.
    assert sum(x.size for x in jax.tree.leaves(state)) == 1 + 4 * 60_000 + 3 * (500 + 3)
    updates, _ = opt.update(
        {"a": jnp.zeros((0, 3))}, opt.init({"a": jnp.zeros((0, 3))}), {"a": jnp.zeros((0, 3))}
    )
    assert updates["a"].shape == (0, 3)


def test_forward_and_reverse_mode_agree_where_a_gradient_is_always_zero():
    with jax.enable_x64(True):
        optimizer = adafactor_mlp((4,), preset="metz2022", rms_normalized=True)
        theta = jax.tree.map(lambda x: x.astype(jnp.float64), loud_theta(optimizer))

        def final_loss(theta):
            opt = optimizer.optimizer(theta)

            def loss(w):
                return jnp.sum(jnp.array([[0.0, 0.0], [1.0, 5.0]]) * (w - 1.0) ** 2)

            def step(carry, _):
                w, state = carry
                updates, state = opt.update(jax.grad(loss)(w), state, w)
                return (optax.apply_updates(w, updates), state), None

            w = jnp.zeros((2, 2))
            return loss(lax.scan(step, (w, opt.init(w)), None, length=3)[0][0])

        direction = jax.tree.map(jnp.cos, theta)
        grad = jax.jit(jax.grad(final_loss))(theta)
        tangent = jax.jit(lambda t, d: jax.jvp(final_loss, (t,), (d,))[1])(theta, direction)
        reverse = sum(
            jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (grad, direction)), strict=True)
        )
        np.testing.assert_allclose(reverse, tangent, rtol=1e-8)
        assert abs(float(tangent)) > 1e-6


def test_saved_and_loaded_by_name(tmp_path):
    kwargs = {"preset": "metz2022", "hidden_sizes": [8]}
    theta = adafactor_mlp(**kwargs).init(jax.random.key(1))
    path = learned_opt.save(tmp_path / "t", "adafactor_mlp", kwargs, theta)
    _, loaded = learned_opt.load_theta(path)
    jax.tree.map(np.testing.assert_array_equal, loaded, theta)
    params = {"w": jnp.ones((2, 3))}
    opt = learned_opt.load(path)
    assert jax.eval_shape(lambda p: opt.update(p, opt.init(p), p)[0]["w"], params).shape == (2, 3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"factored_decays": (1.0,)}, r"factored_decays must lie in \[0, 1\), .*got 1.0"),
        (
            {"factored_decays": (0.9, 0.99)},
            "pairs momenta with factored: got 3 momentum decays and 2",
        ),
        (
            {"second_moment_decays": ()},
            "pairs momenta with second_moments: got 3 momentum decays and 0",
        ),
        ({"features": ("adam",)}, "features: got 'adam'"),
        (
            {"features": ("log_parameter",)},
            "features: got 'log_parameter', allowed are gradient, momentum_over_rms",
        ),
        ({"features": ()}, "give no input"),
        ({"preset": "metz"}, "allowed are None, 'metz2022'"),
        ({"hidden_sizes": (0,)}, "hidden_sizes must be a whole number from 1 .*got 0"),
        ({"timescales": (0.0,)}, "timescales must be above 0 .*got 0.0"),
        ({"step_multiplier": float("nan")}, "step_multiplier must be finite, got nan"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        adafactor_mlp(**kwargs)


def test_outer_gradients_over_devices():
    """The blocks' loops pass `shard_map`, whose carries must keep to the devices they vary over."""
    from outer_train.devices import PARTICLES, particle_mesh

    optimizer = adafactor_mlp((4,), rms_normalized=True)
    theta = loud_theta(optimizer)
    w = jax.random.normal(jax.random.key(2), (2, 260, 130))

    def one_update(w):
        opt = optimizer.optimizer(theta)
        return opt.update(jnp.sin(w), opt.init(w), w)[0]

    spec = jax.sharding.PartitionSpec(PARTICLES)
    sharded = jax.jit(
        jax.shard_map(jax.vmap(one_update), mesh=particle_mesh(2, 2), in_specs=spec, out_specs=spec)
    )(w)
    np.testing.assert_allclose(sharded[1], one_update(w[1]), rtol=1e-3, atol=1e-6)
