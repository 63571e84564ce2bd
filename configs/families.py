"""From a config's family to task families: the built-in kinds, and a user's own as `"module:name"`."""

import importlib
from typing import Any

from configs import base
from tasks import datasets
from tasks.base import TaskFamily
from tasks.classifiers import MLP, ConvNet
from tasks.families import class_split, class_subset_family
from tasks.mnist1d import mnist1d
from tasks.random_quadratic import random_quadratic_family
from tasks.weight_scales import rescaled_weights


def build_family(config) -> tuple[TaskFamily, TaskFamily]:
    """The outer-training family, of the config's weight, and the held-out one."""
    family, held_out = _build(config)
    return family._replace(weight=config.weight), held_out


def _build(config) -> tuple[TaskFamily, TaskFamily]:
    if isinstance(config, base.ClassSubset):
        return _class_subset(config)
    if isinstance(config, base.RandomQuadratic):
        family = random_quadratic_family(**{k: v for k, v in vars(config).items() if k != "weight"})
        return family, family
    family = _custom_family(config.target, config.kwargs)
    return family, _custom_family(config.held_out_target, config.kwargs) if config.held_out_target else family


def _custom_family(target: str, kwargs: dict[str, Any]) -> TaskFamily:
    try:
        family = resolve(target)(**kwargs)
    except TypeError as error:
        raise ValueError(f"{target} does not take the arguments {kwargs}: {error}") from error
    if not isinstance(family, TaskFamily):
        raise ValueError(f"{target} must return a tasks.base.TaskFamily, got {type(family).__name__}")
    return family


def _class_subset(config: base.ClassSubset) -> tuple[TaskFamily, TaskFamily]:
    if config.dataset == "digits":
        data = datasets.digits(config.fractions)
    elif config.dataset == "mnist1d":
        data = mnist1d()
    else:
        data = datasets.tfds_images(
            config.dataset, config.image_size, config.grayscale, config.data_dir, fractions=config.fractions
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


def resolve(target: str) -> Any:
    """The object a `"module:name"` means.

    Raises:
      ValueError: there is none.
    """
    module_name, colon, name = target.partition(":")
    if not colon:
        raise ValueError(f'your own family is given as "module:name", got {target!r}')
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{target!r} cannot be found: {error}") from error
