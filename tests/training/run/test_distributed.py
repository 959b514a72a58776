"""Several processes that train together, on CPUs with gloo; processes are real ones, started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import distributed_worker
import pytest
import torch
from click.testing import CliRunner
from helpers import small_generator
from random_judges import compute, random_detectors
from safetensors.torch import load_file
from trainings import CPU

from facegen.cli import main as facegen
from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.networks.discriminator import append_minibatch_std
from facegen.training.augment.pipe import AugmentPipe
from facegen.training.augment.strengths import AUGPIPE_PRESETS
from facegen.training.draws import BatchRandom, Part
from facegen.training.generator.options import TrainOptions
from facegen.training.generator.parts import batch_parts
from facegen.training.run import distributed
from facegen.training.run.folder import read_stats
from facegen.weights.load import load_generator
from facegen.weights.native import save_networks

WORKER = Path(__file__).parents[1].joinpath("distributed_worker.py")
ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def torchrun(processes: int, *arguments: object, script: Path = WORKER, **environment: str) -> str:
    """Run a script in several processes and return what they print."""
    starter = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    result = subprocess.run(
        [sys.executable, *starter, str(script), *map(str, arguments)],
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def start(*arguments: object, **environment: str) -> subprocess.Popen:
    """Start `facegen ...`."""
    return subprocess.Popen(
        [sys.executable, "-m", "facegen", *map(str, arguments)],
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(found, process: subprocess.Popen, seconds: float = 120):
    """Wait until a function finds something, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if result := found():
            return result
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate()[0])


def workers(process: subprocess.Popen) -> list[int]:
    """The training processes that a launcher started, in order of rank."""
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    pids = sorted(int(pid) for file in children for pid in file.read_text().split())
    return [pid for pid in pids if "facegen" in _command_of(pid)]


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


# -- a batch in parts


def test_parts_draw_what_the_whole_batch_draws():
    torch.manual_seed(5)
    whole = BatchRandom()
    expected_z, expected_c = whole.normal(8, 3, CPU), whole.classes(torch.tensor([0.5, 0.5]), 8)
    expected_layer, expected_noise = whole.layer(1, 9), whole.normal_like(torch.zeros(4, 3, 8, 8))
    torch.manual_seed(5)
    random = BatchRandom()
    random.split(CPU)
    begin = random.position()
    for index in range(4):
        random.go_to(begin)
        random.part = Part(index, 4)
        torch.rand(7)  # whatever else a process draws does not matter
        assert torch.equal(random.normal(8, 3, CPU), expected_z[index::4])
        assert torch.equal(random.classes(torch.tensor([0.5, 0.5]), 8), expected_c[index::4])
        assert random.layer(1, 9) == expected_layer
        assert torch.equal(random.normal_like(torch.zeros(1, 3, 8, 8)), expected_noise[index::4])


def test_parts_are_augmented_like_the_whole_batch():
    pipe = AugmentPipe(AUGPIPE_PRESETS["bgc"])
    images = torch.rand(8, 3, 16, 16) * 2 - 1
    random = BatchRandom()
    random.split(CPU)
    begin = random.position()
    expected = pipe(images, random)
    for index in range(2):
        random.go_to(begin)
        random.part = Part(index, 2)
        augmented = pipe(random.part.of(images), random)
        # The border that a batch needs depends on the batch; what it changes is rounding.
        assert torch.allclose(augmented, expected[index::2], atol=1e-4)


@pytest.mark.parametrize(("batch", "parts", "group"), [(8, 2, 4), (16, 4, 4), (12, 3, 2)])
def test_parts_keep_the_groups_of_minibatch_stddev(batch, parts, group):
    features = torch.randn(batch, 2, 4, 4)
    whole = append_minibatch_std(features, group, 1)
    for index in range(parts):
        part = Part(index, parts)
        assert torch.allclose(append_minibatch_std(part.of(features), group, 1), part.of(whole), atol=1e-6)


def test_random_states_go_on_split_or_not():
    torch.manual_seed(3)
    random = BatchRandom()
    saved = random.state_dict()
    expected = random.normal(4, 2, CPU)
    split = BatchRandom()
    split.split(CPU)
    split.load_state_dict(saved)
    assert torch.equal(split.normal(4, 2, CPU), expected)
    random.load_state_dict(split.state_dict())
    assert torch.equal(random.normal(4, 2, CPU), split.normal(4, 2, CPU))


@pytest.mark.parametrize(
    ("batch", "batch_gpu", "processes", "words"),
    [
        (10, None, 4, "a batch of 10 cannot be shared by 4 processes"),
        (16, 3, 2, "--batch-gpu 3 does not divide the 8 pictures"),
        (24, 6, 2, r"6 pictures at a time are not a multiple of 4 \(minibatch-stddev group\)"),
    ],
)
def test_batches_that_cannot_be_shared_out(batch, batch_gpu, processes, words):
    chosen = {"batch": batch, "batch_gpu": batch_gpu, "mbstd_group": 2 if batch == 10 else 4}
    options = TrainOptions("d", cfg="tiny", **chosen).decide(16)
    with pytest.raises(FacegenError, match=words):
        batch_parts(options, 0, processes)


