"""Decode pictures of any origin: a broken one gives a one-line error, an unusual one becomes plain RGB or gray."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from facegen.errors import FacegenError
from facegen.files import at_home, atomic_path
from facegen.reading import read_bytes

if TYPE_CHECKING:
    import torch

# Refused by the header, before anything is decoded: more pixels than any photo of a face has,
MAX_PIXELS = 178_956_970  # as Pillow, which refuses them too
# and what would take more memory than this, or than ten times the file. A JPEG or PNG in color has 104 megapixels then.
MAX_MEMORY = 600 * 1024**2
# Bytes for each pixel, measured so that with these weights `facegen transfer` stays below 2 GB, 0.8 without a photo:
# decoded, turned, and where it is another mode converted; some decoders need more meanwhile.
_PLAIN, _CONVERTED, _PROGRESSIVE = 6, 8.5, 12
_DECODERS = {"WEBP": 16, "AVIF": 16, "HEIF": 16, "JPEG2000": 20}
MAX_SCANS = 30  # of a progressive JPEG, each of which goes through the whole picture: real ones have about ten
MAX_READS = 200_000  # a file of ever so many little parts takes minutes; a PNG of 100 megapixels has 40,000 parts
MAX_EXIFS = 1000  # Pillow joins them, each time from the beginning
LARGE = 64 * 1024**2  # bytes: pictures that take more, beyond ten times their file, are decoded one after another
STRIP = 4_000_000  # pixels that are converted at a time

# What photos come in. Of Pillow's other formats some start another program (EPS), and none holds faces.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

PHOTO_MODES = ("L", "LA", "RGB", "RGBA")  # of photos that stay as they are

FAINT = 2  # levels between a pixel's channels, on average; color photos have ten and more

# Modes whose numbers a color profile can describe, and what kind of profile does.
_PROFILED_MODES = {"L": "GRAY", "LA": "GRAY", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "CMYK": "CMYK"}
# How a picture is turned upright, by the orientation in its EXIF (CIPA DC-008, 4.6.5.1), and where that may stand.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAY_THE_TURN = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})

# Pillow warns of pictures of half that size. They are meant to be read, and the thread-safe way to say so is for good.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


# Large pictures lie in blocks of which each is so large that the C library gives it back when it is freed; of Pillow's
# own size, 16 MB, a quarter of the memory of a photo of 100 megapixels would stay.
Image.core.set_block_size(64 * 1024**2)

_ALONE = threading.RLock()


class TooManyPixelsError(FacegenError):
    """A picture has more than MAX_PIXELS pixels, or decoding it would take more than MAX_MEMORY, by its header."""


class _Metered(io.BytesIO):
    """A file in memory that says no when it is read in more pieces than `limit`."""

    def __init__(self, data: bytes, name: str, limit: int) -> None:
        super().__init__(data)
        self.name, self.limit, self.reads = name, limit, 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        if self.reads > self.limit:
            raise FacegenError(f"{self.name}: has more than {self.limit:,d} parts: refused")
        return super().read(size)


@contextmanager
def opened(data: bytes, name: str, *, at_least: float = 0, max_parts: int | None = None) -> Iterator[Image.Image]:
    """Open a picture: its header is read, nothing is decoded. See `upright` for its pixels.

    Whatever goes wrong with it while it is open becomes a FacegenError naming the file; so does a header that promises
    more than memory is meant for. A caller that makes more of its pixels says how many bytes it needs for each,
    `at_least`. It is read in at most `max_parts` pieces, None for MAX_READS.
    """
    try:
        if data.count(b"Exif\0\0") > MAX_EXIFS:
            raise FacegenError(f"{name}: has more than {MAX_EXIFS:,d} notes of a camera: refused")
        file = _Metered(data, name, MAX_READS if max_parts is None else max_parts)
        with Image.open(file, formats=[*FORMATS, *_newer_formats(data, name)]) as image:
            needed = _memory(image, at_least)
            if needed > max(MAX_MEMORY, 10 * len(data)):
                raise TooManyPixelsError(f"{name}: {_too_large(image, needed)}; make it smaller")
            if image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
                raise FacegenError(f"{name}: a JPEG of more than {MAX_SCANS} scans: refused")
            yield image
    except Exception as error:  # Pillow's plugins raise anything, SyntaxError included, on broken files
        raise _unreadable(data, name, error) from error


def _memory(image: Image.Image, at_least: float = 0) -> int:
    """Return the bytes that it takes to decode an opened picture and make it plain RGB, `at_least` for each pixel."""
    per_pixel = _DECODERS.get(image.format or "", _PROGRESSIVE if image.info.get("progressive") else _PLAIN)
    is_plain = image.mode in {"L", "RGB"} and "transparency" not in image.info
    return int(image.width * image.height * max(at_least, per_pixel, 0 if is_plain else _CONVERTED))


def _too_large(image: Image.Image, needed: int) -> str:
    size = f"{image.width}x{image.height} pixels in {image.mode}"
    return f"{size} would take {needed // 1024**2:,d} MB to decode, more than {MAX_MEMORY // 1024**2:,d} MB"


def is_large(image: Image.Image, data: bytes) -> bool:
    """Tell whether an opened picture takes much more memory than ten times its file, as hardly a photo does."""
    return _memory(image) - 10 * len(data) > LARGE


def in_turn(image: Image.Image, data: bytes) -> AbstractContextManager[Any]:
    """Return a context in which an opened picture is decoded and used: of those that are large, one at a time."""
    return _ALONE if is_large(image, data) else nullcontext()


def _newer_formats(data: bytes, name: str) -> list[str]:
    """Return the format of a HEIC or AVIF picture, which not every Pillow reads, ready to be opened; else nothing.

    Raises FacegenError when what reads it is not installed.
    """
    kind = _brand(data)
    if kind == "AVIF":
        if importlib.util.find_spec("PIL._avif") is None:
            raise FacegenError(f"{name}: AVIF needs Pillow 11.3 or newer: upgrade it, or convert the picture to JPEG")
        return ["AVIF"]
    if kind == "HEIC":
        for reader in ("pillow_heif", "pi_heif"):  # the first writes HEIC, too
            if importlib.util.find_spec(reader):
                importlib.import_module(reader).register_heif_opener()
                return ["HEIF"]
        raise FacegenError(f'{name}: HEIC needs pip install "facegen[heic]"; or convert the picture to JPEG')
    return []


def _brand(data: bytes) -> str | None:
    """Return HEIC or AVIF where a file's first box says so (ISO 14496-12, section 4.3)."""
    brands = data[8 : int.from_bytes(data[:4], "big")][:256] if data[4:8] == b"ftyp" else b""
    if b"avif" in brands:
        return "AVIF"
    return "HEIC" if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1")) else None


