"""The web page in a real browser: streaming, stop, Chinese input, what a model may not do there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import NANO
from served import MakeServer, Served, wait_for

from glmtui.chat.library import Library
from glmtui.server import web
from glmtui.session.page_library import PageLibrary

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browsers = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

ATTACKS = """
<script>document.title = "owned"</script>
<img src="http://evil.example/a.png" onerror="document.title = 'owned'">
![picture](http://evil.example/b.png) [link](javascript:document.title='owned')
<a href="data:text/html,x">d</a>
<iframe src="http://evil.example/"></iframe><style>body { background: url(http://evil.example/c) }</style>
<svg onload="document.title='owned'"></svg><math><mtext><table><mglyph><style><img src=x onerror=alert(1)>

```"><img src=x onerror="document.title='owned'">
code
```
[ref]: javascript:document.title='owned'
[ref] <form action="http://evil.example/"><input name=q><button>send</button></form>
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Page:
    """A tab, and all that it asked for and complained of."""

    def __init__(self, tab: Any, url: str) -> None:
        self.tab = tab
        self.asked: list[str] = []
        self.complaints: list[str] = []
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("dialog", lambda dialog: dialog.accept())
        tab.goto(url)

    def ready(self) -> Page:
        self.tab.wait_for_selector("body[data-state=ready]")
        return self

    def send(self, text: str) -> None:
        self.tab.fill("#composer", text)
        self.tab.press("#composer", "Enter")

    def done(self, count: int = 1) -> str:
        """Wait for the last of so many answers; return what stands there."""
        self.tab.locator(".assistant[data-state=done]").nth(count - 1).wait_for()
        return str(self.tab.locator(".assistant .body").last.inner_text()).strip()

    def click(self, label: str) -> None:
        self.tab.locator(f'[aria-label="{label}"]').last.click()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Open]:
    contexts: list[Any] = []

    def open_one(url: str = "", script: str = "", **options: Any) -> Page:
        contexts.append(browser.new_context(**{"locale": "en-US", **options}))
        contexts[-1].add_init_script(script)
        contexts[-1].set_default_timeout(15_000)
        return Page(contexts[-1].new_page(), url or served.url)

    yield open_one
    for context in contexts:
        context.close()


@browsers
def test_an_answer_streams_and_can_be_stopped_and_gone_on_with(served: Served, open_page: Open) -> None:
    engine = served.ready("# Title\n\n你好，**“世界”**！", hold=True)
    page = open_page().ready()
    page.send("Say it")
    page.tab.wait_for_selector(".running .markdown")
    assert page.tab.locator(".running h1").inner_text() == "Title"
    assert page.tab.locator("#send").is_hidden()
    page.click("Stop")
    page.tab.wait_for_selector("#send:visible")
    wait_for(lambda: engine.cancelled)
    assert "Stopped" in page.tab.locator(".assistant .tools").inner_text()
    engine.hold = False
    page.click("Go on")
    page.tab.locator(".assistant .note", has_text="tokens").wait_for()
    assert engine.generated[-1].continue_answer
    assert engine.generated[-1].leave_out_rounds
    assert page.complaints == []


@browsers
def test_again_edit_clear_and_the_list(served: Served, open_page: Open) -> None:
    engine = served.ready("One", "Two", "Three", "Four")
    page = open_page().ready()
    page.send("first\nline")
    assert page.done() == "One"
    page.click("Answer again")
    page.tab.locator(".assistant", has_text="Two").wait_for()
    page.tab.hover(".user")
    page.tab.locator('.user [aria-label="Edit"]').click()
    page.tab.fill(".edit textarea", "other")
    page.tab.click(".edit .primary")
    page.tab.locator(".assistant", has_text="Three").wait_for()
    assert [m.text for m in engine.generated[-1].messages] == ["other"]
    page.tab.reload()
    page.ready()
    assert page.done() == "Three", "it was kept"
    page.tab.click("#new")
    page.send("second")
    assert page.done() == "Four"
    titles = page.tab.locator(".choose").all_inner_texts()
    assert titles == ["second", "other"]
    page.tab.locator(".choose", has_text="other").click()
    assert page.done() == "Three"
    page.tab.click("#clear")
    page.tab.wait_for_selector(".empty")
    assert page.tab.locator(".choose").all_inner_texts() == ["second"]
    assert page.complaints == []


@browsers
def test_options_are_sent_and_the_thought_is_folded(served: Served, open_page: Open) -> None:
    engine = served.ready("<think>\nwell\n</think>\n\nHello!")
    page = open_page().ready()
    page.tab.click("#options")
    assert page.tab.input_value("#temperature") == "0.95"
    page.tab.fill("#temperature", "0.2")
    page.tab.fill("#max_length", "128")
    page.send("x")
    page.done()
    assert page.tab.locator(".markdown").inner_text() == "Hello!"
    assert page.tab.locator("details.thought").get_attribute("open") is None
    assert page.tab.locator(".thought-text").text_content() == "well"
    sampling = engine.generated[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_length) == (0.2, 0.7, 128)


@browsers
def test_options_close_by_themselves_and_stop_no_answer(served: Served, open_page: Open) -> None:
    engine = served.ready("Well", hold=True)
    page = open_page().ready()
    page.send("x")
    page.tab.wait_for_selector(".running .markdown")
    page.tab.click("#options")
    page.tab.wait_for_selector("#panel", state="visible")
    page.tab.keyboard.press("Escape")
    page.tab.wait_for_selector("#panel", state="hidden")
    assert not engine.cancelled
    page.tab.click("#options")
    page.tab.click("#messages")
    page.tab.wait_for_selector("#panel", state="hidden")
    page.tab.keyboard.press("Escape")
    page.tab.wait_for_selector("#send:visible")
    wait_for(lambda: engine.cancelled)


@browsers
def test_another_conversation_need_not_wait_for_an_answer(served: Served, open_page: Open) -> None:
    engine = served.ready("A long answer", hold=True)
    page = open_page().ready()
    page.send("first")
    page.tab.wait_for_selector(".running .markdown")
    engine.hold = False
    page.tab.click("#new")
    page.send("second")
    page.tab.locator(".user", has_text="second").wait_for()
    page.tab.locator(".choose", has_text="first").click()
    assert page.tab.locator(".running .markdown").inner_text() == "A long"
    page.click("Stop")
    page.tab.wait_for_selector("#send:visible")
    assert "Stopped" in page.tab.locator(".assistant .tools").inner_text()
    page.tab.locator(".choose", has_text="second").click()
    assert page.done() == "A long answer", "it came meanwhile"


@browsers
def test_an_answer_in_whose_middle_the_page_was_left_can_be_gone_on_with(
    served: Served, open_page: Open
) -> None:
    engine = served.ready("A long answer", hold=True)
    page = open_page().ready()
    page.send("x")
    page.tab.wait_for_selector(".running .markdown")
    assert '"state":"stopped"' in page.tab.locator("html").evaluate(
        "() => Object.values(localStorage).join()"
    )
    page.tab.reload()
    page.ready()
    assert page.tab.locator(".assistant .body").inner_text() == "A long"
    wait_for(lambda: engine.cancelled)
    engine.hold = False
    page.click("Go on")
    page.tab.locator(".assistant .note", has_text="tokens").wait_for()
    assert engine.generated[-1].continue_answer


@browsers
def test_an_answer_without_a_word_is_told(served: Served, open_page: Open) -> None:
    served.ready("")
    page = open_page().ready()
    page.send("x")
    page.tab.locator(".note.error", has_text="nothing").wait_for()


@browsers
def test_chinese_composition_sends_nothing_by_itself(served: Served, open_page: Open) -> None:
    page = open_page().ready()
    page.tab.click("#composer")
    ime = page.tab.context.new_cdp_session(page.tab)
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    for text in ("n", "ni", "ni'h", "ni'hao"):
        ime.send(
            "Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)}
        )
    ime.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **key})
    assert page.tab.input_value("#composer") == "ni'hao"
    ime.send("Input.insertText", {"text": "你好"})
    assert page.tab.input_value("#composer") == "你好"
    assert served.scripted.generated == []
    page.tab.press("#composer", "Shift+Enter")
    page.tab.keyboard.insert_text("世界")
    page.tab.press("#composer", "Enter")
    page.done()
    assert served.scripted.generated[-1].messages[-1].text == "你好\n世界"
    assert page.tab.input_value("#composer") == ""


