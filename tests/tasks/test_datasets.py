import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tasks import datasets
from tasks.base import SPLITS
from tasks.datasets import DatasetNotPrepared, digits, tfds_images
from tasks.image_data import _multiply_wide, draw_rows, from_arrays, sample_images
from tasks.synthetic import write_synthetic_imagenet

TFDS_DATA_DIR = os.environ.get("TFDS_DATA_DIR")
needs_fashion_mnist = pytest.mark.skipif(
    not TFDS_DATA_DIR or not Path(TFDS_DATA_DIR, "fashion_mnist").is_dir(),
    reason="TFDS_DATA_DIR is not set, or holds no fashion_mnist",
)
IMAGENET = "imagenet_resized/32x32"


@pytest.fixture(scope="module")
def synthetic_dir(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    write_synthetic_imagenet(data_dir, images_per_class=5, validation_images_per_class=2)
    return data_dir


def rows_of(data, split):
    row = SPLITS.index(split)
    starts, counts = np.asarray(data.starts)[row], np.asarray(data.counts)[row]
    return np.concatenate([np.arange(s, s + c) for s, c in zip(starts, counts, strict=True)])


def multiset(images, labels):
    pairs = zip(np.asarray(images), np.asarray(labels), strict=True)
    return collections.Counter((image.tobytes(), int(label)) for image, label in pairs)


def check_blocks(data):
    """The blocks tile the rows, so the splits are disjoint; and each holds one class."""
    rows = np.concatenate([rows_of(data, split) for split in SPLITS])
    np.testing.assert_array_equal(rows, np.arange(len(data.labels)))
    classes = np.tile(np.arange(data.num_classes), len(SPLITS))
    np.testing.assert_array_equal(data.labels, np.repeat(classes, np.asarray(data.counts).ravel()))


def test_digits_are_divided_into_disjoint_splits_of_all_classes():
    from sklearn.datasets import load_digits

    data = digits()
    check_blocks(data)
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.images.dtype == jnp.uint8
    images = {split: {image.tobytes() for image in np.asarray(data.images)[rows_of(data, split)]} for split in SPLITS}
    assert sum(map(len, images.values())) == len(set().union(*images.values())) == 1797
    bunch = load_digits()
    assert multiset(data.images, data.labels) == multiset(bunch.images.astype(np.uint8), bunch.target)
    shares = np.asarray(data.counts) / np.asarray(data.counts).sum(0)
    np.testing.assert_allclose(shares, np.array([[0.6], [0.1], [0.15], [0.15]]) * np.ones(10), atol=0.01)


def test_the_seed_decides_who_goes_where():
    first, again, other = digits(), from_arrays(*_digit_arrays()), digits(seed=1)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.counts, other.counts)
    moved = np.asarray(first.images != other.images).any((1, 2, 3)).mean()
    assert moved > 0.99


def _digit_arrays():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(int), bunch.target


def test_batches_are_normalised_over_train():
    data = digits()
    train = rows_of(data, "train")
    pixels = np.asarray(data.images, np.float64)[train]
    np.testing.assert_allclose([data.mean[0], data.std[0]], [pixels.mean(), pixels.std()], rtol=1e-6)
    batch = sample_images(data, jax.random.key(0), "test", jnp.arange(10, dtype=jnp.int32), 32)
    rows, labels = draw_rows(data, jax.random.key(0), "test", jnp.arange(10, dtype=jnp.int32), 32)
    expected = (np.asarray(data.images, np.float64)[np.asarray(rows)] - pixels.mean()) / pixels.std()
    assert batch["image"].dtype == jnp.float32
    np.testing.assert_allclose(batch["image"], expected, atol=2e-6)
    np.testing.assert_array_equal(batch["label"], labels)


