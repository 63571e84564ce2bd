"""variance CONFIG: compare estimators' gradients at one theta, by size,
variance and angle to a long-run reference.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

from configs import base
from learned_opt_lab.cli.output import Outcome
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config

RESULT = "variance.json"
FIGURE = "variance.png"
REFERENCE = base.FullES
"""Has no bias: what the others are compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Compare gradient estimators at one theta.

    CONFIG is a name from `learned-opt list`, the path of your own .py file that defines `config`,
    or the config.json of a run.

    All estimators get the config's particles and perturbation; the reference is full ES over many
    whole episodes, which has no bias.
    """

    usual: ClassVar[tuple[str, ...]] = (
        "theta",
        "estimators",
        "lengths",
        "num-estimates",
        "out",
        "overwrite",
        "num-devices",
        "trust",
    )

    theta: str | None = None
    """A theta file or pretrained name; the config's initial theta if not given."""
    estimators: str | None = None
    """Names as `learned-opt list estimators` shows them, with commas between;
    all but the costly ones, forward_mode and full_es, if not given."""
    lengths: str = "10,100"
    """Truncation lengths with commas between, in inner steps or as shares of the episode;
    those above the episode are refused."""
    num_estimates: int = 4
    """Estimates of each estimator at each length, after one episode that does not count."""
    equal_inner_steps: bool = False
    """Take as many more estimates of shorter truncations as cost what num_estimates of the longest
    do: their means are then equally well known, and what turns them away from the reference is
    bias."""
    num_reference_estimates: int = 16
    """Full-ES estimates in the reference; each has an episode for every particle."""
    out: Path | None = None
    """Directory for variance.json and variance.png; runs/CONFIG_variance if not given."""
    trust: bool = False
    """Import and run the code that the theta file, or CONFIG if it is a config.json, names.
    What you name yourself needs no such flag."""
    overwrite: bool = False
    """Replace another result in that directory."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> Outcome:
    """Measures, prints the table, writes JSON and figure.

    Raises:
      ValueError: for an unknown estimator, a length outside the episode, or a result that is there
        already.
    """
    names, lengths = (
        checked_names(args.estimators),
        lengths_within(args.lengths, args.config.problem.num_steps),
    )
    if min(args.num_estimates, args.num_reference_estimates) < 2:
        raise ValueError("num_estimates and num_reference_estimates must be at least 2")
    out = args.out or Path("runs") / f"{args.config_name}_variance"
    if (out / RESULT).exists() and not args.overwrite:
        raise ValueError(f"{out} holds a result; give another --out or --overwrite")

    from learned_opt_lab.cli import progress, surroundings

    progress.load("learned_opt_lab.runs.build")
    from learned_opt_lab.drawing.training_figures import save
    from learned_opt_lab.drawing.variance_figure import variance_figure
    from learned_opt_lab.results.folder import write_result

    surroundings.check_writable(out)
    surroundings.start_jax(args.num_devices, args.compilation_cache)
    with progress.phase("measuring gradients"):
        result = measure(args, names, lengths)
    out.mkdir(parents=True, exist_ok=True)
    write_result(out / RESULT, result)
    save(variance_figure(result), out / FIGURE)
    _print(result)
    line = f"{RESULT} and {FIGURE} are in {out}"
    return Outcome(0, {"out": out, "files": [out / RESULT, out / FIGURE], **result}, line)


def checked_names(text: str | None) -> list[str]:
    """The estimators' names, all that are not costly for None.

    Raises `ValueError` for an unknown one or none.
    """
    from learned_opt_lab.runs import catalog

    known = base.kinds_of(base.Estimator)
    if text is None:
        return [name for name, kind in known.items() if not kind.is_costly]
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ValueError(catalog.unknown("estimator", name, known))
    if not names:
        raise ValueError("estimators must name at least one")
    return list(dict.fromkeys(names))


def lengths_within(text: str, longest: int) -> list[int]:
    """The truncation lengths, ascending.

    Raises `ValueError` for what is no number and no share, or outside `[1, longest]`.
    """
    from learned_opt_lab.ablation.budgets import given_lengths

    lengths = given_lengths(text, longest)
    if lengths[0] < 1 or lengths[-1] > longest:
        raise ValueError(
            f"lengths must lie in [1, {longest}], the episode (problem.num_steps), got {text!r}"
        )
    return lengths


def measure(args: Args, names: list[str], lengths: list[int]) -> dict[str, Any]:
    """The reference, then every estimator at every length; JSON-ready."""
    import jax

    from learned_opt_lab.runs import build
    from outer_train import gradient_quality

    config = args.config
    family, _ = build.build_family(config.family)
    optimizer, name, _ = build.build_optimizer(config.optimizer)
    key_theta, key_reference, key_samples = jax.random.split(jax.random.key(config.seed), 3)
    untrained = jax.device_get(optimizer.init(key_theta))
    path = args.theta or config.init_theta
    theta = build.initial_theta(path, optimizer, untrained, name=name, trust=args.trust)
    make = lambda kind: _sampler(args, kind, lengths[-1], family, optimizer)
    reference = make(REFERENCE)(
        theta, key_reference, 1, args.num_reference_estimates, family.data, burn_in=False
    )
    usable = gradient_quality.known(reference.grads)
    mean = usable.mean(axis=0) if len(usable) else reference.grads[0]
    rows = []
    for name in names:
        kind = base.kinds_of(base.Estimator)[name]
        sampler = make(kind)
        for length in lengths if kind.truncates else lengths[-1:]:
            key = jax.random.fold_in(key_samples, len(rows))
            number = args.num_estimates
            number *= max(1, lengths[-1] // length) if args.equal_inner_steps else 1
            found = sampler(theta, key, length, number, family.data, burn_in=kind.truncates)
            num_steps = length if kind.truncates else config.problem.num_steps
            about = {"estimator": name, "num_steps": num_steps, "num_estimates": number}
            rows.append(about | _row(found, mean, gradient_quality.reliability(reference)))
    num_pairs = args.num_reference_estimates * build.num_particles(config.estimator)
    summary = gradient_quality.summarize(reference, mean)._asdict()
    about = {
        "estimator": base.name_of(REFERENCE),
        "num_episode_pairs": num_pairs,
        **{key: _printable(value) for key, value in summary.items()},
        "reliability": _printable(gradient_quality.reliability(reference)),
    }
    given = {"config": args.config_name, "theta": args.theta or "initial"}
    return given | {"reference": about, "rows": rows}


def _row(found, mean, reliability_of_reference: float) -> dict[str, Any]:
    """What is told of an estimator's estimates against the mean of the reference."""
    from outer_train import gradient_quality

    row = gradient_quality.summarize(found, mean)._asdict()
    row["reliability"] = gradient_quality.reliability(found)
    row["cosine_without_noise"] = gradient_quality.without_noise(
        row["cosine"], row["reliability"], reliability_of_reference
    )
    return {key: _printable(value) for key, value in row.items()}


