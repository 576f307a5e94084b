"""What an answer may rest on besides the conversation: who finds it, and how much of it fits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Protocol

from glmtui.protocol.messages import ChatMessage, Source
from glmtui.protocol.phrases import Phrase, listing
from glmtui.session.embedding import EMBEDDING, EmbeddingLoader

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation, Message
    from glmtui.retrieval.provider import DocumentProvider
    from glmtui.retrieval.update import Fetched
    from glmtui.retrieval.web.search import Engine
    from glmtui.session.toolbox import AnswerTool
    from glmtui.settings.settings import Settings

COLLECTION = "docs.collection"
"""The setting that names the collection in use."""
WEB = "web"
"""Marks a message (in its `meta`) that the web is searched for."""
QUESTION_AND_SOURCES = 0.72
"""Share of the context that the question and its sources may take; the rest is for the answer."""
SOURCES = 0.55
"""Share of it that sources may take: older messages have what is left."""
SHORTEST = 80
"""Characters below which the beginning of a passage says nothing."""


class ContextProvider(Protocol):
    """Finds what an answer may rest on: documents, the web."""

    @property
    def name(self) -> Phrase:
        """What it is called for people."""

    async def gather(self, conversation: Conversation, question: str) -> Sequence[Source]:
        """Return what has to do with `question`, best first; nothing is no error.

        It is cancelled as tasks are.

        Raises:
            UserError: it cannot be asked.
        """


class Context:
    """Which providers an answer has.

    Args:
        settings: read already; they and the conversation say what is in use.
        warn: told what cannot be used, though there is an answer without it.
    """

    def __init__(self, settings: Settings, warn: Callable[[Phrase], object] = lambda _why: None) -> None:
        self._settings = settings
        self._warn = warn
        self._warned = ""
        self._pages: dict[str, Fetched] = {}
        self.embedding = EmbeddingLoader(lambda: str(settings[EMBEDDING] or ""))
        """The model that makes vectors of documents."""

    def collection(self, conversation: Conversation) -> str:
        """Return the name (or path) of the collection in use; empty: none is."""
        return str(self._settings.effective(COLLECTION, conversation.settings) or "")

    def offers_tools(self, conversation: Conversation) -> bool:
        """Whether `tools` would return any."""
        searches = bool(self.collection(conversation)) or self._settings["web.provider"] != "none"
        return bool(self._settings.effective("docs.tools", conversation.settings)) and searches

    def tools(self, conversation: Conversation, question: str) -> list[AnswerTool]:
        """Return what a model that calls tools may do to answer `question`.

        Raises:
            UserError: the collection in use is not there.
        """
        found: list[AnswerTool] = []
        if not self._settings.effective("docs.tools", conversation.settings):
            return found
        if name := self.collection(conversation):
            from glmtui.retrieval.tools import SearchDocuments

            found.append(SearchDocuments(self._documents(name)))
        if self._settings["web.provider"] != "none":
            from glmtui.retrieval.tools import OpenPage, SearchWeb

            addresses: set[str] = set()
            found += (
                SearchWeb(self._search_engine(), self._pages, addresses, warn=self._warn),
                OpenPage(self._pages, addresses, question),
            )
        return found

    def providers(
        self, conversation: Conversation, question: Message, *, by_tools: bool = False
    ) -> list[ContextProvider]:
        """Return who is asked before `question` is answered; `by_tools`: the model searches documents itself.

        Raises:
            UserError: what is in use is not there, or not set up.
        """
        found: list[ContextProvider] = []
        if not by_tools and (name := self.collection(conversation)):
            found.append(self._documents(name))
        query, text = question.meta.get(WEB), question.text
        if isinstance(query, str) and query:
            from glmtui.retrieval.web.provider import WebProvider

            found.append(WebProvider(self._search_engine(), query, self._pages, warn=self._warn))
        if "@http" in text:
            from glmtui.retrieval.web.provider import PageProvider, named

            if urls := named(text):
                found.append(PageProvider(urls, self._pages))
        return found

    def _documents(self, name: str) -> DocumentProvider:
        from glmtui.retrieval import collections
        from glmtui.retrieval.provider import DocumentProvider

        return DocumentProvider(collections.find(name), self.embedding, self._warn_once)

    def _warn_once(self, why: Phrase) -> None:
        """Say it with the first question it meets, and no more as long as it is the same."""
        if str(why) != self._warned:
            self._warned = str(why)
            self._warn(why)

    def _search_engine(self) -> Engine:
        from glmtui.retrieval.web.search import Engine

        return Engine(*(str(self._settings[f"web.{name}"]) for name in ("provider", "url", "key")))


async def gather(
    providers: Sequence[ContextProvider],
    conversation: Conversation,
    question: str,
    known: MutableMapping[Phrase, Sequence[Source]] | None = None,
) -> Sequence[Source]:
    """Ask all providers at once; return what they found, the best of each first, numbered from 1.

    Args:
        providers: who is asked.
        conversation: the question's.
        question: what they are asked.
        known: what providers, by their names, found for this question: they are not asked again. What the
            others find goes there.

    Raises:
        UserError: one of them could not be asked.
    """
    before = dict(known or {})

    async def ask(provider: ContextProvider) -> Sequence[Source]:
        if provider.name in before:
            return before[provider.name]
        found = await provider.gather(conversation, question)
        if known is not None:
            known[provider.name] = found
        return found

    tasks = [asyncio.ensure_future(ask(provider)) for provider in providers]
    try:
        lists = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    ranked = (source for rank in zip_longest(*lists) for source in rank if source is not None)
    return tuple(replace(source, number=number) for number, source in enumerate(ranked, 1))


def names(providers: Sequence[ContextProvider]) -> object:
    """Return what providers are called, as a list in a sentence."""
    return listing(provider.name for provider in providers)


async def fit(
    sources: Sequence[Source],
    build: Callable[[Sequence[Source]], Sequence[ChatMessage]],
    count: Callable[[Sequence[ChatMessage]], Awaitable[int]],
    limit: int,
) -> Sequence[Source]:
    """Return as many of the best `sources` as there is room for; of the first, if need be, the beginning.

    Args:
        sources: best first.
        build: writes the question with sources, without what was said before.
        count: counts the tokens of that.
        limit: of the context, in tokens.
    """
    alone = await count(build(()))
    room = min(int(limit * QUESTION_AND_SOURCES), alone + int(limit * SOURCES))
    low, high = 0, len(sources)
    while low < high:
        middle = (low + high + 1) // 2
        if await count(build(sources[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    if low or not sources:
        return sources[:low]
    first = sources[0]
    while len(first.text) > SHORTEST:
        tokens = await count(build((first,)))
        if tokens <= room:
            return (first,)
        share = max((room - alone) / max(tokens - alone, 1), 0.0) * 0.9
        first = replace(first, text=first.text[: min(int(len(first.text) * share), len(first.text) - 1)])
    return ()


def fewer(sources: Sequence[Source]) -> Sequence[Source]:
    """Return the better half of `sources`; of one alone the first half, in the end nothing."""
    if len(sources) > 1:
        return sources[: len(sources) // 2]
    halves = (replace(each, text=each.text[: len(each.text) // 2]) for each in sources)
    return [each for each in halves if len(each.text) > SHORTEST]
