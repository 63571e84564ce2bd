"""Offline stochastic meta-descent on a decay schedule
(Wu et al., ICLR 2018, arXiv 1803.02021, Figs 5 and 6).

    learned-opt reproduce offline_smd --out DIR

From a warm start, `alpha_t = alpha_0 / (1 + t / K)^beta` is fitted to the training loss after a
horizon. The surface over (alpha_0, beta) is one vmapped program, which every horizon reads off the
same runs; SMD is forward mode over an `UnrolledSystem`. The shorter the horizon, the faster the
chosen schedule decays, and the worse it ends in the long run. In a second descent the momentum is
learned too, as in the workshop version. Seven CPU minutes; `--scale paper` is the paper's MNIST
experiment.

Seen at the default size: the exponents chosen at 20, 100, 500 and 2,000 steps are 3.8, 7.4, .14 to
.52 by the machine, and .019 (shortest over longest: 196); what is chosen at 20 steps ends some 500
times above the minimum at 2,000. The medians of SMD's four ends are 1.02, 1.2, 1.7 and 1.6 times
the surface's minimum, where diverged training is 30 to 80,000 times above it.

An exponent is what it does to the rate by the horizon: of alpha_0 the four leave 86, 26, 70 to 91
and 97 % (`rate_left`), so they need not fall one by one. At 20 steps, a twenty-fifth of K, those
from .01 to 53 end within 5 % of each other (`exponents_as_good`).

The minima of the longer horizons lie at the edge of stability, beyond which gradients through the
training are noise. There SMD needs what `smd_decay.meta_descent` adds to it: without it Adam's
steps freeze before the edge, at 6.1 times the minimum for 500 steps and 14.5 times for 2,000; with
clipped gradients alone three of four starts run over the edge.
"""

