"""Which fixed learning rate looks best after k steps
(Wu et al., ICLR 2018, arXiv 1803.02021, Figs 1 and 2).

    learned-opt reproduce nqm_horizons --out DIR

On the noisy quadratic the rate that is best after k steps falls with k, while the rate that is best
once 50 decay steps follow stays far above it: the loss at a horizon says little about how good a
rate is. Seconds on two cores.

The quoted best rates, .90 / .46 / .33 / .19 after 10 / 50 / 100 / 250 steps, are readings off a
logarithmic grid: the minimizers are .936 / .453 / .315 / .190, and no grid finer than 8 % could
give .90 for .936. Between .90 and .936 the loss differs by 0.2 %. `best_rate` here is read off a
grid too, 20 rates a decade, and `minimizer` is refined.
"""

import dataclasses
import math
import pathlib
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from learned_opt_lab.drawing.axes import known, legend, log_scale, set_limits
from learned_opt_lab.drawing.colors import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
)
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.wu2018.noisy_quadratic.short_horizon import paper_problem
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from tasks.analytic import NoisyQuadratic, expected_losses, noisy_quadratic_task


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      scale: both are the paper's sizes.
      dim: coordinates of the quadratic of Fig 2.
      horizons: k, steps at the fixed rate.
      num_decay_steps: steps appended for the dashed curves.
      decay: factor by which they lower the rate in all.
      rates_per_decade: of the learning rates `10^(j / rates_per_decade)` from 1e-3 up to 2, in
        units of 1 / h_max.
      seed: of the noise of Fig 1.
    """

    scale: Literal["default", "paper"] = "default"
    dim: int = 1000
    horizons: tuple[int, ...] = (10, 50, 100, 250)
    num_decay_steps: int = 50
    decay: float = 1e-2
    rates_per_decade: int = 20
    seed: int = 0


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `two_dimensional.png` and `horizons.png` to `out`;
    returns what is in the former.
    """
    out.mkdir(parents=True, exist_ok=True)
    per_decade = config.rates_per_decade
    rates = 10.0 ** (
        np.arange(-3 * per_decade, math.floor(math.log10(2) * per_decade) + 1) / per_decade
    )
    cells = Cells(out, __name__, config)
    curves, rows = {}, []
    for num_steps in config.horizons:
        row, losses = cells(f"horizon_{num_steps}", lambda n=num_steps: _horizon(config, rates, n))
        rows.append(row)
        curves |= {(num_steps, name): values for name, values in losses.items()}
    key = jax.random.key(config.seed)
    picture, paths = cells("two_dimensional", lambda: _two_dimensional(key))
    result = {"rate_unit": "1 / h_max", "horizons": rows, "two_dimensional": picture}
    write_result(out / "result.json", result)
    save(_horizon_figure(rates, curves, rows, config.num_decay_steps), out / "horizons.png")
    save(_path_figure(paths), out / "two_dimensional.png")
    return result


def _horizon(config: Config, rates: np.ndarray, num_steps: int):
    """A row of the result, and losses `[rates]` without and with decay steps."""
    problem = paper_problem(dim=config.dim)
    row, curves = {"num_steps": num_steps}, {}
    for name, num_decay in (("fixed", 0), ("with_decay", config.num_decay_steps)):
        evaluate = partial(
            _final_losses, problem, num_steps=num_steps, num_decay=num_decay, decay=config.decay
        )
        curves[name] = losses = np.asarray(evaluate(jnp.asarray(rates, jnp.float32)))
        best = lowest_known(losses, f"loss after {num_steps} steps")
        row[name] = {
            "best_rate": float(rates[best]),
            "loss": float(losses[best]),
            "minimizer": _refine(evaluate, rates, best),
        }
    row["decay_over_fixed"] = row["with_decay"]["best_rate"] / row["fixed"]["best_rate"]
    return row, curves


@partial(jax.jit, static_argnames=("num_steps", "num_decay", "decay"))
def _final_losses(problem, rates, *, num_steps, num_decay, decay):
    """Expected loss of plain SGD after a fixed rate (in 1 / h_max) and,
    if asked, exponential decay; `[rates]`.
    """
    shape = np.concatenate(
        [np.ones(num_steps), decay ** (np.arange(1, num_decay + 1) / max(num_decay, 1))]
    )
    schedules = rates[:, None] * jnp.asarray(shape, rates.dtype) / jnp.max(problem.curvatures)
    zeros = jnp.zeros(len(shape), rates.dtype)
    return jax.vmap(lambda schedule: expected_losses(problem, schedule, zeros)[-1])(schedules)


