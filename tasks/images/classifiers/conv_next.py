"""A small ConvNeXt: depthwise convolutions, LayerNorm, inverted bottlenecks (arXiv 2201.03545)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import TaskFamily
from tasks.images.class_subsets import class_subset_family
from tasks.images.classifiers.vit import patches_of
from tasks.images.datasets import image_set
from tasks.images.image_data import ImageData
from tasks.transformer_block import check_sizes


class DepthwiseConv(nn.Module):
    """A convolution of each channel with a kernel of its own, padded to the same size.

    Written as a sum of shifted images: mapped over particles, whose kernels differ, a grouped
    convolution becomes one of many more groups, and runs slowly on CPUs.

    Attributes:
      kernel_size: odd.
    """

    kernel_size: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The convolution, with a bias."""
        _, height, width, channels = x.shape
        size, reach = self.kernel_size, self.kernel_size // 2
        init = nn.initializers.normal(1 / size)
        kernel = self.param("kernel", init, (size, size, channels))
        padded = jnp.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        shifted = (
            padded[:, i : i + height, j : j + width] * kernel[i, j]
            for i in range(size)
            for j in range(size)
        )
        return sum(shifted, self.param("bias", nn.initializers.zeros, (channels,)))


class ConvNeXt(nn.Module):
    """A stem of patches, blocks with a residual connection at one resolution, a mean over space.

    (patch_size^2 channels + 3) width + depth (8 width^2 + (kernel_size^2 + 9) width) + 2 width
    + (width + 1) num_classes parameters.

    Attributes:
      depth: number of blocks.
      width: channels.
      kernel_size: of the depthwise convolutions, odd; 7 in the paper, on maps of 56 to 7 pixels.
      patch_size: pixels of a patch's side; divides the image's.
      num_classes: number of outputs.

    Raises:
      ValueError: for a size below 1, an even kernel, or, when it is called, a patch that does not
        divide the image.
    """

    depth: int = 3
    width: int = 48
    kernel_size: int = 3
    patch_size: int = 4
    num_classes: int = 10

    def __post_init__(self):
        sizes = {"kernel_size": self.kernel_size, "patch_size": self.patch_size}
        check_sizes(depth=self.depth, width=self.width, num_classes=self.num_classes, **sizes)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {self.kernel_size}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """Logits."""
        dense = lambda size: nn.Dense(size, kernel_init=nn.initializers.normal(0.02))
        x = nn.Dense(self.width, name="stem")(patches_of(images, self.patch_size))
        height, width = (size // self.patch_size for size in images.shape[1:3])
        x = nn.LayerNorm()(x).reshape(-1, height, width, self.width)
        for i in range(self.depth):
            y = nn.LayerNorm()(DepthwiseConv(self.kernel_size)(x))
            y = dense(self.width)(nn.gelu(dense(4 * self.width)(y)))
            # 1e-6 in the paper, for networks of 18 blocks and more.
            scale = nn.initializers.constant(0.1)
            x = x + y * self.param(f"layer_scale_{i}", scale, (self.width,))
        x = nn.LayerNorm()(jnp.mean(x, axis=(1, 2)))
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")(x)


def conv_next_family(
    data: ImageData | str = "fashion_mnist",
    depth: int = 3,
    width: int = 48,
    kernel_size: int = 3,
    patch_size: int = 4,
    batch_size: int = 32,
    source_split: str | None = None,
) -> TaskFamily:
    """One task: all classes of an image set, by a `ConvNeXt`. The loss starts at ln classes.

    On 28x28 images in ten classes 59,386 parameters with the defaults.

    Args:
      data: images, or the name of a set as in `tasks.images.datasets.image_set`.
      depth: as in `ConvNeXt`.
      width: as in `ConvNeXt`.
      kernel_size: as in `ConvNeXt`.
      patch_size: as in `ConvNeXt`.
      batch_size: images in a batch.
      source_split: of the set, as in `tasks.images.tfds_images`.

    Returns:
      The family; its metrics are `{"accuracy"}`.

    Raises:
      tasks.images.DatasetNotPrepared: the set is not on this machine.
      ValueError: for sizes that are below 1 or do not divide as they must.

    Example:
      >>> family = conv_next_family("digits", patch_size=2, width=32)
    """
    data = image_set(data, source_split)
    module = ConvNeXt(depth, width, kernel_size, patch_size, data.num_classes)
    return class_subset_family(data, module, data.num_classes, batch_size=batch_size)
