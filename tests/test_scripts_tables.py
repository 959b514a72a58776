"""scripts/fill_tables.py puts the tables of a report into docs/evaluation_tables.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = """# Numbers

## One

By hand.

### Old

| a |
| --- |

## Two

### Old

| b |
| --- |
"""
REPORT = "About the report.\n\n### New\n\n" + "A note of 95 % and more. " * 6 + "\n\n\n\n| new |\n| --- |\n"


def fill(folder: Path, section: str) -> subprocess.CompletedProcess[str]:
    (folder / "page.md").write_text(PAGE, encoding="utf-8")
    (folder / "table.md").write_text(REPORT, encoding="utf-8")
    arguments = [folder / "table.md", section, "--page", folder / "page.md"]
    command = [sys.executable, ROOT / "scripts" / "fill_tables.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_only_the_tables_of_the_section_are_replaced(tmp_path: Path):
    for section, other in (("One", "Two"), ("Two", "One")):
        done = fill(tmp_path, section)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / "page.md").read_text(encoding="utf-8")
        whole = dict(zip(("", "One", "Two"), text.split("\n## "), strict=True))
        assert "### New" in whole[section]
        assert "| new |" in whole[section]
        assert "Old" not in whole[section]
        assert "Old" in whole[other]
        assert "By hand." in whole["One"]
        assert "About the report" not in text
        assert max(map(len, text.splitlines())) <= 120


def test_a_section_that_is_not_there(tmp_path: Path):
    done = fill(tmp_path, "Three")
    assert done.returncode == 1
    assert "no section of that name; there are: One, Two" in done.stderr
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == PAGE


def test_pages_that_quote_get_the_new_cells(tmp_path: Path):
    report = """### New

| system | error, years | near |
| --- | ---: | ---: |
| ours (photo) | 5.0 [4, 6] | 80 % [70, 90] |
| ours (face) | 4.0 [3, 5] | 85 % [75, 95] |

| system | near |
| --- | ---: |
| ours (photo) | not this one |
"""
    quoting = "Words.\n\n| system | near | error, years | more |\n|---|---:|---|---|\n"
    quoting += "| ours (photo) | 60 % | 7.0 [6, 8] | 1 |\n| theirs | 1 % | 9 | 2 |\n"
    quoting += "\n| other | near |\n|---|---|\n| ours (photo) | 3 |\n"
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "table.md").write_text(report, encoding="utf-8")
    (tmp_path / "quotes.md").write_text(quoting, encoding="utf-8")
    given = [tmp_path / "table.md", "One", "--page", tmp_path / "page.md", "--quote", tmp_path / "quotes.md"]
    command = [sys.executable, ROOT / "scripts" / "fill_tables.py", *given]
    subprocess.run([*map(str, command)], check=True, timeout=120, cwd=ROOT)
    expected = quoting.replace("| ours (photo) | 60 % | 7.0 [6, 8] | 1 |", "| ours (photo) | 80 % | 5.0 [4, 6] | 1 |")
    assert (tmp_path / "quotes.md").read_text(encoding="utf-8") == expected
