"""VGG and ResNet, in the paper's sizes and in sizes for two cores,
as pure functions of their parameters.

Two things differ from Donini et al. 2019 (arXiv 1910.08525): group in place of batch normalization,
so that a network has parameters only and its loss does not depend on which examples share a batch;
and convolutions are nine shifted slices and one matrix product, whose first and second derivatives
are matrix products too, fast on every backend.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

POOL = "pool"
VGG_11 = (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL)
SMALL_VGG = (8, POOL, 16, POOL, 16)
RESNET_18 = (64, 64, 128, 128, 256, 256, 512, 512)
SMALL_RESNET = (8, 16)

Images = Float[Array, "batch height width channels"]
_HE = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class Conv3x3(nn.Module):
    """A 3x3 convolution with padding 1 and no bias."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Images) -> Images:
        """Height and width are divided by the stride, rounded up."""
        height, width, channels = x.shape[1:]
        kernel = self.param("kernel", _HE, (9 * channels, self.features))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifted = [
            x[:, i : i + height : self.stride, j : j + width : self.stride]
            for i in range(3)
            for j in range(3)
        ]
        return jnp.concatenate(shifted, axis=-1) @ kernel


class ConvBlock(nn.Module):
    """Convolution, group normalization over 8 channels a group, ReLU if asked for."""

    features: int
    stride: int = 1
    relu: bool = True

    @nn.compact
    def __call__(self, x: Images) -> Images:
        """Activations."""
        x = Conv3x3(self.features, self.stride)(x)
        x = nn.GroupNorm(num_groups=None, group_size=min(8, self.features))(x)
        return nn.relu(x) if self.relu else x


class VGG(nn.Module):
    """Simonyan and Zisserman (arXiv 1409.1556) with one linear layer at the end.

    Attributes:
      layers: channels of a convolution, or "pool" for a 2x2 maximum.
      num_classes: number of outputs.
    """

    layers: Sequence[int | str] = VGG_11
    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Images) -> Float[Array, "batch classes"]:
        """Logits."""
        x = images
        for layer in self.layers:
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if layer == POOL else ConvBlock(layer)(x)
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))


class ResNet(nn.Module):
    """He et al. (CVPR 2016) with the 3x3 stem usual for small images.

    Attributes:
      blocks: channels of each residual block; more channels than before halve height and width.
      num_classes: number of outputs.
      stem_stride: of the first convolution.
    """

    blocks: Sequence[int] = RESNET_18
    num_classes: int = 10
    stem_stride: int = 1

    @nn.compact
    def __call__(self, images: Images) -> Float[Array, "batch classes"]:
        """Logits."""
        x = ConvBlock(self.blocks[0], self.stem_stride)(images)
        for features in self.blocks:
            stride = 1 if features == x.shape[-1] else 2
            residual = ConvBlock(features, relu=False)(ConvBlock(features, stride)(x))
            if stride > 1:
                x = nn.Dense(features, use_bias=False, kernel_init=_HE)(x[:, ::stride, ::stride])
            x = nn.relu(x + residual)
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))
