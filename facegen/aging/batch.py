"""Many photos, one after another: which they are, where their pictures go, what is there already, what failed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from facegen.aging.edit import ALL, PASTE_MODES, Edit, Output, Request
from facegen.aging.page import MAX_PHOTOS, PAGE, ShownPhoto, write_index
from facegen.aging.record import begin_record, check_ours, finished, is_output, photo_facts, write_record
from facegen.aging.results import FaceResult, doubts_in_words, found_in_words
from facegen.aging.save import name_at, save_photos, save_results
from facegen.aging.transfer import AgeTransfer, check_count, chosen_faces
from facegen.clips import age_clip, is_clip, result_suffix
from facegen.container import is_image_name
from facegen.errors import FacegenError, one_line
from facegen.faces.find import find_faces_batch
from facegen.faces.template import Face
from facegen.files import at_home
from facegen.parallel import map_in_order
from facegen.photos.original import Original, open_original
from facegen.photos.save import check_format, other_kind, suffix_of
from facegen.status import say, status

PHOTOS_AT_ONCE, PIXELS_AT_ONCE = 8, 24_000_000  # whose faces are drawn together: bounds the memory


@dataclass(frozen=True)
class Source:
    """A photo's file, the folder that its pictures go to, and what their names begin with."""

    path: Path
    folder: Path
    stem: str

    @property
    def record(self) -> Path:
        """Where it stands what became of the photo."""
        return self.folder / f"{self.stem}.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: its pictures, or the error; `skipped` where the pictures were there."""

    source: Source
    paths: list[Path]
    error: Exception | None = None
    skipped: bool = False


def sources_in(
    paths: Sequence[str | os.PathLike[str]], outdir: str | os.PathLike[str], *, recursive: bool = False
) -> list[Source]:
    """Return the photos, and in the place of each folder the pictures in it, sorted.

    Of several photos each has a folder of its own in `outdir`, named after it; folders in folders stay as they are.

    Args:
        recursive: take the pictures in the folders of a folder, too, but not those in `outdir` and where an earlier run
            has written to.

    Raises:
        FacegenError: a folder without pictures, or one that is `outdir`.
    """
    outdir = Path(outdir)
    found: list[tuple[Path, Path]] = []  # with the folder, as seen from the one that was named
    for path in map(at_home, paths):
        inside = [(path, Path())]
        if path.is_dir():
            if _is_same(path, outdir):
                raise FacegenError(f"--outdir {outdir}: results beside photos are taken for photos; name another")
            inside = [(file, file.parent.relative_to(path)) for file in _pictures_in(path, outdir, recursive)]
        if not inside:
            more = "" if recursive else "; --recursive looks into the folders in it, too"
            raise FacegenError(f"{path}: no pictures in this folder{more}")
        found += inside
    stems = unique_stems([folder / path.name for path, folder in found])
    if len(found) == 1:
        return [Source(found[0][0], outdir, stems[0])]
    return [Source(path, outdir / folder / stem, stem) for (path, folder), stem in zip(found, stems, strict=True)]


