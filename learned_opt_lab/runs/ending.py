"""The end of a run: theta, scores, figures and a summary, and what it comes back with."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import learned_opt
from configs.base import TrainConfig
from learned_opt.disk import files
from learned_opt_lab.evaluation import held_out
from learned_opt_lab.results import folder
from learned_opt_lab.runs.build import Built
from learned_opt_lab.runs.engines.base import Trained
from learned_opt_lab.runs.families import HELD_OUT, TRAINED_ON, scored_on
from outer_train.processes import cluster
from outer_train.run import RunDirectory, Show, metrics


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
      run: its directory; `run.metrics`, `run.theta` and `run.summary` are files in it.
      theta: the trained outer parameters, on the host.
      summary: what is in `summary.json`; None if a signal ended the run early, and in all processes
        but the first.
      signal: SIGINT, SIGTERM or SIGHUP if one ended the run early, else None. `resume` goes on with
        it.
    """

    run: RunDirectory
    theta: Any
    summary: dict[str, Any] | None
    signal: int | None


class NothingLearned(ValueError):
    """No outer loss of a run was finite. All files are written; `result` is how the run ended."""

    def __init__(self, result: RunResult):
        super().__init__("no outer loss of this run was finite, so theta has learned nothing")
        self.result = result


def finish(
    config: TrainConfig, built: Built, run: RunDirectory, trained: Trained, show: Show
) -> RunResult:
    """Writes theta, scores and figures; of several processes the first one does.

    Raises:
      NothingLearned: no outer loss was finite; everything is written.
    """
    result = RunResult(run, trained.theta, None, trained.signal)
    if not cluster.is_first():
        return result
    learned_opt.save(run.theta, built.optimizer_name, built.optimizer_kwargs, trained.theta)
    if trained.signal is not None:
        return result
    summary, name, curves = (
        metrics.summarize(metrics.read_rows(run.metrics)),
        scored_on(config),
        None,
    )
    if config.held_out.num_tasks:
        summary[name], curves = score(config, built, trained.theta, show)
    summary = folder.finite(summary | trained.about)
    write_results(run, summary, curves, run.curves_of(name))
    with show.phase("drawing figures"):
        # Here, so that a run does not start by importing what it draws with at its end.
        from learned_opt_lab.drawing import training_figures

        training_figures.training_figures(run.path)
    report(summary, run, show.tell)
    result = result._replace(summary=summary)
    if metrics.mean_loss(metrics.read_rows(run.metrics)) is None:
        raise NothingLearned(result)
    return result


def write_results(
    run: RunDirectory,
    summary: dict[str, Any],
    curves: Mapping[str, np.ndarray] | None,
    curves_path: Path,
) -> None:
    """Replaces `summary.json`, and the curves of the scored tasks that it sums up with it."""
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    writers = {run.summary: lambda file: file.write(text.encode())}
    if curves is not None:
        writers = {curves_path: lambda file: np.savez(file, **curves), **writers}
    files.write_together(writers)


def score(
    config: TrainConfig, built: Built, theta: Any, show: Show
) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Scores the held-out family: that part of `summary.json`;
    the curves, optimizer -> `[tasks, steps]`.

    Where none is held out it is the training family, with other keys
    (`learned_opt_lab.runs.families.scored_on`).
    """
    held_out_or_not = (
        "held-out tasks" if scored_on(config) == HELD_OUT else "tasks of the training family"
    )
    key_score = jax.random.fold_in(jax.random.key(config.seed), 1)
    scored = held_out.score(
        built.held_out,
        built.optimizer,
        theta,
        jax.device_get(built.untrained_theta),
        num_steps=config.held_out.num_steps,
        num_tasks=config.held_out.num_tasks,
        key=key_score,
        phase=lambda what: show.phase(f"{what} {config.held_out.num_tasks} {held_out_or_not}"),
    )
    settings = {"num_tasks": config.held_out.num_tasks, "num_steps": config.held_out.num_steps}
    return {**scored.summary, **settings}, scored.curves


def report(summary: dict[str, Any], run: RunDirectory, tell: Callable[[str], None]) -> None:
    """Tells the numbers that matter."""
    tell(
        f"outer loss {folder.show(summary['outer_loss_first'])} -> "
        f"{folder.show(summary['outer_loss_last'])}"
    )
    for key, what in ((HELD_OUT, "held-out"), (TRAINED_ON, "training family's")):
        for name in ("learned", "adam_tuned", "adam_1e-3", "untrained") if key in summary else ():
            tell(f"{what} mean test loss  {name:<10} {folder.show(summary[key][name])}")
    tell(f"theta, summary.json and figures are in {run.path}")
