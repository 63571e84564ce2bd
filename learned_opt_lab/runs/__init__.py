"""From a config to a run: `train` starts one and `resume` goes on with one,
from Python as from the command line.

    from configs.quickstart import config
    from learned_opt_lab import runs

    result = runs.train(config, "runs/mine", show=runs.TERMINAL)
    result.summary["heldout"]["learned"]

A name of this face is imported when it is first used: they need JAX, which the command does without
until it trains.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_opt_lab.runs.course import resume, train
    from learned_opt_lab.runs.ending import NothingLearned, RunResult
    from learned_opt_lab.runs.engines.base import InStep, Ray
    from outer_train.run import QUIET, TERMINAL, Allowed, Show

__all__ = [
    "QUIET",
    "TERMINAL",
    "Allowed",
    "InStep",
    "NothingLearned",
    "Ray",
    "RunResult",
    "Show",
    "resume",
    "train",
]
_FROM = {
    "InStep": "learned_opt_lab.runs.engines.base",
    "Ray": "learned_opt_lab.runs.engines.base",
    **dict.fromkeys(("QUIET", "TERMINAL", "Allowed", "Show"), "outer_train.run"),
    **dict.fromkeys(("NothingLearned", "RunResult"), "learned_opt_lab.runs.ending"),
    **dict.fromkeys(("resume", "train"), "learned_opt_lab.runs.course"),
}


def __getattr__(name: str) -> Any:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_FROM[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
