"""Hand-designed optimizers whose hyperparameters are theta,
so that they are outer-trained as any learned optimizer is.

Rates and penalties live as logarithms, decay constants b as log(1 - b): theta is unconstrained, and
held within `learned_opt.ranges` where it is used. All are differentiable in forward and reverse
mode: Adam has its eps inside the root, where a parameter whose gradient is always zero would
otherwise give `sqrt'(0) * 0`, which is nan.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from learned_opt import ranges
from learned_opt.base import LearnedOptimizer
from learned_opt.hand_designed.moments import (
    LOG_RANGE,
    average,
    complement,
    over_root,
    total_weight,
)
from learned_opt.trees.gradient_tree import (
    kept_where_untrained,
    map_trained,
    update_dtypes,
    widened,
    zeros_for,
)
from learned_opt.trees.packing import as_update
from learned_opt.trees.spread import zero_count
from learned_opt.trees.state_check import check_mirrors, check_params, check_precision, check_type


class MomentState(NamedTuple):
    """Updates made (int32), and running moments of the gradient shaped
    as the parameters (`()` where there is none).
    """

    count: Array
    mean: Any = ()
    square: Any = ()


def sgd(learning_rate: float = 0.1) -> LearnedOptimizer:
    """Stochastic gradient descent; theta is `{"log_learning_rate"}`.

    Raises:
      ValueError: for a rate out of `learned_opt.ranges`.
    """
    theta = {"log_learning_rate": _log("learning_rate", learning_rate)}

    def update(theta, grads, state, params):
        del params
        return map_trained(lambda g: -_exp(theta["log_learning_rate"], g) * g, grads), state

    return _learned("sgd", theta, (), update)


def momentum(learning_rate: float = 0.1, decay: float = 0.9) -> LearnedOptimizer:
    """Heavy-ball momentum, `v <- decay v - rate g`;
    theta is `{"log_learning_rate", "log_one_minus_decay"}`.

    Raises:
      ValueError: for a rate out of `learned_opt.ranges` or a decay outside [0, 1).
    """
    theta = {
        "log_learning_rate": _log("learning_rate", learning_rate),
        "log_one_minus_decay": _log_one_minus("decay", decay),
    }

    def update(theta, grads, state, params):
        del params
        decay, rate = complement(theta["log_one_minus_decay"]), theta["log_learning_rate"]
        velocity = map_trained(
            lambda g, v: decay.astype(v.dtype) * v - _exp(rate, v) * g, grads, state.mean
        )
        return velocity, state._replace(mean=velocity)

    return _learned("momentum", theta, ("mean",), update)


def adam(
    learning_rate: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> LearnedOptimizer:
    """Adam (Kingma & Ba, arXiv 1412.6980) with bias correction and eps inside the root:
    `m / sqrt(v + eps^2)`.

    Theta is `{"log_learning_rate", "log_one_minus_b1", "log_one_minus_b2", "log_eps"}`. In the
    moments a gradient counts as at most `ranges.LARGEST_GRADIENT`: a larger square would be
    infinite for good.

    Raises:
      ValueError: for a rate or eps out of `learned_opt.ranges`, or a decay outside [0, 1).
    """
    theta = _adam_theta(learning_rate, b1, b2, eps)

    def update(theta, grads, state, params):
        del params
        direction, state = _adam_direction(theta, grads, state)
        return map_trained(lambda d: -_exp(theta["log_learning_rate"], d) * d, direction), state

    return _learned("adam", theta, ("mean", "square"), update)


PENALTY = 1e-8
"""Where the penalties of `adam8` start if they are not given."""


def adam8(
    learning_rate: float = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    exponential_decay: float = 1e-6,
    linear_decay: float = 1e-6,
    l1: float | None = None,
    l2: float | None = None,
) -> LearnedOptimizer:
    """Adam with the eight hyperparameters tuned
    by Metz et al. 2019 (arXiv 1810.10180, section 4.4).

    The rate at step t is `rate * exp(-exponential_decay t) * max(1 - linear_decay t, 0)`; the
    gradient of `l1 |w|_1 + l2 |w|^2 / 2` is added before Adam sees it, as the paper's penalties on
    the inner loss do.

    Args:
      learning_rate: that theta starts at, as are all the others.
      b1: decay of the mean.
      b2: decay of the mean square.
      eps: inside the root.
      exponential_decay: of the rate, a step.
      linear_decay: of the rate, a step.
      l1: decay that falls on every parameter. None starts at `PENALTY` and spares a parameter whose
        gradient has been zero since init: Adam makes full steps of the smallest gradient, also of a
        penalty's.
      l2: likewise.

    Raises:
      ValueError: for a decay b outside [0, 1) or another value out of `learned_opt.ranges`.
    """
    extras = {"exponential_decay": exponential_decay, "linear_decay": linear_decay}
    penalties = {"l1": (l1, jnp.sign), "l2": (l2, lambda w: w)}
    extras |= {name: PENALTY if value is None else value for name, (value, _) in penalties.items()}
    theta = _adam_theta(learning_rate, b1, b2, eps) | {
        f"log_{name}": _log(name, x) for name, x in extras.items()
    }

    def update(theta, grads, state, params):
        def penalized(g, w, m, v):
            total, touched = g, (g != 0) | (m != 0) | (v != 0)
            for name, (value, slope) in penalties.items():
                penalty = _exp(theta[f"log_{name}"], g) * slope(w)
                total = total + (jnp.where(touched, penalty, 0) if value is None else penalty)
            return total

        count = state.count
        grads = map_trained(penalized, grads, params, state.mean, state.square)
        direction, state = _adam_direction(theta, grads, state)

        def scale(d):
            t = count.astype(d.dtype)
            fade = jnp.exp(-_exp(theta["log_exponential_decay"], d) * t)
            fade = fade * jnp.maximum(1 - _exp(theta["log_linear_decay"], d) * t, 0)
            return -_exp(theta["log_learning_rate"], d) * fade * d

        return map_trained(scale, direction), state

    return _learned("adam8", theta, ("mean", "square"), update, needs_params=True)


def _adam_theta(learning_rate, b1, b2, eps):
    return {
        "log_learning_rate": _log("learning_rate", learning_rate),
        "log_one_minus_b1": _log_one_minus("b1", b1),
        "log_one_minus_b2": _log_one_minus("b2", b2),
        "log_eps": _log("eps", eps),
    }


def _adam_direction(theta, grads, state):
    b1, b2 = theta["log_one_minus_b1"], theta["log_one_minus_b2"]
    grads = map_trained(ranges.bounded_gradient, grads)
    mean = map_trained(lambda g, m: average(b1, m, g), grads, state.mean)
    square = map_trained(lambda g, v: average(b2, v, jnp.square(g)), grads, state.square)

    def direction(m, v):
        t = state.count.astype(m.dtype) + 1
        log_eps = jnp.clip(theta["log_eps"], *LOG_RANGE).astype(m.dtype)
        return over_root(m / total_weight(b1, t), v / total_weight(b2, t), log_eps)

    return map_trained(direction, mean, square), state._replace(mean=mean, square=square)


def _learned(
    name: str,
    theta: dict[str, float],
    moments: tuple[str, ...],
    update: Callable[..., tuple[Any, MomentState]],
    needs_params: bool = False,
) -> LearnedOptimizer:
    """The optimizer whose state has these moments.

    `update` sees everything in float32 and leaves the count alone.
    """

    def init(params):
        return MomentState(zero_count(params), **{m: zeros_for(params) for m in moments})

    def check(grads, state, params):
        check_type(name, state, MomentState)
        for moment in MomentState._fields[1:]:
            check_mirrors(name, moment, getattr(state, moment), grads if moment in moments else ())
            check_precision(name, moment, getattr(state, moment), params)
        if needs_params and params is None:
            raise ValueError(f"{name} needs params at update: its penalties are on them")
        if params is not None:
            check_params(name, params, grads)

    def optimizer(theta):
        def update_fn(grads, state, params=None, **extra):
            del extra
            check(grads, state, params)
            wide = map_trained(widened, grads)
            steps, new = update(
                theta, wide, state, None if params is None else map_trained(_second, grads, params)
            )
            kept = {
                m: kept_where_untrained(grads, getattr(new, m), getattr(state, m)) for m in moments
            }
            steps = map_trained(
                lambda g, s, dtype: as_update(s, dtype), grads, steps, update_dtypes(grads, params)
            )
            return steps, MomentState(optax.safe_increment(state.count), **kept)

        return optax.GradientTransformationExtraArgs(init, update_fn)

    return LearnedOptimizer(
        lambda key: {name: jnp.float32(value) for name, value in theta.items()}, optimizer
    )


def _second(gradient, leaf):
    del gradient
    return widened(leaf)


def _exp(log, like):
    return ranges.bounded_exp(log).astype(like.dtype)


def _log(name, value):
    return math.log(ranges.require_positive(name, value))


def _log_one_minus(name, value):
    return math.log1p(-ranges.require_decay(name, value))
