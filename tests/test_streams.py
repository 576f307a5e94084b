"""Writing to the standard streams and reading from them."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from hostile import HOSTILE, steering

from glmtui import i18n, streams
from glmtui.errors import UserError
from glmtui.streams import CleanWriter, Safe


@pytest.fixture(autouse=True)
def english() -> None:
    i18n.use("en")


def stream(encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")


def written(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp1252", "ascii"])
def test_text_is_cleaned_and_what_the_encoding_lacks_is_replaced(encoding: str) -> None:
    file = stream(encoding)
    writer = CleanWriter(file)
    print(HOSTILE, "✓ 你好", file=writer)
    assert steering(written(file)) == []
    assert written(file).endswith({"utf-8": "✓ 你好\n", "gbk": "? 你好\n"}.get(encoding, "? ??\n"))


def test_a_line_is_one_line_and_only_safe_text_steers() -> None:
    file = stream()
    writer = CleanWriter(file)
    writer.line(HOSTILE)
    assert (written(file).count("\n"), steering(written(file))) == (1, [])
    writer.write_safe(Safe("\x1b[1m"))
    assert written(file).endswith("\n\x1b[1m")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp1252"])
def test_json_loses_nothing_and_steers_nothing(encoding: str, indent: int | None) -> None:
    file = stream(encoding)
    value = {"text": HOSTILE, "mark": "✓ 你好", HOSTILE: [1, "\U000e0041"]}
    CleanWriter(file).json(value, indent=indent)
    assert json.loads(written(file)) == value
    assert steering(written(file)) == []
    assert ("你好" in written(file)) == (encoding == "utf-8")


class Full(io.StringIO):
    """A file on a full disk."""

    name = "<stdout>"

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_output_that_cannot_be_written_fails_at_once_and_names_the_stream() -> None:
    with pytest.raises(OSError, match="No space left on device: 'stdout'"):
        CleanWriter(Full()).write("x")
    CleanWriter(Full(), needed=False).write("x")


def test_missing_streams_are_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with streams.standard():
        assert not sys.stdin.isatty()
        assert sys.stdin.read() == ""
        print("x")
        print("x", file=sys.stderr)
        streams.output().line("x")
        assert streams.output() is sys.stdout
    assert (sys.stdin, sys.stdout) == (None, None)


def test_a_status_line_is_for_terminals_and_its_steps_for_all() -> None:
    terminal, log = io.StringIO(), io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    for file in (terminal, log):
        line = streams.StatusLine(file)
        line.show("1 %\x1b[2J")
        line.step("two")
        line.clear()
        line.clear()
    assert terminal.getvalue() == "\r\x1b[K1 %\r\x1b[Ktwo\r\x1b[K"
    assert log.getvalue() == "glmtui: two\n"


TEXTS = {
    "utf-8": "今天天气很好\n".encode(),
    "with a mark": b"\xef\xbb\xbf" + "今天天气很好\n".encode(),
    "utf-16": "今天天气很好\n".encode("utf-16"),
    "gbk": "今天天气很好\n".encode("gbk"),
}


@pytest.mark.parametrize("data", TEXTS.values(), ids=TEXTS)
def test_piped_text_is_decoded_as_files_are(data: bytes) -> None:
    piped = io.TextIOWrapper(io.BytesIO(data), encoding="ascii")
    assert streams.read_piped(piped, "") == "今天天气很好\n"
    piped = io.TextIOWrapper(io.BytesIO(data), encoding="ascii")
    assert list(streams.lines_of(piped)) == ["今天天气很好"]


@pytest.mark.parametrize(
    ("data", "words"), [(b"\x89PNG\r\n\x1a\n\0\0\0", "not text"), (b"y\n" * 1_000_001, "2 MB")]
)
def test_pictures_and_endless_input_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        streams.read_piped(io.TextIOWrapper(io.BytesIO(data)), "")


def test_waiting_for_a_pipe_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "WAIT_SECONDS", 0.01)
    reading, writing = os.pipe()

    class Told(CleanWriter):
        def line(self, text: str = "") -> None:
            assert "standard input" in text
            os.write(writing, b"hi")
            os.close(writing)

    monkeypatch.setattr(streams, "errors", lambda: Told(sys.stderr))
    with os.fdopen(reading) as piped:
        assert streams.is_piped(piped)
        assert streams.read_piped(piped, "Waiting for standard input") == "hi"


def test_terminals_and_the_null_device_are_not_read() -> None:
    with Path(os.devnull).open() as nothing:
        assert not streams.is_piped(nothing)
    assert not streams.is_piped(io.StringIO("no file at all"))


def test_a_writer_is_closed_with_its_stream() -> None:
    stream = io.StringIO()
    writer = CleanWriter(stream)
    assert not writer.closed
    stream.close()
    assert writer.closed  # else Python 3.13 says of every writer it collects that it could not be flushed
