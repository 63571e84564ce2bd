import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import StatefulTask
from tasks.images.networks import (
    ACTIVATIONS,
    MLP,
    ConvNet,
    StridedConv,
    classification_task,
    softmax_cross_entropy,
)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def no_batch(data, key, split):
    return data


def test_the_papers_network_has_about_20k_weights():
    task = classification_task(ConvNet(), no_batch, (32, 32, 3), num_classes=10)
    sizes = 3 * 3 * 3 * 32 + 32 + 2 * (3 * 3 * 32 * 32 + 32) + 32 * 10 + 10
    assert count(jax.eval_shape(task.init, jax.random.key(0))) == sizes == 19_722


@pytest.mark.parametrize(("stride", "use_bias"), [(2, True), (1, False)])
def test_strided_convolution_equals_the_library_one(stride, use_bias):
    key_params, key_images = jax.random.split(jax.random.key(0))
    images = jax.random.normal(key_images, (2, 7, 8, 3))  # An odd and an even size.
    ours = StridedConv(4, stride=stride, use_bias=use_bias)
    theirs = nn.Conv(4, (3, 3), strides=stride, padding=1, use_bias=use_bias)
    variables = jax.jit(theirs.init)(key_params, images)
    shapes = jax.tree.map(jnp.shape, variables)
    assert jax.tree.map(jnp.shape, jax.eval_shape(ours.init, key_params, images)) == shapes
    np.testing.assert_allclose(
        ours.apply(variables, images), theirs.apply(variables, images), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_its_derivatives_are_the_library_ones(dtype):
    """Backward, forward, and forward over backward: what merged estimators ask for."""
    images = jax.random.normal(jax.random.key(1), (2, 7, 8, 3), dtype)
    ours, theirs = StridedConv(4), nn.Conv(4, (3, 3), strides=2, padding=1, dtype=dtype)
    variables = theirs.init(jax.random.key(0), images)
    variables = jax.tree.map(lambda x: x.astype(dtype), variables)

    def derivatives(module):
        of_images = lambda x, v: jnp.sum(jnp.tanh(module.apply(v, x)) ** 2)
        gradient = jax.grad(of_images, argnums=(0, 1))
        tangent = jax.tree.map(jnp.ones_like, (images, variables))
        return jax.jvp(gradient, (images, variables), tangent)

    for one, other in zip(*map(jax.tree.leaves, map(derivatives, (ours, theirs))), strict=True):
        assert one.dtype == dtype
        tolerance = 1e-5 if dtype == jnp.float32 else 0.05
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


def test_mlp_equals_numpy():
    task = classification_task(
        MLP(hidden_sizes=(6, 5), num_classes=4, activation="tanh"), no_batch, (3, 2, 1)
    )
    params = jax.jit(task.init)(jax.random.key(0))
    assert count(params) == 6 * 6 + 6 + 6 * 5 + 5 + 5 * 4 + 4
    rng = np.random.default_rng(1)
    images, labels = (
        rng.normal(size=(8, 3, 2, 1)).astype(np.float32),
        rng.integers(0, 4, 8).astype(np.int32),
    )
    loss, metrics = jax.jit(task.loss)(
        params, jax.random.key(2), {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    )
    x = images.reshape(8, -1)
    for i, layer in enumerate(("Dense_0", "Dense_1", "Dense_2")):
        x = x @ np.asarray(params[layer]["kernel"]) + np.asarray(params[layer]["bias"])
        x = np.tanh(x) if i < 2 else x
    shares = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(shares[np.arange(8), labels]).mean(), rtol=1e-5)
    assert metrics["accuracy"] == (x.argmax(1) == labels).mean()


def test_gradient_of_cross_entropy_is_softmax_minus_one_hot():
    logits = 5 * jax.random.normal(jax.random.key(0), (6, 3))
    labels = jnp.array([0, 1, 2, 2, 1, 0], jnp.int32)
    grad = jax.grad(lambda logits: softmax_cross_entropy(logits, labels).sum())(logits)
    np.testing.assert_allclose(grad, jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3), atol=1e-6)
    huge = jnp.array([[1e4, 0.0, -1e4]])
    np.testing.assert_allclose(softmax_cross_entropy(huge, jnp.array([2], jnp.int32)), [2e4])


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_init_scale_sets_the_deviation(scale):
    task = classification_task(MLP(hidden_sizes=(400,), init_scale=scale), no_batch, (100,))
    kernel = jax.jit(task.init)(jax.random.key(0))["Dense_0"]["kernel"]
    # 40,000 draws: the standard error of the deviation is .35 %.
    np.testing.assert_allclose(np.std(kernel), scale / np.sqrt(100), rtol=0.015)


