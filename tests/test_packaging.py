"""The files around the package: what make installs, versions, and what GitHub reads."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import facegen

ROOT = Path(__file__).parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def read(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def make(*arguments: str, venv: Path) -> list[str]:
    """The lines that make would run in an environment that is not there yet."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    command = ["make", "-n", "-C", str(ROOT), f"VENV={venv}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(("target", "extra"), [("demo", ""), ("app", "[app]"), ("test", "[dev]")])
def test_cpu_takes_the_small_pytorch_first(target: str, extra: str, tmp_path: Path):
    lines = make(target, "CPU=1", venv=tmp_path / "venv")
    (torch,) = [
        number for number, line in enumerate(lines) if CPU_INDEX in line and line.endswith(" torch torchvision")
    ]
    (package,) = [number for number, line in enumerate(lines) if line.endswith(f'install -e ".{extra}"')]
    (said,) = [number for number, line in enumerate(lines) if "0.5 GB" in line]
    assert said < torch < package


@pytest.mark.parametrize("cpu", [(), ("CPU=x86_64",), ("CPU=",)])  # some systems set CPU
def test_without_it_pip_takes_the_usual_one(cpu: tuple[str, ...], tmp_path: Path):
    assert CPU_INDEX not in "\n".join(make("demo", *cpu, venv=tmp_path / "venv"))


def test_every_target_has_a_line_of_help():
    targets = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[1].split()
    assert {*re.findall(r"^# make (\w+) ", read("Makefile"), re.MULTILINE), "help"} == set(targets)


def test_versions_agree():
    assert re.search(r"^version: (\S+)$", read("CITATION.cff"), re.MULTILINE)[1] == facegen.__version__
    assert re.search(rf"^## {re.escape(facegen.__version__)}\b", read("CHANGELOG.md"), re.MULTILINE)
    assert re.search(r'^version = "', read("pyproject.toml"), re.MULTILINE) is None


def test_lower_bounds_are_those_of_pyproject():
    pytest.importorskip("packaging")
    result = script("lower_bounds.py")
    assert result.returncode == 0, result.stderr
    written = set(re.findall(r'"([\w-]+>=[\d.]+)', read("pyproject.toml").partition("[project]")[2]))
    assert {line.replace("==", ">=") for line in result.stdout.splitlines()} == written


def test_every_file_of_the_packages_goes_into_the_wheel():
    table = read("pyproject.toml").partition("[tool.setuptools.package-data]")[2].partition("\n[")[0]
    patterns = {name: ast.literal_eval(value) for name, value in re.findall(r"^(\w+) = (\[.*?\])", table, re.MULTILINE)}
    for package in ("facegen", "torch_utils", "dnnlib"):
        folder = Path(facegen.__file__).parents[1] / package
        data = {path for path in folder.rglob("*.*") if path.suffix not in (".py", ".pyc")}
        assert data == {path for pattern in patterns.get(package, []) for path in folder.glob(pattern)} & data
        assert all((path.parent / "__init__.py").is_file() for path in folder.rglob("*.py"))


def test_wheels_that_differ_are_found(tmp_path: Path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr("facegen/ages.py", text)
    same = script("same_wheels.py", tmp_path / "a.whl", tmp_path / "b.whl")
    assert (same.returncode, same.stdout) == (0, "a.whl: 0.0 MB, 1 files\n")
    different = script("same_wheels.py", tmp_path / "a.whl", tmp_path / "c.whl")
    assert different.returncode == 1
    assert "facegen/ages.py" in different.stderr


def test_issue_forms_ask_for_something():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    asked = {form.stem: yaml.safe_load(form.read_text(encoding="utf-8")).get("body") for form in forms}
    assert asked.pop("config") is None
    assert set(asked) == {"bug", "feature"}
    for fields in asked.values():
        names = [field["id"] for field in fields]
        assert len(set(names)) == len(names)
        assert any(field.get("validations", {}).get("required") for field in fields)
        assert all(field["attributes"]["label"] for field in fields)


def test_the_workflow_runs_what_ci_runs():
    jobs = yaml.safe_load(read(".github", "workflows", "ci.yml"))["jobs"]
    assert {"run": ".ci/run"} in jobs["tests"]["steps"]
    for python in jobs["tests"]["strategy"]["matrix"]["python"]:
        assert (3, 10) <= tuple(map(int, python.split("."))) < (3, 14)
    for job in jobs.values():
        for step in job["steps"]:
            for name in re.findall(r"(?:scripts|\.ci)/\S+", step.get("run", "")):
                assert (ROOT / name).is_file(), name
