"""A run survives what may happen in days: kills, full disks, bad data, no memory, no numbers, a scheduler's SIGTERM."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from trainings import assert_one_line, assert_same, assert_same_weights, at, go_on, narrow_options, only_run

from facegen.cli import main as facegen
from facegen.errors import FacegenError
from facegen.training.generator import batches, checkpoint, loop, saving
from facegen.training.generator.options import TrainOptions
from facegen.training.run import lock as run_state
from facegen.training.run.folder import RunFolder, read_options, read_stats
from facegen.training.run.lock import read_status
from facegen.training.run.snapshots import FAKES, drop_later, prune, read_best, read_metrics, record_metrics
from facegen.weights.header import Header
from facegen.weights.locate import SNAPSHOTS, files_by_images, list_snapshots, name_at

KILLER = Path(__file__).parents[1].joinpath("killed_runs.py")


def small_options(archive: Path, **chosen: object) -> TrainOptions:
    """Four ticks of two steps, a snapshot after each."""
    return narrow_options(archive, **{"snap": 1, **chosen})


def train(archive: Path, outdir: Path, **chosen: object) -> Path:
    return loop.train_generator(small_options(archive, **chosen), outdir, progress=False)


@pytest.fixture(scope="module")
def undisturbed(face_archive, tmp_path_factory):
    """A run that nothing happened to."""
    return train(face_archive, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def short_run(face_archive, tmp_path_factory):
    return train(face_archive, tmp_path_factory.mktemp("short"), kimg=0.008)


@pytest.fixture
def run(short_run, tmp_path):
    """A run of one tick, to go on with."""
    return shutil.copytree(short_run, tmp_path / "run" / short_run.name)


def saved_images(run: Path) -> int:
    return torch.load(run / checkpoint.STATE, weights_only=True)["images_seen"]


class TestKilled:
    """Killed by signal 9: nothing can be caught, whatever was being done."""

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
    @pytest.mark.parametrize(("kills", "first", "last"), [(3, 11, 12), pytest.param(20, 1, 18, marks=pytest.mark.slow)])
    def test_a_resumed_run_ends_with_the_same_weights_and_state(self, face_archive, tmp_path, kills, first, last):
        """At random moments, and between any two changes of a snapshot's files."""
        command = [sys.executable, KILLER, face_archive, tmp_path, kills, first, last]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environment, timeout=1200, check=False
        )
        assert done.returncode == 0, done.stderr
        counts = {}
        for kind, runs in json.loads(done.stdout).items():
            counts[kind] = [killed["kills"] for killed in runs["killed"]]
            for killed in runs["killed"]:
                assert killed["left"] == []  # no half-written file
                assert_same_weights(Path(killed["run"]), Path(runs["whole"]))
                states = (Path(run) / checkpoint.STATE for run in (killed["run"], runs["whole"]))
                assert_same(*(torch.load(state, weights_only=True) for state in states))
        assert sum(counts["random"]) == kills
        assert counts["writing"][0] == 1
        if first == 1:
            assert counts["writing"][-1] == 0, "a snapshot has more moments than were tried"

    def test_what_it_was_writing_is_never_picked_up_and_goes(self, run):
        newest = list_snapshots(run)[-1]
        half = run / f".{newest.name}.4711.tmp"
        half.write_bytes(newest.read_bytes()[:1000])
        (run / ".training-state.pt.4711.tmp").write_bytes(b"half")
        later = run / "network-snapshot-000123.safetensors"  # whole, but its state was never written
        shutil.copyfile(newest, later)
        assert list_snapshots(run) == [newest, later]
        go_on(run, kimg=0.024)
        assert later not in list_snapshots(run)
        assert newest in list_snapshots(run)
        assert not list(run.glob(".*.tmp"))
        assert saved_images(run) == 24


