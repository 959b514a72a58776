"""What is measured of systems whose answers are known, and what the report makes of it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
from pathlib import Path

import numpy as np
import pytest
from refusals import assert_refused
from strangers import LONG, NAME, TEXT, assert_clean, assert_safe_page

from facegen.ages import AgeGroups
from facegen.evaluation import dial
from facegen.evaluation.dial import STRENGTHS
from facegen.evaluation.evaluate import evaluate, target_ages
from facegen.evaluation.report.cases import choose_cases, make_case, order_people
from facegen.evaluation.report.details import detail_tables
from facegen.evaluation.report.page import About, write_report
from facegen.evaluation.report.tables import as_markdown, as_plain_text, main_tables, to_json

ABOUT = About({"seed": 0}, "data/faces.zip", 40, "an age judge", "an identity judge", "They are independent.")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dial, "PEOPLE", 3)


def run(photos, judges, *systems, **how):
    return evaluate(systems, photos, judges, progress=False, **how)


def test_an_oracle_is_perfect(photos, judges, system):
    photo, scores = run(photos, judges, system()).systems
    assert (photo.name, scores.name) == ("oracle (photo)", "oracle (face)")
    assert scores.age.error.value == pytest.approx(0)
    assert (scores.age.right.value, scores.age.near.value) == (1, 1)
    assert scores.monotone == pytest.approx((1, 1, 1))
    assert scores.identity.similarity.value == pytest.approx(1, abs=0.01)
    assert scores.identity.share.value == pytest.approx(1)
    assert scores.reconstruction.mse.value == 0
    assert scores.reconstruction.lpips is None
    assert scores.predicted.shape == scores.similarity.shape == (24, 4)
    assert (scores.identity.accepted.value, scores.sex.kept.value) == (1, 1)
    assert scores.sharpness[1] > 0
    assert (scores.strengths, scores.at_cap) == (None, None)
    assert photo.seconds[1] > 0
    assert scores.system.renderer.told[0] == [photos.ages[0]]


def test_a_photo_is_judged_as_it_is_written(photos, judges, system):
    """With a little more age it is a little older; the whole change goes in only as far as it may."""
    half, _, whole, _, none, _ = run(
        photos, judges, *(system(str(strength), strength=strength) for strength in (0.5, 1.0, 0.0))
    ).systems
    assert none.age.error.value > half.age.error.value > whole.age.error.value > 0
    np.testing.assert_array_equal(none.pictures, photos.images[:24, None].expand(-1, 4, -1, -1, -1))
    assert none.identity.similarity.value == pytest.approx(1)
    assert none.sharpness == pytest.approx((1, 1, 1))
    assert whole.strengths.shape == (24, 4)
    assert (whole.at_cap, none.at_cap) == (0, 0)
    assert whole.rendered.photos.shape == whole.rendered.faces.shape


def test_photos_that_are_larger_than_the_generators_faces_stay_large(photos, judges, system):
    enlarged = photos.images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    large = dataclasses.replace(photos, images=enlarged, landmarks=4 * photos.landmarks)
    photo, face = run(large, judges, system()).systems
    assert photo.pictures.shape[-1] == 64
    assert face.pictures.shape[-1] == face.rendered.inputs.shape[-1] == 16
    assert face.age.error.value == pytest.approx(0)
    corner = large.images[:24, None, :, :4, :4].expand(-1, 4, -1, -1, -1)
    np.testing.assert_array_equal(photo.pictures[..., :4, :4], corner)
    # Beside the photo, the enlarged face has the detail of a small picture.
    assert photo.sharpness[1] > 0.5


def test_the_dial(photos, judges, system):
    evaluation = run(photos, judges, system())
    assert [point.strength for point in evaluation.dial] == [0, *STRENGTHS, None]
    still, last = evaluation.dial[0], evaluation.dial[-1]
    assert (still.people, last.people) == (3, 3)
    assert still.similarity.value == pytest.approx(1)
    expected = np.abs(photos.ages[:3, None] - np.array(evaluation.targets)).mean()
    assert still.age.error.value == pytest.approx(expected)
    assert last.age.error.value == pytest.approx(
        np.abs(evaluation.systems[0].predicted[:3] - np.array(evaluation.targets)).mean()
    )
    assert evaluation.dial[2].age.error == last.age.error  # strength 1 is what the system took
    assert still.age.error.value > evaluation.dial[1].age.error.value > last.age.error.value


def test_who_changes_sex_is_counted(photos, judges, system):
    _, face = run(photos, judges, system("nobody", persons=False)).systems
    # Gray is no man to this judge.
    assert face.sex.women.value == 1
    assert face.sex.men.value == 0
    assert [found.value for found in face.sex.men_per_target] == [0] * 4
    assert 0 < face.sex.kept.value < 1
    assert face.identity.accepted.value < 0.5


def test_results_that_never_change_have_no_order(photos, judges, system):
    _, scores = run(photos, judges, system(aging=False)).systems
    assert np.isnan(scores.correlations).all()
    assert np.isnan(scores.monotone).all()
    # Everybody is right once, at their own group.
    assert scores.age.right.value == pytest.approx(1 / 4)
    assert scores.identity.share.value == pytest.approx(1)


def test_one_face_for_all_is_nobody(photos, judges, system):
    evaluation = run(photos, judges, system(), system("nobody", persons=False))
    _, good, _, bad = evaluation.systems
    assert bad.identity.share.value < 0.5 < good.identity.share.value
    assert bad.identity.similarity.high < good.identity.similarity.low
    assert bad.identity.strangers.value == pytest.approx(bad.identity.similarity.value)
    assert bad.realism.frechet > 2 * bad.realism.real_frechet
    assert good.realism.real_frechet == bad.realism.real_frechet
    # Its own reconstructions are perfect, as are those of the other system.
    assert bad.share_of_best.value == pytest.approx(bad.identity.share.value)


def test_the_judge_is_judged_on_real_faces(photos, judges, system):
    evaluation = run(photos, judges, system())
    assert evaluation.real_age.error.value == 0
    assert evaluation.real_age.count == 24
    assert sum(evaluation.group_counts.values()) == 24
    assert sum(found.count for found in evaluation.real_age_per_group.values()) == 24
    assert sum(evaluation.real_counts) == 40


def test_faces_of_unknown_age(photos, judges, system):
    unknown = dataclasses.replace(photos, ages=np.full(40, np.nan))
    tested = system()
    evaluation = run(unknown, judges, tested)
    assert evaluation.real_age is None
    assert evaluation.real_age_per_group == {}
    assert sum(evaluation.real_counts) == 40  # the judge says to which group they belong
    assert tested.renderer.told == [None] * 24
    assert "looks 0 to it" in make_case(evaluation, evaluation.systems[0], 3).caption
    told = run(photos, judges, system())
    assert "looks" not in make_case(told, told.systems[0], 3).caption
    hidden = system()
    run(photos, judges, hidden, give_ages=False)
    assert hidden.renderer.told == [None] * 24


def test_ages_of_ones_own(photos, judges, system):
    evaluation = run(photos, judges, system(), ages=[70, 10.5])
    assert evaluation.target_labels == ["70", "10.5"]
    assert evaluation.systems[1].age_per_target[1].quartiles[1] == pytest.approx(10, abs=1)
    assert np.isnan(run(photos, judges, system(), ages=[30]).systems[1].correlations).all()
    assert_refused("no ages given", target_ages, evaluation.groups, [])
    assert_refused("no system", run, photos, judges)


def test_one_person_alone(photos, judges, system, tmp_path):
    evaluation = run(dataclasses.replace(photos, tested=1), judges, system())
    assert np.isnan(evaluation.floor.value)
    assert np.isnan(evaluation.systems[0].identity.share.value)
    assert evaluation.dial[0].people == 1
    assert write_report(tmp_path, evaluation, ABOUT).is_file()


def test_inception_and_lpips_where_they_are(photos, judges, system):
    everything = dataclasses.replace(
        judges, inception=judges.identity, lpips=lambda a, b: (a - b).abs().mean(dim=(1, 2, 3))
    )
    evaluation = run(photos, everything, system())
    assert evaluation.systems[0].inception.count == evaluation.systems[0].realism.count
    assert evaluation.systems[0].reconstruction.lpips.value == 0
    assert "FID" in main_tables(evaluation)[2].columns


def test_names_that_strangers_gave(photos, judges, system, tmp_path):
    photos = dataclasses.replace(photos, names=[f"{TEXT}{index}.png" for index in range(40)], path=Path(f"{NAME}.zip"))
    evaluation = run(photos, judges, system(TEXT), system("$\\frac" + "x" * 1000), system("_$a$|b"))
    about = dataclasses.replace(ABOUT, photos=TEXT, notes=[TEXT], left_out={TEXT: TEXT}, options={TEXT: LONG})
    page = write_report(tmp_path, evaluation, dataclasses.replace(about, age_judge=TEXT, independent=TEXT))
    assert_safe_page(page)
    markdown = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert_clean(markdown)
    assert "<" not in markdown
    numbers = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert_clean(numbers)
    assert json.loads(numbers)["systems"][0]["name"] == TEXT
    assert_clean("\n".join(map(as_plain_text, main_tables(evaluation))))


def test_the_report(photos, judges, system, tmp_path):
    evaluation = run(photos, judges, system("<ours>"), system("still", aging=False))
    about = dataclasses.replace(ABOUT, notes=["A note."], left_out={"x.png": "x.png: no face found"})
    page = write_report(tmp_path / "new" / "report", evaluation, about)
    folder = page.parent
    numbers = json.loads((folder / "results.json").read_text())
    assert [row["output"] for row in numbers["systems"]] == ["photo", "face"] * 2
    assert numbers["systems"][3]["correlation_quartiles"] == [None, None, None]
    assert numbers["systems"][1]["identity"]["share"]["value"] == pytest.approx(1)
    assert numbers["systems"][0]["strengths"] == [[1.0] * 4] * 24
    assert [point["strength"] for point in numbers["dial"]] == [0, *STRENGTHS, None]
    assert numbers["threshold"] < 1
    assert numbers["targets"][0] == {"label": "0-20", "age": 10.0}
    assert len(numbers["faces"]) == 24
    assert numbers["versions"]["torch"] == importlib.metadata.version("torch")
    assert "NaN" not in (folder / "results.json").read_text()
    html = page.read_text()
    assert "&lt;ours&gt;" in html
    assert "<ours>" not in html
    assert "They are independent." in html
    assert "A note." in html
    assert "no face found" in html
    assert not re.search(r"""(?:src|href)="(?!data:|\#)""", html)  # nothing but the page itself
    # A column of settings for each system, a row for each setting, in words.
    assert "{" not in html.partition("<h2>Settings")[2]
    assert re.search(r'<th scope="col">&lt;ours&gt;</th><th scope="col">still</th>', html.replace("\n", ""))
    assert html.count('<div class="strip">') == 4 * 18
    strips = sorted(path.name for path in (folder / "strips").iterdir())
    assert len(strips) == 4 * 18
    assert "best1-_ours_-photo.png" in strips
    assert "worst6-still-face.png" in strips
    markdown = (folder / "table.md").read_text()
    assert "| still (photo) | " in markdown
    assert "### The dial" in markdown
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("inception", [False, True])
def test_without_a_judge_of_identities(photos, judges, system, tmp_path, inception):
    systems = system("a"), system("nobody", persons=False)
    ages_alone = dataclasses.replace(judges, identity=None, inception=judges.identity if inception else None)
    evaluation, full = run(photos, ages_alone, *systems), run(photos, judges, *systems)
    assert evaluation.floor is None
    for scores, known in zip(evaluation.systems, full.systems, strict=True):
        left_out = (scores.identity, scores.share_of_best, scores.realism, scores.similarity)
        assert left_out == (None, None, None, None)
        assert scores.age == known.age
        np.testing.assert_array_equal(scores.predicted, known.predicted)
        assert scores.reconstruction == known.reconstruction
    tables = [*main_tables(evaluation), *detail_tables(evaluation)]
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    ages = ["system", "error, years", "right", "near", "order", "sex kept", "strength", "sharpness"]
    assert tables[0].columns == ages
    assert ("FID" in tables[1].columns) == inception
    page = write_report(tmp_path, evaluation, dataclasses.replace(ABOUT, identity_judge=None))
    html = re.sub(r"data:[^\"]*", "", page.read_text())  # no word by chance in a picture
    for text in (html, (tmp_path / "table.md").read_text(), as_plain_text(tables[0])):
        assert not re.search("similarity|identit|floor|recogni[sz]ed|ceiling|Fréchet", text, re.IGNORECASE)
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers["floor"] is numbers["systems"][0]["identity"] is numbers["identity_judge"] is None
    assert order_people(evaluation.systems[0], np.array(evaluation.targets)).shape == (24,)


