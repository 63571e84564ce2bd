"""From a config's family to task families:
what the kinds build, and a user's own as `"module:name"`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import base
from learned_opt import catalog
from learned_opt_lab.runs.builders import builder_of
from learned_opt_lab.runs.user_path import add_to_path, run_users
from tasks import (
    SPLITS,
    TaskFamily,
    as_stateful,
    byte_transformer_family,
    char_family,
    fine_tuning_family,
    noisy_labels_family,
    policy_gradient_family,
    rescaled_weights,
    skip_gram_family,
    tabular_family,
)
from tasks.analytic import random_quadratic_family
from tasks.images import (
    MLP,
    ConvNet,
    DatasetNotPrepared,
    class_split,
    class_subset_family,
    conv_next_family,
    datasets,
    host_images_family,
    mnist1d,
    tfds_autoencoder_family,
    tfds_resnet_family,
    vae_family,
    vit_family,
)

FAMILIES: dict[str, Callable[..., TaskFamily]] = {
    "tasks.images:host_images_family": host_images_family,
    "tasks.images:tfds_autoencoder_family": tfds_autoencoder_family,
    "tasks.images:tfds_resnet_family": tfds_resnet_family,
    "tasks.images:conv_next_family": conv_next_family,
    "tasks.images:vae_family": vae_family,
    "tasks.images:vit_family": vit_family,
    "tasks:byte_transformer_family": byte_transformer_family,
    "tasks:char_family": char_family,
    "tasks:fine_tuning_family": fine_tuning_family,
    "tasks:noisy_labels_family": noisy_labels_family,
    "tasks:policy_gradient_family": policy_gradient_family,
    "tasks:skip_gram_family": skip_gram_family,
    "tasks:tabular_family": tabular_family,
}
"""The project's own among custom families: any file may name them."""


def build_family(config: base.Family) -> tuple[TaskFamily, TaskFamily]:
    """The outer-training family, of the config's weight, and the held-out one.

    Raises:
      ValueError: for fields that do not fit, or a line on what is wrong with a family of the
        user's own.
    """
    kind = type(config)
    build = builder_of(kind)
    if isinstance(kind.builds, str):
        family, held_out = build(config)
    else:
        what = f"family {kind.__name__}"
        family, held_out = _made(lambda: _two(build(config)), what)
        _check_start(family, what)
        _check_start(held_out, what)
    return family._replace(weight=config.weight, num_steps=config.num_steps), held_out


def _two(made: Any) -> tuple[TaskFamily, TaskFamily]:
    family, held_out = made
    return family, held_out


def _made(make: Callable[[], Any], what: str) -> Any:
    """What code of the user's makes; one line on what it raises, but for data that is missing."""
    return run_users(make, f"{what} cannot be made", (DatasetNotPrepared,))


def _check_start(family: TaskFamily, what: str) -> None:
    """Traces a task's first losses as a run takes them; nothing is computed.

    Raises:
      ValueError: one of them cannot be taken, or is no scalar.
    """
    first = lambda key, data: first_losses(family, key, data)
    trace = lambda: jax.eval_shape(first, jax.random.key(0), family.data)
    for of, loss in run_users(trace, f"{what} has no (scalar loss, metrics)").items():
        if np.shape(loss) != ():
            raise ValueError(
                f"{what} must have a scalar loss {of}, got one of shape {list(loss.shape)}"
            )


def first_losses(
    family: TaskFamily, key: jax.Array, data: Any, splits: Sequence[str] = SPLITS
) -> dict[str, jax.Array]:
    """Losses of a task before its first step: in training, with a gradient, and measured on splits.

    Args:
      family: draws the task.
      key: of the task, its parameters and batches.
      data: the family's, in which it may be traced.
      splits: that are measured.

    Returns:
      `in training` and `on 'SPLIT'` -> loss, which need not be a scalar.
    """
    task = as_stateful(family.task(family.sample(key)))
    params, state = task.init(key)
    train = lambda at: task.loss(at, state, key, task.sample_batch(data, key, "train"))[0]
    losses = {"in training": train(params)}
    if not np.shape(losses["in training"]):
        jax.grad(train)(params)  # Traced, and left out where this is compiled.
    for split in splits:
        batch = task.sample_batch(data, key, split)
        losses[f"on {split!r}"], metrics = task.eval_loss(params, state, key, batch)
        metrics.items()  # They have names.
    return losses


HELD_OUT, TRAINED_ON = "heldout", "training_family"