class TestSnapshots:
    def test_by_the_clock_which_does_not_change_the_weights(self, face_archive, tmp_path):
        often = train(face_archive, tmp_path / "a", tick=100, snap=100, snap_minutes=1e-9)
        seldom = train(face_archive, tmp_path / "b", snap=100, snap_minutes=100)
        assert [line["step"] for line in read_stats(often)] == [i / 250 for i in range(1, 9)]  # each step is late
        assert len(read_stats(seldom)) == 4
        assert_same_weights(often, seldom)

    def test_of_a_run_shorter_than_a_kimg_none_overwrites_another(self, undisturbed):
        names = [f"000000_{images:03d}" for images in (8, 16, 24, 32)]
        assert [path.name for path in list_snapshots(undisturbed)] == [
            f"network-snapshot-{x}.safetensors" for x in names
        ]
        assert [round(Header.read(path)["kimg"] * 1000) for path in list_snapshots(undisturbed)] == [8, 16, 24, 32]
        assert sorted(path.name for path in undisturbed.glob("fakes0*")) == [f"fakes{x}.png" for x in names]

    def test_tensorboard_counts_images(self, undisturbed):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(undisturbed)).Reload().Scalars("Loss/G/loss")
        assert [event.step for event in events] == [8, 16, 24, 32]

    def test_only_the_newest_are_kept(self, face_archive, tmp_path):
        run = train(face_archive, tmp_path, keep=2)
        assert [path.name[17:27] for path in list_snapshots(run)] == ["000000_024", "000000_032"]
        assert len(list(run.glob("fakes0*.png"))) == 4

    @pytest.mark.parametrize("images_seen", [0, 8, 999, 1000, 1008, 4032, 399_999, 400_000, 1_000_000, 1_234_567_890])
    def test_a_name_says_after_how_many_images(self, tmp_path, images_seen):
        for pattern in (SNAPSHOTS, FAKES):
            (tmp_path / name_at(pattern, images_seen)).touch()
            assert files_by_images(tmp_path, pattern) == [(images_seen, tmp_path / name_at(pattern, images_seen))]

    def test_names_of_the_version_before_stay_in_order_with_those_of_now(self, tmp_path):
        """It rounded down to kimg: the first was written after 4,032 images."""
        moments = ["000004", "000004_048", "000005", "000005_016", "000010", "1000000"]
        paths = [tmp_path / f"network-snapshot-{moment}.safetensors" for moment in moments]
        for path in reversed(paths):
            path.touch()
        assert list_snapshots(tmp_path) == paths
        assert sorted(paths[:-1]) == paths[:-1]  # as who sorts names would have them
        drop_later(tmp_path, 4032)
        assert list_snapshots(tmp_path) == paths[:1]

    @pytest.mark.parametrize("moment", ["before the state", "after the state"])
    def test_a_run_that_the_version_before_left_while_one_took_the_name_of_another(
        self, face_archive, undisturbed, tmp_path, moment
    ):
        """Killed while `network-snapshot-000000`, of 24 images, took the place of that of 16."""
        run = shutil.copytree(undisturbed, tmp_path / undisturbed.name)
        snapshots = {round(Header.read(path)["kimg"] * 1000): path for path in list_snapshots(run)}
        of_state = 16 if moment == "before the state" else 24
        stopped = train(face_archive, tmp_path / "stopped", kimg=of_state / 1000)
        content = torch.load(stopped / checkpoint.STATE, weights_only=True)
        torch.save({**content, "snapshot": "network-snapshot-000000.safetensors"}, run / checkpoint.STATE)
        name = run / "network-snapshot-000000.safetensors"
        snapshots[16].rename(f"{name}{checkpoint.BEFORE}")
        snapshots[24].rename(name)
        for images in (8, 32):
            snapshots[images].unlink()
        go_on(run)
        assert not list(run.glob(f"*{checkpoint.BEFORE}"))
        assert round(Header.read(name)["kimg"] * 1000) == of_state
        assert_same_weights(run, undisturbed)

    def test_the_newest_and_the_best_are_kept(self, run):
        """At 16x16 no test gets to many kimg, so the older snapshots are copies under other names."""
        snapshot = list_snapshots(run)[0].rename(run / "network-snapshot-000000.safetensors")
        for kimg, fid in ((1, 30.0), (2, 12.5), (3, float("nan")), (4, 20.0)):
            name = f"network-snapshot-{kimg:06d}.safetensors"
            shutil.copyfile(snapshot, run / name)
            record_metrics(run, name, kimg, {"fid50k_full": fid, "pr50k3_full_recall": 0.1})
        best = {"snapshot": "network-snapshot-000002.safetensors", "kimg": 2, "metric": "fid50k_full", "value": 12.5}
        assert read_best(run) == best
        assert prune(run, None) == []
        assert len(list_snapshots(run)) == 5
        prune(run, 2)
        assert [int(path.name[17:23]) for path in list_snapshots(run)] == [2, 3, 4]

    def test_what_was_measured_of_a_time_yet_to_come_does_not_count(self, tmp_path):
        for kimg, fid in ((1, 30.0), (2, 12.5)):
            record_metrics(tmp_path, f"network-snapshot-{kimg:06d}.safetensors", kimg, {"fid50k_full": fid})
        drop_later(tmp_path, 1500)
        assert read_best(tmp_path)["kimg"] == 1
        drop_later(tmp_path, 500)
        assert read_best(tmp_path) is None

    def test_of_precision_the_highest_is_the_best(self, tmp_path):
        for kimg, precision in ((1, 0.2), (2, 0.7), (3, 0.5)):
            record_metrics(tmp_path, f"network-snapshot-{kimg:06d}.safetensors", kimg, {"pr50k3_precision": precision})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"snapshot": "netw')  # the machine went down here
        assert read_best(tmp_path)["kimg"] == 2
        assert len(read_metrics(tmp_path)) == 3
        with pytest.raises(FacegenError, match="no metric"):
            record_metrics(tmp_path, "network-snapshot-000004.safetensors", 4, {})

    def test_they_may_change_on_the_way(self, run):
        arguments = ["train", "--resume", str(run), "--kimg", "0.016", "--keep", "3", "--snap-minutes", "5"]
        result = CliRunner().invoke(facegen, arguments)
        assert result.exit_code == 0, result.output
        options = read_options(run, TrainOptions)
        assert (options.keep, options.snap_minutes, options.snap) == (3, 5, 1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 4 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("may not mount a small disk here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


class TestDisk:
    def test_full_for_a_while_costs_a_snapshot_and_not_the_run(self, face_archive, undisturbed, tmp_path, monkeypatch):
        real = checkpoint.save_networks

        def save(path, networks, metadata, **rest):
            if metadata["kimg"] == 0.016:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            real(path, networks, metadata, **rest)

        monkeypatch.setattr(checkpoint, "save_networks", save)
        run = train(face_archive, tmp_path, snap=2)
        log = (run / "log.txt").read_text()
        assert "at 0.0 kimg: no snapshot, " in log
        assert "No space left on device; no snapshot had been written yet. Training continues" in log
        assert saved_images(run) == 32
        assert_same_weights(run, undisturbed)

    def test_full_at_the_end_is_an_error_and_the_pair_before_stays(self, run, monkeypatch):
        def save(path, *rest, **more):
            raise OSError(f"{path}: cannot be written; is the disk full? (No space left)")

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save_networks", save)
            with pytest.raises(
                OSError, match=r"no snapshot, .*disk full.*the last good snapshot is .*is lost"
            ) as caught:
                go_on(run, kimg=0.016)
        assert_one_line(str(caught.value))
        assert saved_images(run) == 8
        assert read_status(run).state == "broken"
        go_on(run, kimg=0.016)
        assert read_status(run).state == "finished"

    def test_a_disk_that_is_really_full(self, short_run, small_disk):
        """The log, the statistics, TensorBoard and the snapshots all find no room; room is made, and all is well."""
        run = shutil.copytree(short_run, small_disk / short_run.name)
        before = {path.name: path.read_bytes() for path in (run / checkpoint.STATE, *list_snapshots(run))}
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        result = CliRunner().invoke(facegen, ["train", "--resume", str(run), "--kimg", "0.024"])
        assert result.exit_code == 1
        assert_one_line(result.output[result.output.rindex("Error: ") :])
        assert {name: (run / name).read_bytes() for name in before} == before
        assert not list(run.glob(".*.tmp"))
        ballast.unlink()
        go_on(run, kimg=0.024)
        assert saved_images(run) == 24

    def test_a_folder_that_cannot_be_written_to(self, face_archive, short_run, small_disk):
        run = shutil.copytree(short_run, small_disk / short_run.name)
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        for arguments in (
            ["--resume", str(run), "--kimg", "0.016"],
            ["--data", str(face_archive), "--outdir", str(small_disk), "--cfg", "tiny", "--batch", "4"],
        ):
            result = CliRunner().invoke(facegen, ["train", *arguments])
            assert result.exit_code == 1
            line = result.output[result.output.rindex("Error: ") :]
            assert_one_line(line)
            assert line.startswith(f"Error: {small_disk}")
            assert "Read-only file system" in line


class TestData:
    @pytest.fixture
    def folder(self, face_archive, tmp_path):
        """The archive as a folder, to break and mend single pictures in."""
        path = tmp_path / "faces"
        with zipfile.ZipFile(face_archive) as file:
            file.extractall(path)
        return path

    @pytest.fixture
    def streamed(self, monkeypatch):
        """Pictures come from other processes, as those of an archive do that does not fit in memory."""
        monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 0)

    def test_a_corrupt_picture_stops_before_training(self, folder, tmp_path):
        picture = sorted(folder.rglob("*.png"))[9]
        picture.write_bytes(picture.read_bytes()[:120])
        with pytest.raises(FacegenError, match=picture.name) as caught:
            train(folder, tmp_path / "runs")
        assert_one_line(str(caught.value))
        assert not (tmp_path / "runs").exists()

    @pytest.mark.usefixtures("streamed")
    def test_resuming_a_streamed_archive_is_exact(self, folder, undisturbed, tmp_path):
        half = train(folder, tmp_path / "runs", kimg=0.016)
        go_on(half, kimg=0.032)
        assert_same_weights(half, undisturbed)

    @pytest.mark.usefixtures("streamed")
    @pytest.mark.parametrize("harm", ["corrupt", "remove"])
    def test_found_on_the_way_it_saves_and_mended_the_run_goes_on_as_if_nothing_had_been(
        self, folder, undisturbed, tmp_path, harm, monkeypatch
    ):
        kept = {path: path.read_bytes() for path in folder.rglob("*.png")}

        def damage(state) -> None:
            for path, content in kept.items():
                path.unlink() if harm == "remove" else path.write_bytes(content[:120])

        at(12, damage, monkeypatch)
        with pytest.raises(
            FacegenError, match=r"img\d+\.png.*Everything is saved; continue with: facegen tra"
        ) as caught:
            train(folder, tmp_path / "runs")
        assert_one_line(str(caught.value))
        run = only_run(tmp_path / "runs")
        assert saved_images(run) >= 12  # pictures that were read ahead still count
        assert read_status(run).state == "broken"
        assert "broke off: " in (run / "log.txt").read_text()
        for path, content in kept.items():
            path.write_bytes(content)
        monkeypatch.setattr(batches, "IN_MEMORY_BYTES", 2**30)
        go_on(run)
        assert_same_weights(run, undisturbed)

    def test_a_removed_data_set_is_named_and_another_place_may_be_given(self, folder, tmp_path):
        run = train(folder, tmp_path, kimg=0.008)
        folder.rename(tmp_path / "elsewhere")
        result = CliRunner().invoke(facegen, ["train", "--resume", str(run), "--kimg", "0.016"])
        assert result.exit_code == 1
        assert_one_line(result.output)
        assert str(folder) in result.output
        assert "--data" in result.output
        assert read_status(run).state == "finished"  # what was, is untouched
        go_on(run, kimg=0.016, data=str(tmp_path / "elsewhere"))


class TestNumbers:
    def test_weights_that_are_none_are_never_saved(self, face_archive, tmp_path, monkeypatch):
        def spoil(state) -> None:
            state.G_ema.synthesis.b16.torgb.weight.view(-1)[0] = float("nan")

        at(16, spoil, monkeypatch)
        monkeypatch.setattr("facegen.training.generator.step.update_average", lambda *rest: None)
        words = r"the weights of G_ema stopped being a finite number near 0\.0 kimg; the last good snapshot is .* Try a"
        with pytest.raises(FacegenError, match=words) as caught:
            train(face_archive, tmp_path)
        assert_one_line(str(caught.value))
        run = only_run(tmp_path)
        assert saved_images(run) == 16
        assert Header.read(list_snapshots(run)[-1])["kimg"] == 0.016
        assert read_status(run).state == "broken"


class TestMemory:
    CPU = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."

    @pytest.mark.parametrize("error", [RuntimeError(CPU), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
    def test_running_out_saves_and_names_a_batch_to_try(self, face_archive, tmp_path, monkeypatch, error):
        def fail(state) -> None:
            raise error

        at(16, fail, monkeypatch)
        options = small_options(face_archive, batch=8, snap=100)
        with pytest.raises(
            FacegenError, match=r"out of memory on .*; try --batch-gpu 4, .* Everything is saved"
        ) as caught:
            loop.train_generator(options, tmp_path, progress=False)
        assert_one_line(str(caught.value))
        assert saved_images(only_run(tmp_path)) == 16
        monkeypatch.undo()
        go_on(only_run(tmp_path), batch_gpu=4)

    def test_in_the_first_step_there_is_nothing_to_save(self, face_archive, tmp_path, monkeypatch):
        def fail(state) -> None:
            raise MemoryError

        at(0, fail, monkeypatch)
        with pytest.raises(FacegenError, match=r"the batch cannot be split further: .*Nothing had been learned yet"):
            train(face_archive, tmp_path)
        assert not list_snapshots(only_run(tmp_path))

    def test_other_errors_of_pytorch_are_no_want_of_memory(self, face_archive, tmp_path, monkeypatch):
        def fail(state) -> None:
            raise RuntimeError("expected 4-D input")

        at(8, fail, monkeypatch)
        with pytest.raises(RuntimeError, match="expected 4-D input"):
            train(face_archive, tmp_path)
        assert read_status(only_run(tmp_path)).reason == "RuntimeError('expected 4-D input')"

    def test_a_smaller_batch_fits_the_groups_of_minibatch_stddev(self, face_archive, tmp_path):
        options = replace(small_options(face_archive), mbstd_group=4, batch=24)
        assert "--batch-gpu 12," in saving.smaller_batch(options)
        assert "--batch-gpu 4," in saving.smaller_batch(replace(options, batch_gpu=12))
        assert "--batch-gpu 4," in saving.smaller_batch(replace(options, batch=12))


class TestPreemption:
    def test_at_the_very_end_it_is_finished_all_the_same(self, face_archive, tmp_path, monkeypatch):
        at(28, lambda state: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
        run = train(face_archive, tmp_path)
        assert read_status(run).state == "finished"


@pytest.mark.parametrize("forks", [False, True])
def test_a_killed_process_is_not_taken_for_a_running_one(tmp_path, forks):
    """Nor do its children hold its lock."""
    if forks and not hasattr(os, "fork"):
        pytest.skip("processes do not fork here")
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom facegen.training.run.lock import RunLock\n"
        f"lock = RunLock(Path(sys.argv[1]))\nchild = os.fork() if {forks} else -1\n"
        "if child: print(child, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    try:
        assert read_status(tmp_path).state == "running"
        process.kill()
        process.wait(timeout=10)
        status = read_status(tmp_path)
        assert (status.state, status.pid) == ("stopped", process.pid)
        assert "killed" in status.reason
        RunFolder.open(tmp_path).close()
    finally:
        if forks:
            os.kill(child, signal.SIGKILL)  # it lived on
        process.stdout.close()


@pytest.mark.parametrize("locks", [True, False])
def test_a_run_without_a_lock_file_runs_while_its_process_lives(tmp_path, monkeypatch, locks):
    """As the version before left it (no lock file), or on a file system that has no locks."""
    if not locks:
        (tmp_path / ".lock").touch()
        monkeypatch.setattr(run_state, "take_lock", lambda path, wait: None)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    note = {"state": "running", "reason": "", "pid": process.pid, "host": socket.gethostname(), "time": time.time() + 1}

    def state(**changes: object) -> str:
        (tmp_path / "status.json").write_text(json.dumps({**note, **changes}), encoding="utf-8")
        return read_status(tmp_path).state

    assert state() == "running"
    assert state(time=1.0) == "stopped"  # another process has its number now
    assert state(host="elsewhere") == "stopped"
    assert state(state="broken") == "broken"
    process.communicate(b"\n")
    assert state() == "stopped"
    with RunFolder.open(tmp_path):
        assert read_status(tmp_path).pid == os.getpid()
    assert read_status(tmp_path).state == "stopped"


def test_a_status_that_cannot_be_read_says_nothing(tmp_path):
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_text('{"state": "fini')
    assert read_status(tmp_path) is None
