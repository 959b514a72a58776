"""Puts a mutant into the file that it would come in, and repairs checksums: else readers turn it away at the door."""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import zipfile
import zlib
from typing import Any

from safetensors.torch import load

from facegen.weights.header import HEADER_KEY, checksum
from facegen.weights.native import tensors_checksum

STORED = {"torch FloatStorage": 4, "torch DoubleStorage": 8, "torch LongStorage": 8, "torch HalfStorage": 2}
PNG = b"\x89PNG\r\n\x1a\n"
_PART = re.compile(rb"^=== (\w[\w.-]{0,60})\n", re.MULTILINE)


def split_parts(data: bytes) -> dict[str, bytes]:
    """Return the files that a text of `=== NAME` and content, again and again, stands for."""
    pieces = _PART.split(data)
    return {name.decode(): content for name, content in zip(pieces[1::2], pieces[2::2], strict=True)}


def join_parts(parts: dict[str, bytes]) -> bytes:
    """The inverse of `split_parts`, but that each content ends with a line."""
    return b"".join(
        b"=== " + name.encode() + b"\n" + content.removesuffix(b"\n") + b"\n" for name, content in parts.items()
    )


def zipped(files: dict[str, bytes]) -> bytes:
    """Return an uncompressed zip of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def torch_zip(data_pickle: bytes) -> bytes:
    """Return a file of `torch.save` with this pickle, and the storages that it asks for, if they are small."""
    storages: dict[str, bytes] = {}
    kind, key, number = "", "", 0
    try:
        for instruction, argument, _ in pickletools.genops(data_pickle):
            if instruction.name == "GLOBAL" and argument.endswith("Storage"):
                kind = argument
            elif instruction.name == "BINPERSID":
                storages[f"archive/data/{key}"] = bytes(max(0, min(number, 1000)) * STORED.get(kind, 1))
            elif isinstance(argument, str) and argument.isdecimal():
                key = argument
            elif instruction.name.startswith(("BININT", "LONG")):
                number = argument
    except (ValueError, LookupError, OverflowError):
        pass
    files = {"archive/data.pkl": data_pickle, "archive/byteorder": b"little", **storages, "archive/version": b"3"}
    return zipped(files)


def with_png_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have the right lengths, as far as there is something left, and the right CRCs."""
    if not data.startswith(PNG):
        return data
    chunks, at = [PNG], len(PNG)
    while at + 8 <= len(data):
        length = min(int.from_bytes(data[at : at + 4], "big"), max(0, len(data) - at - 12))
        body = data[at + 4 : at + 8 + length]
        chunks += [length.to_bytes(4, "big"), body, zlib.crc32(body).to_bytes(4, "big")]
        at += 12 + length
    return b"".join(chunks)


def read_safetensors(data: bytes) -> tuple[Any, bytes]:
    """Return the header of a safetensors file, facegen's text in it parsed, too, and its tensors' bytes; ValueError."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and isinstance(metadata.get(HEADER_KEY), str):
        metadata[HEADER_KEY] = json.loads(metadata[HEADER_KEY])
    return header, data[8 + length :]


def write_safetensors(header: Any, tensors: bytes) -> bytes:
    """The inverse of `read_safetensors`."""
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and HEADER_KEY in metadata:
        header = header | {"__metadata__": metadata | {HEADER_KEY: json.dumps(metadata[HEADER_KEY])}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors


def with_safetensors_checksums(data: bytes) -> bytes:
    """Return a weight file of facegen whose checksums, where it has some, are right; any other as it is."""
    try:
        header, raw = read_safetensors(data)
        content = header["__metadata__"][HEADER_KEY]
        stored = load(data)
        for name, network in content["networks"].items():
            if "sha256" in network:
                own = {key[len(name) + 1 :]: x for key, x in stored.items() if key.startswith(f"{name}.")}
                network["sha256"] = tensors_checksum(own)
        content["sha256"] = checksum(content)
        return write_safetensors(header, raw)
    except Exception:  # damaged beyond repair
        return data


def with_compressed_elements(data: bytes) -> bytes:
    """Return a `.mat` file of version 5 whose elements are compressed."""
    packed, at = [data[:128]], 128
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, at)
        element = data[at : at + 8 + length]
        squeezed = element if kind == 15 else zlib.compress(element)
        packed.append(element if kind == 15 else struct.pack("<II", 15, len(squeezed)) + squeezed)
        at += 8 + length
    return b"".join(packed)
