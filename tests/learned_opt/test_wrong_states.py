"""A state that was not made for these parameters is refused by every optimizer, also where another
transformation keeps a part of it.
"""

import jax
import jax.numpy as jnp
import optax
import pytest

import learned_opt
from learned_opt.trees.state_check import check_as_made, shapes_of
from tests.support.learned_opt.every import EVERY, OTHERS

PARAMS = {"k": {"kernel": jnp.ones((4, 4))}, "b": jnp.ones(4)}
OTHER = {"k": {"kernel": jnp.ones((1, 4))}, "b": jnp.ones(4)}
"""Of shapes that broadcast."""
RENAMED = {"k": PARAMS["k"], "bias": PARAMS["b"]}
MOMENTUM = optax.sgd(1e-3, momentum=0.9)

pytestmark = pytest.mark.usefixtures("standard")


@pytest.fixture
def standard():
    """As users have it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def loss(params):
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))


def refused(tx, state, match, params=PARAMS):
    update = lambda g, s, p: tx.update(g, s, p, value_fn=loss)
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(update, params, state, params)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "hooks"])
def test_another_type_of_state_is_refused_by_the_optimizer_s_name(name):
    tx = EVERY[name]()
    states = [optax.adagrad(1.0).init(PARAMS), optax.trace(0.9).init(PARAMS), (), {}, None]
    for state in (*states, jnp.ones(3)):
        refused(tx, state, "^[a-z0-9_ ]+: the state is ")


@pytest.mark.parametrize("layout", ["optimizer", "packed"])
@pytest.mark.parametrize("factory", ["mlp", "adafactor_mlp", "orthogonal_mlp"])
def test_so_it_is_in_both_layouts(factory, layout):
    optimizer = getattr(learned_opt, factory)()
    tx = getattr(optimizer, layout)(optimizer.init(jax.random.key(0)))
    for state in (optax.adam(1.0).init(PARAMS), (), None):
        refused(tx, state, f"^{factory}: the state is a ")
    other = "adafactor_mlp" if factory == "mlp" else "mlp"
    other = getattr(learned_opt, other)()
    state = getattr(other, layout)(other.init(jax.random.key(0))).init(PARAMS)
    refused(tx, state, f"^{factory}: the state")


def test_a_packed_state_of_other_sizes_is_refused():
    for factory in (learned_opt.mlp, learned_opt.adafactor_mlp, learned_opt.orthogonal_mlp):
        optimizer = factory()
        tx = optimizer.packed(optimizer.init(jax.random.key(0)))
        refused(tx, tx.init(OTHER), "the state's momenta are of shapes")
        refused(tx, tx.init({"a": jnp.ones((3, 4))}), "the state's momenta are of shapes")


def test_states_with_and_without_rate_and_decay():
    plain = learned_opt.load()
    hooks = learned_opt.load(learning_rate=0.1, weight_decay=0.1)
    refused(hooks, plain.init(PARAMS), "^load: .* a tuple of 3 parts, got a MLPState")
    refused(hooks, (), "^load: .* a tuple of 3 parts, got 0 parts")
    refused(hooks, None, "^load: .* a tuple of 3 parts, got a NoneType")
    refused(plain, hooks.init(PARAMS), "^mlp: the state is a tuple, needed is a MLPState")


@pytest.mark.parametrize(
    ("only", "others", "leaf"),
    [
        ("vector", MOMENTUM, r"\['others'\].*trace\['k'\]\['kernel'\]: it is of shape \(1, 4\)"),
        ("vector", optax.adam(1.0), r"mu\['k'\]\['kernel'\]: it is of shape \(1, 4\)"),
        ("vector", optax.inject_hyperparams(optax.adam)(0.1), r"mu\['k'\]\['kernel'\]"),
        (
            None,
            {"matrix": MOMENTUM, "embedding": MOMENTUM},
            r"\['matrix'\].*\['kernel'\]: it is of shape \(1, 4\)",
        ),
    ],
)
def test_the_others_state_of_other_shapes_is_refused(only, others, leaf):
    tx = learned_opt.load("mlp", only=only, others=others)
    refused(tx, tx.init(OTHER), f"^load: the state is another at .*{leaf}.*init makes one")


def test_the_leaf_that_differs_is_named():
    matrices = learned_opt.load("mlp", only="matrix", others=MOMENTUM)
    refused(matrices, matrices.init(RENAMED), r"trace\['b'\]: it has none there")
    vectors = learned_opt.load("mlp", only="vector", others=MOMENTUM)
    refused(vectors, vectors.init(RENAMED), r"momenta is another at \['b'\]")
    more = PARAMS | {"other": {"kernel": jnp.ones((2, 2))}}
    refused(vectors, vectors.init(more), r"\['other'\]\['kernel'\]: it is of shape \(2, 2\), and")


@pytest.mark.parametrize("name", ["hd", "rtho", "marthe"])
def test_the_inner_state_of_another_tree_or_type_is_refused(name):
    adam = lambda rate: optax.chain(optax.clip(1.0), optax.adam(rate))
    tx = getattr(learned_opt, name)(adam, 0.1, 1e-3)
    state = tx.init(PARAMS)
    inner = r"^a hypergradient optimizer's inner optimizer: the state is another at .*"
    of_others = tx.init(OTHER).inner_state
    refused(tx, state._replace(inner_state=of_others), inner + r"mu\['k'\]\['kernel'\]: .*\(1, 4\)")
    for other in (optax.adagrad(0.1).init(PARAMS), (), None, jnp.ones(3)):
        refused(tx, state._replace(inner_state=other), inner)
    refused(tx, state._replace(inner_state=tx.init(RENAMED).inner_state), inner + r"\['b'\]")


def test_what_init_cannot_be_traced_for_passes():
    by_value = optax.GradientTransformation(
        lambda params: {"of": jnp.ones(3) if jax.tree.leaves(params)[0].sum() > 0 else 0.0},
        lambda updates, state, params=None: (updates, state),
    )
    tx = learned_opt.load("mlp", only="matrix", others=by_value)
    jax.jit(tx.update)(PARAMS, tx.init(PARAMS), PARAMS)
    assert jax.jit(lambda p: jnp.float32(shapes_of(by_value.init, p) is None))(PARAMS) == 1
    check_as_made("load", {"anything": 1.0}, None)


def test_types_and_values_of_a_state_may_be_others():
    vectors = OTHERS["load_matrices"]()
    state = vectors.init(PARAMS)
    half = jax.tree.map(
        lambda x: x.astype(jnp.float16) if x.ndim else x, state.inner_states["others"]
    )
    state = state._replace(inner_states=state.inner_states | {"others": half})
    jax.eval_shape(vectors.update, PARAMS, state, PARAMS)
    rate = optax.inject_hyperparams(optax.adam)(0.1)
    injected = learned_opt.load("mlp", only="vector", others=rate)
    state = injected.init(PARAMS)
    state.inner_states["others"].inner_state.hyperparams["learning_rate"] = 0.5
    injected.update(PARAMS, state, PARAMS)
