"""Whatever strangers name and write, no command lets a control character of theirs through, nor markup into a page."""

from __future__ import annotations

import ast
import csv
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from helpers import HOPPER, small_encoder, small_estimator, small_generator, write_faces
from PIL import Image
from safetensors.torch import save_file
from strangers import ARGUMENT, LONG, NAME, ODD, TEXT, assert_clean, assert_safe_page

import facegen
from facegen.ages import AgeGroups
from facegen.cli import main
from facegen.html import write_page
from facegen.images import encode_png
from facegen.text import visible
from facegen.training.run.folder import RunFolder
from facegen.weights import locate
from facegen.weights.native import save_networks

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no file of Windows has such a name")


def run(*arguments: object, code: int | None = None) -> Result:
    """Run a command in this process; what it prints is clean."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert_clean(result.stdout)
    bars = result.stderr.replace("\rfake", "\x1b")  # bars begin with \r
    assert_clean(bars.replace("\r", "\n"))
    assert len(result.output) < 100_000 or "--json" in arguments
    if code is not None:
        assert result.exit_code == code, result.output
    return result


def picture(size: tuple[int, int] = (32, 32), color: int = 0) -> bytes:
    return encode_png(Image.new("RGB", size, (color, 0, 0)))


def write_zip(path: Path, files: dict[str, bytes], dataset: object) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("dataset.json", json.dumps(dataset))
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A generator whose header is a stranger's."""
    header = {
        "license": TEXT,
        "class_names": [TEXT, LONG, "c"],
        "kimg": 1,
        "metrics": {TEXT: TEXT},
        "training_options": {"data": TEXT, "resume": TEXT, "generator": TEXT, "half": TEXT},
        "origin": {"assumed": [TEXT], "sources": {TEXT: {"lines": TEXT, "sha256": TEXT}}, "format": TEXT},
    }
    path = tmp_path / f"net{ODD}.safetensors"  # safetensors opens no file whose name is not UTF-8
    save_networks(path, {"G_ema": small_generator(3)}, header)
    return path


@pytest.mark.parametrize("more", [[], ["--layers"], ["--json"], ["--json", "--layers"]], ids=" ".join)
def test_info_of_a_header(network: Path, more: list[str]):
    result = run("info", network, *more, code=0)
    if "--json" in more:
        facts = json.loads(result.stdout)
        assert facts["license"] == TEXT
        assert facts["file"] == str(network)


