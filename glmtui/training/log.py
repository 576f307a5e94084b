"""The log of a run: an event a line as JSON, and the same for TensorBoard where that is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from glmtui.errors import StorageError, UserError
from glmtui.protocol.phrases import Phrase, _
from glmtui.text import json_values
from glmtui.text.quoting import reason_of
from glmtui.training.progress import Event, Step, Validated

NAME = "log.jsonl"
BOARD = "tensorboard"


class RunLog:
    """Writes what a run tells into its folder; a run that goes on adds to what is there.

    Args:
        folder: of the run; it is there.
        tensorboard: whether to write its events too.

    Raises:
        StorageError: the file cannot be written.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = True) -> None:
        self._path = folder / NAME
        try:
            is_torn = not _ends_with_a_line(self._path)
            self._file = self._path.open("a", encoding="utf-8")
            if is_torn:
                self._file.write("\n")
        except OSError as error:
            raise self._unwritable(error) from error
        self._board: _Board | None = None
        with suppress(OSError):  # what it cannot write for TensorBoard costs that alone
            self._board = _board(folder / BOARD) if tensorboard else None

    def take(self, event: Event) -> None:
        """Write an event; it is a `Listener`.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self._write({"event": type(event).__name__.lower(), **_values(event)})
        except OSError as error:
            raise self._unwritable(error) from error
        if self._board is not None:
            try:
                for name, value, step in _scalars(event):
                    self._board(name, value, step)
            except OSError:
                self._board = None

    def failed(self, error: UserError) -> None:
        """Write why the run ended before its end, where that can still be written."""
        record = {"event": "failed", "code": error.code, "reason": str(error.phrase)}
        with suppress(OSError):
            self._write(record)

    def close(self) -> None:
        """Write no more."""
        with suppress(OSError):
            self._file.close()
        if self._board is not None:
            with suppress(OSError):
                self._board.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            _("{path} cannot be written: {error}").format(path=self._path, error=reason_of(error))
        )


def _ends_with_a_line(path: Path) -> bool:
    """Whether the last line of a file is complete, if it has any. Raises OSError where it cannot be read."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def _values(item: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(item, field.name)) for field in fields(item)}


def _plain(value: Any) -> Any:
    if isinstance(value, Phrase):
        return str(value)
    if is_dataclass(value):
        return _values(value)
    return [*map(_plain, value)] if isinstance(value, tuple) else json_values.plain(value)


def _scalars(event: Event) -> list[tuple[str, float, int]]:
    match event:
        case Step():
            names = ("loss", "smoothed", "learning_rate", "tokens_per_second", "memory")
            return [(f"train/{name}", float(getattr(event, name)), event.step) for name in names]
        case Validated():
            return [("validation/loss", event.loss, event.step)]
    return []


class _Board:
    """The file that TensorBoard reads, written with its own package: torch's wrapper adds nothing."""

    def __init__(self, writer: Any, summary: Callable[..., Any], event: Callable[..., Any]) -> None:
        self._writer, self._summary, self._event = writer, summary, event

    def __call__(self, name: str, value: float, step: int) -> None:
        import time

        scalar = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])  # type: ignore[attr-defined]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=scalar))

    def close(self) -> None:
        self._writer.close()


def _board(folder: Path) -> _Board | None:
    try:
        from tensorboard.compat.proto.event_pb2 import Event as BoardEvent
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        return None
    return _Board(EventFileWriter(str(folder)), Summary, BoardEvent)