def test_shares_of_all_processes_make_the_batch():
    options = TrainOptions("d", cfg="tiny", batch=16, batch_gpu=4).decide(16)
    parts = [part for rank in range(2) for part in batch_parts(options, rank, 2)]
    assert sorted(part.index for part in parts) == [0, 1, 2, 3]
    assert {part.count for part in parts} == {4}
    more = batch_parts(options, 1, 8)  # a run that goes on with more processes: no more than a share
    assert more == [Part(1, 8)]


def test_alone_nothing_is_distributed():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    agree = distributed.Agreement()
    assert agree(True, False) == (True, False)
    tensor = torch.ones(2)
    distributed.average([tensor])
    assert torch.equal(tensor, torch.ones(2))
    assert distributed.share("x") == "x"


# -- the generator


@pytest.fixture(scope="module")
def two_processes(face_archive, tmp_path_factory) -> tuple[Path, str]:
    """What two processes leave that do all that the worker can do, and what they print."""
    folder = tmp_path_factory.mktemp("two")
    return folder, torchrun(2, "all", face_archive, folder)


@pytest.fixture(scope="module")
def ten_steps(face_archive, two_processes, tmp_path_factory):
    """The weights after ten steps on batches of 8, everything on: ADA, path lengths, style mixing, lazy penalties."""
    folder = tmp_path_factory.mktemp("steps")

    def run(processes: int, batch_gpu: int = 0) -> dict[str, torch.Tensor]:
        if (processes, batch_gpu) == (2, 0):
            return torch.load(two_processes[0] / "generator.pt")
        path = folder / f"{processes}-{batch_gpu}.pt"
        if path.exists():
            return torch.load(path)
        if processes == 1:
            distributed_worker.generator(str(face_archive), str(path), batch_gpu, 2)
        else:
            torchrun(processes, "generator", face_archive, path, batch_gpu, 2)
        return torch.load(path)

    return run


@pytest.mark.parametrize(
    ("processes", "batch_gpu"),
    [(1, 4), (2, 0), pytest.param(2, 2, marks=pytest.mark.slow), pytest.param(4, 0, marks=pytest.mark.slow)],
)
def test_the_weights_do_not_depend_on_how_a_batch_is_shared_out(ten_steps, processes, batch_gpu):
    """Sums in another order change the last bits; Adam divides by their size, so 1e-4 and not 1e-6."""
    whole, shared = ten_steps(1), ten_steps(processes, batch_gpu)
    assert float(whole["augment.p"]) != pytest.approx(0.3)  # ADA did move
    assert float(whole["pl_mean"]) > 0
    assert torch.equal(whole["random"], shared["random"])
    assert difference(whole, shared) < 1e-4


@pytest.mark.slow
def test_resume_with_two_processes_is_exact(face_archive, tmp_path):
    def train(*arguments):
        process = start("train", *arguments, "--gpus", 2)
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output

    common = ["--data", face_archive, "--cfg", "tiny", "--batch", 8, "--tick", "0.016", "--p", 0.3]
    train(*common, "--outdir", tmp_path / "whole", "--kimg", "0.08")
    train(*common, "--outdir", tmp_path / "half", "--kimg", "0.04")  # in the middle of an interval of ADA
    (half,) = (tmp_path / "half").iterdir()
    train("--resume", half, "--kimg", "0.08")
    whole, resumed = (load_file(next(tmp_path.glob(f"{name}/*/*.safetensors"))) for name in ("whole", "half"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def endless(face_archive, outdir, **environment) -> subprocess.Popen:
    common = ["--data", face_archive, "--outdir", outdir, "--cfg", "tiny", "--batch", 8, "--tick", "0.016", "--snap", 1]
    return start("train", *common, "--kimg", 100, "--gpus", 2, **environment)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 75)])
