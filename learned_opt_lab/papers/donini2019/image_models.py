"""VGG and ResNet, in the paper's sizes and in sizes for two cores,
with batch normalization as in Donini et al. 2019 (arXiv 1910.08525, section 6).

Convolutions are nine shifted slices and one matrix product, whose first and second derivatives are
matrix products too, fast on every backend.
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
    """Convolution, batch normalization, ReLU if asked for.

    Running averages forget within tens of steps (Flax's .99 takes hundreds): the objective of
    online methods sees the network with them from the first step on.
    """

    features: int
    stride: int = 1
    relu: bool = True

    @nn.compact
    def __call__(self, x: Images, train: bool) -> Images:
        """Activations; with `train` normalized by the batch, which the averages then follow."""
        x = Conv3x3(self.features, self.stride)(x)
        x = nn.BatchNorm(not train, momentum=0.9)(x)
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
    def __call__(self, images: Images, train: bool) -> Float[Array, "batch classes"]:
        """Logits."""
        x = images
        for layer in self.layers:
            pool = layer == POOL
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if pool else ConvBlock(layer)(x, train)
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
    def __call__(self, images: Images, train: bool) -> Float[Array, "batch classes"]:
        """Logits."""
        x = ConvBlock(self.blocks[0], self.stem_stride)(images, train)
        for features in self.blocks:
            stride = 1 if features == x.shape[-1] else 2
            residual = ConvBlock(features, stride)(x, train)
            residual = ConvBlock(features, relu=False)(residual, train)
            if stride > 1:
                x = nn.Dense(features, use_bias=False, kernel_init=_HE)(x[:, ::stride, ::stride])
            x = nn.relu(x + residual)
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))
