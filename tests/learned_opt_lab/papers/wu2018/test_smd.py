import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.hand_designed.schedules import constant_schedule, inverse_time_schedule
from learned_opt_lab.papers.wu2018.meta_descent import (
    offline_smd,
    offline_smd_summary,
    online_smd,
    smd_decay,
    smd_lookahead,
)
from learned_opt_lab.papers.wu2018.meta_descent.smd_tasks import (
    load_data,
    make_training,
    sgd_steps,
    with_label_noise,
)
from outer_train.estimators._forward_mode import forward_mode
from outer_train.problem import inner_problem
from tasks.analytic.quadratic import quadratic_task
from tasks.images.class_subsets import fixed_family
from tasks.images.datasets import digits

KEY = jax.random.key(0)
SMALL_HORIZONS = offline_smd.Config(
    horizons=(3, 8), num_seeds=1, num_warm_steps=4, num_meta_steps=(1,), meta_learning_rates=(0.1,)
)


@pytest.fixture(scope="module")
def training():
    return make_training(digits(), "mlp_32", batch_size=10)


def test_smd_is_the_papers_recursion():
    """alpha' = g_t . u_{t-1} and u_t = u_{t-1} - g_t - alpha H_t u_{t-1} (eqs 8 and 9),
    without momentum.
    """
    eigenvalues, start, num_steps, alpha = np.array([2.0, 0.5]), np.array([1.0, -1.0]), 7, 0.3
    w, u = start.copy(), np.zeros(2)
    for _ in range(num_steps):
        grad = eigenvalues * w
        w, u = w - alpha * grad, u - grad - alpha * eigenvalues * u
    expected = np.sum(eigenvalues * w * u) * alpha  # SMD here descends log alpha.
    learned = constant_schedule(alpha, 0.0)
    family = fixed_family(quadratic_task(eigenvalues, start))
    estimator = forward_mode(
        inner_problem(family, learned, num_steps, "train", "final"), num_particles=1
    )
    theta = learned.init(KEY)
    estimate, _ = jax.jit(
        lambda theta: estimator.estimate(theta, estimator.init(theta, KEY), KEY, num_steps)
    )(theta)
    np.testing.assert_allclose(estimate.grad.log_effective_rate, expected, rtol=1e-5)
    np.testing.assert_allclose(estimate.loss, np.sum(eigenvalues * w**2) / 2, rtol=1e-5)


@pytest.mark.parametrize("same_batch", [False, True])
def test_lookahead_gradient_is_reverse_mode_and_finite_differences(training, same_batch):
    learned = constant_schedule(0.05, 0.8)
    theta = learned.init(KEY)
    params = training.task.init(KEY)
    state = (params, learned.optimizer(theta).init(params))
    problem = smd_lookahead.lookahead_problem(training, state, 2, same_batch)

    @jax.jit
    def slopes(theta):
        loss = lambda shift: problem.step(jax.tree.map(lambda x: x + shift, theta), state, KEY, ())[
            1
        ]
        forward = jax.jvp(loss, (jnp.float32(0),), (jnp.float32(1),))[1]
        return (
            forward,
            jax.grad(loss)(jnp.float32(0)),
            (loss(jnp.float32(0.02)) - loss(jnp.float32(-0.02))) / 0.04,
        )

    forward, reverse, difference = slopes(theta)
    np.testing.assert_allclose(forward, reverse, rtol=1e-3)
    np.testing.assert_allclose(forward, difference, rtol=1e-2)


def test_lookahead_leaves_the_training_where_it_is(training):
    learned = constant_schedule()
    theta = learned.init(KEY)
    params = training.task.init(KEY)
    state = (params, learned.optimizer(theta).init(params))
    after, loss = smd_lookahead.lookahead_problem(training, state, 4, False).step(
        theta, state, KEY, ()
    )
    for left, right in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(left, right)
    assert 0 < loss < 4


