"""Command-line flags as typed dataclasses: the field is the flag, its documentation the help.

    @dataclass
    class Flags:
        '''What the command does.'''
        batch_size: int = flag(32, "rows per card and optimizer step", minimum=1)
        do_train: bool = flag(False, "fine-tune on the train split")

    flags = parse(Flags)

Wrong values end the program with one line on stderr and exit code 2.
"""

from __future__ import annotations

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
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from cluebench.foundation import atomic
from cluebench.foundation.errors import UsageError, one_line
from cluebench.foundation.notices import notice

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

#: Title in the help → names of flags.
Groups: typing.TypeAlias = Mapping[str, Sequence[str]]
#: How the help writes a number. A text is the last word of its flag: DIR of --data_dir.
_METAVARS = {int: "N", float: "X", Fraction: "X"}
#: Bytes of one name in a path, on every file system in use.
_LONGEST_NAME = 255


@dataclasses.dataclass(frozen=True)
class About:
    """What `flag` says of a flag beside its default."""

    help: str
    required: bool = False
    choices: Sequence[Any] | None = None
    minimum: float | None = None  # included; for sequences it holds for every item, as do the next two
    maximum: float | None = None  # included
    above: float | None = None  # excluded
    positional: bool = False
    default_text: str | None = None  # what the default is, where None stands for a rule
    metavar: str | None = None
    typed: str | None = None  # how the flag is typed, where it has another name than the field
    writes: Literal["file", "directory"] | None = None  # the place of what the command writes: see `refuse_unwritable`


def flag(default: Any, help: str, **about: Any) -> Any:
    """A dataclass field that `parse` turns into a flag. ``default`` ``...``: it is required. ``about``: see `About`."""
    metadata = {"about": About(help, required=default is ..., **about)}
    if isinstance(default, list):
        return dataclasses.field(metadata=metadata, default_factory=lambda: list(default))
    return dataclasses.field(metadata=metadata, default=None if default is ... else default)


def _about(field: dataclasses.Field) -> tuple[About, str]:
    """What is said of a flag, and how it is typed."""
    about: About = field.metadata["about"]
    return about, field.name if about.positional else f"--{about.typed or field.name}"


class OneLineParser(argparse.ArgumentParser):
    """argparse that says what is wrong, and what was meant, in one line without the usage in front of it."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unknown flags go before missing ones: ``--model`` says more than that --model_name_or_path is missing."""
        for word in sys.argv[1:] if args is None else args:
            flag, _, _ = word.partition("=")
            if re.match("--?[A-Za-z]", flag) and flag not in self._option_string_actions:
                known = [name.removeprefix("--") for name in self._option_string_actions if name.startswith("--")]
                meant = ", ".join(f"--{name}" for name in _meant(flag.lstrip("-").lower().replace("-", "_"), known))
                self.error(f"unrecognized arguments: {flag}" + (f"; did you mean {meant}?" if meant else ""))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        print(one_line(f"{self.prog}: error: {message} (--help lists the flags)"), file=sys.stderr)
        sys.exit(2)


def _meant(word: str, known: Sequence[str]) -> list[str]:
    """The most likely of the known names: ``lr`` is short for learning_rate, ``epochs`` for num_train_epochs."""
    initials = [name for name in known if word == "".join(part[0] for part in name.split("_") if part)]
    holding = [name for name in known if word in name.split("_")]
    return list(dict.fromkeys([*initials, *get_close_matches(word, known), *holding]))[:3]


def parse(
    flags_class: type[T], argv: Sequence[str] | None = None, *, prog: str | None = None, groups: Groups | None = None
) -> T:
    """Parses ``argv`` (default: the program's) into an instance of the dataclass.

    A boolean takes ``--name``, ``--name True`` or ``--name false``. A field of type ``list[X]`` takes one value or
    more, separated by spaces or commas. Exits with code 2 and one line on wrong values; ``--help`` shows the class
    docstring.
    """
    parser = OneLineParser(
        prog=prog,
        description=flags_class.__doc__,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32),
        allow_abbrev=False,
        usage="%(prog)s [models …] [flags …]" if groups else None,
    )
    add_flags(parser, flags_class, groups)
    return taken(parser, flags_class, vars(parser.parse_args(argv)))


def add_flags(parser: argparse.ArgumentParser, flags_class: type[T], groups: Groups | None = None) -> None:
    """Gives a parser the flags of a class; `taken` makes one of what it has read.

    groups: title → names, in the order of the help. What is in none of them stands before them.
    """
    hints = typing.get_type_hints(flags_class)
    holders = {name: holder for title, names in (groups or {}).items()
               for holder in [parser.add_argument_group(title)] for name in names}  # fmt: skip
    for field in dataclasses.fields(flags_class):
        _add(holders.get(field.name, parser), field, hints[field.name])
    if any(_value_type(hint)[0] is bool for hint in hints.values()):
        parser.epilog = (
            "BOOL is True or False; the flag alone means True. Without the flag it is False unless a default is shown."
        )


