"""An outer step is traced under JAX's strict modes;
tests/modes/test_modes.py compiles and runs it, for longer.
"""

import jax
import pytest

from tasks import as_stateful, suite
from tests.support.uses import built, mode

STRICT = {"jax_numpy_dtype_promotion": "strict"}
RANKS = {"jax_numpy_rank_promotion": "raise"}
X64 = {"jax_enable_x64": True}


@pytest.mark.parametrize(
    ("options", "kind"),
    [(STRICT | X64, "persistent_es"), (STRICT | RANKS, "merged")],
    ids=["x64", "ranks"],
)
def test_an_outer_step(options, kind):
    with mode(**options):
        assert built(kind).theta


@pytest.mark.parametrize("options", [STRICT | X64, STRICT | RANKS], ids=["x64", "ranks"])
def test_gradients_of_the_tasks(options):
    with mode(**options):
        for task in suite("quick").tasks:
            family = task.build()

            def gradient(key, family=family):
                one = as_stateful(family.task(family.sample(key)))
                params, state = one.init(key)
                batch = one.sample_batch(family.data, key, "train")
                return jax.grad(lambda at: one.loss(at, state, key, batch)[0])(params)

            assert jax.tree.leaves(jax.eval_shape(gradient, jax.random.key(0)))
