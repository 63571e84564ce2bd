"""Variance of the reparameterization gradient against evolution strategies
(Metz et al. 2019, arXiv 1810.10180, Fig 4).

    learned-opt reproduce gradient_variance --out DIR

Two systems. In the double well of Fig 2 RP's variance goes from 1/16,000 of ES's to 20,000 times it
as the unroll grows from 5 to 40 steps. While a learned optimizer is outer-trained on random
quadratics by the merge of both, RP's variance grows by orders of magnitude and ES's stays where it
was. About three minutes on two cores.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import learned_opt
from learned_opt_lab.drawing.axes import known, legend, log_scale, positive
from learned_opt_lab.drawing.colors import (
    BLACK,
    BLUE,
    GREY,
    RED,
)
from learned_opt_lab.drawing.training_figures import running_median, save, tidy
from learned_opt_lab.papers.metz2019.double_well import double_well_problem
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import clip_by_global_norm, devices, inner_problem, outer_step, truncation
from outer_train.estimators import merged
from tasks.analytic import random_quadratic_family

RP, ES = "reparameterization", "evolution_strategies"


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      scale: "paper" outer-trains ten times as long.
      lengths: unroll lengths of the double well.
      num_pairs: antithetic pairs there.
      momentum: theta there.
      std: of the perturbation, on both systems.
      truncation: inner steps of an unroll of the learned optimizer, and of its episodes.
      num_outer_steps: of outer-training at the default scale.
      num_training_pairs: antithetic pairs of outer-training.
      outer_learning_rate: Adam's.
      step_multiplier: of the learned optimizer's steps; at .1 fresh theta makes smooth unrolls, at
        .3 those of some seeds are rough from the start.
      dim: of the random quadratics.
      loss_clip: of the step losses there.
      seed: of everything random.
    """

    scale: Literal["default", "paper"] = "default"
    lengths: tuple[int, ...] = (5, 10, 20, 40)
    num_pairs: int = 20_000
    momentum: float = 0.8
    std: float = 0.01
    truncation: int = 400
    num_outer_steps: int = 100
    num_training_pairs: int = 8
    outer_learning_rate: float = 3e-2
    step_multiplier: float = 0.1
    dim: int = 5
    loss_clip: float = 100.0
    seed: int = 0


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `double_well.png` and `learned_optimizer.png` to `out`;
    returns what is in the former.

    Raises:
      ValueError: for sizes out of range.
    """
    if not config.lengths or min(config.lengths) < 1 or config.num_outer_steps < 2:
        raise ValueError("lengths must be at least 1 and num_outer_steps at least 2")
    cells = Cells(out, __name__, config)
    variances = cells("double_well", lambda: double_well_variances(config))
    ratios = (variances[RP] / variances[ES]).tolist()
    rows = cells("outer_training", lambda: outer_training_variances(config))
    learned = _summary(rows)
    result = {
        "lengths": list(config.lengths),
        "var_ratio_rp_es": ratios,
        "var_rp": variances[RP].tolist(),
        "var_es": variances[ES].tolist(),
        "learned_optimizer": learned | {"rows": rows},
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    save(_double_well_figure(config, variances), out / "double_well.png")
    save(_learned_figure(rows), out / "learned_optimizer.png")
    return result


def double_well_variances(config: Config) -> dict[str, np.ndarray]:
    """Variance of one pair's gradient by both estimators, `[lengths]` each, from the same pairs."""
    estimator = merged(double_well_problem(max(config.lengths)), config.num_pairs, config.std)
    theta = jnp.float32(config.momentum)
    key_state, key = jax.random.split(jax.random.key(config.seed))
    state = estimator.init(theta, key_state)
    estimate = jax.jit(estimator.estimate)
    infos = [
        estimate(theta, state, key, jnp.int32(n), jnp.int32(n))[0].info for n in config.lengths
    ]
    return {
        name: np.asarray([info.variance[name] for info in infos], np.float64) for name in (RP, ES)
    }


