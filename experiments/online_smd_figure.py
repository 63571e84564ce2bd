"""The figure of `experiments/online_smd.py`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evaluation.figures import BLUE, ORANGE, RED


def online_figure(config: Any, curves: Mapping[str, Any], title: str) -> Figure:
    """Training loss, effective rate and momentum over both phases, one line a run.

    Args:
      config: an `online_smd.Config` with its sizes filled in.
      curves: `online_smd.Curves` of `fixed`, `smd` and `same batch`.
      title: above each panel.
    """
    figure = Figure(figsize=(13, 4), dpi=150, layout="constrained")
    loss_axes, rate_axes, momentum_axes = figure.subplots(1, 3)
    steps = np.arange(1, 2 * config.num_records + 1) * config.num_steps / config.num_records
    styles = {
        "fixed": (RED, "best fixed rate"),
        "smd": (BLUE, "SMD"),
        "same batch": (ORANGE, "SMD, one batch repeated"),
    }
    for mode, (color, label) in styles.items():
        effective = curves[mode].rate / np.maximum(1 - curves[mode].momentum, 1e-8)
        for axes, values in (
            (loss_axes, curves[mode].loss),
            (rate_axes, effective),
            (momentum_axes, curves[mode].momentum),
        ):
            for i, run in enumerate(values):
                axes.plot(steps, run, color=color, linewidth=1.3, label=label if i == 0 else None)
    loss_axes.set_yscale("log")
    rate_axes.set_yscale("log")
    top = 10 * np.nanmax(curves["fixed"].loss)
    loss_axes.set_ylim(0.5 * min(np.nanmin(c.loss) for c in curves.values()), top)
    names = ("training loss", "effective rate alpha / (1 - mu)", "momentum")
    for axes, name in zip((loss_axes, rate_axes, momentum_axes), names, strict=True):
        axes.axvline(config.num_steps, color="0.6", linestyle=":")
        axes.set_xlabel("step (dotted: adaptation ends, decay begins)")
        axes.set_title(f"{title}: {name}", fontsize=9)
    loss_axes.legend(fontsize=8)
    return figure