import dataclasses
import pathlib
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from learned_opt.hand_designed import constant_schedule
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.papers.scales import at_scale
from learned_opt_lab.papers.wu2018.meta_descent.offline_smd_figures import (
    curve_figure,
    surface_figure,
)
from learned_opt_lab.papers.wu2018.meta_descent.offline_smd_summary import (
    chosen_schedules,
    momentum_summary,
    ratio_intervals,
    smd_summary,
)
from learned_opt_lab.papers.wu2018.meta_descent.smd_decay import (
    LOG10_EXPONENTS,
    LOG10_RATES,
    Decay,
    Points,
    decaying_sgd,
    ends_of,
    falling_rates,
    meta_descent,
    points_of,
    random_starts,
    thetas_of,
    with_momentum,
)
from learned_opt_lab.papers.wu2018.meta_descent.smd_tasks import (
    Training,
    jit_over,
    load_data,
    make_training,
    sgd_steps,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment; what is not given is the scale's own.

    Attributes:
      scale: `"paper"` is MNIST through TFDS, with the paper's sizes.
      dataset: a name in `learned_opt_lab.papers.wu2018.meta_descent.smd_tasks.DATASETS`.
      network: a name in `learned_opt_lab.papers.wu2018.meta_descent.smd_tasks.NETWORKS`.
      batch_size: of training.
      num_warm_steps: before the schedule starts, at rate .1 and momentum .9.
      horizons: steps after which the training loss is the meta-objective.
      time_constant: K, in steps.
      num_points: of the surface along each axis.
      num_seeds: minibatch sequences averaged in the surface, common to all its points.
      num_smd_starts: random starts of SMD.
      num_meta_steps: of SMD at each horizon, shortest first; a horizon beyond the last has none, as
        in the paper.
      meta_learning_rates: of SMD at each of these, at its start.
      learn_momentum: descend once more from the same starts with the momentum, as in the workshop
        version.
      seed: of everything.
    """

    scale: Literal["default", "paper"] = "default"
    dataset: str | None = None
    network: str | None = None
    batch_size: int | None = None
    num_warm_steps: int = 50
    horizons: tuple[int, ...] | None = None
    time_constant: float | None = None
    num_points: int | None = None
    num_seeds: int | None = None
    num_smd_starts: int = 4
    num_meta_steps: tuple[int, ...] | None = None
    meta_learning_rates: tuple[float, ...] | None = None
    learn_momentum: bool = True
    seed: int = 0


SIZES = {
    "default": Config(
        dataset="digits",
        network="mlp_32_32",
        batch_size=50,
        horizons=(20, 100, 500, 2000),
        time_constant=500.0,
        num_points=16,
        num_seeds=4,
        num_meta_steps=(300, 600, 200, 120),
        meta_learning_rates=(0.1, 0.1, 0.1, 0.2),
    ),
    "paper": Config(
        scale="paper",
        dataset="mnist",
        network="mlp_100_100",
        batch_size=100,
        horizons=(100, 1000, 5000, 20_000),
        time_constant=5000.0,
        num_points=50,
        num_seeds=1,
        num_meta_steps=(5000, 5000, 5000),
        meta_learning_rates=(0.01, 0.01, 0.01),
    ),
}


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `surfaces.png` and `curves.png` to `out`;
    returns what is in the former.
    """
    given, config = config, resolve(config)
    training = make_training(load_data(config.dataset)[1], config.network, config.batch_size)
    key_warm, key_surface, key_smd = jax.random.split(jax.random.key(config.seed), 3)
    cells = Cells(out, __name__, given, Decay, data=training.data)
    warm = cells("warm_start", lambda: _warm_start(training, config, key_warm))
    rates = np.linspace(*LOG10_RATES, config.num_points)
    exponents = np.linspace(*LOG10_EXPONENTS, config.num_points)
    grid = Points(*(axis.ravel() for axis in np.meshgrid(rates, exponents, indexing="ij")))
    descended = _paths(training, config, warm, key_smd, cells.within("descents"))
    paths = {horizon: points_of(path) for horizon, path in descended.items()}
    over = lambda thetas: _surfaces(training, config, warm, thetas, key_surface)
    # The ends are evaluated in the surface's own program, on its minibatches.
    points = jax.tree.map(lambda *pair: np.concatenate(pair), thetas_of(grid), ends_of(descended))
    losses = cells("surface", lambda: over(points))
    of_seeds = losses[:, :, : len(grid.rate)]
    surface, at_ends = of_seeds.mean(0), losses[:, :, len(grid.rate) :].mean(0)
    result = {
        "dataset": config.dataset,
        "horizons": chosen_schedules(config.horizons, grid, of_seeds, config.time_constant),
        "smd": smd_summary(config.num_smd_starts, paths, surface, at_ends),
        "loss_at_start": float(training.full_loss(warm)),
        "intervals": ratio_intervals(grid, of_seeds),
    }
    shortest, longest = result["horizons"][0], result["horizons"][-1]
    result["exponent_ratio"] = shortest["decay_exponent"] / longest["decay_exponent"]
    result["loss_ratio_at_longest"] = shortest["loss_at_longest"] / longest["loss_at_longest"]
    if config.learn_momentum:
        joint = _paths(training, config, warm, key_smd, cells.within("joint_descents"), True)
        at_ends = cells("joint_surface", lambda: over(ends_of(joint))).mean(0)
        result["smd_with_momentum"] = momentum_summary(joint, at_ends, result["smd"])
    rows = result["horizons"]
    curves = cells("curves", lambda: _curves(training, config, warm, rows, key_surface))
    for row, curve in zip(rows, curves[-1], strict=True):
        row["test_error_at_longest"] = float(curve[-1])
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    save(surface_figure(config.horizons, rates, exponents, surface, paths), out / "surfaces.png")
    save(curve_figure(rows, *curves), out / "curves.png")
    return result


def resolve(config: Config) -> Config:
    """Fills in what is None from the scale's sizes.

    Raises:
      ValueError: for horizons that do not rise from at least 1, or meta-steps that do not belong to
        them.
    """
    config = at_scale(config, SIZES)
    if config.horizons[0] < 1 or list(config.horizons) != sorted(set(config.horizons)):
        raise ValueError(f"horizons must rise from at least 1, got {config.horizons}")
    counts = config.num_meta_steps
    if min(counts, default=0) < 1 or not len(config.meta_learning_rates) == len(counts) <= len(
        config.horizons
    ):
        raise ValueError(
            "num_meta_steps must be at least 1 and, like meta_learning_rates, one a horizon, "
            "shortest first, "
            f"got {counts}, {config.meta_learning_rates} and {len(config.horizons)} horizons"
        )
    return config


def _warm_start(training: Training, config: Config, key):
    """Weights after a short training at a constant rate:
    the very start of training has dynamics of its own.
    """
    key_init, key_steps = jax.random.split(key)
    learned = constant_schedule(0.1, 0.9)
    theta = learned.init(key_init)
    params = training.task.init(key_init)
    keys = jax.random.split(key_steps, config.num_warm_steps)
    opt_state = learned.optimizer(theta).init(params)
    steps = lambda training, *args: sgd_steps(training, learned, *args)[0]
    return jit_over(training, steps, theta, params, opt_state, keys)


def _surfaces(training: Training, config: Config, warm, thetas: Decay, key) -> np.ndarray:
    """Training loss at each horizon, `[seeds, horizons, points]`:
    one run a point and seed, read at all horizons.
    """
    learned = decaying_sgd(config.time_constant)

    def one(training, theta, key):
        params, opt_state, losses = warm, learned.optimizer(theta).init(warm), []
        for start, stop in zip((0, *config.horizons), config.horizons, strict=False):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(start, stop))
            params, opt_state = sgd_steps(training, learned, theta, params, opt_state, keys)
            losses.append(training.full_loss(params))
        return jnp.stack(losses)

    def all_points(training, thetas, keys):
        return lax.map(lambda key: jax.vmap(lambda theta: one(training, theta, key))(thetas), keys)

    keys = jax.random.split(key, config.num_seeds)
    losses = np.asarray(jit_over(training, all_points, thetas, keys), float)
    return np.where(np.isfinite(losses), losses, np.inf).swapaxes(1, 2)


