"""Every optimizer that ships, in one table: pretrained names, factories of the catalogue,
schedules, hypergradients around Optax's SGD and Adam.
"""

import functools

import jax
import optax

import learned_opt
from learned_opt.catalog import OPTIMIZERS
from tests.support.learned_opt.hand_designed import LEARNED, transformation


def made(factory, *args, **kwargs):
    """The transformation of a factory's fresh theta."""
    optimizer = factory(*args, **kwargs)
    return optimizer.optimizer(optimizer.init(jax.random.key(0)))


PRETRAINED = {
    f"load_{name}": functools.partial(learned_opt.load, name)
    for name in learned_opt.pretrained_names()
}
PER_PARAMETER = {
    "mlp": functools.partial(made, learned_opt.mlp, (8, 8)),
    "adafactor_mlp": functools.partial(made, learned_opt.adafactor_mlp, (8,), rms_normalized=True),
    "orthogonal_mlp": functools.partial(made, learned_opt.orthogonal_mlp, (8,)),
}
HAND_DESIGNED = {name: functools.partial(transformation, name) for name in [*LEARNED, "hooks"]}
ADAM = functools.partial(optax.adam, eps=1e-4)
AROUND = {
    f"{name}_{inner.__name__}": functools.partial(factory, around, 0.1, 1e-4)
    for name, factory in (
        ("hd", learned_opt.hd),
        ("rtho", learned_opt.rtho),
        ("marthe", learned_opt.marthe),
    )
    for inner, around in ((optax.sgd, optax.sgd), (optax.adam, ADAM))
}
OTHERS = {
    "load_matrices": lambda: learned_opt.load("mlp", only="matrix", others=optax.sgd(0.1, 0.9)),
}
EVERY = PRETRAINED | PER_PARAMETER | HAND_DESIGNED | AROUND | OTHERS
"""Name -> function that makes the transformation."""

assert set(EVERY) >= set(OPTIMIZERS)
