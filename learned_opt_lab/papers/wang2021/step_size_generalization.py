"""Tuning a step size by the training loss
or by a validation loss (Wang, Yuan, Wu, Ge, arXiv 2006.16495).

    learned-opt reproduce step_size_generalization --out DIR

Noisy linear regression in 200 dimensions, 40 steps of gradient descent. Train-by-train chooses the
step size by the training loss of n samples; train-by-validation trains on n/2 and chooses by the
loss on the other n/2. Both then train on n samples of new tasks. Few or noisy samples: validation
wins; many: a tie. About a minute on two cores.

What the table holds is the outcome of a procedure: some tasks choose a step size and new ones judge
it. Repeated, it varies with the choice too, so `standard_error` is a bootstrap over both sets of
tasks. The usual error over the judging tasks, `standard_error_given_choice`, holds the step size
fixed; it stands beside it.
"""

import dataclasses
import pathlib
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from matplotlib.figure import Figure

from learned_opt.hand_designed import constant_schedule, encode_pair
from learned_opt_lab.drawing.axes import known, legend, log_scale, positive, set_limits
from learned_opt_lab.drawing.colors import BLUE, ORANGE
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.evaluation.statistics import deviation, lowest_known
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import inner_problem
from tasks.analytic import least_squares_family

CHOICES = ("train_by_train", "train_by_validation")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment, the paper's at both scales.

    Attributes:
      scale: no difference here.
      dim: of the regression.
      cells: (number of samples n, noise deviation sigma).
      num_steps: of gradient descent.
      num_tasks: on which a step size is chosen, and as many new ones on which it is judged.
      num_step_sizes: candidates, log-spaced between 1e-6 and 1.
      batch_size: samples of an SGD step; None for gradient descent.
      seed: of the tasks.
    """

    scale: Literal["default", "paper"] = "default"
    dim: int = 200
    cells: tuple[tuple[int, float], ...] = (
        (100, 0.5),
        (100, 1.0),
        (100, 2.0),
        (800, 1.0),
        (3200, 1.0),
    )
    num_steps: int = 40
    num_tasks: int = 40
    num_step_sizes: int = 25
    batch_size: int | None = None
    seed: int = 0


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json` and `generalization.png` to `out`; returns what is in the former."""
    step_sizes = np.geomspace(1e-6, 1.0, config.num_step_sizes)
    keys = jax.random.split(jax.random.key(config.seed), len(config.cells))
    pieces = Cells(out, __name__, config)
    cells = [
        pieces(
            f"samples_{cell[0]}_noise_{cell[1]:g}",
            lambda cell=cell, key=key: _cell(config, *cell, step_sizes, key),
        )
        for cell, key in zip(config.cells, keys, strict=True)
    ]
    result = {"table": cells}
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    save(_figure(step_sizes, cells), out / "generalization.png")
    return result


