"""Steps of matrices that are orthogonal, around a learned direction."""

from learned_opt.orthogonal._unit_mlp import FEATURES
from learned_opt.orthogonal.newton_schulz import orthogonalised

__all__ = ["FEATURES", "orthogonalised"]
