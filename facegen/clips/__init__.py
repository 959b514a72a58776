"""Clips: the faces of a video, or of an animated GIF, WebP or PNG, at another age. Start with `age.py`."""

from facegen.clips.age import age_clip
from facegen.clips.read import is_clip, result_suffix

__all__ = ["age_clip", "is_clip", "result_suffix"]
