"""A vision transformer (arXiv 2010.11929)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import TaskFamily
from tasks.images.class_subsets import class_subset_family
from tasks.images.datasets import image_set
from tasks.images.image_data import ImageData
from tasks.transformer_block import TransformerBlock, check_sizes


class ViT(nn.Module):
    """Square patches as tokens, a class token, learned positions, and a head that starts at zero.

    (patch_size^2 channels + 1) width + width + (patches + 1) width + depth (12 width^2 + 13 width)
    + 2 width + (width + 1) num_classes parameters.

    Attributes:
      depth: number of blocks.
      width: of the residual stream.
      num_heads: divides `width`.
      patch_size: pixels of a patch's side; divides the image's.
      num_classes: number of outputs.

    Raises:
      ValueError: for a size below 1, heads that do not divide the width, or, when it is called, a
        patch that does not divide the image.
    """

    depth: int = 2
    width: int = 64
    num_heads: int = 4
    patch_size: int = 7
    num_classes: int = 10

    def __post_init__(self):
        check_sizes(
            depth=self.depth,
            width=self.width,
            num_heads=self.num_heads,
            patch_size=self.patch_size,
            num_classes=self.num_classes,
        )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """Logits."""
        x = nn.Dense(self.width, name="patches")(patches_of(images, self.patch_size))
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.width)), x], axis=1)
        init = nn.initializers.normal(0.02)
        x = x + self.param("positions", init, (1, x.shape[1], self.width))
        for _ in range(self.depth):
            x = TransformerBlock(self.num_heads, out_scale=(2 * self.depth) ** -0.5)(x)
        zeros = nn.initializers.zeros
        return nn.Dense(self.num_classes, kernel_init=zeros, name="head")(nn.LayerNorm()(x[:, 0]))


def patches_of(
    images: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch patches pixels"]:
    """Square patches, row by row, each a vector.

    Raises:
      ValueError: for images without height and width, or a size that does not divide them.
    """
    if images.ndim != 4 or images.shape[1] % size or images.shape[2] % size:
        raise ValueError(
            f"patch_size must divide height and width of the images; got {size} and "
            f"{list(images.shape[1:])}"
        )
    batch, height, width, channels = images.shape
    rows, columns = height // size, width // size
    grid = images.reshape(batch, rows, size, columns, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(batch, rows * columns, size * size * channels)


def vit_family(
    data: ImageData | str = "fashion_mnist",
    depth: int = 2,
    width: int = 64,
    num_heads: int = 4,
    patch_size: int = 7,
    batch_size: int = 32,
    source_split: str | None = None,
) -> TaskFamily:
    """One task: all classes of an image set, by a `ViT`. The loss starts at ln classes.

    On 28x28 images in ten classes 105,098 parameters with the defaults.

    Args:
      data: images, or the name of a set as in `tasks.images.datasets.image_set`.
      depth: as in `ViT`.
      width: as in `ViT`.
      num_heads: as in `ViT`.
      patch_size: as in `ViT`.
      batch_size: images in a batch.
      source_split: of the set, as in `tasks.images.tfds_images`.

    Returns:
      The family; its metrics are `{"accuracy"}`.

    Raises:
      tasks.images.DatasetNotPrepared: the set is not on this machine.
      ValueError: for sizes that are below 1 or do not divide as they must.

    Example:
      >>> family = vit_family("digits", patch_size=2)
    """
    data = image_set(data, source_split)
    module = ViT(depth, width, num_heads, patch_size, data.num_classes)
    return class_subset_family(data, module, data.num_classes, batch_size=batch_size)
