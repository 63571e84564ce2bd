"""What `only` and `others` of `load` cannot mean is told in one line."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import learned_opt
from learned_opt.by_kind import with_others
from tests.support.learned_opt.by_kind import GRADS, MASK, PARAMS, SGD

pytestmark = pytest.mark.usefixtures("standard_promotion")

WRONG = {
    "needs others=": {"only": "matrix"},
    "others needs only=": {"others": SGD},
    "'matrices' is no kind of tensor; did you mean matrix": {"only": "matrices", "others": SGD},
    "no kind of tensor, allowed are": {"only": (), "others": SGD},
    "others must be an Optax transformation, .* got a function": {
        "only": "matrix",
        "others": optax.adamw,
    },
    "others: got no transformation": {"others": {}},
    "'heads' is no kind": {"others": {"heads": SGD}},
    r"others\['head'\] must be": {"others": {"head": 0.1}},
    "'learned' cannot be the name": {"only": MASK, "others": {"learned": SGD}},
    "takes every kind": {"others": dict.fromkeys(("matrix", "embedding", "head", "vector"), SGD)},
    "'head' are both in": {"only": ("matrix", "head"), "others": {"head": SGD}},
    "'embedding' and 'vector' are neither in": {"only": "matrix", "others": {"head": SGD}},
}
WRONG_TREES = {
    "it says nothing of Dense_0/bias": MASK | {"Dense_0": {"kernel": True}},
    "it says nothing of (head)/kernel": MASK | {"head": None},
    "they have no Dense_1/kernel": MASK | {"Dense_1": {"kernel": True}},
    "it says nothing of head/kernel": MASK | {"head": {"kernel": {"w": True}}},
    "'adam' at head/kernel is no group": MASK | {"head": "adam"},
    "'other' at head/kernel is no group; did you mean others": MASK | {"head": "other"},
    "at head/kernel it is 1": MASK | {"head": 1},
    r"at head/kernel it is of shape \(3, 4\)": MASK | {"head": jnp.ones((3, 4), bool)},
    "it is 'matrices'|'matrices' at": lambda params: "matrices",
    "called with all parameters": lambda x: x.ndim == 2,
    "got False for all parameters": eqx.is_array,
    "at Dense_0/bias it is of shape": lambda p: jax.tree.map(lambda x: x > 0, p),
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_arguments(said):
    with pytest.raises(ValueError, match=said):
        learned_opt.load("mlp", **WRONG[said])


@pytest.mark.parametrize("said", WRONG_TREES)
def test_what_does_not_match_the_parameters(opt, said):
    with pytest.raises(ValueError, match=said):
        with_others(opt, WRONG_TREES[said], SGD).init(PARAMS)


def test_other_wrong_trees(opt):
    with pytest.raises(ValueError, match="others has no 'embedding', which Embed_0/embedding is"):
        with_others(opt, MASK, {"head": SGD, "vector": SGD}).init(PARAMS)
    optimizer = with_others(opt, "matrix", SGD)
    state = optimizer.init(PARAMS)
    with pytest.raises(ValueError, match=r"the tree of parameters is another at \['extra'\]"):
        optimizer.update(GRADS | {"extra": jnp.ones(3)}, state, PARAMS)
    for wrong in (opt.init(PARAMS), (), with_others(opt, None, {"head": SGD}).init(PARAMS)):
        with pytest.raises(ValueError, match="load: the state is not of the groups learned, oth"):
            optimizer.update(GRADS, wrong, PARAMS)
    with pytest.raises(ValueError, match="known while compiling"):
        jax.jit(lambda flag: with_others(opt, {"w": flag}, SGD).init({"w": jnp.ones(3)}))(True)
