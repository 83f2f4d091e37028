"""Command-line flags as typed dataclasses: the field is the flag, its documentation the help.

    @dataclass
    class Flags:
        '''What the command does.'''
        batch_size: int = flag(32, "rows per card and optimizer step", minimum=1)
        do_train: bool = flag(False, "fine-tune on the train split")

    flags = parse(Flags)

Wrong values end the program with one line on stderr and exit code 2.
"""

import argparse
import dataclasses
import math
import os
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

from cluebench.foundation import atomic
from cluebench.foundation.errors import UsageError, one_line
from cluebench.foundation.notices import notice
from cluebench.foundation.repository import RUN_ROOT

T = TypeVar("T", bound=Any)  # a dataclass

#: Title in the help → names of flags.
Groups: typing.TypeAlias = Mapping[str, Sequence[str]]
#: How the help writes a number. A text is the last word of its flag: DIR of --data_dir.
_METAVARS = {bool: "BOOL", int: "N", float: "X", Fraction: "X"}
#: Bytes of one name in a path, on every file system in use.
_LONGEST_NAME = 255


@dataclasses.dataclass(frozen=True)
class About:
    """The properties of a flag, besides its default."""

    help: str
    required: bool = False
    choices: Sequence[Any] | None = None
    minimum: float | None = None  # included; for lists every item is checked, as for the next two
    maximum: float | None = None  # included
    above: float | None = None  # excluded
    positional: bool = False
    default_text: str | None = None  # the default in words, if it is a rule and the value is None
    metavar: str | None = None
    typed: str | None = None  # the flag's name, if it differs from the field's
    writes: Literal["file", "directory"] | None = None  # the command writes there: see `refuse_unwritable`


def flag(default: Any, help: str, **about: Any) -> Any:
    """A dataclass field that `parse` turns into a flag. ``default`` ``...``: it is required. ``about``: see `About`."""
    metadata = {"about": About(help, required=default is ..., **about)}
    if isinstance(default, list):
        return dataclasses.field(metadata=metadata, default_factory=lambda: list(default))
    return dataclasses.field(metadata=metadata, default=None if default is ... else default)


class OneLineParser(argparse.ArgumentParser):
    """argparse with errors of one line, without the usage, that suggest the right name of an unknown flag."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unknown flags are reported before missing ones: ``--model`` helps more than a missing model_name_or_path."""
        for word in sys.argv[1:] if args is None else args:
            flag, _, _ = word.partition("=")
            if re.match("--?[A-Za-z]", flag) and flag not in self._option_string_actions:
                names = [name.removeprefix("--") for name in self._option_string_actions if name.startswith("--")]
                near = ", ".join(f"--{name}" for name in _near(flag.lstrip("-").lower().replace("-", "_"), names))
                self.error(f"unrecognized arguments: {flag}" + (f"; did you mean {near}?" if near else ""))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        # Our readers begin a message with the value, argparse with what is wrong.
        message = re.sub(r"^argument ([^ ]+): (?!invalid |expected )", r"\1 ", message).removeprefix("argument ")
        print(one_line(f"{self.prog}: error: {message} (--help lists the flags)"), file=sys.stderr)
        sys.exit(2)


def _near(word: str, names: Sequence[str]) -> list[str]:
    """The names that are most like a word: ``lr`` is short for learning_rate, ``epochs`` for num_train_epochs."""
    initials = [name for name in names if word == "".join(part[0] for part in name.split("_") if part)]
    containing = [name for name in names if word in name.split("_")]
    return list(dict.fromkeys([*initials, *get_close_matches(word, names), *containing]))[:3]


def parse(flags_class: type[T], argv: Sequence[str] | None = None, *, groups: Groups | None = None) -> T:
    """Parses ``argv`` (default: the program's) into an instance of the dataclass.

    A boolean takes ``--name``, ``--name True`` or ``--name false``. A field of type ``list[X]`` takes one value or
    more, separated by spaces or commas. Wrong values end the program with one line and exit code 2; raises UsageError
    for a place that can't be written. ``--help`` shows the class docstring.
    """
    parser = OneLineParser(
        description=flags_class.__doc__,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
        allow_abbrev=False,
        usage="%(prog)s [models …] [flags …]" if groups else None,
    )
    add_flags(parser, flags_class, groups)
    return flags_class(**vars(parser.parse_args(argv)))


def add_flags(parser: argparse.ArgumentParser, flags_class: type[T], groups: Groups | None = None) -> None:
    """Adds the flags of a class to a parser, whose values are those of the fields.

    groups: title → names, in the order of the help. Flags in no group come before them.
    """
    holders = {name: holder for title, names in (groups or {}).items()
               for holder in [parser.add_argument_group(title)] for name in names}  # fmt: skip
    hints = typing.get_type_hints(flags_class)
    for field in dataclasses.fields(flags_class):
        options = _options(field, hints[field.name])
        holders.get(field.name, parser).add_argument(_name(field), **options)
        if options["metavar"] == "BOOL":
            parser.epilog = (
                "BOOL is True or False; the flag alone means True. "
                "Without the flag it is False unless a default is shown."
            )


