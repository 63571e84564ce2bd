"""Suites of tasks that people train: text, images, tables, embeddings, fine-tuning, control.

No config outer-trains on any of their families, nor on the same data: images are those of
Fashion-MNIST's own `test` split, divided into four, which outer-training never draws; text is that
of packages of Python's library beside the single files that `tasks.text` reads.
"""

import functools
from collections.abc import Callable

from tasks.base import TaskFamily
from tasks.control import policy_gradient_family
from tasks.images.class_subsets import class_subset_family
from tasks.images.classifiers import conv_next_family, vit_family
from tasks.images.datasets import image_set
from tasks.images.degraded import with_few_examples, with_label_noise
from tasks.images.networks import MLP
from tasks.images.resnet import tfds_resnet_family
from tasks.images.vae import vae_family
from tasks.language import byte_transformer_family, fine_tuning_family, skip_gram_family
from tasks.suite_tasks import Suite, SuiteTask, suite_task
from tasks.tabular import tabular_family

IMAGES = "fashion_mnist"
IMAGE_SPLIT = "test"


def noisy_labels_family(
    share: float = 0.3, num_per_class: int = 300, width: int = 128, batch_size: int = 64
) -> TaskFamily:
    """Few images, a share of them under a wrong label, by an MLP of two hidden layers.

    Args:
      share: of the images of `train` with a wrong label.
      num_per_class: images of each class in `train`.
      width: of the hidden layers.
      batch_size: images in a batch.
    """
    data = with_few_examples(image_set(IMAGES, IMAGE_SPLIT), num_per_class)
    module = MLP((width, width), data.num_classes)
    return class_subset_family(
        with_label_noise(data, share), module, data.num_classes, batch_size=batch_size
    )


def _task(
    name: str, description: str, family: Callable[..., TaskFamily], num_steps: int, **sizes
) -> SuiteTask:
    """A task of the default cap, or of the one that `loss_cap` gives."""
    cap = {"loss_cap": sizes.pop("loss_cap")} if "loss_cap" in sizes else {}
    build = functools.partial(family, **sizes)
    return suite_task(name, description, build, num_steps=num_steps, **cap)


_OF_IMAGES = {"data": IMAGES, "source_split": IMAGE_SPLIT}


_REAL = (
    _task(
        "real_byte_transformer",
        "Python's library, byte-level transformer 2 x 64",
        byte_transformer_family,
        1000,
        length=32,
    ),
    _task(
        "real_vit",
        "Fashion-MNIST 28x28, ViT 2 x 48",
        vit_family,
        1000,
        width=48,
        batch_size=16,
        **_OF_IMAGES,
    ),
    _task(
        "real_conv_next",
        "Fashion-MNIST 28x28, ConvNeXt 2 x 32",
        conv_next_family,
        1000,
        depth=2,
        width=32,
        batch_size=16,
        **_OF_IMAGES,
    ),
    _task(
        "real_resnet",
        "Fashion-MNIST 28x28, ResNet-8 of width 20, batch normalization",
        tfds_resnet_family,
        1000,
        dataset=IMAGES,
        source_split=IMAGE_SPLIT,
        width=20,
        batch_size=32,
        first_stride=2,
    ),
    _task(
        "real_vae",
        "Fashion-MNIST 28x28, VAE 128-16-128",
        vae_family,
        3000,
        loss_cap=1000.0,
        **_OF_IMAGES,
    ),
    _task(
        "real_skip_gram",
        "Python's library, skip-gram of 3,285 words x 128",
        skip_gram_family,
        1000,
        width=128,
    ),
    _task(
        "real_fine_tuning",
        "which package a text is from, trained transformer as a whole",
        fine_tuning_family,
        1000,
        mode="full",
        length=32,
        batch_size=8,
    ),
    _task(
        "real_lora",
        "which package a text is from, trained transformer by LoRA 8",
        fine_tuning_family,
        1000,
        length=32,
        batch_size=8,
    ),
    _task(
        "real_policy_gradient",
        "cart-pole, REINFORCE with a baseline",
        policy_gradient_family,
        1000,
        width=72,
    ),
    _task(
        "real_noisy_labels",
        "Fashion-MNIST 28x28, 300 a class, 30 % wrong labels, MLP 128-128",
        noisy_labels_family,
        1000,
    ),
)
"""Ten tasks of 1,000 to 3,000 steps; `docs/tasks.md` has a table of what each costs."""

_REAL_QUICK = (
    _task(
        "real_quick_byte_transformer",
        "Python's library, byte-level transformer 1 x 32",
        byte_transformer_family,
        500,
        depth=1,
        width=32,
        length=32,
    ),
    _task(
        "real_quick_tabular_classification",
        "breast cancer, MLP 64-64",
        tabular_family,
        500,
        width=64,
    ),
    _task(
        "real_quick_skip_gram",
        "Python's library, skip-gram of 3,285 words x 16",
        skip_gram_family,
        500,
        width=16,
    ),
    _task(
        "real_quick_policy_gradient",
        "cart-pole, 100 steps, REINFORCE with a baseline",
        policy_gradient_family,
        200,
        width=32,
        length=100,
    ),
)
"""None needs a prepared data set or a trained trunk."""


_LEAGUES = {
    "num_seeds": 3,
    "num_tuning_seeds": 1,
    "budgets": (1, 5),
    "leagues": ("untuned", "equal_budgets"),
}
"""So that eight optimizers take an evening on two cores, and a first look ten minutes."""


def real() -> Suite:
    """Ten tasks of 1,000 to 3,000 steps."""
    about = "Tasks that people train, on data that no config outer-trains on."
    return Suite("real", 2, about, _REAL, **_LEAGUES)


def real_quick() -> Suite:
    """Four small ones of 200 to 500 steps."""
    about = "Four small tasks of the kinds that people train: a first look within ten minutes."
    return Suite("real_quick", 2, about, _REAL_QUICK, **_LEAGUES)
