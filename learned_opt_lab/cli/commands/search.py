"""search CONFIG: find the few numbers of a theta that the config's own search is over."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from learned_opt_lab.cli.output import Outcome, say
from learned_opt_lab.cli.parsing import ConfigArgs, parse_with_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(ConfigArgs):
    """Search a few numbers of a theta on the config's outer-training families,
    as its `search` says.

    CONFIG is a name from `learned-opt list`, the path of your own .py file that defines `config`,
    or the config.json of a run.
    The numbers where the search starts, how far it looks and how long stand in the config.
    """

    usual: ClassVar[tuple[str, ...]] = (
        "out",
        "generations",
        "seed",
        "overwrite",
        "num-devices",
        "trust",
    )

    out: Path | None = None
    """Folder for theta.npz, theta.json, search.json and config.json;
    runs/CONFIG_search if not given."""
    generations: int | None = None
    """Generations in place of the config's."""
    trust: bool = False
    """Import and run the code that the file init_theta, or CONFIG if it is a config.json, names.
    What you name yourself needs no such flag."""
    overwrite: bool = False
    """Replace another result in that folder."""


def parse(argv: list[str], prog: str) -> Args:
    """Reads `CONFIG [--field value ...]`."""
    return parse_with_config(Args, argv, prog)


def run(args: Args) -> Outcome:
    """Searches; the theta so far is written after every generation.

    Raises:
      ValueError: the config has no search, or one that does not fit, or a result is there already.
    """
    config = args.config
    if config.search is None:
        raise ValueError(
            f"{args.config_name} has no search; `learned-opt train {args.config_name}` trains it"
        )
    if args.generations is not None:
        if args.generations < 1:
            raise ValueError(f"--generations must be at least 1, got {args.generations}")
        search = dataclasses.replace(config.search, num_generations=args.generations)
        config = dataclasses.replace(config, search=search)
    out = args.out or Path("runs") / f"{args.config_name}_search"

    from learned_opt_lab.cli import progress, surroundings, verdicts

    progress.load("learned_opt_lab.searches.run")
    from learned_opt_lab.searches.run import RESULT, run_search

    if (out / RESULT).exists() and not args.overwrite:
        raise ValueError(f"{out} holds a result; give another --out or --overwrite")
    surroundings.check_writable(out)
    surroundings.start_jax(args.num_devices, args.compilation_cache)
    say(f"search directory: {out}")
    with progress.phase("searching", says=False):
        _, scores = run_search(config, out, trust=args.trust)
    say(f"theta.npz, theta.json and {RESULT} are in {out}")
    last = scores[-1]._asdict() if scores else None
    files = [out / name for name in ("theta.npz", "theta.json", RESULT)]
    found = {"out": out, "generations": len(scores), "last": last, "files": files}
    return Outcome(0, found, *verdicts.of_search(last, out))
