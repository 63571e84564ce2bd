"""Which tasks of a suite an optimizer was outer-trained on,
as far as the config beside its theta tells.

The suites hold out what the shipped configs hold out: three of ten classes, by `class_split` with
seed 0. Another split, or a family of the user's own, may train on the very tasks that a report
would call held out.
"""

import functools
import inspect
from pathlib import Path
from typing import Any

from learned_opt.disk import reading
from learned_opt_lab.runs.families import FAMILIES
from learned_opt_lab.runs.moved_names import current_name
from tasks import NUM_TRAIN_CLASSES, Suite, SuiteTask
from tasks.images import class_split

NUM_CLASSES = 10
"""Of each data set of which the suites hold classes out."""
_CLASSES_OF = {
    "digits_mlp": "digits",
    "digits_cnn": "digits",
    "fashion_mlp": "fashion_mnist",
    "fashion_cnn": "fashion_mnist",
    "mnist1d_mlp": "mnist1d",
}
"""Builder in `tasks.suite_tasks` -> the data set whose held-out classes its tasks tell apart."""
_FAMILY_OF = {
    "quadratic": "RandomQuadratic",
    "char_family": "tasks:char_family",
    "byte_transformer_family": "tasks:byte_transformer_family",
    "fine_tuning_family": "tasks:fine_tuning_family",
    "skip_gram_family": "tasks:skip_gram_family",
    "policy_gradient_family": "tasks:policy_gradient_family",
    "tabular_family": "tasks:tabular_family",
    "vit_family": "tasks.images:vit_family",
    "conv_next_family": "tasks.images:conv_next_family",
    "tfds_resnet_family": "tasks.images:tfds_resnet_family",
    "vae_family": "tasks.images:vae_family",
    "noisy_labels_family": "tasks:noisy_labels_family",
}
"""Builder -> the family of a config that draws the same."""
_DATA_ARGUMENTS = ("text", "table", "environment", "data", "dataset", "source_split")
"""Arguments of builders that say which data they are of; sizes make no other task of it."""


_TYPES = {
    "ClassSubset": {"dataset": str},
    "RandomQuadratic": {"dim": int},
    "CustomFamily": {"target": str},
}
"""Family of a config -> types of what is read of it here."""


def trained_on(path: str | Path) -> list[dict[str, Any]] | None:
    """The families of the run that a theta lies in, as `config.json` has them;
    None where there is no such file, or it tells nothing that this module understands.
    """
    path = Path(path)
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        content = reading.read_json(config)
        families = [content["family"], *content.get("extra_families", [])]
        for family in families:
            _check(family)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return families


def _check(family: dict[str, Any]) -> None:
    """Raises what the functions below would, and `TypeError` for parts of other types."""
    kind = family["type"]
    if kind == "ClassSubset":
        _training_classes(family)
    types = {"type": str, **_TYPES.get(kind, {})}
    for name, wanted in types.items():
        if not isinstance(family[name], wanted):
            raise TypeError(f"{name} of a family is {type(family[name]).__name__}")
    if not isinstance(family.get("kwargs", {}), dict):
        raise TypeError("kwargs of a family must be an object")


def seen_tasks(suite: Suite, families: list[dict[str, Any]]) -> list[str]:
    """Names of the suite's tasks that are, or are drawn like, tasks of these families."""
    return [task.name for task in suite.tasks if any(_holds(family, task) for family in families)]


def about(suite: Suite, details: dict[str, Any]) -> str | None:
    """A sentence for the report where not all tasks are known to be new to an optimizer;
    None where they are.

    Args:
      suite: the tasks.
      details: of its entry; `trained_on` is what `trained_on` returned.
    """
    if "trained_on" not in details:
        return None
    families = details["trained_on"]
    if families is None:
        return "what it was outer-trained on is not known, so these tasks may not be new to it"
    seen = seen_tasks(suite, families)
    own = [family["target"] for family in families if _is_users(family)]
    sentences = []
    if seen:
        sentences.append(
            f"NOT held out: it was outer-trained on classes or draws of {', '.join(seen)}"
        )
    if own:
        sentences.append(
            f"whether {', '.join(dict.fromkeys(own))} holds tasks of this suite is not known"
        )
    return "; ".join(sentences) or None


def _is_users(family: dict[str, Any]) -> bool:
    return family.get("type") == "CustomFamily" and _target(family) not in FAMILIES


def _target(family: dict[str, Any]) -> str:
    return current_name(str(family.get("target")))


def _holds(family: dict[str, Any], task: SuiteTask) -> bool:
    build = functools.partial(task.build)
    # A suite of the user's own may have builders of these names.
    if not getattr(build.func, "__module__", "").startswith("tasks."):
        return False
    name = build.func.__name__
    if family.get("type") == "ClassSubset":
        return _CLASSES_OF.get(name) == family["dataset"] and bool(
            _held_out() & _training_classes(family)
        )
    kind = _target(family) if family.get("type") == "CustomFamily" else family.get("type")
    return _FAMILY_OF.get(name) == kind and _same_arguments(family, build)


def _held_out() -> set[int]:
    return set(class_split(NUM_CLASSES, NUM_TRAIN_CLASSES)[1])


def _training_classes(family: dict[str, Any]) -> set[int]:
    return set(class_split(NUM_CLASSES, family["num_train_classes"], family["split_seed"])[0])


def _same_arguments(family: dict[str, Any], build: functools.partial) -> bool:
    """Whether a quadratic has the suite's number of dimensions, a model of characters the suite's
    kind and text, any other family the suite's data.
    """
    if family["type"] == "RandomQuadratic":
        return build.args == (family["dim"],)
    kwargs = family.get("kwargs", {})
    if build.func.__name__ == "char_family":
        return build.args == (kwargs.get("model"),) and "text" not in kwargs
    defaults = inspect.signature(build.func).parameters
    names = [name for name in _DATA_ARGUMENTS if name in defaults]
    of = lambda given: [given.get(name, defaults[name].default) for name in names]
    return of(kwargs) == of(build.keywords)
