"""Offline stochastic meta-descent on a decay schedule (Wu et al., ICLR 2018, arXiv 1803.02021, Figs 5 and 6).

    learned-opt reproduce offline_smd --out DIR

From a warm start, `alpha_t = alpha_0 / (1 + t / K)^beta` is fitted to the training loss after a horizon. The surface
over (alpha_0, beta) is one vmapped program, which every horizon reads off the same runs; SMD is forward mode over an
`InnerProblem`. The shorter the horizon, the faster the chosen schedule decays, and the worse it ends in the long run.
A few minutes on two cores; `--scale paper` is the paper's MNIST experiment.
"""

import dataclasses
import json
import pathlib
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from evaluation.figures import save
from experiments.offline_smd_figures import curve_figure, surface_figure
from experiments.offline_smd_summary import chosen_schedules, smd_summary
from experiments.scales import at_scale
from experiments.smd_tasks import Training, jit_over, load_data, make_training, sgd_steps
from learned_opt.schedules import Decayed, constant_schedule, encode_pair, inverse_time_schedule
from outer_train.estimators.forward_mode import forward_mode
from outer_train.problem import inner_problem
from tasks.families import fixed_family


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment; None stands for the scale's own, in `SIZES`.

    Attributes:
      scale: `"paper"` is MNIST through TFDS, with the paper's sizes.
      dataset: a name in `experiments.smd_tasks.DATASETS`.
      network: a name in `experiments.smd_tasks.NETWORKS`.
      batch_size: of training.
      num_warm_steps: before the schedule starts, at rate .1 and momentum .9.
      horizons: steps after which the training loss is the meta-objective.
      time_constant: K, in steps.
      num_points: of the surface along each axis.
      num_seeds: minibatch sequences averaged in the surface, common to all its points.
      num_smd_horizons: of the horizons, shortest first, those on which SMD runs; the paper left out the longest too.
      num_smd_starts: random starts of SMD.
      num_meta_steps: of Adam on the logs of alpha_0 and beta.
      meta_learning_rate: of Adam.
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
    num_smd_horizons: int | None = None
    num_smd_starts: int = 4
    num_meta_steps: int | None = None
    meta_learning_rate: float | None = None
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
        num_smd_horizons=2,
        num_meta_steps=800,
        meta_learning_rate=0.03,
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
        num_smd_horizons=3,
        num_meta_steps=5000,
        meta_learning_rate=0.01,
    ),
}
LOG10_RATES = (-3.0, -0.3)
LOG10_EXPONENTS = (-2.0, 2.3)


