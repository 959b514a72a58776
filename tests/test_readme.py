"""The README: its lines do what it says, without any extra, and its numbers are those that were generated."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from facegen.cli import COMMANDS, main
from facegen.doctor import EXTRAS
from facegen.weights.locate import shipped_file

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = (ROOT / "docs" / "evaluation_tables.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
IN_TABLE = re.findall(r"^\| [^|]+ \| `(facegen [^`]+)` \|", README, re.MULTILINE)
# The same lines with less to do. Each must be in the README, or this list is out of date.
LESS = {
    "--ages 5:90:5": "--ages 5:90:40",
    "--refine 150": "--refine 1",
    "--seeds 0-4": "--seeds 0-1",
    "--age 5:95:15": "--age 5,95",
    "--age 5:95 ": "--age 5:95 --frames 2 ",
    "--num-steps 200": "--num-steps 2",
    "--seeds 0-99": "--seeds 0-1",
    "--kimg 1": "--kimg 0.016",
}


def shell_lines() -> list[str]:
    """The lines between fences, without their comments."""
    blocks = [block for language, block in FENCED if language == ""]
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_it_is_short():
    assert len(README.splitlines()) <= 120


# --- Lines for the shell --------------------------------------------------------------------------------------------


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if none of the extras were installed: their modules cannot be imported."""
    for modules, _ in EXTRAS.values():
        for name in modules:
            monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.skipif(shipped_file("generator") is None, reason="needs the weights in the package")
@pytest.mark.usefixtures("no_extras")
def test_the_table_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In an empty folder: each line has only what those before it left."""
    monkeypatch.chdir(tmp_path)
    assert len(IN_TABLE) >= 12
    for text in IN_TABLE:
        line = text
        for whole, less in LESS.items():
            line = f"{line} ".replace(f"{whole.strip()} ", f"{less.strip()} ")
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    for language, code in FENCED:
        if language == "python":
            exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "at65.jpg").is_file()
    assert list(tmp_path.glob("runs/*/network-snapshot-*.safetensors"))


def test_what_is_made_smaller_is_there():
    for whole in LESS:
        assert any(f"{whole.strip()} " in f"{line} " for line in IN_TABLE), whole


def test_every_line_is_of_a_kind_that_is_checked():
    kinds = ("git clone ", "make ", "pip install ", "facegen ")
    lines = shell_lines()
    assert {kind for kind in kinds for line in lines if line.startswith(kind)} == set(kinds)
    assert [line for line in lines if not line.startswith(kinds)] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_has_what_is_named():
    targets = [line.split()[1] for line in shell_lines() if line.startswith("make ")]
    for target in targets:
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert planned.returncode == 0, planned.stderr
        assert f"facegen {target}" in planned.stdout


def test_pip_installs_extras_that_are_there():
    known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    for line in shell_lines():
        if line.startswith("pip "):
            assert set(re.findall(r"\w+", line.partition("[")[2])) <= set(known), line


def test_git_clones_nothing_but_the_last_state():
    (line,) = [line for line in shell_lines() if line.startswith("git ")]
    assert re.fullmatch(r"git clone --depth 1 https://\S+/facegen && cd facegen", line)


def test_commands_are_there():
    for line in [*IN_TABLE, *shell_lines()]:
        if line.startswith("facegen "):
            assert line.split()[1] in COMMANDS, line


# --- Numbers --------------------------------------------------------------------------------------------------------


def tables_of(text: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, the first that of the columns' names."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split(" | ")] for row in block.splitlines()] for block in blocks]


def generated_cells(section: str) -> dict[tuple[str, str], str]:
    """What is generated of the shipped weights over all ages, by row and column."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", GENERATED, re.MULTILINE | re.DOTALL)
    cells = {}
    for columns, _, *rows in tables_of(text)[:3]:
        for name, *found in rows:
            cells |= {(name, column): cell for column, cell in zip(columns[1:], found, strict=True)}
    return cells


@pytest.mark.parametrize("name", ["README.md", "docs/MODEL_CARD.md", "docs/editor.md"])
def test_numbers_are_those_that_were_generated(name):
    generated = generated_cells("The shipped weights")
    tables = [table for table in tables_of((ROOT / name).read_text(encoding="utf-8")) if table[0][0] == "system"]
    assert len(tables) == 1
    columns, _, *rows = tables[0]
    assert len(rows) >= 2
    for row, *cells in rows:
        for column, cell in zip(columns[1:], cells, strict=True):
            whole = generated.get((row, column), "–")
            assert cell in (whole, re.split(r" [\[(]", whole)[0]), f"{row}, {column}: {cell}, but generated: {whole}"
