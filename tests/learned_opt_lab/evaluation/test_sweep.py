"""The vmapped sweep against plain Optax loops, one configuration and one run at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import learned_opt
from learned_opt_lab.evaluation.sweep import Runs, make_runs, make_sweep
from tasks.base import Task
from tasks.images.class_subsets import fixed_family
from tasks.text import ALPHABET, char_family


@pytest.mark.parametrize("eval_every", [3])
def test_each_curve_equals_a_plain_optax_loop(eval_every, regression_family, plain_loop):
    family, runs = regression_family(), make_runs(jax.random.key(1), num_tasks=3)
    rates = np.array([1e-3, 1e-2, 1e-1, 0.3], np.float32)
    curves = make_sweep(family, optax.adam, num_steps=6, splits=("test",), eval_every=eval_every)(
        rates, runs
    )
    assert curves["test"]["loss"].shape == (4, 3, 6 // eval_every + 1)
    for c, r in ((0, 0), (3, 2), (1, 1)):
        alone = plain_loop(family, optax.adam(float(rates[c])), runs, r, 6, "test", eval_every)
        np.testing.assert_allclose(curves["test"]["loss"][c, r], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("num_configurations", "num_tasks"), [(5, 2), (2, 5)])
@pytest.mark.parametrize("in_calls", [False, True])
def test_one_by_one_equals_at_once(num_configurations, num_tasks, in_calls, regression_family):
    family, runs = regression_family(), make_runs(jax.random.key(2), num_tasks)
    rates = np.linspace(0.01, 0.1, num_configurations, dtype=np.float32)
    tell = (lambda share: None) if in_calls else None
    sweep = make_sweep(family, optax.adam, num_steps=6, eval_every=2)
    found = [sweep(rates, runs, tell, one_by_one=way) for way in (False, True)]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        assert one.shape == (num_configurations, num_tasks, 4)
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("num_configurations", "num_tasks"), [(5, 2), (2, 5)])
def test_device_count_and_padding_change_nothing(num_configurations, num_tasks, regression_family):
    family, runs = regression_family(), make_runs(jax.random.key(2), num_tasks)
    rates = np.linspace(0.01, 0.1, num_configurations, dtype=np.float32)

    def losses(num_devices):
        mesh = jax.make_mesh(
            (num_devices,),
            ("d",),
            axis_types=(jax.sharding.AxisType.Auto,),
            devices=jax.devices()[:num_devices],
        )
        return make_sweep(family, optax.sgd, num_steps=4, mesh=mesh)(rates, runs)["test"]["loss"]

    np.testing.assert_allclose(losses(1), losses(4), rtol=1e-6)


def test_runs_of_one_task_share_the_task_and_nothing_else():
    runs = make_runs(jax.random.key(3), num_tasks=2, num_seeds=3)
    task_data, seed_data = jax.random.key_data(runs.task), jax.random.key_data(runs.seed)
    np.testing.assert_array_equal(task_data[0], task_data[2])
    assert len(np.unique(task_data, axis=0)) == 2
    assert len(np.unique(seed_data, axis=0)) == 6


def test_a_split_is_measured_alike_whatever_else_is_measured(regression_family):
    family, runs = regression_family(), make_runs(jax.random.key(4), 2)
    rates = np.array([0.05], np.float32)
    one = make_sweep(family, optax.sgd, num_steps=3, splits=("test",))(rates, runs)
    many = make_sweep(family, optax.sgd, num_steps=3, splits=("train", "outer_valid", "test"))(
        rates, runs
    )
    np.testing.assert_array_equal(one["test"]["loss"], many["test"]["loss"])
    assert sorted(many["train"]) == ["absolute_error", "loss"]


def test_a_measurement_is_the_mean_over_its_batches(regression_family):
    """At rate zero all points have one mean;
    four batches have a quarter of the variance (F-test, 800 points each).
    """
    family, runs = regression_family(), make_runs(jax.random.key(5), 1)
    variances, means = [], []
    for num_batches in (1, 4):
        sweep = make_sweep(
            family, optax.sgd, num_steps=799, splits=("test",), num_eval_batches=num_batches
        )
        losses = np.asarray(sweep(np.zeros(1, np.float32), runs)["test"]["loss"])[0, 0]
        variances.append(losses.var(ddof=1))
        means.append(losses.mean())
    low, high = stats.f.interval(0.999, 799, 799)
    assert low < variances[0] / (4 * variances[1]) < high
    assert abs(means[0] - means[1]) < 4 * np.sqrt(sum(variances) / 800)
    with pytest.raises(ValueError, match="num_eval_batches must be at least 1"):
        make_sweep(family, optax.sgd, num_steps=3, num_eval_batches=0)


def test_extra_arguments_reach_the_optimizer(regression_family):
    """A transformation that moves by the gradient at the point it asks `value_fn` about,
    and by the valid gradient.
    """

    def factory(rate):
        def update(grads, state, params, *, value, grad, value_fn, objective_grad):
            again = jax.grad(value_fn)(params)
            same = jax.tree.map(lambda a, b, c: (a - b) + (a - c), grads, grad, again)
            delta = jax.tree.map(lambda g, z: -rate * (g + z) + 0.0 * value, objective_grad, same)
            return delta, state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    family, runs = regression_family(batch_size=64), make_runs(jax.random.key(5), 2)
    names = ("value", "grad", "value_fn", "objective_grad")
    sweep = make_sweep(family, factory, num_steps=40, splits=("inner_valid",), extra_args=names)
    loss = sweep(np.array([0.2], np.float32), runs)["inner_valid"]["loss"]
    assert np.all(loss[..., -1] < 0.05 * loss[..., 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "positive multiple"),
        ({"num_steps": 10, "eval_every": 3}, "positive multiple"),
        ({"splits": ("validation",)}, "unknown splits"),
        ({"extra_args": ("hessian",)}, "unknown extra arguments"),
    ],
)
def test_bad_arguments_are_refused_at_once(change, message, regression_family):
    with pytest.raises(ValueError, match=message):
        make_sweep(regression_family(), optax.sgd, **{"num_steps": 4, **change})


def test_ragged_hyperparameters_are_refused(regression_family):
    sweep = make_sweep(regression_family(), lambda h: optax.sgd(h["a"] * h["b"]), num_steps=1)
    with pytest.raises(ValueError, match="configurations axis"):
        sweep(
            {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)},
            make_runs(jax.random.key(0), 1),
        )
    assert isinstance(make_runs(jax.random.key(0), 1), Runs)


def test_a_recurrent_model_sweeps_over_devices():
    """Its scan over characters has a carry, which must vary over devices from initialization on."""
    family = char_family("gru", length=4, batch_size=2)
    curves = make_sweep(family, optax.sgd, num_steps=1, splits=("test",))(
        jnp.asarray([1e-3, 1e-2], jnp.float32), make_runs(jax.random.key(0), 1)
    )
    # Fresh logits are near zero, so the loss is near that of a uniform guess.
    np.testing.assert_allclose(curves["test"]["loss"], np.log(len(ALPHABET)), rtol=0.25)


@pytest.mark.parametrize(
    ("size", "kwargs"), [(3, {"momentum_decays": ()}), (32_769, {"preset": "metz2019"})]
)
def test_learned_optimizers_without_momenta_and_on_large_tensors_pass_shard_map(size, kwargs):
    """Against the same updates made one by one.

    A carry of constants would not pass, nor a leaf of no elements.
    """
    task = Task(
        init=lambda key: {"w": jax.random.normal(key, (size,))},
        loss=lambda params, key, batch: (jnp.sum((params["w"] - batch) ** 2) / size, {}),
        sample_batch=lambda data, key, split: jnp.float32(1.0),
    )
    learned = learned_opt.mlp(hidden_sizes=(2,), **kwargs)
    thetas = jax.vmap(learned.init)(jax.random.split(jax.random.key(0), 2))
    runs = make_runs(jax.random.key(1), num_tasks=1)
    losses = make_sweep(fixed_family(task), learned.optimizer, num_steps=2, splits=("test",))(
        thetas, runs
    )
    params = task.init(jax.random.split(runs.seed[0], 3)[0])
    optimizer = learned.optimizer(jax.tree.map(lambda leaf: leaf[1], thetas))
    state, expected = optimizer.init(params), []
    for _ in range(3):
        loss, grads = jax.value_and_grad(lambda p: task.loss(p, None, jnp.float32(1.0))[0])(params)
        expected.append(loss)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(losses["test"]["loss"][1, 0], expected, rtol=1e-5)
