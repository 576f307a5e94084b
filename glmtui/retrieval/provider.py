"""Documents as a source of what an answer may rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.messages import Source
from glmtui.protocol.phrases import NOTHING, Phrase, verbatim
from glmtui.retrieval import terms
from glmtui.retrieval.collections import Collection
from glmtui.retrieval.index import Hit, Index
from glmtui.retrieval.passages import PATH, Passage
from glmtui.retrieval.update import update
from glmtui.retrieval.vectors import Embedder, Load, Progress

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation

TOP = 12
"""Passages of which as many are sent as there is room for."""
FLOOR = 0.2
"""Score below which a passage has nothing to do with the question..."""
BESIDE_BEST = 0.25
"""...or has too little to do with it next to the best, as a share of its score."""
FEW = 3
"""Terms of a question that is understood only with the one before it."""


class DocumentProvider:
    """Finds passages of one collection; a `glmtui.session.context.ContextProvider`.

    Args:
        collection: where it looks.
        embedding: returns the model whose vectors find more, if there is one.
        warn: told why that cannot be used; words are found all the same.
    """

    def __init__(
        self,
        collection: Collection,
        embedding: Load = lambda: None,
        warn: Callable[[Phrase], object] = lambda _why: None,
    ) -> None:
        self._collection = collection
        self._embedding = embedding
        self._warn = warn

    @property
    def name(self) -> Phrase:
        """What it is called for people."""
        return verbatim(self._collection.name)

    async def gather(self, conversation: Conversation, question: str) -> Sequence[Source]:
        """Return the passages that have to do with `question`, best first.

        Raises:
            UserError: the collection cannot be used.
        """
        return await self.search(in_context(conversation, question))

    async def search(self, query: str) -> Sequence[Source]:
        """Return the passages that have to do with `query` as it stands, best first.

        Raises:
            UserError: the collection cannot be used.
        """
        token = CancelToken()
        try:
            found, problem = await asyncio.to_thread(self._find, query, token)
        except asyncio.CancelledError:
            token.cancel()
            raise
        if problem:
            self._warn(problem)
        return found

    def _find(self, question: str, token: CancelToken) -> tuple[Sequence[Source], Phrase]:
        try:
            if self._collection.follows or self._collection.is_unread:
                update(self._collection, token=token, retry=False)
            with self._collection.index() as index:
                hits, problem = search(index, question, TOP, self._embedding, token)
        except OperationCancelled:
            return (), NOTHING
        return sources(hits), problem


def search(
    index: Index,
    question: str,
    top: int,
    embedding: Load,
    token: CancelToken | None = None,
    progress: Progress = lambda _done, _total, _name: None,
) -> tuple[Sequence[Hit], Phrase]:
    """Return the best passages, and why a model that was chosen did not help to find them.

    Raises:
        OperationCancelled: it was given up while vectors were made.
        UserError: the index cannot be used.
    """
    model: Embedder | None
    try:
        if (model := embedding()) is not None:
            index.embed(model, token, progress)
            return index.search(question, top, model), NOTHING
    except UserError as error:
        return index.search(question, top), error.phrase
    return index.search(question, top), NOTHING


def in_context(conversation: Conversation, question: str) -> str:
    """Return what to look for: a short question, such as "and why?", with the one before it."""
    if len(terms.asked(question)) >= FEW:
        return question
    asked = [message.text for message in conversation.branch() if message.role == "user"]
    earlier = [text for text in asked if text.strip() != question.strip()]
    return f"{question} {earlier[-1]}" if earlier else question


def sources(hits: Sequence[Hit], floor: float = FLOOR) -> Sequence[Source]:
    """Return those hits that are good enough, as sources numbered from 1; below `floor` none is."""
    best = max((hit.score for hit in hits), default=0.0)
    floor = max(floor, BESIDE_BEST * best)
    good = (hit for hit in hits if hit.score >= floor)
    return tuple(
        Source(number, hit.title, hit.passage.text, hit.origin, place(hit.passage))
        for number, hit in enumerate(good, 1)
    )


def place(passage: Passage) -> str:
    """Say where a passage stands: heading, page, lines."""
    where = [passage.heading.replace(PATH, " > ")] if passage.heading else []
    if passage.page:
        where.append(_("page {number}").format(number=passage.page))
    if passage.first and passage.last > passage.first:
        where.append(_("lines {first}-{last}").format(first=passage.first, last=passage.last))
    elif passage.first:
        where.append(_("line {number}").format(number=passage.first))
    return ", ".join(where)
