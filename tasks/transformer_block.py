"""The block of a transformer, normalized before each part, as in GPT-2 and ViT
(arXiv 1706.03762, 2002.04745).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

_KERNEL_INIT = nn.initializers.normal(0.02)


def check_sizes(**sizes: int) -> None:
    """Raises `ValueError` for sizes below 1, and where `num_heads` does not divide `width`."""
    if low := {name: size for name, size in sizes.items() if size < 1}:
        raise ValueError(f"sizes must be at least 1; got {low}")
    width, num_heads = sizes.get("width", 1), sizes.get("num_heads", 1)
    if width % num_heads:
        raise ValueError(f"num_heads must divide width; got {num_heads} and {width}")


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward layer of four times the width, each behind a LayerNorm.

    12 width^2 + 13 width parameters: kernels `qkv`, `out`, `up` and `down` with biases, two
    LayerNorms.

    Attributes:
      num_heads: divides the width.
      causal: whether a position sees only itself and those before it.
      out_scale: of what enters the residual stream at the start; GPT-2 has 1 / sqrt(2 depth).
    """

    num_heads: int
    causal: bool = False
    out_scale: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """The residual stream after the block."""
        width = x.shape[-1]
        out_init = nn.initializers.normal(0.02 * self.out_scale)
        dense = lambda size, name, init=_KERNEL_INIT: nn.Dense(size, kernel_init=init, name=name)
        attended = self._attend(dense(3 * width, "qkv")(nn.LayerNorm()(x)))
        x = x + dense(width, "out", out_init)(attended)
        hidden = nn.gelu(dense(4 * width, "up")(nn.LayerNorm()(x)))
        return x + dense(width, "down", out_init)(hidden)

    def _attend(self, qkv: Array) -> Array:
        batch, length, triple = qkv.shape
        size = triple // (3 * self.num_heads)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, length, 3, self.num_heads, size), 2, 0)
        scores = jnp.einsum("blhd,bmhd->bhlm", q, k) * jnp.asarray(size**-0.5, q.dtype)
        if self.causal:
            seen = jnp.tril(jnp.ones((length, length), bool))
            scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
        mixed = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(scores, axis=-1), v)
        return mixed.reshape(batch, length, triple // 3)
