"""What is being written is read by the engine whenever the person pauses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from picture_files import png
from session.conftest import Chat, ready

from glmtui.protocol.engine import Stream
from glmtui.protocol.events import PromptProgress
from glmtui.protocol.requests import Generate, Prefill
from glmtui.session.attached_file import AttachedFile

Make = Callable[..., Chat]


@pytest.fixture
async def chat(make: Make) -> Chat:
    """Its engine does not get to the end of what it reads ahead."""
    made = await ready(make("Yes.", "Yes, again."))
    made.engine.hold_prefill = True
    return made


def ahead(chat: Chat) -> list[tuple[Prefill, Stream]]:
    pairs = zip(chat.engine.requests, chat.engine.streams, strict=True)
    return [(request, stream) for request, stream in pairs if isinstance(request, Prefill)]


async def test_the_draft_is_read_with_the_conversation_before_it(chat: Chat) -> None:
    await chat.enter("first")
    await chat.idle()
    chat.draft_changed("second")
    (request, stream), *more = ahead(chat)
    assert not more
    assert [message.text for message in request.messages] == ["first", "Yes.", "second"]
    assert not stream.token.cancelled
    chat.measure()  # which asks the engine for something else
    assert [each for each, _stream in ahead(chat)] == [request, request]


async def test_what_is_sent_is_the_prompt_that_was_read(chat: Chat) -> None:
    chat.draft_changed("a question")
    request, stream = ahead(chat)[0]
    await chat.enter("a question")
    assert not stream.token.cancelled
    generate = chat.engine.generated[-1]
    assert request.serves(generate)
    assert not request.serves(replace(generate, continue_answer=True))
    await chat.idle()
    assert chat.texts() == [("user", "a question"), ("assistant", "Yes.")]


async def test_typing_on_and_another_draft_end_it(chat: Chat) -> None:
    chat.draft_changed("a question")
    first = ahead(chat)[0][1]
    chat.draft_changes("a question")  # it was only looked at
    chat.draft_changes("")  # as it is when it is sent
    assert not first.token.cancelled
    chat.draft_changes("a question i")
    assert first.token.cancelled
    chat.draft_changed("a question in full")
    second = ahead(chat)[1][1]
    chat.draft_changed("")
    assert second.token.cancelled
    assert len(ahead(chat)) == 2


async def test_how_far_it_is_shows_while_the_answer_waits_for_it(chat: Chat) -> None:
    chat.engine.hold_prefill_for_good = True
    chat.draft_changed("a question")
    stream = ahead(chat)[0][1]
    await chat.enter("a question")
    stream.put(PromptProgress(0.4))
    await chat.until(lambda: chat.state.fraction == 0.4)
    assert chat.state.activity == "reading"
    chat.stop()
    assert stream.token.cancelled
    await chat.idle()


@pytest.mark.parametrize(
    ("why", "draft"),
    [
        ("switched off", "a question"),
        ("a page", "see @http://example.org"),
        ("a picture", "what is in @cat.png?"),
        ("a command", "/quant 4"),
        ("tools", "a question"),
    ],
)
async def test_what_will_not_be_the_prompt_is_not_read(chat: Chat, why: str, draft: str) -> None:
    if why == "switched off":
        await chat.enter("/set ui.read_ahead off")
    if why == "tools":
        chat.engine.calls_tools = True
        chat.settings.override({"web.provider": "searxng", "web.url": "http://127.0.0.1:1"})
    chat.draft_changed(draft)
    assert ahead(chat) == []


async def test_neither_files_nor_pictures_are_read_ahead(make: Make) -> None:
    chat = make("A cat.", "A dog.")
    chat.engine.info = replace(chat.engine.info, sees_images=True)
    await ready(chat)
    chat.draft_changed("a question")
    stream = ahead(chat)[0][1]
    chat.draft_changed("a question", [AttachedFile("a.txt", "/a.txt", "notes")])
    assert len(ahead(chat)) == 1
    chat.draft_changed("another question")
    assert len(ahead(chat)) == 2
    image = chat.conversation.attachments.image(png(), "image/png", "cat.png")
    chat.written.add(image, named=False)
    chat.draft_changed("what is that?")
    assert len(ahead(chat)) == 2
    await chat.enter("what is that?")
    await chat.idle()
    chat.draft_changed("and then?")  # behind a picture
    assert len(ahead(chat)) == 2
    assert stream.token.cancelled or stream.ended


async def test_without_what_was_trained_it_is_another_prompt(chat: Chat) -> None:
    chat.draft_changed("a question")
    request = ahead(chat)[0][0]
    assert request.adapters
    assert not replace(request, adapters=False).serves(Generate(request.messages, request.sampling))
    assert not request.serves(Generate(request.messages, request.sampling, images={"0": b""}))


async def test_a_changed_message_is_not_read(chat: Chat) -> None:
    await chat.enter("first")
    await chat.idle()
    chat.edit(chat.conversation.branch()[0].id)
    chat.draft_changed("first, but better")
    assert ahead(chat) == []


async def test_a_server_reads_by_itself(make: Make) -> None:
    chat = make()
    chat.engine.info = replace(chat.engine.info, server="example.org")
    await ready(chat)
    chat.draft_changed("a question")
    assert ahead(chat) == []
    assert not [request for request in chat.engine.requests if isinstance(request, Generate)]
