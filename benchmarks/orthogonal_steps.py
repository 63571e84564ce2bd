"""How long an orthogonal step should be: of a fixed length, or as long as its direction.

    python benchmarks/orthogonal_steps.py digits

Adam's direction or plain momentum, its polar factor for hidden matrices, at a constant rate and on
half a cosine, beside Adam: the mean validation loss of the best of 16 pairs of rates. Tasks are
those of `quickstart` (`digits`, 300 steps, eight runs) or the transformer on text that is among the
families of `general` (`text`, 1,000 steps, three runs). Some two minutes each on two cores.
"""

import itertools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import general, quickstart
from learned_opt import tensor_kinds
from learned_opt.orthogonal import orthogonalised
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.runs.families import build_family

TASKS = {
    "digits": (quickstart.config.family, 300, 8),
    "text": (general.config.extra_families[9], 1000, 3),
}
MATRIX_RATES, OTHER_RATES, ADAM_RATES = (
    (0.02, 0.05, 0.1, 0.2),
    (0.003, 0.01, 0.03, 0.06),
    (1e-3, 3e-3, 1e-2, 2e-2, 3e-2),
)
B1, B2 = 0.9, 0.99


def rule(
    rates: Any, num_steps: int, *, of_momentum: bool, is_fixed: bool, is_annealed: bool
) -> optax.GradientTransformationExtraArgs:
    """One frame: `rates` are of matrices and of all else."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return jnp.zeros(()), zeros, zeros

    def update(gradients, state, params=None, **extra):
        del extra
        count, momenta, seconds = state
        momenta = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, momenta, gradients)
        seconds = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, seconds, gradients)
        done = count / num_steps
        share = 0.5 + 0.5 * jnp.cos(jnp.pi * done) if is_annealed else 1.0

        def step(kind, m, v):
            root = jnp.sqrt(v / (1 - B2 ** (count + 1))) + 1e-12
            adam = m / (1 - B1 ** (count + 1)) / root
            if kind != "matrix":
                return -share * rates[1] * adam
            matrix = (m if of_momentum else adam).reshape(-1, m.shape[-1])
            length = 1.0 if is_fixed else jnp.sqrt(jnp.mean(adam * adam))
            scale = max(1.0, matrix.shape[1] / matrix.shape[0]) ** 0.5
            return -share * rates[0] * length * scale * orthogonalised(matrix).reshape(m.shape)

        steps = jax.tree.map(step, tensor_kinds(params), momenta, seconds)
        return steps, (count + 1, momenta, seconds)

    return optax.GradientTransformationExtraArgs(init, update)


def main(name: str) -> None:
    """Prints the rows of the table."""
    family, num_steps, num_runs = TASKS[name]
    family, runs = build_family(family)[0], make_runs(jax.random.key(0), num_runs)

    def best(label: str, factory: Callable, rates: Any) -> None:
        sweep = make_sweep(
            family, factory, num_steps=num_steps, splits=("outer_valid",), eval_every=10
        )
        losses = np.asarray(sweep(rates, runs)["outer_valid"]["loss"])[..., 1:]
        means = np.minimum(losses, 10.0).mean(axis=(1, 2))
        chosen = int(means.argmin())
        at = jax.tree.map(lambda x: round(float(x[chosen]), 4), rates)
        print(f"{label:<44} {means[chosen]:.4f}  at {at}", flush=True)

    pairs = np.array(list(itertools.product(MATRIX_RATES, OTHER_RATES)), np.float32)
    for of_momentum, is_fixed, annealed in itertools.product((True, False), repeat=3):
        label = ", ".join(
            (
                "momentum" if of_momentum else "Adam's direction",
                "fixed length" if is_fixed else "its length",
                "cosine" if annealed else "constant",
            )
        )
        chosen = {"of_momentum": of_momentum, "is_fixed": is_fixed, "is_annealed": annealed}
        best(label, lambda rates, c=chosen: rule(rates, num_steps, **c), tuple(pairs.T))
    best("Adam", optax.adam, np.float32(ADAM_RATES))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "digits")
