"""`facegen evaluate` as a command, with tiny networks and a tiny archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from facenet_pytorch import InceptionResnetV1
from helpers import small_encoder, small_estimator, small_generator, write_faces

from facegen.ages import AgeGroups
from facegen.aging.edit import Edit
from facegen.cli import main
from facegen.errors import FacegenError
from facegen.evaluation.options import EvaluationOptions
from facegen.evaluation.run import SystemSpec, _independence, parse_system, run_evaluation
from facegen.networks.encoder import Encoder
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-30,31-60,61-90")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generator, encoder, both judges and an archive, all tiny."""
    folder = tmp_path_factory.mktemp("evaluate")
    header = {"groups": GROUPS.labels}
    generator, encoder = small_generator(3), small_encoder()
    save_networks(folder / "g.safetensors", {"G_ema": generator}, header)
    generator.mapping.requires_grad_(False).embed.weight.normal_()
    save_networks(folder / "g2.safetensors", {"G_ema": generator}, header)
    save_networks(folder / "e.safetensors", {"encoder": encoder}, {})
    # As the recipe tune writes it: with the generator that was trained along with the encoder.
    save_networks(folder / "tune.safetensors", {"encoder": encoder, "G_ema": generator}, header)
    larger = {"encoder": Encoder(8, 32, 75, (0, 0, 0)), "G_ema": small_generator(3, 32)}
    save_networks(folder / "tune32.safetensors", larger, header)
    save_networks(folder / "g10.safetensors", {"G_ema": small_generator(10)}, {})
    save_networks(folder / "age.safetensors", {"age": small_estimator()}, {})
    torch.save(InceptionResnetV1().state_dict(), folder / "net.pt")
    write_faces(folder / "held.zip", [10, 30, 50, 70], GROUPS)
    return folder


def arguments(folder: Path, outdir: Path) -> list[str]:
    files = {"photos": "held.zip", "generator": "g.safetensors", "encoder": "e.safetensors"}
    judges = {"age-judge": "age.safetensors", "id-judge": "net.pt"}
    given = [text for name, file in {**files, **judges}.items() for text in (f"--{name}", str(folder / file))]
    return ["evaluate", *given, "--outdir", str(outdir), "--device", "cpu"]


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    return lambda *more: CliRunner().invoke(main, [*arguments(folder, tmp_path / "report"), *map(str, more)])


def test_the_command(run, folder: Path, tmp_path: Path):
    other = f"other={folder / 'e.safetensors'},psi=0.5"
    judged = ["--age-estimator", folder / "age.safetensors"]
    result = run("--name", "ours", "--compare", other, "--photos-limit", 2, "--ages", "10:70:60", *judged)
    assert result.exit_code == 0, result.output
    assert "look at" in result.stdout
    assert "two different people" in result.stdout
    assert "reading faces" in result.stderr
    numbers = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [(row["name"], row["output"]) for row in numbers["systems"]] == [
        (name, output) for name in ("ours", "other") for output in ("photo", "face")
    ]
    assert numbers["systems"][2]["edit"]["psi"] == 0.5
    assert numbers["sex_judge"] is not None
    assert [target["age"] for target in numbers["targets"]] == [10, 70]
    assert len(numbers["faces"]) == 2
    # What could not be downloaded is left out, and said so with the option that gives it.
    assert any("LPIPS (--lpips and --vgg): left out" in note and "--lpips FILE" in note for note in numbers["notes"])
    # The judge is the systems' own estimator here, which a reader must know.
    assert "so the numbers are too good" in numbers["independent"]
    assert "not independent" in numbers["independent"]
    assert (tmp_path / "report" / "report.html").is_file()
    # The report stays until the user says otherwise.
    before = (tmp_path / "report" / "results.json").read_bytes()
    result = run("--photos-limit", 1, "--ages", "10")
    assert result.exit_code == 1
    assert "results.json: already exists" in result.output
    assert "--force" in result.output
    assert (tmp_path / "report" / "results.json").read_bytes() == before
    assert run("--photos-limit", 1, "--ages", "10", "--force").exit_code == 0
    assert (tmp_path / "report" / "results.json").read_bytes() != before


