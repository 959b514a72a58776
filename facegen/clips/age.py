"""A clip in, the clip with its faces at another age out.

The clip is first read to find its faces and follow them (`track.py`); a crop of each is kept eight times a second. The
change is drawn for every crop as for a photo, averaged over the time around it (`change.py`), and added to every frame
while the clip is read again. Place, strength and change move slowly, so nothing flickers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from PIL import Image
from tqdm import tqdm

from facegen.aging.change import UNDERSTOOD
from facegen.aging.edit import Edit, Request, in_file_name
from facegen.aging.editing import SMALLEST, TOO_SMALL, side_in_photo
from facegen.aging.paste import Placed, put_in
from facegen.aging.transfer import AgeTransfer
from facegen.clips.animation import Animation
from facegen.clips.change import Crops, Person, TimedChange
from facegen.clips.frames import Frame
from facegen.clips.method import Method, method_of
from facegen.clips.read import open_clip, result_suffix
from facegen.clips.track import Track, Tracker
from facegen.clips.video import Video
from facegen.errors import FacegenError
from facegen.faces.template import AlignmentTemplate
from facegen.images import to_rgb
from facegen.photos.mark import Mark
from facegen.status import StopRequest, say
from facegen.text import shown

CROP_EVERY = 0.12  # seconds: faces change slower than frames follow each other
MOST_NAMED = 8  # faces whose ages are said


def age_clip(
    transfer: AgeTransfer,
    path: Path,
    outdir: Path,
    stem: str,
    request: Request,
    edit: Edit,
    *,
    mark: bool = True,
    strip_metadata: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Write a clip with the faces in it at each age: `<stem>-age70.mp4`, ...; the paths.

    What there is to know is said on stderr. Ctrl-C while a clip is written ends it there, playable; KeyboardInterrupt
    follows.

    Args:
        transfer: ages the faces.
        path: a video, or an animated GIF, WebP or PNG, which stays one.
        outdir: the folder to write to.
        stem: what the names begin with.
        request: which faces, and at which ages. An input age is that of every face.
        edit: how ages are changed; without refinement.
        mark: let the files say how they were made, see `facegen.photos.mark`.
        strip_metadata: leave out what the clip says of itself, such as its title.
        progress: show bars.

    Raises:
        FacegenError: no clip, one without faces, damaged from the beginning or too large; what cannot be done.
    """
    given = request.input_age
    ages = transfer.check(request.ages_or_all, input_ages=given, edit=edit)
    _check(path, edit, given)
    clip, method = open_clip(path), method_of(transfer, edit)
    with TemporaryFile() as file:
        crops = Crops(file, method.size)
        tracks = _find(clip, method, crops, request.face == "largest", progress)
        if not tracks:
            raise FacegenError(f"{path}: no face found")
        tracks = _large_enough(path, tracks, transfer, edit)
        people = [Person(transfer, method, track, crops, ages, edit, given) for track in tracks]
        _say_what_was_found(path, people)
        said: set[str] = set()
        _say_new(clip, said)
        paths = []
        for age in ages:
            name = f"{stem}-{in_file_name(age.caption)}{result_suffix(path)}"
            about = Mark((age.caption,), _at_once(tracks)) if mark else None
            changes = [TimedChange(method, person, crops, age) for person in people]
            bar = tqdm(clip.frames(), shown(name, 40), clip.count, unit="frame", disable=not progress)
            paths.append(outdir / name)
            with StopRequest() as stop, clip.writing(paths[-1], about, strip_metadata=strip_metadata) as add:
                done = _put_in(bar, method, changes, add, stop, transfer.template)
            _say_new(clip, said)
            if stop.requested:
                say(f"Stopped: {paths[-1]} has the first {done} of {clip.count} frames.", err=True)
                raise KeyboardInterrupt
    return paths


def _check(path: Path, edit: Edit, given: Sequence[float] | None) -> None:
    """Raise a FacegenError for what can be done to photos only."""
    if edit.refine:
        raise FacegenError(f"{path}: faces in a clip cannot be refined: leave out --refine")
    if given is not None and len(given) > 1:
        raise FacegenError(f"{path}: a clip takes one input age for all its faces, or none")


