"""Asynchronous outer-training: workers send gradients when they have them,
a learner merges them and steps.

    messages   what is sent, as bytes
    merge      many gradients to one: pooled moments, inverse-variance weights, mean over families
    ledger     each gradient counts once
    learner    takes or drops a gradient, steps theta
    worker     particles of one task family, gradients of them
    roster     who works: starts, deaths, arrivals, departures
    crew       what the loop asks of worker processes
    train      the loop over a crew of workers
    ray_crew   the crew on a Ray cluster; the only module that imports Ray, and only when it is used

Everything but `ray_crew` runs without Ray. Metz et al. 2019 (arXiv 1810.10180, section 4.3) trained
this way, with asynchronous batched SGD on 128 workers.
"""

from outer_train.workers import messages, ray_crew
from outer_train.workers._train import WorkerSettings, train_asynchronously
from outer_train.workers.learner import Learner, fresh_state
from outer_train.workers.worker import MakeSource, Source, Worker

__all__ = [
    "Learner",
    "MakeSource",
    "Source",
    "Worker",
    "WorkerSettings",
    "fresh_state",
    "messages",
    "ray_crew",
    "train_asynchronously",
]
