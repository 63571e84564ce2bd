"""From the command line to dataclasses:
tyro, with its errors as plain `ValueError`s of a few lines.
"""

import contextlib
import dataclasses
import difflib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from configs.base import TrainConfig
from learned_opt_lab.runs import catalog

ERROR_COLUMNS = 300
TOP_LEVEL = ("config", "engine")
"""Fields whose own fields stand at the top level of the command line."""
LARGE = ("seed", "split_seed", "num_inner_steps")
"""Numbers that are no counts of an array or a loop."""
T = TypeVar("T")
C = TypeVar("C", bound="ConfigArgs")
ConfigFields = Annotated[TrainConfig, tyro.conf.arg(name="")]
"""A field of this type puts the config's fields at the top level: `--seed`, `--estimator.std`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigArgs:
    """What commands that take a CONFIG share."""

    config: ConfigFields
    """The run."""
    config_name: tyro.conf.Suppress[str]
    """CONFIG's name."""
    config_file: tyro.conf.Suppress[Path | None]
    """The user's own file."""
    num_devices: int | None = None
    """Devices the particles are spread over; must divide their number.
    If not given, the most that do; on CPU one a core."""
    compilation_cache: bool = True
    """Keep compiled programs under the user's cache directory, for a quicker next start."""


class HelpShown(Exception):
    """The help was asked for, and printed."""


def parse(cls: type[T], argv: list[str], prog: str, default: T | None = None) -> T:
    """Reads `argv` into the dataclass `cls`.

    Args:
      cls: a frozen dataclass whose fields have docstrings.
      argv: without the program's name.
      prog: shown in the help.
      default: values of the fields that are not given.

    Raises:
      ValueError: for options that do not exist (naming near ones), or values that do not fit.
      HelpShown: after `--help`.
    """
    given = {} if default is None else {"default": default}
    errors = io.StringIO()
    lines_end_themselves = contextlib.nullcontext() if {"-h", "--help"} & set(argv) else _wide()
    try:
        with contextlib.redirect_stderr(errors), lines_end_themselves:
            return _checked(
                tyro.cli(
                    cls, args=argv, prog=prog, config=(tyro.conf.CascadeSubcommandArgs,), **given
                )
            )
    except SystemExit as end:
        if not end.code:
            raise HelpShown from None
        raise ValueError(_reshape(errors.getvalue(), prog)) from None


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    """Errors are read again by `_reshape`:
    they are not broken into the lines of a narrow terminal.
    """
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(ERROR_COLUMNS)
    try:
        yield
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _checked(args: T, prefix: str = "--") -> T:
    """Refuses numbers that do not fit into the 32 bits in which steps are counted,
    or the 64 of a seed.
    """
    for field in dataclasses.fields(args) if dataclasses.is_dataclass(args) else ():
        value, name = getattr(args, field.name), field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            _checked(value, prefix if field.name in TOP_LEVEL else f"{prefix}{name}.")
        numbers = value if isinstance(value, tuple) else (value,)
        limit = 2**63 if field.name in LARGE else 2**31
        if wrong := [n for n in numbers if isinstance(n, int) and not -limit <= n < limit]:
            raise ValueError(f"{prefix}{name} must be within {-limit}..{limit - 1}, got {wrong[0]}")
    return args


def parse_with_config(cls: type[C], argv: list[str], prog: str) -> C:
    """Reads `CONFIG [--field value ...]`:
    the config named first gives the defaults of all its fields.

    Args:
      cls: a frozen dataclass; what it has beyond `ConfigArgs` has defaults.
      argv: its first entry is CONFIG.
      prog: shown in the help.

    Raises:
      ValueError: as `parse`, and for an unknown config.
      HelpShown: after `--help`.
    """
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        raise ValueError(
            f"{prog} needs a config first: {prog} CONFIG [--field value ...]\n{_known()}"
        )
    if argv[0] in ("-h", "--help"):
        default = cls(config=TrainConfig(), config_name="", config_file=None)
        return parse(cls, ["--help"], f"{prog} CONFIG", default)
    config, config_file = catalog.load(argv[0])
    name = Path(argv[0]).stem if config_file else argv[0]
    default = cls(config=config, config_name=name, config_file=config_file)
    return parse(cls, _kinds_first(argv[1:]), f"{prog} {argv[0]}", default)


def _kinds_first(argv: list[str]) -> list[str]:
    """Choices of a kind, as `estimator:merged`, before the flags:
    the first flag of a kind would choose the default.
    """
    fields = [field.name for field in dataclasses.fields(TrainConfig)]
    kinds = [token for token in argv if token.partition(":")[0] in fields and ":" in token]
    return kinds + [token for token in argv if token not in kinds]


def _known() -> str:
    return (
        f"known are {', '.join(catalog.CONFIGS)}, and the path of a .py file that defines `config`"
    )


def _reshape(boxed: str, prog: str) -> str:
    """tyro's boxed message as at most three lines:
    what is wrong, the nearest options, where the help is.
    """
    sections: list[list[str]] = [[]]
    for line in boxed.strip("\n").splitlines()[1:]:  # after the box's title
        content = re.sub(r"^\s*[│|╰+]|[│|╯+]\s*$", "", line)
        if re.fullmatch(r"[\s─-]*", content):
            sections.append([])
        else:
            sections[-1].append(content.rstrip())
    first, *rest = (section for section in sections if section)
    what = " ".join(line.strip() for line in first)
    hint = _nearest(what, "\n".join(line for section in rest for line in section))
    return "\n".join([what, *hint, f"see {prog} --help"])


def _nearest(what: str, rest: str) -> list[str]:
    """A line with the names near to the ones that do not exist, if there are any."""
    if not what.lower().startswith("unrecognized"):
        return []
    kinds = re.findall(r"[\w.-]+:[\w-]+", rest)
    near = re.findall(r"^\s{2,}(--[\w.-]+)", rest, re.MULTILINE)
    for token in re.findall(r"[\w.-]+:[\w-]+", what.partition(":")[2]):
        near += difflib.get_close_matches(token, kinds, n=3)
    return [f"did you mean {', '.join(dict.fromkeys(near[:3]))}?"] if near else []
