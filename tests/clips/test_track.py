"""Where the faces of a clip are, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import clip_files as clips
import numpy as np
from PIL import Image

from facegen.clips.track import Track, Tracker
from facegen.faces.find import find_faces


def tracked(frames: Sequence[Image.Image]) -> tuple[list[Track], list[int]]:
    tracker = Tracker()
    for number, frame in enumerate(frames):
        tracker.step(frame, number / clips.RATE)
    return tracker.finish(), tracker.cuts


def test_a_moving_face_is_one_track_close_to_what_a_search_finds(hopper: Image.Image):
    frames = clips.moving(hopper, 25)
    (track,), cuts = tracked(frames)
    assert (track.first, track.end, cuts) == (0, 25, [0])
    for number in (0, 7, 16, 24):
        found = find_faces(frames[number])[0]
        apart = np.abs(track.at(number) - found.landmarks).mean()
        assert apart < 0.05 * (found.box[3] - found.box[1])
    assert track.weights.min() == 1


def test_a_cut_ends_a_track(hopper: Image.Image, landscape: Image.Image):
    frames = clips.moving(hopper, 8)
    mirrored = [frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for frame in frames]
    tracks, cuts = tracked([*frames, *[landscape] * 8, *mirrored])
    assert cuts == [0, 8, 16]
    assert [(track.first, track.end) for track in tracks] == [(0, 8), (16, 24)]
    assert all(track.weights.min() == 1 for track in tracks)


def test_a_face_that_comes_in_is_followed_back_to_where_it_came_in(hopper: Image.Image):
    view = clips.moving(hopper, 1, noise=0)[0]
    wide = Image.new("RGB", (900, 240), "gray")
    wide.paste(view, (480, 0))
    frames = [wide.crop((18 * number, 0, 18 * number + 320, 240)) for number in range(30)]
    (track,), cuts = tracked(frames)
    assert cuts == [0]
    assert 15 < track.first < 24  # frames 0, 13 and 26 are searched
    assert track.end == 30
    assert track.weights[0] < 0.3
    assert track.weights[-1] == 1
    way = np.diff([face.mean(axis=0) for face in track.landmarks], axis=0)
    np.testing.assert_allclose(way[3:], np.broadcast_to([-18, 0], way[3:].shape), atol=2)


def test_a_face_that_is_hidden_for_a_moment_stays_the_same_one(hopper: Image.Image):
    frames = clips.moving(hopper, 20)
    for frame in frames[8:11]:
        frame.paste("gray", (100, 40, 260, 200))
    (track,), _ = tracked(frames)
    assert (track.first, track.end) == (0, 20)
    straight = np.diff([track.at(number).mean(axis=0) for number in range(7, 12)], axis=0)
    np.testing.assert_allclose(straight, np.broadcast_to(straight.mean(axis=0), straight.shape), atol=1)


def test_two_faces_are_two_tracks(hopper: Image.Image):
    frames = []
    for one in clips.moving(hopper, 6):
        both = Image.new("RGB", (640, 240))
        both.paste(one, (0, 0))
        both.paste(one.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (320, 0))
        frames.append(both)
    tracks, _ = tracked(frames)
    assert len(tracks) == 2
    assert all((track.first, track.end) == (0, 6) for track in tracks)


def test_nothing_is_found_where_there_is_no_face(landscape: Image.Image):
    assert tracked([landscape] * 3) == ([], [0])
