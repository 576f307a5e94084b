"""What a model that calls tools may do to find sources by itself: search documents or the web, open a page.

Each is a `glmtui.session.toolbox.AnswerTool`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from glmtui.errors import BadValueError
from glmtui.protocol.messages import Source
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.protocol.requests import Tool
from glmtui.retrieval.provider import DocumentProvider
from glmtui.retrieval.web.fetch import Allowed, is_public
from glmtui.retrieval.web.provider import PageProvider, Pages, WebProvider

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation
    from glmtui.retrieval.web.search import Engine

LONGEST = 1000
"""Characters of a query or an address."""


def _text(name: str, about: str) -> Mapping[str, Any]:
    """Return the JSON schema of an object with one text in it."""
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": about}},
        "required": [name],
    }


def _given(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
        raise BadValueError(_("The argument {name} is missing or no text.").format(name=name))
    return value.strip()


class SearchDocuments:
    """Finds passages of the collection in use.

    Args:
        provider: looks there.
    """

    cites: ClassVar[bool] = True
    tool: ClassVar[Tool] = Tool(
        "search_documents",
        "Search the user's own documents. Returns numbered passages to cite, like [1].",
        _text("query", "What to look for: names, numbers and words as the documents would have them."),
    )

    def __init__(self, provider: DocumentProvider) -> None:
        self._provider = provider

    def leave(self, arguments: Mapping[str, Any]) -> Phrase:
        """Nobody is asked: it stays on this machine."""
        return NOTHING

    async def use(self, conversation: Conversation, arguments: Mapping[str, Any]) -> Sequence[Source]:
        """Return the passages that have to do with the query, best first.

        Raises:
            UserError: there is no query, or the collection cannot be used.
        """
        return await self._provider.search(_given(arguments, "query"))


class SearchWeb:
    """Asks the search engine of the settings and reads the first pages.

    Args:
        engine: who is asked.
        pages: what was fetched before; what is fetched goes there.
        found: the addresses it finds go there: to open these nobody is asked.
        allowed: which addresses may be reached.
        warn: told why pages could not be read.
    """

    cites: ClassVar[bool] = True
    tool: ClassVar[Tool] = Tool(
        "search_web",
        "Search the web. Returns numbered passages of the pages found, to cite like [1].",
        _text("query", "What to ask the search engine."),
    )

    def __init__(
        self,
        engine: Engine,
        pages: Pages,
        found: set[str],
        allowed: Allowed = is_public,
        *,
        warn: Callable[[Phrase], object] = lambda _why: None,
    ) -> None:
        self._engine, self._pages, self._found, self._allowed = engine, pages, found, allowed
        self._warn = warn

    def leave(self, arguments: Mapping[str, Any]) -> Phrase:
        """The person sees the query before it is sent."""
        query = _given(arguments, "query")
        return _("The model wants to search the web for: {query}").format(query=query)

    async def use(self, conversation: Conversation, arguments: Mapping[str, Any]) -> Sequence[Source]:
        """Return passages of what is found, best first.

        Raises:
            UserError: there is no query, or the engine cannot be asked.
        """
        query = _given(arguments, "query")
        provider = WebProvider(self._engine, query, self._pages, self._allowed, warn=self._warn)
        sources = await provider.gather(conversation, query)
        self._found.update(source.origin for source in sources)
        return sources


class OpenPage:
    """Reads one page.

    Args:
        pages: as of `SearchWeb`.
        found: addresses that may be opened unasked.
        question: what the page is read for.
        allowed: which addresses may be reached.
    """

    cites: ClassVar[bool] = True
    tool: ClassVar[Tool] = Tool(
        "open_page",
        "Read a web page. Returns numbered passages of it, to cite like [1].",
        _text("url", "The address of the page, with https://"),
    )

    def __init__(self, pages: Pages, found: set[str], question: str, allowed: Allowed = is_public) -> None:
        self._pages, self._found, self._question, self._allowed = pages, found, question, allowed

    def leave(self, arguments: Mapping[str, Any]) -> Phrase:
        """The person sees an address that no search named: it could carry what was said to someone."""
        url = _given(arguments, "url")
        if url in self._found:
            return NOTHING
        return _("The model wants to open this page: {url}").format(url=url)

    async def use(self, conversation: Conversation, arguments: Mapping[str, Any]) -> Sequence[Source]:
        """Return the passages of the page that have to do with the question, else its beginning.

        Raises:
            UserError: there is no address, or the page cannot be read.
        """
        url = _given(arguments, "url")
        if urlsplit(url).scheme not in ("http", "https"):
            raise BadValueError(_("An address of a page begins with https:// or http://"))
        return await PageProvider([url], self._pages, self._allowed).gather(conversation, self._question)
