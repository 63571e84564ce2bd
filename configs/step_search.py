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
from configs import base, registry
from configs.build import build_optimizer, initial_theta
from configs.cross_entropy import Scores, Search, search
from configs.families import build_family
from learned_opt.base import Theta
from learned_opt.features import LOG_RMS, count_features, rows_over_tensor
from outer_train.devices import use_cpu_devices

DIRECTION, MAGNITUDE = slice(0, 2), slice(2, 4)
"""The hidden units that a fresh theta which starts as Adam gives to each output."""
PAIR = np.asarray([1.0, -1.0], np.float32)


def start(optimizer: base.Mlp) -> Search:
    """Around the theta as it is: no move, with steps that change a rate by a fifth or so.

    Raises:
      ValueError: for an optimizer of more than one hidden layer, or one that does not start as Adam.
    """
    given = isinstance(optimizer, base.Mlp) and optimizer.adam_learning_rate is not None and optimizer.adam_exponents
    if not given or len(optimizer.hidden_sizes or ()) != 1:
        raise ValueError("step_search needs one hidden layer, adam_learning_rate and adam_exponents")
    of_each, _ = rows(optimizer)
    unit = optimizer.adam_learning_rate / optimizer.step_multiplier
    # Weight decay, the input `parameter`, is a hundredth of the direction; gradient and momenta are all of it.
    std = [(0.01 if i == 0 and optimizer.features[0] == "parameter" else 0.05) * unit for i in of_each]
    std += [0.25] * len(optimizer.adam_exponents) + [0.08] * len(optimizer.timescales) + [0.2]
    return Search(np.zeros(len(std)), np.asarray(std))


def rows(optimizer: base.Mlp) -> tuple[list[int], list[int]]:
    """The inputs that differ between a tensor's parameters, and the others, times last."""
    counts = len(optimizer.momentum_decays), len(optimizer.second_moment_decays or (0.999,))
    logs = [i for i, over in enumerate(rows_over_tensor(optimizer.features, *counts)) if over is LOG_RMS]
    num_features = count_features(optimizer.features, *counts)
    times = list(range(num_features, num_features + len(optimizer.timescales)))
    return [i for i in range(num_features) if i not in logs], logs + times


def moved(optimizer: base.Mlp, theta: Theta, numbers: NDArray) -> Theta:
    """Theta with a candidate's numbers added: `[inputs + 1]`, of the direction, of the log rate, and its bias."""
    of_each, of_tensor = rows(optimizer)
    weights, bias = (np.array(theta["layer_0"][name]) for name in ("weights", "bias"))
    numbers = np.asarray(numbers, np.float32)
    weights[of_each, DIRECTION] += numbers[: len(of_each), None] * PAIR
    weights[of_tensor, MAGNITUDE] += numbers[len(of_each) : -1, None] * PAIR
    bias[MAGNITUDE] += numbers[-1] * PAIR
    return {**theta, "layer_0": {"weights": weights, "bias": bias}}


def main() -> None:
    """Writes `theta.npz` and `search.json` after every generation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-generations", type=int, default=18)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--num-steps", type=int, default=1000)
    args = parser.parse_args()
    use_cpu_devices()
    try:
        config = registry.load(args.config)[0]
        around = start(config.optimizer)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    optimizer, name, kwargs = build_optimizer(config.optimizer)
    theta = initial_theta(config.init_theta, optimizer, optimizer.init(jax.random.key(config.seed)))
    args.out.mkdir(parents=True, exist_ok=True)
    scores = []

    def report(generation: int, now: Search, found: Scores) -> None:
        scores.append(found._asdict())
        of = f"generation {generation + 1}/{args.num_generations}"
        print(f"{of}  score of the mean before it {found.mean:.3f}, of the start {found.start:.3f}", flush=True)
        learned_opt.save(args.out / "theta.npz", name, kwargs, moved(config.optimizer, theta, now.mean))
        state = {"scores": scores, "mean": now.mean.tolist(), "std": now.std.tolist()}
        (args.out / "search.json").write_text(json.dumps(state, indent=2) + "\n")

    search(
        around,
        lambda numbers: moved(config.optimizer, theta, numbers),
        optimizer,
        [build_family(each)[0] for each in (config.family, *config.extra_families)],
        num_generations=args.num_generations,
        population=args.population,
        num_steps=args.num_steps,
        seed=config.seed,
        report=report,
    )


if __name__ == "__main__":
    main()
