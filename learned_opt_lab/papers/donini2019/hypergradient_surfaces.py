"""HD, RTHO and MARTHE on two surfaces where one
of the first two fails (Donini et al. 2019, arXiv 1910.08525, Fig 1).

    learned-opt reproduce hypergradient_surfaces --out DIR

Ten seconds on two cores. Start, first rate and epsilon are not printed; those of `Config` show what
the figure shows. Expected best losses of 500 steps on Beale's function, at beta 1e-7 / 1e-6 / 1e-5:
HD 8.949e-2 / 9.627e-3 / 1.069e-4, RTHO 5.147e-3 / 2.258e-4 / 6.940e-7; at 1e-4 RTHO diverges. On
Bukin's function RTHO's rate grows to .49, falls to zero and leaves the weights stuck at .53; HD and
MARTHE reach the valley's floor, .181.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from learned_opt.hypergradient import hd, marthe, rtho
from learned_opt_lab.drawing.axes import known, legend, log_scale, positive
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from tasks import Task
from tasks.analytic import surfaces

STYLES = {
    "HD": {"color": "#D55E00"},
    "RTHO": {"color": "#0072B2", "linewidth": 2.5},
    "mu = .9": {"color": "#009E73"},
    "MARTHE": {"color": "#000000", "linestyle": "--", "linewidth": 1.2},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Both scales are the paper's size: 500 steps in two dimensions.

    Attributes:
      scale: changes nothing here.
      num_steps: steps of gradient descent.
      beale_start: first position on Beale's function.
      beale_learning_rate: its first rate.
      beale_betas: hyper-learning rates of its sweep; the second is the one whose trajectories are
        drawn.
      bukin_start: first position on the smoothed Bukin function.
      bukin_learning_rate: its first rate.
      bukin_beta: its hyper-learning rate.
      bukin_epsilon: its smoothing.
    """

    scale: Literal["default", "paper"] = "default"
    num_steps: int = 500
    beale_start: tuple[float, float] = (1.0, 1.0)
    beale_learning_rate: float = 1e-3
    beale_betas: tuple[float, ...] = (1e-7, 1e-6, 1e-5, 1e-4)
    bukin_start: tuple[float, float] = (-8.0, -0.4)
    bukin_learning_rate: float = 1e-2
    bukin_beta: float = 1e-3
    bukin_epsilon: float = 1e-3


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json` and `figure_1.png` to `out`; returns what the JSON holds.

    Raises:
      ValueError: fewer than two steps, or no hyper-learning rate.
    """
    if config.num_steps < 2 or not config.beale_betas:
        raise ValueError(f"num_steps must be >= 2 and beale_betas not empty, got {config}")
    cells = Cells(out, __name__, config)
    with jax.enable_x64(True):
        beale = cells("beale", lambda: _run_beale(config))
        bukin = cells("bukin", lambda: _run_bukin(config))
    result = {
        "config": dataclasses.asdict(config),
        "beale": {name: _beale_rows(config.beale_betas, runs) for name, runs in beale.items()},
        "bukin": {name: _bukin_row(trajectory) for name, trajectory in bukin.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    save(_figure(config, beale, bukin), out / "figure_1.png")
    return result


def descend(
    task: Task, transformation: optax.GradientTransformationExtraArgs, num_steps: int
) -> dict[str, jax.Array]:
    """Position `[T, 2]`, loss and rate `[T]` before each of T steps,
    and the count of non-finite hypergradients.
    """
    key = jax.random.key(0)
    value_fn = lambda position: task.loss(position, key, ())[0]
    start = task.init(key)

    def step(carry, _):
        position, state = carry
        loss, grads = jax.value_and_grad(value_fn)(position)
        updates, state = transformation.update(grads, state, position, value_fn=value_fn)
        return (position + updates, state), (position, loss, state.learning_rate)

    carry, (positions, losses, rates) = jax.lax.scan(
        step, (start, transformation.init(start)), length=num_steps
    )
    return {
        "position": positions,
        "loss": losses,
        "rate": rates,
        "num_non_finite": carry[1].num_non_finite,
    }


def _run_beale(config: Config) -> dict[str, list[dict[str, np.ndarray]]]:
    task, rate = surfaces.beale(config.beale_start), config.beale_learning_rate
    methods = {
        "HD": lambda beta: hd(optax.sgd, rate, beta),
        "RTHO": lambda beta: rtho(optax.sgd, rate, beta),
        "MARTHE": lambda beta: marthe(optax.sgd, rate, beta, meta_step=0.0),
    }
    runs = {}
    for name, method in methods.items():
        sweep = jax.jit(
            jax.vmap(lambda beta, method=method: descend(task, method(beta), config.num_steps))
        )
        stacked = jax.tree.map(np.asarray, sweep(jnp.array(config.beale_betas)))
        runs[name] = [
            jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(config.beale_betas))
        ]
    return runs


def _run_bukin(config: Config) -> dict[str, dict[str, np.ndarray]]:
    task = surfaces.smoothed_bukin(config.bukin_start, config.bukin_epsilon)
    rate, beta = config.bukin_learning_rate, config.bukin_beta
    methods = {
        "HD": hd(optax.sgd, rate, beta),
        "RTHO": rtho(optax.sgd, rate, beta),
        "mu = .9": marthe(optax.sgd, rate, beta, meta_step=0.0, mu=0.9),
        "MARTHE": marthe(optax.sgd, rate, beta, meta_step=0.0),
    }
    go = lambda method: jax.jit(lambda: descend(task, method, config.num_steps))()
    return {name: jax.tree.map(np.asarray, go(method)) for name, method in methods.items()}


def _beale_rows(
    betas: tuple[float, ...], runs: list[dict[str, np.ndarray]]
) -> list[dict[str, Any]]:
    return [_beale_row(beta, trajectory) for beta, trajectory in zip(betas, runs, strict=True)]


def _beale_row(beta: float, trajectory: dict[str, np.ndarray]) -> dict[str, Any]:
    """A diverged run's best loss is reported beside the fact that it diverged."""
    losses = trajectory["loss"]
    diverged = not np.all(np.isfinite(losses)) or losses[-1] > losses[0]
    return {
        "beta": beta,
        "best_loss": float(np.nanmin(losses)),
        "diverged": bool(diverged),
        "max_rate": float(np.nanmax(trajectory["rate"])),
        "num_non_finite": int(trajectory["num_non_finite"]),
    }


def _bukin_row(trajectory: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        "best_loss": float(trajectory["loss"].min()),
        "final_loss": float(trajectory["loss"][-1]),
        "max_rate": float(trajectory["rate"].max()),
        "final_rate": float(trajectory["rate"][-1]),
    }


def _figure(config: Config, beale: dict, bukin: dict) -> Figure:
    figure = Figure(figsize=(13, 7), dpi=140, layout="constrained")
    (beale_map, sweep, beale_rates), (bukin_map, bukin_losses, bukin_rates) = figure.subplots(2, 3)
    drawn = min(1, len(config.beale_betas) - 1)
    beale_drawn = {name: runs[drawn] for name, runs in beale.items()}
    task = surfaces.beale(config.beale_start)
    _draw_map(
        beale_map,
        task,
        beale_drawn,
        np.linspace(0.7, 3.4, 200),
        np.linspace(-0.4, 1.3, 200),
        (3.0, 0.5),
    )
    beale_map.set_title(f"Beale, beta = {config.beale_betas[drawn]:g}")
    _draw_sweep(sweep, config.beale_betas, beale)
    _draw_lines(
        beale_rates,
        beale_drawn,
        "rate",
        f"Beale: learning rate, beta = {config.beale_betas[drawn]:g}",
    )
    task = surfaces.smoothed_bukin(config.bukin_start, config.bukin_epsilon)
    _draw_map(
        bukin_map, task, bukin, np.linspace(-8.06, -7.94, 200), np.linspace(-0.55, 0.6, 200), None
    )
    bukin_map.plot([-8.06, -7.94], [-0.0806, -0.0794], color="0.3", linewidth=1, linestyle=":")
    bukin_map.set_title(f"Smoothed Bukin, beta = {config.bukin_beta:g}")
    _draw_lines(bukin_losses, bukin, "loss", "Bukin: loss")
    _draw_lines(bukin_rates, bukin, "rate", "Bukin: learning rate")
    return figure


def _draw_map(axes: Axes, task: Task, runs: dict, xs: np.ndarray, ys: np.ndarray, minimum) -> None:
    """Level lines of the loss, even in its logarithm, with the trajectories over them."""
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).astype(np.float32)
    losses = jax.vmap(jax.vmap(lambda w: task.loss(w, jax.random.key(0), ())[0]))(grid)
    axes.contour(
        xs,
        ys,
        np.log10(np.asarray(losses) + 1e-6),
        levels=25,
        colors="0.75",
        linewidths=0.6,
        linestyles="solid",
    )
    for name, trajectory in runs.items():
        x, y = known(trajectory["position"]).T
        axes.plot(x, y, label=name, **STYLES[name])
        axes.plot(
            x[-1], y[-1], color=STYLES[name]["color"], marker="o", markersize=7, fillstyle="none"
        )
    if minimum is not None:
        axes.plot(
            *minimum, color="#E69F00", marker="*", markersize=14, linestyle="none", label="minimum"
        )
    axes.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), xlabel="x", ylabel="y")
    legend(axes, fontsize=10, frameon=True, framealpha=1)


def _draw_sweep(axes: Axes, betas: tuple[float, ...], beale: dict) -> None:
    for name, runs in beale.items():
        rows = _beale_rows(betas, runs)
        kept = [row for row in rows if not row["diverged"]]
        lost = [row["beta"] for row in rows if row["diverged"]]
        best = positive([row["best_loss"] for row in kept])
        axes.plot([row["beta"] for row in kept], best, marker="o", label=name, **STYLES[name])
        axes.plot(
            lost,
            [1.0] * len(lost),
            color=STYLES[name]["color"],
            marker="x",
            markersize=9,
            linestyle="none",
        )
    log_scale(axes, "x", betas)
    log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
    axes.set(xlabel="hyper-learning rate beta", title="Beale: best loss in 500 steps (x: diverged)")
    legend(axes, fontsize=10)


def _draw_lines(axes: Axes, runs: dict, field: str, title: str) -> None:
    for name, trajectory in runs.items():
        axes.plot(known(trajectory[field]), label=name, **STYLES[name])
    axes.set(xlabel="step", title=title)
    legend(axes, fontsize=10)
