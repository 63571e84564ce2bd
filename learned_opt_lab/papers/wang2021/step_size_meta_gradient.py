"""Meta-gradients of a step size: F explodes and vanishes,
G does not (Wang, Yuan, Wu, Ge, arXiv 2006.16495).

    learned-opt reproduce step_size_meta_gradient --out DIR

On a random quadratic the derivative of the final loss F is exponential in the number of steps on
both sides of 2 / L; that of G = log(F) / t is not, but backpropagation computes it as (1/F) F' / t
and loses it to overflow. Meta-descent on G with the stable derivative finds the best step size.
Under a minute on two cores.

Where plain backpropagation in float32 fails on the draw of `seed=0`, which has the paper's L = 62.7
and F' = 6.7e117 at eta = .1: at eta = 1, t = 80 it gives nan, and so at every eta above 2 / L =
.0319 for long t. At eta = .02, t = 1000 it does not: that is below 2 / L, nothing overflows, and
the smallest eigenvalue, .0105, keeps .66 of its loss, so nothing vanishes; the value is -.0985, as
in closed form. Ten draws (NumPy's and JAX's generators, seeds 0, 1 and 42, start before or after
the matrix) with the steps taken in the eigenbasis, with a dense H, as integer powers and as a
matrix power, on F and on G, are all finite there. Two readings are nan: H of a 40 x 20 matrix (L =
109 > 2 / .02), and F with its powers as `exp(2 t log(1 - eta lambda))`, since two eigenvalues
exceed 1 / .02.
"""

import dataclasses
import math
import pathlib
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from scipy.special import logsumexp