def test_without_a_judge_of_identities(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("facegen.evaluation.judges.dlib_weights", lambda: None)
    result = run("--id-judge", "none", "--photos-limit", 2, "--ages", "10:70:60")
    assert result.exit_code == 0, result.output
    assert "error, years" in result.stdout
    assert "similarity" not in result.stdout
    numbers = json.loads((tmp_path / "report" / "results.json").read_text())
    assert numbers["identity_judge"] is None
    assert sum("--id-judge none" in note for note in numbers["notes"]) == 1
    # Who cannot have one is told that it goes without.
    result = run("--id-judge", "dlib", "--force")
    assert result.exit_code == 1
    assert "--id-judge none" in result.output


def test_a_system_may_have_its_own_generator(run, folder: Path, tmp_path: Path):
    encoder = folder / "e.safetensors"
    same, other = f"same={encoder},psi=1.0", f"other={encoder},generator={folder / 'g2.safetensors'}"
    result = run("--compare", same, "--compare", other, "--photos-limit", 2, "--ages", "10,70")
    assert result.exit_code == 0, result.output
    first, same, other = json.loads((tmp_path / "report" / "results.json").read_text())["systems"][1::2]
    assert [Path(system["generator"]).name for system in (first, same, other)] == [
        *["g.safetensors"] * 2,
        "g2.safetensors",
    ]
    assert first["predicted"] == same["predicted"]
    assert first["predicted"] != other["predicted"]


def test_an_encoder_may_bring_its_generator(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    tune, other = folder / "tune.safetensors", folder / "g.safetensors"
    systems = [
        parse_system(f"own={tune}"),
        parse_system(f"given={tune},generator={other}"),
        parse_system(f"same={tune},generator={folder / 'g2.safetensors'}"),
    ]
    run_evaluation(
        folder / "held.zip",
        tmp_path / "report",
        systems,
        EvaluationOptions(
            ages=[10, 70], photos_limit=2, age_judge=str(folder / "age.safetensors"), id_judge=str(folder / "net.pt")
        ),
        device="cpu",
        progress=False,
    )
    numbers = json.loads((tmp_path / "report" / "results.json").read_text())
    own, given, same = numbers["systems"][1::2]
    assert [own["generator"], given["generator"]] == ["the encoder's own", str(other)]
    assert own["predicted"] == same["predicted"]
    assert own["predicted"] != given["predicted"]
    # Each system says which it has: there is none of them all.
    assert "generator" not in numbers["options"]


def test_systems_that_do_not_fit_are_told_before_judges_are_loaded(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("facegen.evaluation.run._load_judges", lambda *_: pytest.fail("too late"))
    result = run("--compare", f"other={folder / 'e.safetensors'},generator={folder / 'g10.safetensors'}")
    assert result.exit_code == 1
    assert "other needs different faces than facegen" in result.output


def test_what_the_judges_had_to_do_with_the_systems():
    flatter, learned, neither = "so the numbers are too good", "not independent of it", "not used in any training"
    holds = "so its numbers are too good"
    for case, words in {
        (False, False, False): [neither],
        (False, True, False): [neither, learned],
        (False, False, True): [neither, holds],
        (True, False, False): [flatter],
        (True, True, True): [flatter, learned, holds],
    }.items():
        found = _independence(*case)
        assert [text for text in (flatter, neither, learned, holds) if text in found] == words


def test_mistakes_are_one_line(run, folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for more, words in (
        (["--photos", tmp_path / "none.zip"], "none.zip: there is no such folder or zip"),
        (["--age-judge", tmp_path / "none"], "none"),
        (["--age-judge", folder / "e.safetensors"], "holds encoder, but no age estimator"),
        (["--id-judge", "facenet"], "--id-judge is dlib, vggface2 or a file"),
        (["--id-judge", "vggface2"], "(--id-judge FILE)"),
        (["--lpips", tmp_path / "none"], "none: there is no such file (--lpips)"),
        (["--ages", "young"], "not a list of ages"),
        (["--ages", "10,500"], "age 500 is outside this generator's groups"),
        (["--compare", "other"], "'other' does not name a system: write NAME=ENCODER"),
        (["--compare", "other=x,refine=often"], "refine must be a number"),
        (["--compare", "FaceGen="], "two systems have the same name"),
        (["--compare", f"other={tmp_path / 'none.safetensors'}"], "none.safetensors"),
        (["--outdir", tmp_path / "file"], "is a file; name a folder"),
        (["--photos-limit", "0"], "photos-limit"),
        (["--refine-seconds", "3"], "refine"),
    ):
        result = run(*more)
        assert result.exit_code in (1, 2), more
        assert words in result.output, more
        assert "Traceback" not in result.output
        assert not (tmp_path / "report").exists()


def test_systems_in_words():
    assert parse_system("zmse=runs/z.safetensors") == SystemSpec("zmse", "runs/z.safetensors", Edit())
    assert parse_system("mine=") == SystemSpec("mine", None, Edit())
    found = parse_system("fine=a,b.safetensors, method=shift,layers=0-3,7,refine=50,refine_seconds=2.5,psi=0.7")
    assert found == SystemSpec("fine", "a,b.safetensors", Edit("shift", "0-3,7", 0.7, 50, 2.5))
    assert parse_system("whole=,strength=1.0,hold=none").edit == Edit(strength=1.0, hold=[])
    assert parse_system("two=e,generator=runs/b,psi=0.7") == SystemSpec("two", "e", Edit(psi=0.7), "runs/b")
    for text in ("", "=x", "x=y,method=magic", "x=y,psi=low"):
        with pytest.raises(FacegenError):
            parse_system(text)


def test_generators_of_two_sizes_are_compared(run, folder: Path, tmp_path: Path):
    result = run("--compare", f"large={folder / 'tune32.safetensors'},generator={folder / 'tune32.safetensors'}")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "report" / "results.json").read_text())["systems"]
    assert {row["name"] for row in rows} == {"facegen", "large"}
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "large" in page
