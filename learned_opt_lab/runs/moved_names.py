"""Where code is that `config.json` names by a module of another version of this project."""

MODULES = {
    "learned_opt.adafactor_mlp": "learned_opt.per_parameter",
    "learned_opt.hypergradient_search": "learned_opt.hypergradient.search",
    "learned_opt.hyperparameters": "learned_opt.hand_designed.hyperparameters",
    "learned_opt.mlp": "learned_opt.per_parameter",
    "learned_opt.registry": "learned_opt.catalog",
    "learned_opt.schedules": "learned_opt.hand_designed.schedules",
    "learned_opt.serialization": "learned_opt.saving",
    "learned_opt.step_tangent": "learned_opt.hypergradient.step_tangent",
    "tasks.autoencoder": "tasks.images.autoencoder",
    "tasks.char_model": "tasks.text",
    "tasks.classifiers": "tasks.images.networks",
    "tasks.datasets": "tasks.images.datasets",
    "tasks.families": "tasks.images.class_subsets",
    "tasks.image_data": "tasks.images.image_data",
    "tasks.least_squares": "tasks.analytic.least_squares",
    "tasks.mnist1d": "tasks.images._mnist1d",
    "tasks.noisy_quadratic": "tasks.analytic.noisy_quadratic",
    "tasks.quadratic": "tasks.analytic.quadratic",
    "tasks.random_quadratic": "tasks.analytic.random_quadratic",
    "tasks.toy": "tasks.analytic.surfaces",
}
"""Module -> where its names are."""
FACES = {
    "tasks.images.autoencoder:tfds_autoencoder_family": "tasks.images:tfds_autoencoder_family",
    "tasks.text:char_family": "tasks:char_family",
}
"""Name -> by which this project's configs have it, and any file may."""


def current_name(name: str) -> str:
    """What is meant by a `"module:name"` of a file; any other name stays."""
    module, colon, attribute = name.partition(":")
    name = f"{MODULES.get(module, module)}{colon}{attribute}"
    return FACES.get(name, name)
