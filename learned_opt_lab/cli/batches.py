"""Several runs of one config: seeds, and values of its fields, in folders of one directory.

Called again with the same words, it leaves what is finished, goes on with what was cut off, and
starts what is not there.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs.base import TrainConfig
from learned_opt_lab.cli.output import Outcome, say
from learned_opt_lab.cli.parsing import with_fields

MAX_RUNS = 1000
UNSAFE = re.compile(r"[^\w.+-]+")
"""What does not belong into a folder's name."""


class Member(NamedTuple):
    """One of the runs: its folder within the directory, what tells it apart, and its config."""

    path: Path
    values: dict[str, str]
    config: TrainConfig


def members(
    config: TrainConfig, out: Path, seeds: Sequence[int], sweep: Sequence[str]
) -> list[Member]:
    """The runs that `--seeds` and `--sweep` mean.

    Args:
      config: of all of them, but for what is swept.
      out: the directory.
      seeds: of the runs; the config's own if empty.
      sweep: `"estimator.std=0.01,0.03"`; of several the product.

    Raises:
      ValueError: for a field or a value that does not exist, one that is named twice, or too many.

    Example:
      >>> [each.path.as_posix() for each in members(TrainConfig(), Path("out"), (0, 1), ())]
      ['out/seed-0', 'out/seed-1']
    """
    axes = [_axis(text) for text in sweep]
    names = [name for name, _ in axes]
    if seeds:
        names, axes = [*names, "seed"], [*axes, ("seed", [str(seed) for seed in seeds])]
    if len(set(names)) < len(names):
        raise ValueError(f"each field is swept once, got {', '.join(names)}")
    for name, values in axes:
        if len(set(values)) < len(values):
            raise ValueError(f"values of {name} must differ, got {', '.join(values)}")
    found = []
    for values in itertools.product(*(values for _, values in axes)):
        chosen = dict(zip(names, values, strict=True))
        found.append(Member(out / _folder(chosen), chosen, with_fields(config, chosen)))
        if len(found) > MAX_RUNS:
            raise ValueError(f"these are more than {MAX_RUNS} runs")
    if len({each.path for each in found}) < len(found):
        raise ValueError("two of these values have one name; write them in another way")
    return found


def _axis(text: str) -> tuple[str, list[str]]:
    """Field and values of one `--sweep`."""
    name, equals, values = text.partition("=")
    parts = [part.strip() for part in values.split(",")]
    if not name or not equals or not all(parts):
        example = "estimator.std=0.01,0.03"
        raise ValueError(f"--sweep takes FIELD=VALUE,VALUE as in {example}, got {text!r:.200}")
    return name.strip().lstrip("-").replace("-", "_"), parts


def _folder(chosen: Mapping[str, str]) -> str:
    """`std-0.03_seed-0`: the last part of each field's name, and its value."""
    parts = (
        f"{name.rpartition('.')[2]}-{UNSAFE.sub('-', value)}" for name, value in chosen.items()
    )
    return "_".join(parts)


def run(
    runs_to_do: Sequence[Member], out: Path, shared: dict[str, Any], created: dict[str, Any]
) -> Outcome:
    """Trains all of them, one after another, and prints a table.

    Args:
      runs_to_do: what `members` gives.
      out: the directory.
      shared: arguments of `runs.train` and `runs.resume`.
      created: those of `runs.train` alone.

    Raises:
      ValueError: a folder holds another run.
    """
    from learned_opt_lab.cli.running import is_alone, outcome_of
    from learned_opt_lab.runs.config_json import to_json
    from learned_opt_lab.runs.course import check
    from outer_train.run import RunDirectory

    finished: dict[Path, dict[str, Any]] = {}
    for each in [] if created["overwrite"] else runs_to_do:
        _check_same(each, to_json(each.config))
        if (summary := RunDirectory(each.path).summary).exists():
            finished[each.path] = _read(summary)
    with shared["show"].phase(f"checking {len(runs_to_do)} runs"):
        check([each.config for each in runs_to_do], shared["engine"])
    rows: list[dict[str, Any]] = []
    outcomes: list[Outcome] = []
    for number, each in enumerate(runs_to_do, 1):
        say(f"run {number} of {len(runs_to_do)}: {each.path}")
        if each.path in finished:
            print("finished before")
            outcomes.append(Outcome(found={"summary": finished[each.path]}))
        else:
            start = lambda each=each: _start(each, shared, created)
            settings = {"replaces": created["overwrite"], "alone": is_alone(shared["engine"])}
            outcomes.append(outcome_of(start, each.path, **settings))
        rows.append(_row(each, outcomes[-1]))
        if outcomes[-1].status > 1:  # a signal
            break
        if outcomes[-1].error:
            say(outcomes[-1].error)
    return _told(rows, outcomes, len(runs_to_do), out)


