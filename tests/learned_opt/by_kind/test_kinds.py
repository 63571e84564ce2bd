"""Kinds of tensors by names and shapes, and rules that a user puts before the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from flax.traverse_util import flatten_dict

import learned_opt
from learned_opt.kinds import KINDS
from tests.support.learned_opt.by_kind import labels, shaped

KEY = jax.random.key(0)

NAMED = {
    "matrix": {
        "w": (3, 2),
        "layers_0/kernel": (3, 1),
        "blocks/MultiHeadAttention_0/out/kernel": (2, 4, 8),
        "blocks/multi_head/proj/w": (8, 8),
        "blocks/attn/o_proj/weight": (8, 8),
        "blocks/talking_heads": (4, 4),
        "blocks/attn/q_heads/kernel": (8, 4, 2),
        "blocks/attn/kv_heads/kernel": (8, 2, 2, 2),
        "grouped/attn/query_heads": (8, 4, 2),
        "grouped/attn/key_value_heads": (8, 2, 2),
        "cross/attn/q_head/weight": (8, 8),
        "cross/attn/kv_head/weight": (8, 4),
        "experts/b_proj": (3, 8),
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
        "agent/value_head/kernel": (8, 1),
        "agent/q_head/kernel": (8, 4),
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
        **dict.fromkeys(("layers/attention_norm", "layers/ffn_norm", "layers/ln_attn"), (3, 8)),
        **dict.fromkeys(("layers/norm", "layers/norm_weight", "layers/ln1_w"), (3, 8)),
        **dict.fromkeys(("layers/norm_g", "layers/attn_norm_w", "layers/pre_norm/gain"), (3, 8)),
        **dict.fromkeys(("layers/mlp_norm", "blocks/mlp_norm/weight", "layers/rms_1"), (3, 8)),
        **dict.fromkeys(("attn/bq", "attn/bk", "attn/bv", "attn/bo"), (3, 4, 2)),
        **dict.fromkeys(("experts/bi", "experts/bo", "experts/b_in", "experts/b_out"), (3, 8)),
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
