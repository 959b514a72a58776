"""`facegen runs`: a table and a page of training runs, whatever state their folders are in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from facegen.cli import main
from facegen.errors import FacegenError
from facegen.figures.grids import save_image_grid
from facegen.html import ticks
from facegen.training.run.folder import RunFolder
from facegen.training.run.list import as_table, find_runs
from facegen.training.run.page import cut_rows, line_chart, write_page
from facegen.training.run.snapshots import record_metrics

GROUPS = ["0-20", "21-60", "61+"]


def make_run(outdir: Path, name: str, ticks: int, kimg: float = 40, **options: object) -> RunFolder:
    """A run of `facegen train` with a tick every 4 kimg, still open."""
    run = RunFolder.create(outdir, name)
    run.write_json("training_options.json", {"cfg": "tiny", "batch": 16, "kimg": kimg, "data": "faces.zip", **options})
    for tick in range(1, ticks + 1):
        run.stats(
            tick * 4,
            {
                "Loss/G/loss": 1 + 1 / tick,
                "Loss/D/loss": 1 - 1 / tick,
                "Progress/augment": tick / 100,
                "Timing/sec_per_kimg": 20 + tick % 2,
            },
        )
    return run


def save_fakes(path: Path, brightness: int, columns: int = 3) -> None:
    """Eight rows as training draws them, each face of its own color."""
    rows = np.linspace(0, 100, 8).astype(np.uint8)
    faces = np.zeros([8 * columns, 16, 16, 3], np.uint8) + rows.repeat(columns)[:, None, None, None]
    save_image_grid(faces + np.uint8(brightness), path, columns, column_labels=GROUPS[:columns])


@pytest.fixture
def outdir(tmp_path: Path) -> Path:
    """One run of each state, an encoder, one of an older version, and what is no run."""
    outdir = tmp_path / "runs"
    with make_run(outdir, "faces-finished", 10) as run:
        run.finished = True
        for kimg in range(4, 44, 4):
            save_fakes(run.path / f"fakes{kimg:06d}.png", kimg)
        for kimg, fid in ((20, 31.5), (40, 25.25)):
            snapshot = f"network-snapshot-{kimg:06d}.safetensors"
            record_metrics(run.path, snapshot, kimg, {"fid5k_full": fid, "fid5k_full/0-20": 2 * fid})
    make_run(outdir, "faces-stopped", 2).close()
    with pytest.raises(FacegenError), make_run(outdir, "faces-broken", 1):
        raise FacegenError("Loss/G/loss stopped being a finite number <near> 4.0 kimg")
    (outdir / "00003-lost").mkdir()
    (outdir / "00003-lost" / "training_options.json").write_text("{")
    with RunFolder.create(outdir, "encoder-faces") as run:
        options = {"pairs": 1000, "epochs": 8, "generator": "/data/faces.safetensors", "data": "/x/held.zip"}
        run.write_json("training_options.json", options | {"recipe": "age"})
        for epoch in (1, 2):
            run.stats(
                epoch,
                {
                    "train_loss": 1 / epoch,
                    "val_loss": 0.45 * epoch,
                    "val_mse": 0.5 / epoch,
                    "val_cosine": 0.5,
                    "seconds": 60,
                },
            )
    old = make_run(outdir, "faces-old", 10)
    old.close()
    (old.path / "status.json").unlink()
    (outdir / "notes").mkdir()
    (outdir / "list.txt").write_text("x")
    return outdir


def test_states(outdir: Path):
    running = make_run(outdir, "faces-running", 1)
    states = {run.path.name: run.state for run in find_runs(outdir)}
    assert states == {
        "00000-faces-finished": "finished",
        "00001-faces-stopped": "stopped",
        "00002-faces-broken": "broken",
        "00003-lost": "broken",
        "00004-encoder-faces": "stopped",
        "00005-faces-old": "finished",
        "00006-faces-running": "running",
    }
    running.close()


def test_a_run_of_an_older_version_that_did_not_come_to_its_end_is_stopped(outdir: Path):
    run = make_run(outdir, "more", 3)
    run.close()
    (run.path / "status.json").unlink()
    (found,) = find_runs(run.path)
    assert (found.state, found.done, found.planned) == ("stopped", 12, 40)


def test_the_table_has_a_line_for_each_run(outdir: Path):
    lines = as_table(find_runs(outdir)).splitlines()
    assert re.split(r"  +", lines[0]) == ["STATE", "DONE", "SPEED", "P", "BEST", "CONFIG", "FROM", "RUN"]
    finished = ["finished", "40 of 40 kimg", "20 s/kimg", "0.100", "fid5k_full 25.25 at 40 kimg", "tiny, batch 16"]
    assert re.split(r"  +", lines[1]) == [*finished, "faces.zip", "00000-faces-finished"]
    assert lines[4] == "  Loss/G/loss stopped being a finite number <near> 4.0 kimg"
    assert any("training_options.json is missing or damaged" in line for line in lines)
    (encoder,) = (line for line in lines if line.endswith("encoder-faces"))
    assert "2 of 8 epochs  60 s/epoch" in encoder
    assert "loss 0.4500, MSE 0.5000 at epoch 1" in encoder
    assert "encoder age, 1000 pairs  held.zip, faces.safetensors" in encoder


def test_the_best_is_what_the_best_file_holds(tmp_path: Path):
    """An encoder's best file is of the lowest loss, whatever its error of the latent."""
    with RunFolder.create(tmp_path, "encoder") as run:
        run.write_json("training_options.json", {"pairs": 1000, "epochs": 8, "generator": "g.pkl"})
        for epoch, loss, mse in ((1, 0.9, 0.2), (2, 0.7, 0.4), (3, float("nan"), 0.1), (4, 0.7, 0.3)):
            run.stats(epoch, {"val_loss": loss, "val_mse": mse})
    with RunFolder.create(tmp_path, "age") as run:
        run.write_json("training_options.json", {"arch": "plain", "kimg": 12000.5, "half": "first"})
        for kimg, error in ((0.25, 9.0), (11234.5, 8.0), (12000, 8.5)):
            run.stats(kimg, {"val_mae": error, "seconds_per_kimg": 13456.7})
    encoder, age = find_runs(tmp_path)
    assert encoder.measured == "loss 0.7000, MSE 0.4000 at epoch 2"
    assert age.measured == "MAE 8.00 years at 11234.5 kimg"
    assert (age.length, age.speed) == ("12000 of 12000.5 kimg", "13500 s/kimg")


