"""`load(only=, others=)`: each group of parameters is updated as by its own optimizer alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import freeze
from jax import lax

import learned_opt
from learned_opt.by_kind import with_others
from tests.support.learned_opt.by_kind import GRADS, MASK, PARAMS, SGD, close, first_step

pytestmark = pytest.mark.usefixtures("standard_promotion")

LABELS = jax.tree.map(lambda learned: "learned" if learned else "others", MASK)


def groups(optimizer, params=PARAMS):
    """group -> paths of its parameters, as a state that mirrors them tells."""
    states = optimizer.init(params).inner_states
    return {
        name: {jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in found}
        for name, state in states.items()
        if (found := jax.tree.leaves_with_path(state.inner_state))
    }


def mirror():
    """A transformation whose state is the parameters it was given."""
    return optax.GradientTransformation(lambda params: params, lambda g, s, p=None: (g, s))


def test_each_group_as_if_alone_over_some_steps():
    adamw = optax.adamw(1e-2, weight_decay=0.1)
    alone = learned_opt.load("mlp")
    both = learned_opt.load("mlp", only=learned_opt.matrices, others=adamw)

    @jax.jit
    def steps(params):
        def step(carry, _):
            params, state, (a, b), (sa, sb) = carry
            updates, state = both.update(GRADS, state, params)
            ua, sa = alone.update(GRADS["Dense_0"]["kernel"], sa, a)
            rest = {"bias": GRADS["Dense_0"]["bias"], "rest": [GRADS["Embed_0"], GRADS["head"]]}
            ub, sb = adamw.update(rest, sb, b)
            a, b = optax.apply_updates(a, ua), optax.apply_updates(b, ub)
            return (optax.apply_updates(params, updates), state, (a, b), (sa, sb)), None

        a = params["Dense_0"]["kernel"]
        b = {"bias": params["Dense_0"]["bias"], "rest": [params["Embed_0"], params["head"]]}
        start = (params, both.init(params), (a, b), (alone.init(a), adamw.init(b)))
        return lax.scan(step, start, None, length=3)[0]

    params, state, (a, b), _ = steps(PARAMS)
    close(params["Dense_0"], {"kernel": a, "bias": b["bias"]})
    close([params["Embed_0"], params["head"]], b["rest"])
    assert int(optax.tree.get(state.inner_states["others"], "count")) == 3


FORMS = {
    "a name": "matrix",
    "names": ["matrix"],
    "a set": {"matrix"},
    "matrices": learned_opt.matrices,
    "of_kind": learned_opt.of_kind("matrix"),
    "a mask": MASK,
    "a prefix": MASK | {"Embed_0": False, "head": False},
    "a frozen mask": freeze(MASK),
    "a mask of NumPy": jax.tree.map(np.bool_, MASK),
    "a mask of arrays": jax.tree.map(jnp.asarray, MASK),
    "labels": LABELS,
    "a function of masks": lambda params: jax.tree.map(lambda x: x.shape == (2, 3), params),
    "a function of labels": lambda params: LABELS | {"head": "others"},
    "a partial": jax.tree_util.Partial(lambda mask, params: mask, MASK),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_ways_to_say_what_is_learned(form):
    got = groups(with_others(mirror(), only=FORMS[form], others=mirror()))
    assert got == {
        "learned": {"Dense_0/kernel"},
        "others": {"Dense_0/bias", "Embed_0/embedding", "head/kernel"},
    }


BY_KIND = {"embedding": mirror(), "head": mirror(), "vector": mirror()}
OWN = {"Embed_0": "slow", "head": "slow", "Dense_0": {"kernel": "learned", "bias": "fast"}}
TWO = {
    "slow": {"Embed_0/embedding", "head/kernel"},
    "fast": {"Dense_0/bias"},
    "learned": {"Dense_0/kernel"},
}


@pytest.mark.parametrize(
    ("only", "others", "want"),
    [
        (None, {"head": mirror()}, {"head": {"head/kernel"}}),
        (("matrix", "embedding"), {"head": mirror(), "vector": mirror()}, None),
        (learned_opt.matrices, BY_KIND, None),
        (learned_opt.tensor_kinds, BY_KIND, None),
        (None, BY_KIND, None),
        (OWN, {"slow": mirror(), "fast": mirror()}, TWO),
        (lambda params: OWN, {"slow": mirror(), "fast": mirror()}, TWO),
    ],
)
def test_others_by_kind_or_label(only, others, want):
    got = groups(with_others(mirror(), only, others))
    path_of = {"embedding": "Embed_0/embedding", "head": "head/kernel", "vector": "Dense_0/bias"}
    assert set().union(*got.values()) == {*path_of.values(), "Dense_0/kernel"}
    for name in want or others:
        assert got[name] == (want or {name: {path_of[name]}})[name], name


def test_rate_decay_and_mask_are_of_the_learned_part():
    rate, decay = 0.5, 0.25
    hooks = {"learning_rate": rate, "weight_decay": decay}
    got = first_step(learned_opt.load("mlp", only="matrix", others=SGD, **hooks))
    plain = first_step(learned_opt.load("mlp", only="matrix", others=SGD))
    kernel = PARAMS["Dense_0"]["kernel"]
    np.testing.assert_allclose(
        got["Dense_0"]["kernel"], rate * (plain["Dense_0"]["kernel"] - decay * kernel), rtol=1e-5
    )
    for name in ("Embed_0", "head"):
        close(got[name], jax.tree.map(lambda g: -0.5 * g, GRADS[name]))
    nothing = lambda params: jax.tree.map(lambda x: False, params)
    for mask in (nothing, nothing(PARAMS)):
        optimizer = learned_opt.load("mlp", only="matrix", others=SGD, mask=mask, **hooks)
        close(
            first_step(optimizer)["Dense_0"]["kernel"],
            rate * plain["Dense_0"]["kernel"],
        )


def test_the_others_state_is_optax_own(opt):
    adamw = optax.adamw(1e-2)
    state = with_others(opt, "matrix", adamw).init(PARAMS)
    want = optax.masked(adamw, jax.tree.map(lambda x: not x, MASK)).init(PARAMS)
    assert isinstance(state, type(optax.partition({}, {}).init({})))
    assert jax.tree.structure(state.inner_states["others"]) == jax.tree.structure(want)
    alone = optax.masked(opt, MASK).init(PARAMS)
    assert jax.tree.structure(state.inner_states["learned"]) == jax.tree.structure(alone)
    shapes = jax.eval_shape(with_others(opt, "matrix", adamw).init, PARAMS)
    assert jax.tree.structure(shapes) == jax.tree.structure(state)
    # What puts a state on a mesh asks for the leaves that are shaped as parameters.
    marked = optax.tree.map_params(
        with_others(opt, MASK, adamw), lambda x: 1, state, transform_non_params=lambda x: 0
    )
    mu = optax.tree.get(marked.inner_states["others"], "mu")
    assert jax.tree.leaves(mu) == [1, 1, 1]


def test_only_and_others_with_a_function_of_own_are_not_asked_of_a_placeholder(opt):
    only = lambda params: jax.tree.map(lambda x: x.ndim == 2, params)
    optimizer = with_others(opt, only, optax.adam(1e-2))
    state = optimizer.init(PARAMS)
    counted = optax.tree.map_params(optimizer, lambda x: None, state)
    assert len(jax.tree.leaves(counted)) < len(jax.tree.leaves(state))


def test_extra_arguments_reach_the_others(opt):
    def scaled(updates, state, params=None, *, value, **_):
        return jax.tree.map(lambda g: value * g, updates), state

    others = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), scaled)
    optimizer = with_others(opt, MASK, others)
    updates, _ = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS, value=3.0, loss=1.0)
    close(updates["head"], jax.tree.map(lambda g: 3 * g, GRADS["head"]))


def test_multi_steps_and_injected_hyperparameters():
    make = optax.inject_hyperparams(learned_opt.load, static_args=("only", "others"))
    inner = make("mlp", learning_rate=0.5, only=learned_opt.matrices, others=SGD)
    optimizer = optax.MultiSteps(inner, 2)
    want = first_step(learned_opt.load("mlp", learning_rate=0.25, only="matrix", others=SGD))
    state = optimizer.init(PARAMS)
    state.inner_opt_state.hyperparams["learning_rate"] = jnp.asarray(0.25)
    step = jax.jit(optimizer.update)
    first, state = step(GRADS, state, PARAMS)
    assert not any(x.any() for x in jax.tree.leaves(first))
    second, _ = step(GRADS, state, PARAMS)
    close(second, want)


def test_nothing_is_compiled_again(opt):
    optimizer = with_others(opt, "matrix", SGD)
    step = jax.jit(optimizer.update)
    _, state = step(GRADS, optimizer.init(PARAMS), PARAMS)
    step(GRADS, state, PARAMS)
    assert step._cache_size() == 1


def test_nothing_or_everything_learned(opt):
    vectors = {"scale": jnp.ones(3)}
    grads = {"scale": jnp.arange(3.0)}
    close(
        first_step(with_others(opt, "matrix", SGD), vectors, grads),
        {"scale": -0.5 * grads["scale"]},
    )
    close(first_step(with_others(opt, True, SGD), vectors, grads), first_step(opt, vectors, grads))
    frozen = first_step(with_others(opt, "matrix", optax.set_to_zero()))
    assert not frozen["head"]["kernel"].any()
    assert frozen["Dense_0"]["kernel"].any()
    assert with_others(opt) is opt
    empty = with_others(opt, "matrix", SGD)
    assert empty.update({}, empty.init({}), {})[0] == {}
