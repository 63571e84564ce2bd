"""The experiments of `learned-opt reproduce`: name -> module, imported when it is called."""

EXPERIMENTS = {
    "outer_landscape": "experiments.outer_landscape",
    "truncation_bias": "experiments.truncation_bias",
    "gradient_variance": "experiments.gradient_variance",
    "nqm_schedules": "experiments.nqm_schedules",
    "nqm_horizons": "experiments.nqm_horizons",
    "offline_smd": "experiments.offline_smd",
    "online_smd": "experiments.online_smd",
    "step_size_meta_gradient": "experiments.step_size_meta_gradient",
    "step_size_generalization": "experiments.step_size_generalization",
    "optimizer_generalization": "experiments.optimizer_generalization",
    "hypergradient_surfaces": "experiments.hypergradient_surfaces",
    "lr_schedules": "experiments.lr_schedules",
    "outer_training_curves": "experiments.outer_training_curves",
    "held_out_curves": "experiments.held_out_curves",
    "out_of_distribution": "experiments.out_of_distribution",
    "image_classification_schedules": "experiments.image_classification_schedules",
}
