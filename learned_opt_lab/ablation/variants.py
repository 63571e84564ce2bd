"""The variants of `learned-opt ablate`: what each changes in a run's config,
which is the base that they are compared with.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from configs import base
from configs.base import TrainConfig
from learned_opt_lab.ablation.budgets import with_budget


class Ablated(NamedTuple):
    """One variant's config.

    Attributes:
      label: of its line and row.
      group: what it is compared within: base, estimator, truncation, inputs, families, objective,
        own.
      config: its `num_outer_steps` make up the total of inner steps.
    """

    label: str
    group: str
    config: TrainConfig


BASE = "base"
"""The group of the config itself."""
PRESET = "metz2019"
OF_OPTIMIZERS = {
    base.Mlp: ("no_momentum", "no_time", "preset_metz2019"),
    base.OrthogonalMlp: ("not_orthogonal", "adam_direction", "momentum_direction", "not_told"),
}
"""Variants of one kind of optimizer alone."""
SHARED = ("family", "extra_families", "num_outer_steps", "seed", "held_out", "init_theta", "search")
"""Fields of a config that all its variants have in common."""
SHARED_OF_PROBLEM = ("num_steps", "loss_clip")


def base_name(config: TrainConfig) -> str:
    """What the config itself is called among its variants: its estimator's name."""
    return base.name_of(type(config.estimator))


def changes(config: TrainConfig, lengths: Sequence[int]) -> dict[str, Ablated]:
    """The config under its own name, then each variant, not yet of one budget.

    Args:
      config: the base.
      lengths: of truncations that do not grow.
    """
    own = config.estimator
    found = {base_name(config): Ablated(_base_label(config), BASE, config)}
    for name, kind in base.kinds_of(base.PairEstimator).items():
        if kind is not type(own):
            only = " only" if name in getattr(own, "parts", ()) else ""
            other = dataclasses.replace(config, estimator=_estimator(own, kind))
            found[name] = Ablated(f"{_label(kind)}{only}", "estimator", other)
    for length in lengths:
        if config.truncation != base.Constant(length):
            fixed = dataclasses.replace(config, truncation=base.Constant(length))
            found[f"fixed_{length}"] = Ablated(f"fixed truncation {length}", "truncation", fixed)
    for name, label, other in _optimizers(config):
        found[name] = Ablated(label, "inputs", other)
    for name, label, families in _families(config):
        without = dataclasses.replace(config, family=families[0], extra_families=families[1:])
        found[name] = Ablated(label, "families", without)
    other = "train" if config.problem.objective == "valid" else "valid"
    problem = dataclasses.replace(config.problem, objective=other)
    found[f"{other}_objective"] = Ablated(
        f"trained on L_{other}", "objective", dataclasses.replace(config, problem=problem)
    )
    return found


def _optimizers(config: TrainConfig) -> Iterator[tuple[str, str, TrainConfig]]:
    """Name, label and config of what can be taken away from the config's kind of optimizer."""
    own = config.optimizer
    if isinstance(own, base.Mlp):
        found = _of_mlp(own)
    elif isinstance(own, base.OrthogonalMlp):
        found = _of_orthogonal_mlp(own)
        if config.problem.share_told:
            untold = dataclasses.replace(config.problem, share_told=0.0)
            yield "not_told", "length unknown", dataclasses.replace(config, problem=untold)
    else:
        return
    for name, label, optimizer in found:
        if optimizer != own:
            yield name, label, dataclasses.replace(config, optimizer=optimizer)


def _of_mlp(own: base.Mlp) -> Iterator[tuple[str, str, base.Mlp]]:
    from learned_opt.per_parameter import PRESETS, MLPSettings

    features = own.features or PRESETS.get(own.preset, MLPSettings()).features
    without = tuple(name for name in features if "momentum" not in name)
    yield "no_momentum", "no momentum inputs", dataclasses.replace(own, features=without)
    yield "no_time", "no time inputs", dataclasses.replace(own, timescales=())
    if own.preset != PRESET:
        yield "preset_metz2019", "the paper's optimizer", base.Mlp(preset=PRESET)