class Points(NamedTuple):
    """Schedules: log10 of alpha_0 and of beta, `[points]` each."""

    rate: np.ndarray
    exponent: np.ndarray


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `surfaces.png` and `curves.png` to `out`; returns what is in the former."""
    config = resolve(config)
    training = make_training(load_data(config.dataset)[1], config.network, config.batch_size)
    key_warm, key_surface, key_smd = jax.random.split(jax.random.key(config.seed), 3)
    warm = _warm_start(training, config, key_warm)
    rates = np.linspace(*LOG10_RATES, config.num_points)
    exponents = np.linspace(*LOG10_EXPONENTS, config.num_points)
    grid = Points(*(axis.ravel() for axis in np.meshgrid(rates, exponents, indexing="ij")))
    paths = {
        horizon: _meta_descent(training, config, warm, horizon, jax.random.fold_in(key_smd, horizon))
        for horizon in config.horizons[: config.num_smd_horizons]
    }
    ends = Points(*(np.concatenate([path[axis][-1] for path in paths.values()]) for axis in (0, 1)))
    # The ends are evaluated in the surface's own program, on its minibatches.
    points = Points(*(np.concatenate(pair) for pair in zip(grid, ends, strict=True)))
    losses = _surface(training, config, warm, points, key_surface)
    surface, at_ends = losses[:, : len(grid.rate)], losses[:, len(grid.rate) :]
    result = {
        "dataset": config.dataset,
        "horizons": chosen_schedules(config.horizons, grid, surface),
        "smd": smd_summary(config.num_smd_starts, paths, surface, at_ends),
        "loss_at_start": float(training.full_loss(warm)),
    }
    shortest, longest = result["horizons"][0], result["horizons"][-1]
    result["exponent_ratio"] = shortest["decay_exponent"] / longest["decay_exponent"]
    result["loss_ratio_at_longest"] = shortest["loss_at_longest"] / longest["loss_at_longest"]
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    save(surface_figure(config.horizons, rates, exponents, surface, paths), out / "surfaces.png")
    curves = _curves(training, config, warm, result["horizons"], key_surface)
    save(curve_figure(result["horizons"], *curves), out / "curves.png")
    return result


def resolve(config: Config) -> Config:
    """Fills in what is None from the scale's sizes.

    Raises:
      ValueError: for horizons that do not rise from at least 1.
    """
    config = at_scale(config, SIZES)
    if config.horizons[0] < 1 or list(config.horizons) != sorted(set(config.horizons)):
        raise ValueError(f"horizons must rise from at least 1, got {config.horizons}")
    return config


def _optimizer(config: Config):
    return inverse_time_schedule(0.1, 0.9, 1.0, time_constant=config.time_constant)


def _thetas(points: Points) -> Decayed:
    pair = jax.vmap(lambda rate: encode_pair(rate, 0.9))(jnp.asarray(10.0**points.rate, jnp.float32))
    return Decayed(pair, jnp.asarray(points.exponent * np.log(10), jnp.float32))


def _points(theta: Decayed) -> Points:
    effective, one_minus = (np.asarray(x, float) for x in theta.pair)
    return Points((effective + one_minus) / np.log(10), np.asarray(theta.log_decay, float) / np.log(10))


def _warm_start(training: Training, config: Config, key):
    """Weights after a short training at a constant rate: the very start of training has dynamics of its own."""
    key_init, key_steps = jax.random.split(key)
    learned = constant_schedule(0.1, 0.9)
    theta = learned.init(key_init)
    params = training.task.init(key_init)
    keys = jax.random.split(key_steps, config.num_warm_steps)
    opt_state = learned.optimizer(theta).init(params)
    steps = lambda training, *args: sgd_steps(training, learned, *args)[0]  # noqa: E731
    return jit_over(training, steps, theta, params, opt_state, keys)


def _surface(training: Training, config: Config, warm, points: Points, key) -> np.ndarray:
    """Training loss at each horizon, `[horizons, points]`: one run a point, read at all horizons."""
    learned = _optimizer(config)

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
    losses = np.asarray(jit_over(training, all_points, _thetas(points), keys), float)
    return np.where(np.isfinite(losses), losses, np.inf).mean(0).T


def _meta_descent(training: Training, config: Config, warm, horizon: int, key) -> Points:
    """SMD from random starts, Adam on forward-mode gradients: theta `[meta steps + 1, starts]`, as points."""
    task = training.task._replace(init=lambda key: warm)
    family = fixed_family(task, training.data)
    problem = inner_problem(family, _optimizer(config), horizon, "train", "final", num_loss_batches=2)
    estimator = forward_mode(problem, num_particles=1)
    adam = optax.adam(config.meta_learning_rate)
    key_start, key_steps = jax.random.split(key)
    corners = [np.array(axis)[:, None] for axis in (LOG10_RATES, LOG10_EXPONENTS)]
    shares = np.asarray(jax.random.uniform(key_start, (2, config.num_smd_starts), minval=0.1, maxval=0.8))
    thetas = _thetas(Points(*(low + (high - low) * share for (low, high), share in zip(corners, shares, strict=True))))

    def descend(training, theta, key):
        def step(carry, i):
            theta, adam_state = carry
            key_init, key_estimate = jax.random.split(jax.random.fold_in(key, i))
            state = estimator.init(theta, key_init)
            estimate, _ = estimator.estimate(theta, state, key_estimate, horizon, training.data)
            # A start where training diverges has no gradient; it waits for minibatches on which it has one.
            grad = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), estimate.grad)
            with jax.numpy_dtype_promotion("standard"):
                updates, adam_state = adam.update(grad, adam_state)
                theta = optax.apply_updates(theta, updates)
            return (theta, adam_state), theta

        _, path = lax.scan(step, (theta, adam.init(theta)), jnp.arange(config.num_meta_steps))
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), theta, path)

    over_starts = lambda training, *args: jax.vmap(partial(descend, training))(*args)  # noqa: E731
    paths = jit_over(training, over_starts, thetas, jax.random.split(key_steps, config.num_smd_starts))
    return _points(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), paths))


def _curves(training, config, warm, chosen, key, num_points: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Steps `[points]`, and the training loss there under each horizon's choice, `[horizons, points]`."""
    learned = _optimizer(config)
    points = Points(*(np.log10([row[field] for row in chosen]) for field in ("learning_rate", "decay_exponent")))
    stops = np.unique(np.geomspace(1, config.horizons[-1], num_points).astype(int))

    def one(training, theta):
        def stretch(carry, bounds):
            def step(i, carry):
                return sgd_steps(training, learned, theta, *carry, jax.random.fold_in(key, i)[None])

            carry = lax.fori_loop(bounds[0], bounds[1], step, carry)
            return carry, training.full_loss(carry[0])

        bounds = jnp.stack([jnp.asarray([0, *stops[:-1]]), jnp.asarray(stops)], 1)
        return lax.scan(stretch, (warm, learned.optimizer(theta).init(warm)), bounds)[1]

    over_points = lambda training, thetas: jax.vmap(partial(one, training))(thetas)  # noqa: E731
    return stops, np.asarray(jit_over(training, over_points, _thetas(points)))
