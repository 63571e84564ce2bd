"""Directories of runs made of made-up rows, in the time that it takes to write them."""

import json
import math

import numpy as np

from outer_train.run import RunDirectory, directory

PARTS = ("reparameterization", "evolution_strategies")


def made_up_rows(num_rows, *, first=0, parts=PARTS, scale=1.0):
    """Rows of a run whose outer loss falls; one in a hundred has samples that are not finite."""
    noise = np.random.default_rng(first).lognormal(size=first + num_rows)
    return [
        {
            "outer_step": step,
            "grad_norm": scale * noise[step],
            "num_live_inner_steps": 160,
            "num_non_finite": int(step % 100 == 50),
            "num_resets": 0,
            "num_steps_not_taken": 0,
            "outer_loss": scale * (0.1 + math.exp(-step / 50)) * noise[step],
            "truncation_length": 10 + step // 100,
            **{f"variance_{part}": 10.0**-i * noise[step] for i, part in enumerate(parts)},
            **{f"weight_{part}": 1 / len(parts) for part in parts},
            "inner_steps": 160 * (step + 1),
            "seconds": None if step == first else 0.5,
        }
        for step in range(first, first + num_rows)
    ]


def add_rows(path, rows):
    """Appends rows, as a run that goes on does."""
    with RunDirectory(path).metrics.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def made_up_run(path, num_rows=120, *, complete=False, **config):
    """A run directory whose run wants 200 outer steps."""
    config = {"type": "TrainConfig", "num_outer_steps": 200, "seed": 0} | config
    run = directory.create(path, config, config_file=None, overwrite=False)
    add_rows(path, made_up_rows(num_rows))
    if complete:
        scores = {"learned": 0.25, "adam_tuned": 0.5}
        run.summary.write_text(json.dumps({"heldout": scores}))
        falling = np.exp(-np.arange(30) / 10) * np.ones((4, 1))
        np.savez(run.held_out_curves, learned=falling, adam_tuned=2 * falling)
    return run
