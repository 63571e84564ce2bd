import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.images import datasets
from tasks.images.datasets import DatasetNotPrepared, digits, tfds_images
from tasks.images.image_data import from_arrays
from tests.support.image_checks import check_blocks, multiset, rows_of
from tests.support.synthetic import write_synthetic_imagenet

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


def test_digits_are_divided_into_disjoint_splits_of_all_classes():
    from sklearn.datasets import load_digits

    data = digits()
    check_blocks(data)
    assert data.images.shape == (1797, 8, 8, 1)
    assert data.images.dtype == jnp.uint8
    images = {
        split: {image.tobytes() for image in np.asarray(data.images)[rows_of(data, split)]}
        for split in SPLITS
    }
    assert sum(map(len, images.values())) == len(set().union(*images.values())) == 1797
    bunch = load_digits()
    assert multiset(data.images, data.labels) == multiset(
        bunch.images.astype(np.uint8), bunch.target
    )
    shares = np.asarray(data.counts) / np.asarray(data.counts).sum(0)
    np.testing.assert_allclose(
        shares, np.array([[0.6], [0.1], [0.15], [0.15]]) * np.ones(10), atol=0.01
    )


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


@pytest.mark.parametrize(("size_in", "size_out"), [(28, 8), (32, 8), (5, 3), (3, 6)])
def test_resizing_averages_areas(size_in, size_out):
    images = np.random.default_rng(0).integers(0, 256, (4, size_in, size_in, 2), np.uint8)
    # Blown up so that input and output pixels both are whole numbers of small ones,
    # areas become block means.
    fine = images.repeat(size_out, axis=1).repeat(size_out, axis=2).astype(np.float64)
    expected = fine.reshape(4, size_out, size_in, size_out, size_in, 2).mean((2, 4))
    resized = datasets._resized(images, size_out)
    assert resized.shape == (4, size_out, size_out, 2)
    assert np.abs(resized - expected).max() <= 0.5 + 1e-3


def test_grey_is_luma():
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8).reshape(
        1, 2, 2, 3
    )
    np.testing.assert_array_equal(datasets._grey(colours).ravel(), [76, 150, 29, 124])


@needs_fashion_mnist
def test_fashion_mnist_matches_an_independent_reading():
    import tensorflow_datasets as tfds

    data = tfds_images("fashion_mnist", image_size=7, max_per_class=50)
    check_blocks(data)
    np.testing.assert_array_equal(np.asarray(data.counts)[:, 0], [35, 6, 9, 50])
    for source_split, splits in (("train", SPLITS[:3]), ("test", SPLITS[3:])):
        kept, left = [], dict.fromkeys(range(10), 50)
        for example in tfds.data_source(
            "fashion_mnist", split=source_split, data_dir=TFDS_DATA_DIR, download=False
        ):
            if left[example["label"]] > 0:
                kept.append(example)
                left[example["label"]] -= 1
            if not any(left.values()):
                break
        # 28 = 7 x 4, so areas are means of 4x4 blocks; numpy and we both round halves to even.
        images = [
            np.rint(e["image"].reshape(7, 4, 7, 4).mean((1, 3))).astype(np.uint8) for e in kept
        ]
        rows = np.concatenate([rows_of(data, split) for split in splits])
        ours = multiset(np.asarray(data.images)[rows], np.asarray(data.labels)[rows])
        assert ours == multiset(images, [e["label"] for e in kept])


@needs_fashion_mnist
def test_fashion_mnist_has_all_its_examples():
    data = tfds_images("fashion_mnist", image_size=8)
    check_blocks(data)
    assert data.images.shape == (70_000, 8, 8, 1)
    np.testing.assert_array_equal(
        data.counts, np.array([[4235], [706], [1059], [1000]]) * np.ones(10)
    )
    assert tfds_images("fashion_mnist", image_size=8, data_dir=TFDS_DATA_DIR) is data


def test_synthetic_imagenet_reads_back(synthetic_dir):
    data = tfds_images(IMAGENET, data_dir=synthetic_dir)
    check_blocks(data)
    assert data.images.shape == (7000, 32, 32, 3)
    np.testing.assert_array_equal(data.counts, np.array([[3], [1], [1], [2]]) * np.ones(1000))
    # Images of a class resemble each other (noise of 24 around its colours),
    # those of different classes do not.
    train = np.asarray(data.images[data.starts[0, 0] : data.starts[1, 0]], np.float32).reshape(
        1000, 3, -1
    )
    assert np.sqrt(np.mean((train[:, 0] - train[:, 1]) ** 2)) < 24 * np.sqrt(2) + 1
    assert np.sqrt(np.mean((train[:-1, 0] - train[1:, 0]) ** 2)) > 90
    grey = tfds_images(
        IMAGENET, image_size=8, grayscale=True, data_dir=synthetic_dir, max_per_class=4
    )
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
from tasks.images.datasets import DatasetNotPrepared, tfds_images
print(tfds_images({IMAGENET!r}, data_dir={str(synthetic_dir)!r}, max_per_class=4).images.shape[0])
try:
    tfds_images("mnist", data_dir={str(synthetic_dir)!r})
except DatasetNotPrepared:
    print("not prepared", "tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["6000", "not prepared False"]


def test_sets_that_are_not_prepared_are_refused_with_advice(tmp_path, synthetic_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name in ("cifar10", IMAGENET, f"{IMAGENET}:0.1.0"):
        with pytest.raises(DatasetNotPrepared) as caught:
            tfds_images(name)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"data set {name!r} is not prepared in {tmp_path}"
        assert (
            f"tfds build {name.split(':')[0]} --file_format=array_record --data_dir={tmp_path}"
            in lines[2]
        )
        assert len(lines) == 4
    with pytest.raises(DatasetNotPrepared, match=r"32x32:0\.2\.0' is not prepared"):
        tfds_images(f"{IMAGENET}:0.2.0", data_dir=synthetic_dir)


def test_sets_of_another_form_are_refused(tmp_path):
    directory = write_synthetic_imagenet(
        tmp_path, images_per_class=4, validation_images_per_class=1, num_classes=2
    )
    info_file, features_file = directory / "dataset_info.json", directory / "features.json"
    info, features = json.loads(info_file.read_text()), features_file.read_text()

    info_file.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(DatasetNotPrepared, match="is prepared as tfrecord, not as array_record"):
        tfds_images(IMAGENET, data_dir=tmp_path)
    info_file.write_text(json.dumps({**info, "splits": info["splits"][1:]}))
    with pytest.raises(ValueError, match="has no split 'train'; it has validation"):
        tfds_images(IMAGENET, data_dir=tmp_path)
    info_file.write_text(
        json.dumps({key: value for key, value in info.items() if key != "supervisedKeys"})
    )
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
