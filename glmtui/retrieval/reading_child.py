"""The process that `glmtui.retrieval.reading_process` starts: reads document after document, within limits.

It is asked by lines of JSON on its standard input, and answers by such lines, one for each block.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

from glmtui.errors import BadFileError, UserError
from glmtui.protocol.phrases import Phrase, _
from glmtui.regular_files import open_regular, reason
from glmtui.retrieval import readers, stored_phrases
from glmtui.retrieval.documents import LARGEST, Block, Reading
from glmtui.retrieval.readers import html

MOST_MEMORY = 1 << 30
"""Bytes of addresses, the program itself included; where the system can limit them."""
MOST_SECONDS = 300
"""Of processor time for one document, where nobody else ends it."""
OUT_OF_MEMORY = 77
"""Its exit code then."""
FLUSH_SECONDS = 0.5
"""After which what was read is passed on, though it is little."""


def main() -> None:
    """Read what is asked for until standard input ends, as it does when who asks is no more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=1 << 16)
    with open(os.devnull, "w") as nowhere:  # what a library says there is no answer
        os.dup2(nowhere.fileno(), 1)
    requests: SimpleQueue[tuple[dict[str, Any], bytes | None]] = SimpleQueue()
    Thread(target=_take, args=(sys.stdin.buffer, requests.put), daemon=True).start()
    while True:
        request, data = requests.get()
        if request.get("prepare"):
            html.prepare()
            continue
        _set_limits()
        try:
            _answer(request, data, answers.write, answers.flush)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


def _take(pipe: BinaryIO, put: Callable[[tuple[dict[str, Any], bytes | None]], object]) -> None:
    """Take in requests; at their end end at once, whatever is being read."""
    while line := pipe.readline():
        request = json.loads(line)
        put((request, pipe.read(request["size"]) if "size" in request else None))
    os._exit(0)


def _set_limits() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    for what, most in (
        (resource.RLIMIT_AS, MOST_MEMORY),
        (resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + MOST_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        with suppress(OSError, ValueError):  # macOS has a limit of addresses in name only
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _answer(
    request: dict[str, Any], data: bytes | None, write: Callable[[bytes], object], flush: Callable[[], object]
) -> None:
    def send(value: object) -> None:
        write(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")

    try:
        with BytesIO(data) if data is not None else open_regular(Path(request["path"]), LARGEST) as file:
            reading = Reading(file, request["name"])
            flushed = time.monotonic()
            for block in readers.read(reading, of_web=data is not None):
                send(as_list(block))
                if time.monotonic() - flushed > FLUSH_SECONDS:
                    flush()
                    flushed = time.monotonic()
    except (BrokenPipeError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 (it is told to who asked)
        described = describe(error)
        send({"code": described.code, "error": stored_phrases.packed([described.phrase])})
        return
    notes = stored_phrases.packed(reading.notes)
    send({"title": reading.title, "pages": reading.pages, "notes": notes})


def describe(error: Exception) -> UserError:
    """Return an error of a reader as one for people."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return UserError(_("It cannot be read: {error}").format(error=reason(error)))
    said: Phrase = _("It is damaged: {error}")  # a reader did not foresee it in somebody else's file
    return BadFileError(said.format(error=str(error) or type(error).__name__))


def as_list(block: Block) -> list[object]:
    """Return a block as JSON has it."""
    return [block.kind, block.text, block.level, block.page, block.first, block.last, block.header]
