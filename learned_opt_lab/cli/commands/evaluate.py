"""evaluate OPTIMIZER... --suite S --out D:
train a suite's tasks with every optimizer, and say who wins.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

from learned_opt_lab.cli.options.fields import Positional
from learned_opt_lab.cli.output import Outcome, say


@dataclasses.dataclass(frozen=True)
class Args:
    """Evaluate optimizers on a suite of held-out tasks.

    Says first what it will cost. An interrupted evaluation goes on where it stopped.
    """

    usual: ClassVar[tuple[str, ...]] = (
        "out",
        "suite",
        "reference",
        "leagues",
        "num-seeds",
        "seed",
        "max-minutes",
        "num-devices",
        "trust",
    )

    optimizers: Positional[tuple[str, ...]]
    """Each [LABEL=]SPEC.
    A baseline or a rival: `learned-opt list` names them.
    One with another schedule or search space: adam@cosine, adam@search.toml.
    An Optax factory of your own: module:name, or module:name@search.toml; its module is run.
    A shipped optimizer's name, a theta file or a run directory.
    Several run directories (a glob in quotes, or a comma list): seeds of one config.
    The one with the lowest outer-training loss is shown."""
    out: Path
    """Folder for report.json, report.html, curves.npz and figures."""
    suite: str = "quick"
    """quick, heldout, real, real_quick, or one axis: width, depth, horizon, dataset, architecture.
    Your own: a .py file that defines `suite`, or "module:name"."""
    reference: str | None = None
    """Label of the tuned baseline that everything is measured against;
    added where it is not among the optimizers.
    Adam if not given, and in leagues the best tuned hand-designed optimizer."""
    leagues: tuple[Literal["untuned", "equal_budgets", "none"], ...] | None = None
    """untuned: every optimizer at its published default.
    equal_budgets: each tries as many configurations, a learned one too.
    none: each baseline has a search of its own.
    The suite's own if not given: none, of real and real_quick both leagues."""
    budgets: tuple[int, ...] | None = None
    """Configurations that each optimizer tries in the league equal_budgets.
    The suite's own if not given: 1 5 11 64, of real and real_quick 1 5."""
    num_seeds: int | None = None
    """Runs of each task that are reported.
    The suite's own if not given: 5, of real and real_quick 3."""
    num_tuning_seeds: int | None = None
    """Runs of each configuration in a baseline's search; none of them is reported.
    The suite's own if not given: 3, of real and real_quick 1."""
    budget: int | None = None
    """Configurations of a random search, without leagues: 64 if not given.
    A learning-rate grid always has 11."""
    seed: int = 0
    """Of runs and searches."""
    cache_dir: Path | None = None
    """Where outcomes of searches are kept;
    LEARNED_OPT_CACHE or ~/.cache/learned_opt if not given."""
    max_minutes: float | None = None
    """Stop before the cell that would end later, and report the tasks that are complete.
    The same command goes on, with another budget or none. Without it, all is done."""
    num_devices: int | None = None
    """CPU devices; one for each core if not given."""
    compilation_cache: bool = True
    """Keep compiled programs on disk, so that the next run starts sooner."""
    trust: bool = False
    """Import and run the code that theta files name, in the working directory too.
    Only for files whose author you trust."""


def run(args: Args) -> Outcome:
    """Runs the evaluation and prints the ranking.

    Raises:
      ValueError: for an unknown suite or optimizer, a theta that does not load, or a folder that
        holds something else.
    """
    from learned_opt_lab.cli import progress, surroundings, verdicts

    _check(args)
    progress.load("learned_opt_lab.evaluation.suite._evaluate")
    from learned_opt_lab.evaluation.suite._evaluate import evaluate
    from learned_opt_lab.evaluation.suite.entries import parse_entries
    from learned_opt_lab.evaluation.suite.user_suite import find_suite, is_users
    from learned_opt_lab.runs.user_path import add_to_path

    chosen = None if is_users(args.suite) else find_suite(args.suite)
    # Before theta is read, or a suite of the user's own: that starts JAX.
    surroundings.start_jax(args.num_devices, args.compilation_cache)
    chosen = chosen or find_suite(args.suite)
    if args.trust:
        add_to_path(Path.cwd())
    entries = parse_entries(args.optimizers, trust=args.trust)
    settings = settings_of(args, chosen)
    with progress.planned_progress() as shown:
        report = evaluate(
            args.out,
            chosen,
            entries,
            settings,
            shown.tell,
            planned=shown.plan,
            max_minutes=args.max_minutes,
        )
    print_end(report, args.out)
    names = ("suite", "reference", "optimizers", "skipped", "progress")
    written = [args.out / name for name in ("report.json", "report.html", "curves.npz")]
    found = {"out": args.out, "files": [path for path in written if path.exists()]}
    found |= {name: report[name] for name in names}
    return Outcome(0, found, *verdicts.of_report(report, args.out, args.optimizers))


