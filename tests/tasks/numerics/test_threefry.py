"""Words and keys equal those of jax.random, for scalar keys,
under vmap, and for keys of another kind.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.numerics import threefry


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_words_and_keys_are_those_of_jax_random(implementation):
    key = jax.random.fold_in(jax.random.key(3, impl=implementation), 5)
    data = jax.random.key_data
    for num_words in (1, 2, 7):
        np.testing.assert_array_equal(
            threefry.bits(key, num_words), jax.random.bits(key, (num_words,), jnp.uint32)
        )
    np.testing.assert_array_equal(data(threefry.split(key, 5)), data(jax.random.split(key, 5)))
    for number in (0, 77, 2**31 - 1):
        got = threefry.fold_in(key, jnp.int32(number))
        np.testing.assert_array_equal(data(got), data(jax.random.fold_in(key, number)))


def test_a_map_over_keys_gives_the_same_words():
    keys = jax.random.split(jax.random.key(0), 3)
    got = jax.vmap(lambda key: threefry.bits(key, 6))(keys)
    want = jax.vmap(lambda key: jax.random.bits(key, (6,), jnp.uint32))(keys)
    np.testing.assert_array_equal(got, want)
