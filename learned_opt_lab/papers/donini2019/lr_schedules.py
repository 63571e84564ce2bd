"""Optimized and online learning-rate schedules
of one task (Donini et al. 2019, arXiv 1910.08525, Fig 2 and 6).

    learned-opt reproduce lr_schedules --out DIR
    learned-opt reproduce lr_schedules --out DIR --scale paper

The last takes MNIST through TFDS, and hours without an accelerator.

LRS-OPT differentiates whole training runs; HD, RTHO, mu = .99, adaptive mu ("h_mu") and MARTHE (mu
and beta adaptive) adapt the rate in a single one. All start from eta_0 = .01 and are swept over one
grid of hyper-learning rates (of meta steps for MARTHE). A run that diverged keeps the accuracy it
ended with, chance or so, and stays in every mean.

About five minutes on two idle cores. Measured with 10 seeds, as the best mean validation accuracy
and the decades of hyper-rate within 2 points of it: constant 90.3 %, HD 97.0 % and 2.0, RTHO 98.0 %
and 1.0, mu = .99 98.4 % and 2.0, h_mu 98.1 % and 3.5, MARTHE 98.2 % and at least 5.5 (the sweep's
end), LRS-OPT 98.6 %. MARTHE and RTHO tie at their best (the difference is a third of its standard
error); with a batch of 16 and a coarser sweep on 4 seeds RTHO was ahead, 95.9 against 95.7 %. The
range of usable hyper-rates is what differs.

HD decays below a tenth of its first rate where beta is large (`hd_decay` in the result): from .01
at beta 1e-2 and 3.2e-2, 1.1 and .6 points below its best; from .1 at beta 3.2e-3 and 1e-2, 1.7 and
1.9 points below. At the beta that is best on the sweep it does not, unlike in the paper's figure:
from .01 it rises fivefold, then falls back to 1.2 times the first rate, and from .1 the best beta
is so small that the rate hardly changes.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import numpy as np
import optax

from learned_opt.disk import files
from learned_opt.hypergradient import hd, marthe, rtho
from learned_opt_lab.papers.donini2019 import lr_schedules_figures, lrs_opt
from learned_opt_lab.papers.donini2019.lr_schedules_runs import (
    Method,
    Problem,
    make_problem,
    run_schedules,
    sensitivity,
    sweep,
)
from learned_opt_lab.papers.donini2019.lr_schedules_summary import (
    json_ready,
    summary,
    where_decayed,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells

ONLINE = ("HD", "RTHO", "mu = .99", "h_mu", "MARTHE")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; those that are None follow the scale.

    Attributes:
      scale: "default" is 8x8 digits and an MLP of 3 x 32, "paper" 7,000 images of MNIST and one of
        3 x 500.
      num_steps: T, the horizon.
      batch_size: examples of a minibatch.
      learning_rate: eta_0 of every method.
      hidden_size: units of each of the three hidden layers (32 | 500).
      num_seeds: runs of each online method at each hyper-learning rate (10 | 20).
      hyper_learning_rates: the sweep.
      num_lrs_seeds: initial points for which LRS-OPT finds a schedule.
      num_lrs_iterations: its outer iterations (120 | 5000).
      lrs_learning_rate: first step of its outer Adam.
      first_rates: eta_0 of the sensitivity picture.
      mus: mu of the sensitivity picture.
      sensitivity_betas: one panel each.
      num_sensitivity_seeds: runs of each cell.
      seed: of everything.
    """

    scale: Literal["default", "paper"] = "default"
    num_steps: int = 512
    batch_size: int = 100
    learning_rate: float = 0.01
    hidden_size: int | None = None
    num_seeds: int | None = None
    hyper_learning_rates: tuple[float, ...] = tuple(
        float(f"{x:.1e}") for x in np.logspace(-10, -1, 19)
    )
    num_lrs_seeds: int = 4
    num_lrs_iterations: int | None = None
    lrs_learning_rate: float = 0.02
    first_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    mus: tuple[float, ...] = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
    sensitivity_betas: tuple[float, float] = (1e-6, 1e-5)
    num_sensitivity_seeds: int = 3
    seed: int = 0


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json`, `schedules.npz`, `figure_2.png` and `sensitivity.png` to `out`.

    Raises:
      ValueError: a size is below 1, or more LRS-OPT seeds are asked for than online ones.
    """
    given, config = config, _sized(config)
    problem = make_problem(config.scale, config.hidden_size, config.batch_size, config.num_steps)
    betas = config.hyper_learning_rates
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    cells = Cells(out, __name__, given, data=problem.data)
    few, inner = keys[: config.num_lrs_seeds], cells.within("lrs_opt")
    optimized = cells("lrs_opt", lambda few=few: _optimize(config, problem, few, inner))
    online = {
        name: cells(f"online/{name}", lambda method=method: sweep(problem, keys, method, betas))
        for name, method in _methods(config.learning_rate).items()
    }
    few = keys[: config.num_sensitivity_seeds]
    grid = (config.sensitivity_betas, config.first_rates, config.mus)
    over_mu = cells("sensitivity", lambda: sensitivity(problem, few, *grid))
    high = 10 * config.learning_rate
    from_high = cells(
        "from_high", lambda: sweep(problem, few, lambda beta: hd(optax.sgd, high, beta), betas)
    )
    constant = cells("constant", lambda: _constant(config, problem, keys))
    result = _result(config, constant, optimized, online)
    from_high = summary(betas, from_high, high)
    result |= {
        "hd_from_ten_times_the_rate": from_high,
        "hd_decay": {
            "from_the_rate": where_decayed(result["online"]["HD"]),
            "from_ten_times": where_decayed(from_high),
        },
        "sensitivity": over_mu,
    }
    result = json_ready(result)
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    rates = {"lrs_opt": optimized["rates"]} | {name: runs["rates"] for name, runs in online.items()}
    files.write_npz(out / "schedules.npz", rates)
    lr_schedules_figures.draw_schedules(result, optimized["rates"], online, out / "figure_2.png")
    lr_schedules_figures.draw_sensitivity(over_mu, out / "sensitivity.png")
    return result


def _sized(config: Config) -> Config:
    paper = config.scale == "paper"
    sizes = {"hidden_size": (32, 500), "num_seeds": (10, 20), "num_lrs_iterations": (120, 5000)}
    config = dataclasses.replace(
        config,
        **{name: size[paper] for name, size in sizes.items() if getattr(config, name) is None},
    )
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.startswith(("num_", "batch", "hidden")) and value < 1:
            raise ValueError(f"{field.name} must be at least 1, got {value}")
    if max(config.num_lrs_seeds, config.num_sensitivity_seeds) > config.num_seeds:
        raise ValueError(f"num_seeds must be the largest number of seeds, got {config}")
    return config


def _methods(rate: float) -> dict[str, Method]:
    return {
        "HD": lambda beta: hd(optax.sgd, rate, beta),
        "RTHO": lambda beta: rtho(optax.sgd, rate, beta),
        "mu = .99": lambda beta: marthe(optax.sgd, rate, beta, meta_step=0.0, mu=0.99),
        "h_mu": lambda beta: marthe(optax.sgd, rate, beta, meta_step=0.0),
        "MARTHE": lambda meta_step: marthe(optax.sgd, rate, meta_step=meta_step),
    }


def _optimize(config: Config, problem: Problem, keys, cells: Cells) -> dict[str, np.ndarray]:
    """LRS-OPT from the same initial weights as the online runs,
    measured on the same minibatches as they.
    """
    schedule = lrs_opt.rate_schedule(config.num_steps, config.learning_rate)
    objective = lambda params, data: problem.measure(params, problem.valid)[0]
    trained = lrs_opt.training(problem.task, objective, schedule, config.num_steps)
    params = jax.vmap(lambda key: problem.task.init(jax.random.split(key)[0]))(keys)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    found = lrs_opt.optimize_schedules(
        trained,
        schedule,
        params,
        problem.data,
        key,
        config.num_lrs_iterations,
        config.lrs_learning_rate,
        cells,
    )
    return run_schedules(problem, schedule, np.asarray(found.rates), keys) | {
        "objectives": np.asarray(found.objectives)
    }


def _constant(config: Config, problem: Problem, keys) -> dict[str, np.ndarray]:
    schedule = lrs_opt.rate_schedule(config.num_steps, config.learning_rate)
    rates = np.full((len(keys), config.num_steps), config.learning_rate, np.float32)
    return run_schedules(problem, schedule, rates, keys)


def _result(config: Config, constant, optimized, online) -> dict[str, Any]:
    rows = {
        name: summary(config.hyper_learning_rates, runs, config.learning_rate)
        for name, runs in online.items()
    }
    lrs_seeds = config.num_lrs_seeds
    same_seeds = {
        name: float(runs["loss"][rows[name]["best_index"], :lrs_seeds].mean())
        for name, runs in online.items()
    }
    return {
        "config": dataclasses.asdict(config),
        "constant": {
            "accuracy": float(constant["accuracy"].mean()),
            "accuracies": constant["accuracy"].ravel().tolist(),
            "loss": float(constant["loss"].mean()),
        },
        "lrs_opt": {
            "accuracy": float(optimized["accuracy"].mean()),
            "accuracies": optimized["accuracy"].ravel().tolist(),
            "loss": float(optimized["loss"].mean()),
            "test_accuracy": float(optimized["test_accuracy"].mean()),
            "loss_first_iteration": float(optimized["objectives"][0].mean()),
            "last_rate_over_median": float(
                np.mean(optimized["rates"][:, -1] / np.median(optimized["rates"], axis=1))
            ),
            "online_losses_on_its_seeds": same_seeds,
        },
        "online": rows,
    }
