"""A small optimizer that starts as Adam, for the tests of the searches."""

from configs import base

OPTIMIZER = base.Mlp(
    hidden_sizes=(4,),
    timescales=(10.0, 100.0),
    features=("adam_momentum", "parameter", "log_parameter"),
    exp_multiplier=1.0,
    output_init_scale=0.01,
    start=base.StartAsAdam(learning_rate=1e-3, exponents=(0.0,), time_exponents=(0.0, 0.0)),
)
