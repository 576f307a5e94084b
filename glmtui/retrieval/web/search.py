"""Search engines: who is asked, how, and what their answers look like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from glmtui.connections import is_outside, why_not, without_login
from glmtui.errors import BadValueError, UnavailableError
from glmtui.protocol.phrases import Phrase, _
from glmtui.retrieval import terms
from glmtui.retrieval.web.fetch import MOST_BYTES, SECONDS, USER_AGENT
from glmtui.text import json_values
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    pass

MOST_RESULTS = 8
BRAVE = "https://api.search.brave.com/res/v1/web/search"
TAVILY = "https://api.tavily.com/search"


@dataclass(frozen=True, slots=True)
class Result:
    """A page that an engine names."""

    url: str
    title: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Engine:
    """Who is asked, as the settings say."""

    provider: str
    url: str = ""
    key: str = ""

    async def search(self, query: str) -> list[Result]:
        """Return what it finds, best first.

        Raises:
            UserError: it is not set up, cannot be reached, refuses, or answers with something else.
        """
        engines: Mapping[str, Callable[[str], Awaitable[list[Result]]]] = {
            "searxng": self._searxng,
            "brave": self._brave,
            "tavily": self._tavily,
            "ddgs": self._ddgs,
        }
        if self.provider not in engines:
            raise BadValueError(_("The web is off: /set web.provider chooses who is asked."))
        return (await engines[self.provider](query))[:MOST_RESULTS]

    async def _searxng(self, query: str) -> list[Result]:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise BadValueError(_("Write where SearXNG is, for example: /set web.url http://localhost:8888"))
        language = "zh-CN" if terms.is_chinese(query) else "all"
        parameters = {"q": query, "format": "json", "language": language, "pageno": "1", "safesearch": "1"}
        refused = _(
            "{url} gives no JSON (status 403): its settings.yml must list json under search.formats, which "
            "most public instances do not."
        ).format(url=without_login(self.url))
        answer = await self._json("GET", f"{self.url.rstrip('/')}/search", params=parameters, refused=refused)
        return _results(answer.get("results"), "content")

    async def _brave(self, query: str) -> list[Result]:
        self._need_key()
        headers = {"X-Subscription-Token": self.key, "Accept": "application/json"}
        parameters = {"q": query, "count": str(MOST_RESULTS)}
        answer = await self._json("GET", BRAVE, params=parameters, headers=headers)
        web = answer.get("web")
        return _results(web.get("results") if isinstance(web, dict) else None, "description")

    async def _tavily(self, query: str) -> list[Result]:
        self._need_key()
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {"query": query, "max_results": MOST_RESULTS}
        return _results(
            (await self._json("POST", TAVILY, headers=headers, json=body)).get("results"), "content"
        )

    async def _ddgs(self, query: str) -> list[Result]:
        try:
            from ddgs import DDGS
            from ddgs.exceptions import DDGSException
        except ImportError as error:
            raise UnavailableError(_("This needs: {command}").format(command="pip install ddgs")) from error

        def ask() -> object:
            region = "cn-zh" if terms.is_chinese(query) else "us-en"
            return DDGS(timeout=int(SECONDS)).text(query, region=region, max_results=MOST_RESULTS)

        try:  # it asks several engines, one after another
            found = await asyncio.wait_for(asyncio.to_thread(ask), 2 * SECONDS)
        except (TimeoutError, asyncio.TimeoutError) as error:
            phrase = _("{url} did not answer within {seconds} seconds.")
            raise UnavailableError(phrase.format(url=self.provider, seconds=int(2 * SECONDS))) from error
        except Exception as error:  # it reads pages that change without notice
            if isinstance(error, DDGSException) and "no results" in str(error).lower():
                return []
            why = one_line(str(error)) or type(error).__name__
            raise UnavailableError(_("The search did not work: {error}").format(error=why)) from error
        return _results(found, "body", "href")

    def _need_key(self) -> None:
        if not self.key:
            raise BadValueError(_("{name} needs a key: /set web.key KEY").format(name=self.provider))

    async def _json(
        self, method: str, url: str, *, refused: Phrase | None = None, **more: Any
    ) -> Mapping[str, Any]:
        """Ask, and return the object that is the answer."""
        import httpx2

        host = urlsplit(without_login(url)).netloc

        async def answered() -> tuple[int, bytes]:
            headers = {"User-Agent": USER_AGENT, **more.pop("headers", {})}
            client = httpx2.AsyncClient(timeout=SECONDS, headers=headers, trust_env=is_outside(url))
            async with client, client.stream(method, url, **more) as response:
                data = bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > MOST_BYTES:
                        break
                return response.status_code, bytes(data)

        try:
            status, data = await asyncio.wait_for(answered(), SECONDS)
        except (TimeoutError, asyncio.TimeoutError, httpx2.TimeoutException) as error:
            raise UnavailableError(
                _("{url} did not answer within {seconds} seconds.").format(url=host, seconds=int(SECONDS))
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise UnavailableError(
                _("{url} cannot be reached: {error}").format(url=host, error=why_not(error))
            ) from error
        if status == 403 and refused:
            raise UnavailableError(refused)
        if status in (401, 403):
            raise UnavailableError(
                _("{url} refuses the key (status {status}).").format(url=host, status=status)
            )
        if status == 429:
            raise UnavailableError(_("{url} has had too many requests. Try again later.").format(url=host))
        if status != 200:
            raise UnavailableError(_("{url} answered with status {status}.").format(url=host, status=status))
        try:
            answer = json_values.loads_within(data.decode("utf-8-sig", "replace"))
        except ValueError as error:
            raise UnavailableError(_("{url} did not answer with JSON.").format(url=host)) from error
        return answer if isinstance(answer, dict) else {}


def _results(found: object, snippet: str, address: str = "url") -> list[Result]:
    """Read what engines have in common; what lacks an address is left out, the same twice too."""
    results: dict[str, Result] = {}
    for each in found if isinstance(found, list) else ():
        named = each.get(address) if isinstance(each, dict) else None
        url = without_login(named) if isinstance(named, str) else ""
        if url.lower().startswith(("http://", "https://")) and url not in results:
            title, text = each.get("title"), each.get(snippet)
            results[url] = Result(
                url,
                one_line(title) if isinstance(title, str) and title else url,
                one_line(text) if isinstance(text, str) else "",
            )
    return list(results.values())
