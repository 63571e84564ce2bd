"""Where code is that `config.json` names by a module of another version of this project."""

MODULES = {
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
"""Module -> where its names are, beside those of `learned_opt`."""
FACES = {
    "tasks.images.autoencoder:tfds_autoencoder_family": "tasks.images:tfds_autoencoder_family",
    "tasks.images.resnet:tfds_resnet_family": "tasks.images:tfds_resnet_family",
    "tasks.text:char_family": "tasks:char_family",
    **{
        f"{module}:{name}": f"{face}:{name}"
        for face, name, modules in (
            ("tasks", "byte_transformer_family", ("language", "language.language_model")),
            ("tasks", "fine_tuning_family", ("language", "language.fine_tuning")),
            ("tasks", "noisy_labels_family", ("real_suites",)),
            ("tasks", "policy_gradient_family", ("control", "control.policy_gradient")),
            ("tasks", "skip_gram_family", ("language", "language.skip_gram")),
            ("tasks", "tabular_family", ("tabular",)),
            ("tasks.images", "conv_next_family", ("classifiers", "classifiers.conv_next")),
            ("tasks.images", "host_images_family", ("_host_images",)),
            ("tasks.images", "vae_family", ("vae",)),
            ("tasks.images", "vit_family", ("classifiers", "classifiers.vit")),
        )
        for module in (f"{face}.{inner}" for inner in modules)
    },
}
"""Name -> by which this project's configs have it, and any file may."""


def current_name(name: str) -> str:
    """What is meant by a `"module:name"` of a file; any other name stays."""
    # Here, since this starts JAX, which a mistyped command need not wait for.
    from learned_opt.disk import moved_names

    name = moved_names.current_name(name, {**moved_names.MODULES, **MODULES})
    return FACES.get(name, name)