def _cell(config: Config, num_samples: int, noise_std: float, step_sizes: np.ndarray, key) -> dict:
    key_choose, key_judge = jax.random.split(key)
    family = partial(
        least_squares_family, config.dim, num_samples, noise_std, batch_size=config.batch_size
    )
    on_all, on_half = family(), family(num_train=num_samples // 2)
    evaluate = partial(
        _evaluate, step_sizes=step_sizes, num_steps=config.num_steps, num_tasks=config.num_tasks
    )
    objective = {
        "train_by_train": evaluate(on_all, "train", key_choose)[0],
        "train_by_validation": evaluate(on_half, "valid", key_choose)[0],
    }
    _, risks = evaluate(on_all, "train", key_judge)
    cell = {"num_samples": num_samples, "noise_std": noise_std}
    chosen = {
        name: lowest_known(objective[name].mean(0), f"objective of {name}") for name in CHOICES
    }
    resampled = _bootstrap(objective, risks)
    # Resamples of one task are all alike, which says nothing of others.
    spread = lambda values: deviation(values) if len(risks) > 1 else float("nan")
    for name in CHOICES:
        cell[name] = {
            "mean": float(risks[:, chosen[name]].mean()),
            "standard_error": spread(resampled[name]),
            "standard_error_given_choice": deviation(risks[:, chosen[name]], ddof=1)
            / np.sqrt(len(risks)),
            "step_size": float(step_sizes[chosen[name]]),
            "objective": objective[name].mean(0).tolist(),
        }
    cell["difference"] = {
        "mean": cell[CHOICES[0]]["mean"] - cell[CHOICES[1]]["mean"],
        "standard_error": spread(resampled[CHOICES[0]] - resampled[CHOICES[1]]),
    }
    cell["risk"] = risks.mean(0).tolist()
    return cell


def _bootstrap(
    objective: dict, risks: np.ndarray, num_resamples: int = 1000
) -> dict[str, np.ndarray]:
    """The whole procedure on resampled tasks:
    which step size the tasks choose varies more than what it then gives.
    """
    rng = np.random.default_rng(0)
    num_tasks = len(risks)
    choosing, judging = rng.integers(0, num_tasks, (2, num_resamples, num_tasks))
    judged = risks[judging].mean(1)
    return {
        name: np.array(
            [judged[i, np.argmin(losses[choosing[i]].mean(0))] for i in range(num_resamples)]
        )
        for name, losses in objective.items()
    }


def _evaluate(family, objective, key, *, step_sizes, num_steps, num_tasks):
    """Final objective and `|w - w*|^2`, `[tasks, step sizes]` each;
    the step sizes share a task and its batches.
    """
    problem = inner_problem(
        family,
        constant_schedule(momentum=0.0),
        num_steps,
        objective,
        reduction="final",
        loss_clip=1e6,
    )

    def one(theta, key):
        key_start, key_steps = jax.random.split(key)

        def step(carry, i):
            state, total = carry
            state, loss = problem.step(theta, state, jax.random.fold_in(key_steps, i), problem.data)
            return (state, total + loss), None

        start = (problem.init(theta, key_start), jnp.float32(0))
        (state, total), _ = lax.scan(step, start, jnp.arange(num_steps))
        return total / num_steps, jnp.sum((state.params - state.task_params.solution) ** 2)

    thetas = encode_pair(jnp.asarray(step_sizes, jnp.float32), jnp.zeros(len(step_sizes)))
    all_step_sizes = jax.vmap(one, in_axes=(0, None))
    losses, risks = jax.jit(lambda keys: lax.map(lambda key: all_step_sizes(thetas, key), keys))(
        jax.random.split(key, num_tasks)
    )
    return np.asarray(losses, float), np.asarray(risks, float)


def _figure(step_sizes: np.ndarray, cells: list[dict]) -> Figure:
    figure = Figure(figsize=(13, 4), dpi=150, layout="constrained")
    bars, curves = figure.subplots(1, 2, width_ratios=(1.3, 1))
    positions = np.arange(len(cells))
    for offset, name, color in zip((-0.2, 0.2), CHOICES, (ORANGE, BLUE), strict=True):
        means, errors = (
            positive([cell[name][field] for cell in cells]) for field in ("mean", "standard_error")
        )
        drawn = bars.bar(
            positions + offset, means, 0.38, yerr=errors, color=color, label=name.replace("_", "-")
        )
        bars.bar_label(drawn, fmt="%.3f", fontsize=8)
    log_scale(bars, "y", *(cell[name]["mean"] for cell in cells for name in CHOICES))
    bars.set_xticks(
        positions, [f"n = {cell['num_samples']}\nsigma = {cell['noise_std']:g}" for cell in cells]
    )
    bars.set_ylabel("|w - w*|^2 on new tasks")
    bars.set_title("Few or noisy samples: validation wins; many: a tie", fontsize=10)
    legend(bars, frameon=True)
    cell = cells[min(1, len(cells) - 1)]
    for name, color in zip(CHOICES, (ORANGE, BLUE), strict=True):
        curves.plot(
            step_sizes,
            known(cell[name]["objective"]),
            color=color,
            label=f"{name.replace('_', '-')} objective",
        )
        curves.axvline(cell[name]["step_size"], color=color, linestyle=":")
    curves.plot(step_sizes, known(cell["risk"]), color="black", label="|w - w*|^2")
    log_scale(curves, "x", step_sizes)
    log_scale(
        curves, "y", *(line.get_ydata() for line in curves.lines if len(line.get_ydata()) > 2)
    )
    set_limits(curves, "y", 1e-3, 30)
    curves.set_xlabel("step size (dotted: chosen)")
    curves.set_title(f"n = {cell['num_samples']}, sigma = {cell['noise_std']:g}", fontsize=10)
    legend(curves, frameon=True)
    return figure