def scored_on(config: base.TrainConfig) -> str:
    """What a run is scored on afterwards:
    `HELD_OUT` tasks, or `TRAINED_ON` where the config holds none out.

    Quadratics are drawn afresh from a continuum, so that those scored are never those trained on.
    Classes are held out unless another family of the run trains on them. A user's own family is
    held out where the config names one that is neither the family trained on nor another of the
    run's. Of another kind nothing is known.
    """
    families = (config.family, *config.extra_families)
    if isinstance(config.family, base.ClassSubset):
        seen = any(_trains_on_the_held_out_of(config.family, each) for each in families)
    elif isinstance(config.family, base.RandomQuadratic):
        seen = False
    elif not isinstance(config.family, base.CustomFamily):
        seen = True  # whatever it holds out, nothing here knows of it
    else:
        held_out = config.family.held_out_target
        targets = [each.target for each in families if isinstance(each, base.CustomFamily)]
        seen = not held_out or any(_is_same(held_out, target) for target in targets)
    return TRAINED_ON if seen else HELD_OUT


def _trains_on_the_held_out_of(config: base.ClassSubset, other) -> bool:
    """Of one order of the classes, the first ones are trained on;
    with another order some of the others are too.
    """
    if not isinstance(other, base.ClassSubset) or other.dataset != config.dataset:
        return False
    return (
        other.split_seed != config.split_seed or other.num_train_classes > config.num_train_classes
    )


def _is_same(target: str, other: str) -> bool:
    return target == other or family_factory(target) is family_factory(other)


_OF_ANY = ("weight", "num_steps")
"""Fields of a kind that `build_family` puts on the family."""


def random_quadratic(config: base.RandomQuadratic) -> tuple[TaskFamily, TaskFamily]:
    """The same family twice: it never draws a task again."""
    family = random_quadratic_family(**{k: v for k, v in vars(config).items() if k not in _OF_ANY})
    return family, family


def custom(config: base.CustomFamily) -> tuple[TaskFamily, TaskFamily]:
    """What the config names; the outer-training family twice where it names no other.

    Raises:
      ValueError: there is no such function, or it does not take these arguments or return a family.
    """
    family = _custom_family(config.target, config.kwargs)
    return family, _custom_family(
        config.held_out_target, config.kwargs
    ) if config.held_out_target else family


def _custom_family(target: str, kwargs: dict[str, Any]) -> TaskFamily:
    factory = family_factory(target)
    try:
        catalog.check_call(factory, kwargs)
    except TypeError as error:
        raise ValueError(
            f"{target} does not take the arguments {kwargs!r:.200}: {error}"
        ) from error
    try:
        catalog.check_gives(factory, TaskFamily)
    except TypeError as error:
        raise ValueError(f"{target} must return a tasks.base.TaskFamily, {error}") from error
    if target in FAMILIES:
        return factory(**kwargs)
    family = _made(lambda: factory(**kwargs), f"{target} with the arguments {kwargs!r:.200}")
    if not isinstance(family, TaskFamily):
        raise ValueError(
            f"{target} must return a tasks.base.TaskFamily, got {type(family).__name__}"
        )
    _check_start(family, target)
    return family


def class_subset(config: base.ClassSubset) -> tuple[TaskFamily, TaskFamily]:
    """Tasks of the classes for outer-training, and of those held out."""
    if config.dataset == "digits":
        data = datasets.digits(config.fractions)
    elif config.dataset == "mnist1d":
        data = mnist1d()
    else:
        data = datasets.tfds_images(
            config.dataset,
            config.image_size,
            config.grayscale,
            config.data_dir,
            fractions=config.fractions,
        )
    train, held_out = class_split(data.num_classes, config.num_train_classes, config.split_seed)
    num_held_out = config.held_out_num_classes or min(config.num_classes, len(held_out))

    def family(classes, num_classes):
        if config.network == "cnn":
            module = ConvNet(config.channels, num_classes, config.activation)
        else:
            module = MLP(config.hidden_sizes, num_classes, config.activation)
        return class_subset_family(data, module, num_classes, classes, config.batch_size)

    outer_training = rescaled_weights(family(train, config.num_classes), config.max_weight_scale)
    return outer_training, family(held_out, num_held_out)


def family_factory(target: str) -> Any:
    """The family's factory that a `"module:name"` means, found in the working directory too.

    Raises:
      learned_opt.catalog.NotTrusted: the name is from a file, and of code that is not this
        project's.
      ValueError: there is none.
    """
    if target in FAMILIES:
        return FAMILIES[target]
    if not catalog.is_own(target):
        raise ValueError(f'your own family is given as "module:name", got {target[:200]!r}')
    if not isinstance(target, catalog.FromFile):
        add_to_path(Path.cwd())
    return catalog.resolve(target)


def check_trusted(config: base.TrainConfig) -> None:
    """Raises `NotTrusted` for a config from a file that names code which is not this project's;
    imports nothing.
    """
    parts = (
        config.family,
        *config.extra_families,
        config.optimizer,
        config.estimator,
        config.truncation,
    )
    names = [getattr(part, field) for part in parts for field in type(part).code_fields]
    for name in names:
        if name not in FAMILIES and isinstance(name, catalog.FromFile) and catalog.is_own(name):
            catalog.resolve(name)
