"""Residual networks with batch normalization, and classification by them."""

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from tasks.base import TaskFamily
from tasks.images import datasets
from tasks.images.class_subsets import class_subset_family
from tasks.images.networks import StridedConv

Images = Float[Array, "batch height width channels"]
_HE = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
NUM_STAGES = 3


class ResNet(nn.Module):
    """The residual network for small images of He et al. (arXiv 1512.03385, section 4.2), with
    batch normalization (arXiv 1502.03167).

    A 3x3 convolution, three stages of equally many blocks, the second and third of half the size
    and twice the channels, a mean over space and a linear layer. A block adds two 3x3 convolutions
    to its input; where the size changes, a 1x1 convolution of the input (option B of the paper).
    The last scale of a block starts at zero, so that a fresh block passes its input on (arXiv
    1706.02677, section 5.1).

    Its state is the collection `"batch_stats"`: a mean and a variance of each normalized channel,
    running averages over training batches, which are used in place of the batch's own at test time.

    Attributes:
      width: channels of the first stage; 16 in the paper.
      depth: layers with weights: 6 n + 2 for n blocks a stage. With a width of 16, 28x28 images of
        one channel and ten classes, 8 have 77,754 weights.
      num_classes: number of outputs.
      momentum: of the running averages. Flax gives .99, which needs hundreds of steps to
        forget its start, a mean of 0 and a variance of 1; short inner runs want it lower.
      first_stride: of the first convolution. With 2, all stages are of half the size, and a step
        costs a quarter.

    Raises:
      ValueError: for a width, number of classes or stride below 1, a depth that is not 8, 14, 20
        and so on, or a momentum outside `[0, 1)`.
    """

    width: int = 16
    depth: int = 8
    num_classes: int = 10
    momentum: float = 0.9
    first_stride: int = 1

    def __post_init__(self):
        if self.width < 1 or self.num_classes < 1:
            raise ValueError(
                f"width and num_classes must be 1 or more; got {self.width} and {self.num_classes}"
            )
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(f"depth must be 6 n + 2 with n of 1 or more; got {self.depth}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be within [0, 1); got {self.momentum}")
        if self.first_stride < 1:
            raise ValueError(f"first_stride must be 1 or more; got {self.first_stride}")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Float[Array, "batch classes"]:
        """Logits; with `train` normalized by the batch, which the running averages then follow."""
        first = self._conv(self.width, self.first_stride)
        x = nn.relu(self._normalized(first(images), train))
        for stage in range(NUM_STAGES):
            for block in range((self.depth - 2) // (2 * NUM_STAGES)):
                stride = 2 if stage > 0 and block == 0 else 1
                x = self._block(x, self.width * 2**stage, stride, train)
        return nn.Dense(self.num_classes)(x.mean((1, 2)))

    def _block(self, x: Images, features: int, stride: int, train: bool) -> Images:
        residual = nn.relu(self._normalized(self._conv(features, stride)(x), train))
        residual = self._conv(features)(residual)
        residual = self._normalized(residual, train, nn.initializers.zeros)
        if stride > 1:
            x = nn.Dense(features, use_bias=False, kernel_init=_HE)(x[:, ::stride, ::stride])
            x = self._normalized(x, train)
        return nn.relu(x + residual)

    def _conv(self, features: int, stride: int = 1) -> StridedConv:
        return StridedConv(features, _HE, stride, use_bias=False)

    def _normalized(
        self, x: Images, train: bool, scale_init: nn.initializers.Initializer = nn.initializers.ones
    ) -> Images:
        norm = nn.BatchNorm(not train, momentum=self.momentum, scale_init=scale_init)
        return norm(x)


def tfds_resnet_family(
    dataset: str = "fashion_mnist",
    image_size: int = 28,
    width: int = 16,
    depth: int = 8,
    num_classes: int = 10,
    batch_size: int = 64,
    source_split: str | None = None,
    first_stride: int = 1,
) -> TaskFamily:
    """Each task tells `num_classes` drawn classes of an image set apart, by a `ResNet`.

    All its arguments are numbers and names, so that a config can give it as a `CustomFamily`. The
    set has 2,000 images of a class for the splits `train`, `inner_valid` and `outer_valid`, of
    which no two share one, and its own test images; of a `source_split`, all images.

    Args:
      dataset: of tensorflow-datasets.
      image_size: pixels a side.
      width: channels of the first stage.
      depth: layers with weights, 6 n + 2.
      num_classes: of one task, at most those of the set; a label is a place in their drawn order.
      batch_size: examples in a batch, for the loss and the statistics alike.
      source_split: of the set, as in `tasks.images.tfds_images`.
      first_stride: of the first convolution.

    Raises:
      ValueError: as `ResNet` and `class_subset_family`.
      tasks.images.datasets.DatasetNotPrepared: the set is not on this machine.
    """
    module = ResNet(width, depth, num_classes, first_stride=first_stride)
    data = datasets.tfds_images(
        dataset,
        image_size=image_size,
        max_per_class=None if source_split else 2000,
        source_split=source_split,
    )
    return class_subset_family(data, module, num_classes, batch_size=batch_size)
