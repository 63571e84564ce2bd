"""Windows of an image set on the host: the splits of the set on the device, shuffled, in turn."""

import jax
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.images import class_subset_family, from_host, host_images, host_images_family
from tasks.images._host_images import in_turn
from tasks.images.datasets import DatasetNotPrepared, tfds_images
from tasks.images.networks import MLP
from tests.support.image_checks import check_blocks, multiset, rows_of
from tests.support.synthetic import write_synthetic_imagenet

pytest.importorskip("grain", reason="grain is not installed")
IMAGENET = "imagenet_resized/32x32"
NUM_CLASSES, WINDOW, KEY = 3, 4, jax.random.key(0)


@pytest.fixture(scope="module")
def synthetic_dir(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    write_synthetic_imagenet(data_dir, 20, 5, NUM_CLASSES)
    return data_dir


@pytest.fixture(scope="module")
def images(synthetic_dir):
    return host_images(IMAGENET, WINDOW, image_size=8, data_dir=synthetic_dir)


@pytest.fixture(scope="module")
def whole(synthetic_dir):
    return tfds_images(IMAGENET, image_size=8, data_dir=synthetic_dir)


def take(iterator, number):
    return [next(iterator) for _ in range(number)]


def examples(data, split):
    rows = rows_of(data, split)
    return multiset(np.asarray(data.images)[rows], np.asarray(data.labels)[rows])


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_windows_have_the_splits_of_the_whole_set_in_fixed_shapes(images, whole):
    iterator = images.windows(7)
    seen = {split: set() for split in SPLITS}
    for window in [images.first, *take(iterator, 4)]:
        check_blocks(window)
        same(window.counts, images.first.counts)
        same(window.starts, images.first.starts)
        assert window.images.dtype == np.uint8
        assert window.images.shape == images.first.images.shape
        for split in SPLITS:
            seen[split] |= examples(window, split).keys()
    assert seen == {split: examples(whole, split).keys() for split in SPLITS}
    # Four of a class, or all where a split has fewer; all of `train` is a sample of its moments.
    counts = np.asarray(whole.counts)
    same(images.first.counts, np.minimum(counts, WINDOW))
    assert counts.min() < WINDOW < counts.max()
    np.testing.assert_allclose(images.first.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(images.first.std, whole.std, rtol=1e-6)
    iterator.close()


def test_the_order_is_the_seed_s_and_goes_on_from_a_state(images):
    iterator, again, other = (images.windows(seed) for seed in (1, 1, 2))
    windows = take(iterator, 5)
    same(take(again, 3), windows[:3])
    resumed = images.windows(1)
    resumed.set_state(again.get_state())
    same(take(resumed, 2), windows[3:])
    assert not np.array_equal(next(other).images, windows[0].images)
    assert not np.array_equal(windows[0].images, windows[1].images)
    for each in (iterator, again, other, resumed):
        each.close()


def test_each_example_comes_once_an_epoch():
    rows = np.arange(100, 107)
    drawn = np.concatenate([in_turn(rows, i * 3, 3, (0, 1, 2)) for i in range(14)])
    epochs = drawn.reshape(6, 7)
    same(np.sort(epochs, axis=1), np.tile(rows, (6, 1)))
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 3
    assert not np.array_equal(drawn, in_turn(rows, 0, 42, (0, 2, 2)))


def test_any_image_family_is_fed_from_the_host(images, whole):
    make = lambda data, batch_size: class_subset_family(
        data, MLP((8,), NUM_CLASSES), NUM_CLASSES, batch_size=batch_size
    )
    family = from_host(images, make, batch_size=6)
    assert family.windows == images.windows
    task = family.task(family.sample(KEY))
    batch = jax.jit(task.sample_batch, static_argnums=2)
    iterator = family.windows(0)
    for window in take(iterator, 2):
        for split in SPLITS:
            image = batch(window, KEY, split)["image"]
            assert image.shape == (6, 8, 8, 3)
            stored = np.rint(np.asarray(image) * window.std + window.mean).astype(np.uint8)
            assert {x.tobytes() for x in stored} <= {x for x, _ in examples(whole, split)}
    assert batch._cache_size() == len(SPLITS)
    iterator.close()


def test_families_by_name(synthetic_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(synthetic_dir))
    sizes = {"mlp": {"hidden_sizes": [8]}, "resnet": {"width": 2, "first_stride": 2}}
    sizes["vit"] = sizes["conv_next"] = {"width": 8, "depth": 1, "patch_size": 8}
    for network, given in sizes.items():
        family = host_images_family(network, IMAGENET, 3, batch_size=4, **given)
        assert family.windows is not None
        assert family.data.counts.max() == 3
    with pytest.raises(ValueError, match="unknown network 'gru'; networks are mlp, resnet, vit"):
        host_images_family("gru")
    with pytest.raises(ValueError, match="window and image_size must be 1 or more; got 0 and None"):
        host_images_family(window=0)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DatasetNotPrepared):
        host_images_family()


def test_fashion_mnist(fashion_mnist_dir):
    images = host_images("fashion_mnist", 50, data_dir=fashion_mnist_dir)
    whole = tfds_images("fashion_mnist", data_dir=fashion_mnist_dir)
    iterator = images.windows(0)
    known = {split: examples(whole, split).keys() for split in SPLITS}
    for window in take(iterator, 2):
        assert window.images.shape == (4 * 10 * 50, 28, 28, 1)
        for split in SPLITS:
            assert not examples(window, split).keys() - known[split]
    np.testing.assert_allclose(images.first.mean, whole.mean, rtol=2e-2)
    iterator.close()
