"""An option is written once: its field makes the command's option, the check, the JSON, and what --resume changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from facegen.errors import FacegenError
from facegen.options import Options, click_options, option, options_to_merge


def parse_pair(text: str) -> tuple[str, ...]:
    if "=" not in text:
        raise FacegenError(f"{text!r} is no pair")
    return tuple(text.split("="))


@dataclass(frozen=True)
class Baking(Options):
    flour: str = option(help="What bread is made of.", metavar="KIND", resumable=True)
    minutes: float = option(40.0, "Time in the oven.", above=0, resumable=True)
    loaves: int = option(2, "How many.", min=1, max=9)
    heat: str = option("top", "Where heat comes from.", choices=("top", "bottom"))
    layers: tuple[int, int] = option((1, 2), "Numbers of layers.")
    pair: tuple[str, ...] = option((), "A pair.", parse=parse_pair, unset="none")
    salted: bool = option(False, "With salt.", was="salty")
    yeast: float | None = option(None, "Grams of yeast.", unset="by flour")
    secret: int = option(7, "Not on the command line.", command=False)

    def rules(self) -> Iterable[tuple[bool, str]]:
        yield not (self.salted and self.loaves == 9), "nine loaves take no salt"


@click.command()
@click.option("--resume", is_flag=True)
@click_options(Baking)
@click.pass_context
def bake(ctx: click.Context, resume: bool, **chosen: object) -> None:
    try:
        if resume:
            click.echo(sorted(options_to_merge(ctx, Baking("rye"), without=("resume",)).items()))
        else:
            click.echo(Baking.from_command(chosen).to_json())
    except FacegenError as error:
        raise click.ClickException(str(error)) from error


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(bake, words)
    return result.exit_code, result.output


def test_the_command_fills_the_fields():
    code, output = run(
        "--flour", "rye", "--layers", "3,4", "--pair", "a=b", "--salted", "--yeast", "2.5", "--heat", "bottom"
    )  # fmt: skip
    assert code == 0
    expected = Baking("rye", layers=(3, 4), pair=("a", "b"), salted=True, yeast=2.5, heat="bottom")
    assert output.strip() == str(expected.to_json())


def test_help_shows_defaults_choices_and_ranges():
    _, text = run("--help")
    words = " ".join(text.split())
    for part in (
        "--flour KIND",
        "[top|bottom]",
        "default: 40.0",
        "default: 1,2",
        "default: by flour",
        "1<=x<=9",
        "x>0",
    ):
        assert part in words
    assert "--secret" not in words


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--loaves", "10"], "loaves"),
        (["--minutes", "0"], "minutes"),
        (["--minutes", "inf"], "minutes"),
        (["--heat", "left"], "left"),
        (["--layers", "1"], "2 whole numbers"),
        (["--layers", "a,b"], "whole numbers"),
        (["--pair", "a"], "no pair"),
        (["--loaves", "9", "--salted"], "no salt"),
    ],
)
def test_an_impossible_value_is_one_error(given, word):
    code, output = run("--flour", "rye", *given)
    assert code != 0
    assert word in output.splitlines()[-1]


@pytest.mark.parametrize("values", [{"minutes": 0}, {"minutes": float("nan")}, {"loaves": 0}, {"heat": "left"}])
def test_python_is_checked_as_the_command_is(values):
    with pytest.raises(FacegenError, match=next(iter(values))):
        Baking("rye", **values)


def test_json_there_and_back():
    options = Baking("rye", layers=(3, 4), salted=True)
    plain = {**options.to_json(), "layers": [3, 4]}  # as JSON has it
    assert Baking.from_json(plain) == options
    assert Baking.from_json({"flour": "rye"}) == Baking("rye")
    assert Baking.from_json({"flour": "rye", "salty": True}).salted  # written by an earlier version
    with pytest.raises(TypeError):
        Baking.from_json({"flour": "rye", "sugar": 1})


def test_resume_takes_what_was_written_and_may_change():
    assert run("--resume", "--minutes", "50") == (0, "[('minutes', 50.0)]\n")
    code, output = run("--resume", "--minutes", "50", "--loaves", "3")
    assert code == 2
    assert "--loaves" in output
    Baking("rye", minutes=50).check_goes_on(Baking("rye"))
    with pytest.raises(FacegenError, match="--loaves"):
        Baking("rye", loaves=3).check_goes_on(Baking("rye"))
