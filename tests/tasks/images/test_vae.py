"""The VAE's loss is minus the bound of the paper, with the noise of the loss's key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.images import from_arrays, vae_family
from tasks.images.vae import VAE
from tests.support.training import adam_losses, at_start

APPLY = jax.jit(VAE(64, 3, 8).apply)


@pytest.fixture(scope="module")
def family():
    return vae_family("digits", num_latents=3, width=8, batch_size=4)


def with_last_layer(params):
    """Its zeros would hide the decoder."""
    kernel = jax.random.normal(jax.random.key(4), (8, 64), jnp.float32)
    return {**params, "Dense_3": {**params["Dense_3"], "kernel": kernel}}


def test_the_bound_equals_numpy(family):
    params, batch, key, loss, metrics, _ = at_start(family, "test", with_last_layer)
    noise = jax.random.normal(key, (4, 3), jnp.float32)
    logits, mean, log_std = (
        np.asarray(x, np.float64) for x in APPLY({"params": params}, batch["pixels"], noise)
    )
    x, p, variance = np.asarray(batch["pixels"]), 1 / (1 + np.exp(-logits)), np.exp(2 * log_std)
    assert x.min() >= 0
    assert x.max() == 1
    reconstruction = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(-1)
    kl = 0.5 * (mean**2 + variance - 1 - np.log(variance)).sum(-1)
    np.testing.assert_allclose(float(loss), (reconstruction + kl).mean(), rtol=1e-5)
    np.testing.assert_allclose(float(metrics["divergence"]), kl.mean(), rtol=1e-4)
    np.testing.assert_allclose(
        float(metrics["bits_per_pixel"]), float(loss) / (64 * np.log(2)), rtol=1e-5
    )


def test_the_code_is_the_mean_plus_the_deviation_times_the_noise(family):
    params = jax.jit(lambda key: with_last_layer(family.task(()).init(key)))(jax.random.key(0))
    last = params["Dense_3"]
    pixels, noise = jnp.ones((4, 64)), jnp.array([[1.0, -2.0, 0.5]] * 4)
    logits, mean, log_std = APPLY({"params": params}, pixels, noise)
    z = np.asarray(mean + jnp.exp(log_std) * noise, np.float64)
    hidden = z @ params["Dense_2"]["kernel"] + params["Dense_2"]["bias"]
    hidden = np.asarray(jax.nn.gelu(jnp.asarray(hidden, jnp.float32)))
    np.testing.assert_allclose(
        logits, hidden @ last["kernel"] + params["Dense_3"]["bias"], rtol=1e-4, atol=1e-5
    )


def test_it_starts_at_ln_2_a_pixel_and_learns(family):
    losses = adam_losses(family, 150, 1e-2)
    assert abs(float(losses[0]) - 64 * np.log(2)) < 1
    assert losses[-20:].mean() < 0.8 * 64 * np.log(2)


@pytest.mark.parametrize("depth", [1, 3])
def test_number_of_parameters_is_as_documented(depth):
    w, n, pixels = 8, 3, 64
    task = vae_family("digits", num_latents=n, width=w, depth=depth).task(())
    count = sum(x.size for x in jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))))
    ends = (pixels + 1) * w + 2 * (w + 1) * n + (n + 1) * w + (w + 1) * pixels
    assert count == ends + 2 * (depth - 1) * (w + 1) * w


def test_bad_arguments():
    with pytest.raises(ValueError, match="sizes must be at least 1"):
        vae_family("digits", num_latents=0)
    floats = from_arrays(np.random.default_rng(0).normal(size=(40, 2, 2)), np.arange(40) % 2)
    with pytest.raises(ValueError, match=r"integers within 0\.\.255"):
        vae_family(floats)
