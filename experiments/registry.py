"""The experiments of `learned-opt reproduce`: name -> module, imported when it is called."""

EXPERIMENTS = {
    "outer_landscape": "experiments.outer_landscape",
    "truncation_bias": "experiments.truncation_bias",
    "gradient_variance": "experiments.gradient_variance",
}
