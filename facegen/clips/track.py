"""Find the faces in a clip, and where each is in every frame.

All faces are searched for twice a second, and after every cut; in between each is followed. A face that comes into the
clip is followed back to where it came in. Where one is lost for a few frames, its way is a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from facegen.clips.follow import follow, is_same, size_of
from facegen.faces.find import find_faces

SEARCH_SIDE = 640  # pixels along the longer side of a frame that is searched
SEARCH_EVERY, SEARCH_LOST = 0.5, 0.2  # seconds from one search to the next; where a face is lost
MOST_FRAMES = 60  # from one search to the next
SURE = 0.8  # that there still is a face where one is followed
BRIDGED = 0.5  # seconds for which a face may be lost
SETTLED = 3  # times that a new face is followed at once, until it would stay where it is
MISSED = 4  # searches in a row that miss a followed face: then it is dropped
SHORTEST = 0.2  # seconds; a face that is seen for less time is dropped
QUICK, SLOW = 0.35, 1.0  # seconds over which places are smoothed: where a face moves, where it is still
STILL = 0.01  # of a face's size: a smaller motion is ignored
FADE = 0.2  # seconds in which a change comes and goes with a face that comes and goes
# A scene begins where two frames, in small, differ by so many levels on average, so many times more than the frames
# just before (a quick pan goes on), and are correlated less than this.
THUMB, CUT_LEVELS, CUT_TIMES, CUT_LIKE = (32, 18), 16.0, 2.0, 0.75


@dataclass
class Track:
    """One face in consecutive frames.

    Attributes:
        first: the number of its first frame.
        landmarks: [5, 2] of each frame from there on, in pixels of the clip's frames; None where it is lost.
        crops: what is kept of some of its frames, by their numbers; filled while going through the frames.
        weights: how much of a change each frame takes, 0..1; known in the end.
        missed: searches in a row that did not find it.
    """

    first: int
    landmarks: list[np.ndarray | None]
    crops: dict[int, int] = field(default_factory=dict)
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    missed: int = 0

    @property
    def end(self) -> int:
        """The number of the frame after its last one."""
        return self.first + len(self.landmarks)

    def last_seen(self) -> np.ndarray:
        """The landmarks where it was seen last."""
        return next(face for face in reversed(self.landmarks) if face is not None)

    def at(self, frame: int) -> np.ndarray | None:
        """The landmarks in a frame; None where it is not seen."""
        return self.landmarks[frame - self.first] if self.first <= frame < self.end else None

    def size(self, frame: int) -> float:
        """How large it is in a frame; 0 where it is not seen."""
        face = self.at(frame)
        return 0.0 if face is None else size_of(face)


class Tracker:
    """Goes through a clip's frames, one after another; holds those since the last search, in small.

    Attributes:
        times: of every frame, in seconds.
        cuts: the numbers of the frames that a scene begins with.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.cuts: list[int] = []
        self._all: list[Track] = []
        self._live: list[Track] = []
        self._recent: list[Image.Image] = []
        self._searched = 0.0
        self._thumb: np.ndarray | None = None
        self._levels: list[float] = []  # how much the last frames differed

    def step(self, picture: Image.Image, time: float) -> list[Track]:
        """Take the next frame (RGB); return the tracks of the faces that are seen in it."""
        self.times.append(time)
        factor = min(1.0, SEARCH_SIDE / max(picture.size))
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        small = picture if factor == 1 else picture.resize(size, Image.Resampling.BOX)
        scale = np.array(picture.size) / size
        is_cut = self._is_cut(small)
        if is_cut:
            self.cuts.append(len(self.times) - 1)
            self._live, self._recent = [], []
        self._follow(small, scale)
        wait = SEARCH_EVERY if all(track.landmarks[-1] is not None for track in self._live) else SEARCH_LOST
        if is_cut or time - self._searched >= wait or len(self._recent) >= MOST_FRAMES:
            self._search(small, scale)
            self._searched, self._recent = time, []
        self._recent.append(small)
        return [track for track in self._live if track.landmarks[-1] is not None]

    def finish(self) -> list[Track]:
        """Return all tracks, complete: gaps bridged, places smoothed; without what was no face."""
        rate = 1 / max(float(np.median(np.diff(self.times))), 1e-3) if len(self.times) > 1 else 1.0
        shortest = min(max(2, round(SHORTEST * rate)), len(self.times))
        hard = {*self.cuts, len(self.times)}
        found = []
        for track in self._all:
            while track.landmarks[-1] is None:
                track.landmarks.pop()
            if sum(face is not None for face in track.landmarks) < shortest:
                continue
            track.landmarks = list(_smooth(_bridged(track.landmarks), rate))
            track.weights = _weights(len(track.landmarks), rate, track.first not in hard, track.end not in hard)
            found.append(track)
        return found

    def _is_cut(self, small: Image.Image) -> bool:
        """Whether a scene begins with this frame."""
        thumb = np.asarray(small.convert("L").resize(THUMB, Image.Resampling.BOX), dtype=np.float32)
        before, self._thumb = self._thumb, thumb
        if before is None:
            return True
        levels, usual = float(np.abs(thumb - before).mean()), max(self._levels, default=0.0)
        self._levels = [*self._levels[-2:], levels]
        if levels < max(CUT_LEVELS, CUT_TIMES * usual):
            return False
        one, other = thumb - thumb.mean(), before - before.mean()
        return float((one * other).sum()) < CUT_LIKE * float(np.sqrt((one**2).sum() * (other**2).sum()))

    def _follow(self, small: Image.Image, scale: np.ndarray) -> None:
        """Give each live track its place in a frame; end those that are lost for long."""
        if not self._live:
            return
        places, sure = follow(small, [track.last_seen() / scale for track in self._live])
        live: list[Track] = []
        for track, place, how_sure in zip(self._live, places * scale, sure, strict=True):
            if any(other.landmarks[-1] is not None and is_same(place, other.landmarks[-1]) for other in live):
                continue  # two have come to one face: the older one stays
            track.landmarks.append(place if how_sure >= SURE else None)
            unseen = next(index for index, face in enumerate(reversed(track.landmarks)) if face is not None)
            if self.times[-1] - self.times[-1 - unseen] <= BRIDGED:
                live.append(track)
        self._live = live

    def _search(self, small: Image.Image, scale: np.ndarray) -> None:
        """Look for all faces: those that are new become tracks, and lost ones are found again."""
        found = [face.landmarks for face in find_faces(small, max_side=SEARCH_SIDE)]
        places = np.reshape(found, (-1, 5, 2))
        for _ in range(SETTLED if found else 0):
            places, sure = follow(small, list(places))
            places = places[sure >= SURE]
            if len(places) == 0:
                break
        places = places * scale
        for track in self._live:
            track.missed += 1
        new: list[np.ndarray] = []
        for place in places:
            known = next((track for track in self._live if is_same(track.last_seen(), place)), None)
            if known is None:
                new.append(place)
                continue
            known.missed = 0
            known.landmarks[-1] = place if known.landmarks[-1] is None else known.landmarks[-1]
        self._live = [track for track in self._live if track.missed < MISSED]
        for place in new:
            track = Track(len(self.times) - 1, [place])
            self._follow_back(track, scale)
            self._all.append(track)
            self._live.append(track)

    def _follow_back(self, track: Track, scale: np.ndarray) -> None:
        """Follow a new track through the frames since the last search, to where it came in."""
        for small in reversed(self._recent):
            places, sure = follow(small, [track.landmarks[0] / scale])
            place = places[0] * scale
            others = (other.at(track.first - 1) for other in self._live)
            if sure[0] < SURE or any(face is not None and is_same(place, face) for face in others):
                return
            track.landmarks.insert(0, place)
            track.first -= 1


