"""The longer run on digits: an optimizer that beats Adam with its rate tuned for each task.

    learned-opt train digits_mlp

The tasks and episodes of `quickstart`, with five times its outer steps.
"""

import dataclasses

from configs import quickstart

config = dataclasses.replace(quickstart.config, num_outer_steps=5000, checkpoint_every=250)
