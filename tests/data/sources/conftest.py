"""What every test of a data set starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_layouts import write

from facegen.container import Container
from facegen.data.sources import Record, Skipped, get_source


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, Record | Skipped]]:
    """A function (source name, files by name, options) -> what the source makes of each, once each.

    Files given as a list hold their name: sources look at names and tables only.
    """

    def read_files(source: str, files: dict[str, str | bytes] | list[str] = (), **options) -> dict:
        contents = files if isinstance(files, dict) else {name: name for name in files}
        (tmp_path / "set").mkdir(exist_ok=True)
        for name, content in contents.items():
            write(tmp_path / "set" / name, content)
        items = list(get_source(source)(**options).read(Container(tmp_path / "set", strict=False)))
        found = {item.name: item for item in items}
        assert len(found) == len(items)
        assert list(found) == sorted(found)
        return found

    return read_files
