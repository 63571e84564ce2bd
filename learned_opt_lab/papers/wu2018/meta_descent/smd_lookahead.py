"""One adaptation of learning rate and momentum
by lookahead (Wu et al., ICLR 2018, arXiv 1803.02021, section 3.3).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from learned_opt.hand_designed import MomentumState, Pair, constant_schedule
from learned_opt_lab.papers.wu2018.meta_descent.smd_tasks import Training, sgd_steps
from outer_train import UnrolledSystem
from outer_train.estimators import forward_mode

LOG_EFFECTIVE_RATE_RANGE = tuple(np.log([1e-4, 10.0]))
LOG_ONE_MINUS_MOMENTUM_RANGE = tuple(np.log([1e-4, 1.0]))
GRADIENT_CLIP = 10.0


class AdaptiveState(NamedTuple):
    """A training run and its hyperparameters, with the state of the Adam that moves them."""

    params: dict
    opt_state: MomentumState
    theta: Pair
    adam_state: optax.OptState


def lookahead_problem(
    training: Training, state, num_steps: int, same_batch: bool
) -> UnrolledSystem:
    """An inner problem whose one step is a lookahead from `state`,
    `(params, opt_state)`, that leaves it untouched.

    The loss is that of the weights after `num_steps` steps, on the next `num_steps` minibatches.

    Args:
      training: the task.
      state: where the training stands.
      num_steps: of the lookahead.
      same_batch: repeat one minibatch through the whole of it, loss included (Fig 8).
    """
    learned = constant_schedule()

    def step(theta, state, key, data):
        del data
        keys = jax.random.split(key, 2 * num_steps)
        if same_batch:
            keys = jnp.broadcast_to(keys[:1], keys.shape)
        params, _ = sgd_steps(training, learned, theta, *state, keys[:num_steps])
        loss_keys = keys[num_steps : num_steps + 1] if same_batch else keys[num_steps:]
        return state, jnp.mean(jax.vmap(lambda key: _batch_loss(training, params, key))(loss_keys))

    return UnrolledSystem(init=lambda theta, key: state, step=step, num_steps=1)


def _batch_loss(training: Training, params, key):
    key_batch, key_loss = jax.random.split(key)
    return training.task.loss(
        params, key_loss, training.task.sample_batch(training.data, key_batch, "train")
    )[0]


def adapt(
    training: Training,
    state: AdaptiveState,
    key,
    *,
    lookahead: int,
    num_meta_steps: int,
    meta_learning_rate: float,
    same_batch: bool,
) -> AdaptiveState:
    """The meta-steps of one adaptation:
    Adam on forward-mode gradients, clipped, hyperparameters kept in range.
    """
    problem = lookahead_problem(training, (state.params, state.opt_state), lookahead, same_batch)
    estimator = forward_mode(problem, num_particles=1)
    adam = optax.adam(meta_learning_rate)

    def meta_step(carry, key):
        theta, adam_state = carry
        key_init, key_estimate = jax.random.split(key)
        estimate, _ = estimator.estimate(
            theta, estimator.init(theta, key_init), key_estimate, 1, ()
        )
        # Clipping alone would keep nan; a lookahead that diverges says nothing about where to go.
        grad = jax.tree.map(lambda g: jnp.where(jnp.isnan(g), 0, g), estimate.grad)
        grad = jax.tree.map(lambda g: jnp.clip(g, -GRADIENT_CLIP, GRADIENT_CLIP), grad)
        with jax.numpy_dtype_promotion("standard"):
            updates, adam_state = adam.update(grad, adam_state)
            theta = optax.apply_updates(theta, updates)
        return (_in_range(theta), adam_state), None

    keys = jax.random.split(key, num_meta_steps)
    (theta, adam_state), _ = lax.scan(meta_step, (state.theta, state.adam_state), keys)
    return state._replace(theta=theta, adam_state=adam_state)


def _in_range(theta: Pair) -> Pair:
    return Pair(
        jnp.clip(theta.log_effective_rate, *map(float, LOG_EFFECTIVE_RATE_RANGE)),
        jnp.clip(theta.log_one_minus_momentum, *map(float, LOG_ONE_MINUS_MOMENTUM_RANGE)),
    )