@browsers
def test_a_model_can_do_nothing_on_the_page(served: Served, open_page: Open) -> None:
    served.ready(ATTACKS)
    page = open_page().ready()
    page.send(f"{ATTACKS}<b>me</b>")
    text = page.done()
    assert "<script>" in text, "it is shown as it was written"
    assert page.tab.title() == "glmtui"
    chat = page.tab.locator("#messages")
    for tag in (
        "script",
        "img",
        "iframe",
        "style",
        "form:not(.edit)",
        "input",
        "b",
        "math",
        "[onerror]",
        "[onload]",
    ):
        assert chat.locator(tag).count() == 0, tag
    links = [link.get_attribute("href") for link in chat.locator("a").all()]
    assert all(href is None or href.startswith("http://evil.example/") for href in links), (
        "a person may follow"
    )
    assert {link.get_attribute("rel") for link in chat.locator("a").all()} == {"noopener noreferrer nofollow"}
    assert all(url.startswith(served.url) for url in page.asked)
    assert page.complaints == []


@browsers
def test_growing_text_keeps_what_is_complete(served: Served, open_page: Open) -> None:
    blocks = [
        "一段。",
        "- a\n- b",
        "```python\nprint(1)\n```",
        "| a | b |\n| --- | ---: |\n| 1 | 2 |",
        "见https://a.cn/x，好",
    ]
    engine = served.ready("\n\n".join([*blocks, "x" * 200]), hold=True)
    page = open_page().ready()
    page.send("x")
    page.tab.wait_for_selector(".running .block")
    first = page.tab.locator(".running .block").first.element_handle()
    page.tab.evaluate("element => { element.dataset.same = 'yes'; }", first)
    engine.finish()
    page.done()
    assert page.tab.locator(".block").first.get_attribute("data-same") == "yes"
    assert page.tab.locator(".code pre").inner_text().strip() == "print(1)"
    assert page.tab.locator('td[align="right"]').inner_text() == "2"
    assert page.tab.locator(".markdown a").get_attribute("href") == "https://a.cn/x"