def _put_in(
    frames: Iterable[Frame],
    method: Method,
    changes: Sequence[TimedChange],
    add: Callable[[Frame, Image.Image], None],
    stop: StopRequest,
    template: AlignmentTemplate,
) -> int:
    """Put changes into frames, and add each to a file, until all are done or a stop is requested; how many are done."""
    done = 0
    for number, frame in enumerate(frames):
        placed = []
        for change in changes:
            face = change.track.at(number)
            if face is not None:
                placed.append(Placed(change.at(number), method.matrix(face), mask=method.mask))
        add(frame, put_in(frame.picture, placed, template=template) if placed else frame.picture)
        done += 1
        if stop.requested:
            break
    return done


def _at_once(tracks: Sequence[Track]) -> int:
    """The most faces that are in one frame."""
    return max(sum(other.first <= track.first < other.end for other in tracks) for track in tracks)


def _find(clip: Video | Animation, method: Method, crops: Crops, largest: bool, progress: bool) -> list[Track]:
    """The faces of a clip, with their crops."""
    tracker, cropped = Tracker(), -CROP_EVERY
    bar = tqdm(
        clip.frames(), f"faces in {shown(clip.path.name, 40)}", clip.count or None, unit="frame", disable=not progress
    )
    for number, frame in enumerate(bar):
        picture = to_rgb(frame.picture)
        tracks = tracker.step(picture, frame.time)
        is_due = frame.time - cropped >= CROP_EVERY
        for track in tracks:
            if is_due or not track.crops:
                face = track.landmarks[-1]
                assert face is not None  # it is seen in this frame
                track.crops[number] = crops.add(method.cut(picture, face))
        cropped = frame.time if is_due else cropped
    clip.count = len(tracker.times)
    tracks = tracker.finish()
    return _largest(tracks) if largest else tracks


def _large_enough(path: Path, tracks: list[Track], transfer: AgeTransfer, edit: Edit) -> list[Track]:
    """The tracks of faces that are large enough for the method in most of their frames; the others are said."""
    if transfer.method(edit) != "editor":
        return tracks
    chosen = []
    for track in tracks:
        sides = [side_in_photo(face, transfer.template) for face in track.landmarks if face is not None]
        if np.median(sides) >= SMALLEST:
            chosen.append(track)
    if not chosen:
        raise FacegenError(f"{path}: {TOO_SMALL}")
    if len(chosen) < len(tracks):
        few = len(tracks) - len(chosen)
        say(f"{path}: {few} of {len(tracks)} faces too small for the editor: nothing changes there", err=True)
    return chosen


def _largest(tracks: Sequence[Track]) -> list[Track]:
    """The tracks that are the largest face in most of their frames."""
    chosen = []
    for track in tracks:
        frames = range(track.first, track.end)
        smaller = sum(any(other.size(i) > track.size(i) for other in tracks) for i in frames)
        if smaller <= len(frames) / 2:
            chosen.append(track)
    return chosen


def _say_what_was_found(path: Path, people: Sequence[Person]) -> None:
    ages = ", ".join(f"{person.own:.0f}" for person in people if person.is_estimated)
    if len(people) > MOST_NAMED or not ages:
        say(f"{path}: {len(people)} face{'s' * (len(people) > 1)}", err=True)
    else:
        say(f"{path}: {f'{len(people)} faces look' if len(people) > 1 else 'looks'} {ages}", err=True)
    unclear = sum(person.understood < UNDERSTOOD for person in people)
    if unclear:
        say(f"{path}: {unclear} of {len(people)} faces not understood well: hardly changed", err=True)


def _say_new(clip: Video | Animation, said: set[str]) -> None:
    """Say what there is to know of a clip, once."""
    for note in clip.notes:
        if note not in said:
            say(f"{clip.path}: {note}", err=True)
            said.add(note)
