"""No gradient, no step; no unit: every per-parameter MLP, in both layouts of its state.

One run of 230 steps a table row, five scenarios side by side, all with parameters whose gradient is
always zero.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import learned_opt
from learned_opt.per_parameter.rest import steps_to_rest
from tests.support.learned_opt.thetas import LOG_FEATURES, loud_theta
from tests.support.quick import by_name

NUM_STEPS, STOPS = 230, 20
SCENARIOS = {
    "ordinary": 1.0,
    "times 1e-10": 1e-10,
    "times 1e6": 1e6,
    "stops": 1.0,
    "one of 1e20": 1.0,
}
DECAYS = ((0.5, 0.9, 0.99, 0.999, 0.9999), (0.999,))
"""Of `mlp`; the others differ."""


def fresh(optimizer, seed=0):
    return optimizer, loud_theta(optimizer, seed)


PAPER = ("metz2019", "metz2019_released", "metz2022")
"""Their inputs have the papers' constants, in units of the gradient."""
OPTIMIZERS = {
    "mlp": lambda: fresh(learned_opt.mlp()),
    "two layers": lambda: fresh(learned_opt.mlp((4, 4), features=LOG_FEATURES)),
    "no momenta": lambda: fresh(learned_opt.mlp((4,), (), features=("parameter", "adam_gradient"))),
    "metz2019": lambda: fresh(learned_opt.mlp(preset="metz2019")),
    "metz2019_released": lambda: fresh(learned_opt.mlp(preset="metz2019_released")),
    "adafactor_mlp": lambda: fresh(learned_opt.adafactor_mlp()),
    "normalized": lambda: fresh(
        learned_opt.adafactor_mlp(
            (4,), (0.9,), (), (0.999,), rms_normalized=True, features=FACTORED
        )
    ),
    "metz2022": lambda: fresh(learned_opt.adafactor_mlp(preset="metz2022")),
    "general": lambda: learned_opt.load_theta("general"),
    "general_es": lambda: learned_opt.load_theta("general_es"),
    "shipped mlp": lambda: learned_opt.load_theta("mlp"),
}
OTHER_DECAYS = dict.fromkeys(
    ("adafactor_mlp", "normalized", "metz2022"), ((0.9, 0.99, 0.999), (0.999,))
)
OTHER_DECAYS |= {"no momenta": ((), ()), "metz2019_released": (DECAYS[0], ())}
FACTORED = ("parameter", "adafactor_gradient", "adafactor_momentum")
IS_LIVE = {
    "kernel": np.ones((4, 3), bool),
    "rows": np.arange(5)[:, None] % 2 * np.ones((5, 2), bool) > 0,
}
IS_LIVE |= {"frozen": np.zeros((3, 2), bool), "bias": np.array([True, False, True])}


each = functools.partial(by_name, quick=("general", "adafactor_mlp"))
"""One of each kind of state."""


@functools.cache
def trajectories(name, layout):
    """Parameters `[scenarios, steps, ...]` before each step,
    and the optimizer's settings of rest.
    """
    optimizer, theta = OPTIMIZERS[name]()
    opt = getattr(optimizer, layout)(theta)
    rng = np.random.default_rng(0)
    params = {
        key: jnp.asarray(rng.normal(size=live.shape), jnp.float32) for key, live in IS_LIVE.items()
    }
    noise = {key: rng.normal(size=(NUM_STEPS, *live.shape)) * live for key, live in IS_LIVE.items()}
    scale = np.outer(list(SCENARIOS.values()), np.ones(NUM_STEPS))
    scale[list(SCENARIOS).index("stops"), STOPS:] = 0.0
    scale[list(SCENARIOS).index("one of 1e20"), STOPS] = 1e20
    grads = {
        key: jnp.asarray(np.einsum("st,t...->st...", scale, x), jnp.float32)
        for key, x in noise.items()
    }

    def run(grads):
        def step(carry, grads):
            params, state = carry
            updates, state = opt.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), params

        return lax.scan(step, (params, opt.init(params)), grads)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(grads))


def scenario(name, layout, which):
    index = list(SCENARIOS).index(which)
    return {key: x[index].astype(np.float64) for key, x in trajectories(name, layout).items()}


