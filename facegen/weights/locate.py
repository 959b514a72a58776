"""From what a user writes for a network (a path, a run folder, a name, an address) to a local file."""

from __future__ import annotations

import difflib
import errno
import os
import re
from pathlib import Path

from facegen.errors import FacegenError
from facegen.files import at_home
from facegen.weights.cache import download
from facegen.weights.hub import USUAL, hub_download

# Networks for transfer learning, by the names that the StyleGAN family gives to --resume; the number is the resolution.
# All are unconditional and under the NVIDIA Source Code License (non-commercial use only).
_PUBLISHER = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/"
PUBLISHED = {
    "ffhq256": f"{_PUBLISHER}ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": f"{_PUBLISHER}ffhq-res512-mirror-stylegan2-noaug.pkl",
    "ffhq1024": f"{_PUBLISHER}ffhq-res1024-mirror-stylegan2-noaug.pkl",
    "celebahq256": f"{_PUBLISHER}celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": f"{_PUBLISHER}lsundog-res256-paper256-kimg100000-noaug.pkl",
}

PRETRAINED = Path(__file__).parents[1] / "pretrained"  # the weights that come with the package
# The option by which others take their place, if there is one.
SHIPPED = {
    "generator": "--network",
    "encoder": "--encoder",
    "age": "--age-estimator",
    "age_judge": "--age-judge",
    "sex": None,
    "sex_judge": None,
    "features": None,
    "editor": "--editor",
}
NOT_ALWAYS_SHIPPED = {"editor"}  # a version of the package may come without

RUN_OPTIONS = "training_options.json"  # what a run folder keeps its options in
SNAPSHOTS = "network-snapshot-*.safetensors"  # for `name_at`
FAMILY_SNAPSHOTS = "network-snapshot-*.pkl"  # what other programs of the StyleGAN family call theirs
BEST_ENCODER = "encoder-best.safetensors"
BEST_AGE_ESTIMATOR = "age-best.safetensors"
BEST_EDITOR = "editor.safetensors"
FILE_SUFFIXES = {".safetensors", ".pkl", ".pt", ".pth", ".zip", ".onnx"}

_SNAPSHOT = re.compile(r"(?:^|[/\\])network-snapshot-(\d{1,12})(?:_(\d{3}))?\.(?:pkl|safetensors)(?:[?#].*)?$")
_ADDRESS = re.compile("(https?|hf)://", re.IGNORECASE)
_SHA256 = "#sha256="  # as pip writes it
_HUB = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def locate(reference: str | os.PathLike[str]) -> Path:
    """Return the local weight file that a reference means, downloading it when needed.

    Args:
        reference: One of these, and the first that fits:

            - `hf://organization/name`, followed by `/file.safetensors` and `@revision` where wanted;
            - an http or https address, followed by `#sha256=` and the hash where the file is to be checked;
            - a file, or a folder (see `weights_of_folder`);
            - a published network, such as `ffhq256`;
            - `organization/name` on the Hugging Face hub, where there is no local folder `organization`.

            A `Path` is only ever a file or a folder.

    Raises:
        FileNotFoundError: none of these, or a folder without weights.
        FacegenError: it cannot be downloaded.
    """
    text = os.fspath(reference)
    if isinstance(reference, str) and "://" in text and text.isprintable():
        return _from_address(text)
    path = at_home(text)
    if text and _is_here(path):
        return weights_of_folder(path) if path.is_dir() else path
    if isinstance(reference, str):
        if text in PUBLISHED:
            return download(PUBLISHED[text])
        if hub := _hub_name(path, text):
            try:
                return hub_download(hub["repository"], None, hub["revision"])
            except FacegenError as error:
                raise FacegenError(f"{text}: no such file or folder; as {error}") from error
    close = difflib.get_close_matches(text.lower(), PUBLISHED, n=1, cutoff=0.7)
    hint = f"; did you mean {close[0]}?" if close else ""
    shown = text if text and text.isprintable() else repr(text)
    raise FileNotFoundError(
        f"{shown}: neither a file, a run folder, a published network ({', '.join(PUBLISHED)}) nor a URL "
        f"(https://... or hf://organization/name){hint}"
    )


def is_remote(reference: str | os.PathLike[str]) -> bool:
    """Whether `locate` would look for it in the cache and download it, as it means nothing on this machine."""
    if not isinstance(reference, str):
        return False
    path = Path(reference).expanduser() if reference.startswith("~") else Path(reference)
    if _is_here(path):
        return False
    return reference in PUBLISHED or _hub_name(path, reference) is not None or bool(_ADDRESS.match(reference))


