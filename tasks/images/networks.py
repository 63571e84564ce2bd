"""Image classifiers: a multi-layer perceptron and the small convolutional network
of Metz et al. (arXiv 1810.10180).
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from tasks.base import Batch, Data, Key, Metrics, Params, Task

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "elu": nn.elu,
    "softplus": nn.softplus,
    "sigmoid": nn.sigmoid,
}


def _check(module: "MLP | ConvNet", sizes: Sequence[int]) -> None:
    if module.activation not in ACTIVATIONS:
        raise ValueError(
            f"unknown activation {module.activation!r}; activations are {', '.join(ACTIVATIONS)}"
        )
    if module.num_classes < 1 or any(size < 1 for size in sizes):
        raise ValueError(
            f"layer widths must be 1 or more; got {list(sizes)} and {module.num_classes} outputs"
        )
    if not 0 < module.init_scale < float("inf"):
        raise ValueError(f"init_scale must be positive and finite; got {module.init_scale}")


def _kernel_init(scale: float) -> Callable[..., Array]:
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal")


class MLP(nn.Module):
    """A multi-layer perceptron on flattened inputs.

    Attributes:
      hidden_sizes: widths of the hidden layers; `()` gives softmax regression.
      num_classes: number of outputs.
      activation: a key of `ACTIVATIONS`.
      init_scale: standard deviation of the initial weights, in units of 1 / sqrt(fan-in).

    Raises:
      ValueError: for a width below 1, an unknown activation, or a scale that is not positive.
    """

    hidden_sizes: Sequence[int] = (32,)
    num_classes: int = 10
    activation: str = "relu"
    init_scale: float = 1.0

    def __post_init__(self):
        _check(self, self.hidden_sizes)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Float[Array, "batch ..."]) -> Float[Array, "batch classes"]:
        """Logits."""
        x = images.reshape(images.shape[0], -1)
        for size in self.hidden_sizes:
            x = ACTIVATIONS[self.activation](
                nn.Dense(size, kernel_init=_kernel_init(self.init_scale))(x)
            )
        return nn.Dense(self.num_classes, kernel_init=_kernel_init(self.init_scale))(x)


class StridedConv(nn.Module):
    """A 3x3 convolution with stride 2 and padding 1, as nine strided slices and one matrix product.

    `nn.Conv` computes the same from the same parameters. Under `jax.vmap` over particles, whose
    kernels differ, that becomes a grouped convolution and this a batched matrix product, which took
    half the time, forward and backward, on a CPU with 4 and with 16 particles.
    """

    features: int
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch h w features"]:
        """The convolution, without activation; h and w are half of height and width, rounded up."""
        height, width, channels = x.shape[1:]
        kernel = self.param("kernel", self.kernel_init, (3, 3, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = [x[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
        outputs = jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, self.features)
        return outputs + jnp.broadcast_to(bias, outputs.shape)


class ConvNet(nn.Module):
    """Convolutions of stride 2, a mean over space, and a linear layer.

    With the defaults, on 32x32x3 images in ten classes: the 3-layer, 32-unit network of Metz et al.
    (arXiv 1810.10180), 19,722 weights (the paper says about 20k) and 1.0 M multiplications an
    image.

    Attributes:
      features: channels of each convolution.
      num_classes: number of outputs.
      activation: a key of `ACTIVATIONS`.
      init_scale: standard deviation of the initial weights, in units of 1 / sqrt(fan-in).

    Raises:
      ValueError: for a width below 1, an unknown activation, or a scale that is not positive.
    """

    features: Sequence[int] = (32, 32, 32)
    num_classes: int = 10
    activation: str = "relu"
    init_scale: float = 1.0

    def __post_init__(self):
        _check(self, self.features)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        """Logits."""
        x = images
        for features in self.features:
            x = ACTIVATIONS[self.activation](
                StridedConv(features, kernel_init=_kernel_init(self.init_scale))(x)
            )
        return nn.Dense(self.num_classes, kernel_init=_kernel_init(self.init_scale))(x.mean((1, 2)))


def softmax_cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """-log softmax(logits)[label], one value an example.

    The label's term is selected by comparison: the gradient of an index is a scatter, which CPUs
    and TPUs run slowly.
    """
    chosen = labels[:, None] == jnp.arange(logits.shape[-1], dtype=labels.dtype)[None]
    return -jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits), 0.0), axis=-1)


def classification_task(
    module: nn.Module,
    sample_batch: Callable[[Data, Key, str], Batch],
    image_shape: Sequence[int],
    num_classes: int | None = None,
) -> Task:
    """Trains `module` on batches `{"image", "label"}` by softmax cross-entropy.

    Args:
      module: `images [batch, *image_shape] -> logits [batch, outputs]`, with parameters only (no
        batch statistics). The loss's key reaches it as the `"dropout"` stream.
      sample_batch: as in `Task`.
      image_shape: shape of one example.
      num_classes: number of different labels; the module must have at least as many outputs.

    Returns:
      The task; its metrics are `{"accuracy"}`, the share of the batch whose largest logit is the
      label's.

    Raises:
      ValueError: if the module has state besides parameters, or gives no logits of that shape.
    """
    example = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(lambda key, x: module.init(key, x), jax.random.key(0), example)
    if set(variables) - {"params"}:
        raise ValueError(
            f"module must have parameters only; it also has {sorted(set(variables) - {'params'})}"
        )
    logits = jax.eval_shape(lambda v, x: module.apply(v, x), variables, example)
    if logits.shape[:-1] != (1,) or logits.shape[-1] < (num_classes or 1):
        raise ValueError(
            f"module gives logits {logits.shape} for one example of {num_classes or 'some'} classes"
        )

    def init(key: Key) -> Params:
        return module.init(key, jnp.zeros((1, *image_shape), jnp.float32)).get("params", {})

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        logits = module.apply({"params": params}, batch["image"], rngs={"dropout": key})
        correct = jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch["label"]
        accuracy = jnp.mean(correct.astype(jnp.float32))
        return jnp.mean(softmax_cross_entropy(logits, batch["label"])), {"accuracy": accuracy}

    return Task(init, loss, sample_batch)