def _paths(
    training: Training, config: Config, warm, key, cells: Cells, jointly: bool = False
) -> dict[int, Decay]:
    """SMD at each horizon that has meta-steps: horizon -> paths, leaves `[meta steps + 1, starts]`.

    Args:
      training: the task.
      config: of the experiment.
      warm: weights every training starts from.
      key: of starts and minibatches.
      cells: of these descents.
      jointly: descend with the momentum, from the same starts.
    """
    paths = {}
    for i, horizon in enumerate(config.horizons[: len(config.num_meta_steps)]):
        key_start, key_steps = jax.random.split(jax.random.fold_in(key, horizon))
        starts = thetas_of(random_starts(key_start, config.num_smd_starts))
        paths[horizon] = meta_descent(
            training,
            decaying_sgd(config.time_constant),
            warm,
            horizon,
            with_momentum(starts) if jointly else starts,
            falling_rates(config.meta_learning_rates[i], config.num_meta_steps[i]),
            key_steps,
            cells.within(str(horizon)),
        )
    return paths


def _curves(
    training, config, warm, chosen, key, num_points: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps `[points]`, and the training loss and the test error there under each horizon's choice,
    `[horizons, points]` each.
    """
    learned = decaying_sgd(config.time_constant)
    points = Points(
        *(np.log10([row[field] for row in chosen]) for field in ("learning_rate", "decay_exponent"))
    )
    stops = np.unique(np.geomspace(1, config.horizons[-1], num_points).astype(int))

    def one(training, theta):
        def stretch(carry, bounds):
            def step(i, carry):
                return sgd_steps(training, learned, theta, *carry, jax.random.fold_in(key, i)[None])

            carry = lax.fori_loop(bounds[0], bounds[1], step, carry)
            return carry, (training.full_loss(carry[0]), training.test_error(carry[0]))

        bounds = jnp.stack([jnp.asarray([0, *stops[:-1]]), jnp.asarray(stops)], 1)
        return lax.scan(stretch, (warm, learned.optimizer(theta).init(warm)), bounds)[1]

    over_points = lambda training, thetas: jax.vmap(partial(one, training))(thetas)
    losses, errors = jit_over(training, over_points, thetas_of(points))
    return stops, np.asarray(losses), np.asarray(errors)
