"""tune BASELINE... --suite S: search the baselines' hyperparameters on every task,
or once for all tasks of a config, and keep what was found.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from learned_opt_lab.cli.options.fields import Positional
from learned_opt_lab.cli.output import Outcome, say

if TYPE_CHECKING:
    from learned_opt_lab.evaluation.tuning import Tuned


@dataclasses.dataclass(frozen=True)
class Args:
    """Tune baselines on a suite's tasks, each by itself, or with --over once for all tasks of a
    config.

    `evaluate` with the same budget and seeds takes a suite's results from here.
    """

    baselines: Positional[tuple[str, ...]]
    """Names, as `learned-opt list baselines` has them: those with a grid try all of it, the others
    as many random configurations as the budget."""
    suite: str = "quick"
    """quick, heldout, real, real_quick, or one axis: width, depth, horizon, dataset, architecture.
    Your own: a .py file that defines `suite`, or "module:name"."""
    task: str | None = None
    """Only this task of the suite."""
    over: str | None = None
    """In place of a suite: one configuration for all tasks that this CONFIG trains on, by the mean
    loss over its episodes (arXiv 1810.10180, figure 6). An interrupted search goes on."""
    objective: Literal["valid", "train"] = "valid"
    """The loss that --over judges by, as problem.objective of a config."""
    num_runs: int = 80
    """Tasks that --over runs each configuration on."""
    budget: int = 64
    """Configurations of a random search."""
    num_tuning_seeds: int = 3
    """Runs of each configuration."""
    seed: int = 0
    """Of the search and its runs."""
    cache_dir: Path | None = None
    """Where outcomes are kept; LEARNED_OPT_CACHE or ~/.cache/learned_opt if not given."""
    num_devices: int | None = None
    """CPU devices; one for each core if not given."""
    compilation_cache: bool = True
    """Keep compiled programs on disk, so that the next run starts sooner."""


def run(args: Args) -> Outcome:
    """Searches, and prints the chosen hyperparameters.

    Raises:
      ValueError: for an unknown baseline, suite, task or config, or a budget below 1.
    """
    if args.over is not None:
        return run_over(args)
    from learned_opt_lab.cli import progress, surroundings

    progress.load("learned_opt_lab.evaluation.suite.user_suite")
    from learned_opt_lab.evaluation.suite.user_suite import is_users
    from learned_opt_lab.evaluation.tuning import contestant, default_cache_dir, tune
    from tasks.images import DatasetNotPrepared

    _check(args)
    tasks = None if is_users(args.suite) else _tasks(args)
    # Before a suite of the user's own is read: that starts JAX.
    surroundings.start_jax(args.num_devices, args.compilation_cache)
    tasks = tasks or _tasks(args)
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    with progress.shown_progress() as show:
        for done, task in enumerate(tasks):
            try:
                family = task.build()
            except DatasetNotPrepared as error:
                say(f"skipped {task.name}: {str(error).splitlines()[0]}", of_errors=True)
                continue
            one_by_one = _way(task, family, args.num_tuning_seeds)
            for name in args.baselines:
                show(done, len(tasks), f"{task.name}: {name}")
                tuned = tune(
                    task,
                    family,
                    contestant(name)._replace(one_by_one=one_by_one),
                    budget=args.budget,
                    num_seeds=args.num_tuning_seeds,
                    seed=args.seed,
                    cache_dir=args.cache_dir,
                )
                lines.append(f"{task.name:<28} {name:<10} {_told(name, tuned)}")
                found.append({"task": task.name, "baseline": name, **_as_json(name, tuned)})
    say(f"{'task':<28} {'baseline':<10} {'loss':>9}  chosen", *lines)
    kept = args.cache_dir or default_cache_dir()
    line = f"kept in {kept or 'no cache: there is no home'}"
    return Outcome(0, {"cache_dir": kept, "tuned": found}, line)


def _way(task: Any, family: Any, num_seeds: int) -> Callable[[], bool]:
    """Whether runs of a task are faster one by one, measured when first asked for."""
    from learned_opt_lab.evaluation.baselines import LEARNING_RATES
    from learned_opt_lab.evaluation.timing import time_together
    from learned_opt_lab.evaluation.tuning import runs_of

    @functools.cache
    def measured() -> bool:
        runs = runs_of(task, "tune", num_seeds, 0)
        return time_together(family, len(LEARNING_RATES), runs).is_faster_one_by_one

    return measured


def run_over(args: Args) -> Outcome:
    """Searches over a config's distribution, and prints the chosen hyperparameters.

    Raises:
      ValueError: as `run`, and where there is no home for what is kept.
    """
    from learned_opt_lab.cli import progress, surroundings
    from learned_opt_lab.runs import catalog

    _check(args)
    config, _ = catalog.load(args.over)
    progress.load("learned_opt_lab.evaluation.distribution", "learned_opt_lab.runs.build")
    from learned_opt_lab.evaluation import distribution
    from learned_opt_lab.evaluation.tuning import default_cache_dir
    from learned_opt_lab.runs import build

    kept = args.cache_dir or default_cache_dir()
    if kept is None:
        raise ValueError("there is no home for what is kept; give --cache-dir")
    surroundings.start_jax(args.num_devices, args.compilation_cache)
    family, _ = build.build_family(config.family)
    name, steps = catalog.name_of(args.over), family.num_steps or config.problem.num_steps
    of = distribution.Distribution(
        name, family, steps, args.objective, args.num_runs, config.problem.loss_clip, args.seed
    )
    rows: list[dict[str, Any]] = []
    with progress.shown_progress() as show:
        for each in args.baselines:
            told = lambda done, total, each=each: show(done, total, f"{name}: {each}")
            tuned = distribution.tune_over(of, each, args.budget, kept / "over", told)
            rows.append(_over_as_json(each, tuned))
    print(f"{'over':<20} {'baseline':<10} {'loss':>9}  chosen")
    for row in rows:
        chosen = ", ".join(f"{key} {value:.4g}" for key, value in row["hyperparameters"].items())
        source = f"{row['num_configurations']} x {row['num_runs']} runs"
        say(f"{name:<20} {row['baseline']:<10} {row['loss']:>9.4g}  {chosen}  ({source})")
    found = {"cache_dir": kept, "over": name, "objective": args.objective, "tuned": rows}
    return Outcome(0, found, f"kept in {kept / 'over'}")


def _over_as_json(name: str, tuned: Any) -> dict[str, Any]:
    return {
        "baseline": name,
        "loss": tuned.loss,
        "hyperparameters": tuned.hyperparameters,
        "num_configurations": len(tuned.scores),
        "num_runs": tuned.num_runs,
    }


def _check(args: Args) -> None:
    """Raises `ValueError` for an unknown baseline, or a number that is out of its range."""
    from learned_opt_lab.evaluation.baselines import baseline

    for name in args.baselines:
        baseline(name)
    if args.num_runs < 1:
        raise ValueError(f"num_runs must be at least 1, got {args.num_runs}")
    if args.over is not None and args.task is not None:
        raise ValueError("--task is one of a suite, and --over takes none")
    if args.budget < 1 or args.num_tuning_seeds < 1:
        raise ValueError(
            f"budget and num_tuning_seeds must be at least 1, got {args.budget}, "
            f"{args.num_tuning_seeds}"
        )


def _as_json(name: str, tuned: "Tuned") -> dict[str, Any]:
    from learned_opt_lab.evaluation.baselines import baseline

    return {
        "validation_loss": tuned.validation_loss,
        "hyperparameters": baseline(name).told(tuned.hyperparameters),
        "num_configurations": tuned.num_configurations,
        "num_seeds": tuned.num_seeds,
        "cached": tuned.cached,
    }


def _told(name: str, tuned: "Tuned") -> str:
    """The loss, what was chosen, and where that is from."""
    from learned_opt_lab.drawing.text import format_number
    from learned_opt_lab.evaluation.baselines import baseline

    told = baseline(name).told(tuned.hyperparameters)
    chosen = ", ".join(f"{key} {format_number(value)}" for key, value in told.items())
    searched = f"{tuned.num_configurations} x {tuned.num_seeds} runs"
    source = f"cached, made on {tuned.made[:10]}" if tuned.cached else searched
    return f"{tuned.validation_loss:>9.4g}  {chosen}  ({source})"


def _tasks(args: Args) -> tuple:
    from learned_opt_lab.evaluation.suite.user_suite import find_suite

    tasks = find_suite(args.suite).tasks
    if args.task is None:
        return tasks
    if args.task not in (names := [task.name for task in tasks]):
        raise ValueError(f"unknown task {args.task!r}; suite {args.suite!r} has {', '.join(names)}")
    return tuple(task for task in tasks if task.name == args.task)
