"""The report of a training archive: one HTML file that shows at once whether its labels make sense.

It needs no network, no script and no second file: charts are SVG, pictures lie in the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from PIL import Image

import facegen
from facegen import images as pictures
from facegen.data.contents import Contents, Face, read_contents
from facegen.data.report.portraits import SAMPLES, GroupPictures, portray
from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.html import STYLE, age_histogram, bar, file_name, number, picture, share, text

EXAMPLES = 8  # files that stand in the page for each reason; the JSON report has them all
FEW = 100  # faces in a group: with fewer, a network learns these faces, not the age
MAX_GROUPS = 40  # groups that are shown with pictures
# Nothing in the page may load or run anything, whatever a file name tried to smuggle in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

Examples = Mapping[str, Sequence[tuple[str, Image.Image | None]]]


def write_report(
    path: Path,
    summary: dict[str, Any],
    archives: Sequence[Path | Contents],
    examples: Examples | None = None,
    *,
    progress: bool = True,
) -> None:
    """Write the report of one or more archives (splits) as a single HTML file.

    Args:
        path: The HTML file; it appears whole or not at all.
        summary: What `prepare` or `inspect_archive` counted, as in `<archive>.report.json`; its `archives` are in the
            order of `archives`.
        archives: The archives themselves (or what was read of them), from which the faces are taken: up to 2,000
            of each group for its mean.
        examples: For reasons in `summary["dropped"]` and kinds of problems, some files and, where they can be shown,
            thumbnails.
        progress: Show a bar.

    Raises FacegenError when the archives are not those of the summary or cannot be read.
    """
    if len(archives) != len(summary["archives"]):
        raise FacegenError(f"the summary tells of {len(summary['archives'])} archives, {len(archives)} were given")
    sections = []
    for entry, archive in zip(summary["archives"], archives, strict=True):
        contents = archive if isinstance(archive, Contents) else read_contents(archive)
        sections.append(_archive_section(entry, contents, alone=len(archives) == 1, progress=progress))
    heading = _heading(summary)
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + _headline(summary, heading)
        + _problems(summary.get("problems"), examples or {})
        + "".join(sections)
        + _dropped(summary, examples or {})
        + _notes(summary)
        + _options(summary)
        + f"</main>\n<footer>facegen {text(summary.get('facegen', facegen.__version__))} · "
        f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC · the faces in this page come from the data set and "
        "are under its licence</footer>\n</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _heading(summary: dict[str, Any]) -> str:
    names = [entry["file"] for entry in summary["archives"]]
    return text(names[0] if len(names) == 1 else Path(str(summary["source"])).name, 120)


def _headline(summary: dict[str, Any], heading: str) -> str:
    read, written, problems = summary["read"], summary["written"], summary.get("problems")
    resolution, crop = summary.get("resolution"), summary.get("options", {}).get("crop")
    persons = sum(entry.get("persons") or 0 for entry in summary["archives"])
    of_read = "all that were read" if read == written else f"{share(written, read)} of {number(read)} read"
    facts = [("Faces", number(written), of_read)]
    if problems is None and read > written:
        facts.append(("Left out", number(read - written), '<a href="#left-out">why</a>'))
    if resolution:
        facts.append(("Pictures", f"{resolution}×{resolution}", f"crop: {text(crop)}" if crop else "pixels"))
    facts.append(("Groups", str(len(summary["groups"])), "" if summary["groups"] else "no labels"))
    if persons:
        facts.append(("Persons", number(persons), f"{written / persons:.1f} faces each"))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{extra}</small></dd></div>" for name, value, extra in facts)
    title = text(summary.get("title") or summary.get("source_name") or "", 200)
    origin = f"from {file_name(summary['source'])}" if problems is None else file_name(summary["source"])
    return (
        f"<header>\n<h1>{heading}</h1>\n<p class=soft>{title}{', ' if title else ''}{origin}</p>\n"
        f'<dl class="facts">{items}</dl>\n</header>\n'
    )


def _problems(problems: dict[str, list[dict[str, str]]] | None, examples: Examples) -> str:
    if problems is None:
        return ""
    if not problems:
        return '<p class="verdict">Checked: nothing is wrong with this archive.</p>\n'
    count = sum(map(len, problems.values()))
    noun = "problem" if count == 1 else "problems"
    verdict = f"{number(count)} {noun} found: training on this archive would fail or mislead."
    parts = "".join(_reason(kind, found, None, examples.get(kind, ())) for kind, found in problems.items())
    return f'<p class="verdict bad">{verdict}</p>\n<section aria-label="Problems"><h2>Problems</h2>{parts}</section>\n'


def _archive_section(entry: dict[str, Any], contents: Contents, *, alone: bool, progress: bool) -> str:
    groups = contents.by_class()
    if len(groups) > MAX_GROUPS:
        groups = [(label, faces) for label, faces in groups if faces]

    def open_picture(name: str) -> Image.Image:
        return pictures.decode(contents.files.read(name), name)

    shown = portray(groups[:MAX_GROUPS], open_picture, progress=progress)
    split = f" <span class=soft>{text(entry['split'])}</span>" if entry.get("split") else ""
    title = f"<h2>{text(entry['file'], 120)}{split}</h2>\n<p class=soft>{number(entry['written'])} faces</p>" * (
        not alone
    )
    more = f"<p class=soft>The first {MAX_GROUPS} of {len(groups)} classes are shown.</p>" * (len(groups) > MAX_GROUPS)
    ages = {int(age): count for age, count in entry.get("ages", {}).items()}
    level = "h2" if alone else "h3"
    parts = [title, _means(shown, level)]
    if ages:
        words = _age_words(ages, entry["written"])
        parts.append(f"<{level}>Ages</{level}>\n<p class=soft>{words}</p>{age_histogram(ages, contents.age_groups)}\n")
    parts += [_group_table(groups[:MAX_GROUPS], level), more]
    labels = [label for label, _ in groups[:MAX_GROUPS]]
    parts += [_attribute_table(name, labels, table, level) for name, table in contents.attribute_counts().items()]
    parts.append(_samples(shown, level))
    return f"<section>{''.join(parts)}</section>\n"


def _means(groups: list[GroupPictures], level: str) -> str:
    figures = "".join(
        f"<figure>{_mean(group)}<figcaption><b>{text(group.label, 20)}</b>"
        f"<span class=soft>{number(group.count)}</span></figcaption></figure>"
        for group in groups
    )
    most = max((group.averaged for group in groups), default=0)
    cut = any(group.averaged < group.count for group in groups)
    how = (
        f"Each is the average of up to {number(most)} faces, evenly chosen."
        if cut
        else "Each is the average of all its faces."
    )
    return (
        f"<{level}>Mean face of each group</{level}>\n<p class=soft>{how} If labels make sense, the face ages from "
        "group to group; if the crop does, eyes and mouth are clear and stay where they are.</p>\n"
        f'<div class="means">{figures}</div>\n'
    )


def _mean(group: GroupPictures) -> str:
    if group.mean is None:
        return '<div class="none">no face</div>'
    return picture(group.mean, f"Mean of {number(group.averaged)} faces of {group.label}")


def _age_words(ages: dict[int, int], faces: int) -> str:
    known = sum(ages.values())
    ordered, below, middle = sorted(ages), 0, 0
    for middle in ordered:
        below += ages[middle]
        if 2 * below >= known:
            break
    span = f"{ordered[0]} to {ordered[-1]} years, half of them up to {middle}"
    exact = "" if known == faces else f"; known exactly for {number(known)} of {number(faces)} faces"
    return f"{span}{exact}. Dashed lines are the borders of the groups."


def _group_table(groups: list[tuple[str, list[Face]]], level: str) -> str:
    largest = max((len(faces) for _, faces in groups), default=0)
    total = sum(len(faces) for _, faces in groups)
    genders = [Counter(face.gender or "unknown" for face in faces) for _, faces in groups]
    has_gender = any(counts["female"] + counts["male"] for counts in genders)
    rows = []
    for (label, faces), counts in zip(groups, genders, strict=True):
        if has_gender:
            parts = [(gender, counts[gender], gender) for gender in ("female", "male", "unknown")]
        else:
            parts = [("faces-bar", len(faces), "faces")]
        known = counts["female"] + counts["male"]
        gender = f"<td class=n>{share(counts['female'], known)}</td>" if has_gender else ""
        warning = "" if len(faces) >= FEW else f" <span class=warn>{'few' if faces else 'none'}</span>"
        rows.append(
            f"<tr><th scope=row>{text(label, 30)}{warning}</th><td class=n>{number(len(faces))}</td>"
            f"<td class=n>{share(len(faces), total)}</td>{gender}<td class=wide>{bar(parts, largest)}</td></tr>"
        )
    key = ""
    if has_gender:
        sums = sum(genders, Counter())
        key = "".join(
            f'<span class="key {gender}"></span>{gender} {number(sums[gender])}'
            for gender in ("female", "male", "unknown")
            if sums[gender]
        )
        key = f"<p class=soft>Gender: {key}</p>"
    few = any(len(faces) < FEW for _, faces in groups)
    remark = f"<p class=soft>Few: fewer than {FEW} faces, which a network rather learns by heart.</p>" if few else ""
    gender_head = "<th scope=col class=n>female</th>" if has_gender else ""
    return (
        f"<{level}>Faces per group</{level}>\n{key}<div class=scroll><table><thead><tr><th scope=col>group</th>"
        f"<th scope=col class=n>faces</th><th scope=col class=n>share</th>{gender_head}"
        f"<th scope=col>of the largest</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>{remark}\n"
    )


def _attribute_table(attribute: str, labels: list[str], table: dict[str, dict[str, int]], level: str) -> str:
    """How many faces of each group have each value of an attribute."""
    values = next(iter(table.values()), {})
    head = "".join(f"<th scope=col class=n>{text(value, 30)}</th>" for value in values)
    rows = "".join(
        f"<tr><th scope=row>{text(label, 30)}</th>"
        + "".join(f"<td class=n>{number(table[label][value])}</td>" for value in values)
        + "</tr>"
        for label in labels
    )
    return (
        f"<{level}>Faces per group by {text(attribute, 30)}</{level}>\n<div class=scroll><table><thead><tr>"
        f"<th scope=col>group</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _samples(groups: list[GroupPictures], level: str) -> str:
    parts = []
    below = "h3" if level == "h2" else "h4"
    for group in groups:
        if not group.samples:
            continue
        faces = "".join(
            f"<figure>{picture(s.image, _alt(s.age, group.label), 128, s.name)}"
            f"<figcaption>{text(s.age, 12) or '&nbsp;'}</figcaption></figure>"
            for s in group.samples
        )
        parts.append(
            f'<div class="group"><{below}>{text(group.label, 40)} <span class=soft>{number(group.count)} '
            f"{'face' if group.count == 1 else 'faces'}</span></{below}>"
            f'<div class="faces"><figure>{_mean(group)}<figcaption>mean</figcaption></figure>{faces}</div></div>'
        )
    how = f"Up to {SAMPLES} of each group from young to old, evenly chosen, with their ages."
    return f"<{level}>Sample faces</{level}>\n<p class=soft>{how}</p>\n{''.join(parts)}\n"


def _alt(age: str, label: str) -> str:
    return f"Face, {age} years, in group {label}" if age else f"Face in group {label}"


def _dropped(summary: dict[str, Any], examples: Examples) -> str:
    if "problems" in summary:
        return ""
    dropped = summary["dropped"]
    if not dropped:
        return "<section><h2 id=left-out>Left out</h2><p>Nothing: every file became a face.</p></section>\n"
    parts = "".join(_reason(r, found, summary["read"], examples.get(r, ())) for r, found in dropped.items())
    count = sum(map(len, dropped.values()))
    part = f"{number(count)} of {number(summary['read'])} ({share(count, summary['read'])})"
    words = f"{part}, by reason. All of them stand in the JSON report."
    return f"<section><h2 id=left-out>Left out</h2>\n<p class=soft>{words}</p>{parts}</section>\n"


def _reason(
    reason: str,
    found: Sequence[dict[str, str]],
    read: int | None,
    thumbnails: Sequence[tuple[str, Image.Image | None]],
) -> str:
    detail_of = {entry["file"]: _detail(entry) for entry in found}
    shown = [(name, image) for name, image in thumbnails if image is not None][:EXAMPLES]
    figures = "".join(
        f"<figure>{picture(image, reason, 160, name)}"
        f"<figcaption>{file_name(name)}<br>{text(detail_of.get(name, ''), 200)}</figcaption></figure>"
        for name, image in shown
    )
    pictured = {name for name, _ in shown}
    rest = [entry for entry in found if entry["file"] not in pictured][: EXAMPLES - len(shown)]
    lines = "".join(
        f"<li>{file_name(e['file']) if e['file'] else ''} <span>{text(_detail(e), 300)}</span></li>" for e in rest
    )
    more = len(found) - len(shown) - len(rest)
    lines += f"<li><span>and {number(more)} more</span></li>" if more > 0 else ""
    part = f", {share(len(found), read)}" if read else ""
    return (
        f'<div class="reason"><h3>{text(reason, 200)} <span class=soft>{number(len(found))}{part}</span></h3>'
        + (f'<div class="thumbs">{figures}</div>' if figures else "")
        + (f"<ul>{lines}</ul>" if lines else "")
        + "</div>\n"
    )


def _detail(entry: dict[str, str]) -> str:
    # An error begins with its file, which stands in the page already.
    return entry.get("detail", "").removeprefix(f"{entry['file']}: ")


def _notes(summary: dict[str, Any]) -> str:
    notes = summary.get("notes") or {}
    rows = []
    for note, names in notes.items():
        count = f"{number(len(names))} " if names else ""
        first = ", ".join(file_name(name) for name in names[:3]) + (" …" if len(names) > 3 else "")
        rows.append(f"<tr><td>{text(note, 300)}</td><td class=n>{count}</td><td>{first}</td></tr>")
    if not rows:
        return ""
    return (
        "<section><h2>Notes</h2>\n<div class=scroll><table><thead><tr><th scope=col>what</th>"
        f"<th scope=col class=n>files</th><th scope=col>first</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div></section>\n"
    )


def _options(summary: dict[str, Any]) -> str:
    options = {"source": summary["source"], "kind": summary.get("source_name", ""), **summary.get("options", {})}
    rows = "".join(
        f"<tr><th scope=row>{text(name, 60)}</th><td>{text('–' if value is None else value, 300)}</td></tr>"
        for name, value in options.items()
    )
    return f"<section><h2>Settings</h2>\n<table><tbody>{rows}</tbody></table></section>\n"