def test_particles_vmap_as_they_loop():
    task = classification_task(ConvNet(features=(4,)), no_batch, (6, 6, 2))
    keys = jax.random.split(jax.random.key(0), 3)
    batch = {
        "image": jax.random.normal(jax.random.key(1), (5, 6, 6, 2)),
        "label": jnp.array([0, 1, 2, 3, 4], jnp.int32),
    }
    params = jax.jit(jax.vmap(task.init))(keys)
    grad = jax.grad(lambda p: task.loss(p, keys[0], batch)[0])
    together, grad = jax.jit(jax.vmap(grad))(params), jax.jit(grad)
    for i in (0, 2):
        alone = grad(jax.tree.map(lambda leaf: leaf[i], params))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[i], b, atol=1e-5), together, alone)  # noqa: B023


def test_types_are_32_bit_on_x64():
    with jax.enable_x64(True):
        task = classification_task(MLP(), no_batch, (4, 4, 1))
        params = jax.jit(task.init)(jax.random.key(0))
        batch = {
            "image": jnp.ones((2, 4, 4, 1), jnp.float32),
            "label": jnp.array([1, 2], jnp.int32),
        }
        loss, metrics = jax.jit(task.loss)(params, jax.random.key(1), batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, loss, metrics))} == {
        np.dtype("float32")
    }
    np.testing.assert_allclose(metrics["accuracy"] * 2, round(float(metrics["accuracy"] * 2)))


def test_dropout_is_driven_by_the_losss_key():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(nn.Dense(64)(images))

    task = classification_task(Dropped(), no_batch, (3,))
    params = jax.jit(task.init)(jax.random.key(0))
    batch = {"image": jnp.ones((4, 3)), "label": jnp.zeros(4, jnp.int32)}
    loss = jax.jit(task.loss)
    first, again, other = (float(loss(params, jax.random.key(i), batch)[0]) for i in (1, 1, 2))
    assert first == again != other


def test_a_module_that_takes_train_drops_nothing_at_test_time():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            return nn.Dropout(0.5, deterministic=not train)(nn.Dense(64)(images))

    task = classification_task(Dropped(), no_batch, (3,))
    params, state = jax.jit(task.init)(jax.random.key(0))
    assert isinstance(task, StatefulTask)
    assert state == {}
    batch = {"image": jnp.ones((4, 3)), "label": jnp.zeros(4, jnp.int32)}
    of_keys = lambda loss: [float(loss(params, {}, jax.random.key(i), batch)[0]) for i in (1, 1, 2)]
    first, again, other = of_keys(jax.jit(task.loss))
    assert first == again != other
    assert len(set(of_keys(jax.jit(task.eval_loss)))) == 1


@pytest.mark.parametrize("make", [MLP, ConvNet])
def test_bad_modules_are_refused(make):
    with pytest.raises(
        ValueError, match="unknown activation 'rleu'; activations are " + ", ".join(ACTIVATIONS)
    ):
        make(activation="rleu")
    with pytest.raises(ValueError, match="layer widths must be 1 or more"):
        make((32, 0))
    with pytest.raises(ValueError, match="and 0 outputs"):
        make(num_classes=0)
    with pytest.raises(ValueError, match=r"init_scale must be positive and finite; got 0\.0"):
        make(init_scale=0.0)


def test_modules_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"logits \(1, 3\) for one example of 4 classes"):
        classification_task(MLP(num_classes=3), no_batch, (2, 2, 1), num_classes=4)

    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.BatchNorm(use_running_average=False)(images)

    with pytest.raises(
        ValueError, match=r"\['batch_stats'\] besides its parameters, and must take"
    ):
        classification_task(Normalised(), no_batch, (3,))
