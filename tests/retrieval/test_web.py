"""Search engines and pages, played by a server on this machine."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from picture_files import png
from web_server import WebServer, serving

from glmtui.chat.conversation import Conversation
from glmtui.errors import BadFileError, BadValueError, UnavailableError, UserError
from glmtui.protocol.messages import Source
from glmtui.retrieval.web import fetch as fetching
from glmtui.retrieval.web import search as searching
from glmtui.retrieval.web.fetch import fetch, fetch_picture, is_public
from glmtui.retrieval.web.provider import PageProvider, WebProvider, named
from glmtui.retrieval.web.search import Engine, Result

HERE = ipaddress.ip_address("127.0.0.1")
pytestmark = pytest.mark.usefixtures("plain_pages")


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving() as server:
        yield server


def here(address: fetching.Address) -> bool:
    """Allows the server of the tests alone."""
    return address == HERE


# --- pages ---


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.9.9", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        "::7f00:1",
    ],
)
def test_what_is_inside_the_network(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_what_is_outside(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


async def test_pages_inside_the_network_are_refused(server: WebServer) -> None:
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"):
        with pytest.raises(UserError):
            await fetch(f"http://{host}:{server.server_port}/utf-8")
    assert server.requests == []


async def test_redirects_inside_the_network_are_refused(server: WebServer) -> None:
    with pytest.raises(BadValueError, match="inside"):
        await fetch(f"{server.address}/inward", here)


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means another machine at the second look is looked up once."""
    looked_up = []

    async def resolve(host: str, _port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(fetching, "resolve", resolve)
    page = await fetch(f"http://rebinding.example:{server.server_port}/utf-8", here)
    assert "大熊猫" in page.data.decode()
    assert looked_up == ["rebinding.example"]
    assert server.requests[0][1]["Host"] == f"rebinding.example:{server.server_port}"


@pytest.mark.parametrize(
    ("name", "suffix", "text"),
    [
        ("utf-8", "html", "大熊猫"),
        ("gbk", "html", "金丝猴"),
        ("there", "html", "大熊猫"),
        ("text", "txt", "otters"),
    ],
)
async def test_pages(server: WebServer, name: str, suffix: str, text: str) -> None:
    page = await fetch(f"{server.address}/{name}", here)
    assert page.name == f"page.{suffix}"
    assert text in page.data.decode("utf-8-sig")


async def test_a_large_page_is_read_up_to_the_limit(server: WebServer) -> None:
    page = await fetch(f"{server.address}/large", here)
    assert fetching.MOST_BYTES * 0.9 < len(page.data) <= fetching.MOST_BYTES + 3
    assert len(page.notes) == 1, "and that is said"


@pytest.mark.slow
async def test_pages_in_chunks(server: WebServer) -> None:
    assert "手拉手" in (await fetch(f"{server.address}/chunked", here)).data.decode()
    for name in ("endless", "zipped"):
        page = await fetch(f"{server.address}/{name}", here)
        assert fetching.MOST_BYTES * 0.9 < len(page.data) <= fetching.MOST_BYTES + 3


async def test_redirects_are_followed_up_to_a_limit(server: WebServer) -> None:
    page = await fetch(f"{server.address}/hops-{fetching.MOST_REDIRECTS}", here)
    assert "大熊猫" in page.data.decode()
    with pytest.raises(UnavailableError, match="circle"):
        await fetch(f"{server.address}/hops-{fetching.MOST_REDIRECTS + 1}", here)


async def test_what_does_not_work_is_said_in_words(server: WebServer) -> None:
    with pytest.raises(UnavailableError) as told:
        await fetch("http://127.0.0.1:1/", here)
    assert "Errno" not in str(told.value)
    assert str(told.value) == "http://127.0.0.1:1/ cannot be reached: it refuses to talk"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nowhere", UserError),
        ("torn", UnavailableError),
        ("no-zip", UnavailableError),
        ("picture", BadFileError),
        ("circle", UnavailableError),
        ("file", UserError),
        ("gone", UnavailableError),
    ],
)
async def test_pages_that_are_not_read(server: WebServer, name: str, error: type[UserError]) -> None:
    with pytest.raises(error):
        await fetch(f"{server.address}/{name}", here)


async def test_a_slow_page_is_given_up(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.1)
    with pytest.raises(UnavailableError, match="did not answer"):
        await fetch(f"{server.address}/slow", here)


@pytest.mark.parametrize(
    "url", ["ftp://example.org", "javascript:alert(1)", "http://", "http://[::1", "nonsense"]
)
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UserError):
        await fetch(url)


# --- users and passwords in addresses ---


def with_login(address: str) -> str:
    return address.replace("://", "://ada:s3cret@")


