"""Which photos and clips a command processes, and where the results go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facegen.batch.record import is_output
from facegen.container import is_image_name
from facegen.errors import FacegenError
from facegen.files import at_home


@dataclass(frozen=True)
class Source:
    """A photo's file, the folder that its pictures go to, and what their names begin with."""

    path: Path
    folder: Path
    stem: str

    @property
    def record(self) -> Path:
        """The JSON file that says what became of the photo."""
        return self.folder / f"{self.stem}.json"


def sources_in(
    paths: Sequence[str | os.PathLike[str]], outdir: str | os.PathLike[str], *, recursive: bool = False
) -> list[Source]:
    """Return the photos; each folder is replaced by the pictures in it, sorted.

    Several photos get a folder each in `outdir`, named after the photo; subfolders are kept.

    Args:
        recursive: also use the pictures in subfolders, but not those in `outdir` and where an earlier run
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
                raise FacegenError(
                    f"--outdir {outdir}: results next to the photos would be taken for photos; use another folder"
                )
            inside = [(file, file.parent.relative_to(path)) for file in _pictures_in(path, outdir, recursive)]
        if not inside:
            more = "" if recursive else "; --recursive also looks into subfolders"
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