@browsers
def test_it_is_readable_on_a_phone_in_any_light(open_page: Open) -> None:
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "locale": "zh-CN"}
    page = open_page(color_scheme="dark", **phone).ready()

    def is_dark() -> bool:
        shade = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", shade)[:3])) < 384

    assert is_dark()
    page.tab.emulate_media(color_scheme="light")
    assert not is_dark()
    assert page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.tab.locator("html").get_attribute("lang") == "zh-CN"
    assert page.tab.get_attribute("#composer", "placeholder") == "输入消息"
    assert page.tab.locator("#sidebar").is_hidden()
    page.tab.click("#menu")
    for _light in range(2):  # light, then dark
        page.tab.click("#theme")
    assert is_dark()
    page.tab.click("#language")
    assert page.tab.locator("html").get_attribute("lang") == "en"


@browsers
def test_a_key_is_taken_from_the_address_or_asked_for(serve: MakeServer, open_page: Open) -> None:
    served = serve(keys=("the-key",))
    page = open_page(f"{served.url}/#key=the-key").ready()
    assert page.tab.url == f"{served.url}/"
    assert not any("the-key" in url for url in page.asked[1:])
    other = open_page(served.url)
    other.tab.fill("#key", "the-key")
    other.tab.press("#key", "Enter")
    other.ready()
    assert other.tab.context.cookies() == []


@browsers
def test_what_goes_wrong_is_said_and_what_came_is_kept(served: Served, open_page: Open) -> None:
    engine = served.ready("Hello there", hold=True)
    page = open_page().ready()
    engine.fail = "The device is gone."
    page.send("x")
    page.tab.wait_for_selector(".running .markdown")
    engine.finish()
    page.tab.locator(".note.error", has_text="The device is gone.").wait_for()
    assert page.tab.locator(".markdown").inner_text() == "Hello"


@browsers
@pytest.mark.parametrize("text", [">" * 3000 + " a", "> " * 3000 + "a"])
def test_text_nested_too_deep_for_markdown_is_shown_as_it_is(
    served: Served, open_page: Open, text: str
) -> None:
    served.ready(text, "**Short**")
    page = open_page().ready()
    page.send("x")
    assert page.done().startswith(text[:100])
    page.send("y")
    assert page.done(2) == "Short"
    page.tab.reload()
    page.ready()
    assert page.done(2) == "Short", "it opens again"
    assert page.complaints == []


HOSTILE = "\x1b]52;c;AA==\x07\u202egnp.exe\u2066\x9b31m\0 <b onclick=x>&lt;"


