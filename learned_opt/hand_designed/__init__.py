"""Hand-designed optimizers and schedules whose hyperparameters are theta."""

from learned_opt.hand_designed import hyperparameters
from learned_opt.hand_designed.from_moments import MomentState
from learned_opt.hand_designed.pairs import Pair, decode_pair, encode_pair
from learned_opt.hand_designed.schedules import (
    Decayed,
    MomentumState,
    constant_schedule,
    inverse_time_schedule,
)

__all__ = [
    "Decayed",
    "MomentState",
    "MomentumState",
    "Pair",
    "constant_schedule",
    "decode_pair",
    "encode_pair",
    "hyperparameters",
    "inverse_time_schedule",
]
