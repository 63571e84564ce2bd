"""The residual network: its statistics are those of Flax's own training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training import train_state

from learned_opt.hand_designed import hyperparameters
from outer_train import inner_problem
from tasks.base import SPLITS
from tasks.images.class_subsets import class_subset_family
from tasks.images.datasets import digits
from tasks.images.resnet import ResNet, tfds_resnet_family
from tasks.numerics import threefry
from tests.support.image_checks import check_blocks, rows_of

KEY = jax.random.key(0)
RATE = 0.1


def small_family():
    return class_subset_family(digits(), ResNet(2, 8, 3, momentum=0.8), 3, batch_size=16)


class FlaxState(train_state.TrainState):
    batch_stats: dict


def flax_step(state, batch):
    """A training step as Flax's guide to batch normalization writes it."""

    def loss_fn(params):
        logits, updates = state.apply_fn(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"], train=True, mutable=["batch_stats"],
        )  # fmt: skip
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), updates

    (_, updates), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads).replace(batch_stats=updates["batch_stats"])


def test_statistics_and_losses_equal_flaxs_own_training_loop():
    family, module = small_family(), ResNet(2, 8, 3, momentum=0.8)
    sgd = hyperparameters.sgd(RATE)
    theta = sgd.init(KEY)
    problem = inner_problem(family, sgd, 100)
    inner = problem.init(theta, KEY)
    task = family.task(inner.task_params)
    flax = FlaxState.create(
        apply_fn=module.apply, params=inner.params, tx=optax.sgd(RATE),
        batch_stats=inner.model_state["batch_stats"],
    )  # fmt: skip
    step, step_of_flax = jax.jit(problem.step), jax.jit(flax_step)
    for i in range(10):
        key = jax.random.fold_in(KEY, i)
        key_batch, _, key_loss = threefry.split(key, 3)
        inner, loss = step(theta, inner, key, family.data)
        flax = step_of_flax(flax, task.sample_batch(family.data, key_batch, "train"))
    for ours, theirs in (
        (inner.model_state, {"batch_stats": flax.batch_stats}),
        (inner.params, flax.params),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, theirs)
    start = jax.tree.leaves(problem.init(theta, KEY).model_state)
    leaves = zip(jax.tree.leaves(inner.model_state), start, strict=True)
    assert min(np.abs(a - b).max() for a, b in leaves) > 1e-3
    # The step's outer loss, too, is Flax's at test time.
    batch = task.sample_batch(family.data, threefry.split(key_loss, 2)[0], "outer_valid")
    variables = {"params": flax.params, "batch_stats": flax.batch_stats}
    logits = module.apply(variables, batch["image"], train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    value, metrics = task.eval_loss(inner.params, inner.model_state, KEY, batch)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    assert float(metrics["accuracy"]) == np.mean(np.argmax(logits, -1) == batch["label"])


def test_at_test_time_an_example_does_not_see_the_others_of_its_batch():
    family = small_family()
    task = family.task(family.sample(KEY))
    params, state = jax.jit(task.init)(KEY)
    params = jax.tree.map(lambda x: x + 0.1, params)  # scales of zero would hide it
    batch = task.sample_batch(family.data, KEY, "test")
    halves = [jax.tree.map(lambda x, part=part: x[part::2], batch) for part in (0, 1)]
    test_time = lambda batch: task.eval_loss(params, state, KEY, batch)[0]
    training = lambda batch: task.loss(params, state, KEY, batch)[0]
    for loss, independent in ((jax.jit(test_time), True), (jax.jit(training), False)):
        apart = float(np.mean([loss(half) for half in halves]))
        assert np.isclose(apart, loss(batch), rtol=1e-5) == independent


def test_sizes_and_a_fresh_network():
    shapes = jax.eval_shape(
        lambda key: ResNet().init(key, jnp.zeros((1, 28, 28, 1)), train=False), KEY
    )
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    convolutions = 9 * (16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norms = 3 * 16 + 3 * 32 + 3 * 64
    shortcuts, last = 16 * 32 + 32 * 64, 64 * 10 + 10
    assert count(shapes["params"]) == convolutions + 2 * norms + shortcuts + last == 77_754
    assert count(shapes["batch_stats"]) == 2 * norms
    deeper = jax.eval_shape(
        lambda key: ResNet(4, 20).init(key, jnp.zeros((1, 28, 28, 1)), train=False), KEY
    )
    kernels = [name for name in deeper["params"] if "Conv" in name]
    assert len(kernels) == 1 + 3 * 3 * 2  # 20 layers with the linear one


def test_a_first_stride_halves_every_stage():
    sizes = {}
    for stride in (1, 2):
        module = ResNet(2, first_stride=stride)
        images = jnp.zeros((1, 28, 28, 1))
        variables = jax.eval_shape(lambda key, m=module, x=images: m.init(key, x, False), KEY)
        _, seen = jax.eval_shape(
            lambda v, m=module, x=images: m.apply(v, x, False, capture_intermediates=True),
            variables,
        )
        outputs = seen["intermediates"]
        norms = [outputs[name]["__call__"][0] for name in outputs if "BatchNorm" in name]
        sizes[stride] = sorted({norm.shape[1] for norm in norms})
    assert sizes == {1: [7, 14, 28], 2: [4, 7, 14]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width and num_classes must be 1 or more; got 0 and 10"),
        ({"num_classes": 0}, "width and num_classes must be 1 or more; got 16 and 0"),
        ({"depth": 2}, r"depth must be 6 n \+ 2 with n of 1 or more; got 2"),
        ({"depth": 18}, r"depth must be 6 n \+ 2 with n of 1 or more; got 18"),
        ({"depth": 8.5}, r"depth must be 6 n \+ 2"),
        ({"momentum": 1.0}, r"momentum must be within \[0, 1\); got 1.0"),
        ({"first_stride": 0}, "first_stride must be 1 or more; got 0"),
        ({"momentum": float("nan")}, r"momentum must be within \[0, 1\); got nan"),
    ],
)
def test_bad_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**options)


def test_fashion_mnist_in_four_disjoint_splits(fashion_mnist_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(fashion_mnist_dir))
    family = tfds_resnet_family(width=2, batch_size=8)
    assert family.data.image_shape == (28, 28, 1)
    check_blocks(family.data)
    assert len(rows_of(family.data, "test")) == 10_000
    task = family.task(family.sample(KEY))
    params, state = jax.jit(task.init)(KEY)
    loss = jax.jit(task.eval_loss)
    for split in SPLITS:
        value, metrics = loss(params, state, KEY, task.sample_batch(family.data, KEY, split))
        assert np.isfinite(value)
        assert 0 <= float(metrics["accuracy"]) * 8 <= 8