def moved(run, start, stop):
    return {key: np.abs(x[stop] - x[start]) for key, x in run.items()}


@each(OPTIMIZERS)
def test_no_gradient_no_step(name):
    for which in SCENARIOS:
        for key, x in scenario(name, "optimizer", which).items():
            np.testing.assert_array_equal(
                x[:, ~IS_LIVE[key]], np.broadcast_to(x[0], x.shape)[:, ~IS_LIVE[key]]
            )
            assert np.isfinite(x).all()
    for key, distance in moved(scenario(name, "optimizer", "ordinary"), 0, -1).items():
        assert np.all(distance[IS_LIVE[key]] > 0)


@each(OPTIMIZERS)
def test_layouts_agree(name):
    for which in SCENARIOS:
        for key, x in scenario(name, "optimizer", which).items():
            np.testing.assert_allclose(
                x, scenario(name, "packed", which)[key], rtol=2e-3, atol=2e-4
            )


@each([name for name in OPTIMIZERS if name not in PAPER])
def test_no_unit(name):
    ordinary = scenario(name, "optimizer", "ordinary")
    for which in ("times 1e-10", "times 1e6"):
        for key, x in scenario(name, "optimizer", which).items():
            np.testing.assert_allclose(x[:10], ordinary[key][:10], rtol=1e-3, atol=1e-4)
            largest = np.abs(ordinary[key] - ordinary[key][0]).max()
            np.testing.assert_allclose(x, ordinary[key], atol=0.02 * largest)


@each(OPTIMIZERS)
def test_a_gradient_that_stops_brings_rest(name):
    within = STOPS + steps_to_rest(*OTHER_DECAYS.get(name, DECAYS))
    run = scenario(name, "optimizer", "stops")
    assert within < NUM_STEPS - 5
    for key, distance in moved(run, within, -1).items():
        np.testing.assert_array_equal(distance, 0.0, err_msg=key)
    for key, distance in moved(run, STOPS - 1, STOPS).items():
        assert np.all(distance[IS_LIVE[key]] > 0)


@each(OPTIMIZERS)
def test_nothing_drifts_after_one_gradient_of_1e20(name):
    run = scenario(name, "optimizer", "one of 1e20")
    for distance in moved(
        run, STOPS + 1 + steps_to_rest(*OTHER_DECAYS.get(name, DECAYS)), -1
    ).values():
        np.testing.assert_array_equal(distance, 0.0)


def test_stated_steps_to_rest():
    assert steps_to_rest((0.5, 0.9, 0.99, 0.999), (0.999,)) == 27
    assert steps_to_rest((0.9, 0.99), (0.999,)) == 172
    assert steps_to_rest((0.0, 0.9), (0.999,)) == 1
    assert steps_to_rest((), (0.999,)) == steps_to_rest((0.999,), ()) == 0
    assert steps_to_rest((0.9,), ()) == 823
    assert steps_to_rest((0.5, 0.9, 0.9999), ()) == 125


def test_what_is_not_a_number_is_seen():
    optimizer, theta = learned_opt.load_theta("general")
    opt = optimizer.optimizer(theta)
    params = jnp.ones(3)
    updates, _ = jax.jit(opt.update)(jnp.array([1.0, np.nan, 0.0]), opt.init(params), params)
    assert np.isnan(updates[1])
    assert updates[2] == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_parameters_rest_too(dtype):
    opt = learned_opt.load()
    params = {"w": jnp.ones((4, 4), dtype), "frozen": jnp.full((3,), 0.7, dtype)}
    grads = {"w": jnp.full((4, 4), 1e-4, dtype), "frozen": jnp.zeros(3, dtype)}
    updates, _ = jax.jit(opt.update)(grads, opt.init(params), params)
    assert updates["w"].dtype == dtype
    assert np.all(np.abs(np.asarray(updates["w"], np.float32)) > 1e-4)
    np.testing.assert_array_equal(updates["frozen"], 0)


