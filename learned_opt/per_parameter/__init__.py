"""The per-parameter MLP optimizers:
inputs, network, outer parameters, and how an update goes over a tree.
"""

from learned_opt.per_parameter import adam_start, theta
from learned_opt.per_parameter._adafactor_mlp import adafactor_mlp
from learned_opt.per_parameter._mlp import PRESETS, MLPSettings, mlp, mlp_settings
from learned_opt.per_parameter.adam_start import AdamStart

__all__ = [
    "PRESETS",
    "AdamStart",
    "MLPSettings",
    "adafactor_mlp",
    "adam_start",
    "mlp",
    "mlp_settings",
    "theta",
]
