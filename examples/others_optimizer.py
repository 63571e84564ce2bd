"""Another learned optimizer in an evaluation, with weights of your own.

    python examples/others_optimizer.py weights.npz     # stands for weights that you have
    PYTHONPATH=examples learned-opt evaluate \
        others_optimizer:small_network@examples/others_optimizer.toml general adam \
        --leagues untuned --out runs/others

Its functions are in the style of most learned optimizers: the state holds the parameters, and an
update takes the loss. `as_optax` makes an Optax transformation of them. `small_network` is what the
evaluation calls, with the length of the run and with what `others_optimizer.toml` gives.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_lab.evaluation.rivals.adapter import as_optax

NUM_HIDDEN = 4


def small_network(weights: str, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """A network of one hidden layer that sees of each parameter its momentum, over the root of
    its second moment, and of the run how much of it is over.

    Args:
      weights: a file with `w1` `[2, hidden]`, `b1` `[hidden]` and `w2` `[hidden]`.
      num_steps: of the run.
    """
    with np.load(weights) as file:
        w1, b1, w2 = (jnp.asarray(file[name], jnp.float32) for name in ("w1", "b1", "w2"))

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"params": params, "momentum": zeros, "square": zeros, "step": jnp.int32(0)}

    def update(state, gradient, loss):
        del loss  # This one has no use for it.
        step = state["step"] + 1
        average = lambda decay, old, new: jax.tree.map(
            lambda o, n: decay * o + (1 - decay) * n, state[old], new
        )
        momentum = average(0.9, "momentum", gradient)
        square = average(0.99, "square", jax.tree.map(jnp.square, gradient))
        done = step.astype(jnp.float32) / num_steps

        def stepped(p, m, s):
            direction = m / (1 - 0.9**step) / (jnp.sqrt(s / (1 - 0.99**step)) + 1e-8)
            inputs = jnp.stack([direction, jnp.full_like(direction, done)], axis=-1)
            return p + 0.01 * jnp.tanh(inputs @ w1 + b1) @ w2

        params = jax.tree.map(stepped, state["params"], momentum, square)
        return {"params": params, "momentum": momentum, "square": square, "step": step}

    return as_optax(init, update, lambda state: state["params"])


def write_weights(path: str) -> None:
    """Weights that go down the momentum, and more slowly at the end of a run."""
    w1, b1 = np.zeros((2, NUM_HIDDEN)), np.zeros(NUM_HIDDEN)
    w1[0, :2] = 1.0
    w1[1, :2] = 0.5, -0.5  # Time moves both units to where tanh is flat, from either side.
    np.savez(path, w1=w1, b1=b1, w2=np.array([-1.0, -1.0, 0.0, 0.0]))


if __name__ == "__main__":
    write_weights(sys.argv[1] if len(sys.argv) > 1 else "weights.npz")
