"""Who takes part: from `[label=]SPEC` on the command line to something that can be swept.

SPEC is a baseline's name, a shipped optimizer's name, a theta file, a run directory, or several run
directories (a comma list or a glob): seeds of one config, of which the one with the lowest
outer-training loss is shown. Held-out losses have no part in that choice. A rival may be given with
another schedule or search space, and a `"module:name"` is a rival of the user's own
(`learned_opt_lab.evaluation.rivals.outside`).
"""

import glob
import json
import math
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_opt import LearnedOptimizer, Theta, catalog, load_theta, pretrained_names
from learned_opt.disk import reading
from learned_opt_lab.drawing.text import well_formed
from learned_opt_lab.evaluation import statistics
from learned_opt_lab.evaluation.baselines import BASELINES, searched
from learned_opt_lab.evaluation.rivals.outside import named_rival
from learned_opt_lab.evaluation.rivals.rival import Rival
from learned_opt_lab.evaluation.rivals.table import RIVALS
from learned_opt_lab.evaluation.suite import training_tasks
from learned_opt_lab.evaluation.tuning import Contestant
from learned_opt_lab.results import content


class Entry(NamedTuple):
    """One optimizer of an evaluation.

    Attributes:
      label: its name in the report.
      spec: what the user wrote.
      baseline: a key of `learned_opt_lab.evaluation.baselines.BASELINES`, or None.
      optimizer: the learned optimizer, or None.
      theta: its outer parameters, or None.
      details: what the report says about it; JSON.
      rival: of one with a schedule or a search space of its own, or from outside; or None.
    """

    label: str
    spec: str
    baseline: str | None = None
    optimizer: LearnedOptimizer | None = None
    theta: Theta = None
    details: dict[str, Any] = {}  # noqa: RUF012  A NamedTuple's default; never changed.
    rival: Rival | None = None

    @property
    def fingerprint(self) -> str:
        """Changes when the optimizer does: a digest of its weights, or its name."""
        if self.baseline is not None:
            return f"baseline:{self.baseline}"
        if self.rival is not None:
            return f"rival:{self.spec} {self.rival.fingerprint}".rstrip()
        return f"theta:{content.data(self.theta)[:16]}"

    @property
    def architecture(self) -> str:
        """The same for optimizers whose steps cost the same: a rival of the table at any rate and
        schedule, learned optimizers whose weights differ in their values only.
        """
        if self.kind != "learned":
            name = self.spec.partition("@")[0]
            return name if name in BASELINES else self.spec
        shapes = jax.tree.map(
            lambda leaf: (np.shape(leaf), str(np.asarray(leaf).dtype)), self.theta
        )
        return f"learned {shapes}"

    @property
    def kind(self) -> str:
        """ "baseline" for one that is hand-designed, "learned", or "outside" for who knows what."""
        if self.rival is not None:
            return "baseline" if self.spec.partition("@")[0] in RIVALS else "outside"
        return "learned" if self.baseline is None else "baseline"

    @property
    def searched(self) -> str | Contestant | None:
        """What `learned_opt_lab.evaluation.tuning.tune` takes; None where nothing is searched."""
        if self.rival is None:
            return self.baseline
        return Contestant(self.spec, searched(self.rival), self.rival.fingerprint)


def parse_entries(specs: list[str] | tuple[str, ...], *, trust: bool = False) -> list[Entry]:
    """Reads `[label=]SPEC` arguments.

    Args:
      specs: the arguments.
      trust: import and run the code that theta files name, as in `learned_opt.load_theta`.

    Raises:
      ValueError: for no argument at all, a label given twice, or a SPEC that is nothing known or
        does not load.
    """
    if not specs:
        raise ValueError(
            "no optimizer given; name baselines, run directories, theta files or shipped optimizers"
        )
    entries = [_parse(spec, trust) for spec in specs]
    labels = [entry.label for entry in entries]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ValueError(
            f"label {repeated[0]!r} is given to several optimizers; name them with label=SPEC"
        )
    return entries


