"""The experiments of `learned-opt reproduce`: name -> module, imported when it is called."""

EXPERIMENTS = {
    "outer_landscape": "learned_opt_lab.papers.metz2019.outer_landscape",
    "truncation_bias": "learned_opt_lab.papers.metz2019.truncation_bias.experiment",
    "gradient_variance": "learned_opt_lab.papers.metz2019.gradient_variance",
    "nqm_schedules": "learned_opt_lab.papers.wu2018.noisy_quadratic.nqm_schedules",
    "nqm_horizons": "learned_opt_lab.papers.wu2018.noisy_quadratic.nqm_horizons",
    "offline_smd": "learned_opt_lab.papers.wu2018.meta_descent.offline_smd",
    "online_smd": "learned_opt_lab.papers.wu2018.meta_descent.online_smd",
    "step_size_meta_gradient": "learned_opt_lab.papers.wang2021.step_size_meta_gradient",
    "step_size_generalization": "learned_opt_lab.papers.wang2021.step_size_generalization",
    "optimizer_generalization": "learned_opt_lab.papers.wang2021.optimizer_generalization",
    "hypergradient_surfaces": "learned_opt_lab.papers.donini2019.hypergradient_surfaces",
    "lr_schedules": "learned_opt_lab.papers.donini2019.lr_schedules",
    "outer_training_curves": "learned_opt_lab.papers.metz2019.outer_training_curves",
    "held_out_curves": "learned_opt_lab.papers.metz2019.held_out_curves",
    "out_of_distribution": "learned_opt_lab.papers.metz2019.out_of_distribution",
    "image_classification_schedules": (
        "learned_opt_lab.papers.donini2019.image_classification_schedules"
    ),
}
