"""Inner training on held-out tasks, in steps and in wall-clock,
and task by task (arXiv 1810.10180, figure 6).

    learned-opt reproduce held_out_curves --out DIR

Learned optimizers are outer-trained on L_train and on L_valid, several seeds each; the seed shown
is picked by its outer-training loss. They run on tasks of classes they have never seen, untuned;
Adam has 11 rates, or 64 draws of its eight hyperparameters, tried on each of these very tasks. Five
minutes on two cores; `--scale paper` is ImageNet.
"""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from learned_opt.disk import files
from learned_opt_lab.ablation.results import crossed_bootstrap
from learned_opt_lab.drawing.axes import known, log_scale, quantiles, set_limits
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
)
from learned_opt_lab.drawing.training_figures import label_ends, running_median, save, tidy
from learned_opt_lab.evaluation.held_out import LOSS_CAP
from learned_opt_lab.evaluation.measures import smooth, steps_to
from learned_opt_lab.papers.metz2019 import outer_trained, outer_trained_evaluation
from learned_opt_lab.papers.metz2019.outer_trained_evaluation import Evaluator, evaluator
from learned_opt_lab.papers.metz2019.outer_trained_setup import (
    BASELINES,
    OBJECTIVES,
    Config,
    families,
    reporting_key,
    resolve,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import SeedsResult

STYLES = {
    "validation": (BLUE, "-", 2.4, "learned, L_valid"),
    "training": (ORANGE, "-", 1.8, "learned, L_train"),
    "adam": (BLACK, "--", 1.8, "Adam, 11 rates"),
    "adam8": (PURPLE, ":", 1.8, "Adam, 8 hyperp."),
}


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json`, `curves.npz` and `held_out_curves.png` to `out`;
    returns what is in the first.
    """
    given, config = config, resolve(config)
    made = families(config)
    cells = Cells(out, __name__, given, SeedsResult, data=made.data)
    picked = outer_trained.outer_train_and_pick(config, made, cells)
    on = evaluator(made.held_out, reporting_key(config), config.num_tasks, config.num_steps)
    evaluate = on.learned(config)
    held_out = cells.within("held_out")
    seeds = {o: held_out(o, lambda o=o: evaluate(picked[o].thetas)) for o in OBJECTIVES}
    tuned = {name: on.tuned(name, config.budget, config.seed, held_out) for name in BASELINES}
    losses = {o: {split: v[picked[o].index] for split, v in seeds[o].items()} for o in OBJECTIVES}
    losses |= {name: each.losses for name, each in tuned.items()}
    theta = picked["validation"].theta
    seconds = held_out(
        "seconds", lambda: outer_trained_evaluation.seconds_per_step(config, on, theta, tuned)
    )
    rows = {name: _row(name, losses, seconds, on) for name in losses}
    result = {
        "scale": config.scale,
        "num_tasks": config.num_tasks,
        "num_steps": config.num_steps,
        "adam8_configurations": config.budget,
        "outer_training": {objective: picked[objective].record() for objective in OBJECTIVES},
        "optimizers": rows,
        "chosen": {name: each.chosen for name, each in tuned.items()},
        "differences": {name: _differences(losses, name) for name in (*BASELINES, "training")},
        "training_differences": {
            name: _differences(losses, name, "train", "training") for name in BASELINES
        },
        "validation_against_training_objective": _objectives(seeds),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    files.write_npz(
        out / "curves.npz",
        {f"{name}/{split}": v for name, c in losses.items() for split, v in c.items()},
    )
    save(figure_of(losses, result, on), out / "held_out_curves.png")
    return result


def _row(name: str, losses, seconds: dict[str, float], on: Evaluator) -> dict[str, Any]:
    """One optimizer: means, and steps and seconds to the best smoothed validation loss
    of Adam on each task.
    """
    curves = losses[name]
    targets = smooth(losses["adam"]["outer_valid"], LOSS_CAP).min(axis=-1)
    pairs = list(zip(curves["outer_valid"], losses["adam"]["outer_valid"], targets, strict=True))
    own, of_adam = (
        np.array([steps_to(pair[i][None], pair[2], on.every, LOSS_CAP)[0] for pair in pairs])
        for i in (0, 1)
    )
    per_step = seconds["learned" if name in OBJECTIVES else name]
    reached = np.isfinite(own)
    ratio = np.where(reached, own, np.inf) / np.maximum(of_adam, on.every)
    return {
        "test_loss": float(curves["test"][:, 1:].mean()),
        "final_test_loss": float(_tail(curves["test"]).mean()),
        "final_validation_loss": float(_tail(curves["outer_valid"]).mean()),
        "final_train_loss": float(_tail(curves["train"]).mean()),
        "seconds_per_step": per_step,
        "tasks_reaching_adams_best": int(reached.sum()),
        "median_steps_ratio": _finite(np.median(ratio)),
        "median_seconds_ratio": _finite(np.median(ratio) * per_step / seconds["adam"]),
        "diverged": int((_tail(curves["test"]) > 2 * curves["test"][:, 0]).sum()),
    }


def _tail(curves: np.ndarray) -> np.ndarray:
    return curves[..., -max(1, curves.shape[-1] // 10) :].mean(axis=-1)


def _differences(
    losses, name: str, split: str = "test", objective: str = "validation"
) -> dict[str, Any]:
    """Episode-mean loss of another optimizer less that of the learned one with this objective,
    task by task (figure 6c; on training losses 6a).
    """
    values = (losses[name][split] - losses[objective][split])[:, 1:].mean(axis=1)
    return {
        **crossed_bootstrap(values[None], seeds_are_given=True)._asdict(),
        "share_of_tasks_learned_is_lower": float((values > 0).mean()),
        "values": values.tolist(),
    }


def _objectives(seeds) -> dict[str, Any]:
    """Held-out test loss after outer-training on L_train less that after L_valid,
    over all seeds and tasks.
    """
    found = {}
    for label, mean in (("episode", lambda x: x[..., 1:].mean(axis=-1)), ("final", _tail)):
        by_train, by_valid = (
            mean(seeds[objective]["test"]) for objective in ("training", "validation")
        )
        found[label] = {
            "training": float(by_train.mean()),
            "validation": float(by_valid.mean()),
            "difference": crossed_bootstrap(by_train - by_valid)._asdict(),
        }
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def figure_of(
    losses: dict[str, dict[str, np.ndarray]], result: dict[str, Any], on: Evaluator
) -> Figure:
    """Medians and middle halves over steps and over seconds;
    the differences to Adam task by task.
    """
    figure = Figure(figsize=(16, 4.4), dpi=140, layout="constrained")
    by_step, by_second, tasks = figure.subplots(1, 3)
    for axes, label in ((by_step, "inner step"), (by_second, "time of one run alone")):
        ends = []
        for name, curves in losses.items():
            color, line, width, text = STYLES[name]
            steps = np.arange(curves["test"].shape[1]) * on.every
            per_step = (
                1.0
                if axes is by_step
                else float(known(result["optimizers"][name]["seconds_per_step"]))
            )
            low, middle, high = quantiles(curves["test"], [0.25, 0.5, 0.75])
            middle = running_median(middle, window=3)
            axes.fill_between(steps * per_step, low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(steps * per_step, middle, color=color, linestyle=line, linewidth=width)
            ends.append((float(middle[-1]), text, color))
        axes.set(xlabel=label, ylabel="held-out test loss")
        log_scale(axes, "y", *(curves["test"] for curves in losses.values()))
        set_limits(axes, "x", low=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(
            EngFormatter(sep="") if axes is by_step else EngFormatter("s")
        )
        tidy(axes)
        label_ends(axes, ends)
    shown = result["differences"]["adam"]
    values = known(shown["values"])
    tasks.hist(values[np.isfinite(values)], bins=20, color=BLUE, alpha=0.7)
    tasks.axvline(0, color=GREY, linewidth=1)
    share = shown["share_of_tasks_learned_is_lower"]
    tasks.set(title=f"learned is lower on {share:.0%} of tasks", ylabel="tasks")
    tasks.set_xlabel("test loss, Adam less learned")
    tidy(tasks)
    return figure
