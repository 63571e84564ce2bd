"""Kinds of tensors: hidden matrices, embeddings, heads and vectors, told apart by path and shape.

What is known of a tensor's part in a network, optimizers use: Muon is for hidden matrices, and
embeddings, heads and vectors are left to AdamW (Jordan 2024, https://kellerjordan.github.io/posts/muon).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from learned_opt.hints import near_names
from learned_opt.trees.tensor_names import Tensor, Words, is_projection, tensors

KINDS = ("matrix", "embedding", "head", "vector")
UNTRAINED = "untrained"
"""Label of what is no floating-point number: functions, keys, counters."""

# What the words of a name mean; tensor_kinds says where each is looked for.
_SCALES = {
    (word,)
    for word in ("beta", "gain", "gamma", "offset", "scale", "shift", "slope", "temperature")
}
_BIASES = {("b",), ("g",), ("b", "in"), ("b", "out"), *((f"b{part}",) for part in "ikoqv")}
_TABLES = {
    *("codebook", "latents", "prompt", "prompts", "registers", "table", "tok", "tokens", "vocab"),
    *("wpe", "wte"),
}
_POSITIONS = {"pos", "position", "positional", "positions"}
_NORMS = {"bn", "gn", "ln", "rms"}
_ATTENTIONS = {"attention", "attn", "multi", "talking"}
_PRODUCTS = {"conv", "dense", "fc", "linear", "mapping", "mlp", "proj", "project", "projection"}
_LAYERS = _PRODUCTS | {"layer", "layers"}
_WEIGHTS = {"kernel", "w", "weight", "weights"}
_GENERIC = _LAYERS | _WEIGHTS | {"array", "param", "params", "value"}
_OUTPUTS = {"final", "last", "out", "output", "outputs"}
_HEADS = ("classif", "lmhead", "logit", "readout", "unembed")
"""How words begin that mean the layer which gives the model's outputs."""


def tensor_kinds(params: Any, rules: Mapping[str, str] | None = None) -> Any:
    """The kind of every tensor, as labels that `optax.partition` takes.

    The first line that fits decides. A tensor's own name is the last of its path, a module's those
    before. Names are looked at word by word, so that `LayerNorm_0` and `layer_norm` are the same,
    and modules that hold all parameters do not count.

    1. No floating or complex number (a function, a PRNG key, a counter): `"untrained"`.
    2. A rule of yours fits: what that says.
    3. At most one axis: vector.
    4. In a module of class `Embedding` or `Embed`: embedding; in a norm: vector (Equinox, NNX).
    5. Its own name ends as that of a table, `embedding`, `pos_embedding`, `wte`: embedding.
    6. Its own name is that of a bias or scale, `bias`, `b`, `bq`, `scale`, `offset`, `gamma`,
       `A_log`, or of a norm, `attn_norm`, `ln1_w`, or it is the weight of a norm; of any shape, as
       in attention and stacked layers: vector.
    7. Its own name tells of a table or of positions otherwise, `embed_in`, `position_codes`:
       embedding.
    8. Its own or a module's name is that of a head, `head`, `lm_head`, `logits`, `classifier`,
       `unembed`, `readout`, but for heads with queries and keys, and those of an attention,
       `q_heads`: head. So are `out`, `output_layer`, `fc_out` at the top of the model, but for the
       output of an attention.
    9. At most three axes, and its module's name is that of a table, `embed/kernel`,
       `embed_tokens.weight`: embedding. The kernel of a convolution, such as `patch_embed`, is
       none.
    10. At most one axis is longer than 1, and its name is not that of a layer's weights,
       `cls_token`: vector.
    11. All else, kernels of dense layers, attention, convolutions, recurrent cells and experts,
       each also stacked along more axes, and factors of LoRA: matrix.

    A factor of LoRA is of the kind of the layer it adds to, and a tied embedding an embedding. An
    output layer that only a number tells apart (`Dense_1`) is a matrix: name it, or give a rule.

    Args:
      params: parameters, or gradients, as arrays or `jax.ShapeDtypeStruct`s: nested or flat dicts
        of Flax Linen and Haiku, an `nnx.State`, an Equinox module with functions and None in it.
      rules: regular expression -> kind, for what the table gets wrong. Expressions are searched in
        the path, `"layers/0/attention/kernel"`; the first that is found decides.

    Returns:
      The tree of params, with a label at every leaf.

    Raises:
      ValueError: for an unknown kind in rules, or what is no regular expression.

    Example:
      >>> tensor_kinds({"Embed_0": {"embedding": jnp.ones((9, 4))}, "w": jnp.ones((4, 4))})
      {'Embed_0': {'embedding': 'embedding'}, 'w': 'matrix'}
    """
    compiled = _compiled(rules or {})
    labels = [UNTRAINED if t is None else _kind(t, compiled) for t in tensors(params)]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def of_kind(
    kinds: str | Iterable[str], rules: Mapping[str, str] | None = None
) -> Callable[[Any], Any]:
    """A mask of the tensors of some kinds, for `learned_opt.load(only=)`, `optax.masked` and a
    `mask=` of Optax.

    Args:
      kinds: one or several of `"matrix"`, `"embedding"`, `"head"` and `"vector"`.
      rules: as in `tensor_kinds`.

    Returns:
      A function from parameters to their tree with bools as leaves.

    Raises:
      ValueError: for an unknown kind, or rules as in `tensor_kinds`.

    Example:
      >>> mask = of_kind(("matrix", "head"), rules={"readout": "head"})
    """
    names = check_kinds("kinds", kinds)
    _compiled(rules or {})
    return lambda params: jax.tree.map(lambda kind: kind in names, tensor_kinds(params, rules))


