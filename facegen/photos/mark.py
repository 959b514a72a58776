"""Marks: how a picture or video says that it was made by a program, so that nobody takes it for a photo.

The machine-readable part is IPTC's DigitalSourceType in XMP, which newsrooms, search engines and networks read; the
part for people is one line in a comment. See docs/photos.md for why.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import facegen
from facegen.photos.notes import COMMENT, Notes
from facegen.photos.xmp import edit_packet
from facegen.text import shown

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP_BOX = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # XMP specification, part 3, 1.1.3: MPEG-4
MAX_LINE = 300  # letters


@dataclass(frozen=True)
class Mark:
    """What was done.

    ages: the captions of what is shown, such as "age 45" or a group of ages.
    faces: how many faces were changed.
    generated: whether the faces are completely generated, as with `--output face`; otherwise a photo was changed.
    made: for a picture without a photo, what it was made from, such as "seed 7, 21-30".
    """

    ages: tuple[str, ...] = ()
    faces: int = 1
    generated: bool = False
    made: str = ""

    @property
    def line(self) -> str:
        """For people, in ASCII: `facegen 0.1.0: face shown at age 45`."""
        count, faces = ("", "face") if self.faces == 1 else (f"{self.faces} ", "faces")
        faces = f"{count}generated {faces}" if self.generated else f"{count}{faces}"
        done = f"generated picture, {self.made}" if self.made else f"{faces} shown at {', '.join(self.ages)}"
        text = f"facegen {facegen.__version__}: {done}"
        return shown(text.encode("ascii", "backslashreplace").decode(), MAX_LINE).replace("\u2026", "...")

    @property
    def properties(self) -> dict[str, str]:
        """For programs: properties of IPTC's extension schema (IPTC Photo Metadata Standard 2025.1)."""
        source = "trainedAlgorithmicMedia" if self.generated else "compositeWithTrainedAlgorithmicMedia"
        return {
            "DigitalSourceType": SOURCE_TYPES + source,
            "AISystemUsed": "facegen",
            "AISystemVersionUsed": facegen.__version__,
            "AIPromptInformation": self.line.partition(": ")[2],
        }


def marked(notes: Notes, mark: Mark | None) -> Notes:
    """Return a file's metadata with a mark added; all else stays. None adds nothing."""
    if mark is None:
        return notes
    return replace(notes, xmp=edit_packet(notes.xmp, mark.properties), texts=(*notes.texts, (COMMENT, mark.line)))


def mark_mp4(path: str | os.PathLike[str], mark: Mark) -> None:
    """Append a mark to a whole mp4 file, as XMP has it there: a box of its own, which players skip."""
    packet = edit_packet(b"", mark.properties)
    with Path(path).open("ab") as file:
        file.write((24 + len(packet)).to_bytes(4, "big") + b"uuid" + _XMP_BOX + packet)
