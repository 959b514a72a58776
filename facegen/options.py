"""Options, each written once: a dataclass field with its help makes the command's option, the JSON and the check.

    @dataclass(frozen=True)
    class AgeOptions(Options):
        kimg: float = option(300, "Length, in thousands of pictures.", above=0, resumable=True)
        arch: str = option("resnet", "Network.", choices=("resnet", "plain"))

`@click_options(AgeOptions)` gives a command `--kimg` and `--arch`. Nothing here imports torch: `--help` needs none.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, asdict, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from facegen.errors import FacegenError
from facegen.text import shown as described

MAX_NUMBER, MAX_LETTERS, MAX_PARTS = 2.0**63, 4096, 64  # of an option's value in a file
MAX_BATCH = 2**16  # pictures of a step

# What programs of the StyleGAN family call two options that many commands have.
NETWORK_NAMES = ("network", "generator", "ckpt", "pkl")
PSI_NAMES = ("psi", "trunc", "truncation", "truncation-psi")

Command = TypeVar("Command", bound=Callable[..., Any])
Some = TypeVar("Some", bound="Options")


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    choices: Iterable[str] | None = None,
    metavar: str | None = None,
    flag: bool = False,
    unset: str | None = None,
    min: float | None = None,
    above: float | None = None,
    max: float | None = None,
    finite: bool = True,
    parse: Callable[[str], Any] | None = None,
    was: str | None = None,
    called: str | None = None,
    also: Sequence[str] = (),
    alone: str | None = None,
    resumable: bool = False,
    command: bool = True,
) -> Any:
    """Return a dataclass field that is an option, on the command line too (`min_age`: `--min-age`).

    Args:
        default: its value when not given; without one it must be given.
        help: what it does, in a sentence.
        choices: the values allowed. The command lists them, unless there is a metavar.
        metavar: stands for the value in `--help`.
        flag: true where it is given; the command takes no value.
        unset: what happens where the default is None, for `--help`.
        min, above, max: the smallest number allowed, the number that it must exceed, the largest number allowed.
        finite: infinity is no value.
        parse: reads the value from the text on the command line; raises a FacegenError.
        was: the field's name in JSON files written by earlier versions.
        called: its name on the command line, where that is not the field's.
        also: other spellings on the command line, as `PSI_NAMES`; see `Spelled`.
        alone: the value of the option where the command line names it without one; None: it needs one.
        resumable: `--resume` may change it.
        command: the command has this option; else only Python and JSON have it.
    """
    metadata = dict(locals())
    del metadata["default"]
    return dataclasses.field(default=default, metadata={**metadata, "choices": choices and tuple(choices)})


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of dataclasses whose fields are made by `option`. An impossible value raises a FacegenError at once."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.metadata:
                _check_field(field, getattr(self, field.name))
        for holds, complaint in self.rules():
            if not holds:
                raise FacegenError(complaint)

    def rules(self) -> Iterable[tuple[bool, str]]:
        """What must hold between options, and what to say if it does not."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls: type[Some], values: Mapping[str, Any]) -> Some:
        """Return the options that `to_json` gave; what is missing gets its default.

        Raises:
            TypeError, FacegenError: an unknown name, or an impossible value.
        """
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for field in fields(cls):
            if field.metadata.get("was") in values:
                values[field.name] = values.pop(field.metadata["was"])
        hints = get_type_hints(cls)
        for field in fields(cls):
            value = values.get(field.name, field.default)
            # Not `is`: in Python 3.10 there are several empty tuples.
            is_default = type(value) is type(field.default) and value == field.default
            if not is_default and not _is_a(value, hints[field.name]):
                raise FacegenError(f"{field.name} cannot be {described(value)}")
        return cls(**values)

    @classmethod
    def from_command(cls: type[Some], chosen: Mapping[str, Any]) -> Some:
        """Return the options among the values of a command that has them by `click_options`."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in chosen.items() if name in names and value is not None})

    def check_goes_on(self, before: Options) -> None:
        """Raise a FacegenError if a run with the options `before` cannot continue with these."""
        values, values_before = self.to_json(), before.to_json()
        if complaint := _fixed(type(self), [name for name in values if values[name] != values_before[name]]):
            raise FacegenError(complaint)


def click_options(*classes: type) -> Callable[[Command], Command]:
    """Give a click command the options of dataclasses, in the order of their fields."""

    def add(command: Command) -> Command:
        for cls in reversed(classes):
            for field in reversed(fields(cls)):
                if field.metadata.get("command"):
                    command = _click_option(cls, field)(command)
        return command

    return add


def click_options_of_some(classes: Mapping[str, type]) -> Callable[[Command], Command]:
    """Give a click command the options of classes of which it uses one, by name; each option says whose it is."""

    def add(command: Command) -> Command:
        owners: dict[str, list[str]] = {}
        options = {}
        for owner, cls in classes.items():
            for field in fields(cls):
                owners.setdefault(field.name, []).append(owner)
                options[field.name] = (cls, field)
        for name, (cls, field) in sorted(options.items(), reverse=True):
            command = _click_option(cls, field, only=", ".join(owners[name]))(command)
        return command

    return add


def _click_option(cls: type, field: Field, *, only: str = "") -> Callable[[Command], Command]:
    """Return the decorator that gives a command the option of one field.

    Args:
        only: whose option it is, where it is not everybody's; None is then what was not given.
    """
    meta = field.metadata
    kind = _value_type(cls, field)
    settings: dict[str, Any] = {"help": meta["help"], "metavar": meta["metavar"], "type": kind, "default": None}
    if only:
        settings["help"] += f"  [only {only}" + ("]" if field.default is None else f"; default {field.default}]")
    elif meta["unset"]:
        settings["help"] += f"  [default: {meta['unset']}]"
    elif field.default is dataclasses.MISSING:
        settings["required"] = not meta["resumable"]  # not needed when a run continues
    elif field.default is not None:
        default = field.default
        written = ",".join(map(str, default)) if isinstance(default, tuple) else default
        settings |= {"default": written, "show_default": True}
    if meta["flag"]:
        settings["is_flag"] = True
    elif kind is bool:
        settings |= {"is_flag": False, "flag_value": True, "metavar": "[BOOL]"}
    elif kind in (int, float) and not (meta["min"] is meta["above"] is meta["max"] is None):
        low = meta["min"] if meta["above"] is None else meta["above"]
        number = _Integer if kind is int else _Number
        settings["type"] = number(low, meta["max"], min_open=meta["above"] is not None)
        settings["metavar"] = meta["metavar"] or ("INTEGER" if kind is int else "FLOAT")
    elif meta["choices"] and not meta["metavar"]:
        settings["type"] = click.Choice(meta["choices"])
    if meta["alone"] is not None:
        settings |= {"is_flag": False, "flag_value": meta["alone"]}
    return click.option(f"--{_called(field)}", field.name, cls=Spelled, also=meta["also"], **settings)


def options_to_merge(ctx: click.Context, before: Options, *, without: Iterable[str]) -> dict[str, Any]:
    """Return what the user wrote beside `--resume`, except the options named: what changes of the options `before`.

    Raises:
        click.UsageError: some of it cannot change any more.
    """
    names = {name for name in ctx.params if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
    given = {name: ctx.params[name] for name in names - set(without)}
    given = {name: value for name, value in given.items() if value != vars(before).get(name, dataclasses.MISSING)}
    if complaint := _fixed(type(before), given):
        raise click.UsageError(complaint)
    return given


def shown(name: str) -> str:
    """Return a field's name as the command line has it."""
    return name.replace("_", "-")


