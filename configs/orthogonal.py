"""Seven families at once, for `orthogonal_mlp`: the per-parameter MLP whose steps are orthogonal.

    TFDS_DATA_DIR=... learned-opt train orthogonal

Classifiers of digits, MNIST-1D and Fashion-MNIST at 8x8 (MLPs of one or two hidden layers, in four
activations, one with a tenth of the images), an autoencoder of Fashion-MNIST, and transformers of
width 16 and 32 on the source of Python's library. Episodes are 200 to 2,000 inner steps long. Half
of them tell the optimizer how long: it has to be good with and without. The outer loss is the mean
validation loss, in which the end of an episode counts more, and whose unit the families' weights
make up for. Text counts more, whose entropy is most of its loss; where images are few much less: a
network that has learned them by heart gains more by slower steps than all others lose by them. The
logarithm of the loss would need no weights, but that of a small batch pays for being sure of most
examples and wrong about the rest.

A fresh theta makes Adam's step orthogonal. What is learned is the direction, a rate for each kind
of tensor, and how both change over the training.
"""

import dataclasses

from configs.base import (
    ClassSubset,
    Constant,
    CustomFamily,
    HeldOut,
    InnerProblem,
    NoiseReuseES,
    OrthogonalMlp,
    OuterOptimizer,
    TrainConfig,
)

_digits = ClassSubset(
    dataset="digits",
    num_train_classes=7,
    num_classes=5,
    batch_size=32,
    fractions=(0.55, 0.15, 0.15, 0.15),
    num_steps=500,
    weight=3.0,
)
_mnist1d = dataclasses.replace(
    _digits,
    dataset="mnist1d",
    hidden_sizes=(32, 32),
    activation="tanh",
    num_steps=200,
    weight=0.4,
)
_fashion = dataclasses.replace(
    _digits, dataset="fashion_mnist", image_size=8, activation="gelu", batch_size=64,
    num_steps=1000, weight=3.0,
)  # fmt: skip
_few = dataclasses.replace(
    _fashion, hidden_sizes=(32, 32), activation="silu", batch_size=32,
    fractions=(0.1, 0.1, 0.4, 0.4), num_steps=2000, weight=0.1,
)  # fmt: skip
_text = {"model": "transformer", "length": 16, "batch_size": 8, "width": 16, "text": "library"}

config = TrainConfig(
    family=_digits,
    extra_families=(
        _mnist1d,
        _fashion,
        _few,
        CustomFamily(
            "tasks.images:tfds_autoencoder_family",
            kwargs={"width": 24, "bottleneck": 6},
            weight=4.0,
            num_steps=500,
        ),
        CustomFamily("tasks:char_family", kwargs=_text, weight=2.0, num_steps=1000),
        CustomFamily(
            "tasks:char_family",
            kwargs={**_text, "width": 32, "batch_size": 16},
            weight=2.0,
            num_steps=300,
        ),
    ),
    optimizer=OrthogonalMlp(),
    problem=InnerProblem(num_steps=1000, share_told=0.5, reduction="late_mean"),
    estimator=NoiseReuseES(num_pairs=16, std=0.02),
    truncation=Constant(num_steps=25),
    outer_optimizer=OuterOptimizer(learning_rate=1e-3, clip_at=1.0),
    held_out=HeldOut(num_tasks=16, num_steps=500),
    num_outer_steps=4000,
    checkpoint_every=50,
)
