"""Print the oldest version of every package that pyproject.toml allows, as constraints for pip: `torch==2.6`, ...

    python scripts/lower_bounds.py > oldest.txt
    pip install -c oldest.txt "facegen[dev]"

Needs `packaging`, and before Python 3.11 `tomli`: both come with `pip install build`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lower_bounds(pyproject: Path = PYPROJECT) -> Iterator[str]:
    """The lines of the constraints: one for each `name>=version`, of the package itself and of all its extras."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    for extra in (project["dependencies"], *project["optional-dependencies"].values()):
        for requirement in map(Requirement, extra):
            yield from (f"{requirement.name}=={it.version}" for it in requirement.specifier if it.operator == ">=")


if __name__ == "__main__":
    print(*sorted(set(lower_bounds())), sep="\n")
