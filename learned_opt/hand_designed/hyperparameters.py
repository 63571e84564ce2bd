"""Hand-designed optimizers whose hyperparameters are theta,
so that they are outer-trained as any learned optimizer is.

Rates and penalties live as logarithms, decay constants b as log(1 - b): theta is unconstrained, and
held within `learned_opt.ranges` where it is used. All are differentiable in forward and reverse
mode: Adam and RMSProp have their eps inside the root, where a parameter whose gradient is always
zero would otherwise give `sqrt'(0) * 0`, which is nan.

Three have decays of the rate and penalties as well, since Metz et al. 2019 (arXiv 1810.10180,
section 4.4) tune them for Adam, RMSProp and momentum. `adam8`, `rmsprop8` and `momentum6` are named
by how many numbers they have: momentum has no second moment, so neither its decay nor an eps.
"""

import jax.numpy as jnp

from learned_opt import ranges
from learned_opt.base import LearnedOptimizer
from learned_opt.hand_designed.from_moments import (
    exp_like,
    log_of,
    log_one_minus,
    with_moments,
)
from learned_opt.hand_designed.moments import (
    LOG_RANGE,
    average,
    complement,
    over_root,
    total_weight,
)
from learned_opt.trees.gradient_tree import map_trained


def sgd(learning_rate: float = 0.1) -> LearnedOptimizer:
    """Stochastic gradient descent; theta is `{"log_learning_rate"}`.

    Raises:
      ValueError: for a rate out of `learned_opt.ranges`.
    """
    theta = {"log_learning_rate": log_of("learning_rate", learning_rate)}

    def update(theta, grads, state, params):
        del params
        return map_trained(lambda g: -exp_like(theta["log_learning_rate"], g) * g, grads), state

    return with_moments("sgd", theta, (), update)


def momentum(learning_rate: float = 0.1, decay: float = 0.9) -> LearnedOptimizer:
    """Heavy-ball momentum, `v <- decay v - rate g`;
    theta is `{"log_learning_rate", "log_one_minus_decay"}`.

    Raises:
      ValueError: for a rate out of `learned_opt.ranges` or a decay outside [0, 1).
    """
    theta = {
        "log_learning_rate": log_of("learning_rate", learning_rate),
        "log_one_minus_decay": log_one_minus("decay", decay),
    }

    def update(theta, grads, state, params):
        del params
        decay, rate = complement(theta["log_one_minus_decay"]), theta["log_learning_rate"]
        velocity = map_trained(
            lambda g, v: decay.astype(v.dtype) * v - exp_like(rate, v) * g, grads, state.mean
        )
        return velocity, state._replace(mean=velocity)

    return with_moments("momentum", theta, ("mean",), update)


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
        return map_trained(lambda d: -exp_like(theta["log_learning_rate"], d) * d, direction), state

    return with_moments("adam", theta, ("mean", "square"), update)


