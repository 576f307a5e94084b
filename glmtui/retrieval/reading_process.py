"""Documents are read in a process of their own where they could harm the one that reads them.

PDFium and other parsers in C may crash, hang or fill the memory with a file that was made for it, or that is
merely damaged. Then it costs this document. Plain text is read in this process as long as it is short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, cast

from glmtui.errors import BadFileError, UnavailableError, UserError
from glmtui.protocol.cancellation import INTERVAL, CancelToken
from glmtui.protocol.phrases import Phrase, _
from glmtui.retrieval import stored_phrases
from glmtui.retrieval.documents import Block, Kind, Reading
from glmtui.retrieval.reading_child import MOST_MEMORY, OUT_OF_MEMORY
from glmtui.text.quoting import reason_of

SILENT_SECONDS = 60.0
"""Without anything read, after which it is given up..."""
MOST_SECONDS = 300.0
"""...and of waiting for one document in all."""
MOST_BYTES = 64 << 20
"""Of one answer."""
_START = (
    "import sys; sys.path[:] = sys.argv[1:]; sys.dont_write_bytecode = True; "
    "from glmtui.retrieval.reading_child import main; main()"
)


class ReadingProcess:
    """Starts the process when it is first needed, and anew after a crash.

    Args:
        token: ends it at any moment.
    """

    def __init__(self, token: CancelToken) -> None:
        self._token = token
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ReadingProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.communicate()

    def start(self) -> None:
        """Let it get ready, without waiting for that.

        Raises:
            UnavailableError: there can be no other process.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        path = [each or os.getcwd() for each in sys.path]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl+C is for this program, which ends the other one
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise UnavailableError(
                _("The program that reads documents cannot be started: {error}").format(
                    error=reason_of(error)
                )
            ) from error

    def prepare(self) -> None:
        """Let it get ready for pages of the web. It may fail: what is read then says so."""
        with suppress(UnavailableError):
            self.start()
            assert self._process is not None
            _write(self._process, {"prepare": True})

    def read(self, reading: Reading, path: str = "") -> Iterator[Block]:
        """Yield the blocks of a document, as `glmtui.retrieval.readers.read` does, and fill `reading`.

        Args:
            reading: what is read.
            path: of the file; empty: it is of the web, and its bytes are passed on.

        Raises:
            OperationCancelled: it was given up.
            UserError: it cannot be read; also where its reader crashes, or takes too much time or memory.
        """
        complete = False
        self.start()
        try:
            for value in self._answers(reading, path):
                if isinstance(value, list):
                    yield _block(value)
                else:
                    complete = True
                    _finish(reading, value)
        finally:
            if not complete:  # it would go on with what nobody wants
                self.close()

    def _answers(self, reading: Reading, path: str) -> Iterator[Any]:
        """Ask, and yield the answers up to the last one, which is a dict."""
        process = self._process
        assert process is not None
        pipe = cast("BinaryIO", process.stdout)
        watch = _Watch(process, self._token)
        with watch:
            with watch.waiting():
                _ask(process, reading, path)
            while True:
                with watch.waiting():
                    line = pipe.readline(MOST_BYTES)
                self._token.check()
                if not line.endswith(b"\n"):
                    raise _why(process, watch)
                value = json.loads(line.decode("utf-8", "surrogatepass"))
                yield value
                if isinstance(value, dict):
                    return


class _Watch:
    """Kills a process that is waited for too long, or no more."""

    def __init__(self, process: subprocess.Popen[bytes], token: CancelToken) -> None:
        self._process, self._token = process, token
        self._since = 0.0
        self._waited = 0.0
        self._over = threading.Event()
        self.killed = False
        self._thread = threading.Thread(target=self._run, name="glmtui-reading", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def waiting(self) -> _Watch._Waiting:
        return self._Waiting(self)

    class _Waiting:
        """While the process is at work and this one is not."""

        def __init__(self, watch: _Watch) -> None:
            self._watch = watch

        def __enter__(self) -> None:
            self._watch._since = time.monotonic()

        def __exit__(self, *_error: object) -> None:
            self._watch._waited += time.monotonic() - self._watch._since
            self._watch._since = 0.0

    def _run(self) -> None:
        while not self._over.wait(INTERVAL):
            since = self._since
            silent = time.monotonic() - since if since else 0.0
            if self._token.cancelled or silent > SILENT_SECONDS or silent + self._waited > MOST_SECONDS:
                self.killed = True
                self._process.kill()
                return


def _ask(process: subprocess.Popen[bytes], reading: Reading, path: str) -> None:
    if path:
        _write(process, {"name": reading.name, "path": path})
    else:
        data = reading.file.read()
        _write(process, {"name": reading.name, "size": len(data)}, data)


def _write(process: subprocess.Popen[bytes], request: dict[str, object], data: bytes = b"") -> None:
    pipe = cast("BinaryIO", process.stdin)
    with suppress(OSError):  # it is no more: there is no answer, which says so
        pipe.write(json.dumps(request).encode() + b"\n")
        pipe.write(data)
        pipe.flush()


def _why(process: subprocess.Popen[bytes], watch: _Watch) -> UserError:
    """Return why there is no answer."""
    process.kill()
    code = process.wait()
    if watch.killed:
        return BadFileError(_("Reading it takes too long."))
    if code == OUT_OF_MEMORY:
        return BadFileError(
            _("Reading it takes more than {most} MB of memory.").format(most=MOST_MEMORY >> 20)
        )
    return BadFileError(_("The program that reads such files crashed with it."))


def _block(value: list[Any]) -> Block:
    kind, text, level, page, first, last, header = value
    return Block(cast("Kind", kind), text, level, page, first, last, header)


def _finish(reading: Reading, value: dict[str, Any]) -> None:
    if "error" in value:
        why: Phrase = next(iter(stored_phrases.unpacked(value["error"])), _("It cannot be read."))
        for kind in (BadFileError, UnavailableError):
            if value["code"] == kind.code:
                raise kind(why)
        raise UserError(why)
    reading.title, reading.pages = value["title"], value["pages"]
    reading.notes += stored_phrases.unpacked(value["notes"])
