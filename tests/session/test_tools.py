"""A model that calls tools finds its sources by itself; every call is seen, bounded, and asked about."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from picture_files import write
from scripted_engine import NANO
from web_server import serving

from glmtui.protocol.messages import Image, Source, Text, ToolCall, ToolResult
from glmtui.retrieval import collections, tools
from glmtui.retrieval.update import update
from glmtui.retrieval.web import provider as web
from glmtui.session import events as told
from glmtui.session.research import QUOTED
from glmtui.session.toolbox import MOST_CALLS

from .conftest import Chat, ready

Make = Callable[..., Chat]


def call(name: str, **arguments: object) -> str:
    """An answer that is a call, as GLM-4 writes it."""
    return f"{name}\n{json.dumps(arguments, ensure_ascii=False)}"


async def with_documents(chat: Chat, folder: Path) -> Chat:
    (folder / "手册.md").write_text("# 休假\n\n员工每年有十五天年假，须提前三天申请。\n", "utf-8")
    (folder / "车.md").write_text("# 用车\n\n公务车须在系统中预约。\n", "utf-8")
    update(collections.add("handbook", folder))
    chat.engine.calls_tools = True
    await ready(chat)
    await chat.run("docs", "use handbook")
    return chat


def results(messages: Sequence[object]) -> list[str]:
    return [part.text for m in messages for part in m.parts if isinstance(part, ToolResult)]  # type: ignore[attr-defined]


async def test_the_model_searches_and_cites(make: Make, tmp_path: Path) -> None:
    chat = await with_documents(make(call("search_documents", query="年假"), "每年十五天年假[1]。"), tmp_path)
    await chat.enter("我能休息几天？")
    await chat.idle()
    first, second = chat.engine.generated
    assert [tool.name for tool in first.tools] == ["search_documents"]
    assert "十五天" not in first.messages[-1].text  # nothing was looked for before
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
    assert results(second.messages)[0].startswith(f"{QUOTED}\n\n[1] ")
    assert "十五天年假" in results(second.messages)[0]
    answer = chat.saved().branch()[-1]
    assert answer.text == "每年十五天年假[1]。"
    assert [type(part) for part in answer.parts[1:4]] == [ToolCall, ToolResult, Source]
    assert answer.state == "done"
    shown = [event for event in chat.told if isinstance(event, told.AnswerCalled)]
    assert len(shown) == 2  # the call, and what came of it


async def test_later_questions_are_asked_without_what_was_found(make: Make, tmp_path: Path) -> None:
    answers = (call("search_documents", query="年假"), "十五天[1]。", "是的。")
    chat = await with_documents(make(*answers), tmp_path)
    await chat.enter("年假几天？")
    await chat.idle()
    await chat.enter("真的吗？")
    await chat.idle()
    last = chat.engine.generated[-1].messages
    assert [(message.role, message.text) for message in last] == [
        ("user", "年假几天？"), ("assistant", "十五天。"), ("user", "真的吗？"),
    ]  # fmt: skip


async def test_sources_of_several_calls_are_numbered_through_and_each_once(
    make: Make, tmp_path: Path
) -> None:
    chat = await with_documents(
        make(
            call("search_documents", query="年假"),
            call("search_documents", query="公务车 预约"),
            call("search_documents", query="年假"),
            "年假十五天[1]，公务车要预约[2]。",
        ),
        tmp_path,
    )
    await chat.enter("年假和公务车？")
    await chat.idle()
    answer = chat.saved().branch()[-1]
    assert [part.number for part in answer.parts if isinstance(part, Source)] == [1, 2]
    assert "\n\n[1] " in results(chat.engine.generated[-1].messages)[2]
    assert answer.text == "年假十五天[1]，公务车要预约[2]。"


async def test_calls_are_bounded(make: Make, tmp_path: Path) -> None:
    endless = [call("search_documents", query=f"年假 {n}") for n in range(MOST_CALLS)]
    chat = await with_documents(make(*endless, "好了。"), tmp_path)
    await chat.enter("年假？")
    await chat.idle()
    assert [len(request.tools) for request in chat.engine.generated] == [1] * MOST_CALLS + [0]
    assert chat.saved().branch()[-1].text == "好了。"


async def test_a_model_that_calls_without_end_is_ended(make: Make, tmp_path: Path) -> None:
    chat = await with_documents(make(call("search_documents", query="年假")), tmp_path)
    chat.engine.calls_unasked = ("search_documents",)
    await chat.enter("年假？")
    await chat.idle()
    assert [len(request.tools) for request in chat.engine.generated] == [1] * MOST_CALLS + [0]
    assert chat.saved().branch()[-1].state == "failed"  # there is nothing to read
    assert len(chat.notices("error")) == 1


async def test_a_text_with_a_call_too_many_is_an_answer(make: Make) -> None:
    chat = make("Hello.")
    chat.engine.calls_besides = ToolCall("1", "lookup", "{}")
    await ready(chat)
    await chat.enter("hi")
    await chat.idle()
    answer = chat.saved().branch()[-1]
    assert (answer.text, answer.state) == ("Hello.", "done")
    assert len(chat.notices("warning")) == 1
    assert not chat.notices("error")


@pytest.mark.parametrize("wrong", [{}, {"query": 7}, {"query": " "}, {"query": "x" * 2000}])
async def test_a_wrong_call_is_told_to_the_model(
    make: Make, tmp_path: Path, wrong: dict[str, object]
) -> None:
    chat = await with_documents(make(call("search_documents", **wrong), "不知道[1]。"), tmp_path)
    await chat.enter("年假？")
    await chat.idle()
    assert "query" in results(chat.engine.generated[-1].messages)[0]
    assert chat.saved().branch()[-1].state == "done"
    assert chat.saved().branch()[-1].text == "不知道。", "the number points to nothing"


async def test_nothing_found_is_told_to_the_model(make: Make, tmp_path: Path) -> None:
    answers = (call("search_documents", query="zebra"), "Zebras have stripes [1].")
    chat = await with_documents(make(*answers), tmp_path)
    await chat.enter("zebra?")
    await chat.idle()
    assert results(chat.engine.generated[-1].messages) == ["Nothing was found."]
    assert "[1]" not in chat.saved().branch()[-1].text, "a number that points to nothing"


async def test_a_server_that_takes_no_tools_gets_the_sources_before_the_question(
    make: Make, tmp_path: Path
) -> None:
    chat = await with_documents(make("十五天[1]。"), tmp_path)
    chat.engine.takes_tools = False
    await chat.enter("年假几天？")
    await chat.idle()
    _first, second = chat.engine.generated
    assert not second.tools
    assert "十五天年假" in second.messages[-1].text
    assert chat.saved().branch()[-1].state == "done"
    assert chat.notices("error") == []


@pytest.mark.parametrize("kind", ["busy", ""])
@pytest.mark.usefixtures("plain_pages")
async def test_a_search_is_asked_once_whatever_the_server_does_with_tools(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(web.WebProvider.__init__, "__defaults__", (lambda _address: True,))
    with serving() as server:
        chat = await with_documents(make("三十八公斤[1]。"), tmp_path)
        chat.engine.takes_tools = False
        chat.settings.override({"web.provider": "searxng", "web.url": f"{server.address}/{kind}"})
        chat.fake_ui.answers = ["大熊猫 竹子"]
        await chat.enter("/web 大熊猫每天吃多少竹子？")
        await chat.idle(20)
        assert len([path for path, _headers in server.requests if "search" in path]) == 1
        answer = chat.saved().branch()[-1]
        assert answer.state == ("failed" if kind else "done")
        assert len(chat.notices("error")) == bool(kind)


async def test_tools_are_on_or_off_per_conversation(make: Make, tmp_path: Path) -> None:
    chat = await with_documents(make("十五天[1]。"), tmp_path)
    await chat.enter("/set here docs.tools off")
    await chat.enter("年假几天？")
    await chat.idle()
    assert not chat.engine.generated[0].tools


async def test_tools_can_be_switched_off(make: Make, tmp_path: Path) -> None:
    chat = await with_documents(make("十五天[1]。"), tmp_path)
    await chat.enter("/set docs.tools off")
    await chat.enter("年假几天？")
    await chat.idle()
    (request,) = chat.engine.generated
    assert not request.tools
    assert "十五天年假" in request.messages[-1].text


async def test_a_stop_while_a_tool_is_at_work_leaves_a_stopped_answer(make: Make, tmp_path: Path) -> None:
    chat = await with_documents(make("我找找。", "再见"), tmp_path)
    chat.engine.hold = True
    await chat.enter("年假？")
    await chat.until(lambda: chat.engine.answering)
    chat.engine.answers = [call("search_documents", query="年假")]
    assert chat.answer is not None
    chat.answer.calls.append(ToolCall("1", "search_documents", '{"query": "年假"}'))
    chat.engine.finish()
    await chat.until(lambda: chat.answer is not None and chat.answer.gathering is not None)
    assert chat.stop()
    await chat.idle()
    answer = chat.saved().branch()[-1]
    assert answer.state == "stopped"
    assert not any(isinstance(part, ToolCall) for part in answer.parts)


@pytest.mark.usefixtures("plain_pages")
async def test_the_web_is_searched_only_when_the_person_lets_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (tools.SearchWeb, tools.OpenPage):
        monkeypatch.setattr(kind.__init__, "__defaults__", (lambda _address: True,))
    with serving() as server:
        found = f"{server.address}/utf-8"
        elsewhere = f"{server.address}/secret?text=what-was-said"
        chat = await ready(
            make(
                call("search_web", query="大熊猫 竹子"),
                call("search_web", query="大熊猫 竹子"),
                call("open_page", url=found),
                call("open_page", url=elsewhere),
                "三十八公斤[1]。",
            )
        )
        chat.engine.calls_tools = True
        chat.settings.override({"web.provider": "searxng", "web.url": server.address})
        chat.fake_ui.choices = [1, 0, None]  # the page that was found is opened unasked
        await chat.enter("大熊猫每天吃多少竹子？")
        await chat.idle(20)
        refused, searched, opened, kept_back = results(chat.engine.generated[-1].messages)
        assert refused == kept_back == "The user did not allow this."
        assert "[1] " in searched
        assert "\n\n[" in opened
        assert not any("secret" in str(request) for request in server.requests)
        assert chat.fake_ui.choices == []


# --- a model that sees and calls ---


async def test_a_picture_stands_in_every_request_of_an_answer_with_calls(make: Make, tmp_path: Path) -> None:
    """What is sent, stored and sent again: picture before words, words before the call, the call once."""
    chat = make(call("search_documents", query="年假"), "图中是年假表[1]。", "是的。")
    chat.engine.info = replace(NANO, sees_images=True)
    chat = await with_documents(chat, tmp_path)
    picture = write(tmp_path / "cat.png")
    await chat.enter(f"这张表说什么？ @{picture}")
    await chat.idle()
    first, second = chat.engine.generated
    for request in (first, second):
        image, text = request.messages[0].parts
        assert isinstance(image, Image)
        assert text == Text("这张表说什么？")
        assert request.images[image.sha256] == picture.read_bytes()
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
    question, answer = chat.saved().branch()[-2:]
    assert [type(part) for part in question.parts] == [Text, Image]
    assert [type(part) for part in answer.parts[1:4]] == [ToolCall, ToolResult, Source]
    await chat.enter("真的吗？")
    await chat.idle()
    third = chat.engine.generated[-1]
    assert [message.role for message in third.messages] == ["user", "assistant", "user"]
    assert isinstance(third.messages[0].parts[0], Image)
    assert third.images


async def test_sources_that_are_looked_up_first_leave_the_picture_in_front(
    make: Make, tmp_path: Path
) -> None:
    chat = make("图中是年假表[1]。")
    chat.engine.info = replace(NANO, sees_images=True)
    chat = await with_documents(chat, tmp_path)
    chat.engine.calls_tools = False
    await chat.enter(f"年假几天？ @{write(tmp_path / 'cat.png')}")
    await chat.idle()
    image, text = chat.engine.generated[-1].messages[-1].parts
    assert isinstance(image, Image)
    assert isinstance(text, Text)
    assert "[1]" in text.text