@pytest.mark.parametrize("more", [[], ["--layers"], ["--json", "--layers"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["safetensors", "pt", "bad"])
def test_info_of_others_files(tmp_path: Path, kind: str, more: list[str]):
    path = tmp_path / f"{NAME}.{kind}"
    if kind == "safetensors":
        odd = ODD.replace("\ud800", "")
        save_file({f"{odd}w": torch.zeros(2), f"{odd}{'x' * 10**4}": torch.zeros(2)}, path, metadata={odd: odd})
    elif kind == "pt":
        torch.save({ODD: {ODD: torch.zeros(3)}}, path)
    else:
        path.write_bytes(b"\x80\x02c" + ODD.replace("\n", "").encode() + b"\nx\n)R.")
    run("info", path, *more)


def test_convert(network: Path, tmp_path: Path):
    run("convert", network, tmp_path / f"{NAME}.pkl", code=0)
    run("convert", network, tmp_path / f"{NAME}.pkl", code=1)  # is there already
    run("convert", network, tmp_path / f"x.{NAME}")
    run("convert", network, tmp_path / "x.pt", "--to", "rosinality", "--group", ARGUMENT)
    run("info", tmp_path / f"{NAME}.pkl", code=0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A training archive of the family, in which a stranger named everything, and named much that is not there."""
    files = {
        f"a{ODD}.png": picture(),
        f"b{ODD}.png": picture(color=9),
        f"bad{ODD}.png": b"no",
        "c.png": picture((9, 9)),
    }
    labels = [[f"a{ODD}.png", 0], [f"b{ODD}.png", 1], [f"gone{ODD}.png", 0], [f"bad{ODD}.png", 1], ["c.png", 0]]
    dataset = {"labels": labels, "classes": [TEXT, LONG], TEXT: TEXT}
    return write_zip(tmp_path / f"faces{NAME}.zip", files, dataset)


def test_inspect(archive: Path, tmp_path: Path):
    run("inspect", archive, "--html", tmp_path / "a.html", "--json", tmp_path / "a.json", code=1)
    assert_safe_page(tmp_path / "a.html")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert_clean(text)
    assert json.loads(text)


def test_inspect_of_wrong_json(tmp_path: Path):
    for number, labels in enumerate([[[f"{ODD}.png", TEXT]], [[TEXT, {TEXT: TEXT}]], {TEXT: TEXT}, TEXT]):
        path = write_zip(tmp_path / f"{number}.zip", {f"{ODD}.png": picture()}, {"labels": labels})
        run("inspect", path, "--html", tmp_path / f"{number}.html")
        assert not (tmp_path / f"{number}.html").exists() or assert_safe_page(tmp_path / f"{number}.html")
        run("train", "--data", path, "--outdir", tmp_path / "runs", "--dry-run", code=1)


def test_inspect_of_its_own_archive(tmp_path: Path):
    """Attributes, persons and splits of facegen.json."""
    path = write_faces(tmp_path / "own.zip", [10, 30], AgeGroups.parse("0-20,21-"))
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    own = json.loads(files["facegen.json"])
    for face in own["faces"].values() if isinstance(own.get("faces"), dict) else []:
        face.update({"person": TEXT, "gender": TEXT, "source": TEXT, "attributes": {TEXT: TEXT}, TEXT: TEXT})
    own["source"] = own["title"] = TEXT
    files["facegen.json"] = json.dumps(own).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)
    run("inspect", path, "--html", tmp_path / "a.html", "--json", tmp_path / "a.json")
    assert_safe_page(tmp_path / "a.html")


def test_label(tmp_path: Path):
    for name in (f"c{NAME}", "d", f"empty{NAME}"):
        (tmp_path / "lab" / name).mkdir(parents=True)
    for name in (f"c{NAME}", "d"):
        (tmp_path / "lab" / name / f"p{NAME}.png").write_bytes(picture())
        (tmp_path / "lab" / name / f"q{NAME}.png").write_bytes(b"no")
        (tmp_path / "lab" / name / f"r{NAME}.txt").write_bytes(b"no")
    (tmp_path / "lab" / f"stray{NAME}.png").write_bytes(picture())
    run("label", tmp_path / "lab")
    run("inspect", tmp_path / "lab", "--html", tmp_path / "a.html")
    assert_safe_page(tmp_path / "a.html")


def test_prepare_and_merge(tmp_path: Path):
    source, out = tmp_path / f"in{NAME}", tmp_path / f"out{NAME}"
    source.mkdir()
    for number, age in enumerate((20, 30, 40)):
        (source / f"{age}_0_0_{number}{NAME}.png").write_bytes(picture((64, 64), 9 * number))
    (source / f"50_0_0_bad{NAME}.png").write_bytes(b"no")
    (source / f"{NAME}.png").write_bytes(picture())
    options = ["--crop", "center", "--resolution", "32"]
    run("prepare", source, out / "a.zip", "--source", "utkface", *options, code=0)
    assert_safe_page(out / "a.zip.report.html")
    text = (out / "a.zip.report.json").read_text(encoding="utf-8")
    assert_clean(text)
    dropped = [entry["file"] for entries in json.loads(text)["dropped"].values() for entry in entries]
    assert f"50_0_0_bad{NAME}.png" in dropped
    run("inspect", out / "a.zip")
    run("merge", out / "a.zip", source / f"{NAME}.png", tmp_path / "b.zip", code=1)
    run("prepare", source, out / "a.zip", "--source", "utkface", *options, code=1)  # is there already


def test_prepare_of_a_table(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(picture((64, 64)))
    odd = TEXT.replace("\ud800", "").replace("\x00", "")
    rows = [["path", "age", odd], ["a.png", "20", odd], [f"gone{odd}.png", "30", odd], ["a.png", odd, odd]]
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    options = ["--source", "csv", "--crop", "center", "--resolution", "32"]
    run("prepare", tmp_path / "t.csv", tmp_path / "a.zip", *options)
    for more in (
        ["--age-column", ARGUMENT],
        ["--split", ARGUMENT],
        ["--groups", ARGUMENT],
        ["--shard", ARGUMENT],
        ["--crop", ARGUMENT],
    ):
        run("prepare", tmp_path / "t.csv", tmp_path / "b.zip", *options, *more)
    for page in tmp_path.glob("*.html"):
        assert_safe_page(page)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as facegen/pretrained/, with tiny networks."""
    folder, header = tmp_path / "pretrained", {"groups": AgeGroups.default().labels}
    save_networks(folder / "generator.safetensors", {"G_ema": small_generator(10)}, header)
    save_networks(folder / "encoder.safetensors", {"encoder": small_encoder()}, header)
    save_networks(folder / "age.safetensors", {"age": small_estimator()}, {})
    monkeypatch.setattr(locate, "PRETRAINED", folder)
    return folder


def test_transfer(packaged: Path, network: Path, tmp_path: Path):
    good, bad = tmp_path / f"good{NAME}.jpg", tmp_path / f"bad{NAME}.jpg"
    shutil.copy(HOPPER, good)
    bad.write_bytes(b"no")
    result = run("transfer", good, bad, "--outdir", tmp_path / f"o{NAME}", "--ages", "20", code=1)
    assert r"good" in result.stdout
    assert "bad" in result.stderr
    run("transfer", good, "--generator", network, "--ages", "5", code=1)
    run("transfer", good, "--ages", ARGUMENT, code=2)
    run("transfer", good, "--device", ARGUMENT, code=1)
    run("transfer", tmp_path / f"nowhere{NAME}", code=1)
    run("transfer", good, "--outdir", good, code=2)


def test_training(archive: Path, tmp_path: Path):
    run("train", "--data", archive, "--outdir", tmp_path / "runs", "--dry-run", code=1)
    faces = write_faces(tmp_path / f"faces{NAME}.zip", [10, 30, 50, 70], AgeGroups.parse("0-40,41-"))
    result = run(
        "train", "--data", faces, "--cfg", "tiny", "--outdir", tmp_path / "runs", "--dry-run", "--device", "cpu"
    )
    if result.exit_code == 0:
        assert json.loads(result.stdout)["data"] == str(faces)
    for command in ("train", "train-encoder", "train-age"):
        run(command, "--resume", tmp_path / f"nowhere{NAME}")
        run(command, "--data", faces, "--device", ARGUMENT)
    run("train-encoder", "--generator", tmp_path / f"nowhere{NAME}")
    run("train-encoder", "--generator", "x", "--recipe", ARGUMENT, code=1)
    run("metrics", "--network", tmp_path / f"nowhere{NAME}", "--data", faces)
    run("metrics", "--network", "x", "--data", faces, "--metrics", ARGUMENT)
    run("evaluate", "--photos", faces, "--compare", ARGUMENT)


def test_a_run_folder_logs_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = RunFolder.create(tmp_path, f"faces{NAME}")
    folder.log(f"data {TEXT}")
    folder.close(ZeroDivisionError(TEXT))
    log = (folder.path / "log.txt").read_text(encoding="utf-8")
    assert_clean(log)
    assert len(log.splitlines()) == 2
    assert_clean(capsys.readouterr().out)
    assert visible(folder.path.name) == folder.path.name
    run("runs", folder.path)


def test_runs_and_their_page(tmp_path: Path):
    options = [
        {"cfg": TEXT, "kimg": 1, "batch": TEXT, "data": TEXT},
        {"pairs": TEXT, "epochs": 3, "recipe": TEXT, "data": LONG, "generator": LONG},
        {"arch": TEXT, "kimg": 2, "half": TEXT},
        {TEXT: TEXT},
    ]
    for number, content in enumerate(options):
        folder = tmp_path / "r" / f"0000{number}-a{NAME}"
        folder.mkdir(parents=True)
        (folder / "training_options.json").write_text(json.dumps(content))
        (folder / "status.json").write_text(json.dumps({"state": TEXT, "reason": TEXT}))
        lines = [{"step": step, TEXT: step, "val_loss": 1.0, "val_mae": 1.0} for step in range(3)]
        (folder / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        best = {"metric": TEXT, "value": 1.0, "kimg": 1, "snapshot": TEXT}
        (folder / "best.json").write_text(json.dumps(best))
        metrics = [{"snapshot": TEXT, "kimg": kimg, TEXT.replace("/", ""): 1.0 + kimg} for kimg in range(3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (tmp_path / "r" / "00003-a").mkdir()
    (tmp_path / "r" / "00003-a" / "status.json").write_text(json.dumps({"state": "broken", "reason": LONG}))
    run("runs", tmp_path / "r", "--html", tmp_path / f"a{NAME}.html", code=0)
    assert_safe_page(tmp_path / f"a{NAME}.html")


@pytest.mark.parametrize(
    "arguments",
    [
        [f"--{ARGUMENT}"],
        [ARGUMENT],
        ["x" * 10**5 + ARGUMENT],
        ["info", f"--{ARGUMENT}"],
        ["info", "a", ARGUMENT, ARGUMENT],
        ["info", ARGUMENT * 50],
        ["info", f"https://127.0.0.1:1/{ARGUMENT}"],
        ["info", f"hf://{ARGUMENT}"],
        ["inspect", ARGUMENT * 50],
        ["label", ARGUMENT],
        ["runs", ARGUMENT],
        ["convert", ARGUMENT, ARGUMENT, "--to", ARGUMENT],
        ["convert", "a", "b", "--psi", ARGUMENT],
        ["train", "--data", "x", "--cfg", ARGUMENT],
        ["train", "--data", "x", "--kimg", ARGUMENT],
        ["train", "--data", "x", "--mirror", ARGUMENT],
        ["train", "--data", "x", "--gpus", ARGUMENT],
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:30],
)
def test_arguments_themselves(arguments: list[str]):
    assert run(*arguments).exit_code in (1, 2)


def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / NAME))
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    assert json.loads(run("doctor", "--json", code=0).stdout)
    run("doctor", code=0)
    run("info", "ffhq256", code=1)


def test_a_page_about_nothing_has_the_policy(tmp_path: Path):
    write_page(tmp_path / "a.html", "runs.html", heading=LONG, sections=[])
    assert_safe_page(tmp_path / "a.html")


def test_commands_print_in_one_way():
    """Who prints another way than `facegen.status.say` shows strangers' text as it is."""
    ways = {"print", "click.echo", "click.secho", "tqdm.write"}
    others = []
    for path in sorted(Path(facegen.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ways:
                others.append(path.name)
    assert others == ["alignment.py", "status.py"]  # a child process answers its parent in JSON; `say` itself