def outer_training_variances(config: Config) -> list[dict[str, Any]]:
    """Outer-trains the MLP optimizer by the merge;
    variances, weights and outer loss of every outer step.

    The outer loss is the log of the final loss: quadratics let the loss itself fall by orders of
    magnitude, and with it both variances.
    """
    optimizer = learned_opt.mlp(step_multiplier=config.step_multiplier)
    family = random_quadratic_family(config.dim)
    problem = inner_problem(
        family, optimizer, config.truncation, reduction="log_final", loss_clip=config.loss_clip
    )
    estimator = merged(problem, config.num_training_pairs, config.std, devices.PARTICLES)
    step = outer_step(
        [estimator],
        optax.chain(clip_by_global_norm(1.0), optax.adam(config.outer_learning_rate)),
        truncation.constant(config.truncation),
        devices.particle_mesh(config.num_training_pairs),
    )
    key_theta, key_init, key_run = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), 1), 3
    )
    state, datas = (
        step.init(jax.device_get(optimizer.init(key_theta)), key_init),
        step.place_data((family.data,)),
    )
    rows = []
    for i in range(config.num_outer_steps * (10 if config.scale == "paper" else 1)):
        state, metrics = step.step(state, key_run, datas)
        values = jax.device_get(metrics)
        names = {"outer_loss": "outer_loss", "var_rp": f"variance_{RP}", "var_es": f"variance_{ES}"}
        names |= {"weight_rp": f"weight_{RP}", "effective_samples": "effective_samples"}
        row = {short: float(values[name]) for short, name in names.items()}
        # JSON has no infinity: a variance of None is one that a sample made infinite.
        rows.append({"outer_step": i} | {k: v if np.isfinite(v) else None for k, v in row.items()})
    return rows


def _summary(rows: list[dict]) -> dict[str, Any]:
    """Variances at the fresh theta, their medians over the last half, and how much they grew.

    A tenth at the end would be too short: from step to step RP's variance differs by orders of
    magnitude. At the start it does so from the second step on, and what it is there depends on the
    rounding.
    """

    def level(name, part):
        values = [np.inf if row[name] is None else max(row[name], 1e-30) for row in part]
        return float(np.exp(np.median(np.log(np.minimum(values, 1e38)))))

    parts = {"first": rows[:1], "last": rows[len(rows) // 2 :]}
    found = {
        f"{name}_{which}": level(name, part)
        for name in ("var_rp", "var_es")
        for which, part in parts.items()
    }
    growth = {
        f"{name}_growth": found[f"{name}_last"] / found[f"{name}_first"]
        for name in ("var_rp", "var_es")
    }
    lost = sum(row["var_rp"] is None for row in rows)
    return found | growth | {"num_infinite_rp": lost}


def _double_well_figure(config: Config, variances: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(6, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    rps, ess = positive(variances[RP]), positive(variances[ES])
    axes.plot(config.lengths, rps, "o-", color=RED, label="reparameterization")
    axes.plot(config.lengths, ess, "s-", color=BLUE, label="evolution strategies")
    log_scale(axes, "y", rps, ess)
    for length, rp, ratio in zip(config.lengths, rps, rps / ess, strict=True):
        if np.isfinite(ratio):
            axes.annotate(
                f"{ratio:.2g} x",
                (length, rp),
                xytext=(6, -10),
                textcoords="offset points",
                fontsize=8,
            )
    axes.set(xlabel="unroll length T", ylabel="variance of one pair's gradient")
    axes.set_title("Double well, momentum 0.8: RP's variance explodes with T", fontsize=10)
    legend(axes, fontsize=10)
    tidy(axes)
    return figure


def _learned_figure(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(11, 4.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["outer_step"] for row in rows]
    for name, color, label in (("var_rp", RED, RP), ("var_es", BLUE, "evolution strategies")):
        values = positive([row[name] for row in rows])
        left.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        left.plot(steps, running_median(values), color=color, linewidth=2, label=label)
    log_scale(left, "y", *(line.get_ydata() for line in left.lines))
    left.set(xlabel="outer step", ylabel="variance, mean over outer parameters")
    growth = {name: _summary(rows)[f"var_{name}_growth"] for name in ("rp", "es")}
    left.set_title(
        "Learned optimizer: median of the later half over the start,\n"
        f"RP {growth['rp']:.2g}, ES {growth['es']:.2g}",
        fontsize=10,
    )
    legend(left, fontsize=10)
    losses = known([row["outer_loss"] for row in rows])
    right.plot(steps, losses, color=GREY, alpha=0.4, linewidth=0.8)
    right.plot(steps, running_median(losses), color=BLACK, linewidth=2)
    right.set(xlabel="outer step", ylabel="outer loss (log of the final loss)")
    right.set_title("What outer-training gains meanwhile", fontsize=10)
    for axes in (left, right):
        tidy(axes)
    return figure