def settings_of(args: Args, suite: Any) -> Any:
    """The evaluation's settings: what is said, and the suite's own for the rest.

    Raises:
      ValueError: for a number that is of no use in the leagues, or without any.
    """
    from learned_opt_lab.evaluation.suite import settings as suites

    names = ("num_seeds", "num_tuning_seeds", "budgets", "budget", "seed", "reference", "cache_dir")
    said = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.leagues is not None:
        said["leagues"] = () if "none" in args.leagues else args.leagues
    settings = suites.settings_of(suite)._replace(**said)
    if args.budgets and "equal_budgets" not in settings.leagues:
        raise ValueError("budgets are of the league equal_budgets: add --leagues equal_budgets")
    if settings.leagues and args.budget is not None:
        raise ValueError(
            "budget is of searches without leagues: add --leagues none, or say --budgets "
            f"{args.budget}"
        )
    return settings


def _check(args: Args) -> None:
    """Raises `ValueError` for a number that is out of its range, or leagues beside `none`."""
    if "none" in (args.leagues or ()) and len(args.leagues) > 1:
        raise ValueError("leagues are none or others, not both")
    for name in ("num_seeds", "num_tuning_seeds", "budget"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    if args.budgets and min(args.budgets) < 1:
        raise ValueError(f"budgets must be at least 1, got {min(args.budgets)}")
    if args.max_minutes is not None and not args.max_minutes > 0:
        raise ValueError(f"max_minutes must be above 0, got {args.max_minutes:g}")


def print_end(report: dict[str, Any], out: Path) -> None:
    """What was found, on how many tasks, and where the rest is."""
    if report["optimizers"]:
        print_report(report)
    for optimizer in report["optimizers"]:
        for name in ("tuning_source", "training_tasks"):
            if optimizer.get(name):
                say(f"{optimizer['label']}: {optimizer[name]}")
    for skipped in report["skipped"]:
        say(f"skipped {skipped['task']}: {skipped['reason']}", of_errors=True)
    if report["optimizers"]:
        say(f"{out / 'report.html'} and report.json hold the rest")
    progress = report["progress"]
    if progress["to_come"]:
        done = f"{progress['tasks_done']} of {progress['tasks']} tasks are complete"
        print(f"{done}; the same command goes on")


def print_report(report: dict[str, Any]) -> None:
    """The ranking, or that of each board of the leagues."""
    if not (leagues := report.get("leagues")):
        print_ranking(report)
        return
    if leagues["untuned"]:
        print("nobody tunes")
        print_ranking(report | leagues["untuned"])
    for budget, board in leagues["equal_budgets"].items():
        print(f"equal budgets: {budget} configuration{'s' if budget != '1' else ''} each")
        print_ranking(report | board)


def print_ranking(report: dict[str, Any]) -> None:
    """One line for each optimizer: normalized score with its interval,
    against the reference, divergence.
    """
    from learned_opt_lab.evaluation.page.sentences import reference_name
    from learned_opt_lab.results.folder import show

    print(
        f"{'rank':>4} {'optimizer':<24} {'score':>9} {'95 % interval':>21} {'P(better)':>9} "
        f"{'diverged':>8}"
    )
    for optimizer in report["optimizers"]:
        score, better = optimizer["normalized"], optimizer["improvement_over_reference"]["estimate"]
        interval = (
            "unknown"
            if score["low"] is None
            else f"{show(score['low'], 3)} … {show(score['high'], 3)}"
        )
        better = "unknown" if better is None else f"{better:.2f}"
        say(
            f"{optimizer['rank']:>4} {optimizer['label']:<24} {show(score['estimate'], 3):>9} "
            f"{interval:>21} {better:>9} {optimizer['divergence_rate']:>8.0%}"
        )
    say(f"score: 0 is {reference_name(report)}, 1 is no progress; lower is better")
