"""What a user does, small: an MLP trained with `load()`, and three outer steps.

As a script it prints JSON.
"""

import contextlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt
from configs.base import (
    ClassSubset,
    Constant,
    HeldOut,
    InnerProblem,
    Merged,
    Mlp,
    OuterOptimizer,
    PersistentES,
    RandomQuadratic,
    TrainConfig,
)

FAMILIES = {
    "persistent_es": ClassSubset(
        num_classes=3, batch_size=4, hidden_sizes=(3,), fractions=(0.55, 0.15, 0.15, 0.15)
    ),
    "merged": RandomQuadratic(dim=3),
}
ESTIMATORS = {"persistent_es": PersistentES(num_pairs=2), "merged": Merged(num_pairs=2)}


def trained(dtype=jnp.float32, num_steps: int = 4) -> np.ndarray:
    """An MLP's flat parameters after a few steps of `optax.chain(clip, learned_opt.load())`."""
    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=shape) for shape in ((4, 3), (3,), (3, 2), (2,), (8, 4), (8, 2))]
    w1, b1, w2, b2, inputs, targets = (jnp.asarray(array, dtype) for array in arrays)
    params = {"first": {"kernel": w1, "bias": b1}, "second": {"kernel": w2, "bias": b2}}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), learned_opt.load())

    def loss(params):
        hidden = jnp.tanh(inputs @ params["first"]["kernel"] + params["first"]["bias"][None])
        outputs = hidden @ params["second"]["kernel"] + params["second"]["bias"][None]
        return jnp.mean(jnp.square(outputs - targets))

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(num_steps):
        params, state = step(params, state)
    leaves = jax.tree.leaves(params)
    if any(leaf.dtype != dtype for leaf in leaves):
        raise TypeError(f"parameters of {dtype} became {[leaf.dtype for leaf in leaves]}")
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])


def built(kind: str, num_steps: int = 3):
    """A tiny quickstart, as the command builds it: its outer step is traced, and not compiled."""
    from learned_opt_lab.runs.build import build

    config = TrainConfig(
        family=FAMILIES[kind],
        optimizer=Mlp(hidden_sizes=(3,)),
        problem=InnerProblem(num_steps=6),
        estimator=ESTIMATORS[kind],
        truncation=Constant(num_steps=3),
        outer_optimizer=OuterOptimizer(learning_rate=3e-3),
        held_out=HeldOut(num_tasks=0),
        num_outer_steps=num_steps,
    )
    return build(config, num_devices=1)


def outer_trained(kind: str, num_steps: int = 3) -> np.ndarray:
    """Theta's flat parameters after three outer steps."""
    run = built(kind, num_steps)
    state = run.step.init(run.theta, run.key)
    for _ in range(num_steps):
        state, metrics = run.step.step(state, run.key, run.datas)
        if not np.isfinite(metrics["outer_loss"]):
            raise FloatingPointError(f"outer loss {metrics['outer_loss']}")
    return np.concatenate(
        [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(state.theta)]
    )


@contextlib.contextmanager
def mode(**options):
    """JAX with these options; nothing that was traced without them is used."""
    before = {name: getattr(jax.config, name) for name in options}
    jax.clear_caches()
    try:
        for name, value in options.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        jax.clear_caches()


if __name__ == "__main__":
    found = {"trained": trained(), **{kind: outer_trained(kind) for kind in FAMILIES}}
    json.dump(
        {"docstring": trained.__doc__, **{name: list(values) for name, values in found.items()}},
        sys.stdout,
    )
