"""From the command line to dataclasses; what does not fit is a `ValueError` of one line."""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from configs.base import TrainConfig
from learned_opt_lab.cli.options import page, values
from learned_opt_lab.cli.options.fields import (
    AtTop,
    Choice,
    Hidden,
    Option,
    Table,
    default_of,
    opposite_of,
    table_of,
)
from learned_opt_lab.runs import catalog
from learned_opt_lab.runs.config_json import from_json, to_json

TOP_LEVEL = ("config", "engine")
"""Fields whose own fields stand at the top level of the command line."""
LARGE = ("seed", "seeds", "split_seed", "num_inner_steps")
"""Numbers that are no counts of an array or a loop."""
ASKS_FOR_HELP = ("-h", "--help", page.ALL)
NUMBER = re.compile(r"-[\d.]|-inf$|-nan$")
"""A word that begins with a dash, and is none of an option."""
T = TypeVar("T")
C = TypeVar("C", bound="ConfigArgs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigArgs:
    """What commands that take a CONFIG share."""

    usual: ClassVar[tuple[str, ...]] = ()

    config: AtTop[TrainConfig]
    """The run."""
    config_name: Hidden[str]
    """CONFIG's name."""
    config_file: Hidden[Path | None]
    """The user's own file."""
    num_devices: int | None = None
    """Devices the particles are spread over; must divide their number.
    If not given, the most that do; on CPU one a core."""
    compilation_cache: bool = True
    """Keep compiled programs under the user's cache directory, for a quicker next start."""


class HelpShown(Exception):
    """The help was asked for, and printed."""


def parse(cls: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
    """Reads `argv` into the dataclass `cls`.

    Args:
      cls: a frozen dataclass whose fields have docstrings. Its `usual`, if it has one, names the
        flags that `--help` explains; `--help-all` explains all.
      argv: without the program's name.
      prog: shown in the help.
      default: values of the fields that are not given.

    Raises:
      ValueError: for options that do not exist, naming near ones, or values that do not fit.
      HelpShown: after `--help` and `--help-all`.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Args:
      ...     num_seeds: int = 5
      >>> parse(Args, ["--num-seeds", "3"], "prog")
      Args(num_seeds=3)
    """
    words = _one_flag_a_word(argv)
    table = table_of(cls, default)
    chosen = _chosen(table.choices, words)
    if chosen:
        default = _with(cls, default, {c.path: c.kinds[w]() for c, w in chosen})
        table = table_of(cls, default)
    if any(word in ASKS_FOR_HELP for word in words):
        print(page.page(cls, table, prog, everything=page.ALL in words))
        raise HelpShown
    rest = [word for word in words if not _chosen_by(word, table.choices)]
    found = _read(table, rest, prog)
    given = {each.path for each in table.options if each.default is not dataclasses.MISSING}
    if missing := [each for each in table.options if each.path not in found.keys() | given]:
        needs = " and ".join(page.usage_of(each) for each in missing)
        raise ValueError(f"{prog} needs {needs}; see {prog} --help")
    return _checked(_with(cls, default, found))


def _one_flag_a_word(argv: Sequence[str]) -> list[str]:
    """`--a_b=c` as two words, `--a-b` and `c`."""
    words: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if word.startswith("--"):
            words += [flag.replace("_", "-"), *([value] if equals else [])]
        else:
            words.append(word)
    return words


def _chosen(choices: list[Choice], words: list[str]) -> list[tuple[Choice, str]]:
    """Fields whose kind is named and is another than the default's; the last word counts."""
    found = {}
    for word in words:
        if choice := _chosen_by(word, choices):
            kind = word.partition(":")[2].replace("_", "-")
            if kind not in choice.kinds:
                near = difflib.get_close_matches(kind, choice.kinds, n=3, cutoff=0.4)
                names = [f"{choice.name}:{each}" for each in near or choice.kinds]
                hint = "did you mean" if near else "known are"
                raise ValueError(f"unknown choice {word!r:.200}; {hint} {', '.join(names)}?")
            found[choice.path] = (choice, kind)
    return [(choice, kind) for choice, kind in found.values() if kind != choice.word]


def _chosen_by(word: str, choices: list[Choice]) -> Choice | None:
    name = word.partition(":")[0].replace("-", "_")
    return next((each for each in choices if ":" in word and each.name == name), None)


def _read(table: Table, words: list[str], prog: str) -> dict[tuple[str, ...], Any]:
    """Path -> value of what is given."""
    found: dict[tuple[str, ...], Any] = {}
    bare: list[str] = []
    while words:
        word = words.pop(0)
        if not _is_flag(word):
            bare.append(word)
            continue
        option, value = _option_of(word, table, prog)
        if value is None:
            value = values.convert(word, *_taken(word, option, words))
        if option.path in found and isinstance(value, dict):
            value = {**found[option.path], **value}
        found[option.path] = value
    return found | _read_positional(table.positional, bare, prog)


def _is_flag(word: str) -> bool:
    return word.startswith("-") and word != "-" and not NUMBER.match(word)


def _option_of(flag: str, table: Table, prog: str) -> tuple[Option, bool | None]:
    """The option, and the value of one that takes no word."""
    flags = table.flags
    positive = flags.get(re.sub(r"(^--|\.)no-(?=[^.]*$)", r"\1", flag))
    if positive is not None and positive.hint is bool:
        return positive, flag == positive.flag
    if flag in flags:
        return flags[flag], None
    known = [*flags, *page.COMMON]
    near = difflib.get_close_matches(flag, known, n=3, cutoff=0.7)
    others = [
        f"{choice.name}:{word}"
        for choice in table.choices
        for word, kind in choice.kinds.items()
        if flag in table_of(kind).flags_below(choice.name)
    ]
    if others:
        raise ValueError(f"{flag} is an option of {' and '.join(others)}; choose it first")
    hint = f"did you mean {', '.join(near)}?" if near else f"see {prog} {page.ALL}"
    raise ValueError(f"unknown option {flag:.200}; {hint}")


def _taken(flag: str, option: Option, words: list[str]) -> tuple[Any, list[str]]:
    """The option's type, and its words, taken from the front of `words`."""
    size = values.num_words(option.hint)
    number = next((i for i, word in enumerate(words) if _is_flag(word)), len(words))
    if size is not None and words[:1] == [values.NONE] and number:
        size = 1
    # Where nothing is the default, an option that says nothing is a mistake.
    least = int(not option.default) if size is None else size
    if number < least:
        wanted = values.metavar(option.hint)
        raise ValueError(f"{flag} needs {wanted}, got {' '.join(words[:number]) or 'nothing'}")
    taken = words[: number if size is None else size]
    del words[: len(taken)]
    return option.hint, taken


def _read_positional(
    options: list[Option], words: list[str], prog: str
) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for option in options:
        size = values.num_words(option.hint)
        taken, words = words[:size], words[size:] if size else []
        if taken:
            found[option.path] = values.convert(option.flag, option.hint, taken)
    if words:
        raise ValueError(f"{prog} does not take {words[0]!r:.200}; see {prog} --help")
    return found


def _with(cls: type[T], default: T | None, found: Mapping[tuple[str, ...], Any]) -> T:
    """A dataclass with the values that are found, at their paths, in place of the default's."""
    changed = {path[0]: value for path, value in found.items() if len(path) == 1}
    deeper: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, value in found.items():
        if len(path) > 1:
            deeper.setdefault(path[0], {})[path[1:]] = value
    for name, inner in deeper.items():
        given = changed.get(name, getattr(default, name, None))
        if given is None:  # a field of a class that nothing has been made of
            (field,) = (each for each in dataclasses.fields(cls) if each.name == name)
            given = default_of(field)
        changed[name] = _with(type(given), given, inner)
    return cls(**changed) if default is None else dataclasses.replace(default, **changed)


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

    A `config.json` is a file: what it names is no code, unless `cls` has a field `trust` and it is
    given.

    Args:
      cls: a frozen dataclass; what it has beyond `ConfigArgs` has defaults.
      argv: its first entry is CONFIG.
      prog: shown in the help.

    Raises:
      ValueError: as `parse`, and for an unknown config.
      HelpShown: after `--help`.
    """
    if not argv or (argv[0].startswith("-") and argv[0] not in ASKS_FOR_HELP):
        raise ValueError(
            f"{prog} needs a config first: {prog} CONFIG [--field value ...]; {catalog.known()}"
        )
    if argv[0] in ASKS_FOR_HELP:
        default = cls(config=TrainConfig(), config_name="", config_file=None)
        return parse(cls, argv[:1], f"{prog} CONFIG", default)
    config, file = catalog.load(argv[0])
    default = cls(config=config, config_name=catalog.name_of(argv[0]), config_file=file)
    args = parse(cls, argv[1:], f"{prog} {argv[0]}", default)
    if catalog.is_json(argv[0]) and getattr(args, "trust", False):
        return dataclasses.replace(args, config=from_json(to_json(args.config), trust=True))
    return args


def with_fields(
    config: TrainConfig, fields: Mapping[str, str], option: str = "--sweep"
) -> TrainConfig:
    """A config with other values, as the command line would read them.

    Args:
      config: what is left as it is comes from it.
      fields: `"estimator.std"` -> `"0.01"`; a kind is chosen by its word, `"estimator"` ->
        `"merged"`.
      option: of the command line that says so, for messages.

    Raises:
      ValueError: there is no such field, or it has no such value.
    """
    choices = table_of(TrainConfig, config).choices
    names = {choice.name for choice in choices}
    kinds = [f"{name}:{value}" for name, value in fields.items() if name in names]
    flags = table_of(TrainConfig, parse(TrainConfig, kinds, option, config)).flags
    words: list[str] = []
    for name, value in fields.items():
        flag, taken = f"--{name}".replace("_", "-"), value.split()
        if name in names:
            continue
        if flag in ASKS_FOR_HELP:
            raise ValueError(f"{option}: {name} is no field of a config")
        if other := [word for word in taken if _is_flag(word) or _chosen_by(word, choices)]:
            raise ValueError(f"{option}: {name} cannot be {value!r:.200}: {other[0]} is an option")
        if flag in flags and flags[flag].hint is bool and len(taken) == 1:
            words.append(flag if values.convert(flag, bool, taken) else opposite_of(flag))
        else:
            words += [flag, *taken]
    return parse(TrainConfig, [*kinds, *words], option, config)
