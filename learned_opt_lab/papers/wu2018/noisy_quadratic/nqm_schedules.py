"""Greedy, fixed and optimized schedules
on the noisy quadratic (Wu et al., ICLR 2018, arXiv 1803.02021, Fig 3).

    learned-opt reproduce nqm_schedules --out DIR

With noise the greedy schedule ends an order of magnitude above the optimized one, because lowering
the rate pays at once in the high-curvature directions; without noise greedy is optimal: after every
number of steps its loss is the least of any schedule, which has a closed form (`least_loss`). About
a minute on two cores.

Of optimized schedules only the loss at their end is determined: T rates and momenta make a
polynomial of degree T, and many schedules make the same one. At 10, 25 and 50 steps Adam ends on
the least loss; at 250, where it is thirteen orders below the start, a tenth above it.
"""

import dataclasses
import pathlib
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import legend, legend_outside, log_scale, positive
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    RED,
)
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.papers.wu2018.noisy_quadratic.least_loss import least_losses
from learned_opt_lab.papers.wu2018.noisy_quadratic.short_horizon import (
    HIGHEST_CURVATURE,
    LOWEST_CURVATURE,
    Schedule,
    coordinate_losses,
    fixed_schedule,
    greedy_schedule,
    optimized_schedule,
    paper_problem,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells

COLORS = {"greedy": BLUE, "fixed": GREEN, "optimized": RED}
LINES = {"greedy": "-", "fixed": "-", "optimized": "--"}
DETERMINISTIC_START = (3.8, 0.914)
"""(alpha h_max, mu): near where the greedy schedule settles without noise."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      scale: both scales are the paper's; `"paper"` only optimizes longer.
      dim: coordinates of the quadratic.
      num_steps: T.
      num_extreme: coordinates in the sums over the highest and the lowest curvatures.
      num_updates: Adam updates of the optimized schedule; None for 1,000 (`"default"`) or 5,000
        (`"paper"`).
      deterministic_horizons: lengths at which greedy and optimized are compared without noise,
        besides `num_steps`.
    """

    scale: Literal["default", "paper"] = "default"
    dim: int = 1000
    num_steps: int = 250
    num_extreme: int = 50
    num_updates: int | None = None
    deterministic_horizons: tuple[int, ...] = (10, 25, 50)


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json` and `schedules.png` to `out`; returns what is in the former.

    Raises:
      ValueError: for fewer coordinates than steps, where the closed form ends.
    """
    least = _least(config)
    num_updates = config.num_updates or {"default": 1000, "paper": 5000}[config.scale]
    cells = Cells(out, __name__, config, Schedule)
    stochastic, curves = cells("stochastic", lambda: _stochastic(config, num_updates))
    deterministic, deterministic_curves = _deterministic(config, num_updates, cells)
    for row in deterministic["horizons"]:
        row["least"] = float(least[row["num_steps"]])
        row["greedy_over_least"] = row["greedy"] / row["least"]
    result = {"stochastic": stochastic, "deterministic": deterministic}
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    figure = _figure(curves, deterministic_curves, config.num_extreme)
    _draw_least(figure.axes[4], least, deterministic["horizons"])
    save(figure, out / "schedules.png")
    return result


def _least(config: Config) -> np.ndarray:
    longest = max(config.num_steps, *config.deterministic_horizons)
    return least_losses(config.dim, LOWEST_CURVATURE, HIGHEST_CURVATURE, longest)


def _stochastic(config: Config, num_updates: int):
    problem = paper_problem(dim=config.dim)
    schedules = {
        "greedy": greedy_schedule(problem, config.num_steps),
        "fixed": fixed_schedule(problem, config.num_steps),
        "optimized": optimized_schedule(problem, config.num_steps, num_updates=num_updates),
    }
    greedy_sgd = greedy_schedule(problem, config.num_steps, momentum=False)
    h_max = float(jnp.max(problem.curvatures))
    curves = {
        name: _with_extremes(problem, schedule, config.num_extreme)
        for name, schedule in schedules.items()
    }
    result = {name: float(schedule.losses[-1]) for name, schedule in schedules.items()}
    result["initial"] = float(schedules["greedy"].losses[0])
    result["greedy_without_momentum"] = float(greedy_sgd.losses[-1])
    result["fixed_pair"] = {
        "learning_rate_times_h_max": float(schedules["fixed"].learning_rates[0]) * h_max,
        "momentum": float(schedules["fixed"].momenta[0]),
    }
    _, high, low, growth = curves["optimized"]
    result["optimized_shape"] = {
        "max_learning_rate_times_h_max": 2.0,
        "largest_growth_of_a_coordinate": float(growth),
        "high_curvature_at_step_10_over_start": float(high[min(10, config.num_steps)] / high[0]),
        "low_curvature_at_end_over_start": float(low[-1] / low[0]),
        "low_curvature_at_end": float(low[-1]),
        "low_curvature_at_end_greedy": float(curves["greedy"][2][-1]),
    }
    return result, curves


def _deterministic(config: Config, num_updates: int, cells: Cells):
    """In 64 bit: the loss falls by thirteen orders of magnitude."""
    horizons = sorted({*config.deterministic_horizons, config.num_steps})
    with jax.enable_x64(True):
        problem = paper_problem(stochastic=False, dim=config.dim)
        h_max = float(jnp.max(problem.curvatures))
        rate, momentum = DETERMINISTIC_START

        def both(num_steps):
            return greedy_schedule(problem, num_steps), optimized_schedule(
                problem,
                num_steps,
                max_learning_rate=20 / h_max,
                start=(rate / h_max, momentum),
                num_updates=3 * num_updates,
                meta_learning_rate=0.03 if num_steps <= 50 else 0.003,
            )

        rows = []
        for num_steps in horizons:
            greedy, optimized = cells(f"deterministic_{num_steps}", lambda n=num_steps: both(n))
            losses = {"greedy": float(greedy.losses[-1]), "optimized": float(optimized.losses[-1])}
            rows.append(
                {
                    "num_steps": num_steps,
                    **losses,
                    "optimized_over_greedy": losses["optimized"] / losses["greedy"],
                }
            )
            if num_steps == config.num_steps:
                schedules, at_end = {"greedy": greedy, "optimized": optimized}, losses
        extremes = lambda schedule: _with_extremes(problem, schedule, config.num_extreme)
        curves = cells(
            "deterministic_curves", lambda: {name: extremes(s) for name, s in schedules.items()}
        )
        final_pair = {
            "learning_rate_times_h_max": float(schedules["greedy"].learning_rates[-1]) * h_max,
            "momentum": float(schedules["greedy"].momenta[-1]),
        }
    return {**at_end, "greedy_final_pair": final_pair, "horizons": rows}, curves


def _with_extremes(problem, schedule: Schedule, num_extreme: int):
    """The schedule, its losses summed over the highest and the lowest curvatures,
    and any coordinate's growth.
    """
    losses = np.asarray(coordinate_losses(problem, schedule.learning_rates, schedule.momenta))
    order = np.argsort(-np.asarray(problem.curvatures))
    high, low = losses[:, order[:num_extreme]].sum(1), losses[:, order[-num_extreme:]].sum(1)
    return schedule, high, low, (losses.max(0) / losses[0]).max()


def _figure(stochastic: dict, deterministic: dict, num_extreme: int) -> Figure:
    """A colour is a schedule in every panel, and its line is solid or dashed as in the others."""
    figure = Figure(figsize=(13, 6.8), dpi=150, layout="constrained")
    for row, title, curves in zip(
        figure.subplots(2, 4), ("noisy", "deterministic"), (stochastic, deterministic), strict=True
    ):
        for name, (schedule, high, low, _) in curves.items():
            style = {"color": COLORS[name], "label": name, "linestyle": LINES[name]}
            row[0].plot(positive(schedule.losses), **style)
            row[1].plot(positive(schedule.learning_rates), **style)
            row[2].plot(np.asarray(schedule.momenta), **style)
            row[3].plot(positive(high), **style)
            row[3].plot(positive(low), **style | {"linewidth": 3, "alpha": 0.4})
        for axes in (row[0], row[1], row[3]):
            log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
        ends = [f"{name} {float(curve[0].losses[-1]):.3g}" for name, curve in curves.items()]
        row[0].set_title(f"{title}: loss\nat the end: {'  '.join(ends)}", fontsize=9, color=BLACK)
        row[1].set_title(f"{title}: learning rate", fontsize=9)
        row[2].set_title(f"{title}: momentum", fontsize=9)
        row[3].set_title(
            f"{title}: loss of the {num_extreme} highest\ncurvatures (thick, pale: the lowest)",
            fontsize=9,
        )
        for axes in row:
            axes.set_xlabel("step")
    # Below all panels, where it covers none of them.
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend_outside(figure, handles, labels, ncols=len(labels))
    return figure


def _draw_least(axes, least: np.ndarray, rows: list[dict]) -> None:
    """The closed form under the deterministic losses, and where optimized schedules end."""
    axes.plot(positive(least), color=GREY, linewidth=6, alpha=0.4, zorder=0, label="least of any")
    ends = [positive(row["optimized"]) for row in rows]
    steps = [row["num_steps"] for row in rows]
    axes.plot(steps, ends, "o", color=COLORS["optimized"], label="optimized for T, at T")
    legend(axes, frameon=False, loc="upper right")
