"""Steps of matrices that are orthogonal, around a learned direction."""

from learned_opt.orthogonal._orthogonal_mlp import FEATURES
from learned_opt.orthogonal.newton_schulz import orthogonalised

__all__ = ["FEATURES", "orthogonalised"]
