"""Stateful tasks: what they must return, and tasks without a state beside them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.hand_designed import hyperparameters
from learned_opt_lab.evaluation.sweep import make_sweep
from outer_train import inner_problem
from tasks import StatefulTask, Task, TaskFamily, as_stateful, check_model_state
from tasks.images.class_subsets import fixed_family
from tasks.weight_scales import rescaled_weights

KEY = jax.random.key(0)


def task_of(init_state, loss, eval_loss=lambda params, state, key, batch: (jnp.sum(params), {})):
    sample_batch = lambda data, key, split: jnp.ones((2,), jnp.float32)
    return StatefulTask(
        lambda key: (jnp.ones((2,), jnp.float32), init_state), loss, eval_loss, sample_batch
    )


def returning(model_state, init_state):
    loss = lambda params, state, key, batch: (jnp.sum(params * batch), (model_state, {}))
    return task_of(init_state, loss)


def sum_of(params, state, key, batch):
    return jnp.sum(params), (state, {})


HALF = jnp.zeros(3, jnp.float16)
KEPT = "a training step must keep the structure, shapes and types of its model state; "
REFUSED = {
    "shape": (
        returning({"mean": jnp.zeros(4, jnp.float16)}, {"mean": HALF}),
        KEPT + "model_state['mean'] was float16[3] and came back as float16[4]",
    ),
    "type": (
        returning({"mean": jnp.zeros(3, jnp.float32)}, {"mean": HALF}),
        KEPT + "model_state['mean'] was float16[3] and came back as float32[3]",
    ),
    "lost": (
        returning({}, {"mean": HALF}),
        KEPT + "model_state['mean'] was float16[3] and came back as nothing",
    ),
    "new": (
        returning({"mean": HALF, "sown": (HALF,)}, {"mean": HALF}),
        KEPT + "model_state['sown'][0] was not there and came back as float16[3]",
    ),
    "structure": (
        returning([HALF], (HALF,)),
        KEPT + "it made PyTreeDef([*]) of PyTreeDef((*,))",
    ),
    "key": (
        returning(jnp.zeros(2, jnp.uint32), KEY),
        KEPT + "model_state was key<fry>[] and came back as uint32[2]",
    ),
    "no array": (
        returning({"name": "mean"}, {"name": "mean"}),
        "model_state['name'] must be an array, got 'mean'",
    ),
    "no state": (
        task_of(HALF, lambda params, state, key, batch: (jnp.sum(params), {"a": 1.0, "b": 2.0})),
        "loss of a stateful task must return (loss, (model_state, metrics)), got (",
    ),
    "loss alone": (
        task_of(HALF, lambda params, state, key, batch: jnp.sum(params)),
        "loss of a stateful task must return (loss, (model_state, metrics)), got float32[]",
    ),
    "no scalar": (
        task_of(HALF, lambda params, state, key, batch: (params, (state, {}))),
        "loss of a stateful task must return one number first, got shape (2,)",
    ),
    "eval_loss with a state": (
        task_of(HALF, sum_of, lambda params, state, key, batch: (jnp.sum(params), state, {})),
        "eval_loss of a stateful task must return (loss, metrics), got (",
    ),
    "eval_loss is no scalar": (
        task_of(HALF, sum_of, lambda params, state, key, batch: (params, {})),
        "eval_loss of a stateful task must return one number first, got shape (2,)",
    ),
    "init without a state": (
        task_of(HALF, sum_of)._replace(init=lambda key: jnp.ones((2,), jnp.float32)),
        "init of a stateful task must return (params, model_state), got float32[2]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keeps_no_state_is_refused_when_it_is_made(name):
    task, message = REFUSED[name]
    sgd = hyperparameters.sgd(0.1)
    with pytest.raises(ValueError, match=re.escape(message)):
        inner_problem(fixed_family(task), sgd, 5)
    with pytest.raises(ValueError, match=re.escape(message)):
        make_sweep(fixed_family(task), sgd.optimizer, num_steps=5)


def test_an_error_of_the_task_itself_is_not_hidden():
    def broken(params, state, key, batch):
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        check_model_state(fixed_family(task_of(HALF, broken)))


def test_a_state_may_hold_anything_that_is_an_array():
    """Python numbers are arrays of a fixed type from the start on."""
    start = {"count": 0, "key": KEY, "words": np.zeros(2, np.uint32), "half": HALF, "none": None}

    def loss(params, state, key, batch):
        state = state | {"count": state["count"] + 1, "key": jax.random.split(state["key"])[0]}
        return jnp.sum(params), (state, {})

    family = fixed_family(task_of(start, loss))
    check_model_state(family)
    task = as_stateful(family.task(()))
    _, state = task.init(KEY)
    kinds = jax.tree.map(lambda x: (x.dtype, getattr(x, "weak_type", False)), state)
    _, (new, metrics) = task.loss(jnp.ones(2, jnp.float32), state, KEY, ())
    assert jax.tree.map(lambda x: (x.dtype, getattr(x, "weak_type", False)), new) == kinds
    assert (int(new["count"]), metrics) == (1, {})
    check_model_state(fixed_family(task_of((), sum_of)))  # a state without arrays


def test_a_task_without_a_state_is_the_same_program():
    def loss(params, key, batch):
        return jnp.sum(jnp.square(params - batch)), {"largest": jnp.max(params)}

    task = Task(lambda key: jax.random.normal(key, (3,), jnp.float32), loss, lambda *_: ())
    lifted = as_stateful(task)
    params, state = lifted.init(KEY)
    assert state == ()
    np.testing.assert_array_equal(params, task.init(KEY))
    plain = jax.make_jaxpr(jax.value_and_grad(lambda p: loss(p, KEY, 1.0)[0]))(params)
    found = jax.make_jaxpr(
        lambda p: jax.value_and_grad(lambda p: lifted.loss(p, (), KEY, 1.0)[::-1][1])(p)
    )(params)
    assert str(plain) == str(found)
    value, (state, metrics) = lifted.loss(params, (), KEY, 1.0)
    assert (value, state, metrics) == (loss(params, KEY, 1.0)[0], (), {"largest": params.max()})
    assert lifted.eval_loss(params, (), KEY, 1.0) == loss(params, KEY, 1.0)


def test_nothing_is_traced_of_a_task_without_a_state():
    def broken(*args):
        raise AssertionError("traced")

    check_model_state(fixed_family(Task(broken, broken, broken)))


def test_weights_in_other_units_keep_the_state_as_it_is():
    def loss(params, state, key, batch):
        return jnp.sum(params * batch), (state + jnp.sum(params), {})

    def eval_loss(params, state, key, batch):
        return jnp.sum(params * batch) + state, {}

    plain = TaskFamily(
        lambda key: (), lambda drawn: task_of(jnp.float32(2), loss, eval_loss), jnp.ones(1), 3.0
    )
    family = rescaled_weights(plain, 10.0)
    check_model_state(family)
    task = family.task(family.sample(jax.random.key(3)))
    params, state = task.init(KEY)
    assert abs(float(params[0]) - 1) > 0.1
    value, (new, _) = task.loss(params, state, KEY, jnp.ones(2, jnp.float32))
    np.testing.assert_allclose([value, new], [2, 4], rtol=1e-6)
    np.testing.assert_allclose(
        task.eval_loss(params, new, KEY, jnp.ones(2, jnp.float32))[0], 6, rtol=1e-6
    )
    assert (family.weight, family.data is plain.data) == (3.0, True)
