"""A learned optimizer in Flax NNX.

    python examples/flax_nnx.py

The line that differs from `optax.adam(1e-3)` is marked.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

import learned_opt


class Network(nnx.Module):
    """A network of 64-32-10."""

    def __init__(self, rngs: nnx.Rngs):
        """Fresh weights."""
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.output = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, images):
        """Logits of ten classes."""
        return self.output(nnx.relu(self.hidden(images)))


@nnx.jit
def train_step(model, optimizer, images, labels):
    """One step on one batch."""

    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def main(num_steps: int = 300) -> list[float]:
    """Trains, prints, and returns the loss of each step."""
    digits = load_digits()
    images, labels = (
        jnp.asarray(digits.data / 16, jnp.float32),
        jnp.asarray(digits.target, jnp.int32),
    )

    model = Network(nnx.Rngs(0))
    # Instead of optax.adam(1e-3):
    optimizer = nnx.Optimizer(model, learned_opt.load(), wrt=nnx.Param)

    losses = []
    for step in range(num_steps):
        batch = jax.random.randint(
            jax.random.fold_in(jax.random.key(1), step), (64,), 0, len(images)
        )
        losses.append(float(train_step(model, optimizer, images[batch], labels[batch])))
        if (step + 1) % 50 == 0:
            print(f"step {step + 1:4d}  loss {losses[-1]:.4f}")
    return losses


if __name__ == "__main__":
    main()