def test_a_signal_saves_on_all(face_archive, tmp_path, number, code):
    process = endless(face_archive, tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/training-state.pt")), process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == code, output
    assert output.count("continue with: facegen train --resume") == 1
    assert "Traceback" not in output


def test_a_killed_process_ends_all_and_the_run_goes_on_with_one(face_archive, tmp_path):
    """In the shell, with random noise."""
    process = endless(face_archive, tmp_path)
    wait_for(lambda: list(tmp_path.glob("*/training-state.pt")), process)
    pids = workers(process)
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    killed = time.monotonic()
    output, _ = process.communicate(timeout=100)
    assert time.monotonic() - killed < 60
    assert process.returncode == 1
    assert "cpu, 2 processes" in output
    assert "ended with signal 9, so all were ended" in output
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    (run,) = tmp_path.iterdir()
    seen, snapshot = (
        torch.load(run / "training-state.pt", weights_only=True)["images_seen"],
        next(run.glob("*.safetensors")),
    )
    before = load_file(snapshot)
    result = CliRunner().invoke(facegen, ["train", "--resume", str(run), "--kimg", str(seen / 1000 + 0.016)])
    assert result.exit_code == 0, result.output
    assert torch.load(run / "training-state.pt", weights_only=True)["images_seen"] == seen + 16
    assert difference(before, load_file(max(run.glob("*.safetensors")))) > 0
    steps = [line["step"] for line in read_stats(run)]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_process_that_hangs_ends_all_within_the_timeout(face_archive, tmp_path):
    process = endless(face_archive, tmp_path, FACEGEN_TIMEOUT="15", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="5")
    wait_for(lambda: list(tmp_path.glob("*/training-state.pt")), process)
    pids = workers(process)
    os.kill(pids[1], signal.SIGSTOP)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "rank 0 of 2: another process is gone or does not answer" in output
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "9", "--gpus", "2"], "multiple of 4"),
        (["--batch", "12", "--gpus", "8"], "a batch of 12 cannot be shared by 8 processes"),
        (["--batch-gpu", "0"], "batch-gpu must be at least 1"),
        (["--gpus", "0"], "--gpus"),
    ],
)
def test_mistakes_are_found_before_any_process_starts(face_archive, tmp_path, arguments, words):
    command = ["train", "--data", str(face_archive), "--outdir", str(tmp_path / "runs"), "--cfg", "tiny", *arguments]
    result = CliRunner().invoke(facegen, command)
    assert result.exit_code in (1, 2)
    assert words in result.output
    assert not (tmp_path / "runs").exists()


def test_gpus_within_torchrun_is_refused(face_archive, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    result = CliRunner().invoke(facegen, ["train", "--data", str(face_archive), "--cfg", "tiny", "--gpus", "2"])
    assert result.exit_code == 2
    assert "leave out --gpus" in result.output


# -- what holds the processes together


def test_what_processes_tell_each_other(two_processes):
    """Agreement, rank 0's results and errors, statistics, the check of equal weights: see the worker."""
    assert two_processes[1].count("all is well") == 2


def test_two_processes_stop_go_on_and_measure_together(face_archive, two_processes):
    """Ctrl-C on one saves on both; they share the pictures and leave one run, with the numbers that one finds."""
    folder, output = two_processes
    for text in (
        "cpu, 2 processes",
        "continue with: facegen train --resume",
        "kimg, 2 processes",
        "finished: 0.0 kimg",
    ):
        assert output.count(text) == 1
    (run,) = (folder / "runs").iterdir()
    names = distributed_worker.METRICS
    alone = compute(load_generator(run)[0], FaceArchive(face_archive), names, detectors=random_detectors())
    found = {}
    for name in names.split(","):
        (line,) = map(json.loads, (run / f"metric-{name}.jsonl").read_text().splitlines())
        assert line["num_gpus"] == 2
        found |= line["results"]
    # The snapshot's weights are those that were measured, so the numbers come again to the last digits.
    assert found == pytest.approx(alone, rel=1e-6)


# -- the encoder


def test_the_encoder_does_not_depend_on_how_a_batch_is_shared_out(two_processes, tmp_path):
    """Batch normalization included; 1e-4 for the same reason as above."""
    distributed_worker.train_encoder(str(tmp_path / "one.pt"))
    assert difference(torch.load(tmp_path / "one.pt"), torch.load(two_processes[0] / "encoder.pt")) < 1e-4


@pytest.mark.slow
def test_train_encoder_of_two_processes(tmp_path):
    """The command, to its end; InceptionResnetV1 takes its time."""
    save_networks(tmp_path / "g.safetensors", {"G_ema": small_generator(0)}, {})
    small = ["--pairs", 40, "--epochs", 1, "--batch", 8, "--init", "none", "--blocks", "0,0,0", "--input-size", 75]
    command = ["train-encoder", "--generator", tmp_path / "g.safetensors", *small, "--device", "cpu"]
    process = start(*command, "--outdir", tmp_path / "runs", "--gpus", 2)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert output.count("done: best validation loss") == 1
    (run,) = (tmp_path / "runs").iterdir()
    result = CliRunner().invoke(facegen, ["train-encoder", "--resume", str(run), "--epochs", "2", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    shared = read_stats(run)
    assert [line["step"] for line in shared] == [1, 2]
    result = CliRunner().invoke(facegen, [*map(str, command), "--outdir", str(tmp_path / "alone")])
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "alone").iterdir()
    # Batch normalization's statistics are of whole batches, however many processes share them.
    assert read_stats(run)[0]["val_mse"] == pytest.approx(shared[0]["val_mse"], rel=1e-3)


def test_a_single_process_works_on_the_gpu_that_it_is_given(monkeypatch):
    current = []

    @contextmanager
    def on(device):
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", on)
    with distributed.join(torch.device("cuda:1")) as device:
        assert current == [device] == [torch.device("cuda:1")]
    assert not current
    with distributed.join(CPU) as device:
        assert (current, device) == ([], CPU)
