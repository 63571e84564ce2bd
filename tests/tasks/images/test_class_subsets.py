import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tasks.base import SPLITS
from tasks.images.class_subsets import class_split, class_subset_family, fixed_family
from tasks.images.datasets import digits
from tasks.images.image_data import from_arrays, sample_images
from tasks.images.networks import MLP, classification_task


@pytest.fixture(scope="module")
def tagged():
    """Eight classes of 20 examples.

    An example's first feature is its class, its second its own number.
    """
    labels = np.arange(160) % 8
    return from_arrays(
        np.stack([labels, np.arange(160)], axis=1), labels, fractions=(0.4, 0.2, 0.2, 0.2)
    )


def test_class_split_divides_as_the_paper_does():
    train, held_out = class_split(1000, 700)
    assert (len(train), len(held_out)) == (700, 300)
    assert sorted(train + held_out) == list(range(1000))
    assert class_split(1000, 700) == (train, held_out)
    # Two independent halves of 700 share 490 +- 9.4; a split that ignored its seed would share 700.
    assert abs(len(set(train) & set(class_split(1000, 700, seed=1)[0])) - 490) < 40
    for number in (0, 1000):
        with pytest.raises(ValueError, match=rf"within 1\.\.999; got {number}"):
            class_split(1000, number)


def test_classes_are_drawn_without_replacement_from_the_pool(tagged):
    pool = (1, 2, 5, 6, 7)
    family = class_subset_family(tagged, MLP((4,), 3), 3, pool, batch_size=4)
    drawn = np.asarray(jax.jit(jax.vmap(family.sample))(jax.random.split(jax.random.key(0), 4000)))
    assert drawn.shape == (4000, 3)
    assert drawn.dtype == np.int32
    assert set(drawn.ravel()) == set(pool)
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    for position in range(3):
        assert (
            stats.chisquare(np.bincount(drawn[:, position], minlength=8)[list(pool)]).pvalue > 1e-3
        )


def test_labels_are_positions_and_splits_share_no_example(tagged):
    family = class_subset_family(tagged, MLP((4,), 3), 3, batch_size=12)
    task_params = jax.vmap(family.sample)(jax.random.split(jax.random.key(1), 5))
    keys = jax.random.split(jax.random.key(2), 5)
    numbers = {}
    for split in SPLITS:
        draw = jax.jit(
            jax.vmap(lambda p, k, s=split: family.task(p).sample_batch(family.data, k, s))
        )
        batch = draw(task_params, keys)
        raw = np.rint(np.asarray(batch["image"] * family.data.std + family.data.mean)).astype(int)
        drawn_class = np.take_along_axis(
            np.asarray(task_params), np.asarray(batch["label"]), axis=1
        )
        np.testing.assert_array_equal(raw[..., 0], drawn_class)
        numbers[split] = set(raw[..., 1].ravel())
    assert sum(map(len, numbers.values())) == len(set().union(*numbers.values())) > 60


def test_an_mlp_learns_to_tell_drawn_digits_apart():
    family = class_subset_family(digits(), MLP((32,), 5), 5, batch_size=32)

    @jax.jit
    @jax.vmap
    def accuracy(key):
        key_task, key_init, key_train, key_test = jax.random.split(key, 4)
        task = family.task(family.sample(key_task))

        def step(params, key):
            key_batch, key_loss = jax.random.split(key)
            batch = task.sample_batch(family.data, key_batch, "train")
            grad = jax.grad(lambda p: task.loss(p, key_loss, batch)[0])(params)
            return jax.tree.map(lambda p, g: p - 0.2 * g, params, grad), None

        params, _ = jax.lax.scan(step, task.init(key_init), jax.random.split(key_train, 100))
        test = task.sample_batch(family.data, key_test, "test")
        return task.loss(params, key_test, test)[1]["accuracy"]

    assert jnp.mean(accuracy(jax.random.split(jax.random.key(0), 8))) > 0.95


def test_more_classes_than_exist_are_refused(tagged):
    with pytest.raises(ValueError, match=r"within 1\.\.8, the classes to draw from; got 9"):
        class_subset_family(tagged, MLP((4,), 9), 9, batch_size=4)
    with pytest.raises(ValueError, match=r"within 1\.\.2, the classes to draw from; got 3"):
        class_subset_family(tagged, MLP((4,), 3), 3, classes=(1, 2), batch_size=4)
    with pytest.raises(ValueError, match=r"classes must be within 0\.\.7; got 1\.\.8"):
        class_subset_family(tagged, MLP((4,), 2), 2, classes=(1, 8), batch_size=4)
    with pytest.raises(ValueError, match="classes must be different"):
        class_subset_family(tagged, MLP((4,), 2), 2, classes=(1, 1), batch_size=4)
    with pytest.raises(ValueError, match="one example of 3 classes"):
        class_subset_family(tagged, MLP((4,), 2), 3, batch_size=4)


def test_batches_larger_than_a_split_are_refused(tagged):
    class_subset_family(tagged, MLP((4,), 3), 3, batch_size=12)
    with pytest.raises(
        ValueError, match="batch_size 13 is larger than split 'inner_valid' of a task of 3 classes"
    ):
        class_subset_family(tagged, MLP((4,), 3), 3, batch_size=13)
    with pytest.raises(ValueError, match="batch_size must be 1 or more; got 0"):
        class_subset_family(tagged, MLP((4,), 3), 3, batch_size=0)


def test_a_fixed_family_holds_one_task(tagged):
    classes = jnp.array([4, 2], jnp.int32)
    task = classification_task(
        MLP((4,), 2), lambda data, key, split: sample_images(data, key, split, classes, 6), (2,)
    )
    family = fixed_family(task, tagged)
    assert family.sample(jax.random.key(0)) == ()
    batch = family.task(()).sample_batch(family.data, jax.random.key(1), "outer_valid")
    raw = np.rint(np.asarray(batch["image"] * tagged.std + tagged.mean))[:, 0]
    np.testing.assert_array_equal(raw, np.asarray(classes)[np.asarray(batch["label"])])