def shipped_file(name: str) -> Path:
    """Return the weights of this name in `SHIPPED` that come with the package.

    Raises:
        FileNotFoundError: the installation lacks them.
    """
    path, option = PRETRAINED / f"{name}.safetensors", SHIPPED[name]
    if path.is_file():
        return path
    if name in NOT_ALWAYS_SHIPPED:
        raise FileNotFoundError(f"this version of facegen comes without {path.name}; pass {option} FILE")
    other = f", or pass {option} FILE" if option else ""
    raise FileNotFoundError(f"{path}: these weights should be part of facegen; install it again{other}")


def shipped_editor() -> Path | None:
    """Return the editor that comes with the package; None if there is none."""
    path = PRETRAINED / "editor.safetensors"
    return path if path.is_file() else None


def weights_of_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the weights in a folder: its newest snapshot, best encoder, age estimator, editor, `model.safetensors`.

    The first of these that is there; else the newest snapshot of another program of the StyleGAN family.

    Raises:
        FileNotFoundError: it has none of them.
    """
    folder = Path(folder)
    if snapshots := list_snapshots(folder):
        return snapshots[-1]
    for name in (BEST_ENCODER, BEST_AGE_ESTIMATOR, BEST_EDITOR, USUAL):
        if (folder / name).is_file():
            return folder / name
    if pickles := family_snapshots(folder):
        return pickles[-1][1]
    raise FileNotFoundError(
        f"{folder}: a folder without {SNAPSHOTS} (or .pkl), {BEST_ENCODER}, {BEST_AGE_ESTIMATOR}, {BEST_EDITOR} or "
        f"{USUAL}; if its run has saved a file, name that file"
    )


def name_at(pattern: str, images_seen: int) -> str:
    """Return what a file of a moment of a run is called, so that no two moments share a name.

    The name counts kimg where they are whole: `fakes000400.png` after 400,000 images, of the pattern `fakes*.png`.
    Else it counts images, which the `_` before the last three digits shows: `fakes000400_064.png` after 400,064.
    """
    kimg, rest = divmod(images_seen, 1000)
    return pattern.replace("*", f"{kimg:06d}_{rest:03d}" if rest else f"{kimg:06d}")


def files_by_images(folder: str | os.PathLike[str], pattern: str) -> list[tuple[int, Path]]:
    """Return the files that `name_at` named in a run folder, each with its number of images, in that order.

    Earlier versions rounded down to kimg, so theirs may have been written up to 999 images later.
    """
    named = re.compile(re.escape(pattern).replace(r"\*", r"(\d+)(?:_(\d{3}))?"))
    matches = (named.fullmatch(path.name) for path in Path(folder).iterdir())
    return sorted((int(found[1] + (found[2] or "000")), Path(folder) / found[0]) for found in matches if found)


def kimg_of_name(name: str) -> float | None:
    """Return how many kimg a snapshot had seen by its name, of any program of the family; None for other names."""
    found = _SNAPSHOT.search(name)
    return int(found[1] + (found[2] or "000")) / 1000 if found else None


def snapshot_name(images_seen: int) -> str:
    """`network-snapshot-000400.safetensors` after 400,000 images; see `name_at`."""
    return name_at(SNAPSHOTS, images_seen)


def list_snapshots(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the snapshots in a run folder, oldest first."""
    return [path for _, path in files_by_images(folder, SNAPSHOTS)]


def family_snapshots(folder: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """Return the pickles that a program of the StyleGAN family left in its run folder, oldest first.

    Each comes with the number of images that the training had seen, in whole thousands as its name says.
    """
    return files_by_images(folder, FAMILY_SNAPSHOTS)


def _hub_name(path: Path, text: str) -> re.Match[str] | None:
    """The `organization/name` of the hub that a text is, unless it looks like a file or there is such a folder."""
    hub = _HUB.fullmatch(text)
    taken = hub is None or hub["file"] or path.suffix.lower() in FILE_SUFFIXES or _is_here(path.parent)
    return None if taken else hub


def _is_here(path: Path) -> bool:
    try:
        return path.exists()
    except ValueError:  # a null byte
        return False
    except OSError as error:  # such as a folder that may not be read: that is to be told
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _from_address(text: str) -> Path:
    scheme, _, rest = text.partition("://")
    if scheme.lower() in {"http", "https"}:
        address, _, sha256 = text.partition(_SHA256)
        if _SHA256 in text and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise FacegenError(
                f"{address}: {sha256!r} behind {_SHA256} is no SHA-256, which has 64 digits of 0-9 and a-f"
            )
        return download(address, sha256=sha256.lower() or None)
    hub = _HUB.fullmatch(rest)
    if scheme.lower() != "hf":
        raise FacegenError(f"{text}: a URL must begin with https://, http:// or hf://")
    if hub is None:
        raise FacegenError(f"{text}: not of the form hf://organization/name/file.safetensors@revision")
    return hub_download(hub["repository"], hub["file"], hub["revision"])