def test_tables_have_a_row_for_each_system_and_the_references(photos, judges, system):
    evaluation = run(photos, judges, system("a|b"), system("still", aging=False))
    first, second, third = main_tables(evaluation)
    names = ["a|b (photo)", "a|b (face)", "still (photo)", "still (face)"]
    assert [row[0] for row in first.rows] == [*names, "real faces at their own age"]
    assert [row[0] for row in second.rows] == [*names, "two different people"]
    assert [row[0] for row in third.rows] == [*names, "real faces and real faces"]
    for table in (first, second, third, *detail_tables(evaluation)):
        assert {len(row) for row in table.rows} == {len(table.columns)}
        rows = {"The judge of ages on real faces": 0, "The dial": 0, "Sex kept for each target": 4}.get(table.title, 2)
        assert as_markdown(table).count("| a&#124;b") == rows
    assert re.search(r"a\|b \(face\)\n +error, years +0\.0 \[0\.0, 0\.0\]", as_plain_text(first))
    assert to_json({1: np.float32("nan"), "a": (np.int64(2), None, True)}) == {"1": None, "a": [2, None, True]}


def test_cases_are_best_median_and_worst(photos, judges, system):
    scores = run(photos, judges, system()).systems[0]
    scores = dataclasses.replace(
        scores,
        similarity=np.linspace(1, 0, 24)[:, None].repeat(4, axis=1),
        predicted=np.arange(24.0)[:, None].repeat(4, axis=1),
    )
    order = order_people(scores, np.zeros(4))
    assert order.tolist() == list(range(24))
    cases = choose_cases(order)
    assert cases[:6] == [("best", person) for person in range(6)]
    assert cases[6:12] == [("median", person) for person in range(9, 15)]
    assert cases[12:] == [("worst", person) for person in range(18, 24)]
    assert choose_cases(order[:7]) == [
        ("best", 0),
        ("best", 1),
        ("median", 2),
        ("median", 3),
        ("worst", 5),
        ("worst", 6),
    ]
    assert choose_cases(order[:1]) == [("best", 0)]


def test_systems_for_other_faces_are_not_compared(photos, judges, system):
    other = system("other")
    other.renderer.groups = AgeGroups.from_labels(["0-30", "31-"])
    assert_refused("other needs different faces than ours", run, photos, judges, system("ours"), other)


def test_a_second_report_takes_the_place_of_the_first(photos, judges, system, tmp_path):
    evaluation = run(photos, judges, system("ours"))
    write_report(tmp_path, evaluation, ABOUT)
    (tmp_path / "strips" / "best99-ours.png").write_bytes(b"of a longer report")
    (tmp_path / "strips" / "mine.png").write_bytes(b"of somebody else")
    write_report(tmp_path, evaluation, ABOUT)
    assert not (tmp_path / "strips" / "best99-ours.png").exists()
    assert (tmp_path / "strips" / "mine.png").exists()
