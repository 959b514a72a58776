from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import assert_refused

from facegen.data.crops import UNREADABLE, Cropped
from facegen.data.sources import Skipped
from facegen.data.spool import Spool
from facegen.errors import FacegenError

JOB = {"source": "/faces", "crop": {"resolution": 64}}


def picture(name: str, size: int = 100) -> Cropped:
    png = (name.encode("utf-8", "surrogateescape") * size)[:size]
    return Cropped(name, "ab" * 32, 2**63 + 5, ("enlarged",), png)


def test_what_goes_in_comes_out_in_this_run_and_the_next(tmp_path):
    outcomes = [picture("a"), Skipped("b\nc", "no face", "ü"), picture("\udcff", 3), picture("d", 0)]
    with Spool(tmp_path / "s", JOB) as spool:
        spool.add(outcomes[:2])
        spool.add(outcomes[2:])
    for _ in range(2):
        with Spool(tmp_path / "s", JOB) as spool:
            assert len(spool) == 4
            for outcome in outcomes:
                assert outcome.name in spool
                if isinstance(outcome, Skipped):
                    assert spool.get(outcome.name) == outcome
                else:
                    stored = spool.get(outcome.name)
                    assert (stored.sha256, stored.dhash, stored.notes) == (outcome.sha256, outcome.dhash, outcome.notes)
                    assert spool.png(outcome.name) == outcome.png
            assert "e" not in spool


@pytest.mark.parametrize("file", ["outcomes.jsonl", "pictures.bin"])
def test_every_length_that_a_crash_may_leave(tmp_path, file):
    """Whatever is cut off, what is left is right, and the rest can be added again."""
    outcomes = [picture("a", 20), Skipped("b", "no face"), picture("c", 30)]
    stored = [outcome.png for outcome in outcomes if isinstance(outcome, Cropped)]
    with Spool(tmp_path / "whole", JOB) as spool:
        spool.add(outcomes)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    for length in range(len(whole[file])):
        folder = tmp_path / f"{file}{length}"
        folder.mkdir()
        for name, content in whole.items():
            (folder / name).write_bytes(content[:length] if name == file else content)
        with Spool(folder, JOB) as spool:
            assert all(spool.png(name) == png for name, png in zip("ac", stored, strict=True) if name in spool)
            spool.add([outcome for outcome in outcomes if outcome.name not in spool])
        with Spool(folder, JOB) as spool:
            assert len(spool) == 3
            assert [spool.png(name) for name in "ac"] == stored


def test_garbage_at_the_end_is_cut_off(tmp_path):
    with Spool(tmp_path / "s", JOB) as spool:
        spool.add([picture("a")])
    with (tmp_path / "s" / "outcomes.jsonl").open("ab") as file:
        file.write(b'\0\0\0\n{"name": "b"}\n')
    with Spool(tmp_path / "s", JOB) as spool:
        assert len(spool) == 1
        spool.add([picture("b")])
    with Spool(tmp_path / "s", JOB) as spool:
        assert len(spool) == 2


def test_other_options_are_refused_and_named(tmp_path):
    Spool(tmp_path / "s", JOB).close()
    other = {**JOB, "crop": {"resolution": 128}}
    assert_refused("(crop {'resolution': 64}, now {'resolution': 128})", Spool, tmp_path / "s", other)
    (tmp_path / "s" / "job.json").write_text("{")
    assert_refused("other options", Spool, tmp_path / "s", JOB)


def test_remove_leaves_nothing(tmp_path):
    spool = Spool(tmp_path / "s", JOB)
    spool.add([picture("a")])
    spool.remove()
    assert list(tmp_path.iterdir()) == []


def test_two_runs_at_once_are_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from facegen.data.spool import Spool\n"
        f"s = Spool(Path({str(tmp_path / 's')!r}), {json.dumps(JOB)}); print('open', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    assert_refused("another run is working on this archive", Spool, tmp_path / "s", JOB)
    other.kill()
    other.wait()
    Spool(tmp_path / "s", JOB).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("size", [100, 100_000])  # less and more than what is buffered
def test_a_full_disk_is_named_and_what_was_stored_before_stays(tmp_path, size):
    with Spool(tmp_path / "s", JOB) as spool:
        spool.add([picture("a")])
    spool = Spool(tmp_path / "s", JOB)
    spool._pictures.close()
    spool._pictures = Path("/dev/full").open("r+b")  # noqa: SIM115
    with pytest.raises(OSError, match="No space left") as caught, spool:
        spool.add([picture("b", size)])
    assert caught.value.filename == str(tmp_path / "s")
    with Spool(tmp_path / "s", JOB) as spool:
        assert "a" in spool
        assert "b" not in spool
        assert spool.png("a") == picture("a").png


def test_outcomes_hold_until_the_file_changes(tmp_path):
    with Spool(tmp_path / "s", JOB) as spool:
        outcomes = [picture("a"), Skipped("b", "no face"), Skipped("c", UNREADABLE)]
        spool.add(outcomes, {"a": [100, 5], "b": [7, 5], "c": [0, 5]})
        spool.add([picture("old")])  # as earlier versions did
    with Spool(tmp_path / "s", JOB) as spool:
        assert [spool.is_done(name, [7, 5]) for name in ("a", "b", "c", "d", "old")] == [
            False,
            True,
            False,
            False,
            True,
        ]
        assert spool.is_done("a", [100, 5])
        assert not spool.is_done("c", [0, 5])  # what could not be read is tried again
        spool.add([picture("a", 9)], {"a": [9, 6]})
    with Spool(tmp_path / "s", JOB) as spool:
        assert spool.is_done("a", [9, 6])
        assert not spool.is_done("a", [100, 5])
        assert spool.png("a") == picture("a", 9).png


@pytest.mark.skipif(sys.platform == "win32", reason="links are for administrators")
@pytest.mark.parametrize("name", ["outcomes.jsonl", "pictures.bin", "job.json", ".lock"])
def test_a_link_that_a_stranger_left_is_not_written_through(tmp_path, name):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).symlink_to(tmp_path / "precious")
    with contextlib.suppress(OSError, FacegenError), Spool(tmp_path / "s", JOB) as spool:
        spool.add([picture("a")])
    assert (tmp_path / "precious").read_text() == "mine"
