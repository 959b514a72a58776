"""Weights from the Hugging Face hub: a repository's safetensors and its config.json, and nothing else of it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from facegen import beside
from facegen.errors import FacegenError
from facegen.weights.cache import cache_folder, offline

SUFFIX = ".safetensors"
USUAL = "model.safetensors"  # what `save_pretrained` writes
CONFIG = "config.json"
MAX_LISTED = 10  # files in a message
MAX_CONFIG = 1 << 20  # bytes; facegen's own have 10,000
# What the hub calls versions; they become parts of paths in its cache, as the names of files do.
_VERSION = re.compile(r"\w[\w.+=:-]{0,199}", re.ASCII)


def hub_download(repository: str, file: str | None = None, revision: str | None = None) -> Path:
    """Return a local copy of a repository's weights, with its `config.json` beside it if it has one.

    The copy is in the hub's own cache, or in `hub` of FACEGEN_CACHE where that is set. A token is used where
    huggingface_hub finds one.

    Args:
        repository: "organization/name".
        file: A `.safetensors` file of it; None for `model.safetensors` or the only one there is.
        revision: A branch, a tag or a commit; None for the main branch.

    Raises:
        FacegenError: it cannot be had; one line that says why and what to do.
    """
    from huggingface_hub import errors

    if file is not None and (Path(file).suffix != SUFFIX or ".." in file.split("/")):
        raise FacegenError(
            f"hf://{repository}/{file}: only {SUFFIX} files are downloaded from the hub; for another file give "
            "its URL, "
            f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{file}"
        )
    name = f"hf://{repository}" + (f"/{file}" if file else "") + (f"@{revision}" if revision else "")
    try:
        path = _weights(repository, file, revision)
        with suppress(errors.EntryNotFoundError, _TooLargeError):  # the weights tell enough
            _get(repository, CONFIG, revision, MAX_CONFIG)
        return path
    except FacegenError:
        raise
    except Exception as error:  # huggingface_hub takes each answer for what it should be, so a lying hub causes any
        raise FacegenError(f"{name}: {_reason(error, repository)}") from error


def _weights(repository: str, file: str | None, revision: str | None) -> Path:
    from huggingface_hub import HfApi, errors

    if file is not None:
        return _get(repository, file, revision)
    try:
        return _get(repository, USUAL, revision)
    except errors.LocalEntryNotFoundError:
        raise
    except errors.EntryNotFoundError:
        names = HfApi().list_repo_files(repository, revision=revision)
    files = sorted(name for name in names if name.endswith(SUFFIX) and _is_plain(name))
    if not files:
        raise FacegenError(
            f"hf://{repository}: the repository has no {SUFFIX} file, so facegen can use nothing from it"
        )
    if len(files) > 1:
        listed = ", ".join(files[:MAX_LISTED]) + (", ..." if len(files) > MAX_LISTED else "")
        raise FacegenError(
            f"hf://{repository}: the repository has {len(files)} {SUFFIX} files ({listed}); name one, as in "
            f"hf://{repository}/{files[0]}"
        )
    return _get(repository, files[0], revision)


def _is_plain(name: str) -> bool:
    """Whether a repository's file has a name that is one on every system, and can be shown."""
    parts = name.split("/")
    return name.isprintable() and "\\" not in name and all(part.strip(".") and len(part) < 200 for part in parts)


def _get(repository: str, file: str, revision: str | None, limit: int | None = None) -> Path:
    from huggingface_hub import hf_hub_download

    if not offline():
        _check(repository, file, revision, limit or beside.download.MAX_BYTES)
    cache = cache_folder() / "hub" if os.environ.get("FACEGEN_CACHE") else None
    return Path(hf_hub_download(repository, file, revision=revision, cache_dir=cache, local_files_only=offline()))


def _check(repository: str, file: str, revision: str | None, limit: int) -> None:
    """Ask the hub about a file, and raise unless huggingface_hub may download it, because it believes everything.

    Raises:
        _TooLargeError: it has more bytes than `limit`, or the hub does not say how many.
        FacegenError: it would not land in the cache.
        EntryNotFoundError: there is no such file.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        about = get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
    except errors.EntryNotFoundError:
        raise
    except Exception:
        return  # no connection: there may be a copy, or huggingface_hub says why not
    if about.size is None or about.size > limit:
        size = about.size or "an unknown number of"
        raise _TooLargeError(f"hf://{repository}/{file}: {size} bytes; at most {limit:,} are allowed: refused")
    for version in (about.etag, about.commit_hash):
        if version is not None and not _VERSION.fullmatch(version):
            raise FacegenError(f"hf://{repository}/{file}: the hub names a version {version[:80]!r}: refused")


class _TooLargeError(FacegenError):
    pass


def _reason(error: Exception, repository: str) -> str:
    """What an error of huggingface_hub means, and what to do about it."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repository}"
    if isinstance(error, errors.GatedRepoError):
        return f"the repository is gated; accept its terms at {page} and log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository on the hub, or a private one: check the spelling, or log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no such revision; {page} lists them"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if offline():
            return "not in the cache, and FACEGEN_OFFLINE or HF_HUB_OFFLINE forbids connecting; unset it"
        return f"not in the cache, and the hub cannot be reached; check the network, or download the file at {page}"
    if isinstance(error, errors.EntryNotFoundError):
        return f"the repository has no such file; {page}/tree/main lists them"
    if isinstance(error, errors.HFValidationError):
        return "not a valid repository name; it must be organization/name"
    words = re.sub(r"\s+", " ", str(error)).strip()[:200]
    return f"cannot be downloaded ({type(error).__name__}: {words})"
