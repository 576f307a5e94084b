"""Pictures of every kind: each is decoded as the published code does it, or refused in one line."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("PIL", reason="pictures need Pillow")

from picture_files import BAD, GOOD, gradient, png, saved
from PIL import Image

from glmtui import images
from glmtui.errors import BadFileError, NotFoundError, UserError

SAMPLES = {name: data for name, data in GOOD.items() if len(data) < 4000}


@pytest.mark.parametrize("name", GOOD)
def test_good_pictures(name: str) -> None:
    picture = images.decode(GOOD[name], name)
    assert picture.mode == "RGB"
    assert picture.size == images.size_of(GOOD[name])
    assert images.check(GOOD[name]) in images.FORMATS.values()


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures(name: str) -> None:
    with pytest.raises(BadFileError) as error:
        images.check(BAD[name], "holiday.png")
    assert re.fullmatch(r"The picture holiday\.png cannot be used: [^\n]+\.", str(error.value))


def test_colours_are_those_of_the_published_code() -> None:
    for name, data in GOOD.items():
        if name != "16-bit":
            plain = Image.open(io.BytesIO(data)).convert("RGB")
            assert images.decode(data).tobytes() == plain.tobytes(), name


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_keeps_its_upper_8(kind: str) -> None:
    values = np.array([[0, 255, 256, 40_000, 65_535]], np.uint16)
    found = np.asarray(images.decode(saved(Image.fromarray(values), kind)))
    assert found[0].tolist() == [[value] * 3 for value in (0, 0, 1, 156, 255)]


def test_values_that_are_no_colours_are_refused() -> None:
    data = saved(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF")
    with pytest.raises(BadFileError, match="no whole numbers"):
        images.decode(data)


def test_exif_does_not_turn() -> None:
    assert images.decode(GOOD["turned"]).size == gradient().size


def test_the_first_frame_is_seen() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.decode(data).getpixel((0, 0)) == (255, 0, 0)


def test_transparency_is_dropped() -> None:
    data = saved(Image.new("RGBA", (2, 2), (9, 8, 7, 0)), "PNG")
    assert images.decode(data).getpixel((1, 1)) == (9, 8, 7)


def test_nothing_is_said_on_standard_error() -> None:
    """Of a palette with transparency, and of many pixels, Pillow would."""
    code = (
        "import sys; from glmtui import images\n"
        "for data in sys.stdin.buffer.read().split(b'NEXT'): images.decode(data)"
    )
    palette = Image.new("P", (4, 4))
    data = saved(palette, "PNG", transparency=bytes(range(256)))
    many = saved(Image.new("1", (9_400, 7_000)), "PNG")
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        input=data + b"NEXT" + many,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""


def test_other_decoders_are_not_tried() -> None:
    """Of EPS, Pillow would start Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    with pytest.raises(BadFileError, match="no PNG"):
        images.decode(eps)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<?xml version='1.0'?>\n<!-- -->\n<svg xmlns='x'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (b"", "empty"),
        (png()[:-40], "cut short"),
        (BAD["bomb"], "67 million pixels"),
        (saved(Image.new("1", (10_000, 7_000)), "PNG"), "67 million pixels"),
    ],
)
def test_what_is_said(data: bytes, message: str) -> None:
    with pytest.raises(BadFileError, match=message):
        images.decode(data)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with pytest.raises(NotFoundError, match=r"a\.png"):
        images.read_picture(file)
    with pytest.raises(BadFileError, match="folder"):
        images.read_picture(tmp_path)
    with file.open("wb") as stream:
        stream.truncate(100 << 20)
    with pytest.raises(BadFileError, match=r"104\.9 MB"):
        images.read_picture(file)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(BadFileError, match="no regular file"):
            images.read_picture(tmp_path / "pipe")


@given(st.sampled_from(sorted(SAMPLES)), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_is_told_and_nothing_else_is_raised(name: str, data: st.DataObject) -> None:
    content = bytearray(SAMPLES[name])
    for _time in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    assert "\n" not in refusal(bytes(content[:cut] if data.draw(st.booleans()) else content))


def refusal(data: bytes) -> str:
    try:
        return images.decode(data).mode
    except UserError as error:
        return str(error)
