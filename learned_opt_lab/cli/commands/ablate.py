"""ablate CONFIG --out D: outer-train without one part at a time,
several seeds, the same total of inner steps.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from configs.base import TrainConfig
from learned_opt_lab.cli.output import Outcome, say
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config, with_fields

RESULT = "ablation.json"
NOTHING_LEARNED = 1
"""Exit status where a run had not one finite outer loss."""
COUNTS = (
    "num_seeds",
    "num_other_seeds",
    "num_inner_steps",
    "num_rate_inner_steps",
    "num_tasks",
    "num_points",
    "seeds_at_once",
)
SHARE_OF_RATES = 10
"""A short run has this part of the inner steps of a whole one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Ablations of outer-training (arXiv 1810.10180, figure 8).

    An interrupted one goes on where it stopped.

    CONFIG is a name from `learned-opt list`, the path of your own .py file that defines `config`,
    or the config.json of a run.

    The base is CONFIG itself, with its tasks, estimator and truncations, called by its estimator's
    name. Each variant changes one thing: merged, reparameterization, evolution_strategies,
    persistent_es, noise_reuse_es (that estimator), fixed_N (truncations of N), no_momentum and
    no_time (inputs taken away), preset_metz2019 (the paper's optimizer), not_orthogonal,
    adam_direction, momentum_direction and not_told (of orthogonal-mlp: plain steps, a direction
    that is not learned, episodes of unknown length), without_NAME (trained
    without the families of that data set or function), train_objective (L_train in place of
    L_valid). All have the same total of inner steps. Thetas are judged on tasks of all families
    that CONFIG trains on.
    """

    usual: ClassVar[tuple[str, ...]] = (
        "out",
        "variants",
        "variant",
        "num-seeds",
        "num-inner-steps",
        "outer-rates",
        "lengths",
        "num-tasks",
        "num-devices",
    )

    out: Path | None = None
    """Folder for ablation.json, table.md, figures, thetas and the cells;
    runs/CONFIG_ablation if not given."""
    variants: str = "all"
    """Names, with commas between; the base is always there."""
    variant: tuple[str, ...] = ()
    """NAME:FIELD=VALUE,FIELD=VALUE: variants of your own, with spaces between.
    As in --variant clipped:outer-optimizer.clip=value,outer-optimizer.clip-at=0.1; a kind is chosen
    by its word, as in backprop:estimator=truncated-backprop."""
    num_seeds: int = 3
    """Outer-training runs of the base and of each variant."""
    num_other_seeds: int | None = None
    """Those of variants that have another estimator neither nor are the base;
    num_seeds if not given."""
    num_inner_steps: int | None = None
    """Of one run: all particles, both sides of a pair. What CONFIG itself takes, if not given.
    Two cores do 15,000 a second without gradients on digits, and 2,000 with."""
    outer_rates: tuple[float, ...] = ()
    """Each variant gets the best of these outer rates after a short run.
    CONFIG's own if not given."""
    num_rate_inner_steps: int | None = None
    """Inner steps of such a short run; a tenth of num_inner_steps if not given."""
    lengths: str = "10,100,1000"
    """Fixed truncations with commas between, in inner steps or as shares of the episode
    (problem.num_steps) such as 0.1%,1%,10%; those above the episode become it."""
    num_tasks: int = 16
    """Tasks of each of the two families, trained and held out, that thetas are evaluated on."""
    num_points: int = 8
    """Points of the curves after the start, evenly spread over outer steps."""
    seeds_at_once: int | None = None
    """Seeds in one program; all if not given. 1 needs the least memory."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> Outcome:
    """Runs the cells that are missing, writes JSON, table and figures, and prints what was found.

    Raises:
      ValueError: for an unknown variant, counts or lengths that do not fit, or a folder that holds
        something else.
    """
    args, ablated = planned(args)
    out = args.out or Path("runs") / f"{args.config_name}_ablation"

    from learned_opt_lab.cli import progress, surroundings, verdicts

    progress.load("learned_opt_lab.ablation.making", "learned_opt_lab.ablation.results")
    from learned_opt_lab.ablation import runs
    from learned_opt_lab.ablation.making import Maker
    from learned_opt_lab.ablation.report import table, untrained
    from learned_opt_lab.ablation.results import results
    from learned_opt_lab.results.folder import warn
    from outer_train.run import lock

    surroundings.start_jax(args.num_devices, args.compilation_cache)
    maker, settings = Maker(args.config, args.num_devices), settings_of(args)
    for name, each in ablated.items():  # what cannot be built is said before anything is run
        maker(name, each)
    runs.prepare_folder(out, describe(args, settings))
    with lock.hold(out):
        with progress.shown_progress() as show:
            variants = made(out, maker, ablated, args, settings, show)
            cells = runs.run_cells(out, maker.problem, variants, settings, show)
        result = {"config": args.config_name, **results(variants, cells, settings)}
        written = write(out, result, variants, cells)
    say(*table(result).splitlines())
    say(f"{RESULT}, table.md, figures and thetas are in {out}")
    for row, count in untrained(result):
        warn(
            f"{row['variant']}: in {count} of {row['num_seeds']} runs no outer loss was finite; "
            "theta learned nothing"
        )
    found = {"out": out, "files": written, "ablation": result}
    status = NOTHING_LEARNED if untrained(result) else 0
    return Outcome(
        status, found, *verdicts.of_ablation(result, args.config_file or args.config_name)
    )


def planned(args: Args) -> tuple[Args, dict[str, Any]]:
    """The arguments with their inner steps filled in, and the variants' configs."""
    from learned_opt_lab.ablation.budgets import checked_lengths, spent
    from learned_opt_lab.ablation.variants import changes, check_own, variants_of

    _check_counts(args)
    lengths = checked_lengths(args.lengths, args.config.problem.num_steps)
    own = own_variants(args.variant, args.config)
    check_own(args.config, own, lengths)
    names = checked_names(args.variants, list(changes(args.config, lengths)), own)
    if args.num_inner_steps is None:
        args = dataclasses.replace(args, num_inner_steps=spent(args.config))
    return args, variants_of(args.config, names, lengths, args.num_inner_steps, own)


def made(out: Path, maker, ablated: Mapping[str, Any], args: Args, settings, show) -> list:
    """The variants, ready to run, each at its best outer rate of a short run."""
    from learned_opt_lab.ablation.budgets import with_budget
    from learned_opt_lab.ablation.rates import choose
    from learned_opt_lab.ablation.variants import BASE, of_rate

    short = args.num_rate_inner_steps or args.num_inner_steps // SHARE_OF_RATES
    variants = []
    for number, (name, each) in enumerate(ablated.items()):
        of_estimators = each.group in (BASE, "estimator")
        more = {"seeds": None if of_estimators else args.num_other_seeds}
        own_rate = each.config.outer_optimizer.learning_rate
        if args.outer_rates and own_rate == args.config.outer_optimizer.learning_rate:
            brief = each._replace(config=with_budget(each.config, short))
            tried = {rate: maker(name, of_rate(brief, rate)) for rate in args.outer_rates}
            say = lambda what, number=number: show(number, len(ablated), what)
            chosen = choose(out, maker.problem, name, tried, settings, say)
            each, more = of_rate(each, chosen.rate), more | {"rates": chosen.losses}
        variants.append(maker(name, each, **more))
    return variants


def write(out: Path, result: dict[str, Any], variants: list, cells: Mapping) -> list[Path]:
    """Writes JSON, table, figures and thetas; the paths of the first three."""
    from learned_opt.disk import files
    from learned_opt_lab.ablation.figure import ablation_figure, along_figure
    from learned_opt_lab.ablation.report import table
    from learned_opt_lab.ablation.thetas import save_thetas
    from learned_opt_lab.drawing.training_figures import save
    from learned_opt_lab.results.folder import finite, write_result

    save_thetas(out, variants, cells)
    write_result(out / RESULT, result)
    files.write_text(out / "table.md", table(result))
    save(ablation_figure(finite(result)), out / "ablation.png")
    written = [out / name for name in (RESULT, "table.md", "ablation.png")]
    if (figure := along_figure(finite(result))) is not None:
        save(figure, out / "variances.png")
        written.append(out / "variances.png")
    return written


def own_variants(texts: Sequence[str], config: TrainConfig) -> dict[str, TrainConfig]:
    """Name -> config, of `NAME:FIELD=VALUE,FIELD=VALUE`.

    Raises `ValueError` for a text that says no variant, a name that is none of a folder or is given
    twice, and a field or a value that does not exist.
    """
    found: dict[str, TrainConfig] = {}
    for text in texts:
        name, _, fields = text.partition(":")
        pairs = [part.partition("=") for part in fields.split(",")]
        if not name.isidentifier() or not all(field and value for field, _, value in pairs):
            raise ValueError(
                "--variant takes NAME:FIELD=VALUE,FIELD=VALUE with a name of letters, digits and "
                f"_, as in slow:outer-optimizer.learning-rate=1e-4, got {text!r:.200}"
            )
        if name in found:
            raise ValueError(f"--variant gives {name!r} twice")
        given = {field.strip().replace("-", "_"): value.strip() for field, _, value in pairs}
        found[name] = with_fields(config, given, "--variant")
    return found


def checked_names(text: str, known: list[str], own: Mapping[str, TrainConfig]) -> list[str]:
    """The variants' names, the base, which is the first known, in front and own ones at the end.

    Raises `ValueError` for an unknown one or none.
    """
    from learned_opt_lab.ablation.variants import OF_OPTIMIZERS
    from learned_opt_lab.runs import catalog

    if text == "all":
        return [*known, *own]
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (*known, *own, *itertools.chain(*OF_OPTIMIZERS.values())):
            raise ValueError(catalog.unknown("variant", name, [*known, *own]))
    if not names:
        raise ValueError("variants must name at least one")
    return list(dict.fromkeys([known[0], *names, *own]))


def _check_counts(args: Args) -> None:
    for name in COUNTS:
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if args.num_other_seeds is not None and args.num_other_seeds > args.num_seeds:
        raise ValueError(
            f"num_other_seeds must be at most num_seeds, {args.num_seeds}, got "
            f"{args.num_other_seeds}"
        )
    if args.outer_rates and not all(0 < rate < float("inf") for rate in args.outer_rates):
        raise ValueError(f"outer_rates must be above 0 and finite, got {args.outer_rates}")
    if len(set(args.outer_rates)) < len(args.outer_rates):
        raise ValueError(f"outer_rates must differ, got {args.outer_rates}")


def settings_of(args: Args):
    """What all variants share."""
    from learned_opt_lab.ablation.runs import Settings

    problem = args.config.problem
    return Settings(
        seeds=tuple(range(args.num_seeds)),
        seed=args.config.seed,
        num_steps=problem.num_steps,
        num_tasks=args.num_tasks,
        num_points=args.num_points,
        loss_cap=problem.loss_clip,
        seeds_at_once=args.seeds_at_once or args.num_seeds,
        log_offset=problem.log_offset if problem.reduction == "mean_log" else None,
        late=True if problem.reduction == "late_mean" else None,
    )


def describe(args: Args, settings) -> dict[str, Any]:
    """What makes two ablations the same one; seeds and variants may be added to it."""
    from learned_opt_lab.ablation.runs import FORMAT_VERSION
    from learned_opt_lab.runs.config_json import to_json

    shared = {
        name: value
        for name, value in settings._asdict().items()
        if name not in ("seeds", "seeds_at_once") and value is not None
    }
    about = {
        "format_version": FORMAT_VERSION,
        "config": to_json(args.config),
        "num_inner_steps": args.num_inner_steps,
        "outer_rates": list(args.outer_rates),
        "num_rate_inner_steps": args.num_rate_inner_steps,
        **shared,
    }
    return json.loads(json.dumps(about))
