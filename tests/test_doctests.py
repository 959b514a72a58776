"""All examples in docstrings run, in one folder with what they read: `photo.jpg`, `generator.safetensors`."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import HOPPER, small_estimator, small_generator, write_faces
from random_judges import random_detectors

import facegen
from facegen.weights.locate import shipped_file

ROOT = Path(__file__).parents[1]


def examples() -> dict[str, str]:
    """Docstrings with examples, by `module:Class.method`. Read, not imported: every process of pytest asks."""
    found = {}
    for path in sorted(path for room in ("facegen", "torch_utils", "dnnlib") for path in (ROOT / room).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if ">>> " in text:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found |= {f"{module}:{name}": doc for name, doc in docstrings(ast.parse(text), "") if ">>> " in doc}
    return found


def docstrings(node: ast.AST, name: str) -> list[tuple[str, str]]:
    """The docstrings of a module or class, and of all below it."""
    found = [(name, ast.get_docstring(node) or "")]
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            found += docstrings(child, f"{name}.{child.name}".lstrip("."))
    return found


EXAMPLES = examples()


def for_ada(folder: Path) -> dict[str, Any]:
    from facegen.training.augment.pipe import AugmentPipe, Strengths

    return {
        "discriminator": lambda images: images.mean((1, 2, 3)),
        "real_images": torch.randn(4, 3, 16, 16),
        "augment_pipe": AugmentPipe(Strengths()),
    }


def for_a_session(folder: Path) -> dict[str, Any]:
    from facegen.training.run.data import note_of

    network = small_estimator()
    archive = facegen.FaceArchive(write_faces(folder / "for_a_session.zip", [5, 25, 45]))
    return {
        "note_of": note_of,
        "archive": archive,
        "classes": archive.class_names,
        "options": facegen.AgeOptions(data="for_a_session.zip"),
        "network": network,
        "optimizer": torch.optim.Adam(network.parameters()),
        "step": 100,
    }


def for_an_evaluator(folder: Path) -> dict[str, Any]:
    archive = facegen.FaceArchive(write_faces(folder / "for_an_evaluator.zip", [5, 25, 45, 65]))
    return {"archive": archive, "detectors": random_detectors(), "generator": small_generator(archive.c_dim)}


# What the text around an example speaks of, beside what its module knows.
GIVEN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "facegen.data.archive:ArchiveWriter": lambda folder: {"image": np.zeros([16, 16, 3], np.uint8)},
    "facegen.metrics.evaluate:Evaluator": for_an_evaluator,
    "facegen.networks.graphed:GraphedGenerator": lambda folder: {
        "G": small_generator(2),
        "batches": [(torch.randn(2, 8), torch.eye(2))] * 3,
    },
    "facegen.training.augment.ada:AdaController": for_ada,
    "facegen.training.run.session:Session": for_a_session,
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """One folder for all examples; what they write have different names."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(HOPPER, folder / "photo.jpg")
    shutil.copy(shipped_file("generator"), folder / "generator.safetensors")
    return folder


def run(docstring: str, name: str, given: dict[str, Any]) -> tuple[int, str]:
    """Run the examples of a docstring; how many there are, and what went wrong."""
    test = doctest.DocTestParser().get_doctest(docstring, given, name, None, None)
    runner = doctest.DocTestRunner(verbose=False)
    report = io.StringIO()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        runner.run(test, out=report.write)
    return len(test.examples), report.getvalue()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module = importlib.import_module(name.partition(":")[0])
    given = {**vars(module), **GIVEN.get(name, lambda _: {})(folder)}
    count, wrong = run(EXAMPLES[name], name, given)
    assert count
    assert wrong == "", wrong


def test_all_examples_are_found():
    assert len(EXAMPLES) >= 19
    assert set(GIVEN) <= set(EXAMPLES)
    assert "facegen.aging.transfer:AgeTransfer" in EXAMPLES


def test_an_example_that_is_wrong():
    assert "Expected:\n    3\nGot:\n    2" in run(">>> 1 + 1\n3", "wrong", {})[1]
    assert "NameError" in run(">>> nobody_knows_this", "wrong", {})[1]
