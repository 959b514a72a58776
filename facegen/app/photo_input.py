"""Where a photo is dropped, pasted, chosen, or taken by a camera."""

from __future__ import annotations

import gradio as gr
from gradio.data_classes import ImageData


def photo_input(elem_id: str) -> gr.Image:
    """Return a component whose value is the path of the file as it was uploaded, or None.

    By itself, `gr.Image` decodes a picture before anybody has looked how large it is, and drops what its file says of
    the photo. (A class of ours would say the same, but gradio writes a file beside every class of components.)
    """
    photo = gr.Image(
        label="Photo", type="filepath", sources=["upload", "clipboard", "webcam"], height=280, elem_id=elem_id
    )
    photo.preprocess = _uploaded_file  # type: ignore[method-assign]
    return photo


def _uploaded_file(payload: ImageData | None) -> str | None:
    return None if payload is None else payload.path