def matrices(params: Any) -> Any:
    """`of_kind("matrix")`: True at hidden matrices, convolutions' kernels among them.

    Example:
      >>> matrices({"Dense_0": {"bias": jnp.ones(4), "kernel": jnp.ones((4, 4))}})
      {'Dense_0': {'bias': False, 'kernel': True}}
    """
    return of_kind("matrix")(params)


def check_kinds(what: str, kinds: str | Iterable[str]) -> frozenset[str]:
    """The names as a set.

    Raises:
      ValueError: for a name that is no kind, or none at all.
    """
    names = tuple(kinds) if isinstance(kinds, Iterable) and not isinstance(kinds, str) else (kinds,)
    for name in names:
        if name not in KINDS:
            hint = near_names(name, list(KINDS)) if isinstance(name, str) else f"known are: {KINDS}"
            raise ValueError(f"{what}: {name!r} is no kind of tensor; {hint}")
    if not names:
        raise ValueError(f"{what}: got no kind of tensor, allowed are {', '.join(KINDS)}")
    return frozenset(names)


def _compiled(rules: Mapping[str, str]) -> list[tuple[re.Pattern, str]]:
    if not isinstance(rules, Mapping):
        raise ValueError(f"rules must be a dict, expression -> kind, got {type(rules).__name__}")
    for kind in rules.values():
        check_kinds("rules", (kind,))
    try:
        return [(re.compile(expression), kind) for expression, kind in rules.items()]
    except (re.error, TypeError) as error:
        raise ValueError(f"rules: no regular expression: {error}") from error


def _kind(t: Tensor, rules: list[tuple[re.Pattern, str]]) -> str:
    for expression, kind in rules:
        if expression.search(t.path):
            return kind
    if len(t.shape) <= 1:
        return "vector"
    if t.class_name:
        return "embedding" if t.class_name.startswith("Embed") else "vector"
    is_head_name = _is_head_name(t.own)
    if _is_table(t.own[-1:]) and not is_head_name:
        return "embedding"
    if _is_vector(t):
        return "vector"
    if _is_table(t.own) and not is_head_name:
        return "embedding"
    if _is_head(t):
        return "head"
    if len(t.shape) <= 3 and _is_generic(t.own) and _is_table(t.module):
        return "embedding"
    is_vector = sum(n > 1 for n in t.shape) <= 1 and not (_is_generic(t.own) or _is_weight(t.own))
    return "vector" if is_vector else "matrix"


def _is_generic(own: Words) -> bool:
    """Whether a name says no more than that a layer has it; a factor of LoRA is its layer's."""
    return set(own) <= _GENERIC or "lora" in own


def _is_weight(own: Words) -> bool:
    return not _WEIGHTS.isdisjoint(own)


def _is_table(name: Words) -> bool:
    words = set(name)
    named = words & (_TABLES | _POSITIONS) or any(word.startswith("emb") for word in name)
    return bool(named) and not words & _PRODUCTS and not _is_norm(name)


def _is_norm(name: Words) -> bool:
    named = set(name) & _NORMS or any(word.endswith("norm") for word in name)
    is_last = name[-1:] and name[-1].endswith("norm")
    return bool(named) and (bool(is_last) or not set(name) & _PRODUCTS)


def _is_vector(t: Tensor) -> bool:
    named = {"bias", "biases", "log"} & set(t.own) or t.own in _BIASES
    of_norm = _is_norm(t.module) and set(t.own) <= _GENERIC - {"kernel"}
    is_norm = _is_norm(t.own) and "kernel" not in t.own
    return bool(named) or t.own[-1:] in _SCALES or of_norm or is_norm


def _is_head_name(name: Words) -> bool:
    bare = [word for word in name if word not in _LAYERS]
    is_head = bare[-1:] in (["head"], ["heads"]) and _ATTENTIONS.isdisjoint(bare[-2:])
    is_output = not _OUTPUTS.isdisjoint(name) and any(word.startswith("emb") for word in name)
    return is_head or is_output or any(word.startswith(_HEADS) for word in name)


def _is_head(t: Tensor) -> bool:
    """By any name of its path; a module with queries and keys is a head of an attention, and what
    is named as those beside others of them is its projection to all heads.
    """
    insides = (*t.is_attention[1:], False)
    for name, around, inside in zip((*t.modules, t.own), t.is_attention, insides, strict=True):
        of_attention = inside or (around and is_projection(name))
        if _is_head_name(name) and not of_attention:
            return True
    layers = t.modules if _is_generic(t.own) else (*t.modules, t.own)
    words = set(layers[0]) if len(layers) == 1 else set()
    is_output = words & _OUTPUTS and words <= _OUTPUTS | _GENERIC
    return bool(is_output) and not t.is_attention[0]
