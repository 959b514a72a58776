"""The console command `facegen`: one module per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

import facegen
from facegen.ages import AgeGroups
from facegen.errors import MAX_LETTERS, FacegenError, one_line
from facegen.files import at_home
from facegen.options import NETWORK_NAMES, Parsed, Spelled
from facegen.status import say
from facegen.text import shorten, visible

# command name -> (module that holds a click command called `command`, one-line help shown by `facegen --help`)
COMMANDS = {
    "demo": ("facegen.cli.demo", "Age the face in a sample photo with the weights in the package."),
    "app": ("facegen.cli.app", "Open a web page where one drops a photo and moves a slider."),
    "prepare": ("facegen.cli.prepare", "Turn pictures of faces with ages into a training archive."),
    "pack": ("facegen.cli.pack", "Pack any pictures into a training archive."),
    "faces": ("facegen.cli.faces", "Find the faces in photos: crops, boxes, landmarks, and who looks like whom."),
    "merge": ("facegen.cli.merge", "Join the parts of a data set that several machines prepared."),
    "label": ("facegen.cli.label", "Write the dataset.json for a folder that has one subfolder per class."),
    "inspect": ("facegen.cli.inspect", "Show and check the contents of a training archive."),
    "train": ("facegen.cli.training.generator", "Train the generator on a training archive."),
    "train-encoder": ("facegen.cli.training.encoder", "Train the encoder on generated faces."),
    "train-age": ("facegen.cli.training.age", "Train an age estimator on a training archive with exact ages."),
    "train-editor": (
        "facegen.cli.training.editor",
        "Train an editor, a network that changes the age of a face in a photo.",
    ),
    "runs": ("facegen.cli.runs", "Show the training runs in a folder."),
    "evaluate": ("facegen.cli.evaluate", "Measure age transfer on held-out faces."),
    "generate": ("facegen.cli.latents.generate", "Draw faces from seeds, at any age or in any class."),
    "project": ("facegen.cli.latents.project", "Find the latent of the face in a photo, and show it at other ages."),
    "combine": ("facegen.cli.latents.combine", "Join latent files into one."),
    "walk": ("facegen.cli.latents.walk", "Make a video that goes from face to face, or through the ages of one face."),
    "mix": ("facegen.cli.latents.mix", "Mix faces: some layers from one face, the others from another."),
    "directions": (
        "facegen.cli.latents.directions",
        "Find the directions that change faces most, and move faces along them.",
    ),
    "digress": ("facegen.cli.latents.digress", "Make a video in which a face melts and comes back."),
    "blend": (
        "facegen.cli.latents.blend",
        "Blend two generators: shapes from one, colors and textures from the other.",
    ),
    "metrics": ("facegen.cli.metrics", "Measure how good a generator's faces are."),
    "convert": ("facegen.cli.convert", "Convert weights between formats."),
    "doctor": ("facegen.cli.doctor", "Show what facegen can use on this machine, and how to get more."),
    "info": ("facegen.cli.info", "Show what is in a weights file."),
    "transfer": ("facegen.cli.transfer", "Change the age of the faces in photos and clips."),
}

# What programs of the StyleGAN family call it -> what it is here. `--help` does not show these names.
OLD_NAMES = {
    "projector": ("project",),
    "style-mixing": ("mix",),
    "dataset-tool": ("pack",),
    "calc-metrics": ("metrics",),
    "legacy": ("convert",),
    "export-weights": ("convert",),
    "closed-form-factorization": ("directions", "find"),
    "apply-factor": ("directions", "apply"),
    "flesh-digression": ("digress",),
    "blend-models": ("blend",),
    "combine-npz": ("combine",),
}

# What is not there, and what comes closest.
LEFT_OUT = {
    "pbaylies-projector": "needs CLIP, whose weights cannot be read without running code; the closest command is "
    "`facegen project --space w+`",
}

# What ends a process: a scheduler, a terminal that is closed (Windows has no signal for it).
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

# Options that several commands have.
device_option = click.option("--device", help="cuda or cpu.  [default: a GPU when there is one]")
_NETWORK: dict[str, Any] = {"cls": Spelled, "also": NETWORK_NAMES, "metavar": "FILE|RUN|URL"}
network_option = click.option("--network", help="The generator.  [default: the one in the package]", **_NETWORK)
generator_option = click.option(
    "--network",
    "generator",
    help="Generator that goes with the encoder.  [default: the one it was trained for]",
    **_NETWORK,
)
encoder_option = click.option(
    "--encoder", metavar="FILE|RUN|URL", help="An encoder to use instead of the one in the package."
)
editor_option = click.option("--editor", metavar="FILE|RUN|URL", help="The editor for --method editor.")
force_option = click.option("--force", is_flag=True, help="Replace files that exist.")
outdir_option = click.option(
    "--outdir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder for the run folders."
)
groups_option = click.option(
    "--groups",
    type=Parsed(AgeGroups.parse),
    metavar="GROUPS",
    help="Age groups, such as 0-12,13-19,20-, for a generator whose file does not name them.",
)
gpus_option = click.option(
    "--gpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of GPUs on this machine. For several machines see docs/scaling.md.",
)


def format_warning(message: Warning | str, *place: object, **more: object) -> str:
    """Return a warning as one line, without the place in the code."""
    return f"Warning: {visible(' '.join(str(message).split()))}\n"


@contextmanager
def visible_errors() -> Iterator[None]:
    """Turn errors that a user can put right into click's, without a traceback; arguments hold odd names, too."""
    try:
        yield
    except click.ClickException as error:
        error.message = visible(shorten(error.message, MAX_LETTERS))  # type: ignore[misc]
        raise
    except (FacegenError, OSError) as error:
        raise click.ClickException(one_line(error) if isinstance(error, OSError) else str(error)) from error


