"""Bringing in conversations of other programs, next to whatever else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui.errors import BadValueError, UserError
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.phrases import Phrase, _, ngettext, sentences

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.chat.library import Library

LOOK_SECONDS = 0.1
MOST_TOLD = 5
"""Failures that are named one by one."""


@dataclass
class Imported:
    """What came of an import."""

    first: Conversation | None = None
    count: int = 0
    known: int = 0
    """Conversations that had come in before."""
    stopped: bool = False
    failures: list[UserError] = field(default_factory=list)

    def problems(self) -> list[Phrase]:
        """Say what could not be read, each in a line as long as they are few."""
        said = [failure.phrase for failure in self.failures[:MOST_TOLD]]
        if (more := len(self.failures) - MOST_TOLD) > 0:
            text = ngettext("{n} more could not be read.", "{n} more could not be read.", more)
            said.append(text.format(n=more))
        return said

    def summary(self) -> Phrase:
        """Say how many came in."""
        count, known = self.count, self.known
        said = ngettext("{n} conversation was imported.", "{n} conversations were imported.", count).format(
            n=count
        )
        if known:
            text = ngettext(
                "{n} had come in before and was left out.", "{n} had come in before and were left out.", known
            )
            said = sentences(said, text.format(n=known))
        return sentences(_("The import was stopped."), said) if self.stopped else said


class ImportJob:
    """Reads one file at a time, in a thread.

    Args:
        library: where conversations go.
        show: told the file's name and how far it is, 0 to 1; None when it is over.
    """

    def __init__(self, library: Library, show: Callable[[tuple[str, float] | None], None]) -> None:
        self._library = library
        self._show = show
        self._cancel: CancelToken | None = None
        self._fraction = 0.0

    @property
    def running(self) -> bool:
        """Whether something is being read."""
        return self._cancel is not None

    def stop(self) -> None:
        """Read no further; what came in stays."""
        if self._cancel is not None:
            self._cancel.cancel()

    async def run(self, path: Path) -> Imported:
        """Bring in what is in a file.

        Raises:
            UserError: nothing in it can be read, or another file is being read.
        """
        if self.running:
            raise BadValueError(_("Another file is being imported."))
        cancel = self._cancel = CancelToken()
        self._fraction = 0.0
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, path, cancel))
        try:
            while not reading.done():
                self._show((path.name, self._fraction))
                await asyncio.wait({reading}, timeout=LOOK_SECONDS)
            return await reading
        finally:
            cancel.cancel()  # the program may be left
            self._cancel = None
            self._show(None)

    def _read(self, path: Path, cancel: CancelToken) -> Imported:
        from glmtui.chat.import_ import Import

        def advance(fraction: float) -> None:
            cancel.check()
            self._fraction = fraction

        imported = Imported()
        job = Import(path, self._library, advance)
        try:
            for conversation in job:
                imported.first, imported.count = imported.first or conversation, imported.count + 1
                cancel.check()
        except OperationCancelled:
            imported.stopped = True
        except UserError as error:  # no room
            if not imported.count:
                raise
            job.failures.append(error)
        imported.known, imported.failures = job.known, job.failures
        return imported
