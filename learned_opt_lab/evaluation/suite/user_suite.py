"""Suites by name: those that ship, and a user's own from a `.py` file or as `"module:name"`.

What is named on the command line is the user's own code, as a config file is: it is run.
"""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_opt import catalog
from learned_opt_lab.evaluation.suite.run import SPLITS
from learned_opt_lab.runs.config_json import near
from learned_opt_lab.runs.families import first_losses
from learned_opt_lab.runs.user_path import add_to_path, run_file, run_users
from tasks import Suite, SuiteTask, TaskFamily, suite, task_key
from tasks.images import DatasetNotPrepared

_NOT_PREPARED = (DatasetNotPrepared,)
"""Data that is missing is no fault of the suite."""


def is_users(name: str) -> bool:
    """Whether a name means a file or a module of the user's."""
    return name.endswith(".py") or catalog.is_own(name)


def find_suite(name: str) -> Suite:
    """The suite of a name.

    Args:
      name: of `tasks.suites.SUITES`; or a path that ends in `.py`, of a file that defines `suite`;
        or `"module:name"`. What is defined is a `tasks.Suite`, or a function without arguments that
        returns one.

    Raises:
      ValueError: there is no such suite, with near names; the file or module fails; what it
        defines is no suite, or one that cannot be evaluated.
      FileNotFoundError: there is no such file.
    """
    if name.endswith(".py"):
        found, where = _from_file(Path(name)), f"suite file {name}"
    elif is_users(name):
        found, where = _from_module(name), f"suite {name}"
    else:
        return suite(name)
    return checked(_called(found, where), where)


def _from_file(path: Path) -> Any:
    module = run_file(path, "user_suite", "suite file", _NOT_PREPARED)
    if not hasattr(module, "suite"):
        hint = near("suite", [name for name in vars(module) if not name.startswith("_")])
        raise ValueError(f"suite file {path} must define `suite`, a tasks.Suite{hint}")
    return module.suite


def _from_module(name: str) -> Any:
    add_to_path(Path.cwd())
    try:
        return catalog.resolve(name)
    except ValueError as error:
        raise ValueError(f"suite {error}") from error


def _called(found: Any, where: str) -> Suite:
    """The suite itself, or what a function gives."""
    if not isinstance(found, Suite) and callable(found):
        try:
            catalog.check_call(found, {})
            catalog.check_gives(found, Suite)
        except TypeError as error:
            raise ValueError(
                f"{where} must be a tasks.Suite, or a function without arguments that returns one: "
                f"{error}"
            ) from error
        found = run_users(found, f"{where} cannot be made", _NOT_PREPARED)
    if not isinstance(found, Suite):
        raise ValueError(f"{where} must be a tasks.Suite, got {type(found).__name__}")
    return found


def checked(found: Suite, where: str) -> Suite:
    """The suite, if all of it can be evaluated; tasks whose data is not prepared are left for the
    evaluation to skip.

    Raises:
      ValueError: what is wrong with the first task that cannot be.
    """
    _check_counts(found, where)
    tasks = found.tasks
    if not isinstance(tasks, list | tuple) or not tasks:
        raise ValueError(f"{where} must have tasks, got {tasks!r:.80}")
    if wrong := [task for task in tasks if not isinstance(task, SuiteTask)]:
        raise ValueError(f"{where}: tasks must be tasks.SuiteTask, got {type(wrong[0]).__name__}")
    names = [task.name for task in tasks]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{where}: two tasks have the name {repeated[0]!r}")
    for task in tasks:
        _check_numbers(task, where)
    for task in tasks:
        _check_start(task, where)
    return found


def _check_counts(found: Suite, where: str) -> None:
    budgets = found.budgets
    if not isinstance(budgets, list | tuple) or not budgets:
        raise ValueError(f"{where}: budgets must be counts, got {budgets!r:.80}")
    named = {name: getattr(found, name) for name in ("num_seeds", "num_tuning_seeds")}
    for name, count in [*named.items(), *(("a budget", budget) for budget in budgets)]:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{where}: {name} must be at least 1, got {count!r:.80}")


def _check_numbers(task: SuiteTask, where: str) -> None:
    steps = (task.num_steps, task.eval_every)
    if not all(isinstance(n, int) and n > 0 for n in steps) or task.num_steps % task.eval_every:
        raise ValueError(
            f"{where}: num_steps of task {task.name!r} must be a positive multiple of eval_every, "
            f"got {steps[0]} and {steps[1]}"
        )
    if not (isinstance(task.loss_cap, int | float) and 0 < task.loss_cap < math.inf):
        raise ValueError(
            f"{where}: loss_cap of task {task.name!r} must be positive and finite, got "
            f"{task.loss_cap!r:.80}"
        )
    if not callable(task.build):
        raise ValueError(f"{where}: build of task {task.name!r} must be a function")


def _check_start(task: SuiteTask, where: str) -> None:
    """Builds the task, and measures its losses once, all that an evaluation will measure."""
    what = f"{where}: task {task.name!r}"
    try:
        family = run_users(task.build, f"{what} cannot be built", _NOT_PREPARED)
    except DatasetNotPrepared:
        return
    if not isinstance(family, TaskFamily):
        raise ValueError(f"{what} must build a tasks.TaskFamily, got {type(family).__name__}")
    first = jax.jit(lambda data: first_losses(family, task_key(task), data, SPLITS))
    for of, loss in run_users(lambda: first(family.data), f"{what} has no loss").items():
        value = np.asarray(loss)
        if value.shape != () or not np.isfinite(value):
            got = f"shape {list(value.shape)}" if value.shape else f"{value}"
            raise ValueError(f"{what} must start at a finite scalar loss {of}, got {got}")
        if value >= task.loss_cap:
            raise ValueError(
                f"{what} starts at a loss of {value:.4g} {of}, and nothing above its loss_cap of "
                f"{task.loss_cap:g} counts: give it a larger one"
            )
