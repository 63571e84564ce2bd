"""What `train` and `resume` share: starting JAX, the loop, scoring the held-out family, the files at the end."""

import contextlib
import importlib.util
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

import learned_opt
from configs.base import TrainConfig
from learned_opt.disk import files
from learned_opt_lab.cli import surroundings
from learned_opt_lab.drawing import training_figures
from learned_opt_lab.evaluation import held_out
from learned_opt_lab.results import folder
from learned_opt_lab.results.folder import show
from learned_opt_lab.runs.build import Built
from learned_opt_lab.runs.build import build as build_config
from learned_opt_lab.runs.config_json import to_json
from learned_opt_lab.runs.families import HELD_OUT, TRAINED_ON, scored_on
from outer_train import devices
from outer_train.processes import Cluster
from outer_train.processes import cluster as distributed
from outer_train.run import STRICT, Allowed, RunDirectory, directory, lock, loop, metrics

LOST_PROCESS = 1
"""Exit status of the processes that remain when one was lost."""
NOTHING_LEARNED = 1
"""Exit status of a run without one finite outer loss."""
LOST_PROCESS_SECONDS = 2.0
"""In which the watch over the processes names the one whose loss another part of this one ran into."""


def start(num_devices: int | None, compilation_cache: bool, cluster: Cluster | None = None) -> None:
    """Sets what must be set before JAX runs: CPU devices, the cache of compiled programs."""
    # What fails in Orbax is raised to us; it also logs the whole traceback of its threads.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    share = 1 if cluster is None else cluster.num_processes
    devices.use_cpu_devices(None if num_devices is None else -(-num_devices // share))
    if compilation_cache:
        jax.config.update("jax_compilation_cache_dir", surroundings.compilation_cache())
        # JAX keeps only what took a second to compile; the many small programs of a start take as long together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def connect(cluster: Cluster, config: TrainConfig, num_devices: int | None, timeout: float, run: RunDirectory) -> None:
    """Connects the processes of the run, once it is sure that they mean the same; then the loss of one ends all.

    Raises:
      ValueError: one did not come within `timeout` seconds, or has other versions or another config.
    """
    found = directory.versions()
    same = {name: found[name] for name in ("python", *directory.LIBRARIES, "git")}
    fingerprint = {**same, "config": to_json(config), "num_devices": num_devices}
    distributed.start(
        cluster, fingerprint, timeout, on_loss=lambda reason: _end_without_the_lost(cluster.process_id, reason, run)
    )


def build(config: TrainConfig, num_devices: int | None, tensorboard: bool, *, trust: bool = False) -> Built:
    """Builds and checks the run; nothing is written.

    Raises:
      ValueError: for anything that does not fit.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("TensorBoard was asked for, but tensorboardX is not installed")
    return build_config(config, num_devices, trust=trust)


def train_and_score(
    config: TrainConfig, built: Built, run: RunDirectory, tensorboard: bool, allowed: Allowed = STRICT
) -> int:
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
            allowed=allowed,
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
    """Shows a warning; of several processes the first one does. Nobody needs to read it."""
    if distributed.is_first():
        with contextlib.suppress(OSError, ValueError):
            print(f"warning: {line}", file=sys.stderr, flush=True)


_ending = threading.Lock()


def _end_without_the_lost(process_id: int, reason: str, run: RunDirectory) -> NoReturn:
    """Ends this process at once: what JAX does at an ordinary exit would wait for processes that are gone."""
    _ending.acquire()  # for good: of several threads that notice, one tells
    lock.release_all()
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
    summary, name, curves = metrics.summarize(metrics.read_rows(run.metrics)), scored_on(config), None
    if config.held_out.num_tasks:
        summary[name], curves = score(config, built, theta)
    write_results(run, summary | settings, curves, run.curves_of(name))
    training_figures.training_figures(run.path)
    report(summary, run)
    if metrics.mean_loss(metrics.read_rows(run.metrics)) is None:
        print("error: no outer loss of this run was finite, so theta has learned nothing", file=sys.stderr)
        return NOTHING_LEARNED
    return 0


def write_results(
    run: RunDirectory, summary: dict[str, Any], curves: Mapping[str, np.ndarray] | None, curves_path: Path
) -> None:
    """Replaces `summary.json`, and the curves of the scored tasks that it sums up with it."""
    text = json.dumps(folder.finite(summary), indent=2, allow_nan=False) + "\n"
    writers = {run.summary: lambda file: file.write(text.encode())}
    if curves is not None:
        writers = {curves_path: lambda file: np.savez(file, **curves), **writers}
    files.write_together(writers)


def score(config: TrainConfig, built: Built, theta: Any) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    """Scores the held-out family: that part of `summary.json`; the curves, optimizer -> `[tasks, steps]`.

    Where none is held out it is the training family, with other keys (`learned_opt_lab.runs.families.scored_on`).
    """
    held_out_or_not = "held-out tasks" if scored_on(config) == HELD_OUT else "tasks of the training family"
    print(f"scoring {config.held_out.num_tasks} {held_out_or_not}", flush=True)
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
    settings = {"num_tasks": config.held_out.num_tasks, "num_steps": config.held_out.num_steps}
    return {**scored.summary, **settings}, scored.curves


def report(summary: dict[str, Any], run: RunDirectory) -> None:
    """Prints the numbers that matter."""
    print(f"outer loss {show(summary['outer_loss_first'])} -> {show(summary['outer_loss_last'])}")
    for key, what in ((HELD_OUT, "held-out"), (TRAINED_ON, "training family's")):
        for name in ("learned", "adam_tuned", "adam_1e-3", "untrained") if key in summary else ():
            print(f"{what} mean test loss  {name:<10} {show(summary[key][name])}")
    print(f"theta, summary.json and figures are in {run.path}")