def test_surface_reads_every_horizon_off_one_run(training):
    config = offline_smd.resolve(SMALL_HORIZONS)
    warm = offline_smd._warm_start(training, config, KEY)
    points = smd_decay.Points(np.array([-1.0, -2.0]), np.array([0.5, 0.0]))
    (losses,) = offline_smd._surfaces(training, config, warm, smd_decay.thetas_of(points), KEY)
    learned = inverse_time_schedule(0.01, 0.9, 1.0, time_constant=config.time_constant)
    theta = learned.init(KEY)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.split(KEY, 1)[0], jnp.arange(8))
    params, _ = sgd_steps(training, learned, theta, warm, learned.optimizer(theta).init(warm), keys)
    np.testing.assert_allclose(losses[1, 1], training.full_loss(params), rtol=1e-4)
    assert losses.shape == (2, 2)


def test_descent_of_a_schedule_follows_the_log_of_the_surface(training):
    config = dataclasses.replace(offline_smd.resolve(SMALL_HORIZONS), horizons=(8,))
    warm = training.task.init(KEY)
    point = smd_decay.Points(np.array([-2.0]), np.array([0.0]))
    theta = jax.tree.map(lambda x: x[0], smd_decay.thetas_of(point))
    problem = smd_decay.horizon_problem(
        training, smd_decay.decaying_sgd(config.time_constant), warm, 8
    )
    loss = jax.jit(
        lambda theta: problem.step(theta, (), jax.random.split(KEY, 1)[0], training.data)[1]
    )
    (surface,) = offline_smd._surfaces(training, config, warm, smd_decay.thetas_of(point), KEY)
    np.testing.assert_allclose(np.exp(loss(theta)), surface[0, 0], rtol=1e-5)
    slopes = jax.jit(jax.jacfwd(loss))(theta)
    for name in ("log_rate", "log_exponent"):
        shifted = lambda by, name=name: theta._replace(**{name: getattr(theta, name) + by})
        difference = (loss(shifted(0.05)) - loss(shifted(-0.05))) / 0.1
        np.testing.assert_allclose(getattr(slopes, name), difference, rtol=0.02)


def test_the_momentum_is_descended_with_the_schedule(training):
    """From momentum .9 the joint theta is the same training; its slopes are finite differences."""
    learned, warm = smd_decay.decaying_sgd(500.0), training.task.init(KEY)
    theta = smd_decay.Decay(jnp.float32(np.log(0.02)), jnp.float32(0.3))
    joint = smd_decay.with_momentum(theta)
    problem = smd_decay.horizon_problem(training, learned, warm, 8)
    loss = jax.jit(lambda theta: problem.step(theta, (), KEY, training.data)[1])
    np.testing.assert_allclose(loss(joint), loss(theta), rtol=1e-5)
    slope = jax.jit(jax.jacfwd(loss))(joint).log_one_minus_momentum
    shifted = [
        joint._replace(log_one_minus_momentum=joint.log_one_minus_momentum + shift)
        for shift in (0.05, -0.05)
    ]
    np.testing.assert_allclose(slope, (loss(shifted[0]) - loss(shifted[1])) / 0.1, rtol=0.02)


def test_summary_says_how_well_a_horizon_determines_the_exponent():
    grid = smd_decay.Points(np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, -1.0]))
    of_seeds = np.array([[[1.0, 1.01, 2.0]], [[1.03, 1.0, 2.0]]])
    (row,) = offline_smd_summary.chosen_schedules((50,), grid, of_seeds, 100.0)
    assert row["decay_exponent"] == 10
    assert row["rate_left"] == pytest.approx(1.5**-10)
    assert row["exponents_as_good"] == [1, 10]
    assert row["exponents_of_seeds"] == [1, 10]


def test_label_noise_keeps_the_test_set_clean():
    data = digits()
    noisy = with_label_noise(data, 0.5, num_samples=400, valid_share=0.25, seed=1)
    counts = np.asarray(noisy.counts).sum(1)
    assert counts[:3].sum() == 400
    np.testing.assert_allclose(counts[2] / 400, 0.25, atol=0.03)
    truth = {
        image.tobytes(): int(label)
        for image, label in zip(np.asarray(data.images), data.labels, strict=True)
    }
    labels, images = np.asarray(noisy.labels), np.asarray(noisy.images)
    wrong = np.array(
        [truth[image.tobytes()] != label for image, label in zip(images, labels, strict=True)]
    )
    assert not wrong[400:].any()
    np.testing.assert_allclose(wrong[:400].mean(), 0.5 * 0.9, atol=0.08)


