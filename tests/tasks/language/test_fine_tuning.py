"""Fine-tuning: LoRA starts as the frozen model, the frozen trunk gets no gradient, the trunk is
made once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.language import ByteTransformer, fine_tuning_family, pretrained_trunk, trunk
from tasks.language.byte_data import PACKAGES
from tasks.language.fine_tuning import CLASSES, MODES, lora_adapters, with_adapters
from tests.support.training import adam_losses

SMALL = {"depth": 1, "width": 8, "length": 8, "batch_size": 32, "num_trunk_steps": 2}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """A cache of trunks for these tests alone."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEARNED_OPT_CACHE", str(directory))
        yield directory / "trunks"
    pretrained_trunk.cache_clear()


@pytest.fixture(scope="module")
def families(cache):
    return {mode: fine_tuning_family(mode, 2, **SMALL) for mode in MODES}


def loss_with_head(family, key):
    """The loss at the start, with a head that is not zero."""
    task = family.task(())
    params = task.init(jax.random.key(0))
    params["head"]["kernel"] = jax.random.normal(key, params["head"]["kernel"].shape, jnp.float32)
    batch = task.sample_batch(family.data, jax.random.key(1), "train")
    return jax.value_and_grad(lambda p: task.loss(p, jax.random.key(2), batch)[0])(params)


def test_all_modes_start_as_one_model(families):
    losses = {mode: loss_with_head(families[mode], jax.random.key(5)) for mode in MODES}
    for mode in MODES:
        np.testing.assert_allclose(losses[mode][0], losses["frozen"][0], rtol=1e-6)
        heads = (losses[mode][1]["head"]["kernel"], losses["frozen"][1]["head"]["kernel"])
        np.testing.assert_allclose(*heads, rtol=1e-5, atol=1e-6)
    assert set(losses["frozen"][1]) == {"head"}
    # B is zero, so that A has no gradient yet, and B has one.
    adapter = next(iter(losses["lora"][1]["adapters"].values()))
    assert float(jnp.abs(adapter["down"]).max()) == 0
    assert float(jnp.abs(adapter["up"]).max()) > 0
    grads = jax.tree.leaves(losses["full"][1]["trunk"])
    assert sum(float(jnp.abs(grad).max()) > 0 for grad in grads) > len(grads) / 2


def test_number_of_parameters_is_as_documented(families):
    def count(mode):
        shapes = jax.eval_shape(families[mode].task(()).init, jax.random.key(0))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    head = 8 * 8 + 8
    assert count("frozen") == head
    assert count("lora") == head + 16 * 1 * 2 * 8
    assert count("full") == head + 256 * 8 + 8 * 8 + 12 * 64 + 13 * 8 + 2 * 8


def test_adapters_add_their_product():
    weights = {"a": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
    adapters = lora_adapters(jax.random.key(0), weights, 2)
    ((path, pair),) = adapters.items()
    np.testing.assert_array_equal(with_adapters(weights, adapters)["a"]["kernel"], 1.0)
    up = jnp.ones_like(pair["up"])
    changed = with_adapters(weights, {path: {**pair, "up": up}})
    np.testing.assert_allclose(
        changed["a"]["kernel"], 1 + 2 * np.asarray(pair["down"]) @ np.ones((2, 4)), rtol=1e-6
    )
    np.testing.assert_array_equal(changed["a"]["bias"], 1.0)
    grad = jax.grad(lambda w: jnp.sum(with_adapters(w, adapters)["a"]["kernel"]))(weights)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(grad))


def test_it_starts_at_ln_8_and_learns(families):
    losses = adam_losses(families["lora"], 150, 5e-2)
    np.testing.assert_allclose(losses[0], np.log(8), rtol=1e-5)
    assert losses[-20:].mean() < 1.95


def test_windows_stay_in_their_block(families):
    family = families["frozen"]
    task, data = family.task(()), family.data
    starts, counts = np.asarray(data.starts), np.asarray(data.counts)
    ends = (starts + counts).reshape(-1)
    np.testing.assert_array_equal(starts.reshape(-1)[1:], ends[:-1])
    places = data._replace(tokens=jnp.arange(ends[-1], dtype=jnp.int32))
    for row, split in enumerate(SPLITS):
        batch = task.sample_batch(places, jax.random.key(0), split)
        low, high = starts[row][batch["label"]], (starts + counts)[row][batch["label"]]
        text = np.asarray(batch["text"])
        assert (text >= low[:, None]).all()
        assert (text < high[:, None]).all()
    assert not set(CLASSES) & set(PACKAGES)


def test_the_trunk_is_made_once_and_kept(cache, monkeypatch):
    module = ByteTransformer(1, 8, 2, 8)
    pretrained_trunk.cache_clear()
    first = pretrained_trunk(module, 3)
    files = sorted(cache.glob("byte_transformer.*.npz"))
    pretrained_trunk.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(trunk, "_train", None)  # calling it would fail
        again = pretrained_trunk(module, 3)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    # A damaged file, and one of other shapes, are made again, to the same numbers.
    for content in (b"PK cut", None):
        for file in files:
            np.savez(file, wrong=np.ones(3)) if content is None else file.write_bytes(content)
        pretrained_trunk.cache_clear()
        jax.tree.map(np.testing.assert_array_equal, first, pretrained_trunk(module, 3))
    start = module.init(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))["params"]
    assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, first)


def test_no_room_for_the_cache_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "file"))
    pretrained_trunk.cache_clear()
    assert pretrained_trunk(ByteTransformer(1, 8, 2, 8), 0)["embedding"].shape == (256, 8)
    pretrained_trunk.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "half"}, "unknown mode 'half'; modes are full, frozen, lora"),
        ({"rank": 0}, "sizes must be at least 1"),
        ({"width": 6}, "num_heads must divide width"),
        ({"length": 10**6}, "length must be below"),
        ({"num_trunk_steps": -1}, "num_steps must be 0 or more"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fine_tuning_family(**{**SMALL, **arguments})
