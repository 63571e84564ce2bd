"""HD, RTHO and MARTHE as users meet them:
vmap, bfloat16, zeros, infinities, checkpoints, Flax, wrong calls.
"""

import functools

import flax.training.train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from learned_opt.hypergradient._marthe import hd, marthe, rtho
from tests.support.learned_opt.hypergradient_problem import (
    INNERS,
    NUM_STEPS,
    loss_fn,
    make_problem,
    train,
)


def test_runs_over_hyper_learning_rates_vmap():
    problem = make_problem(jnp.float32)
    run = lambda beta: train(marthe(optax.adam, 0.05, beta, 0.0), problem)[1].learning_rate
    betas = jnp.array([0.0, 1e-3, 1e-1], jnp.float32)
    together = jax.jit(jax.vmap(run))(betas)
    alone = jnp.stack([jax.jit(run)(beta) for beta in betas])
    np.testing.assert_allclose(together, alone, rtol=2e-5)
    np.testing.assert_array_equal(together[0], jnp.full(NUM_STEPS, 0.05, jnp.float32))
    assert jnp.abs(together[2] - together[1]).max() > 1e-4


def test_bfloat16_parameters_have_float32_tangents():
    exact = train(rtho(INNERS["momentum"], 0.05, 0.02), make_problem(jnp.float32))[1]
    params, states = jax.jit(
        lambda: train(rtho(INNERS["momentum"], 0.05, 0.02), make_problem(jnp.bfloat16))
    )()
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(states.tangent)} == {jnp.dtype(jnp.float32)}
    assert states.learning_rate.dtype == jnp.float32
    np.testing.assert_allclose(states.hypergradient, exact.hypergradient, rtol=0.15, atol=0.02)


def test_a_bfloat16_tangent_does_not_stop_accumulating():
    slope = jnp.array([2.0**-10], jnp.bfloat16)
    value_fn = lambda w: jnp.sum(w * slope)
    tx = rtho(optax.sgd, 0.0, 0.0)
    weights = jnp.zeros(1, jnp.bfloat16)
    update = lambda state, _: (tx.update(slope, state, weights, value_fn=value_fn)[1], None)
    state = jax.lax.scan(update, tx.init(weights), length=2000)[0]
    np.testing.assert_allclose(state.tangent.params, [-2000 * 2.0**-10], rtol=1e-6)


@pytest.mark.parametrize(
    "inner",
    [
        optax.adam,
        lambda rate: optax.chain(
            optax.scale_by_adam(), optax.trace(0.9), optax.scale_by_learning_rate(rate)
        ),
    ],
)
def test_gradients_that_are_always_zero_carry_no_tangent(inner):
    params, (inputs, targets), valid = make_problem(jnp.float32, zero_column=True)
    tx = rtho(inner, 0.05, 0.02)
    full = jax.jit(lambda: train(tx, (params, (inputs, targets), valid), with_objective=False)[1])()
    cut = {"weights": params["weights"][1:], "bias": params["bias"]}
    rest = jax.jit(
        lambda: train(tx, (cut, (inputs[..., 1:], targets), valid), with_objective=False)[1]
    )()
    np.testing.assert_allclose(full.hypergradient, rest.hypergradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(full.tangent.params["weights"][:, 0], 0)
    assert full.num_non_finite[-1] == 0
    assert np.ptp(full.learning_rate) > 1e-4


@pytest.mark.parametrize("mu", [0.0, 1.0, "adaptive"])
def test_a_non_finite_hypergradient_leaves_the_rate_and_is_counted(mu):
    params, (inputs, targets), _ = make_problem(jnp.float32)
    tx = marthe(optax.sgd, 0.05, 0.05, 0.0, mu)
    state, rates = tx.init(params), []
    for t in range(NUM_STEPS):
        value_fn = functools.partial(loss_fn, batch=(inputs[t], targets[t]))
        grads = jax.grad(value_fn)(params)
        broken = jax.tree.map(lambda g: jnp.full_like(g, jnp.inf), grads) if t == 3 else None
        updates, state = tx.update(grads, state, params, value_fn=value_fn, objective_grad=broken)
        params = optax.apply_updates(params, updates)
        rates.append(float(state.learning_rate))
    assert int(state.num_non_finite) == 1
    assert rates[3] == rates[2]
    assert len(set(rates)) == NUM_STEPS - 1  # only the broken step repeats a rate
    assert np.all(np.isfinite(rates))


def test_the_rate_never_falls_below_zero():
    rates = train(rtho(optax.sgd, 0.05, 1e3), make_problem(jnp.float32))[1].learning_rate
    assert rates.min() >= 0


def test_state_resumes_bitwise_from_a_checkpoint(tmp_path):
    params, batches, _ = make_problem(jnp.float32)
    tx = marthe(optax.adam, 0.05, 1e-3, 1e-3)

    @jax.jit
    def step(carry, batch):
        params, state = carry
        value_fn = lambda p: loss_fn(p, batch)
        updates, state = tx.update(jax.grad(value_fn)(params), state, params, value_fn=value_fn)
        return optax.apply_updates(params, updates), state

    carry = (params, tx.init(params))
    for t in range(NUM_STEPS):
        if t == 3:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(tmp_path / "state", carry)
                checkpointer.wait_until_finished()
                restored = checkpointer.restore(
                    tmp_path / "state", jax.tree.map(jnp.zeros_like, carry)
                )
        batch = jax.tree.map(lambda x, t=t: x[t], batches)
        carry = step(carry, batch)
        if t >= 3:
            restored = step(restored, batch)
    jax.tree.map(np.testing.assert_array_equal, restored, carry)
    assert float(carry[1].learning_rate) != 0.05


def test_default_objective_is_the_training_loss():
    problem = make_problem(jnp.float32)
    params, batches, _ = problem
    tx = rtho(optax.sgd, 0.05, 0.02)
    value_fn = functools.partial(loss_fn, batch=jax.tree.map(lambda x: x[0], batches))
    grads = jax.grad(value_fn)(params)
    state = tx.update(grads, tx.init(params), params, value_fn=value_fn)[1]
    implicit = tx.update(grads, state, params, value_fn=value_fn)[1]
    explicit = tx.update(grads, state, params, value_fn=value_fn, objective_grad=grads)[1]
    assert float(implicit.hypergradient) == float(explicit.hypergradient) != 0


def test_flax_train_state_needs_the_two_lines_of_the_docstring():
    params, batches, _ = make_problem(jnp.float32)
    loss = functools.partial(loss_fn, batch=jax.tree.map(lambda x: x[0], batches))
    grads = jax.grad(loss)(params)
    tx = marthe(optax.sgd, learning_rate=0.1)
    state = flax.training.train_state.TrainState.create(apply_fn=None, params=params, tx=tx)
    with pytest.raises(TypeError, match="value_fn"):
        state.apply_gradients(grads=grads)
    updates, opt = state.tx.update(grads, state.opt_state, state.params, value_fn=loss)
    state = state.replace(
        step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt
    )
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.1 * g, rtol=1e-6),
        state.params,
        params,
        grads,
    )