@by_name(["mlp", "two layers", "adafactor_mlp", "general"], quick=("mlp",))
def test_derivatives_are_finite_where_gradients_are_zero_or_tiny(name):
    """Through five steps, to theta and to the loss's unit, in float32."""
    optimizer, theta = OPTIMIZERS[name]()

    def final(theta, unit):
        opt = optimizer.fastest(theta)

        def loss(w):
            return unit * (
                jnp.sum(jnp.array([0.0, 1.0, 1e-6]) * (w["w"] - 1.0) ** 2)
                + 0.0 * jnp.sum(w["frozen"] ** 2)
            )

        def step(carry, _):
            w, state = carry
            updates, state = opt.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, updates), state), None

        w = {"w": jnp.zeros(3), "frozen": jnp.ones(2)}
        w = lax.scan(step, (w, opt.init(w)), None, length=5)[0][0]
        return jnp.sum(w["w"]) + jnp.sum(w["frozen"])

    both = jax.jit(lambda t, u: (jax.grad(final, (0, 1))(t, u), jax.jacfwd(final, 1)(t, u)))
    of_one = None
    for unit in (1.0, 1e-10, 1e6):
        (d_theta, d_unit), forward = both(theta, jnp.float32(unit))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(d_theta))
        assert np.isfinite(d_unit)
        assert np.isfinite(forward)
        of_one = d_theta if of_one is None else of_one
        for a, b in zip(jax.tree.leaves(d_theta), jax.tree.leaves(of_one), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3 * np.max(np.abs(b)) + 1e-6)


@pytest.mark.parametrize("make", [learned_opt.mlp, learned_opt.adafactor_mlp])
def test_a_state_of_another_tree_is_refused(make):
    optimizer = make((4,))
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    params = {"dense": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}
    others = {
        "kernel": {"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(3)}},
        "out": {**params, "out": {"kernel": jnp.ones((3, 2))}},
        "dense": {"renamed": params["dense"]},
        "bias": {"dense": {"kernel": jnp.ones((4, 3))}},
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=name):
            opt.update(params, opt.init(other), params)
    with pytest.raises(ValueError, match="kernel"):
        opt.update(others["kernel"], opt.init(params), params)
    fewer = {"momentum_decays": (0.5, 0.9)} | (
        {} if make is learned_opt.mlp else {"factored_decays": (0.9,)}
    )
    more = make((4,), **fewer)
    state = more.optimizer(more.init(jax.random.key(0))).init(params)
    with pytest.raises(ValueError, match="momenta has 2 decays"):
        opt.update(params, state, params)


@pytest.mark.parametrize("make", [learned_opt.mlp, learned_opt.adafactor_mlp])
def test_the_state_mirrors_the_parameters(make):
    optimizer = make((4,))
    opt = optimizer.optimizer(optimizer.init(jax.random.key(0)))
    params = {"a": jnp.ones((4, 3)), "b": (jnp.ones(3), jnp.ones(()))}
    state = opt.init(params)
    assert jax.tree.structure(state.momenta) == jax.tree.structure(params)
    num = len(OTHER_DECAYS.get("mlp" if make is learned_opt.mlp else "adafactor_mlp", DECAYS)[0])
    assert [x.shape for x in jax.tree.leaves(state.momenta)] == [(num, 4, 3), (num, 3), (num,)]
    doubled = optax.tree_map_params(opt, lambda x: x + 1.0, state)
    assert all(np.all(x == 1.0) for x in jax.tree.leaves((doubled.momenta, doubled.second_moments)))
    assert int(doubled.count) == 0


def test_whole_models_as_parameters():
    """Functions, strings, integers and None among the leaves;
    gradients are None there, as Equinox gives them.
    """
    opt = learned_opt.load()
    params = {
        "w": jnp.ones((2, 3)),
        "activation": jax.nn.relu,
        "name": "model",
        "steps": jnp.int32(3),
        "bias": None,
    }
    grads = {
        "w": jnp.full((2, 3), 0.1),
        "activation": None,
        "name": None,
        "steps": None,
        "bias": None,
    }
    state = opt.init(params)
    updates, new = jax.jit(lambda grads, state: opt.update(grads, state, params))(grads, state)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert updates["activation"] is updates["name"] is updates["steps"] is updates["bias"] is None
    alone, _ = jax.jit(opt.update)(
        {"w": grads["w"]}, opt.init({"w": params["w"]}), {"w": params["w"]}
    )
    np.testing.assert_allclose(updates["w"], alone["w"], rtol=1e-5)
