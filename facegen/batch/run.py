"""Process photos and clips: faces of several photos are drawn together, and failures are reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from facegen.aging.edit import Edit, Output, Request, in_file_name
from facegen.aging.results import FaceResult, doubts_in_words, found_in_words
from facegen.aging.transfer import AgeTransfer, check_count, chosen_faces
from facegen.batch.page import MAX_PHOTOS, PAGE, ShownPhoto, write_index
from facegen.batch.record import begin_record, check_ours, finished, photo_facts, write_record
from facegen.batch.save import save_photos, save_results
from facegen.batch.sources import Source
from facegen.clips import age_clip, is_clip, result_suffix
from facegen.errors import FacegenError, one_line
from facegen.faces.find import find_faces_batch
from facegen.faces.template import Face
from facegen.parallel import map_in_order
from facegen.photos.original import Original, open_original
from facegen.photos.save import check_format, other_kind, suffix_of
from facegen.status import say, status

PHOTOS_AT_ONCE, PIXELS_AT_ONCE = 8, 24_000_000  # whose faces are drawn together: bounds the memory


@dataclass(frozen=True)
class Outcome:
    """What became of a photo: its pictures, or the error; `skipped` where the pictures were there."""

    source: Source
    paths: list[Path]
    error: Exception | None = None
    skipped: bool = False


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
    """Age the faces in photo files; yields the outcome of each photo. At the end, `index.html` shows all of them.

    What was found in a photo, such as several faces or an estimated age, is reported on stderr.

    Raises a FacegenError for a mistake that concerns every photo.

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
    by_editor = transfer.method(edit) == "editor"
    if by_editor and output.paste_back != "change":
        raise FacegenError("method editor does not work with --paste-back face, because it changes the photo itself")
    if not output.adds_changes and not by_editor:
        edit = replace(edit, strength=1.0)  # the strength is of no use: to find it takes a quarter of the time
    wanted = transfer.check(request.ages_or_all, input_ages=request.input_age, edit=edit)
    check_format(output.format)
    check_ours(outdir / PAGE)
    settings = {**request.to_json(), **edit.to_json(), **output.to_json(), "networks": transfer.checksum(edit)}
    run = _Run(transfer, request, edit, output, settings, [age.caption for age in wanted], outdir)
    with tqdm(total=len(sources), unit="photo", disable=len(sources) < 2) as bar:
        try:
            for outcome in run.age(sources, skip_existing):
                bar.update()
                yield outcome
        finally:
            if run.shown:
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
                    self.shown.append(self._from_before(outcome))
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
        names = [f"{source.stem}-{in_file_name(caption)}{suffix}" for caption in self.captions]
        begin_record(source.record, [source.folder / name for name in names])

    def _age_batch(self, batch: Sequence[_Opened]) -> Iterator[Outcome]:
        """Find and draw the faces of a batch's photos together; what became of each photo and clip, in order."""
        photos = [(one.source, one.photo) for one in batch if one.photo is not None]
        with status("looking for faces ..."):
            found = find_faces_batch([photo.image for _, photo in photos])
        failed, good = dict[Source, Outcome](), list[tuple[Source, Image.Image, list[Face]]]()
        for (source, photo), faces in zip(photos, found, strict=True):
            chosen = chosen_faces(faces, self.request.face)
            try:
                self._check(source, chosen)
                good.append((source, photo.image, chosen))
            except FacegenError as error:
                failed[source] = Outcome(source, [], error)
        results = self.transfer.age_found(
            [image for _, image, _ in good],
            [faces for _, _, faces in good],
            self.request.ages_or_all,
            input_age=self.request.input_age,
            edit=self.edit,
            progress=True,
        )
        aged = dict(zip((source for source, _, _ in good), results, strict=True))
        for one in batch:
            if one.outcome is not None:
                yield one.outcome
            elif one.photo is None:
                yield self._age_clip(one.source, one.facts)
            else:
                yield failed.get(one.source) or self._save(one, one.photo, aged[one.source])

    def _check(self, source: Source, faces: Sequence[Face]) -> None:
        """Raise a FacegenError for a photo without a face to change, or with more or fewer of them than input ages."""
        if not faces:
            raise FacegenError(f"{source.path}: no face found")
        try:
            check_count(self.request.input_age, len(faces))
            self.transfer.check_found(faces, self.edit)
        except FacegenError as error:
            raise FacegenError(f"{source.path}: {error}") from error

    def _age_clip(self, source: Source, facts: Mapping[str, Any]) -> Outcome:
        """Write a clip at each age."""
        try:
            if not self.output.adds_changes:
                raise FacegenError(f"{source.path}: --output face and --paste-back face do not work for clips")
            self._begin(source, result_suffix(source.path))
            if self.output.faces or self.output.video or self.output.format != "same":
                say(f"{source.path}: a clip stays a clip: --output both, --video and --format are for photos", err=True)
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
            write_record(source.record, facts, [], paths)
        except (FacegenError, OSError) as error:
            return Outcome(source, [], error)
        self.shown.append(self._on_page(source, "a clip", is_named_only=True))
        return Outcome(source, paths)

    def _save(self, opened: _Opened, photo: Original, results: list[FaceResult]) -> Outcome:
        """Write the pictures of a photo."""
        source = opened.source
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

    def _from_before(self, outcome: Outcome) -> ShownPhoto:
        """What the page shows of a photo whose pictures were there."""
        source, named = outcome.source, {path.stem: path for path in outcome.paths}
        names = {caption: f"{source.stem}-{in_file_name(caption)}" for caption in self.captions}
        at_ages = {caption: named[name] for caption, name in names.items() if name in named}
        strips = [path for path in outcome.paths if path.name.endswith("strip.png")]
        is_named_only = is_clip(source.path)
        return self._on_page(source, "was there already", is_named_only=is_named_only).with_files(
            source.path, at_ages, strips
        )

    def _on_page(self, source: Source, words: str, *, is_named_only: bool = False) -> ShownPhoto:
        folder = source.folder.relative_to(self.outdir).as_posix()
        return ShownPhoto(source.path.name, folder, words, is_named_only or len(self.shown) >= MAX_PHOTOS)


@dataclass(frozen=True)
class _Opened:
    """A source and its photo in memory; or the outcome, where there is nothing more to do. A clip has neither."""

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