from learned_opt_lab.drawing.training_figures import save
from learned_opt_lab.evaluation.statistics import lowest_known
from learned_opt_lab.papers.wang2021.step_size_meta_gradient_figures import (
    descent_figure,
    gradient_figure,
)
from learned_opt_lab.results.folder import write_result
from learned_opt_lab.results.resumable import Cells
from tasks.analytic import log_loss_after_steps, loss_after_steps


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment, the paper's at both scales.

    Attributes:
      scale: no difference here.
      dim: of the quadratic H = X^T X, X standard normal.
      num_steps: t of the meta-descent.
      horizons: t of the figure.
      long_horizons: further t at which F' is drawn, from its closed form: the smallest eigenvalue
        is .0105, so that it takes this long to vanish below 2 / L.
      num_step_sizes: eta between 1e-4 and 10.
      start: eta that meta-descent begins at.
      num_meta_steps: of size `1 / (100 sqrt k)`, eta cut at 0.
      seed: of the draw.
    """

    scale: Literal["default", "paper"] = "default"
    dim: int = 20
    num_steps: int = 80
    horizons: tuple[int, ...] = (10, 80, 1000, 10_000)
    long_horizons: tuple[int, ...] = (100_000, 1_000_000)
    num_step_sizes: int = 300
    start: float = 0.1
    num_meta_steps: int = 1000
    seed: int = 0


class Draw(NamedTuple):
    """A quadratic in its eigenbasis, `[dim]` each, rounded to float32."""

    eigenvalues: np.ndarray
    coefficients: np.ndarray


def draw_quadratic(dim: int, seed: int) -> Draw:
    """H = X^T X with X and the start standard normal."""
    rng = np.random.default_rng(seed)
    matrix, start = rng.standard_normal((dim, dim)), rng.standard_normal(dim)
    eigenvalues, vectors = np.linalg.eigh(matrix.T @ matrix)
    return Draw(eigenvalues.astype(np.float32), (vectors.T @ start).astype(np.float32))


def closed_form(
    draw: Draw, step_sizes: np.ndarray, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """G and G' in NumPy's longest float; `[step sizes]` each."""
    lam, c = (x.astype(np.longdouble) for x in draw)
    factor = 1 - np.asarray(step_sizes, np.longdouble)[:, None] * lam
    safe = np.where(factor == 0, 1, factor)
    log_terms = np.log(c**2 * lam / 2) + 2 * num_steps * np.log(np.abs(safe))
    log_terms = np.where(factor == 0, -np.inf, log_terms)
    log_loss = logsumexp(log_terms, axis=1)
    shares = np.exp(log_terms - log_loss[:, None])
    return log_loss / num_steps, np.sum(shares * -2 * lam / safe, axis=1)


def run(config: Config, out: pathlib.Path) -> dict:
    """Writes `result.json`, `meta_gradient.png` and `meta_descent.png` to `out`;
    returns what is in the former.
    """
    draw = draw_quadratic(config.dim, config.seed)
    step_sizes = np.geomspace(1e-4, 10, config.num_step_sizes).astype(np.float32)
    cells = Cells(out, __name__, config, _Row)
    rows = {
        n: cells(f"gradient_{n}", lambda n=n: _compare(draw, step_sizes, n))
        for n in config.horizons
    }
    log_naive = {
        n: _log10_naive(draw, step_sizes, n) for n in (*config.horizons, *config.long_horizons)
    }
    paths, best = cells("meta_descent", lambda: _meta_descent(config, draw))
    points = ((1.0, 80), (0.1, 80), (0.1, 1000), (0.02, 1000))
    result = {
        "largest_eigenvalue": float(draw.eigenvalues[-1]),
        "two_over_largest_eigenvalue": 2 / float(draw.eigenvalues[-1]),
        "at_start": _at_start(draw, config),
        "gradient": [row.summary for row in rows.values()],
        "log10_naive_gradient": [_extremes(draw, step_sizes, *each) for each in log_naive.items()],
        "backpropagation": cells(
            "backpropagation", lambda: [_backpropagate(draw, *point) for point in points]
        ),
        "growth_of_naive_gradient": _growth(draw),
        "meta_descent": {name: _printable(path[-1]) for name, path in paths.items()},
        "best_step_size": best,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / "result.json", result)
    figure = gradient_figure(2 / draw.eigenvalues[-1], step_sizes, rows, log_naive)
    save(figure, out / "meta_gradient.png")
    save(descent_figure(paths, best), out / "meta_descent.png")
    return result


class _Row(NamedTuple):
    """One horizon: G' in closed form, stable, and by backpropagation in 32 and 64 bit,
    `[step sizes]`.
    """

    closed: np.ndarray
    backprop32: np.ndarray
    backprop64: np.ndarray
    summary: dict


def _compare(draw: Draw, step_sizes: np.ndarray, num_steps: int) -> _Row:
    closed = closed_form(draw, step_sizes, num_steps)[1]
    with_reciprocals = np.concatenate([step_sizes, 1 / draw.eigenvalues])
    slopes = np.asarray(_stable_slopes(*draw, with_reciprocals, num_steps))
    stable, at_reciprocals = np.split(slopes, [len(step_sizes)])
    back32 = _slopes(_log_of_naive, draw, step_sizes, num_steps)
    with jax.enable_x64(True):
        back64 = _slopes(_log_of_naive, draw, step_sizes, num_steps)
    summary = {
        "num_steps": num_steps,
        "stable_max_error": float(np.max(np.abs(stable - closed) / np.maximum(1, np.abs(closed)))),
        "stable_finite_at_reciprocal_eigenvalues": bool(np.all(np.isfinite(at_reciprocals))),
        "backprop32_share_lost": _share_lost(back32, closed),
        "backprop64_share_lost": _share_lost(back64, closed),
    }
    return _Row(closed.astype(float), back32, back64, summary)


def _log10_naive(draw: Draw, step_sizes: np.ndarray, num_steps: int) -> np.ndarray:
    """log10 |F'|: F' = t F G' overflows any float, so its log is what can be shown."""
    value, closed = closed_form(draw, step_sizes, num_steps)
    logs = np.log(num_steps) + num_steps * value + np.log(np.abs(closed))
    return (logs / np.log(10)).astype(float)


def _extremes(draw: Draw, step_sizes: np.ndarray, num_steps: int, values: np.ndarray) -> dict:
    """The least |F'| below 2 / L and the largest above."""
    below = step_sizes < 2 / draw.eigenvalues[-1]
    return {
        "num_steps": num_steps,
        "least_below_two_over_L": float(values[below].min()),
        "largest_above": float(values[~below].max()),
    }


def _share_lost(slopes, closed) -> float:
    """Share of step sizes whose gradient is not a number, or 0 where it should not be."""
    return float(np.mean(~np.isfinite(slopes) | ((slopes == 0) & (np.abs(closed) > 1e-6))))


def _log_of_naive(eigenvalues, coefficients, step_size, num_steps):
    return jnp.log(loss_after_steps(eigenvalues, coefficients, step_size, num_steps)) / num_steps


