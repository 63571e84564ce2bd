"""Gradient estimators for unrolled systems, one algorithm a file.

| estimator | gradient through | bias | variance |
|---|---|---|---|
| `evolution_strategies` | loss differences | short-horizon | level |
| `reparameterization` | backprop, theta perturbed | short-horizon; cliffs | explodes if rough |
| `merged` | both | that of its parts | at most 1.46 times the smallest |
| `persistent_es` | loss differences, noise summed | none | grows with truncations an episode |
| `noise_reuse_es` | loss differences, one draw an episode | none | level |
| `truncated_backprop` | backpropagation at theta | short-horizon | lowest where smooth |
| `forward_mode` | tangents carried with the state | none if persistent | lowest where smooth |
| `full_es` | whole episodes | none | level; a whole episode an estimate |
"""

from outer_train.estimators._evolution_strategies import evolution_strategies
from outer_train.estimators._forward_mode import forward_mode
from outer_train.estimators._full_es import full_es
from outer_train.estimators._merged import inverse_variance_weights, merged, part_moments
from outer_train.estimators._persistent_es import noise_reuse_es, persistent_es
from outer_train.estimators._reparameterization import reparameterization
from outer_train.estimators._truncated_backprop import truncated_backprop
from outer_train.estimators.base import Estimate, GradientEstimator, Info

__all__ = [
    "Estimate",
    "GradientEstimator",
    "Info",
    "evolution_strategies",
    "forward_mode",
    "full_es",
    "inverse_variance_weights",
    "merged",
    "noise_reuse_es",
    "part_moments",
    "persistent_es",
    "reparameterization",
    "truncated_backprop",
]
