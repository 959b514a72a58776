"""IMDB-WIKI as large as a test may be: counts exact, memory bounded, killed and resumed, sharded and merged."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from dataset_layouts import make_big_imdb_wiki

from facegen.data.archive import FaceArchive
from facegen.data.shards import merge

RECORDS = 20_000
# Runs a command and prints the peak memory of the process, in MB.
MEASURED = """
import pathlib, sys
from facegen.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    # Not getrusage, which also counts the process that started this one.
    (peak,) = [line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    print("PEAK", int(peak.split()[1]) // 1024)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory, face):
    """(folder, how many there are of each kind)."""
    root = tmp_path_factory.mktemp("imdb-wiki")
    return root, make_big_imdb_wiki(root, face, RECORDS)


def prepare(*arguments: object) -> str:
    command = [sys.executable, "-c", MEASURED, "prepare", *map(str, arguments), "--crop", "as-is", "--resolution", "32"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=1500).stdout


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_thousand_records(tree, tmp_path):
    root, kinds = tree
    output = prepare(root, tmp_path / "whole.zip", "--per-person", 20)
    # Python, PyTorch and MTCNN, which measures the alignment, take 600 MB of it whatever the number of records.
    assert int(output.split("PEAK")[1]) < 1000
    report = json.loads((tmp_path / "whole.zip.report.json").read_text())
    dropped = {reason: len(files) for reason, files in report["dropped"].items()}
    over = dropped.pop("over --per-person")
    broken = kinds["unreadable picture"]
    assert 0 < dropped["unreadable picture"] <= broken  # what is over --per-person is not decoded
    broken_or_good = kinds[""] + broken
    for reason in ("no face", "second face", "dates disagree", "file missing"):
        assert dropped[reason] == kinds[reason]
    assert report["read"] == RECORDS
    assert report["written"] + over + dropped["unreadable picture"] == broken_or_good
    archive = FaceArchive(tmp_path / "whole.zip")
    assert len(archive) == report["written"]
    assert [archive.groups.index_of(age) for age in archive.ages] == archive.labels.tolist()

    shards = [tmp_path / f"shard{i}.zip" for i in (1, 2, 3)]
    for number, shard in enumerate(shards, 1):
        prepare(root, shard, "--per-person", 20, "--shard", f"{number}/3")
    merge(shards, tmp_path / "merged.zip", progress=False)
    assert (tmp_path / "merged.zip").read_bytes() == (tmp_path / "whole.zip").read_bytes()
