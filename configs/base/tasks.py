"""The kinds of task families of a run."""

import dataclasses
import re
from dataclasses import field
from typing import Literal

from configs.base.kinds import Kind, register

Scalar = int | float | bool | str


def _for_folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)


class Family(Kind):
    """A distribution over tasks.

    `builds` is called with the kind and gives two `tasks.TaskFamily`: that of outer-training, and
    the held-out one. One of the fields is `weight`: how much the family's outer loss counts beside
    others. Another is `num_steps`, the length of its episodes, None for the problem's.
    """

    @property
    def origin(self) -> str:
        """A short name of where its tasks come from, for a folder."""
        return self.word


@register
@dataclasses.dataclass(frozen=True)
class ClassSubset(Family):
    """Image classification; each task draws a few of the training classes,
    held-out tasks draw from the others.
    """

    builds = "learned_opt_lab.runs.families:class_subset"
    origin = property(lambda self: _for_folder(self.dataset))

    dataset: str = "digits"
    """"digits" (bundled with scikit-learn, 8x8), "mnist1d" (generated; 40 numbers an example) or
    the name of any image-classification set of tensorflow-datasets, such as "fashion_mnist" or
    "imagenet_resized/32x32"."""
    data_dir: str | None = None
    """Where tensorflow-datasets finds prepared sets;
    TFDS_DATA_DIR or its own default if not given."""
    image_size: int | None = None
    """Images of a tensorflow-datasets set are resized to this many pixels a side;
    left as they are if not given."""
    grayscale: bool = False
    """Average the colours of a tensorflow-datasets set to one channel."""
    num_train_classes: int = 7
    """How many of the set's classes outer-training sees; the rest are held out."""
    num_classes: int = 5
    """Classes of one task, at most `num_train_classes`; of a held-out one, at most those left."""
    held_out_num_classes: int | None = None
    """Classes of one held-out task; `num_classes` or, if fewer are held out, all of those."""
    split_seed: int = 0
    """Which classes are held out follows from this alone, never from the run's seed."""
    network: Literal["mlp", "cnn"] = "mlp"
    """The inner model: a ReLU network, or the 3-layer convolutional network of arXiv 1810.10180."""
    hidden_sizes: tuple[int, ...] = (32,)
    """Widths of the inner MLP's hidden layers."""
    channels: tuple[int, ...] = (32, 32, 32)
    """Channels of the inner CNN's layers."""
    activation: Literal["relu", "tanh", "gelu", "silu", "elu", "softplus", "sigmoid"] = "relu"
    """Of the inner model's hidden layers."""
    max_weight_scale: float = 1.0
    """Augmentation: tensors of outer-training tasks are held in units from 1 / this to this.
    Held-out tasks are left as they are."""
    batch_size: int = 64
    """Examples in one inner batch; no more than the smallest split of a task has."""
    fractions: tuple[float, float, float, float] = (0.6, 0.1, 0.15, 0.15)
    """Shares of the splits train, inner_valid, outer_valid and test;
    of the first three if the set has its own test."""
    weight: float = 1.0
    """How much the family's outer loss counts beside others;
    its logged loss is multiplied by it."""
    num_steps: int | None = None
    """Length of the family's episodes in inner steps; the problem's if not given."""


@register
@dataclasses.dataclass(frozen=True)
class RandomQuadratic(Family):
    """Quadratics of random curvature and minimum:
    seconds instead of minutes, for trying things out.
    """

    builds = "learned_opt_lab.runs.families:random_quadratic"
    word = "quadratic"

    dim: int = 10
    """Inner parameters."""
    min_curvature: float = 0.01
    """Smallest curvature."""
    max_curvature: float = 1.0
    """Largest curvature."""
    noise_std: float = 0.0
    """Standard deviation of the gradient noise; zero for deterministic quadratics."""
    weight: float = 1.0
    """How much the family's outer loss counts beside others;
    its logged loss is multiplied by it."""
    num_steps: int | None = None
    """Length of the family's episodes in inner steps; the problem's if not given."""


@register
@dataclasses.dataclass(frozen=True)
class CustomFamily(Family):
    """Your own task family, by name."""

    builds = "learned_opt_lab.runs.families:custom"
    code_fields = ("target", "held_out_target")
    origin = property(lambda self: _for_folder(self.target.partition(":")[2]))

    target: str = ""
    """"module:function"; called with `kwargs`, it returns a `tasks.base.TaskFamily`."""
    held_out_target: str = ""
    """"module:function" of the held-out family;
    if empty, the run is scored on its training family, and says so."""
    kwargs: dict[str, Scalar] = field(default_factory=dict)
    """Arguments of both functions."""
    weight: float = 1.0
    """How much the family's outer loss counts beside others;
    its logged loss is multiplied by it."""
    num_steps: int | None = None
    """Length of the family's episodes in inner steps; the problem's if not given."""
