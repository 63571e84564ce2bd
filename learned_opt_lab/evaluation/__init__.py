"""How good a learned optimizer is: tuned baselines, held-out evaluation, statistics, report."""