def _bridged(faces: list[np.ndarray | None]) -> np.ndarray:
    """Landmarks `[N, 5, 2]`, those of lost frames on straight lines."""
    seen = [index for index, face in enumerate(faces) if face is not None]
    points = np.stack([face.ravel() for face in faces if face is not None])
    lines = [np.interp(np.arange(len(faces)), seen, column) for column in points.T]
    return np.stack(lines, axis=1).reshape(-1, 5, 2)


def _smooth(faces: np.ndarray, rate: float) -> np.ndarray:
    """Landmarks `[N, 5, 2]` without the tremble of their search, and without lag: the nearest parabola at each frame.

    Over a short time where a face moves; where that makes no difference, over a long one.
    """
    quick, slow = _parabolas(faces, QUICK * rate), _parabolas(faces, SLOW * rate)
    apart = np.sqrt(np.square(slow - quick).mean(axis=(1, 2))) / [size_of(face) for face in quick]
    return quick + np.exp(-((apart / STILL) ** 2))[:, None, None] * (slow - quick)


def _parabolas(faces: np.ndarray, frames: float) -> np.ndarray:
    from scipy.signal import savgol_filter

    window = min(max(5, round(frames) // 2 * 2 + 1), (len(faces) - 1) // 2 * 2 + 1)
    return savgol_filter(faces, window, 2, axis=0) if window >= 5 else faces


def _weights(count: int, rate: float, comes: bool, goes: bool) -> np.ndarray:
    """How much of a change each of a track's frames takes: less at the ends that are within a scene."""
    steps = np.arange(1, count + 1) / max(1.0, FADE * rate)
    ones = np.ones(count)
    weights = np.minimum(steps.clip(0, 1) if comes else ones, steps[::-1].clip(0, 1) if goes else ones)
    return weights * weights * (3 - 2 * weights)
