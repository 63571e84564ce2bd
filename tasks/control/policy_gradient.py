"""REINFORCE with a learned baseline (Williams, Machine Learning 8, 1992; Sutton et al., NIPS 1999)
on control tasks in pure JAX.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from tasks.base import SPLITS, Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.control._cart_pole import cart_pole
from tasks.control._pendulum import pendulum
from tasks.control.environment import Environment
from tasks.images.class_subsets import fixed_family
from tasks.images.networks import MLP
from tasks.transformer_block import check_sizes

ENVIRONMENTS: dict[str, Callable[[], Environment]] = {
    "cart_pole": cart_pole,
    "pendulum": pendulum,
}
STARTS = 1024
"""Initial states of each split."""


class Trajectories(NamedTuple):
    """Episodes of a policy; nothing here has a gradient.

    Attributes:
      observations: `[steps, episodes, features]`.
      actions: `[steps, episodes]`.
      rewards: `[steps, episodes]`, 0 once an episode is over.
      alive: `[steps, episodes]`, whether the action still counted.
    """

    observations: Float[Array, "steps episodes features"]
    actions: Int[Array, "steps episodes"]
    rewards: Float[Array, "steps episodes"]
    alive: Bool[Array, "steps episodes"]


class Networks(NamedTuple):
    """The policy, whose outputs are logits of the actions, and the baseline."""

    policy: MLP
    baseline: MLP


def policy_gradient_family(
    environment: str = "cart_pole",
    width: int = 64,
    depth: int = 2,
    length: int = 200,
    batch_size: int = 8,
    discount: float = 0.99,
) -> TaskFamily:
    """One task: the policy that keeps the most reward.

    The loss is 1 - mean return / length: the share of the reward that was missed, within 0..1,
    lower is better, and the same for every optimizer. Its gradient is that of the `surrogate`,
    which enters as surrogate - stop_gradient(surrogate), and so adds nothing to the value. Actions
    follow from the loss's key; a fresh key and fresh initial states come with every step.

    | environment | observations | actions | a random policy's loss, 200 steps |
    |---|---|---|---|
    | `"cart_pole"` | 4 | 2 | .89 |
    | `"pendulum"` | 3 | 3 | .40 |

    Two MLPs of (features + 1) width + (depth - 1) (width + 1) width + (width + 1) outputs
    parameters each: 9,155 together for cart-pole with the defaults.

    Args:
      environment: one of the above.
      width: of the hidden layers.
      depth: hidden layers.
      length: steps of an episode.
      batch_size: episodes in a batch.
      discount: of later rewards in what an action is credited with, above 0, at most 1.

    Returns:
      The family; each split has 1,024 initial states of its own, and the metrics are
      `{"mean_return"}`.

    Raises:
      ValueError: for an unknown environment, a size below 1, or a discount outside of that.

    Example:
      >>> family = policy_gradient_family("pendulum", width=32, length=100)
    """
    if environment not in ENVIRONMENTS:
        known = ", ".join(ENVIRONMENTS)
        raise ValueError(f"unknown environment {environment!r}; there are {known}")
    check_sizes(width=width, depth=depth, length=length, batch_size=batch_size)
    if not 0 < discount <= 1:
        raise ValueError(f"discount must be above 0 and at most 1; got {discount}")
    system = ENVIRONMENTS[environment]()
    sizes = (width,) * depth
    networks = Networks(
        MLP(sizes, system.num_actions, "tanh", init_scale=1.0), MLP(sizes, 1, "tanh")
    )
    with jax.ensure_compile_time_eval():
        keys = jax.random.split(jax.random.key(0), len(SPLITS) * STARTS)
        starts = jax.vmap(system.reset)(keys).reshape(len(SPLITS), STARTS, -1)
    return fixed_family(_task(system, networks, length, batch_size, discount), starts)


def _task(
    system: Environment, networks: Networks, length: int, batch_size: int, discount: float
) -> Task:
    def init(key: Key) -> Params:
        state = jnp.zeros(jax.eval_shape(system.reset, key).shape, jnp.float32)
        keys, example = jax.random.split(key), system.observe(state)[None]
        return {
            name: module.init(each, example)["params"]
            for name, module, each in zip(networks._fields, networks, keys, strict=True)
        }

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        episodes = rollout(system, networks, params, key, batch, length)
        mean_return = jnp.mean(jnp.sum(episodes.rewards, axis=0))
        returns = discounted_returns(episodes.rewards, discount)
        objective = surrogate(
            networks, params, episodes, returns, advantages(networks, params, episodes, returns)
        )
        missed = jnp.ones_like(mean_return) - mean_return / jnp.asarray(length, mean_return.dtype)
        value = missed + objective - jax.lax.stop_gradient(objective)
        return value, {"mean_return": mean_return}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        starts = data[SPLITS.index(split)]
        return starts[jax.random.randint(key, (batch_size,), 0, starts.shape[0], jnp.int32)]

    return Task(init, loss, sample_batch)


def rollout(
    system: Environment, networks: Networks, params: Params, key: Key, starts: Array, length: int
) -> Trajectories:
    """Episodes of `length` steps from initial states `[episodes, size]`."""
    params = jax.lax.stop_gradient(params)

    def step(carry, index):
        states, alive = carry
        observations = jax.vmap(system.observe)(states)
        logits = networks.policy.apply({"params": params["policy"]}, observations)
        actions = jax.random.categorical(jax.random.fold_in(key, index), logits).astype(jnp.int32)
        states, rewards, goes_on = jax.vmap(system.step)(states, actions)
        rewards = jnp.where(alive, rewards, jnp.zeros_like(rewards))
        return (states, alive & goes_on), Trajectories(observations, actions, rewards, alive)

    # What a scan carries varies over devices from its start or never: later states follow from the
    # parameters, so the first ones have to, by a zero (nan where a parameter is not finite).
    starts = starts + 0 * jax.tree.leaves(params["policy"])[0].ravel()[0]
    alive = jnp.all(jnp.isfinite(starts), axis=-1)
    return jax.lax.scan(step, (starts, alive), jnp.arange(length, dtype=jnp.int32))[1]


def discounted_returns(
    rewards: Float[Array, "steps episodes"], discount: float
) -> Float[Array, "steps episodes"]:
    """(1 - discount) times the discounted sum of the rewards from each step on, which lies within
    0..1; with a discount of 1 the sum over the number of steps.
    """
    scale = 1 - discount if discount < 1 else 1 / rewards.shape[0]

    def step(later, reward):
        now = reward + jnp.asarray(discount, reward.dtype) * later
        return now, now

    sums = jax.lax.scan(step, 0 * rewards[0], rewards, reverse=True)[1]
    return sums * jnp.asarray(scale, rewards.dtype)


def advantages(
    networks: Networks, params: Params, episodes: Trajectories, returns: Array
) -> Float[Array, "steps episodes"]:
    """Returns less the baseline, with mean 0 and deviation 1 over the steps that counted; no
    gradient flows through them.
    """
    weights = _weights(episodes)
    gain = jax.lax.stop_gradient(returns - _baseline(networks, params, episodes))
    centered = gain - jnp.sum(weights * gain)
    variance = jnp.sum(weights * centered**2)
    return centered * jax.lax.rsqrt(variance + jnp.asarray(1e-8, variance.dtype))


def surrogate(
    networks: Networks, params: Params, episodes: Trajectories, returns: Array, gains: Array
) -> Float[Array, ""]:
    """What is differentiated, the episodes and gains held fixed: the mean over steps of
    -log pi(action) gain + (baseline - return)^2 / 2.
    """
    logits = networks.policy.apply({"params": params["policy"]}, _flat(episodes))
    logits = jax.nn.log_softmax(logits).reshape(*episodes.actions.shape, -1)
    chosen = episodes.actions[..., None] == jnp.arange(logits.shape[-1], dtype=jnp.int32)
    log_probability = jnp.sum(jnp.where(chosen, logits, jnp.zeros_like(logits)), axis=-1)
    error = _baseline(networks, params, episodes) - returns
    half = jnp.asarray(0.5, error.dtype)
    return jnp.sum(_weights(episodes) * (half * error**2 - log_probability * gains))


def _weights(episodes: Trajectories) -> Array:
    """Equal for all steps that counted; their sum is 1."""
    alive = episodes.alive.astype(episodes.rewards.dtype)
    return alive / jnp.sum(alive)


def _flat(episodes: Trajectories) -> Array:
    return episodes.observations.reshape(-1, episodes.observations.shape[-1])


def _baseline(networks: Networks, params: Params, episodes: Trajectories) -> Array:
    values = networks.baseline.apply({"params": params["baseline"]}, _flat(episodes))
    return values.reshape(episodes.actions.shape)
