"""What was trained, on and off per conversation, and both answers side by side."""

from __future__ import annotations

from collections.abc import Callable

from session.conftest import Chat, ready

from glmtui.protocol.requests import Generate


async def tuned(make: Callable[..., Chat], *answers: str, hold: bool = False) -> Chat:
    chat = await ready(make(*answers, hold=hold))
    await chat.enter("/lora /some/where/facts")
    await chat.idle()
    return chat


def asked(chat: Chat) -> list[Generate]:
    return chat.engine.generated


async def test_a_lora_is_a_setting_of_the_model_and_none_takes_it_away(make: Callable[..., Chat]) -> None:
    chat = await tuned(make)
    assert chat.settings["model.lora"] == "/some/where/facts"
    assert chat.adapted == "facts"
    await chat.enter("/ptuning /other/prefix")
    await chat.idle()
    assert chat.adapted == "prefix + facts"
    await chat.enter("/lora none")
    await chat.enter("/ptuning none")
    await chat.idle()
    assert chat.settings["model.lora"] is None
    assert not chat.adapted


async def test_a_conversation_goes_without_it_and_others_do_not(make: Callable[..., Chat]) -> None:
    chat = await tuned(make)
    loads = len(chat.engine.loads)
    await chat.enter("first")
    await chat.idle()
    await chat.enter("/lora off")
    await chat.enter("second")
    await chat.idle()
    await chat.enter("/new")
    await chat.enter("third")
    await chat.idle()
    assert [request.adapters for request in asked(chat)] == [True, False, True]
    assert len(chat.engine.loads) == loads, "nothing is loaded for it"
    assert chat.conversation.branch()[-1].meta["adapters"] == "facts"


async def test_what_is_put_on_is_used_also_where_another_was_off(make: Callable[..., Chat]) -> None:
    chat = await tuned(make)
    for line in ("hello", "/lora off", "/lora none", "off still", "/lora /another/folder", "again"):
        await chat.enter(line)
        await chat.idle()
    assert [request.adapters for request in asked(chat)] == [True, False, True]


async def test_on_again(make: Callable[..., Chat]) -> None:
    chat = await tuned(make)
    for line in ("hello", "/ptuning off", "/ptuning on", "again"):
        await chat.enter(line)
        await chat.idle()
    assert asked(chat)[-1].adapters
    await chat.enter("/lora none")
    await chat.enter("/lora on")
    assert "Nothing is on top of the model" in chat.fake_ui.said[-1]


async def test_the_answer_that_is_there_is_compared_with_one_without(make: Callable[..., Chat]) -> None:
    chat = await tuned(make, "tuned answer", "plain answer")
    await chat.enter("question?")
    await chat.idle()
    before = chat.texts()
    await chat.enter("/compare")
    assert chat.fake_ui.shown[-1] == ("compare", "")
    comparison = chat.comparison
    assert comparison is not None
    await chat.until(lambda: comparison.ended)
    assert comparison.question == "question?"
    assert [(side.adapters, side.text) for side in comparison.sides] == [
        (True, "tuned answer"),
        (False, "plain answer"),
    ]
    request = asked(chat)[-1]
    assert not request.adapters
    assert [message.text for message in request.messages] == ["question?"]
    assert chat.texts() == before, "nothing of it is in the conversation"


async def test_another_question_is_answered_twice_with_the_same_seed(make: Callable[..., Chat]) -> None:
    chat = await tuned(make, "one", "two", "three")
    await chat.enter("hello")
    await chat.idle()
    await chat.enter("/compare and this?")
    comparison = chat.comparison
    assert comparison is not None
    await chat.until(lambda: comparison.ended)
    first, second = asked(chat)[-2:]
    assert (first.adapters, second.adapters) == (True, False)
    assert first.messages == second.messages
    assert [message.text for message in first.messages] == ["hello", "one", "and this?"]
    assert first.sampling == second.sampling
    assert first.sampling.seed is not None
    assert [side.text for side in comparison.sides] == ["two", "three"]


async def test_an_answer_without_is_compared_with_one_with(make: Callable[..., Chat]) -> None:
    chat = await tuned(make, "plain", "tuned")
    await chat.enter("/lora off")
    await chat.enter("question?")
    await chat.idle()
    await chat.enter("/compare")
    assert chat.comparison is not None
    await chat.until(lambda: chat.comparison and chat.comparison.ended)
    assert [side.text for side in chat.comparison.sides] == ["tuned", "plain"]


async def test_what_cannot_be_compared(make: Callable[..., Chat]) -> None:
    chat = await ready(make())
    await chat.enter("/compare")
    assert "Nothing is on top of the model" in chat.notices("error")[-1]
    await chat.enter("/lora /some/facts")
    await chat.idle()
    await chat.enter("/compare")
    assert "There is no question" in chat.notices("error")[-1]


async def test_a_comparison_ends_when_it_is_cancelled_and_says_what_failed(make: Callable[..., Chat]) -> None:
    chat = await tuned(make, hold=True)
    await chat.enter("/compare why?")
    comparison = chat.comparison
    assert comparison is not None
    chat.engine.fail = "No room."
    chat.engine.finish()
    await chat.until(lambda: comparison.sides[0].ended)
    assert str(comparison.sides[0].problem) == "No room."
    assert not comparison.ended
    comparison.cancel()
    await chat.until(lambda: comparison.ended)
