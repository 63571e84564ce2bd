"""How many iterations an orthogonal step needs.

    python -m benchmarks.orthogonal_iterations digits

The fresh rule of `learned_opt.orthogonal_mlp`, told the number of steps, with other polynomials:
lowest and mean validation loss over one run. Tasks are the three digits held out (MLP, 500 steps,
eight runs), the autoencoder of width 64 and the transformer of width 64 (500 steps, three runs) and
three classes of Fashion-MNIST (MLP 128-128, 1,000 steps, three runs). A few minutes each on two
cores; the autoencoder and Fashion-MNIST need `TFDS_DATA_DIR`.
"""

import dataclasses
import sys

import jax
import numpy as np

import learned_opt
from configs import quickstart
from configs.base import CustomFamily
from learned_opt.orthogonal import newton_schulz
from learned_opt_lab.evaluation.held_out import LOSS_CAP
from learned_opt_lab.evaluation.measures import cap_losses, smooth
from learned_opt_lab.evaluation.sweep import make_runs, make_sweep
from learned_opt_lab.runs.families import build_family

_digits = dataclasses.replace(quickstart.config.family, batch_size=32)
_fashion = dataclasses.replace(
    _digits,
    dataset="fashion_mnist",
    image_size=14,
    hidden_sizes=(128, 128),
    batch_size=64,
)
_text = {"model": "transformer", "length": 32, "batch_size": 8, "width": 64, "text": "library"}
TASKS = {
    "digits": (_digits, 500, 8),
    "autoencoder": (
        CustomFamily("tasks.images:tfds_autoencoder_family", kwargs={"width": 64, "bottleneck": 8}),
        500,
        3,
    ),
    "text": (CustomFamily("tasks:char_family", kwargs=_text), 500, 3),
    "fashion": (_fashion, 1000, 3),
}
CHOICES = ((3e-3, 4), (1e-2, 3), (3e-2, 3), (3e-2, 2), (0.1, 2))
"""Smallest singular value that is taken to 1, and the number of iterations."""


def main(name: str) -> None:
    """Prints a row for each choice."""
    family, num_steps, num_runs = TASKS[name]
    family, runs = build_family(family)[1], make_runs(jax.random.key(5), num_runs)
    for smallest, number in CHOICES:
        newton_schulz.SMALLEST, newton_schulz.NUM_ITERATIONS = smallest, number
        newton_schulz._polynomials.cache_clear()
        jax.clear_caches()
        optimizer = learned_opt.orthogonal_mlp()
        theta = jax.tree.map(lambda leaf: leaf[None], optimizer.init(jax.random.key(0)))
        sweep = make_sweep(
            family,
            optimizer.within(num_steps),
            num_steps=num_steps,
            splits=("outer_valid",),
            eval_every=num_steps // 100,
            num_eval_batches=4,
        )
        losses = np.asarray(sweep(theta, runs)["outer_valid"]["loss"])[0]
        lowest = smooth(losses, LOSS_CAP).min(axis=1)
        error = lowest.std(ddof=1) / num_runs**0.5
        print(
            f"from {smallest}, {number} iterations: lowest {lowest.mean():.4f} +- {error:.4f}, "
            f"mean {cap_losses(losses, LOSS_CAP)[:, 1:].mean():.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "digits")
