r"""The method of Metz et al. (arXiv 1810.10180) in a size that two cores finish in a night:
CNNs on Fashion-MNIST at 14x14, merged RP and ES, truncations that grow.

    learned-opt train metz2019_small --seeds 0 1 2 --run-dir DIR \
        --sweep problem.objective=valid,train optimizer.preset=metz2019,None
    learned-opt tune adam rmsprop momentum adam8 --over metz2019_small --budget 512

with TFDS_DATA_DIR where Fashion-MNIST was prepared. The first makes three seeds on each objective
of the paper's optimizer and of `mlp()`, and the second finds what hand-designed optimizers do with
one configuration for all tasks. Figures 5 to 7 of the paper are

    learned-opt reproduce held_out_curves --scale small --out DIR

and the same of `outer_training_curves` and `out_of_distribution`. All go on where they were
stopped. A task tells 3 classes of 5 apart: outer-training draws from ten sets of classes, and
held-out tasks from the ten of the other.

Cost: 1.7 million inner steps a run.
"""

from configs.base import (
    ClassSubset,
    HeldOut,
    InnerProblem,
    Linear,
    Merged,
    Mlp,
    OuterOptimizer,
    TrainConfig,
)

config = TrainConfig(
    family=ClassSubset(
        dataset="fashion_mnist",
        image_size=14,
        num_train_classes=5,
        num_classes=3,
        network="cnn",
        channels=(16, 16, 16),
        batch_size=32,
    ),
    optimizer=Mlp(preset="metz2019"),
    problem=InnerProblem(num_steps=1000),
    estimator=Merged(num_pairs=4, std=0.01, chunk_size=50),
    truncation=Linear(start=20, end=1000, num_outer_steps=600, jitter=0.2),
    outer_optimizer=OuterOptimizer(
        learning_rate=3e-3, b1=0.5, decay="cosine", clip="value", clip_at=0.1
    ),
    held_out=HeldOut(num_tasks=100, num_steps=1000),
    num_outer_steps=600,
    checkpoint_every=50,
)
