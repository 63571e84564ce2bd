"""Where code is that a `theta.json` names by a module of another version of this library."""

MODULES = {
    "learned_opt.adafactor_mlp": "learned_opt.per_parameter",
    "learned_opt.hypergradient_search": "learned_opt.hypergradient.search",
    "learned_opt.hyperparameters": "learned_opt.hand_designed.hyperparameters",
    "learned_opt.mlp": "learned_opt.per_parameter",
    "learned_opt.registry": "learned_opt.catalog",
    "learned_opt.schedules": "learned_opt.hand_designed.schedules",
    "learned_opt.serialization": "learned_opt.saving",
    "learned_opt.step_tangent": "learned_opt.hypergradient.step_tangent",
}
"""Module -> where its names are."""


def current_name(name: str, modules: dict[str, str] = MODULES) -> str:
    """What is meant by a `"module:name"` of a file; any other name stays.

    Args:
      name: as the file has it.
      modules: where code is.
    """
    module, colon, attribute = name.partition(":")
    return f"{modules.get(module, module)}{colon}{attribute}"
