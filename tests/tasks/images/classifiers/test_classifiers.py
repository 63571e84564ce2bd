"""ViT and ConvNeXt: sizes as documented, patches where they are, convolutions as JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.images import ConvNeXt, ViT, conv_next_family, vit_family
from tasks.images.classifiers.conv_next import DepthwiseConv
from tasks.images.classifiers.vit import patches_of
from tests.support.training import adam_losses


def count_of(module, shape):
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_patches_are_parts_of_the_image():
    images = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    patches = patches_of(images, 2)
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[1, 4].reshape(2, 2, 3), images[1, 2:4, 2:4])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_depthwise_convolution_is_jax_s(size):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3), jnp.float32)
    params = DepthwiseConv(size).init(jax.random.key(1), x)["params"]
    expected = jax.lax.conv_general_dilated(
        x,
        params["kernel"][:, :, None],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(
        DepthwiseConv(size).apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5
    )


def test_numbers_of_parameters_are_as_documented():
    w, d = 16, 3
    vit = (49 + 1) * w + w + (16 + 1) * w + d * (12 * w**2 + 13 * w) + 2 * w + (w + 1) * 10
    assert count_of(ViT(d, w, 4, 7), (28, 28, 1)) == vit
    convnext = (16 + 3) * w + d * (8 * w**2 + (9 + 9) * w) + 2 * w + (w + 1) * 10
    assert count_of(ConvNeXt(d, w), (28, 28, 1)) == convnext
    assert count_of(ViT(), (28, 28, 1)) == 105_098
    assert count_of(ConvNeXt(), (28, 28, 1)) == 59_386


@pytest.mark.parametrize(
    "make",
    [
        lambda: vit_family("digits", depth=1, width=16, num_heads=2, patch_size=4),
        lambda: conv_next_family("digits", depth=1, width=16, patch_size=2),
    ],
)
def test_they_start_at_ln_10_and_learn(make):
    losses = adam_losses(make(), 100, 1e-2)
    np.testing.assert_allclose(losses[0], np.log(10), rtol=1e-5)
    assert losses[-10:].mean() < 1.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vit_family("digits", patch_size=3), "patch_size must divide"),
        (lambda: conv_next_family("digits", patch_size=3), "patch_size must divide"),
        (lambda: vit_family("digits", width=30), "num_heads must divide width"),
        (lambda: conv_next_family("digits", kernel_size=4), "kernel_size must be odd"),
        (lambda: conv_next_family("digits", depth=0), "sizes must be at least 1"),
        (lambda: vit_family("digits", source_split="test"), "have a source_split 'test'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
