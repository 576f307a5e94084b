"""Alt keys, line breaks in text areas, a terminal that is gone; and whether the patches are still needed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from textual.drivers._writer_thread import WriterThread

from glmtui.tui import textual_patches
from glmtui.tui.textual_patches import driver, textual_is, wrapping

PARSE = """
import time
from textual import events
from textual._xterm_parser import XTermParser
{patch}
parser = XTermParser()
for sequence in ("\\x1bp", "\\x1b\\r"):
    found = list(parser.feed(sequence))
    time.sleep(0.2)
    keys = [event for event in (*found, *parser.tick()) if isinstance(event, events.Key)]
    print([(key.key, key.character) for key in keys])
"""


def keys(patch: str) -> list[str]:
    """What Alt+P and Alt+Enter are in a process of its own."""
    code = PARSE.format(patch=patch)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of Unix")
def test_alt_keys_are_named_and_type_nothing() -> None:
    patched = keys("from glmtui.tui.textual_patches import alt_keys; alt_keys.install()")
    assert patched == ["[('alt+p', None)]", "[('alt+enter', None)]"]
    letter, enter = keys("")
    assert "'p')" in letter, "Textual types nothing for Alt+P: remove the letters"
    assert "alt+enter" not in enter, "Textual knows Alt+Enter: remove it"


def test_lines_of_a_text_area_do_not_begin_with_a_full_stop() -> None:
    from textual.document import _wrapped_document

    text = "中文字符。" * 4
    wrapping.install()
    patched = _wrapped_document.compute_wrap_offsets(text, 8, 4)
    assert all(text[offset] != "。" for offset in patched)
    from textual._wrap import compute_wrap_offsets

    assert any(text[offset] == "。" for offset in compute_wrap_offsets(text, 8, 4)), (
        "Textual knows the rule: remove wrapping.py"
    )


class Gone:
    """A terminal whose window was closed."""

    def write(self, text: str) -> None:
        raise OSError(text)

    def flush(self) -> None:
        raise OSError

    def fileno(self) -> int:
        return -1


def test_a_terminal_that_is_gone_is_told_and_the_writer_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    told: list[bool] = []
    writer = WriterThread(driver._Outlet(Gone().fileno(), lambda: told.append(True)))  # type: ignore[arg-type]
    writer.start()
    for _each in range(100):
        writer.write("x")
    writer.stop()
    assert told == [True]
    bare = WriterThread(Gone())  # type: ignore[arg-type]
    bare.start()
    bare.write("x")
    bare.join(10)
    assert not bare.is_alive(), "Textual survives it: remove driver.py"


def test_nothing_else_reaches_into_textual() -> None:
    package = Path(textual_patches.__file__).parents[1]
    inside = re.compile(
        r"(?:from|import) textual(?:\.\w+)*\._\w|\._(?:compositor|driver|repaint|dirty|styles_cache)"
    )
    others = (path for path in package.rglob("*.py") if path.parent.name != "textual_patches")
    assert [path.name for path in others if inside.search(path.read_text(encoding="utf-8"))] == []


def test_a_release_that_was_not_looked_at_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert textual_is(textual_patches.SEEN), "look at each patch with this release of Textual"
    assert not textual_is((7, 0))