def test_user_arrays_are_kept_apart_and_constant_features_do_not_divide_by_zero():
    # Each example is its own number, so that a row of the result can be traced back to the source.
    labels = np.arange(90) % 3
    features = np.stack([np.arange(90), np.full(90, 0.1)], axis=1)
    data = from_arrays(features, labels, fractions=(0.4, 0.2, 0.2, 0.2), seed=3)
    check_blocks(data)
    np.testing.assert_array_equal(data.counts, np.array([[12], [6], [6], [6]]) * np.ones(3))
    source = np.asarray(data.images)[:, 0].astype(int)
    np.testing.assert_array_equal(np.sort(source), np.arange(90))
    np.testing.assert_array_equal(data.labels, source % 3)
    assert data.images.dtype == jnp.float32
    assert data.std[1] == 1.0


def test_a_test_set_becomes_the_test_split():
    labels = np.arange(34) % 2
    test = {"test_images": np.arange(200, 204)[:, None], "test_labels": np.array([0, 1, 1, 1])}
    data = from_arrays(np.arange(34)[:, None], labels, **test)
    np.testing.assert_array_equal(data.counts, [[12, 12], [2, 2], [3, 3], [1, 3]])
    np.testing.assert_array_equal(np.sort(np.asarray(data.images)[rows_of(data, "test"), 0]), np.arange(200, 204))
    assert np.asarray(data.images)[:30].max() < 34


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (np.zeros((6, 2, 2)), np.repeat([0, 1], 3), {}, "class 0 has 3 examples"),
        (np.zeros((6, 2, 2)), np.array([0, 0, 0, 0, 2, 2]), {}, "class 1 has 0 examples"),
        (np.zeros((6, 2, 2)), np.zeros(5, int), {}, "with n = 5"),
        (np.zeros((6, 2, 2)), np.zeros(6), {}, "vector of integers; got float64"),
        (np.zeros((6, 2, 2)), np.full(6, -1), {}, "0 or more; got -1"),
        (np.full((6, 2), 256), np.zeros(6, int), {}, "got 256..256"),
        (np.zeros((6, 2)), np.zeros(6, int), {"fractions": (0.5, 0.5, 0.0, 0.0)}, "positive numbers that sum to 1"),
        (np.zeros((6, 2)), np.zeros(6, int), {"fractions": (0.5, 0.3, 0.2)}, "must be four positive"),
        (np.zeros((6, 2)), np.zeros(6, int), {"test_images": np.zeros((2, 2))}, "go together"),
        (
            np.zeros((6, 2)),
            np.zeros(6, int),
            {"test_images": np.zeros((2, 3)), "test_labels": np.zeros(2, int)},
            r"test_images are float32\[3\]",
        ),
    ],
)
def test_bad_arrays_are_refused(images, labels, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(images, labels, **options)


def test_four_examples_of_a_class_give_one_to_each_split():
    data = from_arrays(np.arange(4)[:, None], np.zeros(4, int))
    np.testing.assert_array_equal(data.counts, np.ones((4, 1)))


def test_arrays_made_while_tracing_are_concrete():
    made = []
    jax.eval_shape(lambda: made.append(from_arrays(np.arange(8)[:, None], np.zeros(8, int))))
    np.testing.assert_array_equal(np.sort(np.asarray(made[0].images)[:, 0]), np.arange(8))


def test_wide_product_is_exact():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2**32, (2, 1000), dtype=np.uint32)
    x[:3], y[:3] = [0xFFFFFFFF, 0xFFFFFFFF, 0], [0xFFFFFFFF, 1, 0xFFFFFFFF]
    high, low = _multiply_wide(jnp.asarray(x), jnp.asarray(y))
    product = [int(a) * int(b) for a, b in zip(x, y, strict=True)]
    assert [int(h) << 32 | int(w) for h, w in zip(high, low, strict=True)] == product


def test_draws_are_uniform_over_classes_and_over_the_examples_of_a_class():
    labels = np.repeat([0, 1, 2, 3], [20, 50, 110, 40])
    data = from_arrays(np.arange(220)[:, None] % 256, labels, fractions=(0.4, 0.2, 0.2, 0.2))
    classes = jnp.array([2, 0, 1], jnp.int32)
    with jax.enable_x64(True):
        rows, label = draw_rows(data, jax.random.key(0), "train", classes, 60_000)
    rows, label = np.asarray(rows), np.asarray(label)
    np.testing.assert_array_equal(np.asarray(data.labels)[rows], np.asarray(classes)[label])
    assert np.isin(rows, rows_of(data, "train")).all()
    assert stats.chisquare(np.bincount(label, minlength=3)).pvalue > 1e-3
    for position, number in enumerate(classes.tolist()):
        start, count = int(data.starts[0, number]), int(data.counts[0, number])
        seen = np.bincount(rows[label == position] - start, minlength=count)
        assert len(seen) == count == [8, 20, 44][number]
        assert stats.chisquare(seen).pvalue > 1e-3


