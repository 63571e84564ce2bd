"""One run on disk: its directory, loop, checkpoints and metrics."""

from outer_train.run import directory, lock, loop, made_with, metrics, trackers
from outer_train.run.continuation import STRICT, Allowed
from outer_train.run.directory import RunDirectory
from outer_train.run.loop import LoopSettings
from outer_train.run.progress import QUIET, TERMINAL, Show

__all__ = [
    "QUIET",
    "STRICT",
    "TERMINAL",
    "Allowed",
    "LoopSettings",
    "RunDirectory",
    "Show",
    "directory",
    "lock",
    "loop",
    "made_with",
    "metrics",
    "trackers",
]