def _parse(argument: str, trust: bool) -> Entry:
    label, equals, spec = argument.partition("=")
    if not equals:
        label, spec = "", argument
    if not spec or (equals and not label.strip()):
        raise ValueError(f"{argument[:200]!r} is no optimizer: expected SPEC or label=SPEC")
    label = _checked_label(label, spec)
    if spec in BASELINES:
        return Entry(
            label or spec,
            spec,
            baseline=spec,
            details={"description": BASELINES[spec].description},
        )
    if (rival := named_rival(spec)) is not None:
        name = spec if spec.partition("@")[0] in RIVALS else spec.rpartition(":")[2]
        details = {"description": rival.description, "default": rival.source}
        return Entry(label or well_formed(name), spec, details=details, rival=rival)
    return _parse_learned(label, spec, trust)


def _checked_label(label: str, spec: str) -> str:
    """A label in one line that is not another optimizer's name: `adam` among the results, and as
    what all are measured against, is Adam.
    """
    if label in BASELINES and spec.partition("@")[0] != label:
        raise ValueError(
            f"the label {label!r} is the name of another optimizer than {spec[:200]!r}"
        )
    if any(unicodedata.category(character) == "Cc" for character in label):
        raise ValueError(f"the label {label[:200]!r} has characters that cannot be shown")
    return well_formed(label)


def _parse_learned(label: str, spec: str, trust: bool) -> Entry:
    paths = _several(spec)
    path, details = (spec, {}) if paths is None else pick_by_outer_loss(paths)
    try:
        optimizer, theta = load_theta(path, trust=trust)
    except FileNotFoundError as error:
        # Here a baseline may be meant as well.
        reason = str(error).removesuffix(f"; {catalog.near_names(path, pretrained_names())}")
        hint = catalog.near_names(spec, [*BASELINES, *pretrained_names()])
        raise ValueError(f"{reason}; {hint}") from error
    num_weights = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(theta))
    details = {
        "description": f"learned optimizer, {num_weights} weights",
        "path": str(path),
        **details,
    }
    if Path(path).exists():  # not the name of a shipped one, which no suite was trained on
        details["trained_on"] = training_tasks.trained_on(path)
    label = label or well_formed(_name_of(Path(path)))
    return Entry(label, spec, optimizer=optimizer, theta=theta, details=details)


def _name_of(path: Path) -> str:
    """The name of a file without its ending; of a run's theta the run's."""
    name = path.name if path.name not in ("theta.npz", "") else path.resolve().parent.name
    return Path(name).stem if name.endswith(".npz") else name


def _several(spec: str) -> list[Path] | None:
    """The run directories that a comma list or a glob names;
    None where SPEC is neither or is an existing path.
    """
    if Path(spec).exists() or not any(character in spec for character in ",*?["):
        return None
    found = [
        Path(path) for part in spec.split(",") if part for path in sorted(glob.glob(part)) or [part]
    ]
    paths = list(dict.fromkeys(found))
    if missing := [str(path) for path in paths if not path.is_dir()]:
        raise ValueError(f"{missing[0]!r}, from {spec!r}, is no run directory")
    return paths


def pick_by_outer_loss(run_dirs: list[Path]) -> tuple[Path, dict[str, Any]]:
    """Of several runs the one with the lowest `outer_loss_last` in its `summary.json`.

    An unknown one is never picked.

    Returns:
      The run directory, and for the report which runs there were and what they were picked by.

    Raises:
      ValueError: where a run has no such entry, or none of them a finite one.
    """
    losses = []
    for run_dir in run_dirs:
        try:
            summary = reading.read_bytes(run_dir / "summary.json", reading.MAX_JSON_BYTES)
            value = json.loads(summary)["outer_loss_last"]
            losses.append(math.nan if value is None else float(value))
        except (
            *(OSError, ValueError, KeyError, TypeError),
            *(OverflowError, RecursionError),
        ) as error:
            raise ValueError(
                f"{run_dir}/summary.json has no outer_loss_last: is the run finished?"
            ) from error
    chosen = statistics.lowest(losses)
    if chosen is None:
        raise ValueError(
            f"the outer loss of none of these runs is known: {', '.join(map(str, run_dirs))}"
        )
    candidates = [
        {"path": str(path), "outer_loss_last": loss if math.isfinite(loss) else None}
        for path, loss in zip(run_dirs, losses, strict=True)
    ]
    return run_dirs[chosen], {"picked_by": "outer_loss_last", "candidates": candidates}
