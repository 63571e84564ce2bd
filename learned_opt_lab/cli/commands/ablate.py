"""ablate CONFIG --out D: outer-train without one part at a time,
several seeds, the same total of inner steps.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from learned_opt_lab.cli.output import Outcome
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config

RESULT = "ablation.json"
NOTHING_LEARNED = 1
"""Exit status where a run had not one finite outer loss."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Ablations of outer-training (arXiv 1810.10180, figure 8).

    An interrupted one goes on where it stopped.

    CONFIG is a name from `learned-opt list`, the path of your own .py file that defines `config`,
    or the config.json of a run.

    Variants: merged (RP and ES, truncations growing linearly), reparameterization,
    evolution_strategies, persistent_es, noise_reuse_es (with the same growth), fixed_N (merged,
    truncations of N), no_momentum and no_time (inputs taken away) and train_objective (L_train in
    place of L_valid). Estimators get the config's particles, perturbation and outer optimizer; its
    rate is not tuned for each.
    """

    out: Path | None = None
    """Folder for ablation.json, table.md, ablation.png and the cells;
    runs/CONFIG_ablation if not given."""
    variants: str = "all"
    """Names, with commas between."""
    num_seeds: int = 3
    """Outer-training runs of each variant."""
    num_inner_steps: int = 200_000
    """Of one run: all particles, both sides of a pair.
    Two cores do 15,000 a second without gradients on digits, and 2,000 with."""
    lengths: str = "10,100,1000"
    """Fixed truncations in inner steps, with commas between;
    those above the episode (problem.num_steps) become it."""
    curriculum_start: int = 10
    """First truncation of the growing ones; the last is the longest of `lengths`."""
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
    """Runs the cells that are missing, writes JSON, table and figure, and prints what was found.

    Raises:
      ValueError: for an unknown variant, counts or lengths that do not fit, or a folder that holds
        something else.
    """
    from learned_opt_lab.ablation.variants import variant_names, variants_of

    _check_counts(args)
    lengths = checked_lengths(args.lengths, args.config.problem.num_steps)
    names = checked_names(args.variants, variant_names(lengths), args.config)
    ablated = variants_of(args.config, names, lengths, args.curriculum_start, args.num_inner_steps)
    out = args.out or Path("runs") / f"{args.config_name}_ablation"

    from learned_opt_lab.cli import progress, surroundings, verdicts

    progress.load("learned_opt_lab.ablation.results", "learned_opt_lab.runs.build")
    from learned_opt.disk import files
    from learned_opt_lab.ablation import runs
    from learned_opt_lab.ablation.figure import ablation_figure
    from learned_opt_lab.ablation.results import results, table, untrained
    from learned_opt_lab.drawing.training_figures import save
    from learned_opt_lab.results.folder import warn, write_result
    from outer_train.run import lock

    surroundings.start_jax(args.num_devices, args.compilation_cache)
    problem, variants = build(ablated, args)
    settings = settings_of(args)
    runs.prepare_folder(out, describe(args, settings))
    with lock.hold(out):
        with progress.shown_progress() as show:
            cells = runs.run_cells(out, problem, variants, settings, show)
        result = {"config": args.config_name, **results(variants, cells, settings)}
        write_result(out / RESULT, result)
        files.write_text(out / "table.md", table(result))
        save(ablation_figure(result), out / "ablation.png")
    print(table(result))
    print(f"{RESULT}, table.md and ablation.png are in {out}")
    for row, count in untrained(result):
        warn(
            f"{row['variant']}: in {count} of {args.num_seeds} runs no outer loss was finite; "
            "theta learned nothing"
        )
    written = [out / name for name in (RESULT, "table.md", "ablation.png")]
    found = {"out": out, "files": written, "ablation": result}
    status = NOTHING_LEARNED if untrained(result) else 0
    return Outcome(
        status, found, *verdicts.of_ablation(result, args.config_file or args.config_name)
    )


def checked_lengths(text: str, episode: int) -> list[int]:
    """The fixed truncations, ascending, none above the episode.

    Raises `ValueError` for what is no positive number.
    """
    try:
        lengths = sorted({min(int(part), episode) for part in text.split(",")})
    except ValueError:
        raise ValueError(
            f"lengths must be whole numbers with commas between, got {text!r}"
        ) from None
    if lengths[0] < 1:
        raise ValueError(f"lengths must be at least 1, got {text!r}")
    return lengths


def checked_names(text: str, known: list[str], config) -> list[str]:
    """The variants' names. Raises `ValueError` for an unknown one or none."""
    from configs.base import Mlp
    from learned_opt_lab.runs import catalog

    if text == "all":
        inputs = isinstance(config.optimizer, Mlp)
        return [name for name in known if inputs or name not in ("no_momentum", "no_time")]
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ValueError(catalog.unknown("variant", name, known))
    if not names:
        raise ValueError("variants must name at least one")
    return list(dict.fromkeys(names))


