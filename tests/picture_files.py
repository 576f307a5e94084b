"""Small pictures, right ones and such that programs stumble over, made with Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest

pil = pytest.importorskip("PIL.Image", reason="pictures need Pillow")


def gradient(width: int = 64, height: int = 48):  # type: ignore[no-untyped-def]
    """Red grows to the right, green downwards."""
    pixels = bytes(
        value
        for y in range(height)
        for x in range(width)
        for value in (x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 128)
    )
    return pil.frombytes("RGB", (width, height), pixels)


def png(width: int = 64, height: int = 48) -> bytes:
    return saved(gradient(width, height), "PNG")


def saved(picture, kind: str, **options: object) -> bytes:  # type: ignore[no-untyped-def]
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write(path: Path, data: bytes | None = None) -> Path:
    path.write_bytes(png() if data is None else data)
    return path


def turned() -> bytes:
    """A JPEG that EXIF says is to be turned by a quarter."""
    exif = pil.Exif()
    exif[0x0112] = 6
    return saved(gradient(), "JPEG", exif=exif)


def animated() -> bytes:
    frames = [pil.new("P", (8, 8), number) for number in range(3)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def bomb() -> bytes:
    """Some hundred bytes of a PNG that says it has 3.6 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
GOOD = {
    "png": png(),
    "cmyk": saved(pil.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"),
    "16-bit": saved(pil.new("I;16", (8, 8), 40_000), "PNG"),
    "palette": saved(pil.new("P", (8, 8), 3), "PNG"),
    "transparent": saved(pil.new("RGBA", (8, 8), (9, 9, 9, 0)), "PNG"),
    "grey": saved(pil.new("L", (8, 8), 99), "PNG"),
    "turned": turned(),
    "animated": animated(),
    "bmp": saved(gradient(), "BMP"),
    "tiff": saved(gradient(), "TIFF"),
    "webp": saved(gradient(), "WEBP"),
    "one pixel": png(1, 1),
    "narrow": png(1, 3000),
}
BAD = {
    "text": b"Not a picture.",
    "empty": b"",
    "truncated": png()[:100],
    "half a jpeg": turned()[:300],
    "bomb": bomb(),
    "svg": SVG,
    "pdf": b"%PDF-1.7\n",
    "head alone": b"\x89PNG\r\n\x1a\n",
    "large": b"\x89PNG\r\n\x1a\n" + bytes((32 << 20) + 1),
}
