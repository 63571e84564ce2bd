"""Image classifiers: a multi-layer perceptron and the small convolutional network
of Metz et al. (arXiv 1810.10180).
"""

import inspect
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from tasks.base import Batch, Data, Key, Metrics, ModelState, Params, StatefulTask, Task

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
    """A 3x3 convolution with padding 1, as nine strided slices and one matrix product.

    `nn.Conv` computes the same from the same parameters. Under `jax.vmap` over particles, whose
    kernels differ, that becomes a grouped convolution and this a batched matrix product, which took
    half the time, forward and backward, on a CPU with 4 and with 16 particles.

    Attributes:
      features: channels that it makes.
      kernel_init: of the kernel `[3, 3, channels, features]`.
      stride: of rows and columns.
      use_bias: whether a bias is added.
    """

    features: int
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    stride: int = 2
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch h w features"]:
        """The convolution, without activation; h and w are height and width over the stride,
        rounded up.
        """
        height, width, channels = x.shape[1:]
        stride = self.stride
        kernel = self.param("kernel", self.kernel_init, (3, 3, channels, self.features))
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        patches = [
            x[:, i : i + height : stride, j : j + width : stride]
            for i in range(3)
            for j in range(3)
        ]
        outputs = jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, self.features)
        if not self.use_bias:
            return outputs
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
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
) -> Task | StatefulTask:
    """Trains `module` on batches `{"image", "label"}` by softmax cross-entropy.

    Args:
      module: `images [batch, *image_shape] -> logits [batch, outputs]`. One that is another at test
        time, or keeps a state, takes a `train` too, by which it tells, as Flax's own examples do.
        The loss's key reaches it as the `"dropout"` stream; at test time there is none.
      sample_batch: as in `Task`.
      image_shape: shape of one example.
      num_classes: number of different labels; the module must have at least as many outputs.

    Returns:
      A `Task`, or for a module with `train` a `StatefulTask` of its collections besides `"params"`.
      Metrics are `{"accuracy"}`, the share of the batch whose largest logit is the label's.

    Raises:
      ValueError: if the module has state and no `train`, or gives no logits of that shape.
    """
    has_train = "train" in inspect.signature(module.__call__).parameters
    options = {"train": False} if has_train else {}
    example = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    init_variables = lambda key, x: module.init(key, x, **options)
    variables = jax.eval_shape(init_variables, jax.random.key(0), example)
    if set(variables) - {"params"} and not has_train:
        raise ValueError(
            f"module keeps {sorted(set(variables) - {'params'})} besides its parameters, and must "
            "take `train`, which tells it whether they are to be used or made"
        )
    logits = jax.eval_shape(lambda v, x: module.apply(v, x, **options), variables, example)
    if logits.shape[:-1] != (1,) or logits.shape[-1] < (num_classes or 1):
        raise ValueError(
            f"module gives logits {logits.shape} for one example of {num_classes or 'some'} classes"
        )

    def init(key: Key) -> tuple[Params, ModelState]:
        variables = init_variables(key, jnp.zeros((1, *image_shape), jnp.float32))
        return variables.pop("params", {}), variables

    if has_train:
        return _stateful_classification(module, init, sample_batch)

    def loss(params: Params, key: Key, batch: Batch) -> tuple[Array, Metrics]:
        logits = module.apply({"params": params}, batch["image"], rngs={"dropout": key})
        return _loss_and_accuracy(logits, batch)

    return Task(lambda key: init(key)[0], loss, sample_batch)


def _stateful_classification(
    module: nn.Module,
    init: Callable[[Key], tuple[Params, ModelState]],
    sample_batch: Callable[[Data, Key, str], Batch],
) -> StatefulTask:
    def loss(
        params: Params, model_state: ModelState, key: Key, batch: Batch
    ) -> tuple[Array, tuple[ModelState, Metrics]]:
        logits, model_state = module.apply(
            {"params": params, **model_state},
            batch["image"],
            train=True,
            rngs={"dropout": key},
            mutable=nn.DenyList(("params", "intermediates")),
        )
        value, metrics = _loss_and_accuracy(logits, batch)
        return value, (model_state, metrics)

    def eval_loss(
        params: Params, model_state: ModelState, key: Key, batch: Batch
    ) -> tuple[Array, Metrics]:
        del key
        logits = module.apply({"params": params, **model_state}, batch["image"], train=False)
        return _loss_and_accuracy(logits, batch)

    return StatefulTask(init, loss, eval_loss, sample_batch)


def _loss_and_accuracy(
    logits: Float[Array, "batch classes"], batch: Batch
) -> tuple[Array, Metrics]:
    correct = jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch["label"]
    accuracy = jnp.mean(correct.astype(jnp.float32))
    return jnp.mean(softmax_cross_entropy(logits, batch["label"])), {"accuracy": accuracy}