EDITOR = {"face_network": None, "generated": 0.25, "batch": 16, "kimg": 60, "data": "/x/f.zip", "generator": None}


def make_editor_run(outdir: Path, ticks: int, **options: object) -> Path:
    """A run of `facegen train-editor` with numbers at every kimg."""
    with RunFolder.create(outdir, "editor-faces") as run:
        run.write_json("training_options.json", {**EDITOR, **options})
        for kimg in range(1, ticks + 1):
            losses = dict.fromkeys(("loss", "age", "adversarial", "identity", "sex", "same", "cycle"), 1 / kimg)
            validated = {"val_age_error": 9 - kimg, "val_identity": 0.9 - kimg / 10, "val_sex_kept": 0.96}
            run.stats(kimg, {**losses, **validated, "seconds_per_kimg": 300 + kimg})
        return run.path


def test_an_editor(tmp_path: Path):
    path = make_editor_run(tmp_path, 3, generator="/data/faces.safetensors")
    (run,) = find_runs(path)
    assert (run.kind, run.config, run.sources) == ("editor", "editor, batch 16", ["f.zip", "faces.safetensors"])
    assert (run.length, run.speed, run.strength) == ("3 of 60 kimg", "302 s/kimg", "")
    assert run.measured == "age error 6.00 years, identity 0.600, sex kept 96% at 3 kimg"
    (path / "edits.png").write_bytes(b"damaged")
    write_page(tmp_path / "runs.html", [run], "runs")
    html = (tmp_path / "runs.html").read_text(encoding="utf-8")
    assert html.count("<polyline") == 11
    assert "Edits</h3>" not in html
    save_fakes(path / "edits.png", 9)
    write_page(tmp_path / "runs.html", [run], "runs")
    assert "Edits</h3>" in (tmp_path / "runs.html").read_text(encoding="utf-8")


def test_an_editor_that_was_not_validated_or_says_odd_things(tmp_path: Path):
    path = make_editor_run(tmp_path, 0)
    (path / "stats.jsonl").write_text('{"step": 2, "val_identity": "good", "val_age_error": null}\n')
    (run,) = find_runs(tmp_path)
    assert (run.measured, run.speed, run.sources) == ("", "", ["f.zip"])
    broken = make_editor_run(tmp_path, 1, batch=[16])
    (path / "training_options.json").write_text('{"face_network": null, "generated": 0.25}')
    assert {run.path: run.kind for run in find_runs(tmp_path)} == {path: "", broken: ""}
    assert all(run.state == "broken" for run in find_runs(tmp_path))


