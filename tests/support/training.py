"""A few Adam steps on a task, in one program."""

import jax
import optax


def adam_losses(family, num_steps, rate, task_key=None):
    """Training losses before each of `num_steps` steps."""
    task = family.task(family.sample(jax.random.key(0) if task_key is None else task_key))
    optimizer = optax.adam(rate)

    def step(carry, key, data):
        params, state = carry
        key_batch, key_loss = jax.random.split(key)
        batch = task.sample_batch(data, key_batch, "train")
        loss, grad = jax.value_and_grad(lambda p: task.loss(p, key_loss, batch)[0])(params)
        updates, state = optimizer.update(grad, state, params)
        return (optax.apply_updates(params, updates), state), loss

    @jax.jit
    def run(data):
        params = task.init(jax.random.key(1))
        keys = jax.random.split(jax.random.key(2), num_steps)
        start = (params, optimizer.init(params))
        return jax.lax.scan(lambda carry, key: step(carry, key, data), start, keys)[1]

    with jax.numpy_dtype_promotion("standard"):
        return run(family.data)


def at_start(family, split="train", change=lambda params: params):
    """`(params, batch, key of the loss, loss, metrics, gradient)` at the start, in one program.

    `change` makes other parameters of the fresh ones.
    """
    task = family.task(family.sample(jax.random.key(0)))
    key = jax.random.key(2)

    @jax.jit
    def first(data):
        params = change(task.init(jax.random.key(0)))
        batch = task.sample_batch(data, jax.random.key(1), split)
        (loss, metrics), grad = jax.value_and_grad(task.loss, has_aux=True)(params, key, batch)
        return params, batch, key, loss, metrics, grad

    return first(family.data)