def leave(number: int, frame: FrameType | None) -> None:
    """End the process as an exception does, so that half-written files are removed on the way."""
    sys.exit(128 + number)


def _with_home(argument: str) -> str:
    """Expand `~/` where shells do not: in `--data=~/faces.zip`, and everywhere in Windows."""
    option, equals, path = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return option + equals + str(at_home(path)) if path == "~" or path.startswith(("~/", "~\\")) else argument


def _with_hyphens(name: str) -> str:
    """`style_mixing`, `--random_seed`: how the family writes some names of commands and options."""
    return name.replace("_", "-")


class LazyGroup(click.Group):
    """A click group that imports a command's module when the command is used, so that --help is instant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with visible_errors():
            return super().parse_args(ctx, [_with_home(argument) for argument in args])

    def invoke(self, ctx: click.Context) -> object:
        try:
            with visible_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say("", "Stopped.", err=True)
            raise click.exceptions.Exit(130) from None
        finally:
            # Nothing is half written any more, and an exception in the interpreter's own clearing up is a traceback.
            for number in ENDING:
                if signal.getsignal(number) is leave:
                    signal.signal(number, signal.SIG_DFL)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if _with_hyphens(args[0]) in LEFT_OUT:
            raise click.UsageError(f"{args[0]} {LEFT_OUT[_with_hyphens(args[0])]}")
        new = OLD_NAMES.get(_with_hyphens(args[0]), ())
        if new and new[0] in COMMANDS:
            say(f"{args[0]} is called `facegen {' '.join(new)}` here", err=True)
            args = [*new, *args[1:]]
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(COMMANDS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _with_hyphens}
)
@click.version_option(facegen.__version__, prog_name="facegen")
def main() -> None:
    """Change the apparent age of faces in photos, and train the networks that do it.

    \b
    Example:
      facegen transfer photo.jpg --outdir out --ages 5,25,45,65,85
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names that are no UTF-8, terminals that know few letters
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = format_warning
    # The current folder may be a stranger's: no Python (since 3.11) and no program of Windows looks for code there.
    os.environ.update(PYTHONSAFEPATH="1", NoDefaultCurrentDirectoryInExePath="1")
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
                signal.signal(number, leave)
