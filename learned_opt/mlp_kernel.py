"""The per-parameter MLP itself: rows of inputs in, rows of outputs out.

The inputs of all parameters of a group stay apart as rows `[n]`; inputs common to all parameters (time) are already
part of the first bias.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array


def mlp_rows(weights: Sequence[Array], biases: Sequence[Array], rows: Sequence[Array]) -> list[Array]:
    """Applies a ReLU MLP to every parameter.

    Args:
      weights: `[inputs, outputs]` of each layer.
      biases: `[outputs]` of each layer.
      rows: the inputs, `[n]` each.

    Returns:
      The outputs, `[n]` each.
    """
    return list(matmul_mlp(weights, biases, jnp.stack(rows)))


def matmul_mlp(weights: Sequence[Array], biases: Sequence[Array], inputs: Array) -> Array:
    """The MLP as matrix products: `[inputs, n] -> [outputs, n]`."""
    values = inputs
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = jax.nn.relu(values) if layer else values
        values = jnp.matmul(weight.T, values, precision=jax.lax.Precision.HIGHEST) + bias[:, None]
    return values
