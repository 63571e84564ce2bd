"""The byte transformer is causal and tied, starts at ln 256, and learns; texts fall into parts."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.language import ByteTransformer, byte_text, byte_transformer_family
from tasks.language.byte_data import PACKAGES, library_files
from tests.support.training import adam_losses, at_start

SMALL = {"depth": 1, "width": 16, "num_heads": 2, "length": 8, "batch_size": 4}


@pytest.fixture(scope="module")
def model():
    module = ByteTransformer(depth=2, width=8, num_heads=2, length=6)
    tokens = jax.random.randint(jax.random.key(0), (2, 6), 0, 256, jnp.int32)
    return module, jax.jit(module.init)(jax.random.key(1), tokens)["params"], tokens


def test_a_later_byte_changes_no_earlier_logit(model):
    module, params, tokens = model
    logits = jax.jit(lambda t: module.apply({"params": params}, t))
    before, after = logits(tokens), logits(tokens.at[:, 3].add(1) % 256)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert float(jnp.abs(before[:, 3:] - after[:, 3:]).max()) > 1e-4


def test_the_output_layer_is_the_embedding(model):
    module, params, tokens = model
    apply = jax.jit(module.apply, static_argnames="method")
    features, logits = (apply({"params": params}, tokens, method=m) for m in ("features", None))
    np.testing.assert_allclose(logits, features @ params["embedding"].T, atol=1e-6)
    assert sum(leaf.shape.count(256) for leaf in jax.tree.leaves(params)) == 1


@pytest.mark.parametrize("sizes", [(2, 8, 6), (1, 16, 3)])
def test_number_of_parameters_is_as_documented(sizes):
    depth, width, length = sizes
    module = ByteTransformer(depth, width, 2, length)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, length), jnp.int32))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 256 * width + length * width + depth * (12 * width**2 + 13 * width) + 2 * width


def test_loss_and_metrics_equal_numpy_and_start_at_the_uniform():
    family = byte_transformer_family(**SMALL, max_bytes=4000)
    params, batch, _, loss, metrics, grad = at_start(family, "test")
    module = ByteTransformer(1, 16, 2, 8)
    logits = jax.jit(lambda p, x: module.apply({"params": p}, x))(params, batch[:, :-1])
    logits = np.asarray(logits, np.float64)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grad))
    targets = np.asarray(batch[:, 1:])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(log_p, targets[..., None], -1).mean()
    np.testing.assert_allclose(float(loss), nats, rtol=1e-5)
    np.testing.assert_allclose(float(metrics["bits_per_byte"]), nats / np.log(2), rtol=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((logits.argmax(-1) == targets).mean())
    assert abs(nats - np.log(256)) < 0.3


def test_it_learns():
    losses = adam_losses(byte_transformer_family(**SMALL), 60, 1e-2)
    assert losses[0] > 5.2
    assert losses[-10:].mean() < 4.0


@pytest.mark.parametrize("text", ["library", "file"])
def test_windows_stay_in_their_part(text, tmp_path):
    (tmp_path / "mine.txt").write_bytes(bytes(range(256)) * 8)
    name = "library" if text == "library" else str(tmp_path / "mine.txt")
    family = byte_transformer_family(**{**SMALL, "batch_size": 256}, text=name, max_bytes=2000)
    assert byte_text(name, 2000).bounds == ((0, 1400), (1400, 1600), (1600, 1800), (1800, 2000))
    places = jnp.arange(2000, dtype=jnp.int32)
    for split, (low, high) in zip(SPLITS, byte_text(name, 2000).bounds, strict=True):
        drawn = family.task(()).sample_batch(places, jax.random.key(0), split)
        assert low <= int(drawn.min()) < low + 20
        assert high - 20 < int(drawn.max()) < high
        np.testing.assert_array_equal(jnp.diff(drawn, axis=1), 1)


def test_the_library_is_this_python_s_and_not_what_configs_train_on():
    from tasks.text import TEXTS

    known = TEXTS["library"]() + TEXTS["topics"]()
    lines = set(known.splitlines())
    files = library_files(PACKAGES)
    assert files == library_files(PACKAGES)
    assert len(files) > 100
    for file in files:
        own = [line for line in file.decode().splitlines() if len(line) > 40]
        # A licence or an import may stand in two files; no file is the same one.
        assert sum(line in lines for line in own) <= 0.5 * len(own) or len(own) < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide width; got 3 and 16"),
        ({"depth": 0}, "sizes must be at least 1; got {'depth': 0}"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"length": 10**7}, "length must be below"),
        ({"max_bytes": 0}, "max_bytes must be 1 or more"),
        ({"max_bytes": 10}, "too few for four"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        byte_transformer_family(**{**SMALL, **arguments})


def test_a_text_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="'library', 'tfds:NAME' or a file"):
        byte_text(str(tmp_path / "no.txt"))
    with pytest.raises(ValueError, match="no regular file"):
        byte_text(str(tmp_path))
    with pytest.raises(ValueError, match="'shakespeare' is not prepared"):
        byte_text("tfds:shakespeare")


def test_a_text_set_of_tfds_keeps_its_own_test_split(monkeypatch, tmp_path):
    """Against a stand-in for the reader: two splits of texts."""
    import tensorflow_datasets as tfds

    texts = {"train": [b"a" * 40, b"b" * 39], "test": [b"c" * 12]}

    features = {"label": tfds.features.Scalar(np.int32), "text": tfds.features.Text()}
    builder = SimpleNamespace(
        info=SimpleNamespace(features=features, splits=texts),
        as_data_source=lambda split: [{"text": text, "label": 0} for text in texts[split]],
    )
    monkeypatch.setattr("tasks.language.byte_data.open_prepared", lambda name, where: builder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    read = byte_text("tfds:letters")
    assert bytes(np.asarray(read.tokens)) == b"a" * 40 + b"\n" + b"b" * 39 + b"c" * 12
    assert read.bounds == ((0, 62), (62, 71), (71, 80), (80, 92))
