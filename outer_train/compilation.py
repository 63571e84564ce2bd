"""Options of XLA's compiler that pay for vmapped inner training on a CPU, given program by program."""

import functools
import os

import jax

_OPTIONS: dict[str, str | int] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "xla_cpu_prefer_vector_width": 512,
}


@functools.cache
def compiler_options() -> dict[str, str | int]:
    """For the `compiler_options` of `jax.jit` around a program of many particles; empty where they have no use.

    On a CPU, XLA hands chains of products and elementwise operations to YNNPACK as one graph. For the small batched
    products of vmapped inner problems such a graph takes 2 to 10 times as long as its operations one by one, which is
    what this asks for; and for the widest vectors the CPU has, where XLA prefers half of that. A choice in `XLA_FLAGS`
    is left alone, and so is a JAX that does not know an option.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {name: value for name, value in _OPTIONS.items() if name not in os.environ.get("XLA_FLAGS", "")}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # options of JAX 0.10
        return {}
    return options
