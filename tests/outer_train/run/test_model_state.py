"""A run on a stateful family, beside one without a state, goes on bitwise from a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.hand_designed import hyperparameters
from outer_train import PARTICLES, estimators, inner_problem, outer_step, particle_mesh, truncation
from outer_train.run import QUIET, LoopSettings, loop
from tasks.analytic.random_quadratic import random_quadratic_family
from tasks.base import StatefulTask
from tasks.images.class_subsets import fixed_family
from tests.support.outer_train.walks import without_timings
from tests.support.quick import by_name

NUM_OUTER_STEPS, SAVED_AT = 6, 3


def noisy_family():
    """Weights under noise from the state's own key, counted, and averaged in 16 bit."""

    def init(key):
        state = {"key": key, "count": 0, "mean": jnp.zeros(3, jnp.float16), "none": ()}
        return jnp.ones(3, jnp.float32), state

    def loss(params, state, key, batch):
        new_key, used = jax.random.split(state["key"])
        mean = 0.75 * state["mean"] + 0.25 * params.astype(jnp.float16)
        state = state | {"key": new_key, "count": state["count"] + 1, "mean": mean}
        noise = jax.random.normal(used, (3,), jnp.float32)
        return jnp.sum(jnp.square(params - batch + 0.1 * noise)), (state, {})

    def eval_loss(params, state, key, batch):
        return jnp.sum(jnp.square(state["mean"].astype(jnp.float32) - batch)), {}

    sample_batch = lambda data, key, split: jax.random.normal(key, (3,), jnp.float32)
    return fixed_family(StatefulTask(init, loss, eval_loss, sample_batch))


@by_name(("persistent_es", "merged", "forward_mode"), quick=("persistent_es",))
def test_a_resumed_run_is_the_undisturbed_one(new_run, name):
    optimizer = hyperparameters.adam(learning_rate=0.1)
    families = (noisy_family(), random_quadratic_family(2))
    made = [
        getattr(estimators, name)(
            inner_problem(family, optimizer, 5), 2, axis_name=PARTICLES, max_num_steps=2,
            stagger=True,
        )
        for family in families
    ]  # fmt: skip
    step = outer_step(made, optax.adam(1e-2), truncation.constant(2), particle_mesh(2, 1))
    theta = jax.device_get(optimizer.init(jax.random.key(0)))
    datas = step.place_data(((), ()))

    def train(run, num_outer_steps):
        settings = LoopSettings(num_outer_steps, checkpoint_every=SAVED_AT)
        return loop.train(step, theta, jax.random.key(1), datas, run, settings, QUIET).state

    whole, parts = new_run("whole"), new_run("parts")
    expected = train(whole, NUM_OUTER_STEPS)
    train(parts, SAVED_AT)
    found = train(parts, NUM_OUTER_STEPS)
    assert without_timings(parts) == without_timings(whole)
    words = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(words(a), words(b)), found, expected)
    inner = found.estimator_states[0].inner
    counts = np.asarray(inner.model_state["count"])
    assert counts.max() > 0
    np.testing.assert_array_equal(counts, inner.step)
    assert found.estimator_states[1].inner.model_state == ()
