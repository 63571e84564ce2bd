"""Configs that name the code of a stranger."""

import dataclasses

from configs import base
from learned_opt_lab.runs import catalog

CONFIG = dataclasses.replace(catalog.load("quadratic")[0], estimator=base.PersistentES(num_pairs=2))
NAMING = {
    "family": {"family": base.CustomFamily("stranger:family")},
    "held-out family": {"family": base.CustomFamily("tasks:char_family", "stranger:family")},
    "extra family": {"extra_families": (base.CustomFamily("stranger:family"),)},
    "optimizer": {"optimizer": base.NamedOptimizer("stranger:optimizer")},
}
