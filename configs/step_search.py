"""The last touch to an outer-trained theta: a search over how its step depends on tensor and time.

    python -m configs.step_search general --out DIR

Starts from the config's `init_theta`, outer-trained from Adam (`learned_opt.adam_start`), whose first four hidden units
still carry most of the step: two its direction, two the logarithm of its rate. The cross-entropy method
(`configs/cross_entropy.py`) moves the first layer's weights of these: in the direction those of the inputs that differ
between parameters, in the logarithm those of the tensor's and time's inputs and the bias. Some twenty numbers, on which
all that theta has learned in hundreds of others rests; an estimator of theta's gradient spreads its samples over all.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

import learned_opt
from configs import base
from configs.build import build_optimizer, initial_theta
from configs.cross_entropy import Scores, Search, from_command_line
from learned_opt.adam_start import count_rows, log_rows
from learned_opt.base import Theta
from learned_opt.mlp import PRESETS, MLPSettings
from learned_opt.mlp_theta import resolve

DIRECTION, MAGNITUDE = slice(0, 2), slice(2, 4)
"""The hidden units that a fresh theta which starts as Adam gives to each output."""
PAIR = np.asarray([1.0, -1.0], np.float32)


def settings_of(optimizer: base.Optimizer) -> MLPSettings:
    """The optimizer's arguments with its defaults.

    Raises:
      ValueError: for an optimizer of more than one hidden layer, or one that does not start as Adam.
    """
    settings = resolve(MLPSettings(), PRESETS, **vars(optimizer)) if isinstance(optimizer, base.Mlp) else MLPSettings()
    if settings.adam_learning_rate is None or not settings.adam_exponents or len(settings.hidden_sizes) != 1:
        raise ValueError("step_search needs one hidden layer, adam_learning_rate and adam_exponents")
    return settings


def start(optimizer: base.Optimizer) -> Search:
    """Around the theta as it is: no move, with steps that change a rate by a fifth or so; raises as `settings_of`."""
    settings = settings_of(optimizer)
    of_each, _ = rows(settings)
    unit = settings.adam_learning_rate / settings.step_multiplier
    # Weight decay, the input `parameter`, is a hundredth of the direction; gradient and momenta are all of it.
    std = [(0.01 if i == 0 and settings.features[0] == "parameter" else 0.05) * unit for i in of_each]
    std += [0.25] * len(settings.adam_exponents) + [0.08] * len(settings.timescales) + [0.2]
    return Search(np.zeros(len(std)), np.asarray(std))


def rows(settings: MLPSettings) -> tuple[list[int], list[int]]:
    """The inputs that differ between a tensor's parameters, and the others, times last."""
    logs, num_features = log_rows(settings), count_rows(settings)
    times = list(range(num_features, num_features + len(settings.timescales)))
    return [i for i in range(num_features) if i not in logs], logs + times


def moved(settings: MLPSettings, theta: Theta, numbers: NDArray) -> Theta:
    """Theta with a candidate's numbers added: `[inputs + 1]`, of the direction, of the log rate, and its bias."""
    of_each, of_tensor = rows(settings)
    weights, bias = (np.array(theta["layer_0"][name]) for name in ("weights", "bias"))
    numbers = np.asarray(numbers, np.float32)
    of_rate = numbers[len(of_each) :] / settings.exp_multiplier
    weights[of_each, DIRECTION] += numbers[: len(of_each), None] * PAIR
    weights[of_tensor, MAGNITUDE] += of_rate[:-1, None] * PAIR
    bias[MAGNITUDE] += of_rate[-1] * PAIR
    return {**theta, "layer_0": {"weights": weights, "bias": bias}}


def main() -> None:
    """Writes `theta.npz` and `search.json` after every generation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args, config, search = from_command_line(parser, start, num_generations=18)
    settings = settings_of(config.optimizer)
    optimizer, name, kwargs = build_optimizer(config.optimizer)
    theta = initial_theta(config.init_theta, optimizer, optimizer.init(jax.random.key(config.seed)))
    args.out.mkdir(parents=True, exist_ok=True)

    def report(now: Search, scores: list[Scores]) -> None:
        last, of = scores[-1], f"generation {len(scores)}/{args.num_generations}"
        print(f"{of}  score of the mean before it {last.mean:.3f}, of the start {last.start:.3f}", flush=True)
        learned_opt.save(args.out / "theta.npz", name, kwargs, moved(settings, theta, now.mean))
        found = {"scores": [each._asdict() for each in scores], "mean": now.mean.tolist(), "std": now.std.tolist()}
        (args.out / "search.json").write_text(json.dumps(found, indent=2) + "\n")

    search(to_theta=lambda numbers: moved(settings, theta, numbers), optimizer=optimizer, report=report)


if __name__ == "__main__":
    main()
