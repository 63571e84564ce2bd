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
from tests.support.training import adam_losses, at_start

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


def with_head(params):
    """The head is not zero."""
    kernel = params["head"]["kernel"]
    drawn = jax.random.normal(jax.random.key(5), kernel.shape, jnp.float32)
    return {**params, "head": {**params["head"], "kernel": drawn}}


def test_all_modes_start_as_one_model(families):
    losses = {mode: at_start(families[mode], change=with_head)[3::2] for mode in MODES}
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
    losses = adam_losses(families["lora"], 150, 1e-2)
    np.testing.assert_allclose(losses[0], np.log(8), rtol=1e-5)
    # Windows of eight bytes tell little.
    assert losses[-50:].mean() < np.log(8) - 0.04


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


def test_the_trunk_is_made_once_and_kept(cache, families, monkeypatch):
    module = ByteTransformer(1, 8, 4, 8)
    pretrained_trunk.cache_clear()
    first = pretrained_trunk(module, 2)  # which the families have made
    (file,) = cache.glob("byte_transformer.*.npz")
    made, train = [], trunk._train
    monkeypatch.setattr(trunk, "_train", lambda *of: made.append(train(*of)) or made[0])
    pretrained_trunk.cache_clear()
    jax.tree.map(np.testing.assert_array_equal, first, pretrained_trunk(module, 2))
    assert made == []
    # A damaged file is made again, to the same numbers.
    file.write_bytes(b"PK cut")
    pretrained_trunk.cache_clear()
    jax.tree.map(np.testing.assert_array_equal, first, pretrained_trunk(module, 2))
    assert len(made) == 1
    # So is one of other arrays.
    monkeypatch.setattr(trunk, "_train", lambda *of: made.append(None) or made[0])
    np.savez(file, wrong=np.ones(3))
    pretrained_trunk.cache_clear()
    jax.tree.map(np.testing.assert_array_equal, first, pretrained_trunk(module, 2))
    assert len(made) == 2
    with np.load(file) as stored:
        assert len(stored.files) == len(jax.tree.leaves(first))


def test_no_room_for_the_cache_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEARNED_OPT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(trunk, "_train", lambda family, num_steps: {"made": num_steps})
    pretrained_trunk.cache_clear()
    assert pretrained_trunk(ByteTransformer(1, 8, 2, 8), 7) == {"made": 7}
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
