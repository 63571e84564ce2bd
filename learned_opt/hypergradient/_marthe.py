"""Online learning rates by hypergradients: HD, RTHO and MARTHE around any Optax optimizer.

The rate follows its own gradient (MARTHE, Donini et al. 2019, arXiv 1910.08525, Algorithm 1):

    eta_t   = max(eta_{t-1} - beta_t Delta_t, 0),   Delta_t = Z_t . grad E(w_t)
    Z_{t+1} = mu_t A_t Z_t + B_t,   Z_0 = 0
    beta_t  = max(beta_{t-1} + meta_step Delta_t Delta_{t-1}, 0)

with A and B the Jacobians of the whole optimizer step. mu = 0 is HD (Baydin et al. 2018, arXiv
1703.04782), mu = 1 is RTHO (Franceschi et al. 2017, arXiv 1703.01785). The text of MARTHE prints a
minus in the update of beta; but d eta / d beta = -Delta, so descent has the plus. Its eq. 9 starts
from Z_0 = B_0, which would count B_0 twice.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt.hypergradient.checks import ADAPTIVE, check_arguments
from learned_opt.hypergradient.step_tangent import (
    InnerFactory,
    StepInput,
    Tangent,
    differentiate_step,
    floats_of,
    inner_product,
    scale_tangent,
    tangent_dtype,
    zero_tangent,
)
from learned_opt.trees.gradient_tree import map_trained, none_if_untrained
from learned_opt.trees.spread import scalar_beside, state_beside
from learned_opt.trees.state_check import (
    check_as_made,
    check_mirrors,
    check_params,
    check_precision,
    check_type,
    shapes_of,
)


class HypergradientState(NamedTuple):
    """State of `hd`, `rtho` and `marthe`; a pytree of arrays, so it checkpoints like any other.

    Attributes:
      learning_rate: the rate just used, a scalar.
      mu: discount of the past in the tangent just made.
      hyper_learning_rate: beta, the step size of the rate just used.
      hypergradient: Delta, d(objective)/d(rate) as last seen; non-finite values stay visible here.
      num_non_finite: hypergradients so far that were not finite.
      horizon: c_t of MARTHE's appendix A, the effective number of past steps in the tangent.
      tangent: Z.
      partial: B of the last step (its part in the weights); `()` unless mu is adaptive.
      inner_state: state of the inner optimizer.
    """

    learning_rate: Array
    mu: Array
    hyper_learning_rate: Array
    hypergradient: Array
    num_non_finite: Array
    horizon: Array
    tangent: Tangent
    partial: Any
    inner_state: optax.OptState


def hd(
    inner: InnerFactory, learning_rate: Any, hyper_learning_rate: Any
) -> optax.GradientTransformationExtraArgs:
    """Hypergradient descent: the rate goes down the gradient of the loss after one step.

    The cheapest of the three, with no second derivative, and the most short-sighted: it tends to
    end in rates that are too small (MARTHE, section 3). Same call as `marthe`.

    Args:
      inner: `learning_rate -> optax transformation`, such as `optax.sgd`.
      learning_rate: the rate to start from, >= 0.
      hyper_learning_rate: beta, >= 0.

    Returns:
      See `marthe`.

    Raises:
      ValueError: a rate is negative or no number.
    """
    return marthe(inner, learning_rate, hyper_learning_rate, meta_step=0.0, mu=0.0)


def rtho(
    inner: InnerFactory, learning_rate: Any, hyper_learning_rate: Any
) -> optax.GradientTransformationExtraArgs:
    """Real-time hyperparameter optimization: as `hd`, with the hypergradient over all past steps.

    Fast on plateaus; where the surface turns, outdated terms can drive the rate up and then to zero
    (MARTHE, Fig 1). Arguments, call, result and errors as in `hd`.
    """
    return marthe(inner, learning_rate, hyper_learning_rate, meta_step=0.0, mu=1.0)


def marthe(
    inner: InnerFactory,
    learning_rate: Any,
    hyper_learning_rate: Any = 0.0,
    meta_step: Any = 1e-7,
    mu: Any = ADAPTIVE,
) -> optax.GradientTransformationExtraArgs:
    """Moving average real-time hyperparameter estimation:
    an adaptive learning rate for any Optax optimizer.

    A step costs about a gradient, a Hessian-vector product and two updates of the inner optimizer.

        tx = marthe(lambda rate: optax.adamw(rate, weight_decay=1e-2), learning_rate=1e-3)
        loss = lambda p: loss_fn(p, batch)
        grads = jax.grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params, value_fn=loss)
        params = optax.apply_updates(params, updates)

    A network with a state of its own (batch normalization) gives it beside the loss, as for
    `jax.value_and_grad(..., has_aux=True)`; the same function serves both:

        def loss(p):
            logits, new = model.apply({"params": p, **state}, images, mutable=["batch_stats"])
            return cross_entropy(logits, labels), new
        (_, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params, value_fn=loss)

    It differentiates the whole step, so it stands outermost: clipping, weight decay and the like go
    into `inner` (`lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate))`),
    never around it. Under data parallelism `value_fn` is the mean over all devices, like the
    gradient.

    `flax.nnx.Optimizer.update` hands extra arguments on. Flax's `TrainState.apply_gradients` drops
    `value_fn`; these two lines do not:

        updates, opt = state.tx.update(grads, state.opt_state, state.params, value_fn=loss)
        params = optax.apply_updates(state.params, updates)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt)

    Args:
      inner: `learning_rate -> optax transformation` (SGD, momentum, Adam, AdamW, a chain). Called
        anew in every update with a traced rate, so its state must not depend on the rate's value.
      learning_rate: the rate to start from, >= 0.
      hyper_learning_rate: beta_0, >= 0. The paper advises 0 where nothing is known.
      meta_step: step size of beta, >= 0; 0 keeps beta fixed. Too large a value diverges within a
        few steps, the others differ little (`learned_opt.find_hyper_learning_rate` looks for the
        largest that does not).
      mu: discount of the past in [0, 1], or "adaptive": the heuristic of the paper's appendix A.

    Returns:
      A transformation with `update(grads, state, params, *, value_fn, objective_grad=None)`.
      `value_fn(params)` is this batch's training loss, as in Optax's line searches, or a pair of it
      and whatever else it gives; `grads` is its gradient. The hypergradient goes through the
      weights: what the rate does to a model's state is not counted. `objective_grad` is the
      gradient of the objective E at `params`, such as the loss on a validation batch (default:
      `grads`). The state is a `HypergradientState`. A hypergradient that is not finite leaves the
      rate as it is, is counted, and empties the tangent.

    Raises:
      ValueError: a rate or `meta_step` is negative or no number, or `mu` is neither "adaptive" nor
        in [0, 1].
    """
    rates = {"learning_rate": learning_rate, "hyper_learning_rate": hyper_learning_rate}
    check_arguments(inner, {**rates, "meta_step": meta_step}, mu)
    adaptive = isinstance(mu, str)
    # A mu that is the number zero needs no second derivative; a traced one might be anything.
    one_step = isinstance(mu, (int, float)) and mu == 0

    def init(params):
        return _first_state(inner, params, learning_rate, hyper_learning_rate, mu, one_step)

    def update(grads, state, params=None, *, value_fn=None, objective_grad=None, **extra_args):
        given, grads = grads, none_if_untrained(grads)
        objective_grad = grads if objective_grad is None else none_if_untrained(objective_grad)
        _check_call(inner, state, params, value_fn, grads, objective_grad)
        dtype = state.learning_rate.dtype
        delta = inner_product(state.tangent.params, objective_grad).astype(dtype)
        finite = jnp.isfinite(delta)
        rate, beta = _next_rates(state, delta, jnp.asarray(meta_step, dtype))
        next_mu, horizon = state.mu, state.horizon
        if adaptive:
            one_step_delta = inner_product(state.partial, objective_grad).astype(dtype)
            next_mu, horizon = _next_mu(state, delta, one_step_delta)
        tangent = None if one_step else scale_tangent(state.tangent, next_mu, keep=finite)
        at = StepInput(rate, grads, state.inner_state, params, state.tangent.params)
        result = differentiate_step(inner, at, tangent, value_fn, adaptive, extra_args)
        return map_trained(lambda g, u: u, given, result.updates), HypergradientState(
            learning_rate=rate,
            mu=next_mu,
            hyper_learning_rate=beta,
            hypergradient=delta,
            num_non_finite=jnp.where(
                finite, state.num_non_finite, optax.safe_increment(state.num_non_finite)
            ),
            horizon=horizon,
            tangent=result.tangent,
            partial=result.partial,
            inner_state=result.inner_state,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _first_state(
    inner: InnerFactory,
    params: Any,
    learning_rate: Any,
    hyper_learning_rate: Any,
    mu: Any,
    one_step: bool,
) -> HypergradientState:
    adaptive = isinstance(mu, str)
    dtype = tangent_dtype(*jax.tree.leaves(params))
    # Copies, and a zero for each: a state that holds one buffer twice,
    # or the caller's, cannot be donated.
    scalar = lambda value: scalar_beside(params, value, dtype)
    tracked = zero_tangent(params)
    floats = floats_of(params, tracked)
    inner_state = state_beside(_inner_init(inner, scalar(learning_rate), floats), floats)
    return HypergradientState(
        learning_rate=scalar(learning_rate),
        mu=scalar(0 if adaptive else mu),
        hyper_learning_rate=scalar(hyper_learning_rate),
        hypergradient=scalar(0),
        num_non_finite=scalar_beside(params, 0, jnp.int32),
        horizon=scalar(0),
        tangent=Tangent(tracked, () if one_step else zero_tangent(inner_state)),
        partial=zero_tangent(params) if adaptive else (),
        inner_state=inner_state,
    )


def _inner_init(inner: InnerFactory, rate: Array, floats: Any) -> optax.OptState:
    with jax.numpy_dtype_promotion("standard"):
        return inner(rate).init(floats)


def _next_rates(state: HypergradientState, delta: Array, meta_step: Array) -> tuple[Array, Array]:
    """eta_t and beta_t; each is kept where its update is not finite."""
    beta = _keep_unless_finite(
        jnp.maximum(state.hyper_learning_rate + meta_step * delta * state.hypergradient, 0),
        state.hyper_learning_rate,
    )
    rate = _keep_unless_finite(state.learning_rate - beta * delta, state.learning_rate)
    return jnp.maximum(rate, 0), beta


def _next_mu(state: HypergradientState, delta: Array, one_step_delta: Array) -> tuple[Array, Array]:
    """h_mu of appendix A: mu_t = q^{1 / (c_{t-1} + 1)}, c_t = mu_{t-1} (1 + c_{t-1}).

    q is Delta_t over the one-step hypergradient g'_1, within [0, 1]. The past is forgotten where
    g'_1 is zero, which gives no sign to agree with, and where Delta is not finite.
    """
    usable = jnp.isfinite(delta) & jnp.isfinite(one_step_delta) & (one_step_delta != 0)
    ratio = jnp.where(usable, delta, 0) / jnp.where(usable, one_step_delta, 1)
    mu = jnp.clip(ratio, 0, 1) ** (1 / (state.horizon + 1))
    return mu, state.mu * (1 + state.horizon)


def _keep_unless_finite(new: Array, old: Array) -> Array:
    return jnp.where(jnp.isfinite(new), new, old)


def _check_call(
    inner: InnerFactory, state: Any, params: Any, value_fn: Any, grads: Any, objective_grad: Any
) -> None:
    if not callable(value_fn):
        raise TypeError(
            "a hypergradient optimizer differentiates the whole step and needs this batch's loss "
            "as a function: tx.update(grads, state, params, value_fn=lambda p: loss(p, batch)); "
            f"got value_fn={value_fn!r}"
        )
    if params is None:
        raise ValueError(
            "params are needed: tx.update(grads, state, params, value_fn=lambda p: loss(p, batch))"
        )
    name = "a hypergradient optimizer"
    check_type(name, state, HypergradientState)
    check_params(name, params, grads)
    check_mirrors(name, "tangent", state.tangent.params, grads)
    check_precision(name, "tangent", state.tangent.params, params)
    floats = floats_of(params, state.tangent.params)
    made = shapes_of(lambda floats: _inner_init(inner, state.learning_rate, floats), floats)
    check_as_made(f"{name}'s inner optimizer", state.inner_state, made)
    if objective_grad is not grads:
        check_mirrors(name, "tangent beside objective_grad", state.tangent.params, objective_grad)
