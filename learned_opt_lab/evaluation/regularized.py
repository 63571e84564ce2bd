"""Hand-designed optimizers on a loss with penalties, at a rate that decays
(METZ, arXiv 1810.10180, figure 6 and appendix E).

`loss + l1 |w|_1 + l2 |w|_2^2`, and the rate `lr exp(-exponential_decay t) max(0, 1 - linear_decay
t)`. Adam has eight hyperparameters then, RMSProp with momentum too, and momentum, which has no
second moment, six. The ranges are those of TaskSet (arXiv 2002.11887, appendix), the learning rates
narrowed to 1e-5..10; one hyperparameter has one range, whichever optimizer it is of.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import NDArray

from learned_opt import ranges

_EXTRAS = {
    "exponential_decay": (1e-6, 1e-3),
    "linear_decay": (1e-7, 1e-4),
    "l1": (1e-8, 1e1),
    "l2": (1e-8, 1e1),
}
ADAM8_RANGES = {
    "learning_rate": (1e-5, 1e1),
    "one_minus_b1": (1e-4, 1.0),
    "one_minus_b2": (1e-6, 1.0),
    "eps": (1e-10, 1e3),
    **_EXTRAS,
}
"""Log-uniform ranges of the eight hyperparameters; decays are per step."""
RMSPROP8_RANGES = {
    "learning_rate": (1e-5, 1e1),
    "one_minus_momentum": (1e-4, 1.0),
    "one_minus_decay": (1e-6, 1.0),
    "eps": (1e-10, 1e3),
    **_EXTRAS,
}
"""As those of Adam, which has a momentum where RMSProp has one."""
MOMENTUM6_RANGES = {
    "learning_rate": (1e-5, 1e1),
    "one_minus_momentum": (1e-4, 1.0),
    **_EXTRAS,
}
"""Without a second moment there is neither its decay nor an eps."""


def random_search(
    bounds: Mapping[str, tuple[float, float]],
) -> Callable[[int, int], dict[str, NDArray]]:
    """`(budget, seed) -> configurations`: log-uniform draws, `[budget]` of each hyperparameter.

    A larger budget with the same seed keeps the draws of a smaller one.

    Args:
      bounds: lowest and highest value of each hyperparameter.
    """

    def search(budget: int, seed: int) -> dict[str, NDArray]:
        budget = ranges.require_count(
            "the budget of a random search", budget, 1, 2**31 - 1, "be at least 1"
        )
        low, high = (np.log([pair[i] for pair in bounds.values()]) for i in (0, 1))
        draws = np.exp(np.random.default_rng(seed).uniform(low, high, (budget, len(bounds))))
        return {name: draws[:, i].astype(np.float32) for i, name in enumerate(bounds)}

    return search


def adam8(hyperparameters: Mapping[str, Array]) -> optax.GradientTransformation:
    """Adam with eight hyperparameters, those of `ADAM8_RANGES`."""
    h = hyperparameters
    direction = optax.scale_by_adam(
        b1=1.0 - h["one_minus_b1"], b2=1.0 - h["one_minus_b2"], eps=h["eps"]
    )
    return optax.chain(_penalties(h), direction, optax.scale_by_schedule(_schedule(h)))


def rmsprop8(hyperparameters: Mapping[str, Array]) -> optax.GradientTransformation:
    """RMSProp with eight hyperparameters, those of `RMSPROP8_RANGES`; its eps is beside the root,
    as Adam's.
    """
    h = hyperparameters
    direction = optax.scale_by_rms(
        decay=1.0 - h["one_minus_decay"], eps=h["eps"], eps_in_sqrt=False
    )
    return optax.chain(_penalties(h), direction, *_moving(h))


def momentum6(hyperparameters: Mapping[str, Array]) -> optax.GradientTransformation:
    """SGD with momentum with six hyperparameters, those of `MOMENTUM6_RANGES`."""
    return optax.chain(_penalties(hyperparameters), *_moving(hyperparameters))


def _moving(h):
    """A velocity of steps, each at its own rate, as Optax's `sgd` and `rmsprop` have it."""
    return optax.scale_by_schedule(_schedule(h)), optax.trace(1.0 - h["one_minus_momentum"])


def _penalties(h):
    def regularize(grads, params):
        return jax.tree.map(
            lambda g, p: g + (h["l1"] * jnp.sign(p) + 2 * h["l2"] * p).astype(g.dtype),
            grads,
            params,
        )

    return optax.stateless(regularize)


def _schedule(h):
    def schedule(count):
        linear = jnp.maximum(0.0, 1.0 - h["linear_decay"] * count)
        return -h["learning_rate"] * jnp.exp(-h["exponential_decay"] * count) * linear

    return schedule
