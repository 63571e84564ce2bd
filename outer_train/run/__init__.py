"""One run on disk: its directory, loop, checkpoints and metrics."""

from outer_train.run import directory, lock, loop, metrics
from outer_train.run.continuation import STRICT, Allowed
from outer_train.run.directory import RunDirectory

__all__ = [
    "STRICT",
    "Allowed",
    "RunDirectory",
    "directory",
    "lock",
    "loop",
    "metrics",
]
