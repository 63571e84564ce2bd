"""The most a device can do: float32 and bfloat16 products, and bytes to and from its memory.

Of known devices from their makers' datasheets; of others as a large product and a copy reach it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_lab.bench.timing import median_seconds

LARGE = {"cpu": 2048}
"""Rows of the products that measure a platform; 8,192 on those not named."""


class Peaks(NamedTuple):
    """Of one device.

    Attributes:
      float32_flops: float32 operations a second, outside tensor cores.
      bfloat16_flops: the same of dense products of bfloat16, in tensor cores where there are some.
      bytes_per_second: read and written, of its memory.
      source: a datasheet, or `"measured"`.
    """

    float32_flops: float
    bfloat16_flops: float
    bytes_per_second: float
    source: str


def _of_datasheet(name: str, float32: float, bfloat16: float, gigabytes: float) -> Peaks:
    return Peaks(float32 * 1e12, bfloat16 * 1e12, gigabytes * 1e9, f"NVIDIA {name} datasheet")


KNOWN: dict[str, Peaks] = {
    "NVIDIA H200": _of_datasheet("H200", 66.9, 989.4, 4800),
    "NVIDIA H100 80GB HBM3": _of_datasheet("H100", 66.9, 989.4, 3350),
    "NVIDIA H100 PCIe": _of_datasheet("H100", 51.2, 756, 2000),
    "NVIDIA A100-SXM4-80GB": _of_datasheet("A100", 19.5, 312, 2039),
    "NVIDIA A100 80GB PCIe": _of_datasheet("A100", 19.5, 312, 1935),
    "NVIDIA A100-SXM4-40GB": _of_datasheet("A100", 19.5, 312, 1555),
    "NVIDIA A100-PCIE-40GB": _of_datasheet("A100", 19.5, 312, 1555),
    "NVIDIA L40S": _of_datasheet("L40S", 91.6, 362.05, 864),
    "NVIDIA L4": _of_datasheet("L4", 30.3, 121, 300),
}
"""By `jax.Device.device_kind`; without sparsity, which datasheets like to count in."""


def peaks_of(device: jax.Device, num_repeats: int = 10, size: int | None = None) -> Peaks:
    """The datasheet's where the device is known, else the measured ones.

    Args:
      device: one that JAX has.
      num_repeats: timings of each measurement, of which the median counts.
      size: rows of the products; by the platform if not given.
    """
    return KNOWN.get(device.device_kind) or measured_peaks(device, num_repeats, size)


def measured_peaks(device: jax.Device, num_repeats: int = 10, size: int | None = None) -> Peaks:
    """What products of square matrices and a copy of as many numbers as eight of them reach;
    arguments as for `peaks_of`.
    """
    size = size or LARGE.get(device.platform, 8192)
    product = lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST)
    operations = 2 * size**3
    with jax.default_device(device):
        x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
        float32 = operations / _seconds(product, x, num_repeats)
        bfloat16 = operations / _seconds(product, x.astype(jnp.bfloat16), num_repeats)
        many = jnp.zeros((8, size, size), jnp.float32)
        # A sign, so that XLA cannot leave the copy out.
        copied = 2 * many.nbytes / _seconds(jnp.negative, many, num_repeats)
    return Peaks(float32, bfloat16, copied, "measured")


def _seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array, num_repeats: int) -> float:
    run = jax.jit(function)
    return median_seconds(lambda: run(x), num_repeats)


def shares_of_flops(flops: float, peaks: Peaks, num_devices: int = 1) -> dict[str, float]:
    """Operations a second of so many devices as shares of both peaks."""
    return {
        "share_of_float32_peak": flops / (num_devices * peaks.float32_flops),
        "share_of_bfloat16_peak": flops / (num_devices * peaks.bfloat16_flops),
    }


def share_of_bandwidth(bytes_per_second: float, peaks: Peaks) -> dict[str, float]:
    """Bytes a second of one device as a share of its memory's."""
    return {"share_of_bandwidth": bytes_per_second / peaks.bytes_per_second}