def test_batches_in_a_scan_need_no_transfer_and_equal_eager_ones():
    data, classes = digits(), jnp.array([3, 8], jnp.int32)
    keys = jax.random.split(jax.random.key(1), 5)

    @jax.jit
    def scan(data, keys):
        return jax.lax.scan(lambda c, key: (c, sample_images(data, key, "inner_valid", classes, 7)), 0, keys)[1]

    scan(data, keys)
    with jax.transfer_guard("disallow"):
        batches = scan(data, keys)
    eager = sample_images(data, keys[4], "inner_valid", classes, 7)
    np.testing.assert_array_equal(batches["label"][4], eager["label"])
    np.testing.assert_allclose(batches["image"][4], eager["image"], rtol=1e-6)
    with pytest.raises(ValueError, match="unknown split 'valid'"):
        sample_images(data, keys[0], "valid", classes, 7)


@pytest.mark.parametrize(("size_in", "size_out"), [(28, 8), (32, 8), (5, 3), (3, 6)])
def test_resizing_averages_areas(size_in, size_out):
    images = np.random.default_rng(0).integers(0, 256, (4, size_in, size_in, 2), np.uint8)
    # Blown up so that input and output pixels both are whole numbers of small ones, areas become block means.
    fine = images.repeat(size_out, axis=1).repeat(size_out, axis=2).astype(np.float64)
    expected = fine.reshape(4, size_out, size_in, size_out, size_in, 2).mean((2, 4))
    resized = datasets._resized(images, size_out)
    assert resized.shape == (4, size_out, size_out, 2)
    assert np.abs(resized - expected).max() <= 0.5 + 1e-3


def test_grey_is_luma():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(datasets._grey(colours).ravel(), [76, 150, 29, 124])


@needs_fashion_mnist
def test_fashion_mnist_matches_an_independent_reading():
    import tensorflow_datasets as tfds

    data = tfds_images("fashion_mnist", image_size=7, max_per_class=50)
    check_blocks(data)
    np.testing.assert_array_equal(np.asarray(data.counts)[:, 0], [35, 6, 9, 50])
    for source_split, splits in (("train", SPLITS[:3]), ("test", SPLITS[3:])):
        kept, left = [], dict.fromkeys(range(10), 50)
        for example in tfds.data_source("fashion_mnist", split=source_split, data_dir=TFDS_DATA_DIR, download=False):
            if left[example["label"]] > 0:
                kept.append(example)
                left[example["label"]] -= 1
            if not any(left.values()):
                break
        # 28 = 7 x 4, so areas are means of 4x4 blocks; numpy and we both round halves to even.
        images = [np.rint(e["image"].reshape(7, 4, 7, 4).mean((1, 3))).astype(np.uint8) for e in kept]
        rows = np.concatenate([rows_of(data, split) for split in splits])
        ours = multiset(np.asarray(data.images)[rows], np.asarray(data.labels)[rows])
        assert ours == multiset(images, [e["label"] for e in kept])


@needs_fashion_mnist
def test_fashion_mnist_has_all_its_examples():
    data = tfds_images("fashion_mnist", image_size=8)
    check_blocks(data)
    assert data.images.shape == (70_000, 8, 8, 1)
    np.testing.assert_array_equal(data.counts, np.array([[4235], [706], [1059], [1000]]) * np.ones(10))
    assert tfds_images("fashion_mnist", image_size=8, data_dir=TFDS_DATA_DIR) is data


