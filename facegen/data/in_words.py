"""The lines that `facegen prepare`, `facegen pack` and `facegen inspect` print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facegen.data.assemble import PrepareReport, report_path
from facegen.data.contents import count_by_kind
from facegen.data.inspect import Inspection
from facegen.data.report.page import FEW
from facegen.text import shown

_SHOWN = 3  # problems of each kind that are shown; --json has them all
_MAX_CLASSES = 40
_LONGEST = 240  # letters that strangers wrote in a line


def prepared(report: PrepareReport, archive: Path) -> Iterator[str]:
    """What was written into an archive and what was left out."""
    yield from _archives(report, archive, "face")
    yield from _left_out(report)
    if report.template is None:
        yield "no faces were found to measure the alignment on; transfer will use the default alignment"
    yield from _in_all(report, archive)


def packed(report: PrepareReport, archive: Path) -> Iterator[str]:
    """What was packed into an archive of any pictures, and what was left out."""
    yield from _archives(report, archive, "picture")
    if not report.groups:
        yield "no labels: train with --cond=false"
    yield from _left_out(report)
    yield from _in_all(report, archive)


def _archives(report: PrepareReport, archive: Path, what: str) -> Iterator[str]:
    """How many pictures each class of each archive has; `what` is what they show."""
    for entry in report.archives:
        yield f"{archive.with_name(entry['file'])}: {entry['written']:,d} {what}s"
        width = max((len(shown(label)) for label in entry["groups"]), default=0)
        for label, count in entry["groups"].items():
            hint = f"  <- no {what}: this class cannot be learned" if count == 0 else "  <- few" if count < FEW else ""
            yield f"  {shown(label):>{width}}  {count:7,d}{hint}"


def _left_out(report: PrepareReport) -> Iterator[str]:
    for reason, files in report.dropped.items():
        detail = f"; {files[0]['detail']}" if files[0]["detail"] else ""
        yield f"dropped {len(files):,d}: {reason} (first: {shown(files[0]['file'] + detail, _LONGEST)})"
    for note, names in report.notes.items():
        yield f"note on {len(names):,d}: {note} (first: {shown(names[0], _LONGEST)})"


def _in_all(report: PrepareReport, archive: Path) -> Iterator[str]:
    yield f"{report.written:,d} of {report.read:,d} written, {report.resolution}x{report.resolution}"
    yield f"look at {report_path(archive, '.html')}"


def inspected(found: Inspection, archive: Path) -> Iterator[str]:
    """What an archive holds and what is wrong with it."""
    summary = found.summary
    entry, resolution = summary["archives"][0], summary["resolution"]
    size = f" of {resolution}x{resolution}" if resolution else ""
    yield f"{archive}: {summary['written']:,d} pictures{size}, {len(summary['groups'])} classes; {summary['title']}"
    filled = {name: count for name, count in entry["groups"].items() if count or len(entry["groups"]) <= _MAX_CLASSES}
    width = max((len(shown(name)) for name in filled), default=0)
    for name, count in list(filled.items())[:_MAX_CLASSES]:
        yield f"  {shown(name):>{width}}  {count:7,d}"
    if len(filled) > _MAX_CLASSES:
        yield f"  and {len(filled) - _MAX_CLASSES} more classes"
    for attribute, table in entry.get("attributes", {}).items():
        first = {name: table[name] for name in list(filled or table)[:_MAX_CLASSES]}
        yield from _attributes(attribute, first, width)
    if entry["ages"]:
        ages = [int(age) for age in entry["ages"]]
        yield f"ages from {min(ages)} to {max(ages)}, known exactly for {sum(entry['ages'].values()):,d} pictures"
    if entry.get("persons"):
        yield f"persons: {entry['persons']:,d}"
    for note in found.notes:
        yield f"note: {shown(note, _LONGEST)}"
    for kind, problems in count_by_kind(found.problems).items():
        yield f"PROBLEM: {kind} ({len(problems):,d})"
        for problem in problems[:_SHOWN]:
            yield f"  {shown(': '.join(filter(None, (problem.file, problem.detail))), _LONGEST)}"
        if len(problems) > _SHOWN:
            yield f"  and {len(problems) - _SHOWN:,d} more"


def _attributes(attribute: str, table: dict[str, dict[str, int]], width: int) -> Iterator[str]:
    """How many pictures of each class have each value of an attribute."""
    values = next(iter(table.values()), {})
    words = {value: shown(value) for value in values}
    yield f"{shown(attribute)}:"
    yield "  " + " " * width + "".join(f"  {word:>7}" for word in words.values())
    for name, counts in table.items():
        cells = (f"  {counts[value]:{max(7, len(word))},d}" for value, word in words.items())
        yield f"  {shown(name):>{width}}{''.join(cells)}"
