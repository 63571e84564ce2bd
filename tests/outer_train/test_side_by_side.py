"""Seeds trained side by side are the seeds trained alone, on one device and on two."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from outer_train import estimators, side_by_side, truncation
from outer_train.devices import PARTICLES, particle_mesh
from outer_train.problem import UnrolledSystem
from outer_train.side_by_side import outer_step_of_seeds, train_seeds

TARGET = jnp.array([1.0, -2.0], jnp.float32)


def quadratic():
    """Steps add theta to the state, which starts anew after 6; data is where it should be."""

    def step(theta, state, key, data):
        state = 0.5 * state + theta
        return state, jnp.sum((state - data + 0.01 * jax.random.normal(key, (2,))) ** 2)

    return UnrolledSystem(lambda theta, key: jax.random.normal(key, (2,)), step, 6, TARGET)


def run(seeds, num_devices=1, num_outer_steps=5, merged=True, num_points=2, **options):
    kind = estimators.merged if merged else estimators.persistent_es
    estimator = kind(quadratic(), 4, 0.1, PARTICLES, max_num_steps=3)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    schedule = truncation.linear(1, 2, 4, 0.0)
    step = outer_step_of_seeds(
        [estimator], optimizer, schedule, particle_mesh(4, num_devices), seeds
    )
    thetas = jnp.asarray(seeds, jnp.float32)[:, None] * jnp.ones(2, jnp.float32)
    return train_seeds(
        options.pop("wrap", lambda step: step)(step),
        thetas,
        jax.random.key(0),
        step.place_data((TARGET,)),
        num_outer_steps,
        num_points,
        **options,
    )


@pytest.mark.parametrize("merged", [True, False])
def test_a_seed_does_not_depend_on_its_company(merged):
    together, alone = run([0, 1, 5], merged=merged), run([5], merged=merged)
    np.testing.assert_array_equal(together.points, [0, 2, 5])
    np.testing.assert_allclose(together.thetas[:, 2], alone.thetas[:, 0], rtol=1e-5)
    np.testing.assert_allclose(together.outer_loss[:, 2], alone.outer_loss[:, 0], rtol=1e-5)
    assert not np.allclose(together.outer_loss[:, 0], together.outer_loss[:, 1])
    # Global-norm clipping and Adam are each seed's own:
    # a first step of Adam is its rate in every coordinate.
    first = run([0, 5], merged=merged, num_outer_steps=1, num_points=1)
    np.testing.assert_allclose(np.abs(np.diff(first.thetas, axis=0)), 0.1, rtol=1e-3)


def test_two_devices_give_the_same():
    one, two = run([1, 2]), run([1, 2], num_devices=2)
    np.testing.assert_allclose(two.thetas, one.thetas, rtol=1e-4)
    # Four pairs of two sides; lengths 1, 1, 2, 2, 2 but for episodes that end.
    np.testing.assert_array_equal(two.inner_steps, one.inner_steps)
    assert 8 * 5 < one.inner_steps[-1, 0] <= 8 * 8
    assert (np.diff(one.inner_steps, axis=0) > 0).all()


def test_bad_counts():
    with pytest.raises(ValueError, match="at least 1, got 0 and 2"):
        run([0], num_outer_steps=0)


class _Killed(BaseException):
    pass


def killed_after(count):
    """The outer step that is killed at the step after so many."""

    def wrap(step):
        left = [count]

        def one(*args):
            if not left[0]:
                raise _Killed
            left[0] -= 1
            return step.step(*args)

        return step._replace(step=one)

    return wrap


@pytest.mark.parametrize(("count", "num_devices"), [(0, 1), (1, 1), (3, 1), (4, 2)])
def test_what_was_killed_goes_on_to_the_bit(count, num_devices, monkeypatch, tmp_path):
    monkeypatch.setattr(side_by_side, "SECONDS_TO_CHECKPOINT", 0.0)
    path = tmp_path / "kept" / "seeds.npz"
    whole = run([0, 3], num_devices=num_devices)
    with pytest.raises(_Killed):
        run([0, 3], num_devices=num_devices, checkpoint=path, wrap=killed_after(count))
    assert path.exists() == bool(count)
    # What was done before is not done again.
    left = killed_after(5 - count)
    found = run([0, 3], num_devices=num_devices, checkpoint=path, wrap=left)
    for name in ("thetas", "points", "outer_loss", "inner_steps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        assert getattr(found, name).dtype == getattr(whole, name).dtype
    assert found.seconds.shape == whole.seconds.shape
    assert (found.seconds > 0).all()


def test_no_checkpoint_of_another_run_and_none_that_is_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(side_by_side, "SECONDS_TO_CHECKPOINT", 0.0)
    path = tmp_path / "seeds.npz"
    whole = run([0, 3], checkpoint=path)
    with pytest.raises(ValueError, match="is a checkpoint of another run"):
        run([0], checkpoint=path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(UserWarning, match=r"seeds.npz is damaged .* begun anew"):
        found = run([0, 3], checkpoint=path)
    np.testing.assert_array_equal(found.thetas, whole.thetas)
