"""Networks and horizons that outer-training never saw (arXiv 1810.10180, figure 7).

    learned-opt reproduce out_of_distribution --out DIR

By default, after outer-training on MLPs 64-32-5 of 300 steps: all ten digits with an MLP ten times
wider, one three times deeper, a convolutional network of six layers, and ten times the horizon.
After 3-layer CNNs, a 6-layer CNN at 28x28: on Fashion-MNIST with `--scale small`, on MNIST with
`--scale paper`. Adam has its rate tuned for each run among 11; Adam(1e-3) is not tuned.
"""

import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np
from matplotlib.figure import Figure

from learned_opt.disk import files
from learned_opt_lab.drawing.axes import known, legend, log_scale, quantiles, set_limits
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    ORANGE,
    SKY,
)
from learned_opt_lab.drawing.text import figure_label, format_number
from learned_opt_lab.drawing.training_figures import running_median, save, tidy
from learned_opt_lab.evaluation.baselines import LEARNING_RATES, UNTUNED
from learned_opt_lab.papers.metz2019 import outer_trained
from learned_opt_lab.papers.metz2019.outer_trained_evaluation import evaluator
from learned_opt_lab.papers.metz2019.outer_trained_setup import (
    OBJECTIVES,
    Config,
    families,
    reporting_key,
    resolve,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import SeedsResult
from tasks.images import MLP, ConvNet, ImageData, class_subset_family, tfds_images

STYLES = {
    "validation": (BLUE, "-", "learned, L_valid"),
    "training": (ORANGE, "-", "learned, L_train"),
    "adam": (BLACK, "--", "Adam, 11 rates"),
    "adam_1e-3": (SKY, "-", "Adam, rate 1e-3"),
}


OTHER_IMAGES = {"small": "fashion_mnist", "paper": "mnist"}
"""Scale -> the set whose images are larger or of another kind than those of outer-training."""


class Shift(NamedTuple):
    """A network and a horizon: `title` of its panel, `module`,
    inner steps over those of outer-training.
    """

    title: str
    module: nn.Module
    horizon: int = 1


def shifts(config: Config) -> dict[str, Shift]:
    """What is different from outer-training, by name."""
    if config.scale in OTHER_IMAGES:
        title = f"CNN, 6 layers, 28x28 {OTHER_IMAGES[config.scale]}"
        return {"cnn_6": Shift(title, ConvNet((16, 32, 64, 64, 64, 64), 10))}
    return {
        "wider": Shift("10 x wider", MLP((320,), 10)),
        "deeper": Shift("3 x deeper", MLP((32, 32, 32), 10)),
        "cnn_6": Shift("CNN, 6 layers", ConvNet((16, 16, 16, 16, 16, 16), 10)),
        "longer": Shift("10 x the horizon", MLP((32,), 10), horizon=10),
    }


def run(config: Config, out: pathlib.Path) -> dict[str, Any]:
    """Writes `result.json`, `curves.npz` and `out_of_distribution.png` to `out`;
    returns what is in the first.
    """
    given, config = config, resolve(config)
    made = families(config)
    data = made.data
    if config.scale in OTHER_IMAGES:
        data = tfds_images(OTHER_IMAGES[config.scale], data_dir=config.data_dir)
    cells = Cells(out, __name__, given, SeedsResult, data=(made.data, data))
    picked = outer_trained.outer_train_and_pick(config, made, cells)
    losses, rows = {}, {}
    for name, shift in shifts(config).items():
        losses[name], rows[name] = _evaluate(config, data, shift, picked, cells.within(name))
    result = {
        "scale": config.scale,
        "outer_training": {objective: picked[objective].record() for objective in OBJECTIVES},
        "shifts": rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    curves = {f"{shift}/{o}": v["test"] for shift, each in losses.items() for o, v in each.items()}
    files.write_npz(out / "curves.npz", curves)
    save(_figure(config, losses, rows), out / "out_of_distribution.png")
    return result


def _evaluate(
    config: Config, data: ImageData, shift: Shift, picked, cells: Cells
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Losses `[runs, points]` of every optimizer on one shift, and a row of the result."""
    family = class_subset_family(data, shift.module, data.num_classes, None, 64)
    num_runs, num_steps = max(2, config.num_tasks // 4), shift.horizon * config.num_steps
    on = evaluator(family, reporting_key(config), num_runs, num_steps)
    evaluate = on.learned(config)
    learned = {o: cells(o, lambda o=o: evaluate(picked[o].theta)) for o in OBJECTIVES}
    losses = {o: {split: v[0] for split, v in curves.items()} for o, curves in learned.items()}
    searched = on.searched("adam", config.budget, config.seed, cells)
    # It is one of the eleven.
    untuned = int(np.abs(np.log(np.divide(LEARNING_RATES, UNTUNED))).argmin())
    losses["adam"] = searched.of_runs("outer_valid")
    losses["adam_1e-3"] = {split: curves[untuned] for split, curves in searched.losses.items()}
    row: dict[str, Any] = {"title": shift.title, "num_steps": num_steps, "num_runs": num_runs}
    for name, each in losses.items():
        final = each["test"][:, -max(1, each["test"].shape[1] // 10) :].mean(axis=1)
        row[name] = {
            "final_test_loss": float(final.mean()),
            "test_loss": float(each["test"][:, 1:].mean()),
            "final_test_loss_of_runs": final.tolist(),
            "diverged": int((final > 2 * each["test"][:, 0]).sum()),
        }
    row["no_worse_than_untuned_adam"] = (
        row["validation"]["final_test_loss"] <= row["adam_1e-3"]["final_test_loss"]
    )
    return losses, row


def _figure(config: Config, losses: dict[str, Any], rows: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(4.4 * len(losses) + 0.4, 4.2), dpi=140, layout="constrained")
    for axes, (name, each) in zip(
        np.atleast_1d(figure.subplots(1, len(losses))), losses.items(), strict=True
    ):
        for optimizer, curves in each.items():
            color, line, label = STYLES[optimizer]
            test = known(curves["test"])
            steps = np.linspace(0, rows[name]["num_steps"], test.shape[1])
            axes.fill_between(
                steps, test.min(axis=0), test.max(axis=0), color=color, alpha=0.1, linewidth=0
            )
            final = rows[name][optimizer]["final_test_loss"]
            middle = running_median(quantiles(test, 0.5), window=3)
            axes.plot(
                steps,
                middle,
                color=color,
                linestyle=line,
                linewidth=2,
                label=f"{label}: {format_number(final)}",
            )
        # A run that is sure of everything and right for once would stretch the axis by decades.
        shown = np.concatenate([line.get_ydata() for line in axes.lines])
        log_scale(axes, "y", shown)
        set_limits(axes, "y", low=np.fmax(0.3 * np.fmin.reduce(shown), 1e-3))
        axes.set(title=figure_label(rows[name]["title"], limit=60), xlabel="inner step")
        legend(axes)
        tidy(axes)
    figure.axes[0].set_ylabel("test loss; median and range of runs, final mean")
    return figure
