"""A suite of your own: one task that ships in another size, and one written here.

    learned-opt evaluate general adam --suite examples/my_suite.py --out runs/my_suite

`suite` is a `tasks.Suite`, or a function without arguments that returns one. A task's `build`
makes a `tasks.TaskFamily` when its turn comes. What a task's code and data are made of is noticed
when it changes; raise its version where the change cannot be seen from here, as in a file that the
code reads while it trains.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tasks import SPLITS, Suite, SuiteTask, Task, TaskFamily, tabular_family

NUM_POINTS, BATCH_SIZE = 400, 32


def sine_family(width: int = 16) -> TaskFamily:
    """Fits sin(3 x) by a network of one hidden layer; each split has 400 points of its own."""
    x = np.random.default_rng(0).uniform(-1, 1, (len(SPLITS), NUM_POINTS)).astype(np.float32)

    def init(key):
        key_1, key_2 = jax.random.split(key)
        hidden = jax.random.normal(key_1, (2, width), jnp.float32)
        return {"hidden": hidden, "output": 0.1 * jax.random.normal(key_2, (width,), jnp.float32)}

    def loss(params, key, batch):
        inputs = jnp.stack([batch, jnp.ones_like(batch)], axis=1)
        error = jnp.tanh(inputs @ params["hidden"]) @ params["output"] - jnp.sin(3 * batch)
        mean = jnp.mean(error**2)
        # Every metric is in the report: here `test_r_squared`. The variance of sin 3x is .546.
        return mean, {"r_squared": 1 - mean / 0.546}

    def sample_batch(data, key, split):
        points = data[SPLITS.index(split)]
        return points[jax.random.randint(key, (BATCH_SIZE,), 0, NUM_POINTS, jnp.int32)]

    # One task: nothing is drawn. The data is an argument of what is compiled, no constant in it.
    return TaskFamily(lambda key: (), lambda drawn: Task(init, loss, sample_batch), jnp.asarray(x))


suite = Suite(
    name="my_suite",
    version=1,
    description="Two small regressions.",
    tasks=(
        SuiteTask("my_sine", sine_family, 200, 10, "sin 3x, one hidden layer of 16"),
        SuiteTask(
            "my_diabetes",
            functools.partial(tabular_family, "diabetes", width=32, depth=1),
            200,
            10,
            "diabetes, one hidden layer of 32",
        ),
    ),
)
