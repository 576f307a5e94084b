"""The web, and pages that a message names, as sources of what an answer may rest on."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial, reduce
from threading import Lock
from typing import TYPE_CHECKING

from glmtui.connections import without_login
from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.protocol import phrases
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.messages import Source
from glmtui.protocol.phrases import Phrase
from glmtui.retrieval.documents import Reading
from glmtui.retrieval.index import FileRecord, Hit, Index
from glmtui.retrieval.passages import Passage, cut
from glmtui.retrieval.provider import TOP, sources
from glmtui.retrieval.reading_process import ReadingProcess
from glmtui.retrieval.update import Fetched
from glmtui.retrieval.web.fetch import Allowed, fetch, is_public
from glmtui.retrieval.web.search import Engine, Result

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation

MOST_PAGES = 5
CHOSEN_FLOOR = 0.05
"""Score below which a passage of a page that was chosen for the question has nothing to do with it."""
NAMED = re.compile(r"(?<![\w@])@(https?://[^\s<>\"'，。；！？）】」]+)", re.IGNORECASE)
"""An address in a message that is to be read."""

Pages = MutableMapping[str, Fetched]
"""What was fetched, by address: each page once a session."""


class WebProvider:
    """Searches and reads the first pages; a `glmtui.session.context.ContextProvider`.

    Args:
        engine: who is asked.
        query: what for.
        pages: what was fetched before; what is fetched goes there.
        allowed: which addresses may be reached.
        warn: told why pages could not be read; the others are used all the same.
    """

    def __init__(
        self,
        engine: Engine,
        query: str,
        pages: Pages,
        allowed: Allowed = is_public,
        *,
        warn: Callable[[Phrase], object] = lambda _why: None,
    ) -> None:
        self._engine = engine
        self._warn = warn
        self._query = query
        self._pages = pages
        self._allowed = allowed

    @property
    def name(self) -> Phrase:
        """What it is called for people."""
        return phrases._("the web")

    async def gather(self, conversation: Conversation, question: str) -> Sequence[Source]:
        """Return passages of the pages, best first; of a page that cannot be read what the engine says of it.

        Raises:
            UserError: the engine cannot be asked.
        """
        async with _Reader() as reader:
            results = await self._engine.search(self._query)
            first = results[:MOST_PAGES]
            failed: list[Phrase] = []
            read = await asyncio.gather(*(self._read(result, reader, failed) for result in first))
        if failed:
            self._warn(reduce(phrases.sentences, failed))
        found = [*zip(first, read, strict=True), *((result, ()) for result in results[MOST_PAGES:])]
        return await asyncio.to_thread(_best, found, f"{question} {self._query}")

    async def _read(self, result: Result, reader: _Reader, failed: list[Phrase]) -> Sequence[Passage]:
        try:
            return (await reader.passages(await page_at(result.url, self._pages, self._allowed)))[1]
        except UserError as error:  # the others may do
            named = phrases._("{path}: {error}").format(path=result.url, error=error)
            failed.append(error.phrase if result.url in str(error) else named)
            return ()


class PageProvider:
    """Reads the pages that a message names; a `glmtui.session.context.ContextProvider`."""

    def __init__(self, urls: Sequence[str], pages: Pages, allowed: Allowed = is_public) -> None:
        self._urls = urls[:MOST_PAGES]
        self._pages = pages
        self._allowed = allowed

    @property
    def name(self) -> Phrase:
        """What it is called for people."""
        return phrases.verbatim(", ".join(map(without_login, self._urls)))

    async def gather(self, conversation: Conversation, question: str) -> Sequence[Source]:
        """Return the passages that have to do with the question, else the pages from their beginning.

        Raises:
            UserError: a page cannot be read.
        """
        found = []
        async with _Reader() as reader:
            for url in self._urls:
                page = await page_at(url, self._pages, self._allowed)
                title, passages = await reader.passages(page)
                shown = without_login(url)
                found.append((Result(shown, title or shown, ""), passages))
        best = await asyncio.to_thread(_best, found, NAMED.sub(" ", question))
        return best or [
            Source(number, result.title, passage.text, result.url)
            for number, (result, passage) in enumerate(
                ((result, passage) for result, passages in found for passage in passages[:TOP]), 1
            )
        ]


def named(text: str) -> list[str]:
    """Return the addresses that a message wants read: ``@https://…``."""
    return [match[1].rstrip(".,;:!?)") for match in NAMED.finditer(text)]


async def page_at(url: str, pages: Pages, allowed: Allowed) -> Fetched:
    """Return a page, from memory where it was fetched before."""
    if url not in pages:
        pages[url] = await fetch(url, allowed)
    return pages[url]


class _Reader:
    """Reads pages, one after another, in a process of their own: nobody knows who made them."""

    def __init__(self) -> None:
        self._token = CancelToken()
        self._process = ReadingProcess(self._token)
        self._turn = asyncio.Lock()
        self._reading = Lock()

    async def __aenter__(self) -> _Reader:
        self._process.prepare()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._token.cancel()  # a thread may still be reading
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._reading:
            self._process.close()

    async def passages(self, page: Fetched) -> tuple[str, Sequence[Passage]]:
        """Return the title and the passages of a page.

        Raises:
            UserError: it cannot be read.
        """
        async with self._turn:
            return await asyncio.to_thread(self._read, page)

    def _read(self, page: Fetched) -> tuple[str, Sequence[Passage]]:
        reading = Reading(io.BytesIO(page.data), page.name)
        try:
            with self._reading:
                self._token.check()
                passages = tuple(cut(self._process.read(reading)))
        except OperationCancelled:
            return "", ()
        return reading.title, passages


def _best(found: Sequence[tuple[Result, Sequence[Passage]]], question: str) -> Sequence[Source]:
    with Index(None) as index:
        for result, passages in found:
            snippet = Passage(result.snippet, _("search result"))
            index.put(
                result.url,
                passages or ([snippet] if result.snippet else []),
                partial(_record, result),
            )
        hits: Sequence[Hit] = index.search(question, TOP)
    return sources(hits, CHOSEN_FLOOR)


def _record(result: Result, count: int) -> FileRecord:
    return FileRecord(result.url, result.title, 0, 0, "", 0, count, 0.0)