def _log_by_logarithms(eigenvalues, coefficients, step_size, num_steps):
    """G in closed form with real powers, which negative factors do not have."""
    powers = jnp.exp(2 * num_steps * jnp.log(1 - step_size * eigenvalues))
    return jnp.log(jnp.sum(coefficients**2 * eigenvalues / 2 * powers)) / num_steps


def _slopes(objective, draw, step_sizes, num_steps) -> np.ndarray:
    slope = jax.jit(jax.vmap(jax.grad(lambda eta: objective(*draw, eta, num_steps))))
    return np.asarray(slope(jnp.asarray(step_sizes, jnp.result_type(float))))


_stable_slopes = jax.jit(jax.vmap(jax.grad(log_loss_after_steps, 2), (None, None, 0, None)))
"""G' at `[step sizes]`; t is traced, so that one compilation serves all horizons."""


def _backpropagate(draw, step_size, num_steps) -> dict:
    """G' by backpropagation through log F, in both precisions, beside the truth."""
    row = {"step_size": step_size, "num_steps": num_steps}
    row["closed_form"] = float(
        closed_form(draw, np.array([np.float32(step_size)]), num_steps)[1][0]
    )
    row["stable"] = float(_stable_slopes(*draw, np.array([step_size], np.float32), num_steps)[0])
    row["float32"] = _printable(_slopes(_log_of_naive, draw, np.array([step_size]), num_steps)[0])
    row["float32_by_logarithms"] = _printable(
        _slopes(_log_by_logarithms, draw, np.array([step_size]), num_steps)[0]
    )
    with jax.enable_x64(True):
        row["float64"] = _printable(
            _slopes(_log_of_naive, draw, np.array([step_size]), num_steps)[0]
        )
    return row


def _at_start(draw: Draw, config: Config) -> dict:
    value, slope = closed_form(draw, np.array([config.start]), config.num_steps)
    naive = config.num_steps * np.exp(config.num_steps * value[0]) * slope[0]
    return {
        "step_size": config.start,
        "naive_gradient": float(naive),
        "log_gradient": float(slope[0]),
    }


def _growth(draw: Draw) -> list[dict]:
    """Rate of log |F'| in t, between two long horizons, against 2 log max |1 - eta lambda|."""
    rows = []
    for relative in (0.5, 0.9, 1.1, 2.0):
        step_size = relative * 2 / float(draw.eigenvalues[-1])
        logs = []
        for num_steps in (20_000, 40_000):
            value, slope = closed_form(draw, np.array([step_size]), num_steps)
            logs.append(float(np.log(num_steps) + num_steps * value[0] + np.log(np.abs(slope[0]))))
        limit = 2 * math.log(np.max(np.abs(1 - step_size * draw.eigenvalues.astype(float))))
        rows.append(
            {
                "step_size_times_L_over_2": relative,
                "rate": (logs[1] - logs[0]) / 20_000,
                "limit": limit,
            }
        )
    return rows


def _meta_descent(config: Config, draw: Draw):
    """Paths `[meta steps + 1]` of eta,
    and the step size with the least loss (by golden section on G).
    """
    objectives = {
        "log, stable": (log_loss_after_steps, False),
        "log, backpropagation, 32 bit": (_log_of_naive, False),
        "final loss F, 64 bit": (loss_after_steps, True),
    }
    paths = {}
    for name, (objective, wide) in objectives.items():
        with jax.enable_x64(wide):
            paths[name] = np.asarray(_descend(objective, config, draw))
    grid = np.linspace(0, 2 / draw.eigenvalues[-1].astype(float), 20_001)[1:]
    return paths, float(
        grid[lowest_known(closed_form(draw, grid, config.num_steps)[0], "loss of the grid")]
    )


def _descend(objective, config: Config, draw: Draw) -> Array:
    slope = jax.grad(lambda eta: objective(*draw, eta, config.num_steps))

    @jax.jit
    def path(eta):
        def step(eta, k):
            eta = jnp.maximum(eta - slope(eta) / (100 * jnp.sqrt(k)), 0)
            return eta, eta

        return lax.scan(step, eta, jnp.arange(1, config.num_meta_steps + 1, dtype=eta.dtype))[1]

    start = jnp.asarray(config.start, jnp.result_type(float))
    return jnp.concatenate([start[None], path(start)])


def _printable(x):
    """JSON has no nan and no infinity."""
    return float(x) if np.isfinite(x) else str(float(x))