async def test_who_is_named_in_an_address_is_not_kept_in_sources(server: WebServer) -> None:
    provider = PageProvider([with_login(f"{server.address}/text")], {}, here)
    (source,) = await provider.gather(Conversation(), "otters")
    assert server.requests[0][1]["Authorization"].startswith("Basic ")
    assert source.origin == f"{server.address}/text"
    assert "s3cret" not in f"{source} {provider.name}"


@pytest.mark.parametrize("name", ["gone", "picture", "nowhere", "circle", "torn"])
async def test_who_is_named_in_an_address_is_not_said(server: WebServer, name: str) -> None:
    url = with_login(f"{server.address}/{name}")
    for fetching_ in (fetch(url, here), fetch(url)):
        with pytest.raises(UserError) as told:
            await fetching_
        assert "s3cret" not in str(told.value)


async def test_who_is_named_in_the_address_of_an_engine_or_by_it_is_not_said(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("forbidden", "busy", "broken"):
        with pytest.raises(UserError) as told:
            await Engine("searxng", with_login(f"{server.address}/{kind}")).search("x")
        assert "s3cret" not in str(told.value)
    with_ddgs(monkeypatch, [{"href": "https://ada:s3cret@x.example/y"}])
    assert [result.url for result in await Engine("ddgs").search("x")] == ["https://x.example/y"]


# --- engines ---


async def test_searxng(server: WebServer) -> None:
    results = await Engine("searxng", server.address + "/").search("大熊猫吃什么")
    assert [result.title for result in results] == server.results
    path = server.requests[0][0]
    assert path.startswith("/search?q=")
    assert "format=json" in path
    assert "language=zh-CN" in path


async def test_brave_and_tavily(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "BRAVE", f"{server.address}/search")
    monkeypatch.setattr(searching, "TAVILY", f"{server.address}/search")
    assert (await Engine("brave", key="secret").search("pandas"))[0].snippet == "utf-8: pandas"
    assert (await Engine("tavily", key="secret").search("pandas"))[0].title == "utf-8"
    (_path, brave), (_body, tavily) = server.requests
    assert brave["X-Subscription-Token"] == "secret"
    assert tavily["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("forbidden", "settings.yml"), ("busy", "too many"), ("broken", "JSON"), ("endless", "JSON")],
)
async def test_engines_that_refuse_say_why(server: WebServer, kind: str, said: str) -> None:
    with pytest.raises(UnavailableError, match=said):
        await Engine("searxng", f"{server.address}/{kind}").search("x")


async def test_results_that_are_none_are_left_out(server: WebServer) -> None:
    assert await Engine("searxng", f"{server.address}/strange").search("x") == []


@pytest.mark.parametrize("engine", [Engine("none"), Engine("searxng"), Engine("brave"), Engine("tavily")])
async def test_engines_that_are_not_set_up_say_what_to_do(engine: Engine) -> None:
    with pytest.raises(BadValueError, match="/set"):
        await engine.search("x")


async def test_an_engine_that_is_not_there() -> None:
    with pytest.raises(UnavailableError):
        await Engine("searxng", "http://127.0.0.1:1").search("x")


class DDGSException(Exception):  # noqa: N818 (as ddgs has it)
    """What ddgs raises."""


def with_ddgs(monkeypatch: pytest.MonkeyPatch, found: object) -> list[dict[str, object]]:
    """Play the package ddgs, which finds or raises `found`; return how it is asked."""
    asked: list[dict[str, object]] = []

    class DDGS:
        def __init__(self, timeout: int) -> None:
            pass

        def text(self, query: str, **how: object) -> object:
            asked.append({"query": query, **how})
            if isinstance(found, Exception):
                raise found
            return found

    exceptions = ModuleType("ddgs.exceptions")
    package = ModuleType("ddgs")
    package.DDGS, exceptions.DDGSException = DDGS, DDGSException  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ddgs", package)
    monkeypatch.setitem(sys.modules, "ddgs.exceptions", exceptions)
    return asked


async def test_ddgs(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [{"title": "大熊猫", "href": "https://a.example/", "body": "竹子"}, {"title": "no address"}, 3]
    asked = with_ddgs(monkeypatch, pages)
    assert await Engine("ddgs").search("大熊猫吃什么") == [Result("https://a.example/", "大熊猫", "竹子")]
    assert asked == [{"query": "大熊猫吃什么", "region": "cn-zh", "max_results": searching.MOST_RESULTS}]


async def test_what_goes_wrong_with_ddgs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with_ddgs(monkeypatch, DDGSException("No results found."))
    assert await Engine("ddgs").search("x") == []
    for error in (DDGSException("202 Ratelimit"), AttributeError("no such element")):
        with_ddgs(monkeypatch, error)
        with pytest.raises(UnavailableError, match=str(error)):
            await Engine("ddgs").search("x")
    monkeypatch.setitem(sys.modules, "ddgs", None)
    with pytest.raises(UnavailableError, match="pip install ddgs"):
        await Engine("ddgs").search("x")


# --- providers ---


async def test_the_web_as_a_source(server: WebServer) -> None:
    provider = WebProvider(Engine("searxng", server.address), "大熊猫 竹子", {}, here)
    sources = await provider.gather(Conversation(), "大熊猫每天吃多少竹子？")
    best = sources[0]
    assert (best.number, best.title, best.origin) == (1, "utf-8", f"{server.address}/utf-8")
    assert "大熊猫每天吃三十八公斤竹子。" in best.text  # trafilatura takes more of so short a page
    assert all(isinstance(source, Source) for source in sources)


async def test_pages_that_were_chosen_for_the_question_need_few_of_its_words(server: WebServer) -> None:
    engine = Engine("searxng", server.address)
    asked = await WebProvider(engine, "大熊猫", {}, here).gather(
        Conversation(), "Which vitamins, minerals, proteins, fibres and fats does that bear need every day?"
    )
    assert any("三十八公斤竹子" in source.text for source in asked)
    server.results = ["text"]
    assert not await WebProvider(engine, "volcanoes", {}, here).gather(Conversation(), "Why do they erupt?")


async def test_a_page_is_fetched_once_a_session(server: WebServer) -> None:
    pages: dict[str, fetching.Fetched] = {}
    provider = PageProvider([f"{server.address}/gbk"], pages, here)
    for _ in range(2):
        (source,) = await provider.gather(Conversation(), f"@{server.address}/gbk 金丝猴住在哪里？")
    assert "三千米" in source.text
    assert source.title == "金丝猴"
    assert len(server.requests) == 1


async def test_a_page_that_is_only_named_is_read_from_its_beginning(server: WebServer) -> None:
    provider = PageProvider([f"{server.address}/text"], {}, here)
    (source,) = await provider.gather(Conversation(), f"@{server.address}/text")
    assert source.text.startswith("Plain text about otters")


async def test_what_a_page_orders_is_text_and_no_address_of_it_is_followed(server: WebServer) -> None:
    provider = PageProvider([f"{server.address}/injection"], {}, here)
    sources = await provider.gather(Conversation(), "长颈鹿睡多久")
    assert "忽略以上所有指令" in sources[0].text
    assert len(server.requests) == 1


EXTRACT = """
def extract(text, **how):
    if "长颈鹿" in text:
        raise ValueError
    return f"# 大熊猫\\n\\n大熊猫正文 \\\\[{len(text) > 100}\\\\]。" if "大熊猫" in text else ""
"""


async def test_the_main_text_is_trafilaturas_where_it_is_installed(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trafilatura.py").write_text(EXTRACT, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    provider = PageProvider([f"{server.address}/utf-8", f"{server.address}/gbk"], {}, here)
    sources = await provider.gather(Conversation(), "大熊猫、金丝猴")
    assert {(source.title, source.text) for source in sources} == {
        ("大熊猫", "大熊猫正文 [True]。"), ("金丝猴", "金丝猴生活在海拔三千米的森林里。"),
    }  # fmt: skip


async def test_a_page_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(BadValueError, match="inside"):
        await PageProvider(["http://127.0.0.1:1/x"], {}).gather(Conversation(), "x")


def test_pages_that_a_message_names() -> None:
    text = "总结 @https://a.example/b?c=1。再看 (@http://d.example/e), mail@https://no.example 和 https://not.example"
    assert named(text) == ["https://a.example/b?c=1", "http://d.example/e"]


# --- pictures ---


@pytest.mark.parametrize("name", ["cat.png", "cat.jpg", "blob"])
async def test_a_picture_is_fetched(server: WebServer, name: str) -> None:
    assert await fetch_picture(f"{server.address}/{name}", here) == png()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("utf-8", BadFileError),
        ("drawing.svg", BadFileError),
        ("huge.png", BadFileError),
        ("inward", BadValueError),
        ("file", BadValueError),
        ("circle", UnavailableError),
        ("gone", UnavailableError),
    ],
)
async def test_a_picture_that_is_not_fetched(server: WebServer, name: str, error: type[UserError]) -> None:
    with pytest.raises(error):
        await fetch_picture(f"{server.address}/{name}", here)


async def test_a_picture_inside_the_network_is_refused(server: WebServer) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]", "2130706433"):
        with pytest.raises(UserError):
            await fetch_picture(f"http://{host}:{server.server_port}/cat.png")
    assert server.requests == []
