"""A learned optimizer in a plain Optax loop:
a network on scikit-learn's digits, held in a dictionary.

    python examples/plain_optax.py

The line that differs from `optax.adam(1e-3)` is marked.
"""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import learned_opt


def init_params(key):
    """A network of 64-32-10."""
    key_1, key_2 = jax.random.split(key)
    layer = lambda key, m, n: {"w": jax.random.normal(key, (m, n)) / m**0.5, "b": jnp.zeros(n)}
    return {"hidden": layer(key_1, 64, 32), "output": layer(key_2, 32, 10)}


def loss_fn(params, images, labels):
    """Cross-entropy."""
    hidden = jax.nn.relu(images @ params["hidden"]["w"] + params["hidden"]["b"])
    logits = hidden @ params["output"]["w"] + params["output"]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def main(num_steps: int = 300) -> list[float]:
    """Trains, prints, and returns the loss of each step."""
    digits = load_digits()
    images, labels = (
        jnp.asarray(digits.data / 16, jnp.float32),
        jnp.asarray(digits.target, jnp.int32),
    )

    optimizer = learned_opt.load()  # <- instead of optax.adam(1e-3)

    @jax.jit
    def train_step(params, opt_state, key):
        batch = jax.random.randint(key, (64,), 0, len(images))
        loss, grads = jax.value_and_grad(loss_fn)(params, images[batch], labels[batch])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    params = init_params(jax.random.key(0))
    opt_state, losses = optimizer.init(params), []
    for step in range(num_steps):
        params, opt_state, loss = train_step(
            params, opt_state, jax.random.fold_in(jax.random.key(1), step)
        )
        losses.append(float(loss))
        if (step + 1) % 50 == 0:
            print(f"step {step + 1:4d}  loss {losses[-1]:.4f}")
    return losses


if __name__ == "__main__":
    main()
