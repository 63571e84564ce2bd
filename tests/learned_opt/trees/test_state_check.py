"""A state made for another tree is told, by the leaf's name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.trees.state_check import check_mirrors, check_params, check_precision, check_type

GRADS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}


def mirror(kernel=(2, 3), bias=(3,), **more):
    """A state's part as `jax.eval_shape` gives it."""
    struct = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    return {"dense": {"kernel": struct(kernel), "bias": struct(bias)}} | {
        k: struct(v) for k, v in more.items()
    }


def test_the_same_tree_passes():
    check_mirrors("adam", "mean", GRADS, GRADS)
    check_mirrors("adam", "mean", mirror(), GRADS)
    check_mirrors("adam", "mean", jnp.ones(2), np.ones(2))
    check_mirrors("adam", "mean", {}, {})
    check_mirrors("mlp", "momenta", mirror((5, 2, 3), (5, 3)), GRADS, leading=1)
    check_mirrors("mlp", "momenta", mirror((5, 2, 3), (3,)), GRADS, leading=None)


@pytest.mark.parametrize(
    ("average", "leaf"),
    [
        (mirror((3, 2)), "['dense']['kernel']"),  # the same size
        (mirror((6,)), "['dense']['kernel']"),
        (mirror((1, 2, 3)), "['dense']['kernel']"),
        (mirror(bias=()), "['dense']['bias']"),
        (mirror(more=(1,)), "['more']"),
        ({"dense": {"kernel": GRADS["dense"]["kernel"]}}, "['dense']['bias']"),
        ({"dense": {"kernel": GRADS["dense"]["kernel"], "bias": None}}, "['dense']['bias']"),
        (
            {"dense": {"kernel": GRADS["dense"]["kernel"], "offset": GRADS["dense"]["bias"]}},
            "['dense']['bias']",
        ),
        ({"other": GRADS["dense"]}, "['dense']['bias']"),
        ((), "['dense']['bias']"),
        (None, "['dense']['bias']"),
        (jnp.ones(3), "['dense']['bias']"),
    ],
)
def test_another_tree_is_refused_by_the_leafs_name(average, leaf):
    with pytest.raises(
        ValueError, match=f"^adam: the state's mean is another at {re.escape(leaf)}: .*; make it by"
    ):
        check_mirrors("adam", "mean", average, GRADS)


@pytest.mark.parametrize(
    ("leading", "shape"), [(1, (2, 3)), (1, (4, 5, 2, 3)), (2, (5, 2, 3)), (None, (2, 3, 5))]
)
def test_leading_axes_are_counted(leading, shape):
    bias = (*(4, 5)[:leading], 3)
    with pytest.raises(ValueError, match=r"kernel.*shape"):
        check_mirrors("mlp", "momenta", mirror(shape, bias), GRADS, leading)


def test_leaves_that_are_not_trained_may_be_anything():
    grads = {
        "dense": {"kernel": GRADS["dense"]["kernel"], "bias": None},
        "frozen": None,
        "activation": None,
    }
    for rest in (None, jnp.ones(7), {"a": jnp.ones(2)}):
        check_mirrors("adam", "mean", mirror() | {"frozen": rest, "activation": None}, grads)


def test_other_containers_are_refused():
    with pytest.raises(ValueError, match=r"at \[0\]: its containers are not the gradients'"):
        check_mirrors("adam", "mean", (jnp.ones(2), jnp.ones(3)), [jnp.ones(2), jnp.ones(3)])


def test_it_works_on_tracers_and_reads_no_value():
    def update(average, grads):
        check_mirrors("adam", "mean", average, grads)
        return grads

    jax.eval_shape(update, mirror(), GRADS)
    with pytest.raises(ValueError, match="kernel"):
        jax.eval_shape(update, mirror((3, 2)), GRADS)
    axes = {"dense": {"kernel": 0, "bias": None}}
    stacked = {"dense": {"kernel": jnp.ones((4, 2, 3)), "bias": jnp.ones(3)}}
    jax.vmap(update, in_axes=(axes, axes))(stacked, stacked)


def test_parameters_of_another_tree_are_refused():
    grads = {"w": jnp.ones(2), "activation": None}
    check_params("adam8", {"w": jnp.ones(2), "activation": jnp.tanh}, grads)
    with pytest.raises(
        ValueError, match=r"^adam8: the tree of parameters is another at \['w'\]: .*\(3,\).*\(2,\)"
    ):
        check_params("adam8", {"w": jnp.ones(3), "activation": jnp.tanh}, grads)
    with pytest.raises(
        ValueError, match=r"at \['activation'\]: it is a .* and the gradients have no such leaf"
    ):
        check_params("adam8", {"w": jnp.ones(2), "activation": jnp.tanh}, {"w": jnp.ones(2)})


def test_a_less_precise_state_is_refused():
    half = {"w": jnp.ones(2, jnp.bfloat16), "count": jnp.int32(0)}
    check_precision("adam", "mean", {"w": jnp.ones(2), "count": None}, half)
    with pytest.raises(ValueError, match=r"^adam: .* type bfloat16 at \['w'\], needed is float32"):
        check_precision("adam", "mean", half, half)
    double = {"w": np.ones(2)}
    check_precision("adam", "mean", {"w": jnp.ones(2)}, double)  # a float32 parameter without x64
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match=r"float32 at \['w'\], needed is float64"),
    ):
        check_precision("adam", "mean", {"w": jnp.ones(2, jnp.float32)}, double)


def test_another_type_of_state_is_refused():
    check_type("adam", {}, dict)
    with pytest.raises(ValueError, match="the state is a tuple, needed is a dict"):
        check_type("adam", (), dict)