def _called(field: Field) -> str:
    """Return what the command line calls a field."""
    return field.metadata.get("called") or shown(field.name)


def _fixed(cls: type, given: Iterable[str]) -> str:
    """What to say of options that `--resume` cannot change; nothing where all can be."""
    known = {field.name: field for field in fields(cls)}
    resumable = {name for name, field in known.items() if field.metadata.get("resumable")}
    fixed = sorted(_called(known[name]) if name in known else shown(name) for name in set(given) - resumable)
    return f"--resume takes its options from the run folder; leave out --{', --'.join(fixed)}" if fixed else ""


def _is_a(value: Any, hint: Any) -> bool:
    """Whether a value from a file is of a field's type, and of a size that no training exceeds."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_a(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if Ellipsis in kinds:
            return 1 <= len(value) <= MAX_PARTS and all(_is_a(part, kinds[0]) for part in value)
        return len(value) == len(kinds) and all(map(_is_a, value, kinds))
    if hint in (int, float):
        numbers = (int, float) if hint is float else (int,)
        return type(value) in numbers and (abs(value) < MAX_NUMBER or math.isinf(value))
    if hint is str:
        return isinstance(value, str) and len(value) <= MAX_LETTERS and "\0" not in value
    return isinstance(value, hint)


def _value_type(cls: type, field: Field) -> Any:
    """Return the type of an option's value, None aside: `int`, `float`, `bool`, `str` or a click type."""
    if field.metadata["parse"]:
        return Parsed(field.metadata["parse"])
    hint = get_type_hints(cls)[field.name]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        return Parsed(lambda text: _numbers(text, get_args(hint)))
    return hint


