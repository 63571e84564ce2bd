"""Inner steps a second of the estimators that only go forward,
in turns on W1, against `evolution_strategies`.

    python -m benchmarks.forward_estimators

Prints ratios: PES and NRES carry both sides of a pair and their noise, which should cost next to
nothing.
"""

import json

import numpy as np

from learned_opt_lab.bench import throughput, w1_family
from outer_train import use_cpu_devices

ESTIMATORS = ("evolution_strategies", "persistent_es", "noise_reuse_es")


def run(num_rounds: int = 3, num_repeats: int = 10) -> dict[str, float]:
    """Median over rounds of each estimator's rate over that of ES in the same round."""
    family, _ = w1_family()
    ratios: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for _ in range(num_rounds):
        rates = {
            name: throughput(family, name, num_repeats).inner_steps_per_second
            for name in ESTIMATORS
        }
        for name, rate in rates.items():
            ratios[name].append(rate / rates["evolution_strategies"])
    return {name: float(np.median(values)) for name, values in ratios.items()}


if __name__ == "__main__":
    use_cpu_devices()
    print(json.dumps(run(), indent=2))
