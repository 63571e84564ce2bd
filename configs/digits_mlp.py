"""The longer run on digits: an optimizer that beats Adam with its rate tuned for each task.

    learned-opt train digits_mlp

The tasks of `quickstart` with longer episodes and ten times its outer steps.
"""

import dataclasses

from configs import quickstart
from configs.base import InnerProblem

config = dataclasses.replace(
    quickstart.config,
    problem=InnerProblem(num_steps=1000),
    num_outer_steps=10_000,
    checkpoint_every=500,
)
