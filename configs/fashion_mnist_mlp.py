"""Fashion-MNIST at 8x8: real data, 7 classes for outer-training and 3 held out.

    TFDS_DATA_DIR=... learned-opt train fashion_mnist_mlp

The set must have been prepared by tensorflow-datasets in array_record form; if it is not, the
command says how.
"""

from configs.base import (
    ClassSubset,
    Constant,
    InnerProblem,
    OuterOptimizer,
    PersistentES,
    TrainConfig,
)

config = TrainConfig(
    family=ClassSubset(
        dataset="fashion_mnist",
        image_size=8,
        num_train_classes=7,
        num_classes=5,
        batch_size=128,
        hidden_sizes=(32,),
    ),
    problem=InnerProblem(num_steps=1000),
    estimator=PersistentES(num_pairs=32, std=0.01),
    truncation=Constant(num_steps=20),
    outer_optimizer=OuterOptimizer(learning_rate=3e-3, clip_at=1.0),
    num_outer_steps=5000,
    checkpoint_every=500,
)
