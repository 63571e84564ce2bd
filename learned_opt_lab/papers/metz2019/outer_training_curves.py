"""Outer-training against tuned Adam, over seeds,
objectives and outer optimizers (arXiv 1810.10180, figure 5).

    learned-opt reproduce outer_training_curves --out DIR

Outer loss of whole episodes on the same outer-training tasks, over inner steps and over wall-clock,
after training on L_train and on L_valid. Two Adams are lines: with 11 rates, tuned for each task,
and with eight hyperparameters, tuned over all of these tasks. Then the same outer-training under
other outer optimizers. Ten minutes on two cores; `--scale paper` is ImageNet.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from learned_opt.disk import files
from learned_opt_lab.drawing.axes import known, legend, log_scale
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
)
from learned_opt_lab.drawing.text import format_number
from learned_opt_lab.drawing.training_figures import save, tidy
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.metz2019 import outer_trained
from learned_opt_lab.papers.metz2019.outer_trained_evaluation import Searched, evaluator
from learned_opt_lab.papers.metz2019.outer_trained_setup import (
    OBJECTIVES,
    OVER_TASKS,
    OWN_SPLIT,
    Config,
    families,
    picking_key,
    resolve,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import SeedsResult, clip_by_global_norm

COMPARED = "validation"
"""The objective that outer optimizers are compared on."""
NUM_COMPARED_SEEDS = 2
NUM_OUTER_STEPS = 2000
"""At the default scale; after 500 the outer losses are still above those of tuned Adam."""


def outer_optimizers(config: Config) -> dict[str, optax.GradientTransformation]:
    """Others than Adam, each behind the same clip and half cosine; rates as multiples of Adam's."""
    decayed = lambda factor: optax.cosine_decay_schedule(
        factor * config.outer_learning_rate, config.num_outer_steps, 0.1
    )
    clip = clip_by_global_norm(1.0)
    return {
        "AdamW, decay .01": optax.chain(clip, optax.adamw(decayed(1.0), weight_decay=0.01)),
        "Lion, rate x 0.2": optax.chain(clip, optax.lion(decayed(0.2), weight_decay=0.0)),
        "SGD, momentum .9, rate x 10": optax.chain(clip, optax.sgd(decayed(10.0), momentum=0.9)),
    }


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json`, `curves.npz` and `outer_training_curves.png` to `out`;
    returns what is in the first.
    """
    given, config = config, resolve(config, NUM_OUTER_STEPS)
    made = families(config)
    on = evaluator(made.outer_train, picking_key(config), config.num_tasks, config.num_steps)
    cells = Cells(out, __name__, given, SeedsResult, data=made.data)
    searched = {
        name: on.searched(name, config.budget, config.seed, cells) for name in ("adam", OVER_TASKS)
    }
    tuned = {objective: _tuned(searched, OWN_SPLIT[objective]) for objective in OBJECTIVES}
    evaluate = on.learned(config)

    def curve(name: str, objective: str, *options: Any) -> dict[str, np.ndarray]:
        own = cells.within(f"outer_training/{name}")
        trained = outer_trained.outer_train(config, made.outer_train, objective, own, *options)
        return _curve(evaluate, trained, objective, own)

    curves = {objective: curve(objective, objective) for objective in OBJECTIVES}
    compared = {
        "Adam": {name: values[:, :NUM_COMPARED_SEEDS] for name, values in curves[COMPARED].items()}
    }
    seeds = min(NUM_COMPARED_SEEDS, config.num_seeds)
    for name, optimizer in outer_optimizers(config).items():
        folder = name.partition(",")[0].lower()
        compared[name] = curve(folder, COMPARED, optimizer, seeds)
    result = _result(config, curves, tuned, compared)
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    files.write_npz(
        out / "curves.npz", {f"{o}/{n}": v for o, c in curves.items() for n, v in c.items()}
    )
    save(_figure(curves, tuned, compared), out / "outer_training_curves.png")
    return result


def _tuned(searched: dict[str, Searched], split: str) -> dict[str, dict[str, np.ndarray]]:
    """Baseline -> split -> `[runs, points]`, tuned against one split."""
    over_tasks = searched[OVER_TASKS]
    place = over_tasks.best_of_all(split)
    return {
        "adam": searched["adam"].of_runs(split),
        OVER_TASKS: {name: each[place] for name, each in over_tasks.losses.items()},
    }


def _curve(
    evaluate: Callable, trained: SeedsResult, objective: str, cells: Cells
) -> dict[str, np.ndarray]:
    """At each point, `[points, seeds]`:
    the seeds' own losses, their test losses, inner steps and seconds.
    """
    at = lambda i: jax.tree.map(lambda leaf: leaf[i], trained.thetas)
    points = [cells(f"point_{i}", lambda i=i: evaluate(at(i))) for i in range(len(trained.points))]
    num_seeds = trained.outer_loss.shape[1]
    steps = np.concatenate([np.zeros((1, num_seeds), np.int64), trained.inner_steps])[
        trained.points
    ]
    # A seed's share of the time they took together.
    seconds = np.concatenate([[0.0], trained.seconds.cumsum()]) / num_seeds
    return {
        "outer_loss": np.stack([outer_trained.own_losses(point, objective) for point in points]),
        "test_loss": np.stack([point["test"][..., 1:].mean(axis=(1, 2)) for point in points]),
        "inner_steps": steps,
        "seconds": np.repeat(seconds[:, None], num_seeds, axis=1),
    }


def _result(config, curves, tuned, compared) -> dict[str, Any]:
    rows = {}
    for objective, curve in curves.items():
        final = curve["outer_loss"][-1]
        rows[objective] = {
            "split": OWN_SPLIT[objective],
            "outer_loss": final.tolist(),
            "picked_by": "outer_loss",
            "picked_seed": lowest_known(final, "outer loss of a seed"),
            "untrained": curve["outer_loss"][0].tolist(),
            "test_loss": curve["test_loss"][-1].tolist(),
            "inner_steps": int(curve["inner_steps"][-1, 0]),
            "seconds": float(curve["seconds"][-1, 0]),
            **{
                name: float(losses[OWN_SPLIT[objective]][:, 1:].mean())
                for name, losses in tuned[objective].items()
            },
        }
    best = {name: float(each["test"][:, 1:].mean()) for name, each in tuned["validation"].items()}
    return {
        "scale": config.scale,
        "num_seeds": config.num_seeds,
        "num_tasks": config.num_tasks,
        "adam8_configurations": config.budget,
        "objectives": rows,
        "baselines_test_loss": best,
        "outer_optimizers": {
            name: {
                "outer_loss": curve["outer_loss"][-1].tolist(),
                "test_loss": curve["test_loss"][-1].tolist(),
            }
            for name, curve in compared.items()
        },
    }


def _figure(curves, tuned, compared) -> Figure:
    figure = Figure(figsize=(17, 4.2), dpi=140, layout="constrained")
    validation, training, clock, optimizers = figure.subplots(1, 4)
    for axes, objective, unit in (
        (validation, "validation", "inner_steps"),
        (training, "training", "inner_steps"),
        (clock, "validation", "seconds"),
    ):
        _draw_seeds(axes, curves[objective], unit, BLUE, f"learned, {objective} objective")
        for name, style in (("adam", "--"), (OVER_TASKS, ":")):
            loss = tuned[objective][name][OWN_SPLIT[objective]][:, 1:].mean()
            label = f"{_LINES[name]}: {format_number(float(loss))}"
            axes.axhline(known(loss), color=BLACK, linestyle=style, linewidth=1.4, label=label)
        what = "validation loss" if objective == "validation" else "training loss"
        axes.set(title=f"outer {what}, episode mean", xlabel=_UNITS[unit])
        _finish(axes)
    for (name, curve), color in zip(
        compared.items(), (BLUE, ORANGE, GREEN, RED, PURPLE), strict=False
    ):
        _draw_seeds(optimizers, curve, "inner_steps", color, name)
    optimizers.set(title="outer optimizers, validation loss", xlabel=_UNITS["inner_steps"])
    _finish(optimizers)
    return figure


_LINES = {"adam": "Adam, 11 rates", OVER_TASKS: "Adam, 8 hyperparameters"}
_UNITS = {
    "inner_steps": "inner steps of outer-training",
    "seconds": "seconds of outer-training, a seed's share",
}


def _draw_seeds(
    axes: Axes, curve: dict[str, np.ndarray], unit: str, color: str, label: str
) -> None:
    position, losses = known(curve[unit].mean(axis=1)), known(curve["outer_loss"])
    axes.plot(position, losses, color=color, linewidth=0.6, alpha=0.6)
    last = format_number(float(losses[-1].mean()))
    axes.plot(position, losses.mean(axis=1), color=color, linewidth=2, label=f"{label}: {last}")


def _finish(axes: Axes) -> None:
    log_scale(axes, "y", *(line.get_ydata() for line in axes.lines))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    legend(axes)
    axes.tick_params(axis="y", which="minor", labelcolor=GREY)
    tidy(axes)
