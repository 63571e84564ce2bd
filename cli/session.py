"""What `train` and `resume` share: starting JAX, the loop, scoring the held-out family, the files at the end."""

import importlib.util
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

import learned_opt
from configs import registry
from configs.base import TrainConfig
from configs.build import Built
from configs.build import build as build_config
from configs.serialize import to_json
from evaluation import figures, held_out
from outer_train import devices, distributed, loop, metrics, run_dir
from outer_train.distributed import Cluster
from outer_train.run_dir import RunDirectory

LOST_PROCESS = 1
"""Exit status of the processes that remain when one was lost."""
LOST_PROCESS_SECONDS = 2.0
"""In which the watch over the processes names the one whose loss another part of this one ran into."""


def start(num_devices: int | None, compilation_cache: bool, cluster: Cluster | None = None) -> None:
    """Sets what must be set before JAX runs: CPU devices, the cache of compiled programs, where modules are found."""
    registry.add_to_path(Path.cwd())
    # Orbax warns of half-deleted old checkpoints, which a kill leaves and nobody needs.
    logging.getLogger("absl").setLevel(logging.ERROR)
    share = 1 if cluster is None else cluster.num_processes
    devices.use_cpu_devices(None if num_devices is None else -(-num_devices // share))
    if compilation_cache:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "learned-opt" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        # JAX keeps only what took a second to compile; the many small programs of a start take as long together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def connect(cluster: Cluster, config: TrainConfig, num_devices: int | None, timeout: float, run: RunDirectory) -> None:
    """Connects the processes of the run, once it is sure that they mean the same; then the loss of one ends all.

    Raises:
      ValueError: one did not come within `timeout` seconds, or has other versions or another config.
    """
    found = run_dir.versions()
    same = {name: found[name] for name in ("python", *run_dir.LIBRARIES, "git")}
    fingerprint = {**same, "config": to_json(config), "num_devices": num_devices}
    distributed.start(
        cluster, fingerprint, timeout, on_loss=lambda reason: _end_without_the_lost(cluster.process_id, reason, run)
    )


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
    try:
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
            warn=warn,
        )
        theta = jax.device_get(result.state.theta)
        distributed.agree((0,))  # the checkpoint is whole: from here on none needs another
        distributed.leave()
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        time.sleep(LOST_PROCESS_SECONDS)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        _end_without_the_lost(jax.process_index(), reason, run)
    if not distributed.is_first():
        return 0 if result.signal is None else 128 + result.signal
    settings = {"num_devices": built.mesh.size, "num_processes": jax.process_count()}
    return finish(config, built, run, theta, result.signal, settings)


def warn(line: str) -> None:
    """Shows a warning; of several processes the first one does."""
    if distributed.is_first():
        print(f"warning: {line}", file=sys.stderr, flush=True)


_ending = threading.Lock()


def _end_without_the_lost(process_id: int, reason: str, run: RunDirectory) -> NoReturn:
    """Ends this process at once: what JAX does at an ordinary exit would wait for processes that are gone."""
    _ending.acquire()  # for good: of several threads that notice, one tells
    resume = f"go on with `learned-opt resume {run.path}`" if run.config.exists() else "start the run again"
    print(
        f"error: process {process_id} lost another process of this run ({reason}); {resume} on as many as there are",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST_PROCESS)


def finish(
    config: TrainConfig, built: Built, run: RunDirectory, theta: Any, signal: int | None, settings: dict[str, Any]
) -> int:
    """Writes theta, scores and figures, with `settings` in the summary; returns the exit status."""
    learned_opt.save(run.theta, built.optimizer_name, built.optimizer_kwargs, theta)
    if signal is not None:
        print(f"stopped; go on with `learned-opt resume {run.path}`", file=sys.stderr)
        return 128 + signal
    summary = metrics.summarize(metrics.read_rows(run.metrics))
    if config.held_out.num_tasks:
        summary["heldout"] = score(config, built, theta, run)
    summary |= settings
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