@browsers
def test_names_and_titles_are_text_and_nothing_hidden_is_in_them(
    serve: MakeServer, open_page: Open, tmp_path: Path
) -> None:
    library = Library(tmp_path / "conversations", cache=tmp_path / "cache")
    kept = library.create()
    kept.append("user", HOSTILE)
    kept.append("assistant", f"<think>\n{HOSTILE}\n</think>\n\n{HOSTILE}\n\n```{HOSTILE}\n{HOSTILE}\n```")
    kept.rename(HOSTILE)
    served = serve(library=PageLibrary(library), keys=("k",))
    served.ready("", hold=True).fail = HOSTILE
    served.info = replace(NANO, name=HOSTILE)
    page = open_page(f"{served.url}/#key=k").ready()
    page.tab.locator(".choose").click()
    page.tab.locator(".thought-text").wait_for(state="attached")
    page.send("x")
    page.tab.wait_for_selector("body[data-state=answering]")
    served.scripted.finish()
    page.tab.locator(".note.error").wait_for()
    page.tab.evaluate("navigator.clipboard.writeText = (text) => { globalThis.copied = text; }")
    page.tab.locator('.assistant [aria-label="Copy"]').first.click()
    shown = [page.tab.evaluate("document.body.textContent"), page.tab.evaluate("copied")]
    shown += [element.get_attribute("title") for element in page.tab.locator("[title]").all()]
    assert not re.findall(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "".join(shown))
    assert page.tab.locator("#messages b, [onclick]").count() == 0
    assert page.complaints == []


DAMAGED = """
const chats = {
  none: "{", one: "null", two: '{"messages": [null, 3, {"role": "user", "content": 5}]}',
  three: JSON.stringify({ updated: "x", messages: [
    { id: "<b>", role: "user", content: "kept" },
    { role: "assistant", content: "<img src=x onerror=alert(1)>", state: "toString", error: 3, thought: {} },
    { role: "assistant", content: "> ".repeat(20000) + "deep" },
  ] }),
};
for (const [name, text] of Object.entries(chats)) localStorage.setItem(`glmtui.chat.${name}`, text);
localStorage.setItem("glmtui.options", '{"temperature": "hot", "top_p": 0.25, "max_length": null}');
localStorage.setItem("glmtui.theme", "toString");
localStorage.setItem("glmtui.language", "constructor");
sessionStorage.setItem("glmtui.open", "three");
"""
FORBIDDEN = """
for (const name of ["localStorage", "sessionStorage"]) {
  Object.defineProperty(globalThis, name, { get() { throw new DOMException("no", "SecurityError"); } });
}
"""
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"


@browsers
def test_what_the_browser_kept_may_be_damaged(served: Served, open_page: Open) -> None:
    engine = served.ready("Fine")
    page = open_page().ready()
    page.tab.evaluate(f"() => {{ {DAMAGED} }}")
    page.tab.goto(f"{served.url}/#key=%")
    page.tab.reload()
    page.ready()
    assert page.tab.locator(".choose").all_inner_texts() == ["New chat", "kept"]
    assert page.tab.locator(".assistant .body").all_inner_texts()[0] == "<img src=x onerror=alert(1)>"
    assert page.tab.locator(".assistant .body").last.inner_text().endswith("deep")
    page.send("x")
    assert page.done(3) == "Fine"
    assert engine.generated[-1].sampling.top_p == 0.25
    assert page.complaints == []


@browsers
@pytest.mark.parametrize("script", [FORBIDDEN, FULL])
def test_a_browser_that_keeps_nothing_can_be_used(served: Served, open_page: Open, script: str) -> None:
    served.ready("One", "Two")
    page = open_page(script=script).ready()
    page.tab.click("#theme")
    page.tab.click("#options")
    page.tab.fill("#temperature", "0.2")
    page.send("first")
    assert page.done() == "One"
    page.tab.click("#new")
    page.send("second")
    assert page.done() == "Two"
    page.tab.locator(".choose", has_text="first").click()
    assert page.done() == "One"
    assert served.scripted.generated[-1].sampling.temperature == 0.2
    assert page.complaints == []


# --- without a browser ---


def test_the_page_asks_nobody_else(served: Served) -> None:
    response = served.client.get("/")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|javascript:", response.text)
    for path in re.findall(r'(?:src|href)="(/[^"#]*)"', response.text):
        assert served.client.get(path).status_code == 200
    own = [path for path in web.FOLDER.glob("*") if path.suffix in (".js", ".css", ".html")]
    assert not [path for path in own if re.search(r"https?://(?!www\.w3\.org)[a-z]", path.read_text("utf-8"))]


