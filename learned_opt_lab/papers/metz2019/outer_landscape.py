"""Outer losses grow rougher with the length
of the unroll (Metz et al. 2019, arXiv 1810.10180, Fig 2).

    learned-opt reproduce outer_landscape --out DIR

Panels a-c: momentum in a double well, where the final loss jumps between two minima as theta, the
momentum, grows. Panel d: trajectories of a small network under nearby learning rates of Adam, and
how far they part in several such networks. Panels e and f: slices through theta of a learned
optimizer after 5, 10 and 20 unrolls. About two minutes on two cores.

A second figure, for appendix B, is the double well's loss over the learning rate at momentum 0.9:
local minima over the rate become 3, 5, 14, 25 and 36 after 5, 10, 20, 50 and 100 steps.
"""

import dataclasses
import pathlib
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from learned_opt.hand_designed import hyperparameters
from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.papers.metz2019.double_well import BARRIER, positions, rate_landscape
from learned_opt_lab.papers.metz2019.learned_slices import Slices, theta_slices
from learned_opt_lab.papers.metz2019.outer_landscape_figures import (
    landscape_figure,
    rate_figure,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from outer_train import UnrolledSystem, inner_problem
from tasks import TaskFamily
from tasks.analytic import double_well_loss
from tasks.images import MLP, class_subset_family, digits


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      scale: "paper" draws the slices four times as finely.
      num_settle_steps: steps until the double well's end state is read.
      lengths: unroll lengths T of panel c.
      spacing: of the momenta in [0, .99].
      well_rates: range of the learning rates of the second figure, log-spaced.
      num_well_rates: how many.
      well_momentum: of that figure.
      num_rates: learning rates of Adam in panel d, log-spaced.
      rates: their range, the paper's.
      num_adam_steps: steps of panel d.
      num_networks: initial weights and sequences of batches of panel d, which shows the one in the
        middle.
      hidden_size: of the network's hidden layer.
      batch_size: of its batches.
      unrolls: truncations after which panels e and f look at the loss.
      unroll_length: inner steps of one.
      num_outer_steps: outer steps that the learned optimizer is trained for first.
      num_points: thetas on the line of panel e.
      grid: thetas on a side of the squares of panel f.
      extent: of the slices, in units of theta's norm.
      seed: of everything random.
    """

    scale: Literal["default", "paper"] = "default"
    num_settle_steps: int = 2000
    lengths: tuple[int, ...] = (5, 10, 20, 50, 100)
    spacing: float = 1e-3
    well_rates: tuple[float, float] = (1e-3, 0.03)
    num_well_rates: int = 2001
    well_momentum: float = 0.9
    num_rates: int = 100
    rates: tuple[float, float] = (0.1469, 0.1484)
    num_adam_steps: int = 40
    num_networks: int = 8
    hidden_size: int = 32
    batch_size: int = 32
    unrolls: tuple[int, ...] = (5, 10, 20)
    unroll_length: int = 5
    num_outer_steps: int = 100
    num_points: int = 201
    grid: int = 21
    extent: float = 0.2
    seed: int = 0


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `figure_2.png` and `learning_rates.png` to `out`;
    returns what is in the former.

    Raises:
      ValueError: for sizes out of range.
    """
    if (
        not 0 < config.spacing < 0.99
        or min(*config.lengths, *config.unrolls, config.grid, config.num_points) < 2
    ):
        raise ValueError(
            "spacing must lie in (0, .99), and lengths, unrolls, grid and num_points must be at "
            "least 2"
        )
    counts = min(config.num_adam_steps, config.num_networks)
    if min(config.num_rates, config.num_well_rates) < 2 or counts < 1:
        raise ValueError(
            "num_rates and num_well_rates must be at least 2, num_adam_steps and num_networks at "
            "least 1"
        )
    key_adam, key_slices = jax.random.split(jax.random.key(config.seed))
    family = _digits_family(config)
    cells = Cells(out, __name__, config, Slices, data=family.data)
    well = cells("double_well", lambda: double_well(config))
    rates = cells("double_well_rates", lambda: double_well_rates(config))
    paths, divergence = cells("adam", lambda: adam_divergence(config, family, key_adam))
    slices = cells("slices", lambda: _slices(config, family, key_slices))
    result = {
        "double_well": well["numbers"],
        "double_well_rates": rates["numbers"],
        "adam": divergence,
        "learned_optimizer": _slice_numbers(config, slices),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    save(landscape_figure(config, well, paths, slices), out / "figure_2.png")
    save(rate_figure(config.well_momentum, rates), out / "learning_rates.png")
    return result


def double_well(config: Config) -> dict[str, Any]:
    """Panels a-c, in 64 bits: trajectories, final losses and the numbers that describe them.

    Returns:
      `momenta` `[n]`, `paths` `[n, steps]`, `final_losses` length -> `[n]`, and `numbers` for
      `result.json`.
    """
    with jax.enable_x64(True):
        momenta = jnp.arange(0, 0.99 + config.spacing / 2, config.spacing)
        paths = np.asarray(
            jax.jit(jax.vmap(lambda theta: positions(theta, config.num_settle_steps)))(momenta)
        )
        final_losses, slopes = {}, {}
        for length in config.lengths:
            final = lambda theta, n=length: double_well_loss(positions(theta, n)[-1])
            losses, grads = jax.jit(jax.vmap(jax.value_and_grad(final)))(momenta)
            final_losses[length], slopes[length] = (
                np.asarray(losses),
                float(jnp.max(jnp.abs(grads))),
            )
        ends = paths[:, -1]
        far = ends > BARRIER
        numbers = {
            "minima": [float(np.median(ends[~far])), float(np.median(ends[far]))],
            "minimum_losses": [
                float(double_well_loss(np.median(ends[side]))) for side in (~far, far)
            ],
            "first_switch": _first_switch(config, np.asarray(momenta), far),
            "num_switches": int(np.sum(far[1:] != far[:-1])),
            "max_abs_gradient": {str(length): slope for length, slope in slopes.items()},
        }
    return {
        "momenta": np.asarray(momenta),
        "paths": paths,
        "final_losses": final_losses,
        "numbers": numbers,
    }


def _first_switch(config: Config, momenta, far) -> float:
    """The lowest momentum that ends in the far minimum, by bisection between two of the grid."""
    above = int(np.argmax(far))
    low, high = float(momenta[above - 1]), float(momenta[above])
    end = jax.jit(lambda theta: positions(theta, config.num_settle_steps)[-1])
    for _ in range(20):
        middle = (low + high) / 2
        if end(jnp.float64(middle)) > BARRIER:
            high = middle
        else:
            low = middle
    return high


def double_well_rates(config: Config) -> dict[str, Any]:
    """The second figure: what `rate_landscape` gives, with the local minima of each length."""
    rates = np.geomspace(*config.well_rates, config.num_well_rates)
    well = rate_landscape(rates, config.well_momentum, config.lengths, config.num_settle_steps)
    minima = {str(n): local_minima(losses) for n, losses in well["final_losses"].items()}
    return well | {"numbers": well["numbers"] | {"local_minima": minima}}


def _digits_family(config: Config) -> TaskFamily:
    data = digits()
    module = MLP(hidden_sizes=(config.hidden_size,), num_classes=10)
    return class_subset_family(data, module, 10, tuple(range(10)), config.batch_size)


def adam_divergence(config: Config, family: TaskFamily, key) -> tuple[np.ndarray, dict[str, Any]]:
    """Panel d: one network, one sequence of batches, many nearby learning rates;
    and that for several networks.

    How far the paths part differs much from network to network (in 32 units from 2 to 30 times as
    far as paths that keep their shape), so one of them shows little: numbers are medians over
    networks, and the median one is drawn.

    Returns:
      Two random projections of its parameters, `[rates, steps + 1, 2]`; and the spread of the
      rates' parameters around their mean over the distance from the start, after the first and the
      last step. Paths that differ in their length only keep that of the first step.
    """
    rates = np.geomspace(*config.rates, config.num_rates)
    fixed = hyperparameters.adam(config.rates[0])
    problem = inner_problem(family, fixed, config.num_adam_steps)
    theta = fixed.init(key)
    over_networks = jax.jit(
        lambda keys, *args: jax.lax.map(
            lambda key: _network_paths(problem, theta, key, *args), keys
        )
    )
    keys, log_rates = (
        jax.random.split(key, config.num_networks),
        jnp.log(jnp.asarray(rates, jnp.float32)),
    )
    paths, spreads = (np.asarray(part) for part in over_networks(keys, log_rates, problem.data))
    of_networks = {str(t): spreads[:, t - 1].tolist() for t in (1, config.num_adam_steps)}
    numbers = {
        "relative_rate_range": float(rates[-1] / rates[0] - 1),
        "relative_spread": {t: float(np.median(values)) for t, values in of_networks.items()},
        "relative_spread_of_networks": of_networks,
    }
    return paths[np.argsort(spreads[:, -1])[config.num_networks // 2]], numbers


def _network_paths(problem: UnrolledSystem, theta, key, log_rates, data):
    """Projected paths `[rates, steps + 1, 2]` of one network,
    and their relative spread `[steps]`.
    """
    key_state, key_steps, key_projection = jax.random.split(key, 3)

    def path(log_rate):
        thetas = {**theta, "log_learning_rate": log_rate}

        def step(state, i):
            state, _ = problem.step(thetas, state, jax.random.fold_in(key_steps, i), data)
            return state, ravel_pytree(state.params)[0]

        state = problem.init(thetas, key_state)
        params = jax.lax.scan(step, state, jnp.arange(problem.num_steps, dtype=jnp.int32))[1]
        return jnp.concatenate([ravel_pytree(state.params)[0][None], params])

    params = jax.vmap(path)(log_rates)
    spread = jnp.linalg.norm(params - jnp.mean(params, axis=0), axis=-1).mean(axis=0)
    moved = jnp.linalg.norm(params - params[:, :1], axis=-1).mean(axis=0)
    directions = jax.random.normal(key_projection, (params.shape[-1], 2)) / np.float32(
        np.sqrt(params.shape[-1])
    )
    return params @ directions, spread[1:] / moved[1:]


def _slices(config: Config, family: TaskFamily, key) -> Slices:
    """Panels e and f."""
    fine = 4 if config.scale == "paper" else 1
    return theta_slices(
        family,
        unroll_length=config.unroll_length,
        unrolls=config.unrolls,
        num_outer_steps=config.num_outer_steps,
        num_points=fine * (config.num_points - 1) + 1,
        grid=fine * (config.grid - 1) + 1,
        extent=config.extent,
        key=key,
    )


def _slice_numbers(config: Config, slices: Slices) -> dict[str, Any]:
    return {
        "unroll_length": config.unroll_length,
        "outer_loss_of_training": slices.training_losses,
        "roughness": {str(n): roughness(losses) for n, losses in slices.line.items()},
        "range": {
            str(n): [float(losses.min()), float(losses.max())] for n, losses in slices.line.items()
        },
        "local_minima": {str(n): local_minima(losses) for n, losses in slices.line.items()},
    }


def roughness(losses: np.ndarray) -> float:
    """Total absolute second difference of a curve over its range:
    at most 2 or so if it bends once.
    """
    return float(np.abs(np.diff(losses, n=2)).sum() / max(np.ptp(losses), 1e-12))


def local_minima(losses: np.ndarray) -> int:
    """Inner points of a curve that lie below both neighbours."""
    return int(np.sum((losses[1:-1] < losses[:-2]) & (losses[1:-1] < losses[2:])))
