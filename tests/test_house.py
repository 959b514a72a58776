"""docs/house.md shows the house as it is, and its rooms stay small."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections import Counter
from pathlib import Path

import facegen

ROOT = Path(__file__).parents[1]
PLACE = Path(facegen.__file__).parents[1]  # of the packages, installed or not
MODULES = [path for room in ("facegen", "dnnlib", "torch_utils") for path in sorted((PLACE / room).rglob("*.py"))]
HOUSE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")


def test_every_file_in_the_tree_exists():
    tree = HOUSE.split("```")[1]
    names = {path.name for path in MODULES}
    folders = {path.parent.name for path in MODULES}
    assert len(re.findall(r"\b\w+\.py", tree)) > 30
    assert set(re.findall(r"\b\w+\.py", tree)) <= names
    first_words = [line.split()[0] for line in tree.splitlines() if line.startswith("  ") and line.split()]
    assert {word.strip("/") for word in first_words if word.endswith("/")} <= folders | {"templates"}


def test_every_path_of_a_journey_exists():
    paths = re.findall(r"`(\w+(?:/\w+)+(?:\.py|/))`", HOUSE.split("## Five journeys")[1])
    assert len(paths) > 20
    assert [path for path in paths if not (PLACE / "facegen" / path).exists()] == []


def test_no_folder_holds_more_than_16_modules():
    counts = Counter(path.parent for path in MODULES)
    assert {str(folder): count for folder, count in counts.items() if count > 16} == {}


def test_no_function_is_longer_than_60_lines():
    long = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                long.append(f"{path.relative_to(PLACE)}: {node.name}")
    assert long == []


def test_every_bound_that_can_be_raised_is_looked_up_when_it_is_used():
    """What `docs/security.md` says can be set is there, and no module has taken a copy of it."""
    rows = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").split("how to raise them")[1].split("## ")[0]
    module, bounds = None, []
    for name in re.findall(r"`([\w.]*[A-Z_]{5,})`", rows):
        path, _, constant = name.rpartition(".")
        module = importlib.import_module(f"facegen.{path}") if path and "beside" not in path else module
        if "beside" in path:
            module = functools.reduce(getattr, path.split("."), facegen)
        assert hasattr(module, constant), name
        bounds.append((Path(module.__file__).stem, constant))
    assert len(bounds) > 20
    copies = re.compile(r"^from [\w.]*\b(\w+) import .*?\b({})\b".format("|".join({name for _, name in bounds})), re.M)
    for path in MODULES:
        assert not set(copies.findall(path.read_text(encoding="utf-8"))) & set(bounds), path
