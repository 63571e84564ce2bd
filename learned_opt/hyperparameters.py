"""Hand-designed optimizers whose hyperparameters are theta, so that they are outer-trained as any learned optimizer is.

Rates and penalties live as logarithms, decay constants b as log(1 - b): theta is unconstrained. All are differentiable
in forward and reverse mode: Adam has its eps inside the root, where a parameter whose gradient is always zero would
otherwise give `sqrt'(0) * 0`, which is nan.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from learned_opt.base import LearnedOptimizer
from learned_opt.packing import at_least_float32


class MomentState(NamedTuple):
    """Updates made (int32), and running moments of the gradient shaped as the parameters (`()` where there is none)."""

    count: Array
    mean: Any = ()
    square: Any = ()


def sgd(learning_rate: float = 0.1) -> LearnedOptimizer:
    """Stochastic gradient descent; theta is `{"log_learning_rate"}`.

    Raises:
      ValueError: for a rate that is not positive.
    """
    theta = {"log_learning_rate": _log("learning_rate", learning_rate)}

    def update(theta, grads, state, params):
        del params
        step = jax.tree.map(lambda g: -_exp(theta["log_learning_rate"], g) * g, grads)
        return step, MomentState(state.count + 1)

    return _learned(theta, lambda params: MomentState(jnp.int32(0)), update)


def momentum(learning_rate: float = 0.1, decay: float = 0.9) -> LearnedOptimizer:
    """Heavy-ball momentum, `v <- decay v - rate g`; theta is `{"log_learning_rate", "log_one_minus_decay"}`.

    Raises:
      ValueError: for a rate that is not positive or a decay outside [0, 1).
    """
    theta = {
        "log_learning_rate": _log("learning_rate", learning_rate),
        "log_one_minus_decay": _log_one_minus("decay", decay),
    }

    def update(theta, grads, state, params):
        del params
        decay = _complement(theta["log_one_minus_decay"])
        rate = theta["log_learning_rate"]
        velocity = jax.tree.map(lambda v, g: decay.astype(v.dtype) * v - _exp(rate, g) * g, state.mean, grads)
        return velocity, MomentState(state.count + 1, velocity)

    return _learned(theta, lambda params: MomentState(jnp.int32(0), _zeros(params)), update)


def adam(learning_rate: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> LearnedOptimizer:
    """Adam (Kingma & Ba, arXiv 1412.6980) with bias correction and eps inside the root: `m / sqrt(v + eps^2)`.

    Theta is `{"log_learning_rate", "log_one_minus_b1", "log_one_minus_b2", "log_eps"}`.

    Raises:
      ValueError: for a rate or eps that is not positive, or a decay outside [0, 1).
    """
    theta = _adam_theta(learning_rate, b1, b2, eps)

    def update(theta, grads, state, params):
        del params
        direction, state = _adam_direction(theta, grads, state)
        return jax.tree.map(lambda d: -_exp(theta["log_learning_rate"], d) * d, direction), state

    return _learned(theta, _adam_init, update)


def adam8(
    learning_rate: float = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    exponential_decay: float = 1e-6,
    linear_decay: float = 1e-6,
    l1: float = 1e-8,
    l2: float = 1e-8,
) -> LearnedOptimizer:
    """Adam with the eight hyperparameters tuned by Metz et al. 2019 (arXiv 1810.10180, section 4.4).

    The rate at step t is `rate * exp(-exponential_decay t) * max(1 - linear_decay t, 0)`; the gradient of
    `l1 |w|_1 + l2 |w|^2 / 2` is added before Adam sees it, as the paper's penalties on the inner loss do.

    Raises:
      ValueError: for a decay b outside [0, 1) or another value that is not positive.
    """
    extras = {"exponential_decay": exponential_decay, "linear_decay": linear_decay, "l1": l1, "l2": l2}
    theta = _adam_theta(learning_rate, b1, b2, eps) | {f"log_{name}": _log(name, x) for name, x in extras.items()}

    def update(theta, grads, state, params):
        if params is None:
            raise ValueError("adam8 needs params at update: its penalties are on them")
        penalize = lambda g, w: g + _exp(theta["log_l1"], g) * jnp.sign(w) + _exp(theta["log_l2"], g) * w  # noqa: E731
        count = state.count
        direction, state = _adam_direction(theta, jax.tree.map(penalize, grads, params), state)

        def scale(d):
            t = count.astype(d.dtype)
            fade = jnp.exp(-_exp(theta["log_exponential_decay"], d) * t)
            fade = fade * jnp.maximum(1 - _exp(theta["log_linear_decay"], d) * t, 0)
            return -_exp(theta["log_learning_rate"], d) * fade * d

        return jax.tree.map(scale, direction), state

    return _learned(theta, _adam_init, update)


def _adam_theta(learning_rate, b1, b2, eps):
    return {
        "log_learning_rate": _log("learning_rate", learning_rate),
        "log_one_minus_b1": _log_one_minus("b1", b1),
        "log_one_minus_b2": _log_one_minus("b2", b2),
        "log_eps": _log("eps", eps),
    }


def _adam_init(params):
    return MomentState(jnp.int32(0), _zeros(params), _zeros(params))


def _adam_direction(theta, grads, state):
    b1, b2 = _complement(theta["log_one_minus_b1"]), _complement(theta["log_one_minus_b2"])
    count = state.count + 1
    mean = _average(b1, state.mean, grads)
    square = _average(b2, state.square, jax.tree.map(jnp.square, grads))

    def direction(m, v):
        t = count.astype(m.dtype)
        m_hat = m / (1 - b1.astype(m.dtype) ** t)
        v_hat = v / (1 - b2.astype(v.dtype) ** t)
        return m_hat / jnp.sqrt(v_hat + jnp.square(_exp(theta["log_eps"], v)))

    return jax.tree.map(direction, mean, square), MomentState(count, mean, square)


def _average(decay, old, new):
    return jax.tree.map(lambda o, n: decay.astype(o.dtype) * o + (1 - decay).astype(o.dtype) * n, old, new)


def _learned(
    theta: dict[str, float], init: Callable[[Any], MomentState], update: Callable[..., tuple[Any, MomentState]]
) -> LearnedOptimizer:
    def optimizer(theta):
        def update_fn(grads, state, params=None, **extra):
            del extra
            steps, state = update(theta, _wide(grads), state, _wide(params))
            return jax.tree.map(lambda s, g: s.astype(g.dtype), steps, grads), state

        return optax.GradientTransformationExtraArgs(init, update_fn)

    return LearnedOptimizer(lambda key: {name: jnp.float32(value) for name, value in theta.items()}, optimizer)


def _wide(tree):
    return jax.tree.map(lambda x: x.astype(at_least_float32(x.dtype)), tree)


def _zeros(params):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, at_least_float32(x.dtype)), params)


def _exp(log, like):
    return jnp.exp(log).astype(like.dtype)


def _complement(log_one_minus):
    return -jnp.expm1(log_one_minus)


def _log(name, value):
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
    return math.log(value)


def _log_one_minus(name, value):
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
    return math.log1p(-value)