class Spelled(click.Option):
    """An option that has other spellings, `also`, which neither `--help` nor complaints name."""

    def __init__(self, param_decls: Sequence[str] | None = None, *, also: Sequence[str] = (), **settings: Any) -> None:
        names = list(param_decls or ())
        self.also = [f"--{name}" for name in also if f"--{name}" not in names]
        super().__init__([*names, *self.also], **settings)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return super(Spelled, self._shown()).get_help_record(ctx)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return super(Spelled, self._shown()).get_error_hint(ctx)

    def _shown(self) -> Spelled:
        shown = copy.copy(self)
        shown.opts = [name for name in self.opts if name not in self.also]
        return shown


class _Integer(click.IntRange):
    """A range that `--help` shows; `Options` checks it, in one line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return click.INT.convert(value, param, ctx)


class _Number(click.FloatRange):
    """A range that `--help` shows; `Options` checks it, in one line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return click.FLOAT.convert(value, param, ctx)


class Parsed(click.ParamType):
    """A value that a function reads from text."""

    name = "text"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.parse(value) if isinstance(value, str) else value
        except FacegenError as error:
            self.fail(str(error), param, ctx)


def _numbers(text: str, kinds: Sequence[Any]) -> tuple[int, ...]:
    """Read `5,10,5`; as many as the type says, where it says so."""
    count = None if Ellipsis in kinds else len(kinds)
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise FacegenError(f"{text!r}: give whole numbers, as in 5,10,5") from error
    if count not in (None, len(numbers)):
        raise FacegenError(f"{text!r}: give {count} whole numbers, as in 5,10,5")
    return numbers


def _check_field(field: Field, value: Any) -> None:
    meta, name = field.metadata, _called(field)
    if value is None:
        return
    if meta["choices"] and value not in meta["choices"]:
        raise FacegenError(f"{name} {value!r}: choose one of {', '.join(meta['choices'])}")
    if isinstance(value, float) and (math.isnan(value) or (meta["finite"] and math.isinf(value))):
        raise FacegenError(f"{name} must be a finite number, got {value}")
    low, above, high = meta["min"], meta["above"], meta["max"]
    if above is not None and not value > above:
        raise FacegenError(f"{name} must be above {above}, got {value}")
    if low is not None and high is not None and not low <= value <= high:
        raise FacegenError(f"{name} must be between {low} and {high}, got {value}")
    if low is not None and not value >= low:
        raise FacegenError(f"{name} must be at least {low}, got {value}")
    if high is not None and not value <= high:
        raise FacegenError(f"{name} must be at most {high}, got {value}")