def _check_counts(args: Args) -> None:
    for name in ("num_seeds", "num_inner_steps", "num_tasks", "num_points", "curriculum_start"):
        if getattr(args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(args, name)}")
    if args.seeds_at_once is not None and args.seeds_at_once < 1:
        raise ValueError(f"seeds_at_once must be at least 1, got {args.seeds_at_once}")


def settings_of(args: Args):
    """What all variants share."""
    from learned_opt_lab.ablation.runs import Settings

    return Settings(
        seeds=tuple(range(args.num_seeds)),
        seed=args.config.seed,
        num_steps=args.config.problem.num_steps,
        num_tasks=args.num_tasks,
        num_points=args.num_points,
        loss_cap=args.config.problem.loss_clip,
        seeds_at_once=args.seeds_at_once or args.num_seeds,
    )


def describe(args: Args, settings) -> dict[str, Any]:
    """What makes two ablations the same one; seeds and variants may be added to it."""
    from learned_opt_lab.ablation.runs import FORMAT_VERSION
    from learned_opt_lab.runs.config_json import to_json

    shared = {
        name: value
        for name, value in settings._asdict().items()
        if name not in ("seeds", "seeds_at_once")
    }
    about = {
        "format_version": FORMAT_VERSION,
        "config": to_json(args.config),
        "num_inner_steps": args.num_inner_steps,
        **shared,
    }
    return json.loads(json.dumps(about))


def build(ablated: dict[str, Any], args: Args):
    """The problem and the variants, ready to run; the data is read once."""
    from learned_opt_lab.ablation.runs import Problem, Variant
    from learned_opt_lab.runs import build as builder
    from learned_opt_lab.runs.config_json import to_json
    from learned_opt_lab.runs.families import HELD_OUT, scored_on
    from learned_opt_lab.runs.optimizer import build_optimizer
    from outer_train import devices, outer_step_of_seeds

    config = args.config
    families, held_outs = zip(
        *map(builder.build_family, (config.family, *config.extra_families)), strict=True
    )
    mesh = devices.particle_mesh(
        builder.num_particles(next(iter(ablated.values())).config.estimator), args.num_devices
    )
    optimizers: dict[str, Any] = {}

    def variant(name, config, label):
        # One object for equal configs: those share the program that evaluates.
        optimizer = optimizers.setdefault(
            repr(config.optimizer), build_optimizer(config.optimizer)[0]
        )
        schedule = builder.build_truncation(config)
        outer_optimizer = builder.build_outer_optimizer(
            config.outer_optimizer, config.num_outer_steps
        )
        over_mesh = {"axis_name": devices.PARTICLES}
        estimators = [
            builder.build_estimator(config, f, optimizer, schedule, **over_mesh) for f in families
        ]

        def make_step(seeds):
            return outer_step_of_seeds(estimators, outer_optimizer, schedule, mesh, seeds)

        return Variant(name, label, to_json(config), optimizer, config.num_outer_steps, make_step)

    variants = [variant(name, each.config, each.label) for name, each in ablated.items()]
    return Problem(families, held_outs[0] if scored_on(config) == HELD_OUT else None), variants
