"""Learning rate and weight decay around a learned optimizer, against the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.rate_and_decay import with_hooks

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3) / 5, "bias": jnp.ones(3)}
GRADS = jax.tree.map(jnp.cos, PARAMS)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    kwargs = {"hidden_sizes": [4]}
    theta = jax.tree.map(lambda x: 10 * x + 1, learned_opt.mlp(**kwargs).init(jax.random.key(0)))
    return learned_opt.save(tmp_path_factory.mktemp("theta") / "t", "mlp", kwargs, theta)


def updates_of(opt, num_steps=1):
    """The updates of each step, all at the same parameters and gradients."""
    state, every = opt.init(PARAMS), []
    for _ in range(num_steps):
        updates, state = opt.update(GRADS, state, PARAMS)
        every.append(updates)
    return every


def test_a_rate_scales_the_learned_step_and_the_decay(path):
    plain = updates_of(learned_opt.load(path))[0]
    got = updates_of(learned_opt.load(path, learning_rate=0.5, weight_decay=0.1))[0]
    for name in PARAMS:
        np.testing.assert_allclose(
            got[name], 0.5 * (plain[name] - 0.1 * PARAMS[name]), rtol=1e-5, atol=1e-8
        )


def test_an_optax_schedule_is_followed_step_by_step(path):
    plain = updates_of(learned_opt.load(path), 3)
    got = updates_of(learned_opt.load(path, learning_rate=optax.linear_schedule(1.0, 0.0, 4)), 3)
    for step, rate in enumerate((1.0, 0.75, 0.5)):
        np.testing.assert_allclose(got[step]["bias"], rate * plain[step]["bias"], rtol=1e-6)


def test_a_mask_chooses_what_decays(path):
    plain = updates_of(learned_opt.load(path))[0]
    got = updates_of(
        learned_opt.load(path, weight_decay=0.1, mask={"kernel": True, "bias": False})
    )[0]
    np.testing.assert_array_equal(got["bias"], plain["bias"])
    np.testing.assert_allclose(
        got["kernel"], plain["kernel"] - 0.1 * PARAMS["kernel"], rtol=1e-5, atol=1e-8
    )


def test_a_rate_may_be_changed_between_steps(path):
    plain = updates_of(learned_opt.load(path), 2)
    with jax.numpy_dtype_promotion("standard"):
        opt = optax.inject_hyperparams(
            lambda learning_rate: learned_opt.load(path, learning_rate=learning_rate)
        )(1.0)
        state = opt.init(PARAMS)
        _, state = opt.update(GRADS, state, PARAMS)
        state.hyperparams["learning_rate"] = jnp.float32(0.25)
        second, _ = opt.update(GRADS, state, PARAMS)
    np.testing.assert_allclose(second["bias"], 0.25 * plain[1]["bias"], rtol=1e-6)


def test_without_hooks_the_state_is_the_optimizers_own(path):
    plain = learned_opt.load(path).init(PARAMS)
    assert jax.tree.structure(
        learned_opt.load(path, learning_rate=None, weight_decay=0.0).init(PARAMS)
    ) == (jax.tree.structure(plain))
    assert type(plain).__name__ == "MLPState"


@pytest.mark.parametrize(
    "kwargs",
    [{"learning_rate": -1.0}, {"weight_decay": float("nan")}, {"learning_rate": float("inf")}],
)
def test_bad_arguments(path, kwargs):
    with pytest.raises(ValueError, match=f"{next(iter(kwargs))} must be at least 0 and finite"):
        learned_opt.load(path, **kwargs)


def hooked(**kwargs):
    return with_hooks(
        optax.GradientTransformationExtraArgs(lambda p: (), lambda u, s, p=None, **_: (u, s)),
        **kwargs,
    )


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), jnp.float32(jnp.nan), 0.0])
def test_a_scheduled_rate_that_is_no_number_makes_no_step(rate):
    opt = hooked(learning_rate=lambda count: rate, weight_decay=0.1)
    updates, state = opt.update({**GRADS, "bias": jnp.full(3, jnp.inf)}, opt.init(PARAMS), PARAMS)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates)
    assert int(state[-1].count) == 1


def test_a_traced_rate_and_decay_that_are_no_numbers_make_no_step():
    def update(rate, decay):
        opt = hooked(learning_rate=rate, weight_decay=decay)
        return opt.update(GRADS, opt.init(PARAMS), PARAMS)[0]

    np.testing.assert_array_equal(jax.jit(update)(jnp.nan, 0.1)["bias"], 0)
    np.testing.assert_allclose(
        jax.jit(update)(0.5, jnp.nan)["bias"], 0.5 * GRADS["bias"], rtol=1e-6
    )


def test_decay_is_that_of_optax_where_the_gradient_is_zero_too():
    zero = jax.tree.map(jnp.zeros_like, GRADS)
    opt, optaxs = hooked(learning_rate=0.5, weight_decay=0.1), optax.add_decayed_weights(0.1)
    got, _ = opt.update(zero, opt.init(PARAMS), PARAMS)
    want, _ = optaxs.update(zero, optaxs.init(PARAMS), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -0.5 * b, rtol=1e-6), got, want)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_small_types_are_computed_in_float32_and_kept(dtype):
    """A decay of 1e-8 is 0 in float16, and 1e-8 times 6e4 is not.

    The rate is an array, so nothing is weakly typed.
    """
    params, grads = (jax.tree.map(lambda x, s=s: (s * x).astype(dtype), PARAMS) for s in (4e4, 0))
    opt = hooked(learning_rate=jnp.float32(1.0), weight_decay=jnp.float32(1e-8))
    updates, _ = opt.update(grads, opt.init(params), params)
    assert updates["bias"].dtype == dtype
    np.testing.assert_allclose(updates["bias"].astype(jnp.float32), -4e-4, rtol=1e-2)


def test_gradients_that_are_none_stay_none():
    opt = hooked(learning_rate=0.5, weight_decay=0.1)
    params = {**PARAMS, "activation": jnp.tanh}
    updates, _ = opt.update(
        {"kernel": GRADS["kernel"], "bias": None, "activation": None}, opt.init(params), params
    )
    assert (updates["bias"], updates["activation"]) == (None, None)
    np.testing.assert_allclose(
        updates["kernel"], 0.5 * (GRADS["kernel"] - 0.1 * PARAMS["kernel"]), rtol=1e-5
    )


def test_a_schedule_that_gives_no_scalar_is_refused():
    opt = hooked(learning_rate=lambda count: jnp.ones(2))
    with pytest.raises(
        ValueError, match=r"learning_rate must be a scalar at every step, got shape \(2,\)"
    ):
        opt.update(GRADS, opt.init(PARAMS), PARAMS)
    opt = hooked(weight_decay=0.1)
    with pytest.raises(ValueError, match="weight_decay is of the parameters"):
        opt.update(GRADS, opt.init(PARAMS))