def _check_same(member: Member, config: dict[str, Any]) -> None:
    """Raises `ValueError` for a run of another config, before any is started."""
    from outer_train.run import RunDirectory, directory

    path = RunDirectory(member.path).config
    if path.exists() and directory.read_object(path) != json.loads(json.dumps(config)):
        raise ValueError(
            f"{member.path} holds a run of another config; give another --run-dir, or --overwrite"
        )


def _read(path: Path) -> dict[str, Any]:
    """The summary of a finished run; raises `ValueError` for one without the numbers of the table.

    What is unknown is null.
    """
    from learned_opt_lab.cli import verdicts
    from outer_train.run import directory

    summary = directory.read_object(path)
    tables = [summary.get(name) or {} for name in verdicts.SCORED]
    numbers = [summary.get("outer_loss_last")]
    for table in tables:
        numbers += (table.get(n) for n in ("learned", "adam_tuned")) if _is(dict, table) else ["?"]
    if not all(each is None or _is(int | float, each) for each in numbers):
        raise ValueError(
            f"{path} is damaged: it has no numbers where scores belong; without it, the same "
            "command scores the run again"
        )
    return summary


def _is(kind: Any, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _start(member: Member, shared: dict[str, Any], created: dict[str, Any]):
    from learned_opt_lab import runs
    from outer_train.run import RunDirectory

    if RunDirectory(member.path).config.exists() and not created["overwrite"]:
        return runs.resume(member.path, **shared)
    return runs.train(member.config, member.path, **created, **shared)


def _row(member: Member, outcome: Outcome) -> dict[str, Any]:
    """What the table and the JSON say of a run."""
    from learned_opt_lab.cli import verdicts

    summary = outcome.found.get("summary") or {}
    scored = next((name for name in verdicts.SCORED if name in summary), None)
    score = (summary[scored] if scored else None) or {}
    return {
        "run_dir": member.path,
        "values": member.values,
        "status": outcome.status,
        "outer_loss": summary.get("outer_loss_last"),
        "scored_on": scored,
        "score": score.get("learned"),
        "adam_tuned": score.get("adam_tuned"),
    }


def _told(rows: list[dict[str, Any]], outcomes: list[Outcome], total: int, out: Path) -> Outcome:
    from learned_opt_lab.cli import verdicts
    from learned_opt_lab.results.folder import show

    width = max(len(row["run_dir"].name) for row in rows)
    print(f"{'run':<{width}} {'outer loss':>11} {'score':>9} {'tuned Adam':>11}")
    for row in rows:
        numbers = (show(row[name]) for name in ("outer_loss", "score", "adam_tuned"))
        say("{:<{}} {:>11} {:>9} {:>11}".format(row["run_dir"].name, width, *numbers))
    last, found = outcomes[-1], {"run_dir": out, "runs": rows}
    if last.status > 1:
        said = f"stopped at run {len(rows)} of {total}; the same command goes on"
        return Outcome(last.status, found, error=said)
    failed = sum(outcome.status != 0 for outcome in outcomes)
    error = f"error: {failed} of {total} runs have learned nothing" if failed else ""
    return Outcome(int(bool(failed)), found, *verdicts.of_batch(rows), error)
