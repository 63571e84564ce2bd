"""Kinds of tensors, held by models as Flax Linen, Flax NNX, Equinox and Haiku make them;
`eval_shape` is enough.
"""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze
from flax.traverse_util import flatten_dict

import learned_opt
from learned_opt.kinds import KINDS
from learned_opt.trees.gradient_tree import is_float
from learned_opt.trees.tensor_names import path_text

KEY = jax.random.key(0)
TOKENS = jnp.zeros((1, 4), jnp.int32)


def labels(params, rules=None):
    """path -> kind."""
    found = jax.tree.leaves_with_path(learned_opt.tensor_kinds(params, rules))
    return {path_text(path): kind for path, kind in found}


def shaped(shapes):
    """path -> kind of a dict of shapes, nested by the slashes of its keys."""
    params: dict = {}
    for path, shape in shapes.items():
        *outer, last = path.split("/")
        inner = params
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = jax.ShapeDtypeStruct(shape, jnp.float32)
    return labels(params)


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


NAMED = {
    "matrix": {
        "w": (3, 2),
        "layers_0/kernel": (3, 1),
        "blocks/MultiHeadAttention_0/out/kernel": (2, 4, 8),
        "blocks/multi_head/proj/w": (8, 8),
        "blocks/attn/o_proj/weight": (8, 8),
        "blocks/talking_heads": (4, 4),
        "heads/0/query/weight": (4, 8),
        "heads/0/key/weight": (4, 8),
        "experts/w_in": (3, 8, 16),
        "dw/kernel": (3, 3, 1, 8),
        "dw1/kernel": (3, 1, 1),
        "patch_embed/kernel": (4, 4, 3, 8),
        "time_embed/Dense_0/kernel": (8, 8),
        "embeddings_project/kernel": (8, 8),
        "q/lora_A": (8, 1),
        "q/lora_B/weight": (1, 8),
        "norm/linear/kernel": (8, 16),
        "output_block/dense/kernel": (8, 8),
        "token_mixing/Dense_0/kernel": (8, 8),
        "cell/weight_ih": (24, 1),
        "decoder/kernel": (2, 2),
        "v": (8, 8),
    },
    "embedding": {
        "wte": (16, 8),
        "embed_tokens/weight": (16, 8),
        "embedder/input_embedding": (16, 8),
        "tok_embeddings/weight": (16, 8),
        "wide/embedding": (16, 1),
        "stacked/embed/embedding": (3, 16, 8),
        "vit/pos_embedding": (1, 2, 2, 8),
        "relative_position_bias_table": (9, 2),
        "relative_attention_bias/embedding": (32, 2),
        "register_tokens": (1, 4, 8),
        "latents": (4, 8),
        "vq/codebook": (16, 8),
        "embed/kernel": (16, 8),
        "embed/lora_a": (16, 2),
        "embed_in": (16, 8),
        "encoder/position": (4, 8),
        "positional_encoding/weight": (4, 8),
    },
    "head": {
        "lm_head/kernel": (8, 16),
        "head/weight": (16, 8),
        "heads/policy/kernel": (8, 4),
        "heads/value/kernel": (8, 1),
        "LMHead_0/kernel": (8, 16),
        "mlp_head/layers_1/kernel": (8, 16),
        "head_linear/w": (8, 16),
        "logitdense/kernel": (8, 16),
        "logits/w": (8, 16),
        "classifier/dense/kernel": (8, 16),
        "unembed/w": (8, 16),
        "embed_out/kernel": (8, 16),
        "output_embedding": (8, 16),
        "readout/w": (8, 16),
        "output_layer/kernel": (8, 16),
        "fc_out/kernel": (8, 16),
        "W_out": (8, 16),
        "head/lora_a": (8, 1),
        "multi_task_head/kernel": (8, 4),
    },
    "vector": {
        "lm_head/bias": (16,),
        "attention/query/bias": (2, 4),
        "layers/norm1/weight": (3, 8),
        "layers/ln_2/weight": (3, 8),
        "layers/LayerNorm_0/scale": (3, 8),
        "layers/ls1/gamma": (3, 8),
        "layers/b": (3, 8),
        "conv/bias": (8, 1, 1),
        "mixer/A_log": (8, 4),
        "norm/g": (1, 8),
        "cls_token": (1, 1, 8),
        "embedding_scale": (3, 1),
        "position_bias": (1, 2, 4, 4),
        "logit_scale": (),
        "temperature": (3, 1),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_names(kind):
    # A layer besides, since a module that holds all says nothing.
    found = shaped(NAMED[kind] | {"besides/kernel": (4, 4)})
    assert {path: found[path] for path in NAMED[kind]} == dict.fromkeys(NAMED[kind], kind)
    assert all(name in KINDS for name in found.values())


def test_what_holds_all_parameters_says_nothing_of_a_part():
    assert shaped({"classifier/cnn/w": (3, 3, 1, 8), "classifier/b": (8,)}) == {
        "classifier/cnn/w": "matrix",
        "classifier/b": "vector",
    }
    assert shaped({"lm/dense/w": (8, 8), "lm/output/w": (8, 16)}) == {
        "lm/dense/w": "matrix",
        "lm/output/w": "head",
    }
    assert shaped({"head/kernel": (8, 16), "head/bias": (16,)})["head/kernel"] == "head"


def test_out_is_a_head_at_the_top_but_for_an_attention():
    attention = {f"{name}/kernel": (8, 2, 4) for name in ("query", "key", "value")}
    found = shaped(attention | {"out/kernel": (2, 4, 8), "lm_head/kernel": (8, 16)})
    assert found["out/kernel"] == "matrix"
    assert found["lm_head/kernel"] == "head"
    assert shaped({"dense/kernel": (8, 8), "out/kernel": (8, 2)})["out/kernel"] == "head"
    assert shaped({"a/out/w": (8, 8), "b/out/w": (8, 8)}) == {
        "a/out/w": "matrix",
        "b/out/w": "matrix",
    }


def test_containers_of_a_tree_do_not_matter():
    params = {
        "encoder": {
            "Embed_0": {"embedding": jnp.ones((4, 2))},
            "norm": {"scale": jnp.ones((3, 2))},
        },
        "logits": {"kernel": jnp.ones((2, 4))},
    }
    want = ["embedding", "vector", "head"]
    assert list(labels(params).values()) == want
    for other in (
        freeze(params),
        flatten_dict(params),
        flatten_dict(params, sep="/"),
        flatten_dict(params, sep="."),
        jax.eval_shape(lambda: params),
        jax.tree.map(np.asarray, params),
        jax.tree.map(lambda x: x.astype(jnp.bfloat16), params),
        jax.tree.map(lambda x: x.astype(jnp.complex64), params),
    ):
        assert jax.tree.leaves(learned_opt.tensor_kinds(other)) == want
    kinds = jax.jit(
        lambda p: jax.tree.map(lambda k, x: x * KINDS.index(k), learned_opt.tensor_kinds(p), p)
    )
    assert [int(x.max()) for x in jax.tree.leaves(kinds(params))] == [1, 3, 2]


def test_leaves_without_names_and_leaves_that_are_no_numbers():
    assert labels([(jnp.ones((3, 1)), jnp.ones(1)), None]) == {"0/0": "matrix", "0/1": "vector"}
    assert learned_opt.tensor_kinds(jnp.ones((2, 2))) == "matrix"
    assert learned_opt.tensor_kinds({}) == {}
    odd = {"key": KEY, "step": jnp.zeros((2, 2), int), "name": "w", "flag": True, "rate": 0.5}
    assert labels(odd) == dict.fromkeys(("key", "step", "name", "flag"), "untrained") | {
        "rate": "vector"
    }


def test_rules_go_before_the_table():
    params = {"Dense_0": {"kernel": jnp.ones((4, 4))}, "Dense_1": {"kernel": jnp.ones((4, 2))}}
    rules = {r"Dense_1/": "head", "kernel": "vector"}
    assert labels(params, rules) == {"Dense_0/kernel": "vector", "Dense_1/kernel": "head"}
    assert learned_opt.of_kind("head", rules)(params) == {
        "Dense_0": {"kernel": False},
        "Dense_1": {"kernel": True},
    }
    assert learned_opt.matrices(params) == learned_opt.of_kind(["matrix", "head"])(params)
    assert labels({"step": 3}, {"step": "matrix"}) == {"step": "untrained"}


def test_wrong_kinds_and_rules():
    for call, said in {
        lambda: learned_opt.of_kind("matrices"): "'matrices' is no kind of tensor; did you mean",
        lambda: learned_opt.of_kind(("matrix", 3)): "3 is no kind",
        lambda: learned_opt.of_kind(None): "None is no kind",
        lambda: learned_opt.of_kind(()): "no kind of tensor, allowed are matrix, embedding",
        lambda: learned_opt.of_kind("matrix", {"w": "had"}): "rules: 'had' is no kind",
        lambda: learned_opt.tensor_kinds({}, {"(": "head"}): "rules: no regular expression",
        lambda: learned_opt.tensor_kinds({}, [("w", "head")]): "rules must be a dict",
    }.items():
        with pytest.raises(ValueError, match=said):
            call()
