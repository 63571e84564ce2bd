"""Kinds of tensors of models as Flax Linen, Flax NNX, Equinox and Haiku make them; `eval_shape` is
enough.
"""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx

from learned_opt.trees.gradient_tree import is_float
from tests.support.learned_opt.by_kind import labels

KEY = jax.random.key(0)
TOKENS = jnp.zeros((1, 4), jnp.int32)


def by_kind(found):
    """kind -> sorted paths."""
    return {kind: sorted(p for p, k in found.items() if k == kind) for kind in set(found.values())}


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm()(x))
        x = x + y * self.param("layer_scale", nn.initializers.ones, (8,))
        x = nn.DenseGeneral((2, 4), axis=-1, name="split")(nn.RMSNorm()(x)).reshape(x.shape)
        return x, None


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(16, 8, embedding_init=nn.with_partitioning(nn.initializers.ones, (None, "d")))(
            tokens
        )
        x = x + self.param("pos_embedding", nn.initializers.zeros, (1, 4, 8))
        cls = self.param("cls", nn.initializers.zeros, (1, 1, 8))
        x = jnp.concatenate([cls, x], 1)
        layers = nn.scan(
            LinenBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = layers(name="layers")(x, None)
        x = nn.Conv(8, (3,), name="patch_conv")(nn.GroupNorm(2)(x))
        x = nn.RNN(nn.GRUCell(8), name="rnn")(nn.PReLU()(x))
        return nn.Dense(16, name="lm_head")(x)


def test_linen_with_stacked_layers_and_boxes():
    variables = jax.eval_shape(LinenModel().init, KEY, TOKENS)
    found = by_kind(labels(variables["params"]))
    assert found["embedding"] == ["Embed_0/embedding", "pos_embedding"]
    assert found["head"] == ["lm_head/kernel"]
    gates = [f"GRUCell_0/{name}/kernel" for name in ("hn", "hr", "hz", "in", "ir", "iz")]
    attention = [f"layers/attention/{name}/kernel" for name in ("key", "out", "query", "value")]
    assert found["matrix"] == [*gates, *attention, "layers/split/kernel", "patch_conv/kernel"]
    names = {path.rpartition("/")[2] for path in found["vector"]}
    assert names == {"bias", "cls", "layer_scale", "negative_slope", "scale"}
    assert variables["params"]["layers"]["layer_scale"].shape == (3, 8)
    assert variables["params"]["layers"]["split"]["bias"].shape == (3, 2, 4)
    # The collection's name is no module.
    whole = labels(variables)
    assert {path.partition("/")[2]: kind for path, kind in whole.items()} == labels(
        variables["params"]
    )


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.down = nnx.LoRALinear(8, 8, lora_rank=1, rngs=rngs)


class NNXModel(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(16, 8, rngs=rngs)
        self.positions = nnx.Param(jnp.zeros((1, 4, 8)))
        self.conv = nnx.Conv(8, 8, (3, 3), rngs=rngs)
        self.blocks = nnx.List([NNXBlock(rngs)])
        self.stacked = nnx.split_rngs(splits=2)(nnx.vmap(NNXBlock))(rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(8, 16, rngs=rngs)


def test_nnx_as_state_as_module_and_as_pure_dict():
    model = nnx.eval_shape(lambda: NNXModel(nnx.Rngs(0)))
    state = nnx.state(model, nnx.Param)
    found = by_kind(labels(state))
    assert found["embedding"] == ["embed/embedding", "positions"]
    assert found["head"] == ["head/kernel"]
    block = [f"attention/{name}/kernel" for name in ("key", "out", "query", "value")]
    block += ["down/kernel", "down/lora/lora_a", "down/lora/lora_b"]
    assert found["matrix"] == [
        *(f"blocks/0/{name}" for name in block),
        "conv/kernel",
        *(f"stacked/{name}" for name in block),
    ]
    assert state["stacked"]["norm"]["scale"].shape == (2, 8)
    assert labels(nnx.to_pure_dict(state)) == labels(state)
    of_module = labels(model)  # which holds random streams too
    assert {path: of_module[path] for path in labels(state)} == labels(state)
    assert {of_module[path] for path in set(of_module) - set(labels(state))} == {"untrained"}


class EquinoxModel(eqx.Module):
    tok: eqx.nn.Embedding
    places: eqx.nn.Embedding
    blocks: eqx.nn.MLP
    n: eqx.nn.LayerNorm
    attn: eqx.nn.MultiheadAttention
    conv: eqx.nn.Conv2d
    cell: eqx.nn.GRUCell
    norms: eqx.nn.RMSNorm
    classifier: eqx.nn.Linear
    activation: callable
    count: jax.Array
    nothing: None = None

    def __init__(self, key):
        self.tok = eqx.nn.Embedding(16, 8, key=key)
        self.places = eqx.nn.Embedding(4, 8, key=key)
        self.blocks = eqx.filter_vmap(lambda k: eqx.nn.MLP(8, 8, 16, 1, key=k))(
            jax.random.split(key, 3)
        )
        self.n = eqx.nn.LayerNorm((4, 8))
        self.attn = eqx.nn.MultiheadAttention(2, 8, use_query_bias=True, key=key)
        self.conv = eqx.nn.Conv2d(1, 2, 3, key=key)
        self.cell = eqx.nn.GRUCell(1, 8, key=key)
        self.norms = eqx.filter_vmap(lambda _: eqx.nn.RMSNorm(8))(jnp.arange(3))
        self.classifier = eqx.nn.Linear(8, 16, key=key)
        self.activation = jax.nn.relu
        self.count = jnp.zeros((4, 4), jnp.int32)


def test_equinox_by_class_where_the_path_says_nothing():
    model = eqx.filter_eval_shape(EquinoxModel, KEY)
    found = by_kind(labels(model))
    assert found["embedding"] == ["places/weight", "tok/weight"]
    assert found["head"] == ["classifier/weight"]
    projections = ("key", "output", "query", "value")
    assert found["matrix"] == [
        *(f"attn/{name}_proj/weight" for name in projections),
        *(f"blocks/layers/{i}/weight" for i in range(2)),
        *(f"cell/weight_{name}" for name in ("hh", "ih")),
        "conv/weight",
    ]
    assert {"activation", "count", "blocks/activation"} <= set(found["untrained"])
    assert model.norms.weight.shape == (3, 8)
    assert {"n/weight", "n/bias", "norms/weight", "conv/bias"} <= set(found["vector"])
    # What an optimizer is given: None where there is no number.
    trained = jax.tree.map(lambda x: x if is_float(x) else None, model)
    assert labels(trained) == {p: k for p, k in labels(model).items() if k != "untrained"}


def test_equinox_tied_embedding():
    both = (eqx.nn.Embedding(16, 8, key=KEY), eqx.nn.Linear(8, 16, key=KEY))
    shared = eqx.nn.Shared(both, where=lambda t: t[1].weight, get=lambda t: t[0].weight)
    found = labels({"model": shared, "norm": {"weight": jnp.ones((2, 8))}})
    assert {p: k for p, k in found.items() if k != "untrained"} == {
        "model/pytree/0/weight": "embedding",
        "model/pytree/1/bias": "vector",
        "norm/weight": "vector",
    }


def haiku_model(tokens):
    x = hk.Embed(16, 8)(tokens)
    x = x + hk.get_parameter("position_embeddings", [4, 8], init=jnp.zeros)
    x = hk.LayerNorm(-1, create_scale=True, create_offset=True)(x)
    w_init = hk.initializers.VarianceScaling()
    x = x + hk.MultiHeadAttention(2, 4, w_init=w_init, model_size=8)(x, x, x)
    x = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, True)
    x = hk.nets.MLP([16, 8])(hk.Conv1D(8, 3)(x))
    x, _ = hk.LSTM(8)(x[:, 0], hk.LSTM(8).initial_state(1))
    return hk.Linear(16, name="logits")(x)


def test_haiku():
    with jax.numpy_dtype_promotion("standard"):
        params, _ = jax.eval_shape(hk.transform_with_state(haiku_model).init, KEY, TOKENS)
    found = by_kind(labels(params))
    assert found["embedding"] == ["embed/embeddings", "~/position_embeddings"]
    assert found["head"] == ["logits/w"]
    assert found["matrix"] == [
        "conv1_d/w",
        "lstm/linear/w",
        *(f"mlp/~/linear_{i}/w" for i in range(2)),
        *(f"multi_head_attention/{name}/w" for name in ("key", "linear", "query", "value")),
    ]
    assert params["batch_norm"]["scale"].shape == (1, 1, 8)
    assert {path.rpartition("/")[2] for path in found["vector"]} == {"b", "offset", "scale"}
