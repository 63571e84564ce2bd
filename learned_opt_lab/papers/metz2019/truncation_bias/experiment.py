"""Short truncations choose learning rates
that are too small (Metz et al. 2019, arXiv 1810.10180, Fig 3).

    learned-opt reproduce truncation_bias --out DIR

Two systems. On the noisy quadratic, from exact moments, the rate at which the truncated gradient
vanishes rises strictly with the truncation: .580, .638, .659, .669 in units of 1 / h_max for 1, 10,
50, 250 of 250 steps. On digits Adam's rate is outer-trained by truncated backpropagation, each
truncation for the same number of inner steps, and by other outer-optimizers than Adam as well
(appendix I): the bias is the gradient's, whoever follows it. About ten minutes on two cores.
"""

import dataclasses
import pathlib
from typing import Literal

import jax
import numpy as np

from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.metz2019.truncation_bias.adam_truncation import (
    OUTER_OPTIMIZERS,
    AdamRuns,
    measure_adam,
    measure_outer_optimizers,
)
from learned_opt_lab.papers.metz2019.truncation_bias.figures import (
    adam_figure,
    outer_optimizers_figure,
    quadratic_figure,
)
from learned_opt_lab.papers.metz2019.truncation_bias.nqm_truncation import (
    gradient_curves,
    stationary_rate,
)
from learned_opt_lab.papers.wu2018.noisy_quadratic.short_horizon import paper_problem
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from tasks.images import digits


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      scale: "paper" has episodes of 10,000 inner steps.
      dim: coordinates of the noisy quadratic.
      num_quadratic_steps: T there.
      quadratic_truncations: K there.
      num_steps: episode length on digits at the default scale.
      truncations: K on digits, ascending, each a divisor of `num_steps`; 10 to 10,000 at the
        paper's scale.
      num_episodes: episodes' worth of inner steps that each truncation is outer-trained for.
      num_particles: inner problems at once.
      hidden_size: of the classifier.
      batch_size: of its batches.
      learning_rate: Adam's at the start, close to the best one as in the paper.
      outer_learning_rate: of the outer Adam, on the log of the rate.
      outer_optimizers: others that train the rate too, of `OUTER_OPTIMIZERS`.
      rates: learning rates at which every truncation's gradient is measured.
      seed: of everything random.
    """

    scale: Literal["default", "paper"] = "default"
    dim: int = 1000
    num_quadratic_steps: int = 250
    quadratic_truncations: tuple[int, ...] = (1, 10, 50, 250)
    num_steps: int = 500
    truncations: tuple[int, ...] = (10, 100, 500)
    num_episodes: int = 40
    num_particles: int = 8
    hidden_size: int = 32
    batch_size: int = 8
    learning_rate: float = 1e-2
    outer_learning_rate: float = 0.05
    outer_optimizers: tuple[str, ...] = ("rmsprop", "momentum", "sgd")
    rates: tuple[float, ...] = (3e-3, 6e-3, 9e-3, 1.2e-2, 1.8e-2, 2.4e-2)
    seed: int = 0


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `noisy_quadratic.png`, `adam.png` and `outer_optimizers.png` to `out`;
    returns what is in the former.

    Raises:
      ValueError: for truncations that do not divide the episode, or an unknown outer-optimizer.
    """
    given = config
    if config.scale == "paper":
        config = dataclasses.replace(config, num_steps=10_000, truncations=(10, 100, 1000, 10_000))
    if any(k < 1 or config.num_steps % k for k in config.truncations):
        raise ValueError(
            f"truncations must divide num_steps = {config.num_steps}, got {config.truncations}"
        )
    if unknown := sorted(set(config.outer_optimizers) - set(OUTER_OPTIMIZERS)):
        raise ValueError(f"outer_optimizers are {', '.join(OUTER_OPTIMIZERS)}, got {unknown}")
    data, key = digits(), jax.random.key(config.seed)
    cells = Cells(out, __name__, given, data=data)
    quadratic, curves = cells("noisy_quadratic", lambda: _noisy_quadratic(config))
    runs = measure_adam(config, data, key, cells)
    others = measure_outer_optimizers(config, data, key, runs, cells)
    out.mkdir(parents=True, exist_ok=True)
    result = {
        "noisy_quadratic": quadratic,
        "adam": adam_numbers(config, runs),
        "outer_optimizers": {
            name: _ends(paths) for name, paths in {"adam": runs.paths, **others}.items()
        },
    }
    write_result(out / "result.json", result)
    save(quadratic_figure(config, curves, quadratic["best_rates"]), out / "noisy_quadratic.png")
    save(adam_figure(config, runs, result["adam"]), out / "adam.png")
    figure = outer_optimizers_figure(config, {"adam": runs.paths, **others}, result["adam"])
    save(figure, out / "outer_optimizers.png")
    return result


def _noisy_quadratic(config: Config):
    problem = paper_problem(dim=config.dim)
    num_steps, truncations = config.num_quadratic_steps, config.quadratic_truncations
    rates = np.linspace(0.3, 1.0, 71)
    numbers = {
        "rate_unit": "1 / h_max",
        "truncations": list(truncations),
        "best_rates": [stationary_rate(problem, num_steps, k) for k in truncations],
    }
    return numbers, (rates, gradient_curves(problem, num_steps, truncations, rates))


def adam_numbers(config: Config, runs: AdamRuns) -> dict:
    """What the runs on digits say, each list in the order of the truncations."""
    windows = {
        str(k): row.tolist()
        for k, row in zip(config.truncations, runs.windows, strict=True)
        if len(row) <= 100
    }
    return {
        "truncations": list(config.truncations),
        "initial_rate": config.learning_rate,
        **_ends(runs.paths),
        "stationary_rates": [
            zero_crossing(np.asarray(config.rates), row) for row in runs.gradients
        ],
        "rates": list(config.rates),
        "losses": runs.losses.tolist(),
        "best_rate": float(config.rates[lowest_known(runs.losses, "loss at a fixed rate")]),
        "gradients": runs.gradients.tolist(),
        "gradient_over_inner_training": windows,
    }  # fmt: skip


def _ends(paths: list[np.ndarray]) -> dict[str, list[float]]:
    """Rates and losses at the ends of outer-trainings, means over their last fifths."""
    tails = [path[-max(1, len(path) // 5) :] for path in paths]
    return {
        "final_rates": [float(np.exp(tail[:, 2].mean())) for tail in tails],
        "final_losses": [float(tail[:, 0].mean()) for tail in tails],
    }


def zero_crossing(rates: np.ndarray, gradients: np.ndarray) -> float | None:
    """Where the gradient first turns from negative to positive, linearly in the log of the rate;
    None if nowhere.
    """
    turns = np.nonzero((gradients[:-1] < 0) & (gradients[1:] >= 0))[0]
    if not len(turns):
        return None
    i = turns[0]
    share = gradients[i] / (gradients[i] - gradients[i + 1])
    return float(np.exp(np.log(rates[i]) + share * np.log(rates[i + 1] / rates[i])))
