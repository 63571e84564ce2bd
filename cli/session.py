"""What `train` and `resume` share: starting JAX, the loop, scoring the held-out family, the files at the end."""

import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import learned_opt
from configs import registry
from configs.base import TrainConfig
from configs.build import Built
from configs.build import build as build_config
from evaluation import figures, held_out
from outer_train import devices, loop, metrics, run_dir
from outer_train.run_dir import RunDirectory


def start(num_devices: int | None, compilation_cache: bool) -> None:
    """Sets what must be set before JAX runs: CPU devices, the cache of compiled programs, where modules are found."""
    registry.add_to_path(Path.cwd())
    # Orbax warns of half-deleted old checkpoints, which a kill leaves and nobody needs.
    logging.getLogger("absl").setLevel(logging.ERROR)
    devices.use_cpu_devices(num_devices)
    if compilation_cache:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "learned-opt" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))


def build(config: TrainConfig, num_devices: int | None, tensorboard: bool) -> Built:
    """Builds and checks the run; nothing is written.

    Raises:
      ValueError: for anything that does not fit.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("TensorBoard was asked for, but tensorboardX is not installed")
    return build_config(config, num_devices)


def train_and_score(config: TrainConfig, built: Built, run: RunDirectory, tensorboard: bool) -> int:
    """Runs the loop to its end, then writes theta, scores and figures; returns the exit status."""
    result = loop.train(
        built.step,
        built.theta,
        built.key,
        built.datas,
        run,
        num_outer_steps=config.num_outer_steps,
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        tensorboard=tensorboard,
        warn=lambda line: print(f"warning: {line}", file=sys.stderr),
    )
    theta = jax.device_get(result.state.theta)
    learned_opt.save(run.theta, built.optimizer_name, built.optimizer_kwargs, theta)
    if result.signal is not None:
        print(f"stopped; go on with `learned-opt resume {run.path}`", file=sys.stderr)
        return 128 + result.signal
    summary = metrics.summarize(metrics.read_rows(run.metrics))
    if config.held_out.num_tasks:
        summary["heldout"] = score(config, built, theta, run)
    summary["num_devices"] = built.mesh.size
    figures.training_figures(run.path)
    run_dir.write_json(run.summary, summary)
    report(summary, run)
    return 0


def score(config: TrainConfig, built: Built, theta: Any, run: RunDirectory) -> dict[str, Any]:
    """Scores the held-out family and keeps its curves; returns the `heldout` part of `summary.json`."""
    print(f"scoring {config.held_out.num_tasks} held-out tasks", flush=True)
    key_score = jax.random.fold_in(jax.random.key(config.seed), 1)
    scored = held_out.score(
        built.held_out,
        built.optimizer,
        theta,
        jax.device_get(built.untrained_theta),
        num_steps=config.held_out.num_steps,
        num_tasks=config.held_out.num_tasks,
        key=key_score,
    )
    np.savez(run.held_out_curves, **scored.curves)
    settings = {"num_tasks": config.held_out.num_tasks, "num_steps": config.held_out.num_steps}
    return {**scored.summary, **settings}


def report(summary: dict[str, Any], run: RunDirectory) -> None:
    """Prints the numbers that matter."""
    print(f"outer loss {summary['outer_loss_first']:.4g} -> {summary['outer_loss_last']:.4g}")
    for name in ("learned", "adam_tuned", "adam_1e-3", "untrained"):
        if "heldout" in summary:
            print(f"held-out mean test loss  {name:<10} {summary['heldout'][name]:.4g}")
    print(f"theta, summary.json and figures are in {run.path}")