PENALTY = 1e-8
"""Where the penalties of `adam8`, `rmsprop8` and `momentum6` start if they are not given."""


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
      l1: decay that falls on every parameter. None starts at `PENALTY` and spares a parameter while
        its gradient is zero: Adam makes full steps of the smallest gradient, also of a penalty's.
      l2: likewise.

    Raises:
      ValueError: for a decay b outside [0, 1) or another value out of `learned_opt.ranges`.
    """
    theta = _adam_theta(learning_rate, b1, b2, eps)
    theta |= _decays_and_penalties(exponential_decay, linear_decay, l1, l2)

    def update(theta, grads, state, params):
        grads = _penalized(theta, (l1, l2), grads, params)
        direction, state = _adam_direction(theta, grads, state)
        return map_trained(lambda d: -_rate(theta, state.count, d) * d, direction), state

    return with_moments("adam8", theta, ("mean", "square"), update, needs_params=True)


def rmsprop8(
    learning_rate: float = 1e-3,
    decay: float = 0.9,
    momentum: float = 0.0,
    eps: float = 1e-8,
    exponential_decay: float = 1e-6,
    linear_decay: float = 1e-6,
    l1: float | None = None,
    l2: float | None = None,
) -> LearnedOptimizer:
    """RMSProp (Tieleman & Hinton 2012) with momentum, rate decays and penalties
    (Metz et al. 2019, arXiv 1810.10180, section 4.4).

    `s <- decay s + (1 - decay) g^2`, `v <- momentum v - rate g / sqrt(s + eps^2)`, `w <- w + v`.
    Theta is `{"log_learning_rate", "log_one_minus_decay", "log_one_minus_momentum", "log_eps",
    "log_exponential_decay", "log_linear_decay", "log_l1", "log_l2"}`.

    Args:
      learning_rate: that theta starts at, as are all the others.
      decay: of the mean square.
      momentum: of the steps; 0 is RMSProp as published.
      eps: inside the root.
      exponential_decay: as in `adam8`.
      linear_decay: as in `adam8`.
      l1: as in `adam8`.
      l2: as in `adam8`.

    Raises:
      ValueError: for a decay or momentum outside [0, 1) or another value out of
        `learned_opt.ranges`.
    """
    theta = {
        "log_learning_rate": log_of("learning_rate", learning_rate),
        "log_one_minus_decay": log_one_minus("decay", decay),
        "log_one_minus_momentum": log_one_minus("momentum", momentum),
        "log_eps": log_of("eps", eps),
    }
    theta |= _decays_and_penalties(exponential_decay, linear_decay, l1, l2)

    def update(theta, grads, state, params):
        grads = _penalized(theta, (l1, l2), grads, params)
        grads = map_trained(ranges.bounded_gradient, grads)
        decay = theta["log_one_minus_decay"]
        square = map_trained(lambda g, s: average(decay, s, jnp.square(g)), grads, state.square)

        def move(g, v, s):
            step = over_root(g, s, _log_eps(theta, g))
            kept = complement(theta["log_one_minus_momentum"]).astype(v.dtype) * v
            return kept - _rate(theta, state.count, g) * step

        velocity = map_trained(move, grads, state.mean, square)
        return velocity, state._replace(mean=velocity, square=square)

    return with_moments("rmsprop8", theta, ("mean", "square"), update, needs_params=True)


def momentum6(
    learning_rate: float = 0.1,
    decay: float = 0.9,
    exponential_decay: float = 1e-6,
    linear_decay: float = 1e-6,
    l1: float | None = None,
    l2: float | None = None,
) -> LearnedOptimizer:
    """Heavy-ball momentum with rate decays and penalties
    (Metz et al. 2019, arXiv 1810.10180, section 4.4).

    Theta is `{"log_learning_rate", "log_one_minus_decay", "log_exponential_decay",
    "log_linear_decay", "log_l1", "log_l2"}`.

    Args:
      learning_rate: that theta starts at, as are all the others.
      decay: of the velocity.
      exponential_decay: as in `adam8`.
      linear_decay: as in `adam8`.
      l1: as in `adam8`.
      l2: as in `adam8`.

    Raises:
      ValueError: for a decay outside [0, 1) or another value out of `learned_opt.ranges`.
    """
    theta = {
        "log_learning_rate": log_of("learning_rate", learning_rate),
        "log_one_minus_decay": log_one_minus("decay", decay),
    }
    theta |= _decays_and_penalties(exponential_decay, linear_decay, l1, l2)

    def update(theta, grads, state, params):
        grads = _penalized(theta, (l1, l2), grads, params)
        decay = complement(theta["log_one_minus_decay"])
        move = lambda g, v: decay.astype(v.dtype) * v - _rate(theta, state.count, g) * g
        velocity = map_trained(move, grads, state.mean)
        return velocity, state._replace(mean=velocity)

    return with_moments("momentum6", theta, ("mean",), update, needs_params=True)


def _decays_and_penalties(exponential_decay, linear_decay, l1, l2):
    """Where theta's last four numbers start."""
    values = {"exponential_decay": exponential_decay, "linear_decay": linear_decay}
    values |= {"l1": PENALTY if l1 is None else l1, "l2": PENALTY if l2 is None else l2}
    return {f"log_{name}": log_of(name, value) for name, value in values.items()}


def _penalized(theta, given, grads, params):
    """Gradients with those of the penalties. One that was not given spares a parameter whose
    gradient is zero, also one that had others before: penalties would keep moments alive for ever.
    """
    penalties = (("log_l1", jnp.sign), ("log_l2", lambda w: w))

    def penalized(g, w):
        total = g
        for value, (name, slope) in zip(given, penalties, strict=True):
            penalty = exp_like(theta[name], g) * slope(w)
            total = total + (jnp.where(g != 0, penalty, 0) if value is None else penalty)
        return total

    return map_trained(penalized, grads, params)


def _rate(theta, count, like):
    """The rate at this step, with both decays."""
    t = count.astype(like.dtype)
    fade = jnp.exp(-exp_like(theta["log_exponential_decay"], like) * t)
    fade = fade * jnp.maximum(1 - exp_like(theta["log_linear_decay"], like) * t, 0)
    return exp_like(theta["log_learning_rate"], like) * fade


def _adam_theta(learning_rate, b1, b2, eps):
    return {
        "log_learning_rate": log_of("learning_rate", learning_rate),
        "log_one_minus_b1": log_one_minus("b1", b1),
        "log_one_minus_b2": log_one_minus("b2", b2),
        "log_eps": log_of("eps", eps),
    }


def _adam_direction(theta, grads, state):
    b1, b2 = theta["log_one_minus_b1"], theta["log_one_minus_b2"]
    grads = map_trained(ranges.bounded_gradient, grads)
    mean = map_trained(lambda g, m: average(b1, m, g), grads, state.mean)
    square = map_trained(lambda g, v: average(b2, v, jnp.square(g)), grads, state.square)

    def direction(m, v):
        t = state.count.astype(m.dtype) + 1
        return over_root(m / total_weight(b1, t), v / total_weight(b2, t), _log_eps(theta, m))

    return map_trained(direction, mean, square), state._replace(mean=mean, square=square)


def _log_eps(theta, like):
    return jnp.clip(theta["log_eps"], *LOG_RANGE).astype(like.dtype)
