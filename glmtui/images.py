"""Pictures that somebody else made: read in bounds, told what they are, decoded as a model is to see them.

Pillow decodes them; it comes with an extra and is imported when the first picture is there. A few formats
are taken, each decoded by Pillow alone: none starts another program, as EPS would.

A picture is seen as it lies in its file: colours without transparency (which is dropped, not blended), the
first of an animation's frames, not turned as EXIF says. That is how VisualGLM-6B's published code sees it,
and what is shown to people is the same.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from glmtui.errors import BadFileError, NotFoundError, UnavailableError
from glmtui.protocol.phrases import Phrase, _
from glmtui.regular_files import read_regular, reason, too_large
from glmtui.text.quoting import quoted, reason_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

INSTALL = "pip install 'glmtui[images]'"
MOST_BYTES = 32 << 20
"""The largest file; a photograph of 50 megapixels has about 15 MB."""
MOST_PIXELS = 1 << 26
"""67 megapixels, which are 256 MB when decoded. A file of some kilobytes can say that it has more."""
LARGE_PIXELS = 1 << 23
"""Larger ones are decoded one at a time: of the largest each takes a quarter of a gigabyte meanwhile."""
FORMATS: Mapping[str, str] = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "PPM": "image/x-portable-anymap",
}
"""What is taken, as Pillow calls it, and its media type."""
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".ppm", ".pgm", ".pnm", ".heic", ".heif", ".jxl", ".jp2"),
)
"""Of files that are pictures, by their names: also of photographs that are not taken, so that it is said."""
_KNOWN_TO_ALL = ("PNG", "JPEG", "WEBP", "GIF")
_ORIENTATION = 0x0112
"""The tag of EXIF."""
_WIDE = ("I;16", "I;16L", "I;16B", "I;16N")
_ONE_LARGE = Lock()
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise over files that are not what they say."""


def read_picture(path: Path) -> bytes:
    """Return the bytes of the picture file `path`; what is in it is looked at by `decode`.

    Raises:
        NotFoundError: there is no such file.
        BadFileError: it is no regular file, is larger than `MOST_BYTES`, or cannot be read.
    """
    try:
        return read_regular(path, MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(_("There is no file {path}").format(path=path)) from error
    except OSError as error:
        message = _("{path} cannot be read: {error}")
        raise BadFileError(message.format(path=path, error=reason(error))) from error


def decode(data: bytes, name: str = "") -> Picture:
    """Return the picture in `data` in the mode ``RGB``, as a model sees it.

    Args:
        data: the content of a file.
        name: what an error calls it.

    Raises:
        UnavailableError: Pillow is not installed.
        BadFileError: it is no picture of `FORMATS`, is damaged or cut short, or has too many pixels.
    """
    opened = _open(data, name)
    try:
        with _ONE_LARGE if opened.width * opened.height > LARGE_PIXELS else nullcontext():
            return _colours(opened)
    except _DAMAGED as error:
        raise BadFileError(_bad(name, _damaged(error))) from error


def check(data: bytes, name: str = "") -> str:
    """Decode `data` and return its media type: what passes here, a model can be given. Raises as `decode`."""
    decode(data, name)
    return FORMATS[str(_open(data, name).format)]


def thumbnail(data: bytes, width: int, height: int, name: str = "") -> Picture:
    """Return `decode`'s picture, made to fit `width` times `height` pixels and no larger than it is."""
    picture = decode(data, name)
    picture.thumbnail((max(width, 1), max(height, 1)))
    return picture


def for_servers(data: bytes, name: str = "") -> tuple[str, bytes]:
    """Return media type and content of a file that every program shows as `decode` does. Raises as `decode`.

    That is `data` itself where all take the format and nothing in it is seen in several ways.
    """
    opened = _open(data, name)
    if opened.format in _KNOWN_TO_ALL and _is_plain(opened):
        return FORMATS[opened.format], data
    file = io.BytesIO()
    decode(data, name).save(file, "PNG")
    return FORMATS["PNG"], file.getvalue()


def size_of(data: bytes, name: str = "") -> tuple[int, int]:
    """Return width and height in pixels, as the file's header says them. Raises as `decode`."""
    return _open(data, name).size


def _open(data: bytes, name: str) -> Picture:
    """Return the picture with nothing but its header read."""
    if len(data) > MOST_BYTES:
        raise BadFileError(_bad(name, too_large(len(data), MOST_BYTES).phrase))
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        message = _("Pictures need Pillow, which is not installed: {command}")
        raise UnavailableError(message.format(command=INSTALL)) from error
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of files: on standard error, where a screen may be
    try:
        opened = Image.open(io.BytesIO(data), formats=list(FORMATS))
    except UnidentifiedImageError as error:
        raise BadFileError(_bad(name, _what_else(data))) from error
    except Image.DecompressionBombError as error:
        raise BadFileError(_bad(name, _too_many_pixels())) from error
    except _DAMAGED as error:
        raise BadFileError(_bad(name, _damaged(error))) from error
    if opened.width * opened.height > MOST_PIXELS:
        raise BadFileError(_bad(name, _too_many_pixels()))
    return opened


def _is_plain(opened: Picture) -> bool:
    """Whether there is one way to see a picture: it is still, opaque, not to be turned as EXIF says, and has
    8 bits of grey or of red, green and blue."""
    try:
        return (
            opened.mode in ("1", "L", "P", "RGB")
            and "transparency" not in opened.info
            and not getattr(opened, "is_animated", False)
            and opened.getexif().get(_ORIENTATION, 1) == 1
        )
    except _DAMAGED:
        return False


def _colours(opened: Picture) -> Picture:
    """Return `opened` with 8 bits for each of red, green and blue.

    Grey values of 16 bits keep their upper 8, as Pillow does it for those of colours; its own conversion
    would make all above 255 white.
    """
    from PIL import Image

    if opened.mode in _WIDE or opened.mode == "I":
        import numpy as np

        values = np.asarray(opened)
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            raise ValueError("its values have more than 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if opened.mode == "F":
        raise ValueError("its values are no whole numbers")
    opened.load()
    return opened if opened.mode == "RGB" else opened.convert("RGB")


def _bad(name: str, why: Phrase) -> Phrase:
    if not name:
        return _("The picture cannot be used: {reason}.").format(reason=why)
    return _("The picture {name} cannot be used: {reason}.").format(name=quoted(name), reason=why)


def _damaged(error: BaseException) -> Phrase:
    return _("it is damaged or cut short ({reason})").format(reason=reason_of(error))


def _too_many_pixels() -> Phrase:
    return _("it has more than {most} million pixels").format(most=MOST_PIXELS // 1_000_000)


def _what_else(data: bytes) -> Phrase:
    """Say what `data` is, where it is no picture of `FORMATS`."""
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return _("it is empty")
    if start.startswith(b"<") and b"<svg" in data[:65536].lower():
        return _("it is a drawing (SVG); save it as PNG")
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return _("it is in the format HEIC; save it as JPEG")
    if data.startswith(b"%PDF"):
        return _("it is a PDF; save the page as PNG")
    return _("it is no PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF")