def open_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Open a photo as upright 8-bit RGB.

    EXIF rotation is applied, grayscale becomes RGB, transparency is laid over white, 16 bits become 8.

    Raises:
        FileNotFoundError: there is no such file.
        FacegenError: it is a folder, empty, damaged, or not a picture; one line that names the file.
    """
    return to_rgb(decode(read_photo(path), str(path)))


def read_photo(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a photo's file; see `open_photo` for what it raises."""
    path = at_home(path)
    try:
        return read_bytes(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except PermissionError as error:
        raise FacegenError(f"{path}: no permission to read it") from error


def read_header(data: bytes, name: str) -> tuple[int, int, bool]:
    """Width, height and whether it is gray, of a picture not decoded. Raises FacegenError naming the file."""
    with opened(data, name) as image:
        return image.width, image.height, image.mode in _GRAY_MODES


def decode(data: bytes, name: str) -> Image.Image:
    """Decode a picture to mode RGB, or L when it is gray; turned upright by its EXIF entry, colors in sRGB.

    16-bit pictures are scaled to 8 bits, transparent ones laid over white, of an animation the first picture is
    taken. Raises FacegenError naming the file when it is empty, truncated, no picture, or of more than MAX_PIXELS.
    """
    with opened(data, name) as image, in_turn(image, data):
        return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """The pixels of an opened picture, in mode RGB or L, turned upright; see `decode`."""
    image.load()
    return to_rgb_or_gray(turn_upright(image))


def upright_with_alpha(image: Image.Image) -> Image.Image:
    """As `upright`, but a picture keeps its transparency and its color profile: mode L, LA, RGB or RGBA."""
    image.load()
    image = turn_upright(image)
    if image.mode in {"L", "RGB"} and "transparency" not in image.info:
        return image
    if not image.has_transparency_data or image.mode.startswith("I"):
        return to_rgb_or_gray(image)

    def with_alpha(strip: Image.Image) -> Image.Image:
        layer = strip.convert("RGBA")
        return layer.convert("LA") if strip.mode in _GRAY_MODES else layer

    return _in_strips(image, with_alpha)


def oddities(image: Image.Image, name: str) -> list[str]:
    """What a person should know of an opened picture that decodes all the same: its ending, colors or frames are odd.

    To be called before the picture is decoded: to look for more frames is to move between them.
    """
    found = []
    suffix = PurePosixPath(name).suffix.lower()
    is_mpo = image.format == "MPO"  # a JPEG as many phones write it: others follow the picture, such as its depth
    kind = "JPEG" if is_mpo else image.format
    if Image.registered_extensions().get(suffix) not in {kind, None}:
        found.append(f"a {kind} picture named {suffix}")
    if getattr(image, "is_animated", False) and not is_mpo:
        found.append("animated: the first picture was used")
    if image.mode not in {"RGB", "L"}:
        found.append(f"colors converted from {image.mode}")
    return found


def to_rgb(image: Image.Image) -> Image.Image:
    """Return any picture as upright 8-bit sRGB, transparency laid over white; the picture itself if it is that already.

    Every part of the package that looks at pixels takes them from here, so that all see the same face.
    """
    if not isinstance(image, Image.Image):
        raise FacegenError(
            f"a picture is a PIL.Image.Image, not {type(image).__name__}: use Image.fromarray(array) for an array "
            "(RGB; OpenCV's are BGR: array[..., ::-1]), facegen.open_photo(path) for a file"
        )
    plain = to_rgb_or_gray(turn_upright(image))
    return plain if plain.mode == "RGB" else plain.convert("RGB")  # convert would copy


def upright_to_cut(image: Image.Image) -> Image.Image:
    """Return a picture upright, in a mode that can be cropped and shrunk: `to_rgb` of what is left takes less memory.

    A photo of 100 megapixels takes 400 MB, and as much again where `to_rgb` changes its colors.
    """
    is_plain = isinstance(image, Image.Image) and image.mode in PHOTO_MODES and "transparency" not in image.info
    return turn_upright(image) if is_plain else to_rgb(image)


def turn_upright(image: Image.Image) -> Image.Image:
    """Return a picture turned upright by its EXIF entry; the picture itself if there is nothing to turn."""
    turn = _turn(image)
    if turn is None:
        return image
    turned = image.transpose(turn)
    for note in _SAY_THE_TURN:
        turned.info.pop(note, None)
    return turned


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))


