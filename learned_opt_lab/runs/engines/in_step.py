"""The engine in step: all devices of all processes make one outer step together."""

import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import jax

from configs.base import TrainConfig
from learned_opt_lab.runs import fitting
from learned_opt_lab.runs.build import Built
from learned_opt_lab.runs.config_json import to_json
from learned_opt_lab.runs.engines.base import Engine, InStep, Trained
from outer_train import devices
from outer_train.processes import cluster as distributed
from outer_train.run import Allowed, LoopSettings, RunDirectory, Show, lock, loop, made_with

LOST_PROCESS = 1
"""Exit status of the processes that remain when one was lost."""
LOST_PROCESS_SECONDS = 2.0
"""In which the watch over the processes names the one
whose loss another part of this one ran into."""


def engine(config: TrainConfig, settings: InStep) -> Engine:
    """The engine of a run of `config`; nothing is connected yet."""

    def open_(run: RunDirectory, check: Callable[[], None], show: Show) -> None:
        del show
        if settings.cluster is None:
            check()
            devices.use_cpu_devices(settings.num_devices)
            return
        share = settings.num_devices and -(-settings.num_devices // settings.cluster.num_processes)
        devices.use_cpu_devices(share)
        _connect(config, settings, run)
        distributed.from_first(check)

    def train(
        built: Built, run: RunDirectory, loop_settings: LoopSettings, show: Show, allowed: Allowed
    ) -> Trained:
        try:
            result = loop.train(
                built.step, built.theta, built.key, built.feed, run, loop_settings, show, allowed
            )
            theta = jax.device_get(result.state.theta)
            distributed.agree((0,))  # the checkpoint is whole: from here on none needs another
            if settings.cluster is not None:
                distributed.leave()
        except jax.errors.JaxRuntimeError as error:
            if settings.cluster is None or jax.process_count() == 1:
                raise
            time.sleep(LOST_PROCESS_SECONDS)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            _end_without_the_lost(jax.process_index(), reason, run)
        about = {"num_devices": built.mesh.size, "num_processes": jax.process_count()}
        about |= {} if built.memory is None else {"memory": built.memory}
        return Trained(theta, result.signal, about)

    # Processes have parted when they have trained; of one that fails, its end tells the others.
    return Engine(open_, partial(fitting.fit, config), train, close=lambda: None)


def _connect(config: TrainConfig, settings: InStep, run: RunDirectory) -> None:
    """Connects the processes of the run, once it is sure that they mean the same;
    then the loss of one ends all.

    Raises:
      ValueError: one did not come in time, or has other versions or another config.
    """
    found, cluster = made_with.versions(), settings.cluster
    same = {name: found[name] for name in ("python", *made_with.LIBRARIES, "git")}
    fingerprint = {**same, "config": to_json(config), "num_devices": settings.num_devices}

    def on_loss(reason: str) -> None:
        _end_without_the_lost(cluster.process_id, reason, run)

    distributed.start(cluster, fingerprint, settings.connect_timeout, on_loss)


_ending = threading.Lock()


def _end_without_the_lost(process_id: int, reason: str, run: RunDirectory) -> NoReturn:
    """Ends this process at once: what JAX does at an ordinary exit would wait
    for processes that are gone.
    """
    _ending.acquire()  # for good: of several threads that notice, one tells
    lock.release_all()
    resume = (
        f"go on with `learned-opt resume {run.path}`"
        if run.config.exists()
        else "start the run again"
    )
    print(
        f"error: process {process_id} lost another process of this run ({reason}); {resume} on as "
        "many as there are",
        file=sys.stderr,
        flush=True,
    )
    os._exit(LOST_PROCESS)
