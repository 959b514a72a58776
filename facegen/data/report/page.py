"""The report of a training archive: one HTML file that shows at once whether its labels make sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

from PIL import Image

from facegen import html
from facegen import images as pictures
from facegen.ages import AgeGroups
from facegen.data.contents import Contents, Face
from facegen.data.report.portraits import SAMPLES, portray
from facegen.text import visible

EXAMPLES = 8  # files that stand in the page for each reason; the JSON report has them all
FEW = 100  # faces in a group: with fewer, a network learns these faces, not the age
MAX_GROUPS = 40  # groups that are shown with pictures

Examples = Mapping[str, Sequence[tuple[str, Image.Image | None]]]


def write_report(
    path: Path,
    summary: dict[str, Any],
    archives: Sequence[Contents],
    examples: Examples | None = None,
    *,
    progress: bool = True,
) -> None:
    """Write the report of one or more archives (splits) as a single HTML file.

    Args:
        path: the HTML file; it appears whole or not at all.
        summary: what `prepare` or `inspect_archive` counted, as in `<archive>.report.json`; its `archives` are in the
            order of `archives`.
        archives: what the archives hold; up to 2,000 faces of each group are read for its mean.
        examples: some files for reasons in `summary["dropped"]` and kinds of problems, with thumbnails where they can
            be shown.
        progress: show a bar.
    """
    entries = summary["archives"]
    sections = [_section(entry, contents, progress) for entry, contents in zip(entries, archives, strict=True)]
    html.write_page(
        path,
        "archive.html",
        heading=entries[0]["file"] if len(entries) == 1 else Path(str(summary["source"])).name,
        summary={"title": None, "source_name": "", "options": {}, "notes": {}, "resolution": None} | summary,
        persons=sum(entry.get("persons") or 0 for entry in entries),
        problems=None if summary.get("problems") is None else _reasons(summary["problems"], examples),
        dropped=_reasons(summary.get("dropped", {}), examples),
        sections=sections,
        few=FEW,
        samples=SAMPLES,
        **({"version": summary["facegen"]} if "facegen" in summary else {}),
    )


def _section(entry: dict[str, Any], contents: Contents, progress: bool) -> dict[str, Any]:
    """What the page shows of one archive."""
    groups = contents.by_class()
    if len(groups) > MAX_GROUPS:
        groups = [(label, faces) for label, faces in groups if faces]
    shown = groups[:MAX_GROUPS]

    def open_picture(name: str) -> Image.Image:
        return pictures.decode(contents.files.read(name), name)

    ages = {int(age): count for age, count in entry.get("ages", {}).items()}
    portraits = portray(shown, open_picture, progress=progress)
    return {
        "entry": entry,
        "portraits": portraits,
        "averaged": max((group.averaged for group in portraits), default=0),
        "all_averaged": all(group.averaged == group.count for group in portraits),
        "ages": age_histogram(ages, contents.age_groups) if ages else None,
        "classes": len(groups),
        "groups": [_counts(label, faces) for label, faces in shown],
        "genders": Counter(face.gender for _, faces in shown for face in faces if face.gender),
        "attributes": contents.attribute_counts(),
    }


def _counts(label: str, faces: Sequence[Face]) -> dict[str, Any]:
    genders = Counter(face.gender or "unknown" for face in faces)
    return {"label": label, "count": len(faces), "genders": genders, "known": genders["female"] + genders["male"]}


def _reasons(found: Mapping[str, Sequence[dict[str, str]]], examples: Examples | None) -> list[dict[str, Any]]:
    """Why files were left out, or what is wrong with them: some shown as pictures, some as text."""
    reasons = []
    for reason, entries in found.items():
        # An error begins with its file, which stands in the page already.
        details = [(e["file"], e.get("detail", "").removeprefix(visible(f"{e['file']}: "))) for e in entries]
        thumbnails = [(name, image) for name, image in (examples or {}).get(reason, ()) if image is not None][:EXAMPLES]
        detail_of, pictured = dict(details), {name for name, _ in thumbnails}
        rest = [entry for entry in details if entry[0] not in pictured][: EXAMPLES - len(thumbnails)]
        reasons.append(
            {
                "reason": reason,
                "count": len(entries),
                "pictured": [(name, image, detail_of.get(name, "")) for name, image in thumbnails],
                "rest": rest,
                "more": len(entries) - len(thumbnails) - len(rest),
            }
        )
    return reasons


def age_histogram(ages: Mapping[int, int], groups: AgeGroups | None) -> dict[str, Any]:
    """What the page needs to draw a bar for each age, the bars of neighboring groups in two shades.

    Args:
        ages: Faces of each age in years.
        groups: Their borders are drawn.
    """
    last = max(*ages, 99)
    marks = [int(mark) for mark in html.ticks(0, max(ages.values()), 1)]
    top, width = marks[-1], last + 1
    starts = [low for low, _ in groups.bounds if low <= last] if groups else []
    years = starts if 1 < len(starts) <= 14 else list(range(0, last + 1, 10))
    if last - years[-1] > 12:
        years = [*years, last]

    def shade(age: int) -> str:
        index = groups.index_of(age) if groups else 0
        return "out" if index is None else ("even", "odd")[index % 2]

    faces, fullest = sum(ages.values()), max(ages, key=lambda age: ages[age])
    return {
        "width": width,
        "height": top,
        "label": f"Bars for {html.number(faces)} faces of {min(ages)} to {max(ages)} years; "
        f"the most, {html.number(ages[fullest])}, are {fullest} years old.",
        "faces": faces,
        "span": (min(ages), max(ages), median_low(Counter(ages).elements())),
        "bars": [(age, count, shade(age)) for age, count in sorted(ages.items())],
        "grid": marks[1:],
        "borders": [start for start in starts if start > 0],
        "x": [(f"{100 * (age + 0.5) / width:.2f}", age) for age in years],
        "y": [(f"{100 * mark / top:.2f}", html.number(mark)) for mark in marks],
    }
