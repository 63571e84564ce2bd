"""What to say of a name that is none."""

import difflib


def near_names(name: str, names: list[str]) -> str:
    """A hint for a mistyped name: the near ones, or all of them when none is near."""
    near = difflib.get_close_matches(name[:200], names, n=3)
    return (
        f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(names) or 'none'}"
    )
