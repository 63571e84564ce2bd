"""Names that tests go over."""

ESTIMATORS = (
    "evolution_strategies",
    "reparameterization",
    "merged",
    "persistent_es",
    "noise_reuse_es",
    "truncated_backprop",
    "forward_mode",
    "full_es",
)