def _pictures_in(folder: Path, outdir: Path, recursive: bool) -> list[Path]:
    """The pictures in a folder, sorted; hidden ones stay out."""
    if not recursive:
        return sorted(p for p in folder.iterdir() if is_image_name(p.name) and p.name[0] != "." and p.is_file())
    pictures = []
    for root, folders, names in os.walk(folder):
        inner = Path(root)
        folders[:] = sorted(
            n for n in folders if n[0] != "." and not _is_same(inner / n, outdir) and not is_output(inner / n)
        )
        pictures += [inner / name for name in sorted(names) if is_image_name(name) and name[0] != "."]
    return [picture for picture in pictures if picture.is_file()]


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def unique_stems(photos: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for the pictures of each photo: its stem, numbered where another photo in the folder has the same.

    Letter case does not tell two names apart, as on some file systems. Dots and spaces at the end go: `...jpg` would
    name the folder above, and Windows drops them.
    """
    taken: set[tuple[Path, str]] = set()
    stems = []
    for photo in map(Path, photos):
        base = stem = photo.stem.rstrip(". ") or "photo"
        number = 1
        while (photo.parent, stem.casefold()) in taken:
            number += 1
            stem = f"{base}-{number}"
        taken.add((photo.parent, stem.casefold()))
        stems.append(stem)
    return stems


def age_all(
    transfer: AgeTransfer,
    sources: Sequence[Source],
    outdir: Path,
    request: Request,
    edit: Edit,
    output: Output | None = None,
    *,
    skip_existing: bool = False,
) -> Iterator[Outcome]:
    """Age the faces in photo files; what became of each photo, in turn. At the end, `index.html` shows all of them.

    What was found in a photo, several faces or the age that a face looks, is said on stderr.

    Raises a FacegenError for what is wrong for every photo.

    Args:
        transfer: Ages the faces.
        sources: Photos.
        outdir: The folder of all results.
        request: Which faces, and at which ages.
        edit: How ages are changed.
        output: What is written.
        skip_existing: Leave out photos whose pictures are there and were made of the same file in the same way.
    """
    output = output or Output()
    if not output.photos or output.paste_back != PASTE_MODES[0]:
        edit = replace(edit, strength=1.0)  # the strength is of no use: to find it takes a quarter of the time
    ages, age = ALL if request.ages is None else request.ages, request.input_age
    wanted = transfer.check(ages, input_ages=age, edit=edit)
    check_format(output.format)
    check_ours(outdir / PAGE)
    settings = {**request.to_json(), **edit.to_json(), **output.to_json(), "networks": transfer.checksum()}
    run = _Run(transfer, request, edit, output, settings, [age.caption for age in wanted], outdir)
    with tqdm(total=len(sources), unit="photo", disable=len(sources) < 2) as bar:
        try:
            for outcome in run.age(sources, skip_existing):
                bar.update()
                yield outcome
        finally:
            if run.shown or run.failed:
                write_index(outdir, run.shown, run.failed)


class _Run:
    """Photos on their way through one command."""

    def __init__(
        self,
        transfer: AgeTransfer,
        request: Request,
        edit: Edit,
        output: Output,
        settings: Mapping[str, Any],
        captions: Sequence[str],
        outdir: Path,
    ) -> None:
        self.transfer, self.request, self.edit, self.output = transfer, request, edit, output
        self.settings, self.captions, self.outdir = settings, captions, outdir
        self.shown: list[ShownPhoto] = []
        self.failed: list[str] = []

    def age(self, sources: Sequence[Source], skip_existing: bool) -> Iterator[Outcome]:
        """Age the photos, those that are opened together at once."""
        opened = map_in_order(lambda source: self._open(source, skip_existing), sources, ahead=1, threads=1)
        for batch in _batches(opened):
            for outcome in self._age_batch(batch):
                if outcome.error is not None:
                    self.failed.append(one_line(outcome.error))
                elif outcome.skipped:
                    self.shown.append(self._on_page(outcome.source, "was there already").with_files(outcome.paths))
                yield outcome

    def _open(self, source: Source, skip_existing: bool) -> _Opened:
        facts: dict[str, Any] = {}
        try:
            facts = photo_facts(source.path, self.settings)
            if skip_existing and (paths := finished(source.record, facts)):
                return _Opened(source, facts, None, Outcome(source, paths, skipped=True))
            if is_clip(source.path):
                return _Opened(source, facts, None, None)
            return _Opened(source, facts, open_original(source.path), None)
        except (FacegenError, OSError) as error:
            return _Opened(source, facts, None, Outcome(source, [], error))

    def _begin(self, source: Source, suffix: str) -> None:
        """Write the record of a photo before its first picture; raises as `begin_record`."""
        begin_record(source.record, [source.folder / name_at(source.stem, age, suffix) for age in self.captions])

    def _age_batch(self, batch: Sequence[_Opened]) -> Iterator[Outcome]:
        photos = [opened.photo.image for opened in batch if opened.photo is not None]
        with status("looking for faces ..."):
            found = iter(find_faces_batch(photos))
        faces = [[] if o.photo is None else chosen_faces(next(found), self.request.face) for o in batch]
        outcomes = [self._check(opened, chosen) for opened, chosen in zip(batch, faces, strict=True)]
        good = [index for index, outcome in enumerate(outcomes) if outcome is None]
        results = self.transfer.age_found(
            [photo.image for index in good if (photo := batch[index].photo) is not None],
            [faces[index] for index in good],
            ALL if self.request.ages is None else self.request.ages,
            input_age=self.request.input_age,
            edit=self.edit,
            progress=True,
        )
        of_photo = dict(zip(good, results, strict=True))
        for index, outcome in enumerate(outcomes):
            yield outcome or self._save(batch[index], of_photo[index])

    def _check(self, opened: _Opened, faces: Sequence[Face]) -> Outcome | None:
        """What became of a photo that is not aged; None where it can be."""
        if opened.outcome is not None:
            return opened.outcome
        if opened.photo is None:
            return self._age_clip(opened)
        try:
            if not faces:
                raise FacegenError("no face found")
            given = self.request.input_age
            check_count(None if given is None else list(given), len(faces))
        except FacegenError as error:
            return Outcome(opened.source, [], FacegenError(f"{opened.source.path}: {error.args[0]}"))
        return None

    def _age_clip(self, opened: _Opened) -> Outcome:
        """Write a clip at each age."""
        source = opened.source
        try:
            if not self.output.photos or self.output.paste_back != PASTE_MODES[0]:
                raise FacegenError(f"{source.path}: of a clip there is no --output face and no --paste-back face")
            self._begin(source, result_suffix(source.path))
            paths = age_clip(
                self.transfer,
                source.path,
                source.folder,
                source.stem,
                self.request,
                self.edit,
                mark=not self.output.no_mark,
                strip_metadata=self.output.strip_metadata,
                progress=True,
            )
            write_record(source.record, opened.facts, [], paths)
        except (FacegenError, OSError) as error:
            return Outcome(source, [], error)
        self.shown.append(self._on_page(source, "a clip", is_named_only=True))
        return Outcome(source, paths)

    def _save(self, opened: _Opened, results: list[FaceResult]) -> Outcome:
        """Write the pictures of a photo."""
        source, photo = opened.source, opened.photo
        assert photo is not None
        words = found_in_words(results)
        if words:
            say(f"{source.path}: {words}", err=True)
        for doubt in doubts_in_words(results, pasted=self.output.photos):
            say(f"{source.path}: {doubt}", err=True)
        if self.output.photos and (why := other_kind(photo, self.output.format)):
            say(f"{source.path}: {why}", err=True)
        shown = self._on_page(source, words)
        paths = []
        try:
            self._begin(source, suffix_of(photo, self.output.format))
            if self.output.photos:
                shown.add_before(photo.image)
                paths += save_photos(
                    photo,
                    results,
                    source.folder,
                    source.stem,
                    self.output,
                    template=self.transfer.template,
                    shown=shown,
                    progress=True,
                )
            if self.output.faces:
                paths += save_results(results, source.folder, source.stem, self.output)
                for result in results:
                    shown.add_strip(result.strip())
            write_record(source.record, opened.facts, results, paths)
        except (FacegenError, OSError) as error:
            return Outcome(source, [], error)
        self.shown.append(shown)
        return Outcome(source, paths)

    def _on_page(self, source: Source, words: str, *, is_named_only: bool = False) -> ShownPhoto:
        folder = source.folder.relative_to(self.outdir).as_posix()
        return ShownPhoto(source.path.name, folder, words, is_named_only or len(self.shown) >= MAX_PHOTOS)


@dataclass(frozen=True)
class _Opened:
    """A photo in memory, or what became of it without; neither for a clip."""

    source: Source
    facts: Mapping[str, Any]
    photo: Original | None
    outcome: Outcome | None


def _batches(opened: Iterable[_Opened]) -> Iterator[list[_Opened]]:
    """Photos in turn, as many together as memory allows."""
    batch: list[_Opened] = []
    pixels = 0
    for one in opened:
        batch.append(one)
        pixels += 0 if one.photo is None else one.photo.image.width * one.photo.image.height
        if len(batch) == PHOTOS_AT_ONCE or pixels >= PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
