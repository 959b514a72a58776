"""A page for every command, made from what its `--help` says."""

from __future__ import annotations

import inspect
import re
import textwrap

import click

from facegen.cli import COMMANDS, main

# What Markdown would take for more than a letter.
SPECIAL = re.compile(r"([\\*_<>\[\]|$#~])")


def pages() -> dict[str, str]:
    """Return the pages by the names of their files."""
    context = click.Context(main, info_name="facegen")
    made = {f"{name}.md": page(name, context) for name in COMMANDS}
    rows = [f"| [`facegen {name}`]({name}.md) | {plain(text)} |" for name, (_, text) in COMMANDS.items()]
    made["index.md"] = "\n".join(
        [
            "# Commands",
            "",
            "`facegen COMMAND --help` says the same as these pages. `facegen --version` tells the version.",
            "",
            "| command | what it does |",
            "|---|---|",
            *rows,
            "",
            "```{toctree}",
            ":hidden:",
            "",
            *COMMANDS,
            "```",
            "",
        ]
    )
    return made


def page(name: str, parent: click.Context) -> str:
    """Return the page of one command."""
    command = main.get_command(parent, name)
    assert command is not None
    return "\n".join(section(command, name, parent, "#")) + "\n"


def section(command: click.Command, name: str, parent: click.Context, marks: str) -> list[str]:
    """Return what there is to say of a command, and of the commands below it."""
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"{marks} {context.command_path}", "", *fenced("text", usage), *described(command.help or "")]
    lines += ["", f"```{{program}} {context.command_path}", "```", ""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            lines += option(*record)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            lines += section(found, below, context, f"{marks}#")
    return lines


def option(names: str, text: str) -> list[str]:
    """Return an option as sphinx takes it, so that each has an address and is found by the search."""
    words, _, rest = text.partition("  [")
    said = [plain(words), *([f"*{plain(rest.removesuffix(']'))}*"] if rest else [])]
    return [f"````{{option}} {names}", "", " ".join(said), "````", ""]


def described(text: str) -> list[str]:
    """Return a command's help as Markdown. Click marks what keeps its lines by a backspace: examples."""
    lines = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            title, *rest = paragraph.split("\n")[1:]
            lines += [f"**{title.rstrip(':')}**", "", *fenced("console", textwrap.dedent("\n".join(rest)))]
        else:
            lines += [plain(" ".join(paragraph.split())), ""]
    return lines


def fenced(language: str, text: str) -> list[str]:
    """Return text as a block of code."""
    return [f"```{language}", text, "```", ""]


def plain(text: str) -> str:
    """Return text so that Markdown shows it as it is; what stands between backticks stays code."""
    parts = text.split("`")
    return "`".join(part if index % 2 else SPECIAL.sub(r"\\\1", part) for index, part in enumerate(parts))