def _of_orthogonal_mlp(own: base.OrthogonalMlp) -> Iterator[tuple[str, str, base.OrthogonalMlp]]:
    plain = dataclasses.replace(own, orthogonal=False)
    yield "not_orthogonal", "steps not made orthogonal", plain
    for direction, label in (("adam", "Adam's direction"), ("momentum", "momentum's direction")):
        yield f"{direction}_direction", label, dataclasses.replace(own, direction=direction)


def _families(config: TrainConfig) -> Iterator[tuple[str, str, tuple[base.Family, ...]]]:
    """Name, label and families without those of one origin, where there are others."""
    families = (config.family, *config.extra_families)
    origins = [family.origin for family in families]
    for origin in dict.fromkeys(origins):
        rest = tuple(f for f, of in zip(families, origins, strict=True) if of != origin)
        if rest:
            yield f"without_{origin}", f"without {origin.replace('_', ' ')}", rest


def _label(kind: type[base.Estimator]) -> str:
    return kind.label or kind.word.replace("-", " ")


def _base_label(config: TrainConfig) -> str:
    truncation, name = config.truncation, _label(type(config.estimator))
    if not type(config.estimator).truncates:
        return name
    if isinstance(truncation, base.Constant):
        return f"{name}, truncation {truncation.num_steps}"
    return f"{name}, {'curriculum' if isinstance(truncation, base.Linear) else truncation.word}"


def _estimator(own: base.Estimator, kind: type[base.PairEstimator]) -> base.PairEstimator:
    """An estimator of pairs with what the config's own has in common with it."""
    fields = {field.name for field in dataclasses.fields(kind)} - {"parts"}
    given = {key: value for key, value in vars(own).items() if key in fields}
    return kind(**{"num_pairs": getattr(own, "num_particles", None)} | given)


def check_own(config: TrainConfig, own: Mapping[str, TrainConfig], lengths: Sequence[int]) -> None:
    """Raises `ValueError` for a variant of the user's whose name is taken, which changes nothing,
    or which changes what all variants share.
    """
    for name, other in own.items():
        if name in changes(config, lengths):
            raise ValueError(f"variant {name!r} is there already; give yours another name")
        if other == config:
            raise ValueError(f"variant {name!r} changes nothing")
        wrong = [field for field in SHARED if getattr(other, field) != getattr(config, field)]
        wrong += [
            f"problem.{field}"
            for field in SHARED_OF_PROBLEM
            if getattr(other.problem, field) != getattr(config.problem, field)
        ]
        if wrong:
            raise ValueError(f"variant {name!r} changes {wrong[0]}, which all variants share")


def variants_of(
    config: TrainConfig,
    names: Sequence[str],
    lengths: Sequence[int],
    num_inner_steps: int,
    own: Mapping[str, TrainConfig] | None = None,
) -> dict[str, Ablated]:
    """Some variants, each of the same total of inner steps.

    Args:
      config: the base.
      names: keys of `changes(config, lengths)` and of `own`.
      lengths: fixed truncations.
      num_inner_steps: of one run, all particles and both sides of a pair.
      own: the user's, name -> config.

    Raises:
      ValueError: for what a config cannot be ablated of, or a total below two outer steps.
    """
    known = changes(config, lengths)
    known |= {name: Ablated(name, "own", other) for name, other in (own or {}).items()}
    if missing := [name for name in names if name not in known]:
        raise ValueError(
            f"{missing[0]} changes what this config's optimizer:{config.optimizer.word} has not"
        )
    return {
        name: known[name]._replace(config=with_budget(known[name].config, num_inner_steps))
        for name in names
    }


def of_rate(variant: Ablated, rate: float) -> Ablated:
    """The same variant at another outer rate."""
    outer = dataclasses.replace(variant.config.outer_optimizer, learning_rate=rate)
    return variant._replace(config=dataclasses.replace(variant.config, outer_optimizer=outer))
