"""A decoder-only transformer over bytes, with tied embeddings (GPT-2; arXiv 1706.03762,
1608.05859 for the tying).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from tasks.transformer_block import TransformerBlock, check_sizes

NUM_BYTES = 256


class ByteTransformer(nn.Module):
    """Causal blocks over embedded bytes with learned positions; the output layer is the embedding.

    256 width + length width + depth (12 width^2 + 13 width) + 2 width parameters.

    Attributes:
      depth: number of blocks.
      width: of the residual stream.
      num_heads: divides `width`.
      length: the most bytes of a window.

    Raises:
      ValueError: for a size below 1, or a number of heads that does not divide the width.
    """

    depth: int = 2
    width: int = 64
    num_heads: int = 4
    length: int = 64

    def __post_init__(self):
        check_sizes(
            depth=self.depth, width=self.width, num_heads=self.num_heads, length=self.length
        )
        super().__post_init__()

    def setup(self) -> None:
        """Makes the parts, which both methods share."""
        init = nn.initializers.normal(0.02)
        self.embedding = self.param("embedding", init, (NUM_BYTES, self.width))
        self.positions = self.param("positions", init, (self.length, self.width))
        scale = (2 * self.depth) ** -0.5
        self.blocks = [
            TransformerBlock(self.num_heads, causal=True, out_scale=scale)
            for _ in range(self.depth)
        ]
        self.norm = nn.LayerNorm()

    def features(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length width"]:
        """The normalized residual stream behind the last block."""
        # A product with one-hot rows: the gradient of an index is a scatter, slow on CPUs.
        x = jax.nn.one_hot(tokens, NUM_BYTES, dtype=jnp.float32) @ self.embedding
        x = x + self.positions[: tokens.shape[1]][None]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length 256"]:
        """Logits of the next byte at each position."""
        return self.features(tokens) @ self.embedding.T
