"""Families whose data are windows of a small set, without `grain` or files."""

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import Task
from tasks.images.class_subsets import fixed_family


class Windows:
    """Numbers around a level that goes up by a step a window, from the seed's last digit on."""

    def __init__(self, seed, step=1.0):
        self.seed, self.step, self.number, self.is_closed = seed, step, 0, False

    def __next__(self):
        self.number += 1
        return window(self.step * (self.seed % 10 + self.number - 1))

    def get_state(self):
        return {"next_index": self.number}

    def set_state(self, state):
        self.number = state["next_index"]

    def close(self):
        self.is_closed = True


def window(level):
    return np.float32(level) + np.linspace(-1, 1, 8, dtype=np.float32)


def windowed_family(step=1.0):
    """A number that is to be near the window's; with a step of 0 all windows are the same."""

    def loss(params, key, batch):
        return jnp.mean(jnp.square(params - batch)), {"level": jnp.mean(batch)}

    def sample_batch(data, key, split):
        return data[jax.random.randint(key, (4,), 0, 8, jnp.int32)]

    task = Task(lambda key: jnp.float32(3), loss, sample_batch)
    family = fixed_family(task, jnp.asarray(window(0)))
    return family._replace(windows=lambda seed: Windows(seed, step))