def test_files_are_sent_once(served: Served) -> None:
    for path in web.files():
        if path == "/terminal":
            continue  # see test_terminals
        response = served.client.get(path)
        assert response.status_code == 200
        again = served.client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert served.client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def test_both_languages_say_the_same_things() -> None:
    words = (web.FOLDER / "words.js").read_text("utf-8")
    english, chinese = (re.findall(r"^    (\w+):", part, re.M) for part in words.split("  zh: {"))
    assert english == chinese
    used = {
        name
        for path in web.FOLDER.glob("*.js")
        for name in re.findall(r'\bt\("(\w+)"', path.read_text("utf-8"))
    }
    page = (web.FOLDER / "index.html").read_text("utf-8")
    used |= set(re.findall(r'data-t(?:-\w+)?="(\w+)"', page))
    assert used <= set(english)


def test_libraries_of_others_are_there_with_their_licences() -> None:
    vendor = web.FOLDER / "vendor"
    told = (vendor / "README.txt").read_text("utf-8")
    for name, sign in (("marked", "MIT"), ("dompurify", "Apache"), ("xterm", "Permission is hereby granted")):
        assert sign in (vendor / f"LICENSE.{name}.txt").read_text("utf-8")
    versions = re.findall(r"^(marked|DOMPurify) (\d+\.\d+\.\d+)", told, re.M)
    sources = [path.read_text("utf-8")[:400] for path in vendor.glob("*.js")]
    assert all(any(f"{version}" in source for source in sources) for _name, version in versions)


@browsers
def test_conversations_lie_beside_the_apps_where_that_is_allowed(
    serve: MakeServer, open_page: Open, tmp_path: Path
) -> None:
    library = Library(tmp_path / "conversations", cache=tmp_path / "cache")
    app = library.create()
    app.append("user", "From the app")
    app.append("assistant", "<think>\nwell\n</think>\n\nHello")
    served = serve(library=PageLibrary(library), keys=("k",))
    engine = served.ready("One", "Two")
    page = open_page(f"{served.url}/#key=k").ready()
    page.tab.locator(".choose", has_text="From the app").click()
    assert page.done().endswith("Hello")
    assert page.tab.locator(".thought-text").count() == 1
    page.send("From the page")
    assert page.done(2) == "One"
    assert [m.text for m in engine.generated[-1].messages] == ["From the app", "Hello", "From the page"]
    wait_for(lambda: (app.refresh(), app.branch()[-1].text)[1] == "One")
    assert [m.text for m in app.branch()] == ["From the app", "Hello", "From the page", "One"]

    page.click("Answer again")
    page.tab.locator(".assistant", has_text="Two").wait_for()
    wait_for(lambda: (app.refresh(), app.branch()[-1].text)[1] == "Two")
    assert [m.text for m in app.siblings(app.branch()[-1].id)] == ["One", "Two"], "nothing is lost"

    app.append("user", "Once more from the app")
    page.tab.evaluate("dispatchEvent(new Event('focus'))")
    page.tab.locator(".user", has_text="Once more").wait_for()
    page.tab.reload()
    page.ready()
    page.tab.locator(".user", has_text="Once more").wait_for()
    kept = page.tab.evaluate("Object.keys(localStorage)")
    assert not [name for name in kept if name.startswith("glmtui.chat.")]

    page.tab.click("#new")
    page.send("New here")
    wait_for(lambda: [each.title for each in library.list()][:1] == ["New here"])
    page.tab.locator(".item", has_text="From the app").locator('[aria-label="Delete"]').click()
    wait_for(lambda: [each.title for each in library.trashed()] == ["From the app"])
    assert page.tab.locator(".choose").all_inner_texts() == ["New here"]
    assert page.complaints == []


@browsers
def test_what_is_deleted_while_it_grows_does_not_come_back(served: Served, open_page: Open) -> None:
    served.ready("A long answer", hold=True)
    page = open_page().ready()
    page.send("Say it")
    page.tab.wait_for_selector(".running .markdown")
    page.tab.locator('.item [aria-label="Delete"]').click()
    page.tab.wait_for_selector("body[data-state=ready]")
    page.tab.reload()
    page.ready()
    assert page.tab.locator(".choose").count() == 0
