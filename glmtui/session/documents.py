"""What a session does with collections of documents, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from glmtui import i18n
from glmtui.errors import NotFoundError, UserError
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.phrases import NOTHING, Phrase, _, ngettext, sentences
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    from glmtui.retrieval.collections import Collection
    from glmtui.retrieval.index import FileRecord
    from glmtui.retrieval.update import Outcome
    from glmtui.retrieval.vectors import Load

NAMED = 5
"""Documents whose errors are said one by one."""
MORE = _("… and {n} more: /docs lists them.")
MORE_ON_COMMAND_LINE = _("… and {n} more: `glmtui docs list` shows them.")
"""Where the others are found."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A collection with what its index holds."""

    collection: Collection
    files: Sequence[FileRecord]
    error: Phrase = NOTHING
    """Why that cannot be read."""

    @property
    def passages(self) -> int:
        """In all documents."""
        return sum(file.passages for file in self.files)


class DocumentJobs:
    """Reads documents, one collection after another.

    Args:
        notice: says what came of it.
        warn: says what went wrong.
        embedding: returns the model that makes vectors of passages, if any does.
    """

    def __init__(
        self,
        notice: Callable[[Phrase], None],
        warn: Callable[[Phrase], None],
        embedding: Load | None = None,
    ) -> None:
        self._notice = notice
        self._warn = warn
        self._embedding = embedding
        self._lock = asyncio.Lock()
        self._token: CancelToken | None = None
        self.progress: tuple[str, int, int] | None = None
        """While documents are read: of which collection, how many were looked at, of how many."""

    def stop(self) -> bool:
        """Give up what is being read; return whether something was."""
        if self._token is None:
            return False
        self._token.cancel()
        return True

    async def update(self, collection: Collection) -> Outcome | None:
        """Read what is new or changed, and say what came of it; None: it was given up.

        Raises:
            UserError: the index cannot be used.
        """
        from glmtui.retrieval.update import update
        from glmtui.retrieval.web.fetch import fetch_document

        async with self._lock:
            token = self._token = CancelToken()

            def progress(done: int, total: int, _name: str) -> None:
                self.progress = (collection.name, done, total)

            self.progress = (collection.name, 0, 0)
            try:
                outcome = await asyncio.to_thread(
                    update, collection, progress, token, fetch_document, embedding=self._embedding
                )
            except OperationCancelled:
                said = _("Reading {name} was stopped; what was read until then stays.")
                self._notice(said.format(name=collection.name))
                return None
            except asyncio.CancelledError:
                token.cancel()
                raise
            finally:
                self.progress = self._token = None
        self._notice(summary(collection.name, outcome))
        for problem in problems(outcome):
            self._warn(problem)
        return outcome


def summary(name: str, outcome: Outcome) -> Phrase:
    """Say what an update did."""
    read = ngettext("{name}: {n} document was read", "{name}: {n} documents were read", outcome.read)
    said = _("{read}, {unchanged} unchanged, {removed} removed.").format(
        read=read.format(name=name, n=outcome.read), unchanged=outcome.unchanged, removed=outcome.removed
    )
    if outcome.errors:
        count = len(outcome.errors)
        failed = ngettext("{n} could not be read.", "{n} could not be read.", count)
        said = sentences(said, failed.format(n=count))
    return said


def problems(outcome: Outcome, more: Phrase = MORE) -> Sequence[Phrase]:
    """Name documents that could not be read, or not as a whole, and say why; `more`: where the rest is."""
    found = [*outcome.errors, *outcome.notes]
    said = [
        why if path in str(why) else _("{path}: {error}").format(path=path, error=why)
        for path, why in found[:NAMED]
    ]
    if len(found) > NAMED:
        said.append(more.format(n=len(found) - NAMED))
    return said


def listed(names: Sequence[str] = ()) -> list[Listed]:
    """Return collections, all if none is named, with their documents; a damaged one costs itself alone.

    Raises:
        NotFoundError: there is none of a name.
    """
    from glmtui.retrieval import collections

    found = []
    for name in names or collections.names():
        collection = collections.unread(name)
        try:
            collection = collections.get(name)
            with collection.index() as index:
                found.append(Listed(collection, index.files()))
        except NotFoundError:
            if names:
                raise  # else it was removed a moment ago
        except UserError as error:
            found.append(Listed(collection, [], error.phrase))
    return found


def collection_lines(found: Sequence[Listed], used: str = "") -> list[str]:
    """Write collections and their documents, a line each."""
    lines = []
    for each in found:
        name, count = each.collection.name, len(each.files)
        said = i18n._("{path}: {error}")
        if each.error:
            lines.append(said.format(path=name, error=i18n.tell(each.error)))
            continue
        facts = [
            i18n.ngettext("{n} document", "{n} documents", count).format(n=count),
            i18n.ngettext("{n} passage", "{n} passages", each.passages).format(n=each.passages),
            *([i18n._("in use")] if name == used else []),
            *([i18n._("follows its folders")] if each.collection.follows else []),
        ]
        lines.append(said.format(path=name, error=i18n.listing(facts)))
        lines += (
            "  " + said.format(path=one_line(file.origin), error=file_line(file)) for file in each.files
        )
    return lines


def file_line(file: FileRecord) -> str:
    """Say what is known of a document: pages, passages, when it was read, what is wrong with it."""
    if file.error:
        return i18n.tell(file.error)
    parts = [i18n.ngettext("{n} page", "{n} pages", file.pages).format(n=file.pages)] if file.pages else []
    parts.append(i18n.ngettext("{n} passage", "{n} passages", file.passages).format(n=file.passages))
    parts.append(i18n._("read {when}").format(when=f"{datetime.fromtimestamp(file.read_at):%Y-%m-%d %H:%M}"))
    return i18n.listing([*parts, *map(i18n.tell, file.notes)])
