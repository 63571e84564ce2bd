"""Where outer-training of a config had best start: a search over the fresh theta's Adam (`learned_opt.AdamStart`).

    python -m learned_opt_lab.searches.start_search general_es --out DIR

The cross-entropy method (`learned_opt_lab/searches/cross_entropy.py`) over rate, exponents of tensor and time, and
weight decay, on the config's outer-training families.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from numpy.typing import NDArray

from configs import base
from learned_opt_lab.results.folder import finite, write_result
from learned_opt_lab.runs.build import build_optimizer
from learned_opt_lab.searches.cross_entropy import Search, from_command_line


def start(optimizer: base.Mlp) -> Search:
    """Around the config's own start, wide enough to leave it.

    Raises:
      ValueError: for an optimizer without rate, exponents and time exponents.
    """
    own = optimizer.start if isinstance(optimizer, base.Mlp) else base.StartAsAdam()
    exponents, times = own.exponents, own.time_exponents
    if own.learning_rate is None or not exponents or not times:
        raise ValueError("start_search needs an optimizer whose start has learning_rate, exponents, time_exponents")
    mean = [np.log(own.learning_rate), *exponents, *times, own.weight_decay]
    return Search(np.asarray(mean), np.asarray([0.6] + [0.25] * len(exponents) + [0.1] * len(times) + [0.02]))


def started_at(optimizer: base.Mlp, candidate: NDArray) -> base.Mlp:
    """The optimizer with a candidate's start in place of its own."""
    cut = 1 + len(optimizer.start.exponents)
    found = base.StartAsAdam(
        learning_rate=float(np.exp(candidate[0])),
        exponents=tuple(candidate[1:cut].tolist()),
        time_exponents=tuple(candidate[cut:-1].tolist()),
        weight_decay=float(candidate[-1]),
    )
    return dataclasses.replace(optimizer, start=found)


def main() -> None:
    """Prints and writes the start that was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    args, config, search = from_command_line(parser, start, num_generations=6)
    key = jax.random.key(config.seed)
    to_theta = lambda candidate: build_optimizer(started_at(config.optimizer, candidate))[0].init(key)  # noqa: E731
    found, scores = search(to_theta=to_theta, optimizer=build_optimizer(config.optimizer)[0])
    best = started_at(config.optimizer, found.mean)
    result = dataclasses.asdict(best.start) | {"scores": [each._asdict() for each in scores]}
    print(json.dumps(finite(result), indent=2))
    if args.out:
        write_result(args.out / "start.json", result)


if __name__ == "__main__":
    main()
