"""Hand-designed optimizers and schedules whose hyperparameters are theta."""
