"""Small copies of the figures of results, in `docs/figures/gallery` and on the gallery's page."""

import io
import re
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
"""Experiment -> its figure for the gallery, where that is not the first by name."""


def copy_figures(results: Path, name: str, folder: Path) -> list[Path]:
    """Copies the figures of one result, the gallery's as `NAME.png`, others as `NAME_FIGURE.png`.

    Args:
      results: holds a folder for each result.
      name: of the result.
      folder: of the copies.

    Returns:
      The copies, the gallery's first; none where there is no such result.
    """
    main = MAIN.get(name)
    found = sorted((results / name).glob("*.png"), key=lambda p: (p.stem != main, p.stem))
    copies = []
    for i, path in enumerate(found):
        copies.append(folder / f"{name}_{path.stem}.png" if i else folder / f"{name}.png")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            copies[-1].write_bytes(small(path.read_bytes()))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return copies


def small(picture: bytes) -> bytes:
    """The picture with as many points and colours as `MOST_BYTES` have room for.

    Raises:
      ValueError: it has no room even for the fewest.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        whole = opened.convert("RGB")
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
    raise ValueError(f"there is no copy of {MOST_BYTES:,} bytes or less")


_CARD = re.compile(
    r"(^:::\{grid-item-card\} (?:[^\n:]*: )?([^\n]*)\n)((?:(?!^:::).)*?)"
    r"`learned-opt reproduce (\w+) --out DIR`",
    re.MULTILINE | re.DOTALL,
)
"""Head, title, what comes before the command, and the experiment of a card of the gallery."""


def with_figures(gallery: str, folder: Path) -> str:
    """The gallery's page, with the figure of each card that has none and whose copy is there."""

    def filled(card: re.Match[str]) -> str:
        head, title, body, name = card.groups()
        if "![" in body or not (folder / f"{name}.png").exists():
            return card[0]
        figure = f"![{title[0].upper()}{title[1:]}](../figures/gallery/{name}.png)"
        return f"{head}{figure}\n\n{body}`learned-opt reproduce {name} --out DIR`"

    return _CARD.sub(filled, gallery)
