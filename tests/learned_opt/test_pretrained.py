"""What ships works: the default trains a network it never saw,
faster than Adam at its usual rate.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt
from learned_opt.saving import PRETRAINED_DIR, pretrained_names
from tasks import MLP, class_subset_family, digits


def _losses(optimizer):
    family = class_subset_family(digits(), MLP((32,), 3), 3, classes=(0, 1, 8), batch_size=32)
    task = family.task(family.sample(jax.random.key(0)))

    def step(carry, key):
        params, opt_state = carry
        batch = task.sample_batch(family.data, key, "train")
        value, grads = jax.value_and_grad(lambda p: task.loss(p, key, batch)[0])(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value

    params = task.init(jax.random.key(1))
    _, losses = jax.lax.scan(
        step, (params, optimizer.init(params)), jax.random.split(jax.random.key(2), 100)
    )
    return np.asarray(losses)


def test_the_default_trains_faster_than_adam_at_its_usual_rate():
    assert _losses(learned_opt.load()).mean() < 0.5 * _losses(optax.adam(1e-3)).mean()


def test_every_shipped_optimizer_has_a_card_and_loads():
    assert learned_opt.saving.DEFAULT_PRETRAINED in pretrained_names()
    for name in pretrained_names():
        _, theta = learned_opt.load_theta(name)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(theta))
        assert "Licence" in (PRETRAINED_DIR / f"{name}.md").read_text(encoding="utf-8")


def test_a_card_s_numbers_are_those_of_the_optimizer():
    params = {"kernel": jax.ShapeDtypeStruct((1000, 1000), jnp.float32)}
    for name in pretrained_names():
        card = (PRETRAINED_DIR / f"{name}.md").read_text(encoding="utf-8").replace("\n", " ")
        _, theta = learned_opt.load_theta(name)
        num_weights = sum(leaf.size for leaf in jax.tree.leaves(theta))
        said = re.search(r"(\d+) weights, (\d+) bytes of state a parameter, (\d+) with", card)
        sizes = [
            sum(
                leaf.size * leaf.dtype.itemsize
                for leaf in jax.tree.leaves(jax.eval_shape(optimizer.init, params))
            )
            for optimizer in (
                learned_opt.load(name),
                learned_opt.load(name, state_dtype="bfloat16"),
            )
        ]
        # The count of updates is one number, whatever the size.
        assert [int(number) for number in said.groups()] == [
            num_weights,
            *(round(size / 1e6) for size in sizes),
        ]


def test_it_goes_into_a_chain_without_a_name():
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), learned_opt.load())
    params = {"w": jnp.ones(4, jnp.float32)}
    updates, _ = optimizer.update(
        {"w": jnp.full(4, 0.3, jnp.float32)}, optimizer.init(params), params
    )
    assert (np.asarray(updates["w"]) < 0).all()


def test_it_is_loaded_inside_a_traced_function():
    """As in a function that makes a train state, whose shapes are asked for before it is made."""

    def train_state(key):
        params = {"w": jax.random.normal(key, (3, 2))}
        optimizer = learned_opt.load(
            learning_rate=optax.cosine_decay_schedule(1.0, 10), weight_decay=0.1
        )
        return params, optimizer.init(params)

    params, state = jax.eval_shape(train_state, jax.random.key(0))

    def update(grads, state, params):
        return learned_opt.load(weight_decay=0.1, learning_rate=0.5).update(grads, state, params)

    optimizer = learned_opt.load(weight_decay=0.1, learning_rate=0.5)
    inside = jax.make_jaxpr(update)(params, optimizer.init(params), params)
    outside = jax.make_jaxpr(optimizer.update)(params, optimizer.init(params), params)
    assert inside.out_avals == outside.out_avals
    assert jax.tree.structure(state)
