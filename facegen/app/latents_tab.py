"""The tab *Latents*: what the latent commands do, for visitors. Faces of seeds, walks, mixtures, and directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from facegen.aging.transfer import AgeTransfer
from facegen.app.displays import film_box, hung, picture_wall, screened
from facegen.app.latent_pictures import ALL_LAYERS, LARGE, MAX_DEGREE, MAX_FACES, SECONDS, LatentPictures
from facegen.app.message import message_line, spoken
from facegen.app.session import PhotoSession
from facegen.errors import FacegenError

WORDS = """Here no photo is needed: the network draws faces from numbers, the *seeds*. A seed is the same face every
time. Faces have {0}×{0} pixels; the page enlarges them. Some seeds give broken faces: take another one, or a lower
truncation."""
DICE = "() => Math.floor(Math.random() * 10000)"  # short enough to be written down
SEED, AGE, TRUNCATION = 29, 35, 0.7  # what is shown first
AGES_OF_ONE, FACES = "Ages of one face", "From face to face"
OF_SEED, OF_PHOTO = "of a seed", "of the photo in Change age"
PARTS = {"coarse: pose and shape": "coarse", "middle: features": "middle", "fine: colors and skin": "fine"}
MOVES = (("A", 0, 1.5), ("B", 1, 0.0), ("C", 2, 0.0))  # at first: number and degree of each direction
# What is drawn stays in sight while a slider below is moved; on a phone it stands above the sliders.
STYLE = """
.gradio-container { overflow: clip !important; }  /* hidden, as gradio has it, nothing below could stay in sight */
.drawn { position: sticky; top: 8px; align-self: flex-start; gap: 0 !important; }
.drawn .said { min-height: 0 !important; margin: 0 !important; }
.seed { align-items: center; }
@media (max-width: 700px) {
  .drawn { order: -1; top: 0; z-index: 50; display: block !important; max-height: 46vh; overflow-y: auto;
    background: var(--body-background-fill); }
}
"""
HIDDEN: dict[str, Any] = {"api_visibility": "private"}
# Drawn with the photos of the other tab: two at a time, whoever asks.
QUICK: dict[str, Any] = {
    "show_progress": "hidden",
    "trigger_mode": "always_last",
    "concurrency_id": "draw",
    "concurrency_limit": 2,
    **HIDDEN,
}


class LatentsTab:
    """The tab's components, and what happens when a visitor uses them.

    Args:
        transfer: shared by all visitors; its generator draws.
        photo: the visitor's photo in the other tab, a PhotoSession or None.
    """

    def __init__(self, transfer: AgeTransfer, photo: gr.State) -> None:
        self._photo = photo
        self.pictures = LatentPictures(transfer)
        gr.Markdown(WORDS.format(self.pictures.resolution))
        with gr.Tabs():
            for name, add in (
                ("Seeds", self._add_seeds),
                ("Walk", self._add_walk),
                ("Mix", self._add_mix),
                ("Directions", self._add_directions),
            ):
                with gr.Tab(name), gr.Row():
                    add()

    def _add_seeds(self) -> None:
        with _controls():
            seed = _seed("seeds")
            count = gr.Slider(1, MAX_FACES, 1, step=1, label="How many seeds, from this one on", elem_id="seeds-count")
            age = self._age("seeds-age")
            every = gr.Checkbox(False, label="Every age group", elem_id="seeds-every")
            truncation = _truncation("seeds")
        inputs = [seed, count, age, every, truncation]
        every.input(lambda on: gr.Slider(interactive=not on), every, age, queue=False, **HIDDEN)
        self._show("seeds", self.faces, inputs)

    def _add_walk(self) -> None:
        with _controls():
            kind = gr.Radio([AGES_OF_ONE, FACES], value=AGES_OF_ONE, label="Walk", elem_id="walk-kind")
            with gr.Column(visible=True) as of_one:
                seed = _seed("walk")
                young, old = self.pictures.ages
                start = self._age("walk-from", "From age", young)
                end = self._age("walk-to", "To age", old)
            with gr.Column(visible=False) as of_faces:
                seeds = gr.Textbox(
                    "16, 20, 29", label="Seeds", info="Two to six, with commas.", elem_id="walk-seeds", max_lines=1
                )
                age = self._age("walk-age")
            seconds = gr.Slider(*SECONDS, 4, step=1, label="Seconds", elem_id="walk-seconds")
            loop = gr.Checkbox(True, label="And back to where it began", elem_id="walk-loop")
            truncation = _truncation("walk")
            make = gr.Button("Make the walk", variant="primary", elem_id="walk-make")
        with _results():
            message = message_line(elem_id="walk-message")
            film = film_box(elem_id="walk-film")
        kind.input(
            lambda chosen: [gr.Column(visible=chosen == AGES_OF_ONE), gr.Column(visible=chosen == FACES)],
            kind,
            [of_one, of_faces],
            queue=False,
            **HIDDEN,
        )
        make.click(
            self.walk,
            [kind, seed, start, end, seeds, age, seconds, loop, truncation],
            [film, message],
            concurrency_id="save",
            concurrency_limit=1,
            show_progress_on=message,
            **HIDDEN,
        )

    def _add_mix(self) -> None:
        with _controls():
            shape = _seed("mix-shape", "Seed of the shape", "shape", 3)
            shape_age = self._age("mix-shape-age", "Age of the shape", 20)
            skin = _seed("mix-skin", "Seed of the skin", "skin", 9)
            skin_age = self._age("mix-skin-age", "Age of the skin", 75)
            layers = gr.CheckboxGroup(
                list(PARTS.items()),
                value=["coarse"],
                label="Layers that come from the shape's face",
                elem_id="mix-layers",
            )
            truncation = _truncation("mix")
        self._show("mix", self.mix, [shape, shape_age, skin, skin_age, layers, truncation])

    def _add_directions(self) -> None:
        with _controls():
            face = gr.Radio([OF_SEED, OF_PHOTO], value=OF_SEED, label="Face", elem_id="directions-face")
            with gr.Column() as of_seed:
                seed = _seed("directions")
                age = self._age("directions-age")
                truncation = _truncation("directions")
            layers = gr.Radio(
                [*PARTS.items(), ("all", ALL_LAYERS)],
                value="coarse",
                label="Layers that move",
                info="Each choice has directions of its own, the strongest first. Only pictures tell what one means.",
                elem_id="directions-layers",
            )
            moves: list[Any] = []
            for row, (name, number, degree) in enumerate(MOVES, start=1):
                with gr.Row():
                    moves.append(
                        gr.Number(
                            number,
                            label=f"Direction {name}",
                            precision=0,
                            min_width=120,
                            scale=1,
                            elem_id=f"directions-number-{row}",
                        )
                    )
                    moves.append(
                        gr.Slider(
                            -MAX_DEGREE,
                            MAX_DEGREE,
                            degree,
                            step=0.1,
                            label=f"Degree {name}",
                            min_width=160,
                            scale=3,
                            elem_id=f"directions-degree-{row}",
                        )
                    )
            reset = gr.Button("Back to the face as it is", elem_id="directions-reset")
        face.input(lambda chosen: gr.Column(visible=chosen == OF_SEED), face, of_seed, queue=False, **HIDDEN)
        reset.click(None, None, moves[1::2], js=f"() => {[0] * len(MOVES)}", **HIDDEN)
        self._show("directions", self.move, [face, self._photo, seed, age, truncation, layers, *moves])

    def _age(self, elem_id: str, label: str = "Age", value: int = AGE) -> gr.Slider:
        return gr.Slider(*self.pictures.ages, value, step=1, label=label, elem_id=elem_id)

    def _show(self, name: str, draw: Callable[..., list[Any]], inputs: list[Any]) -> None:
        """Add a wall, filled already, and draw it anew at every move."""
        first, _ = draw(*[component.value for component in inputs])
        with _results():
            message = message_line(elem_id=f"{name}-message")
            wall = picture_wall(f"{name}-wall", first)
        gr.on([component.change for component in inputs], draw, inputs, [wall, message], **QUICK)

    def faces(self, seed: float | None, count: int, age: float, every: bool, truncation: float) -> list[Any]:
        """Seeds were asked for."""
        columns = 5 if every else min(count, 4)
        return _said(lambda: hung(self.pictures.faces(seed, count, age, every, truncation), columns, LARGE))

    def walk(
        self,
        kind: str,
        seed: float | None,
        start: float,
        end: float,
        seeds: str,
        age: float,
        seconds: float,
        loop: bool,
        truncation: float,
    ) -> list[Any]:
        """A walk was asked for."""
        try:
            film = (
                self.pictures.walk_ages(seed, start, end, seconds, loop, truncation)
                if kind == AGES_OF_ONE
                else self.pictures.walk_faces(seeds, age, seconds, loop, truncation)
            )
        except (FacegenError, OSError) as error:
            return [gr.skip(), spoken(error)]
        return [screened(film), f"{film.caption}, {film.seconds:.0f} seconds."]

    def mix(
        self,
        shape: float | None,
        shape_age: float,
        skin: float | None,
        skin_age: float,
        layers: list[str],
        truncation: float,
    ) -> list[Any]:
        """Two faces were asked to be mixed."""
        return _said(
            lambda: hung(self.pictures.mixed((shape, shape_age), (skin, skin_age), layers, truncation), 3, LARGE)
        )

    def move(
        self,
        face: str,
        photo: PhotoSession | None,
        seed: float | None,
        age: float,
        truncation: float,
        layers: str,
        *moves: Any,
    ) -> list[Any]:
        """A face was moved: `moves` are the number of a direction and its degree, by turns."""

        def draw() -> dict[str, Any]:
            of_seed, pairs = face == OF_SEED, list(zip(moves[::2], moves[1::2], strict=True))
            start = self.pictures.of_seed(seed, age, truncation) if of_seed else self.pictures.of_photo(photo)
            return hung(self.pictures.moved(start, layers, pairs), 2, LARGE)

        return _said(draw)


def _said(draw: Callable[[], Any]) -> list[Any]:
    """What is drawn and no message; or what is there already, and what went wrong."""
    try:
        return [draw(), ""]
    except FacegenError as error:
        return [gr.skip(), spoken(error)]


def _controls() -> gr.Column:
    return gr.Column(scale=2, min_width=320)


def _results() -> gr.Column:
    return gr.Column(scale=3, min_width=320, elem_classes="drawn")


def _seed(name: str, label: str = "Seed", what: str = "seed", value: int = SEED) -> gr.Number:
    """A seed, and a button that draws another one."""
    with gr.Row(elem_classes="seed"):
        seed = gr.Number(value, label=label, precision=0, min_width=120, scale=2, elem_id=f"{name}-seed")
        dice = gr.Button(f"Another {what}", size="md", min_width=110, scale=1, elem_id=f"{name}-dice")
    dice.click(None, None, seed, js=DICE, **HIDDEN)
    return seed


def _truncation(name: str) -> gr.Slider:
    return gr.Slider(
        0,
        1.2,
        TRUNCATION,
        step=0.05,
        label="Truncation",
        info="Lower: cleaner faces that are more alike. 0 is the mean face of the age.",
        elem_id=f"{name}-truncation",
    )
