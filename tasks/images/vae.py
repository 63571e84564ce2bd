"""A variational autoencoder (arXiv 1312.6114)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from tasks.base import Batch, Data, Key, Metrics, Params, Task, TaskFamily
from tasks.images.class_subsets import fixed_family
from tasks.images.datasets import image_set
from tasks.images.image_data import ImageData, draw_rows
from tasks.transformer_block import check_sizes


class VAE(nn.Module):
    """An MLP gives a diagonal Gaussian over `num_latents` numbers, another MLP pixels from them.

    (pixels + 1) width + 2 (width + 1) num_latents + (num_latents + 1) width + (width + 1) pixels
    + 2 (depth - 1) (width + 1) width parameters.

    Attributes:
      num_pixels: of an image.
      num_latents: of its code.
      width: of the hidden layers.
      depth: hidden layers of the encoder, and of the decoder.
    """

    num_pixels: int
    num_latents: int = 16
    width: int = 128
    depth: int = 1

    @nn.compact
    def __call__(
        self, pixels: Float[Array, "batch pixels"], noise: Float[Array, "batch latents"]
    ) -> tuple[Array, Array, Array]:
        """Logits of the pixels, and mean and log deviation of the code."""
        x = pixels
        for _ in range(self.depth):
            x = nn.gelu(nn.Dense(self.width)(x))
        moments = nn.Dense(2 * self.num_latents, kernel_init=nn.initializers.normal(0.02))(x)
        mean, log_std = jnp.split(moments, 2, axis=-1)
        z = mean + jnp.exp(log_std) * noise
        for _ in range(self.depth):
            z = nn.gelu(nn.Dense(self.width)(z))
        return nn.Dense(self.num_pixels, kernel_init=nn.initializers.zeros)(z), mean, log_std


def negative_elbo(
    logits: Float[Array, "batch pixels"],
    pixels: Float[Array, "batch pixels"],
    mean: Float[Array, "batch latents"],
    log_std: Float[Array, "batch latents"],
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Reconstruction and divergence of each image, in nats; their sum is minus the bound.

    The first is the cross-entropy of Bernoulli pixels, grey values being probabilities; the second
    KL(N(mean, std^2) | N(0, 1)) = sum (mean^2 + std^2 - 1) / 2 - log std.
    """
    reconstruction = jnp.sum(jax.nn.softplus(logits) - pixels * logits, axis=-1)
    half = jnp.asarray(0.5, mean.dtype)
    one = jnp.asarray(1.0, mean.dtype)
    kl = half * (mean**2 + jnp.exp(log_std + log_std) - one) - log_std
    return reconstruction, jnp.sum(kl, axis=-1)


def vae_family(
    data: ImageData | str = "fashion_mnist",
    num_latents: int = 16,
    width: int = 128,
    depth: int = 1,
    batch_size: int = 32,
    source_split: str | None = None,
) -> TaskFamily:
    """One task: minus the evidence lower bound of an image, in nats.

    The code's noise follows from the loss's key, one draw an image. The last layer starts at zero,
    so the loss starts near pixels ln 2: 543 nats at 28x28, where the defaults have 209,968
    parameters.

    Args:
      data: uint8 images, or the name of a set as in `tasks.images.datasets.image_set`.
      num_latents: as in `VAE`.
      width: as in `VAE`.
      depth: as in `VAE`.
      batch_size: images in a batch.
      source_split: of the set, as in `tasks.images.tfds_images`.

    Returns:
      The family; its metrics are `{"bits_per_pixel", "divergence"}`, the loss in other units and
      the part of it (nats) that is not reconstruction.

    Raises:
      tasks.images.DatasetNotPrepared: the set is not on this machine.
      ValueError: for a size below 1, or images that are not integers within 0..255.

    Example:
      >>> family = vae_family("digits", num_latents=4, width=32)
    """
    check_sizes(num_latents=num_latents, width=width, depth=depth, batch_size=batch_size)
    data = image_set(data, source_split)
    if data.images.dtype != jnp.uint8:
        raise ValueError(f"images must be integers within 0..255; got {data.images.dtype}")
    num_pixels = math.prod(data.image_shape)
    module = VAE(num_pixels, num_latents, width, depth)
    largest = int(jnp.max(data.images))  # 16 of scikit-learn's digits
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)

    def init(key: Key) -> Params:
        shapes = ((1, num_pixels), (1, num_latents))
        return module.init(key, *(jnp.zeros(shape, jnp.float32) for shape in shapes))["params"]

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        noise = jax.random.normal(key, (batch_size, num_latents), jnp.float32)
        logits, mean, log_std = module.apply({"params": params}, batch["pixels"], noise)
        reconstruction, kl = negative_elbo(logits, batch["pixels"], mean, log_std)
        nats = jnp.mean(reconstruction + kl)
        per_pixel = jnp.asarray(1 / (num_pixels * math.log(2)), nats.dtype)
        return nats, {"bits_per_pixel": nats * per_pixel, "divergence": jnp.mean(kl)}

    def sample_batch(data: Data, key: Key, split: str) -> Batch:
        rows, _ = draw_rows(data, key, split, classes, batch_size)
        pixels = data.images[rows].reshape(batch_size, num_pixels).astype(jnp.float32)
        return {"pixels": pixels * jnp.float32(1 / largest)}

    return fixed_family(Task(init, loss, sample_batch), data)