def test_a_run_before_its_first_tick_and_one_with_damaged_lines(tmp_path: Path):
    run = make_run(tmp_path, "new", 0)
    (run.path / "stats.jsonl").write_text('[1]\n{"step": "x"}\n{"step": 4, "Progress/augment": null}\n{"st')
    (found,) = find_runs(tmp_path)
    assert (found.done, found.seconds, found.p, found.state) == (4, None, None, "running")
    run.close()
    assert "new" in as_table([found])


def test_no_runs(tmp_path: Path):
    with pytest.raises(FacegenError, match="contains no training run"):
        find_runs(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_runs(tmp_path / "nowhere")


def test_the_page_shows_faces_and_curves_and_loads_nothing(outdir: Path, tmp_path: Path):
    page = tmp_path / "runs.html"
    runs = find_runs(outdir)
    (runs[0].path / "fakes000099.png").write_bytes(b"damaged")
    write_page(page, runs, "my <runs>")
    html = page.read_text(encoding="utf-8")
    assert "my &lt;runs&gt;" in html
    assert "&lt;near&gt; 4.0 kimg" in html
    assert not re.search(r"<script|https?://|src=\"(?!data:)", html)
    for run in runs:
        assert run.path.name in html
    assert html.count("kimg</span><img") == 7  # of eleven pictures eight are chosen, and one is damaged
    # Losses, p and speed of the three runs with two ticks or more, one metric, three numbers of the encoder.
    assert html.count("<polyline") == 3 * 4 + 1 + 4
    assert "fid5k_full" in html


def test_text_and_page_say_the_same(outdir: Path, tmp_path: Path):
    runs = find_runs(outdir)
    write_page(tmp_path / "runs.html", runs, "runs")
    html, table = (tmp_path / "runs.html").read_text(encoding="utf-8"), as_table(runs)
    for run in runs:
        for words in (run.length, run.speed, run.strength, run.measured, *run.sources):
            assert words in table
            assert words in html


def test_the_page_shows_what_a_training_ended_with(outdir: Path, tmp_path: Path):
    def pictures() -> int:
        write_page(tmp_path / "runs.html", find_runs(outdir), "runs")
        return (tmp_path / "runs.html").read_text(encoding="utf-8").count("<img")

    (encoder,) = outdir.glob("*-encoder-faces")
    without = pictures()
    save_fakes(encoder / "reconstructions.png", 9)
    assert pictures() == without + 1
    assert "Reconstructions</h3>" in (tmp_path / "runs.html").read_text(encoding="utf-8")
    (encoder / "reconstructions.png").write_bytes(b"damaged")
    assert pictures() == without


def test_the_page_of_runs_without_a_tick(tmp_path: Path):
    make_run(tmp_path, "new", 0).close()
    write_page(tmp_path / "page.html", find_runs(tmp_path), "runs")
    assert "<polyline" not in (tmp_path / "page.html").read_text()


def test_two_rows_of_a_grid_are_cut_out_exactly(tmp_path: Path):
    from PIL import Image

    save_fakes(tmp_path / "fakes.png", 20)
    with Image.open(tmp_path / "fakes.png") as grid:
        names, faces = cut_rows(grid.convert("RGB"))
    pixels = np.asarray(faces)
    rows = np.linspace(0, 100, 8).astype(np.uint8) + 20
    assert names.size[0] == faces.size[0]
    assert np.unique(pixels[:64]).tolist() == sorted({rows[3], 255})
    assert np.unique(pixels[66:]).tolist() == sorted({rows[5], 255})
    odd = Image.new("RGB", (50, 31))
    assert cut_rows(odd) == (None, odd)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 17), (0.00012, 0.00013), (5, 5), (0, 0), (-1e6, 2e6)])
def test_ticks_are_round_and_take_in_everything(low: float, high: float):
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-9 * abs(low)
    assert marks[-1] >= high - 1e-9 * abs(high)
    assert 2 <= len(marks) <= 7


def test_a_chart_leaves_out_curves_of_one_point():
    assert line_chart("x", {"a": [(0, 1)]}) is None
    chart = line_chart("x", {"a": [(0, 1)], "b": [(0, 1), (1, 2)]})
    assert chart["newest"] == [("b", 2)]
    assert len(chart["lines"]) == 1


def test_the_command(outdir: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "facegen", "runs", outdir],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "00000-faces-finished" in done.stdout
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)  # a table must not take seconds
    result = CliRunner().invoke(
        main, ["runs", str(outdir / "00000-faces-finished"), "--html", str(tmp_path / "a.html")]
    )
    assert result.exit_code == 0
    assert result.output.endswith(f"{tmp_path / 'a.html'}: 1 run\n")
    result = CliRunner().invoke(main, ["runs", str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