def _sampler(args, kind, longest, family, optimizer):
    """One estimator with the particles,
    the perturbation and the options it shares with the config's own.
    """
    from learned_opt_lab.runs import build
    from outer_train import PARTICLES, gradient_quality, particle_mesh

    given = args.config.estimator
    fields = {field.name for field in dataclasses.fields(kind)}
    shared = {key: value for key, value in vars(given).items() if key in fields} | {"stagger": True}
    count = build.num_particles(given)
    shared |= {"num_pairs": count, "num_particles": count}
    estimator = kind(**{key: value for key, value in shared.items() if key in fields})
    config = dataclasses.replace(
        args.config, estimator=estimator, truncation=base.Constant(longest)
    )
    built = build.build_estimator(
        config, family, optimizer, build.build_truncation(config), axis_name=PARTICLES
    )
    return gradient_quality.Sampler(
        built, family.num_steps or config.problem.num_steps, particle_mesh(count, args.num_devices)
    )


def _print(result: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from learned_opt_lab.drawing.text import plain

    columns = ("norm", "mean_norm", "variance", "cosine", "mean_cosine", "cosine_without_noise")
    title = f"{result['config']}: outer gradients at the {result['theta']} theta"
    table = Table(title=Text(plain(title)), box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("estimator", no_wrap=True)
    for name in ("length", *(column.replace("_", " ") for column in columns)):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        table.add_row(
            row["estimator"], str(row["num_steps"]), *(_short(row[column]) for column in columns)
        )
    Console().print(table)
    reference = result["reference"]
    print(
        f"reference: full ES over {reference['num_episode_pairs']} pairs of whole episodes, norm "
        f"{_short(reference['norm'])}; its halves agree to a cosine of "
        f"{_short(reference['reliability'])}"
    )


def _printable(value):
    """JSON has no nan and no infinity."""
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _short(value) -> str:
    from learned_opt_lab.results.folder import show

    return show(value, 3)
