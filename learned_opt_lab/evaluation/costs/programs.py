"""Which programs a cell runs, as far as a plan wants to know."""

from learned_opt_lab.evaluation.costs.plan import Program
from learned_opt_lab.evaluation.costs.store import Place
from learned_opt_lab.evaluation.suite.settings import Settings
from learned_opt_lab.evaluation.tuning import (
    CHUNK,
    Contestant,
    cache_key,
    cache_path,
    default_cache_dir,
)
from tasks import SuiteTask

REPORTED, SEARCH = 2.7, 2.0
"""A program's seconds to compile over those of its training loop alone, of the runs that are
reported and of a search: medians of three optimizers on the tasks of the suite `quick`, on two CPU
cores. They were 2.2 to 4.0 and 1.7 to 2.6."""


def reported_program(
    task: SuiteTask, num_configurations: int, num_seeds: int, batches_a_point: int
) -> Program:
    """Of the runs that are reported."""
    num_batches = _num_points(task) * batches_a_point
    return Program(num_configurations, num_seeds, 1, task.num_steps, num_batches, REPORTED)


def search_program(at: Place, who: Contestant, budget: int, settings: Settings) -> Program:
    """Of a search; one that is in the cache is not called, nor compiled."""
    task, num_seeds = at.task, settings.num_tuning_seeds
    space = who.baseline.search_space(budget, settings.seed)
    key = cache_key(task, at.family, who, space, num_seeds, settings.seed)
    path = cache_path(settings.cache_dir or default_cache_dir(), key)
    is_cached = path is not None and path.exists()
    number = len(next(iter(space.values())))
    at_once = min(CHUNK, number)
    calls, compilation = (0, 0.0) if is_cached else (-(-number // at_once), SEARCH)
    return Program(at_once, num_seeds, calls, task.num_steps, _num_points(task), compilation)


def _num_points(task: SuiteTask) -> int:
    return task.num_steps // task.eval_every + 1
