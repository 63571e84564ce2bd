"""Small copies of the figures of results, for `docs/figures/gallery`."""

import io
from pathlib import Path

from PIL import Image

MOST_BYTES = 100_000
WIDTHS, COLORS = (1500, 1300, 1100, 900, 700), (256, 128)
MAIN = {
    "outer_landscape": "figure_2",
    "truncation_bias": "noisy_quadratic",
    "gradient_variance": "double_well",
    "nqm_horizons": "horizons",
    "step_size_meta_gradient": "meta_gradient",
    "offline_smd": "curves",
    "lr_schedules": "figure_2",
    "image_classification_schedules": "vgg_sgdm",
}
"""Experiment -> the one of its figures that is named like it; others have their own name behind."""


def copy_figures(results: Path, name: str, folder: Path) -> list[Path]:
    """Copies the figures of one result as `NAME.png` and `NAME_FIGURE.png`.

    Args:
      results: holds a folder for each result.
      name: of the result.
      folder: of the copies.

    Returns:
      The copies; none where there is no such result.
    """
    found = sorted((results / name).glob("*.png"))
    copies = []
    for path in found:
        is_main = path.stem == MAIN.get(name, path.stem if path == found[0] else None)
        copies.append(folder / f"{name}{'' if is_main else f'_{path.stem}'}.png")
        folder.mkdir(parents=True, exist_ok=True)
        copies[-1].write_bytes(small(path))
    return copies


def small(path: Path) -> bytes:
    """The picture with as many points and colours as `MOST_BYTES` have room for.

    Raises:
      ValueError: it has no room even for the fewest.
    """
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    for width in WIDTHS:
        size = min(width, whole.width)
        scaled = whole.resize((size, round(whole.height * size / whole.width)), Image.LANCZOS)
        for colors in COLORS:
            buffer = io.BytesIO()
            # Dithering would cost more bytes than it hides steps between colours.
            # An octree keeps the colours of thin lines, which a median cut drops.
            few = scaled.quantize(colors, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            few.save(buffer, "PNG", optimize=True)
            if buffer.tell() <= MOST_BYTES:
                return buffer.getvalue()
    raise ValueError(f"{path} has no copy of {MOST_BYTES:,} bytes or less")