def _refine(evaluate, rates, best: int) -> float:
    """The minimizer between the neighbours of the grid's best rate,
    to a hundredth of that interval.
    """
    fine = np.geomspace(rates[max(best - 1, 0)], rates[min(best + 1, len(rates) - 1)], 101)
    return float(
        fine[lowest_known(evaluate(jnp.asarray(fine, jnp.float32)), "loss beside the best rate")]
    )


def _two_dimensional(key):
    """Fig 1: one high and one low curvature; conservative against aggressive and then decayed."""
    start = np.array([4.0, 4.0])
    problem = NoisyQuadratic(
        np.array([1.0, 0.02]), np.array([1.0, 0.2]), mean=start, variance=np.zeros(2)
    )
    task = noisy_quadratic_task(problem)
    num_steps, num_decay = 100, 40
    tail = 1e-2 ** (np.arange(1, num_decay + 1) / num_decay)
    schedules = {
        "conservative": np.full(num_steps + num_decay, 0.1),
        "aggressive": np.full(num_steps + num_decay, 0.9),
        "aggressive_then_decayed": 0.9 * np.concatenate([np.ones(num_steps), tail]),
    }

    @jax.jit
    def path(schedule):
        def step(params, i_rate):
            i, rate = i_rate
            key_batch = jax.random.fold_in(key, i)
            batch = task.sample_batch((), key_batch, "train")
            params = params - rate * jax.grad(
                lambda params: task.loss(params, key_batch, batch)[0]
            )(params)
            return params, params

        params = jnp.asarray(start, schedule.dtype)
        return jax.lax.scan(step, params, (jnp.arange(len(schedule)), schedule))[1]

    losses, paths = {}, {}
    for name, schedule in schedules.items():
        schedule = jnp.asarray(schedule, jnp.float32)
        expected = expected_losses(problem, schedule, jnp.zeros_like(schedule))
        losses[name] = {
            "after_fixed_steps": float(expected[num_steps]),
            "at_end": float(expected[-1]),
        }
        paths[name] = np.concatenate([start[None], np.asarray(path(schedule))])
    return losses, (paths, num_steps)


def _horizon_figure(rates, curves, rows, num_decay_steps) -> Figure:
    figure = Figure(figsize=(7.5, 4.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    for row, color in zip(rows, (BLUE, GREEN, ORANGE, RED, PURPLE), strict=False):
        k = row["num_steps"]
        for name, line in (("fixed", "-"), ("with_decay", "--")):
            label = f"{k} steps" + (
                f" + {num_decay_steps} of decay" if name == "with_decay" else ""
            )
            axes.plot(
                rates,
                known(curves[k, name]),
                line,
                color=color,
                label=f"{label}: best {row[name]['best_rate']:.2f}",
            )
            axes.plot(row[name]["best_rate"], row[name]["loss"], "o", color=color)
    log_scale(axes, "x", rates)
    log_scale(axes, "y", *curves.values())
    set_limits(axes, "y", 8, 4 * float(curves[rows[0]["num_steps"], "fixed"][0]))
    axes.set_xlabel("fixed learning rate x h_max")
    axes.set_ylabel("expected loss")
    axes.set_title(
        "The longer the horizon, the smaller the fixed rate it favours; with a decay, large ones",
        fontsize=10,
    )
    legend(axes, frameon=True, fontsize=7, ncols=2)
    return figure


def _path_figure(paths_and_split) -> Figure:
    paths, split = paths_and_split
    figure = Figure(figsize=(7.5, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    low, high = np.meshgrid(np.linspace(-1, 5, 200), np.linspace(-4, 5, 200))
    axes.contour(
        low,
        high,
        0.5 * (high**2 + 0.02 * low**2),
        levels=np.geomspace(0.01, 12, 9),
        colors="0.85",
        linewidths=0.8,
    )
    path = paths["aggressive_then_decayed"]
    axes.plot(
        path[: split + 1, 1],
        path[: split + 1, 0],
        color=RED,
        linewidth=0.8,
        label="large fixed rate ...",
    )
    axes.plot(
        path[split:, 1], path[split:, 0], color=ORANGE, linewidth=2.5, label="... then decayed"
    )
    axes.plot(*paths["conservative"].T[::-1], color=BLUE, linewidth=1.5, label="small fixed rate")
    for name, color in (("conservative", BLUE), ("aggressive_then_decayed", ORANGE)):
        axes.plot(
            paths[name][-1, 1],
            paths[name][-1, 0],
            "o",
            color=color,
            markeredgecolor="black",
            zorder=5,
        )
    axes.plot(0, 0, "k*", markersize=12, label="minimum")
    axes.set_xlabel("low-curvature direction")
    axes.set_ylabel("high-curvature direction")
    axes.set_title("A large rate that then decays gets further than a small one", fontsize=10)
    legend(axes, frameon=True, loc="lower left")
    return figure
