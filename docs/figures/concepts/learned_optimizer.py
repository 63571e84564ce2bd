"""Draws `learned_optimizer.svg`, beside this file: a learned optimizer beside Adam, in one picture.

    python docs/figures/concepts/learned_optimizer.py

Pure text, so that the drawing is the same wherever it is made.
"""

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 760, 312
INK, GREY, BLUE, ORANGE = "#1f2937", "#6b7280", "#0b6cb0", "#b45f06"
FILLS = {INK: "#fff", BLUE: "#eef6fc", ORANGE: "#fdf3e7"}


def text(x: float, y: float, content: str, color: str = INK, size: int = 15, **style: str) -> str:
    """One centred line."""
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" fill="{color}" font-size="{size}"{extra}>'
        f"{escape(content)}</text>"
    )


def box(x: float, y: float, width: float, height: float, lines: list[str], color: str) -> str:
    """A rounded box; the first of its lines is bold where there are several."""
    top = y + height / 2 + 5 - 10 * (len(lines) - 1)
    shown = [
        text(
            x + width / 2,
            top + 20 * i,
            line,
            color,
            15 if i == 0 else 13,
            **({"font_weight": "bold"} if i == 0 and len(lines) > 1 else {}),
        )
        for i, line in enumerate(lines)
    ]
    frame = (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{FILLS[color]}" '
        f'stroke="{color}" stroke-width="1.6"/>'
    )
    return "\n".join([frame, *shown])


def arrow(path: str, color: str = INK) -> str:
    """A path with a head at its end."""
    return (
        f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.7" '
        f'marker-end="url(#{color[1:]})"/>'
    )


def head(color: str) -> str:
    """The head of arrows of a colour."""
    return (
        f'<marker id="{color[1:]}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{color}"/></marker>'
    )


def lane(y: float, rule: list[str], color: str) -> list[str]:
    """Gradients go into a rule, a step comes out."""
    middle = y + 30
    return [
        box(30, y + 6, 150, 48, ["gradients so far"], INK),
        arrow(f"M180 {middle} L254 {middle}"),
        box(256, y, 250, 60, rule, color),
        arrow(f"M506 {middle} L564 {middle}"),
        box(566, y + 6, 166, 48, ["step of a parameter"], INK),
    ]


def drawing() -> str:
    """The whole file."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="Helvetica, Arial, sans-serif">',
        "<title>Adam is a formula; a learned optimizer is a small trained network</title>",
        f"<defs>{''.join(map(head, (INK, BLUE, ORANGE)))}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *lane(20, ["Adam", "a formula that people wrote"], INK),
        *lane(116, ["learned optimizer", "a small network with weights \u03b8"], BLUE),
        box(256, 236, 250, 60, ["outer-training, once", "thousands of small tasks"], ORANGE),
        arrow("M330 176 L330 234", BLUE),
        text(268, 210, "losses of its runs", BLUE, 13),
        arrow("M432 236 L432 178", ORANGE),
        text(484, 210, "better \u03b8", ORANGE, 13),
        text(649, 262, "the same \u03b8 for every", GREY, 13),
        text(649, 280, "parameter of every model", GREY, 13),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(drawing(), encoding="utf-8")