def refuse_unwritable(flags: Any, *names: str) -> None:
    """Tries all places that the command writes to, before anything is computed. Raises UsageError.

    ``names``: the fields to try, if the command does not write to all places now.
    """
    for field in dataclasses.fields(flags):
        place, writes = getattr(flags, field.name), field.metadata["about"].writes
        if writes and place and (not names or field.name in names):
            if reason := atomic.why_unwritable(place, directory=writes == "directory"):
                raise UsageError(f"{_name(field)} {place}: {reason}; name another place")


def _name(field: dataclasses.Field) -> str:
    about = field.metadata["about"]
    return field.name if about.positional else f"--{about.typed or field.name}"


def _options(field: dataclasses.Field, hint: Any) -> dict[str, Any]:
    """The arguments of argparse's add_argument for a field of type ``X``, ``X | None`` or ``list[X]``."""
    about: About = field.metadata["about"]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    is_list = typing.get_origin(hint) is list
    kind: type = typing.get_args(hint)[0] if is_list else hint
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    shown = about.default_text or (",".join(map(str, default)) if isinstance(default, list) else str(default))
    note = "" if shown in ("None", "False", "") else f" (default: {shown})"
    metavar = about.metavar or _METAVARS.get(kind)
    if not metavar and about.choices and not is_list:
        metavar = "{" + ",".join(map(str, about.choices)) + "}"
    read = partial(_value, kind=kind, name=_name(field), about=about)
    options: dict[str, Any] = {"default": default, "type": read}
    if kind is bool:
        options |= {"nargs": "?", "const": True}
    elif is_list:
        options |= {"nargs": "*" if about.positional and not about.required else "+", "action": _Items}
        options["type"] = lambda text: [read(part) for part in text.split(",") if part]
    if about.positional:
        note = ""
    else:
        metavar = metavar or field.name.split("_")[-1].upper()
        note = " (required)" if about.required else note
        options |= {"required": about.required, "dest": field.name}
    return options | {"metavar": metavar, "help": (about.help + note).replace("%", "%%")}


class _Items(argparse.Action):
    """Keeps each value of a list once. A user separates them by spaces or commas."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        items = [item for part in values for item in part]
        name = option_string or self.dest
        if values and not items:
            parser.error(f"{name} '': names nothing; leave it out for all")
        if twice := [str(item) for item in dict.fromkeys(items) if items.count(item) > 1]:
            notice(f"{name}: {', '.join(twice)} is given more than once, and counts once")
        setattr(namespace, self.dest, list(dict.fromkeys(items)))


_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_KIND_NAMES = {int: "a whole number", float: "a number", Fraction: "a number or a fraction such as 1/4"}


def _value(text: str, kind: type, name: str, about: About) -> Any:
    """The value of a flag. Raises ArgumentTypeError, and UsageError for a place, with what is wrong in plain words."""
    try:
        value: Any = _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False") from None
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not {_KIND_NAMES.get(kind, 'valid')}") from None
    wrong = None
    if about.choices and value not in about.choices:
        wrong = f"choose from {', '.join(map(str, about.choices))}"
    elif kind is str:
        wrong = why_no_text(value)
    elif kind is float and not math.isfinite(value):
        wrong = "must be finite"
    elif about.minimum is not None and value < about.minimum:
        wrong = f"must be at least {about.minimum}"
    elif about.maximum is not None and value > about.maximum:
        wrong = f"must be at most {about.maximum}"
    elif about.above is not None and value <= about.above:
        wrong = f"must be more than {about.above}"
    if wrong and about.writes:
        raise UsageError(f"{name} {text}: {wrong}; name another place")
    if wrong:
        raise argparse.ArgumentTypeError(f"{text}: {wrong}")
    return value


def why_no_text(text: str) -> str | None:
    """Why a text can be neither a name nor a path; None if it can."""
    try:
        parts = text.encode().split(b"/")
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    if max(map(len, parts)) > _LONGEST_NAME:
        return f"a name of more than {_LONGEST_NAME} bytes"
    home = os.path.expanduser(parts[0].decode())
    return f"there is no user {parts[0].decode()[1:]!r}" if home.startswith("~") else None


# Flags that many commands share ---------------------------------------------------------------------------------------


def data_dir_flag(default: str = "CLUE_DATA_DIR, else they are downloaded") -> Any:
    """``default``: what is used without the flag, in words."""
    return flag(None, "official CLUE files or a copy of them", default_text=default)


def cache_dir_flag() -> Any:
    return flag(None, "where token ids are kept", default_text="~/.cache/cluebench", writes="directory")


def run_root_flag() -> Any:
    return flag(
        str(RUN_ROOT), "logs and results, a folder for each model", default_text="runs/ in the repository",
        writes="directory",
    )  # fmt: skip


def offline_flag() -> Any:
    return flag(False, "never use the network")