def to_rgb_or_gray(image: Image.Image) -> Image.Image:
    """The picture in mode L if it is gray, else RGB, in sRGB: 16 bits scaled to 8, transparency laid over white."""
    is_plain = image.mode in {"L", "RGB"} and "transparency" not in image.info
    if is_plain and _srgb_transform(image) is None:
        return image
    white = _full_scale(image) if image.mode[0] in "IF" else 0.0

    def plain(strip: Image.Image) -> Image.Image:
        strip = _to_srgb(strip)
        if strip.mode in {"L", "RGB"} and "transparency" not in strip.info:
            return strip
        if white:
            values = np.nan_to_num(np.asarray(strip, dtype=np.float64), posinf=white, neginf=0)
            return Image.fromarray((values / white * 255).clip(0, 255).round().astype(np.uint8))
        if strip.has_transparency_data:
            layer = strip.convert("RGBA")
            flat = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), layer).convert("RGB")
            return flat.convert("L") if strip.mode in _GRAY_MODES else flat
        return strip.convert("L" if strip.mode in _GRAY_MODES else "RGB")

    return _in_strips(image, plain)


def _in_strips(image: Image.Image, function: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return what a function of single pixels makes of a picture; what it needs meanwhile, for a strip at a time."""
    rows = max(1, STRIP // max(image.width, 1))
    if image.height <= rows:
        return function(image)
    result = None
    for top in range(0, image.height, rows):
        strip = function(image.crop((0, top, image.width, min(top + rows, image.height))))
        if result is None:
            result = Image.new(strip.mode, image.size)
            result.info = strip.info
        result.paste(strip, (0, top))
    assert result is not None
    return result


def from_srgb(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    """Return a picture of mode RGB, in sRGB, with the numbers that another color profile has for the same colors.

    Args:
        profile: an ICC profile, empty for none.
        mode: the mode of the pictures that it belongs to: L, LA, RGB or RGBA.

    Returns:
        The picture in mode RGB or L; the picture itself where the profile is that of sRGB, broken, or of another mode.
    """
    transform = _transform(profile, mode, to_srgb=False)
    if transform is None:
        return image
    result = transform.apply(image)
    result.info.pop("icc_profile", None)  # else the numbers would be taken back to sRGB
    return result


def fitting_profile(image: Image.Image) -> bytes:
    """Return a picture's color profile, if it is one of its mode; empty otherwise, as for a CMYK file made RGB."""
    profile = image.info.get("icc_profile") or b""
    return profile if profile[16:20] == (b"RGB " if image.mode.startswith("RGB") else b"GRAY") else b""  # ICC.1, 7.2.6


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return a picture whose numbers mean sRGB, by its color profile; the picture itself if they do so already."""
    transform = _srgb_transform(image)
    if transform is None:
        return image
    is_gray = image.mode in _GRAY_MODES
    layer = image.convert("RGBA") if image.has_transparency_data else None
    plain = image if image.mode == "CMYK" else image.convert("L" if is_gray else "RGB")
    result = transform.apply(plain)
    if is_gray:
        result = result.getchannel(0)  # the three are equal
    if layer is not None:
        result.putalpha(layer.getchannel("A"))
    result.info = {key: value for key, value in image.info.items() if key not in {"icc_profile", "transparency"}}
    return result


def _srgb_transform(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    profile = image.info.get("icc_profile")
    return _transform(profile, image.mode, to_srgb=True) if profile else None


@functools.lru_cache(maxsize=16)  # the photos of one camera have one profile
def _transform(profile: bytes, mode: str, *, to_srgb: bool) -> ImageCms.ImageCmsTransform | None:
    """Return what turns numbers of a profile into sRGB's or back; None if nothing changes or the profile is no use."""
    space = _PROFILED_MODES.get(mode)
    try:
        other = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if other.profile.xcolor_space.strip() != space:
            return None
        other_mode = {"GRAY": "L"}.get(space, space)
        ends = (other, other_mode), (ImageCms.createProfile("sRGB"), "RGB")
        (source, source_mode), (target, target_mode) = ends if to_srgb else ends[::-1]
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        transform = ImageCms.buildTransform(source, target, source_mode, target_mode, intent, flags)
        if space == "CMYK":
            return transform
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        colors = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3))
        colors = colors.convert(source_mode)
        change = np.asarray(transform.apply(colors).convert("RGB"), np.int16) - np.asarray(colors.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken profile: viewers show the numbers as they are
    return transform if np.abs(change).max() > 1 else None  # sRGB under any of its names, but for rounding


def _full_scale(image: Image.Image) -> float:
    """What white is: integers are 8 or 16 bits deep, floats 0..1 by custom or the values of integers."""
    if image.mode.startswith("I;16"):
        return 65535.0
    top = float(image.getextrema()[1])  # type: ignore[arg-type]  # of one channel
    if image.mode == "F" and top <= 1:
        return 1.0
    return 65535.0 if top > 255 else 255.0


def shows_no_color(image: Image.Image) -> bool:
    """Tell whether a picture is black and white, but for the faint colors of a scan."""
    total = 0
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        pixels = np.asarray(to_rgb(image.crop((0, top, image.width, min(top + rows, image.height)))))
        total += int((pixels.max(axis=2) - pixels.min(axis=2)).sum(dtype=np.int64))
    return total / (image.width * image.height) < FAINT


def center_square(image: Image.Image) -> Image.Image:
    """The largest square in the middle of a picture."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image if image.width == image.height else image.crop((left, top, left + side, top + side))


def save_picture(picture: Image.Image, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write a picture atomically, in the format of the path's suffix, and return the path.

    Args:
        options: further ones of `Image.save`.
    """
    path = Path(path)
    kind = Image.registered_extensions().get(path.suffix.lower())
    if kind is None:
        raise FacegenError(f"{path}: no picture format is called {path.suffix!r}; use .png or .jpg")
    with atomic_path(path) as temporary:
        picture.save(temporary, format=kind, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}), **options)
    return path


def encode_png(image: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def to_float(levels: torch.Tensor) -> torch.Tensor:
    """Turn uint8 pictures, 0..255, into what the networks take: float32 in -1..1."""
    return levels.float() / 127.5 - 1


def to_uint8(pictures: torch.Tensor) -> torch.Tensor:
    """Turn the networks' pictures, about -1..1, into uint8, as a file holds them."""
    return (pictures.detach().float() * 127.5 + 128).clamp(0, 255).byte()


def _unreadable(data: bytes, name: str, error: Exception) -> FacegenError:
    if isinstance(error, FacegenError):
        return error
    if not data:
        return FacegenError(f"{name}: the file is empty (zero bytes)")
    if isinstance(error, Image.DecompressionBombError):
        return TooManyPixelsError(f"{name}: more than {MAX_PIXELS:,d} pixels; make it smaller")
    if _brand(data):
        return FacegenError(f"{name}: a broken or unusual {_brand(data)} picture; convert it to JPEG")
    if isinstance(error, Image.UnidentifiedImageError):
        return FacegenError(f"{name}: not a picture, or a broken one")
    return FacegenError(f"{name}: cannot decode the picture ({str(error).splitlines()[0] if str(error) else error!r})")
