"""The commands that work in a generator's latent space, and the options that they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facegen.aging.edit import parse_ages
from facegen.cli import device_option, groups_option, network_option
from facegen.files import check_folder
from facegen.latents.options import DrawingOptions, TruncationOptions
from facegen.options import Parsed, Spelled, click_options
from facegen.status import say, status

if TYPE_CHECKING:
    from facegen.latents.labels import Label
    from facegen.latents.space import LatentSpace

Command = TypeVar("Command", bound=Callable[..., Any])


def label_options(command: Command) -> Command:
    """Give a command the options that choose classes: `classes`, `group` and `age`."""
    age = click.option("--age", type=Parsed(parse_ages), metavar="YEARS", help="Ages, such as 35 or 5:90:5.")
    return class_options(age(command))


def outdir_option(what: str, *also: str) -> Callable[[Command], Command]:
    """Return the decorator for `--outdir`; a folder in which nothing can be written is refused before any work.

    Args:
        what: goes there.
        also: other spellings.
    """

    def checked(ctx: click.Context, param: click.Parameter, outdir: Path) -> Path:
        check_folder(outdir)
        return outdir

    path = click.Path(path_type=Path)
    settings: dict[str, Any] = {"default": "out", "show_default": True, "type": path, "callback": checked}
    return click.option("--outdir", cls=Spelled, also=also, help=f"Folder for the {what}.", **settings)


def class_options(command: Command) -> Command:
    """Give a command the options `classes` and `group`, where it has an `age` of its own."""
    for add in (
        click.option("--group", metavar="NAMES", help="Names of age groups or classes, such as 21-30,31-40."),
        click.option("--class", "classes", metavar="NUMBERS", help="Class numbers, such as 3 or 0-9, or all."),
    ):
        command = add(command)
    return command


def space_options(command: Command) -> Command:
    """Give a command the options of `opened_space`: the network, truncation, and how pictures are drawn."""
    for add in (device_option, groups_option, click_options(TruncationOptions, DrawingOptions), network_option):
        command = add(command)
    return command


def opened_space(chosen: dict[str, Any]) -> LatentSpace:
    """Open the latent space that a command's `space_options` ask for."""
    with status("loading the network ..."):
        from facegen.latents.space import LatentSpace

        return LatentSpace.open(
            chosen["network"],
            groups=chosen["groups"],
            truncation=TruncationOptions.from_command(chosen),
            drawing=DrawingOptions.from_command(chosen),
            device=chosen["device"],
        )


def chosen_labels(space: LatentSpace, chosen: dict[str, Any]) -> list[Label]:
    """Return the labels that a command's `label_options` ask for; what is assumed or has no effect is said."""
    asked = {name: chosen[name] for name in ("classes", "group", "age") if chosen[name] is not None}
    if space.classes.c_dim == 0 and asked:
        say("Note: this generator has no classes, so options that choose classes are ignored", err=True)
    elif space.classes.c_dim > 0 and not asked:
        say(f"Note: no class given, so all are drawn; this generator has {space.classes.in_words}", err=True)
    return space.classes.choose(chosen["classes"], chosen["group"], chosen["age"] or ())


def only_label(space: LatentSpace, chosen: dict[str, Any]) -> Label | None:
    """Return the one label that the options ask for; None where they ask for none, or the generator has no classes."""
    if space.classes.c_dim == 0 or all(chosen[name] is None for name in ("classes", "group", "age")):
        return None
    labels = chosen_labels(space, chosen)
    if len(labels) > 1:
        raise click.UsageError(f"this takes one class, not {len(labels)}")
    return labels[0]


def labels_or_usual(space: LatentSpace, chosen: dict[str, Any]) -> list[Label]:
    """Return the labels that a command's `label_options` ask for, or the usual one, which is said."""
    classes = space.classes
    if classes.c_dim == 0 or any(chosen[name] is not None for name in ("classes", "group", "age")):
        return chosen_labels(space, chosen)
    say(f"Note: no class given, so faces are {classes.usual.name}; this generator has {classes.in_words}", err=True)
    return [classes.usual]