def test_synthetic_imagenet_reads_back(synthetic_dir):
    data = tfds_images(IMAGENET, data_dir=synthetic_dir)
    check_blocks(data)
    assert data.images.shape == (7000, 32, 32, 3)
    np.testing.assert_array_equal(data.counts, np.array([[3], [1], [1], [2]]) * np.ones(1000))
    # Images of a class resemble each other (noise of 24 around its colours), those of different classes do not.
    train = np.asarray(data.images[data.starts[0, 0] : data.starts[1, 0]], np.float32).reshape(1000, 3, -1)
    assert np.sqrt(np.mean((train[:, 0] - train[:, 1]) ** 2)) < 24 * np.sqrt(2) + 1
    assert np.sqrt(np.mean((train[:-1, 0] - train[1:, 0]) ** 2)) > 90
    grey = tfds_images(IMAGENET, image_size=8, grayscale=True, data_dir=synthetic_dir, max_per_class=4)
    assert grey.images.shape == (6000, 8, 8, 1)
    np.testing.assert_array_equal(np.asarray(grey.counts)[:, 0], [2, 1, 1, 2])


def test_synthetic_imagenet_is_never_written_over_anything(synthetic_dir):
    with pytest.raises(ValueError, match=r"0\.1\.0 exists"):
        write_synthetic_imagenet(synthetic_dir)
    with pytest.raises(ValueError, match="counts must be 1 or more"):
        write_synthetic_imagenet(synthetic_dir, images_per_class=0)


def test_reading_needs_neither_tensorflow_nor_network(synthetic_dir):
    program = f"""
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("network")
socket.getaddrinfo = socket.socket.connect = socket.create_connection = refuse
from tasks.datasets import DatasetNotPrepared, tfds_images
print(tfds_images({IMAGENET!r}, data_dir={str(synthetic_dir)!r}, max_per_class=4).images.shape[0])
try:
    tfds_images("mnist", data_dir={str(synthetic_dir)!r})
except DatasetNotPrepared:
    print("not prepared", "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split("\n")[:2] == ["6000", "not prepared False"]


def test_sets_that_are_not_prepared_are_refused_with_advice(tmp_path, synthetic_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name in ("cifar10", IMAGENET, f"{IMAGENET}:0.1.0"):
        with pytest.raises(DatasetNotPrepared) as caught:
            tfds_images(name)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"data set {name!r} is not prepared in {tmp_path}"
        assert f"tfds build {name.split(':')[0]} --file_format=array_record --data_dir={tmp_path}" in lines[2]
        assert len(lines) == 4
    with pytest.raises(DatasetNotPrepared, match=r"32x32:0\.2\.0' is not prepared"):
        tfds_images(f"{IMAGENET}:0.2.0", data_dir=synthetic_dir)


def test_sets_of_another_form_are_refused(tmp_path):
    directory = write_synthetic_imagenet(tmp_path, images_per_class=4, validation_images_per_class=1, num_classes=2)
    info_file, features_file = directory / "dataset_info.json", directory / "features.json"
    info, features = json.loads(info_file.read_text()), features_file.read_text()

    info_file.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(DatasetNotPrepared, match="is prepared as tfrecord, not as array_record"):
        tfds_images(IMAGENET, data_dir=tmp_path)
    info_file.write_text(json.dumps({**info, "splits": info["splits"][1:]}))
    with pytest.raises(ValueError, match="has no split 'train'; it has validation"):
        tfds_images(IMAGENET, data_dir=tmp_path)
    info_file.write_text(json.dumps({key: value for key, value in info.items() if key != "supervisedKeys"}))
    features_file.write_text(features.replace('"image": {', '"photo": {', 1))
    with pytest.raises(ValueError, match="is no image-classification set; it has features"):
        tfds_images(IMAGENET, data_dir=tmp_path)
    info_file.write_text(json.dumps(info))
    features_file.write_text(features)
    next(directory.glob("*-train.array_record-*")).unlink()
    with pytest.raises(DatasetNotPrepared, match="lacks 1 files"):
        tfds_images(IMAGENET, data_dir=tmp_path)


@pytest.mark.parametrize("option", ["image_size", "max_per_class"])
def test_sizes_must_be_positive(option):
    with pytest.raises(ValueError, match=f"{option} must be 1 or more; got 0"):
        tfds_images("cifar10", **{option: 0})
