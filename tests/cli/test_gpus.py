"""`--gpus N`: every process is started with the options that the user gave."""

from __future__ import annotations

import click
import pytest

from facegen.cli import COMMANDS, main
from facegen.training.run.launch import run_on_all


def commands() -> list[click.Command]:
    found = [main.get_command(click.Context(main), name) for name in COMMANDS]
    return [command for command in found if "gpus" in {option.name for option in command.params}]


def given(option: click.Option) -> list[list[str]]:
    """Return the ways to write an option on a command line."""
    if option.is_flag:
        return [[name] for name in [*option.opts, *option.secondary_opts]]
    if option.type is click.BOOL:
        return [[option.opts[-1]], [f"{option.opts[-1]}=true"], [f"{option.opts[-1]}=false"]]
    if isinstance(option.type, click.Choice):
        return [[option.opts[-1], option.type.choices[-1]]]
    value = {"integer": "8", "float": "0.25"}.get(option.type.name.removesuffix(" range"), "1,2,3")
    return [[name, value] for name in option.opts]


LINES = [
    pytest.param(command, line, id=" ".join([command.name, *line]))
    for command in commands()
    for option in command.params
    if option.name != "gpus"
    for line in given(option)
]


def test_every_training_on_several_gpus_is_here():
    assert {"train", "train-encoder"} <= {command.name for command in commands()}


@pytest.mark.parametrize(("command", "line"), LINES)
def test_an_option_reaches_every_process(monkeypatch, command, line):
    launched = []
    monkeypatch.setattr("facegen.training.run.launch.launch", lambda *call: launched.append(call) or 0)
    ctx = command.make_context(command.name, [*line, "--gpus", "2"])
    assert run_on_all(ctx, 2)
    [((name, *arguments), processes)] = launched
    assert (name, processes) == (command.name, 2)
    assert command.make_context(name, arguments).params == ctx.params | {"gpus": 1}
