"""The tab *Change age*: a photo, its faces, a slider of the age, and what is downloaded."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from facegen.aging.edit import Edit
from facegen.aging.transfer import AgeTransfer
from facegen.aging.video import why_no_mp4
from facegen.app.compare import compare_box, compared, in_page
from facegen.app.examples import example_buttons
from facegen.app.message import message_line, spoken
from facegen.app.outline import outlined
from facegen.app.photo_input import photo_input
from facegen.app.session import AGES, MAX_FACES, PhotoSession, Settings, Stopped
from facegen.errors import FacegenError
from facegen.photos.mark import Mark

YOUNG, OLD = 25, 75  # what the slider shows first: the one that is farther from the age that the face looks
YOUNGEST, OLDEST = 1, 100  # years that the age of a face in a photo can be said to be
REFINE_STEPS = 150
METHODS = {"generator": None, "editor": "editor"}  # as the page calls them, and as `Edit.method`
REFINING = 20  # visitors who wait for a refinement, one of which is done at a time
NO_PHOTO = "Drop a photo first. The page forgets photos after an hour."
# On a phone the slider and what it changes come first, then what was found in the photo.
STYLE = """
.gradio-container:has(#auto input:checked) #strength { display: none; } /* there is none to choose */
@media (max-width: 700px) {
  .age-tab > .column { display: contents; }
  .age-tab > .column > * { width: 100%; }
  .age-tab .found { order: 1; }
}
"""


class AgeTab:
    """The tab's components, and what happens when a visitor uses them.

    Args:
        transfer: shared by all visitors.
        kept: seconds after which a photo is forgotten.
    """

    def __init__(self, transfer: AgeTransfer, kept: int) -> None:
        self._transfer = transfer
        self._refining = threading.Lock()
        self.session = gr.State(None, time_to_live=kept, delete_callback=_forget)
        with gr.Row(elem_classes="age-tab"):
            with gr.Column(scale=2, min_width=320):
                self._add_inputs()
            with gr.Column(scale=3, min_width=320):
                self._add_results()
        self._connect()

    def _add_inputs(self) -> None:
        self.photo = photo_input("photo")
        example_buttons(self.photo)
        with gr.Column(elem_classes="found"):
            self.faces = gr.HTML(elem_id="faces", visible=False)
            self.chosen = gr.CheckboxGroup([], label="Faces that change", visible=False, elem_id="chosen")
            with gr.Row():
                self.ages = [
                    gr.Number(
                        label=f"Age of face {number}", minimum=YOUNGEST, maximum=OLDEST, visible=False, min_width=100
                    )
                    for number in range(1, MAX_FACES + 1)
                ]

    def _add_results(self) -> None:
        self.age = gr.Slider(AGES[0], AGES[-1], OLD, step=1, label="Age to show", elem_id="age", buttons=[])
        self.compare = compare_box(elem_id="compare")
        self.message = message_line(elem_id="message")
        with gr.Accordion("How faces change", open=False):
            methods = list(METHODS) if self._transfer.editor is not None else list(METHODS)[:1]
            self.method = gr.Radio(
                methods,
                value=methods[0],
                label="Method",
                info="The editor comes closer to the age; the generator looks a little more real.",
            )
            self.auto = gr.Checkbox(True, label="As little change as makes the face look the age", elem_id="auto")
            self.strength = gr.Slider(0, 3, 1, step=0.1, label="Strength of the change", elem_id="strength", buttons=[])
            can_hold = bool(self._transfer.latent_ages.shift.holds)
            self.hold = gr.Checkbox(can_hold, label="Women and men stay what they are", visible=can_hold)
            with gr.Row():
                self.refine = gr.Button("Refine: fit the generator to these faces", elem_id="refine")
                self.cancel = gr.Button("Cancel", visible=False, variant="stop", elem_id="cancel")
        with gr.Row():
            self.save = gr.Button("Photo in full size", variant="primary", elem_id="save")
            self.strip = gr.Button("Strip of ages", elem_id="strip")
            self.video = gr.Button("Video", elem_id="video")
        self.files = gr.File(label="Downloads", file_count="multiple", visible=False, elem_id="files")

    def _connect(self) -> None:
        controls = [self.age, self.chosen, self.method, self.auto, self.strength, self.hold, *self.ages]
        every = [self.session, *controls]
        draw: dict[str, Any] = {"concurrency_id": "draw", "concurrency_limit": 2}  # gradio wants both in every event
        quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", **draw}
        hidden: dict[str, Any] = {"api_visibility": "private"}
        self.photo.change(
            self.open,
            [self.session, self.photo, self.method, self.auto, self.strength, self.hold],
            [self.session, self.faces, self.chosen, *self.ages, self.age, self.compare, self.message, self.files],
            **draw,
            show_progress_on=self.message,
            **hidden,
        )
        of_faces = [self.chosen, *self.ages]
        gr.on(
            [control.input for control in controls if control not in of_faces],  # type: ignore[attr-defined]
            self.show,
            every,
            [self.compare, self.message],
            **quick,
            **hidden,
        )
        gr.on(
            [control.input for control in of_faces],  # type: ignore[attr-defined]
            self.show_faces,
            every,
            [self.compare, self.message, self.faces],
            **quick,
            **hidden,
        )
        self.refine.click(
            self.refined,
            every,
            [self.compare, self.message, self.refine, self.cancel],
            concurrency_id="refine",
            concurrency_limit=REFINING,
            show_progress="hidden",
            **hidden,
        )
        self.cancel.click(_stop, self.session, None, queue=False, **hidden)
        for button, write in ((self.save, _save_photo), (self.strip, _save_strips), (self.video, _save_video)):
            button.click(
                self._download(write),
                every,
                [self.files, self.message],
                concurrency_id="save",
                concurrency_limit=1,
                show_progress_on=self.message,
                **hidden,
            )

    def open(self, before: PhotoSession | None, path: str | None, *how: Any) -> list[Any]:
        """A photo was dropped, or taken away."""
        if before is not None:
            before.close()
        nothing: list[Any] = [None, gr.HTML(visible=False), gr.CheckboxGroup([], value=[], visible=False)]
        nothing += [gr.Number(None, visible=False)] * MAX_FACES
        if path is None:
            return [*nothing, gr.skip(), None, "", gr.File(None, visible=False)]
        try:
            session = PhotoSession(self._transfer, path)
            names = [f"Face {number}" for number in range(1, len(session.input_ages) + 1)]
            settings = _settings(session, names, *how)
            session.draw(settings)
            mean = sum(session.input_ages) / len(session.input_ages)
            age = OLD if mean < (YOUNG + OLD) / 2 else YOUNG
            numbers = [
                gr.Number(round(session.input_ages[index]), visible=True)
                if index < len(session.input_ages)
                else gr.Number(None, visible=False)
                for index in range(MAX_FACES)
            ]
            return [
                session,
                gr.HTML(_outline(session, settings), visible=True),
                gr.CheckboxGroup(names, value=names, visible=len(names) > 1),
                *numbers,
                age,
                _compare(session, age, settings, is_new=True),
                _words(session, age, settings),
                gr.File(None, visible=False),
            ]
        except (FacegenError, OSError) as error:
            return [*nothing, gr.skip(), None, spoken(error), gr.File(None, visible=False)]

    def show(self, session: PhotoSession | None, age: float, *values: Any) -> list[Any]:
        """Something was moved."""
        if session is None:
            return [None, NO_PHOTO]
        try:
            settings = _settings(session, *values)
            session.draw(settings)
            return [_compare(session, age, settings), _words(session, age, settings)]
        except Stopped:
            return [gr.skip()] * 2
        except (FacegenError, OSError) as error:
            return [gr.skip(), spoken(error)]

    def show_faces(self, session: PhotoSession | None, age: float, *values: Any) -> list[Any]:
        """As `show`, where something was said of the faces."""
        outline = gr.skip() if session is None else _outline(session, _settings(session, *values))
        return [*self.show(session, age, *values), outline]

    def refined(self, session: PhotoSession | None, age: float, *values: Any) -> Iterator[list[Any]]:
        """Refine the faces in another thread, and tell how far that is."""
        ready, busy = [gr.Button(interactive=True), gr.Button(visible=False)], [gr.Button(interactive=False)]
        if session is None:
            yield [gr.skip(), NO_PHOTO, *ready]
            return
        settings = _settings(session, *values)
        if settings.edit.method == "editor":
            yield [gr.skip(), "Only the generator is refined: choose it as the method first.", *ready]
            return
        settings = replace(settings, edit=replace(settings.edit, refine=REFINE_STEPS))
        work = _Work(session, settings, self._refining)
        try:
            yield [gr.skip(), work.words(), *busy, gr.Button(visible=True)]
            while not work.wait(0.25):
                yield [gr.skip(), work.words(), gr.skip(), gr.skip()]
        finally:
            session.stop()  # the visitor may have gone
        if work.error is not None:
            yield [gr.skip(), spoken(work.error), *ready]
        else:
            yield [_compare(session, age, settings), _words(session, age, settings), *ready]

    def _download(self, write: Callable[[PhotoSession, float, Settings], Sequence[Path]]) -> Callable[..., list[Any]]:
        def download(session: PhotoSession | None, age: float, *values: Any) -> list[Any]:
            if session is None:
                return [gr.skip(), NO_PHOTO]
            try:
                settings = _settings(session, *values)
                if settings.chosen == ():
                    return [gr.skip(), "No face is chosen: nothing changes."]
                session.draw(settings)
                files = [str(path) for path in write(session, age, settings)]
            except (FacegenError, OSError) as error:
                return [gr.skip(), spoken(error)]
            return [gr.File(files, visible=True), f"{len(files)} file{'s' * (len(files) > 1)} below."]

        return download


class _Work:
    """A refinement in a thread of its own; one at a time holds `turn`."""

    def __init__(self, session: PhotoSession, settings: Settings, turn: threading.Lock) -> None:
        self.error: Exception | None = None
        self._done, self._total, self._start = 0, 0, 0.0
        self._session, self._settings, self._turn = session, settings, turn
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._session.turn(self._turn):
                self._start = time.monotonic()
                self._session.draw(self._settings, self._report)
        except Stopped:
            self.error = FacegenError("Refinement stopped; the faces are as before.")
        except Exception as error:
            self.error = error

    def _report(self, done: int, total: int) -> None:
        self._done, self._total = done, total

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after at most so long."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def words(self) -> str:
        """How far it is."""
        if not self._start:
            return "Waiting for the refinement of another visitor ..."
        if not self._done:
            return "Refining ..."
        left = (time.monotonic() - self._start) * (self._total / self._done - 1)
        return f"Refining: step {self._done} of {self._total}, {left:.0f} s left"


def _settings(
    session: PhotoSession, chosen: Sequence[str], method: str, auto: bool, strength: float, hold: bool, *ages: Any
) -> Settings:
    """The settings as the controls say them, refined if the faces are already."""
    own = [
        estimated if age is None or age == round(estimated) else min(max(age, YOUNGEST), OLDEST)
        for age, estimated in zip((*ages, *[None] * MAX_FACES), session.input_ages, strict=False)
    ]
    numbers = tuple(sorted(int(name.split()[-1]) - 1 for name in chosen))
    edit = Edit(
        method=METHODS[method],
        strength=None if auto else strength,
        hold=[] if not hold and METHODS[method] is None else None,
    )
    settings = Settings(
        edit,
        None if tuple(own) == session.input_ages else tuple(own),
        numbers if len(session.input_ages) > 1 else None,
    )
    refined = replace(settings, edit=replace(edit, refine=REFINE_STEPS))
    return refined if session.is_drawn(refined) else settings


def _compare(session: PhotoSession, age: float, settings: Settings, *, is_new: bool = False) -> dict[str, str | None]:
    """The photo before and after, for the page; the one before only where it is new there."""
    picture = session.preview(age, settings)
    changed = len(session.input_ages) if settings.chosen is None else len(settings.chosen)
    mark = Mark((f"age {age:g}",), changed) if changed else None
    before = in_page(session.before) if is_new else None
    return compared(before, in_page(picture, mark), f"The photo at age {age:g}")


def _words(session: PhotoSession, age: float, settings: Settings) -> str:
    """What is to be said of the photo at an age."""
    looks = [f"{years:.0f}" for years in session.looks(age, settings) if years == years]
    lines = (
        [f"Faces look {', '.join(looks)} now." if len(looks) > 1 else f"The face looks {looks[0]} now."]
        if looks
        else []
    )
    part = ["This is the part around the faces. Downloads are the whole photo."] if session.shows_part else []
    return html.escape("\n".join([*lines, *session.doubts(), *part]))


def _outline(session: PhotoSession, settings: Settings) -> str:
    """The photo with its faces outlined, for the page."""
    years = settings.input_ages or session.input_ages
    captions = [
        f"{number}: {'looks' if age == estimated else 'age'} {age:.0f}"
        for number, (age, estimated) in enumerate(zip(years, session.input_ages, strict=True), start=1)
    ]
    chosen = range(len(years)) if settings.chosen is None else settings.chosen
    picture = outlined(session.small, session.boxes, captions, chosen)
    words = html.escape(f"The faces of the photo, outlined: {'; '.join(captions)}")
    return f'<img src="{in_page(picture)}" alt="{words}" style="width: 100%; max-height: 70vh; object-fit: contain">'


def _forget(session: PhotoSession | None) -> None:
    if session is not None:
        session.close()


def _stop(session: PhotoSession | None) -> None:
    if session is not None:
        session.stop()


def _save_photo(session: PhotoSession, age: float, settings: Settings) -> list[Path]:
    return [session.save_photo(age, settings)]


def _save_strips(session: PhotoSession, age: float, settings: Settings) -> list[Path]:
    return session.save_strips(settings)


def _save_video(session: PhotoSession, age: float, settings: Settings) -> list[Path]:
    return [session.save_video(settings, "gif" if why_no_mp4() else "mp4")]
