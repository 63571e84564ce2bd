"""Options of XLA's compiler that pay for vmapped inner training on a CPU, given program by program."""

import functools
import os

import jax

_FUSION_OPTION = "xla_cpu_experimental_ynn_fusion_type"


@functools.cache
def compiler_options() -> dict[str, str]:
    """For the `compiler_options` of `jax.jit` around a program of many particles; empty where they have no use.

    On a CPU, XLA hands chains of products and elementwise operations to YNNPACK as one graph. For the small batched
    products of vmapped inner problems such a graph takes 2 to 10 times as long as its operations one by one, which is
    what this asks for. A choice in `XLA_FLAGS` is left alone, and so is a JAX that does not know the option.
    """
    if jax.default_backend() != "cpu" or _FUSION_OPTION in os.environ.get("XLA_FLAGS", ""):
        return {}
    options = {_FUSION_OPTION: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # an option of JAX 0.10 on
        return {}
    return options