def taken(parser: argparse.ArgumentParser, flags_class: type[T], values: dict[str, Any]) -> T:
    """The flags of a class, taken out of what a parser has read. Exits with one line when a value is wrong."""
    hints = typing.get_type_hints(flags_class)
    fields = dataclasses.fields(flags_class)
    return flags_class(**{one.name: _checked(parser, one, hints[one.name], values.pop(one.name)) for one in fields})


def refuse_unwritable(flags: DataclassInstance, *names: str) -> None:
    """Tries the places that ``flags`` name for what is written, before anything is computed. Raises UsageError.

    ``names``: of the flags whose places are written to now, where those are not all.
    """
    for field in dataclasses.fields(flags):
        if names and field.name not in names:
            continue
        (about, name), place = _about(field), getattr(flags, field.name)
        writes = about.writes and place
        if writes and (reason := atomic.why_unwritable(place, directory=about.writes == "directory")):
            raise UsageError(f"{name} {place}: {reason}; name another place")


def _add(parser: argparse._ActionsContainer, field: dataclasses.Field, hint: Any) -> None:
    kind, is_list = _value_type(hint)
    about, name = _about(field)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    text = about.help + _default_note(about, default)
    options: dict[str, Any] = dict(help=text.replace("%", "%%"), default=default)
    if about.metavar or not about.positional:
        options["metavar"] = about.metavar or _METAVARS.get(kind) or name.split("_")[-1].strip("-").upper()
    if kind is bool:
        options.update(nargs="?", const=True, type=_boolean, metavar="BOOL")
    elif is_list:
        options.update(nargs="*" if about.positional else "+", type=_items(kind))
    else:
        options.update(type=_reader(kind))
        if about.choices and not about.metavar:
            options["metavar"] = "{" + ",".join(map(str, about.choices)) + "}"
    if not about.positional:
        options |= {"required": about.required, "dest": field.name}
    parser.add_argument(name, **options)


def _default_note(about: About, default: Any) -> str:
    if about.positional:
        return ""
    if about.required:
        return " (required)"
    if about.default_text:
        return f" (default: {about.default_text})"
    if default is None or default is False or default == []:
        return ""
    shown = ",".join(str(item) for item in default) if isinstance(default, list) else default
    return f" (default: {shown})"


def _value_type(hint: Any) -> tuple[type, bool]:
    """The scalar type behind ``X``, ``X | None`` or ``list[X]``, and whether it is a list."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _boolean(text: str) -> bool:
    truth = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in truth:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return truth[text.lower()]


def _reader(kind: type) -> Any:
    """A reader of one value whose complaint names the type in plain words."""
    words = {int: "a whole number", float: "a number", Fraction: "a number or a fraction such as 1/4"}

    def read(text: str) -> Any:
        try:
            return kind(text)
        except (ValueError, ZeroDivisionError):
            raise argparse.ArgumentTypeError(f"{text!r} is not {words.get(kind, 'valid')}") from None

    return read


def _items(kind: type) -> Any:
    """A reader of comma-separated values."""
    read = _reader(kind)
    return lambda text: [read(part) for part in text.split(",") if part]


def _checked(parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any, value: Any) -> Any:
    """The value, lists flattened and deduplicated, bounds and choices enforced."""
    about, name = _about(field)
    if _value_type(hint)[1] and value:
        flat = [item for part in value for item in (part if isinstance(part, list) else [part])]
        value = list(dict.fromkeys(flat))
        if not flat:
            parser.error(f"{name} '': names nothing; leave it out for all")
        if twice := [str(item) for item in value if flat.count(item) > 1]:
            notice(f"{name}: {', '.join(twice)} is given more than once, and counts once")
    for item in value if isinstance(value, list) else [value]:
        if item is not None and (wrong := _wrong(item, about)):
            parser.error(f"{name} {item}: {wrong}")
    return value


def why_no_text(text: str) -> str | None:
    """Why a text can be neither a name nor a path; None when it can."""
    try:
        parts = text.encode().split(b"/")
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    if max(map(len, parts)) > _LONGEST_NAME:
        return f"a name of more than {_LONGEST_NAME} bytes"
    home = os.path.expanduser(parts[0].decode())
    return f"there is no user {parts[0].decode()[1:]!r}" if home.startswith("~") else None


def _wrong(item: Any, about: About) -> str | None:
    """Why a flag can't have this value; None when it can."""
    if about.choices and item not in about.choices:
        return f"choose from {', '.join(map(str, about.choices))}"
    if isinstance(item, str):
        return why_no_text(item)
    if isinstance(item, bool) or not isinstance(item, (int, float, Fraction)):
        return None
    if not math.isfinite(item):
        return "must be finite"
    if about.minimum is not None and item < about.minimum:
        return f"must be at least {about.minimum}"
    if about.maximum is not None and item > about.maximum:
        return f"must be at most {about.maximum}"
    if about.above is not None and item <= about.above:
        return f"must be more than {about.above}"
    return None
