import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tasks.images.class_subsets import class_subset_family
from tasks.images.datasets import digits
from tasks.images.networks import MLP
from tasks.weight_scales import rescaled_weights


def _family(max_scale):
    return rescaled_weights(class_subset_family(digits(), MLP((4,), 3), 3, batch_size=8), max_scale)


def test_losses_stay_and_gradients_are_in_the_other_units():
    family, plain = _family(5.0), _family(1.0)
    drawn = family.sample(jax.random.key(0))
    task, inner = family.task(drawn), plain.task(drawn[0])
    key = jax.random.key(1)
    params, unscaled = task.init(key), inner.init(key)
    batch = task.sample_batch(family.data, key, "train")
    np.testing.assert_array_equal(
        batch["image"], inner.sample_batch(plain.data, key, "train")["image"]
    )
    grads = jax.grad(lambda p: task.loss(p, key, batch)[0])(params)
    inner_grads = jax.grad(lambda p: inner.loss(p, key, batch)[0])(unscaled)
    np.testing.assert_allclose(
        task.loss(params, key, batch)[0], inner.loss(unscaled, key, batch)[0], rtol=1e-5
    )
    for layer in ("Dense_0", "Dense_1"):
        scale = unscaled[layer]["kernel"][0, 0] / params[layer]["kernel"][0, 0]
        assert 1 / 5 <= scale <= 5
        np.testing.assert_allclose(
            params[layer]["kernel"] * scale, unscaled[layer]["kernel"], rtol=1e-5
        )
        np.testing.assert_allclose(
            grads[layer]["kernel"], inner_grads[layer]["kernel"] * scale, rtol=1e-3, atol=1e-7
        )


def test_scales_are_log_uniform_and_differ_between_tensors():
    family, plain = _family(5.0), _family(1.0)

    def ratios(key):
        drawn = family.sample(key)
        ones, scaled = plain.task(drawn[0]).init(key), family.task(drawn).init(key)
        return jnp.stack(
            [jnp.log(ones[layer]["kernel"][0, 0] / scaled[layer]["kernel"][0, 0]) for layer in ones]
        )

    logs = np.asarray(jax.jit(jax.vmap(ratios))(jax.random.split(jax.random.key(0), 300)))
    bound = np.log(5.0)
    assert stats.kstest(logs.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(logs.T)[0, 1]) < 4 / np.sqrt(300)


def test_bad_scale():
    with pytest.raises(ValueError, match="max_scale must be at least 1"):
        _family(0.5)
