"""A learned optimizer in a Flax Linen `TrainState`, with a schedule and weight decay around it.

    python examples/flax_linen.py

The line that differs from `optax.adamw` is marked; a schedule of the learning rate scales what was
learned.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import learned_opt


class Network(nn.Module):
    """A convolution and a linear layer on 8x8 images."""

    @nn.compact
    def __call__(self, images):
        """Logits of ten classes."""
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(images))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


@jax.jit
def train_step(state, images, labels):
    """One step on one batch."""

    def loss_fn(params):
        logits = state.apply_fn({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


def main(num_steps: int = 300) -> list[float]:
    """Trains, prints, and returns the loss of each step."""
    digits = load_digits()
    images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
    labels = jnp.asarray(digits.target, jnp.int32)

    schedule = optax.cosine_decay_schedule(1.0, num_steps)
    # Instead of optax.adamw(...):
    optimizer = learned_opt.load(learning_rate=schedule, weight_decay=1e-5)

    model = Network()
    params = model.init(jax.random.key(0), images[:1])["params"]
    state, losses = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer), []
    for step in range(num_steps):
        batch = jax.random.randint(
            jax.random.fold_in(jax.random.key(1), step), (64,), 0, len(images)
        )
        state, loss = train_step(state, images[batch], labels[batch])
        losses.append(float(loss))
        if (step + 1) % 50 == 0:
            print(f"step {step + 1:4d}  loss {losses[-1]:.4f}")
    return losses


if __name__ == "__main__":
    main()
