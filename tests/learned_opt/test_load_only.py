"""`load(only=, others=)`: each group of parameters is updated as by its own optimizer alone."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import freeze
from flax.training.train_state import TrainState
from jax import lax

import learned_opt
from learned_opt.by_kind import with_others

PARAMS = {
    "Embed_0": {"embedding": jnp.arange(8.0).reshape(4, 2) / 9},
    "Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3) / 5, "bias": jnp.ones(3)},
    "head": {"kernel": jnp.arange(12.0).reshape(3, 4) / 7},
}
GRADS = jax.tree.map(jnp.cos, PARAMS)
MASK = {
    "Embed_0": {"embedding": False},
    "Dense_0": {"kernel": True, "bias": False},
    "head": {"kernel": False},
}
LABELS = jax.tree.map(lambda learned: "learned" if learned else "others", MASK)
SGD = optax.sgd(0.5)


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax's Adam adds floats to integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def opt():
    optimizer = learned_opt.mlp((2,))
    return optimizer.optimizer(
        jax.tree.map(lambda x: 10 * x + 1, optimizer.init(jax.random.key(0)))
    )


def first_step(optimizer, params=PARAMS, grads=GRADS):
    return optimizer.update(grads, optimizer.init(params), params)[0]


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


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)


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


def test_flax_linen_and_nnx(opt):
    optimizer = with_others(opt, learned_opt.matrices, SGD)
    model = nn.Dense(3)
    state = TrainState.create(apply_fn=model.apply, params={"params": PARAMS}, tx=optimizer)
    state = state.apply_gradients(grads={"params": GRADS})
    close(state.params["params"], optax.apply_updates(PARAMS, first_step(optimizer)))
    module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    grads = jax.tree.map(jnp.cos, nnx.state(module, nnx.Param))
    want = optax.apply_updates(before, first_step(optimizer, before, nnx.to_pure_dict(grads)))
    mask = jax.tree.map(lambda x: x.ndim == 2, nnx.state(module, nnx.Param))
    for only in (learned_opt.matrices, mask, {"kernel": True, "bias": False}):
        module = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        trained = nnx.Optimizer(module, with_others(opt, only, SGD), wrt=nnx.Param)
        trained.update(module, grads)
        close(nnx.to_pure_dict(nnx.state(module, nnx.Param)), want)


def test_equinox_models_with_functions_and_none(opt):
    key = jax.random.key(0)
    model = eqx.nn.Sequential(
        [
            eqx.nn.MLP(2, 2, 3, 1, key=key, use_final_bias=False),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Dropout(0.5),
            {"counts": jnp.zeros(3, int), "key": key},
        ]
    )
    optimizer = with_others(opt, "matrix", optax.adamw(0.5))
    grads = jax.tree.map(lambda x: jnp.cos(x) if eqx.is_inexact_array(x) else None, model)
    trained = eqx.filter(model, eqx.is_inexact_array)
    want, _ = optimizer.update(grads, optimizer.init(trained), trained)
    assert want[0].layers[0].bias is not None
    # A state of the whole model, of its arrays or of what is trained, with either at update.
    for start in (model, eqx.filter(model, eqx.is_array), trained):
        state = optimizer.init(start)
        for at_update in (start, model):
            got, new = optimizer.update(grads, state, at_update)
            close(got, want)
            assert jax.tree.structure(new) == jax.tree.structure(state)
    # A mask in the shape of the model, which is callable.
    mask = jax.tree.map(lambda x: eqx.is_inexact_array(x) and x.ndim == 2, model)
    assert callable(mask)
    by_mask = with_others(opt, mask, optax.adamw(0.5))
    close(by_mask.update(grads, by_mask.init(trained), trained)[0], want)
    close(by_mask.update(grads, by_mask.init(model), model)[0], want)


def test_where_a_gradient_is_none_nothing_moves(opt):
    optimizer = with_others(opt, "matrix", optax.adamw(0.5))
    state = optimizer.init(PARAMS)
    of_some = optimizer.init(PARAMS | {"Dense_0": {"kernel": None, "bias": None}})
    for none in (None, {"kernel": None, "bias": None}):
        for start in (state, of_some):
            updates, new = optimizer.update(GRADS | {"Dense_0": none}, start, PARAMS)
            assert jax.tree.leaves(updates["Dense_0"]) == []
            assert jax.tree.structure(new) == jax.tree.structure(start)
            close(updates["head"], first_step(optimizer)["head"])
    grads = GRADS | {"Dense_0": {"kernel": None, "bias": GRADS["Dense_0"]["bias"]}}
    close(
        first_step(optimizer, grads=grads)["Dense_0"]["bias"],
        first_step(optimizer)["Dense_0"]["bias"],
    )


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