@pytest.mark.parametrize("factory", [hd, rtho, marthe])
def test_calling_without_value_fn_shows_the_right_call(factory):
    tx, params = factory(optax.sgd, 0.1, 1e-3), jnp.ones(2)
    state = tx.init(params)
    with pytest.raises(
        TypeError, match=r"tx\.update\(grads, state, params, value_fn=lambda p: loss\(p, batch\)\)"
    ):
        tx.update(params, state, params)
    with pytest.raises(ValueError, match="params are needed"):
        tx.update(params, state, value_fn=jnp.sum)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate must be a finite number >= 0, got -0.1"),
        ({"learning_rate": lambda step: 0.1}, "learning_rate must be"),
        ({"hyper_learning_rate": float("nan")}, "hyper_learning_rate must be"),
        ({"meta_step": float("inf")}, "meta_step must be"),
        ({"mu": 1.1}, r"mu must be a number in \[0, 1\], got 1.1"),
        ({"mu": "adaptve"}, "got 'adaptve'"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        marthe(optax.sgd, **{"learning_rate": 0.1} | arguments)


@pytest.mark.parametrize("make", [hd, rtho, marthe])
def test_gradients_of_integers_are_none(make):
    """As `jax.grad(allow_int=True)` gives them: of a type that has no numbers."""
    params = {"w": jnp.ones(3), "steps": jnp.arange(2)}
    value_fn = lambda p: jnp.sum(jnp.square(p["w"]) * p["steps"][1].astype(jnp.float32))
    tx = make(lambda rate: optax.sgd(rate, momentum=0.9), 0.1, 1e-3)

    @functools.partial(jax.jit, static_argnums=1)
    def two(params, of_none):
        state, w = tx.init(params), params["w"]
        for _ in range(2):
            grads = jax.grad(value_fn, allow_int=True)(params | {"w": w})
            grads = grads | {"steps": None} if of_none else grads
            given = jax.grad(value_fn, allow_int=True)(params)
            updates, state = tx.update(
                grads, state, params | {"w": w}, value_fn=value_fn, objective_grad=given
            )
            w = w + updates["w"]
        return w, state

    found, wanted = two(params, False), two(params, True)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert np.all(found[0] < 1)
    grads = jax.grad(value_fn, allow_int=True)(params)
    updates, _ = tx.update(grads, tx.init(params), params, value_fn=value_fn)
    assert updates["steps"].dtype == jax.dtypes.float0