def test_offline_smd_small(tmp_path):
    config = offline_smd.Config(
        network="mlp_32", batch_size=20, horizons=(20, 100), time_constant=100.0, num_points=4,
        num_seeds=1, num_smd_starts=2, num_meta_steps=(60,), meta_learning_rates=(0.1,),
    )  # fmt: skip
    result = offline_smd.run(config, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    (smd,) = result["smd"]
    assert smd["median_over_minimum"] < 1.3
    (joint,) = result["smd_with_momentum"]
    assert len(joint["losses"]) == 2
    assert joint["median_over_fixed_momentum"] < 1.1
    assert any(abs(momentum - 0.9) > 0.01 for momentum in joint["momenta"])
    assert all(0 <= momentum < 1 for momentum in joint["momenta"])
    shortest, longest = result["horizons"]
    assert shortest["loss"] == smd["surface_minimum"] < result["loss_at_start"]
    np.testing.assert_allclose(
        result["loss_ratio_at_longest"],
        shortest["loss_at_longest"] / longest["loss_at_longest"],
        rtol=1e-6,
    )
    assert result["loss_ratio_at_longest"] >= 1
    assert all(0 < row["test_error_at_longest"] < 0.9 for row in result["horizons"])
    for name in ("surfaces.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_online_smd_small(tmp_path):
    config = online_smd.Config(
        problems=(("digits", "mlp_32"),), batch_size=10, num_steps=40, num_records=2,
        num_meta_steps=20, meta_learning_rate=0.1, start_rates=(0.01,), fixed_rates=(0.01, 0.03),
    )  # fmt: skip
    result = online_smd.run(config, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    (problem,) = result["problems"]
    (repeated,) = problem["same_batch"]
    (fresh,) = problem["smd"]
    rate = lambda row: row["learning_rate"] / (1 - row["momentum"])
    assert rate(repeated) > 3 * rate(fresh)
    assert (tmp_path / "digits_mlp_32.png").stat().st_size > 10_000


@pytest.mark.usefixtures("optimized")
def test_offline_smd(tmp_path):
    result = offline_smd.run(offline_smd.Config(), tmp_path)
    assert result["exponent_ratio"] >= 10
    assert result["loss_ratio_at_longest"] >= 10
    # At 2,000 steps the minimum lies at the edge of stability; the surface spans five decades.
    for row, highest in zip(result["smd"], (1.25, 1.25, 1.6, 3.5), strict=True):
        assert row["median_over_minimum"] < highest


@pytest.mark.usefixtures("optimized")
def test_online_smd(tmp_path):
    """On 8x8 Fashion-MNIST where it is prepared, else on digits with wrong labels."""
    result = online_smd.run(online_smd.Config(), tmp_path)
    for problem in result["problems"]:
        for row in problem["smd"]:
            assert row["fixed_over_effective_rate"] >= 10
            assert row["loss"] > problem["fixed_loss"]
        for row in problem["same_batch"]:
            assert row["fixed_over_effective_rate"] < 1


@pytest.mark.parametrize(
    ("resolve", "config", "name"),
    [
        (offline_smd.resolve, offline_smd.Config(horizons=(0, 5)), "horizons"),
        (offline_smd.resolve, offline_smd.Config(horizons=(10, 5)), "horizons"),
        (offline_smd.resolve, offline_smd.Config(horizons=(10,)), "num_meta_steps"),
        (offline_smd.resolve, offline_smd.Config(num_meta_steps=(5, 5)), "num_meta_steps"),
        (
            offline_smd.resolve,
            offline_smd.Config(num_meta_steps=(0,), meta_learning_rates=(0.1,)),
            "num_meta_steps",
        ),
        (online_smd.resolve, online_smd.Config(num_steps=99), "num_steps"),
    ],
)
def test_bad_config(resolve, config, name):
    with pytest.raises(ValueError, match=name):
        resolve(config)


def test_unknown_names(training):
    with pytest.raises(ValueError, match="nonesuch"):
        load_data("nonesuch")
    with pytest.raises(ValueError, match="nonesuch"):
        make_training(training.data, "nonesuch", 10)
    with pytest.raises(ValueError, match="share"):
        with_label_noise(training.data, 1.5)
