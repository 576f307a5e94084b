from pathlib import Path

import pytest
from golden_data import TOKENIZERS, golden_json, needs_published_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from glmtui.errors import UserError
from glmtui.hub.model_dir import Family
from glmtui.models.chat_formats.formats import (
    CachedConversation,
    ChatFormat,
    Dialogue,
    Rounds,
    SpacedRounds,
    chat_format,
)
from glmtui.models.tokenizers.chatglm import ChatGLM2Tokenizer, ChatGLMTokenizer
from glmtui.protocol.messages import ChatMessage, Text, ToolCall

FAMILIES: tuple[Family, ...] = ("chatglm", "chatglm2", "chatglm3", "codegeex2")


@pytest.fixture(scope="session")
def formats(
    small_pieces: bytes, small_bpe: bytes, tmp_path_factory: pytest.TempPathFactory
) -> dict[Family, ChatFormat]:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "ice_text.model").write_bytes(small_pieces)
    (folder / "tokenizer.model").write_bytes(small_bpe)
    others = {f: chat_format(ChatGLM2Tokenizer(folder / "tokenizer.model", f)) for f in FAMILIES[1:]}
    return {"chatglm": chat_format(ChatGLMTokenizer(folder / "ice_text.model")), **others}


def talk(*texts: str) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage.of("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


@pytest.mark.parametrize(("family", "build"), [("chatglm", Rounds), ("chatglm2", SpacedRounds)])
def test_golden_prompts(family: str, build: type[Rounds | SpacedRounds]):
    for case in golden_json("chat_text.json")["build_prompt"][family]:
        turns = [text for question_and_answer in case["history"] for text in question_and_answer]
        assert build.build_prompt(Dialogue.of(talk(*turns, case["query"]))) == case["prompt"]


@needs_published_tokenizers
def test_golden_role_messages():
    tokenizer = ChatGLM2Tokenizer(TOKENIZERS / "chatglm2-6b" / "tokenizer.model", "chatglm3")
    roles = chat_format(tokenizer)
    for case in golden_json("tokenization.json")["v3"]["public"]:
        turns = [ChatMessage.of(message["role"], message["content"]) for message in case["messages"]]
        assert roles.write(Dialogue.of(turns)) == case["ids"]


@needs_published_tokenizers
def test_the_next_round_goes_on_where_the_whole_prompt_would():
    """The published 30910 rule: the space before a text is dropped where the text is not the start."""
    tokenizer = ChatGLM2Tokenizer(TOKENIZERS / "chatglm2-6b" / "tokenizer.model", "chatglm2")
    rounds = chat_format(tokenizer)
    asked = rounds.write(Dialogue.of(talk("你好")))
    answered = rounds.write(Dialogue.of(talk("你好", "你好👋！", "晚上睡不着应该怎么办")))
    added = rounds.follow(1, talk("晚上睡不着应该怎么办"))
    assert added is not None
    assert added[0] != 30910
    assert answered[: len(asked)] == asked
    assert answered[-len(added) :] == added


def test_encode_chat_is_the_prompt(formats: dict[Family, ChatFormat]):
    for each in formats.values():
        assert each.encode_chat("q2", [("q1", "a1")]) == each.write(Dialogue.of(talk("q1", "a1", "q2")))


def test_stop_ids(formats: dict[Family, ChatFormat]):
    assert [len(formats[family].stop_ids) for family in FAMILIES] == [1, 1, 3, 1]


def test_only_chatglm3_takes_system_messages(formats: dict[Family, ChatFormat]):
    assert [formats[family].supports_system for family in FAMILIES] == [False, False, True, False]
    assert [formats[family].keeps_cache for family in FAMILIES] == [False, True, True, True]
    turns = (ChatMessage.of("system", "Be brief."), *talk("hi"))
    assert Rounds.build_prompt(Dialogue.of(turns)) == "Be brief.\nhi"


def test_a_question_without_an_answer_is_asked_along_with_the_next():
    turns = [ChatMessage.of("user", "one"), ChatMessage.of("user", "two")]
    assert Rounds.build_prompt(Dialogue.of(turns)) == "one\ntwo"


def test_an_unfinished_answer_is_gone_on_with(formats: dict[Family, ChatFormat]):
    for each in formats.values():
        asked, partly = each.write(Dialogue.of(talk("q"))), each.write(Dialogue.of(talk("q", "an")))
        assert len(partly) > len(asked)
        assert partly[: len(asked)] == asked or each is formats["codegeex2"]


def test_completion_forgets_earlier_rounds(formats: dict[Family, ChatFormat]):
    each = formats["codegeex2"]
    assert each.write(Dialogue.of(talk("a", "b", "# c"))) == each.write(Dialogue.of(talk("# c")))


def test_completion_keeps_the_indentation_that_others_strip(
    formats: dict[Family, ChatFormat], small_bpe: bytes
):
    space = SentencePieceProcessor(model_proto=small_bpe).PieceToId("▁")
    for family, expected in (("codegeex2", "  "), ("chatglm2", "")):
        each = formats[family]
        decoder, response = each.stream_tokens(), each.stream_response()
        ids = [space, space, *each.encode_chat("x")[-1:]]
        text = "".join(response.push(decoder.push(token)) for token in ids) + response.finish()
        assert text == expected + text.strip()


# --- leaving out what does not fit ---


@given(
    texts=st.lists(st.text("ab 你好，\n", min_size=1, max_size=30), min_size=1, max_size=9).filter(
        lambda t: len(t) % 2
    ),
    limit=st.integers(60, 400),
    family=st.sampled_from(FAMILIES[:3]),
)
@settings(max_examples=150, deadline=None)
def test_as_many_rounds_as_fit_are_kept(
    formats: dict[Family, ChatFormat], texts: list[str], limit: int, family: Family
):
    each, dialogue = formats[family], Dialogue.of(talk(*texts))
    if len(each.write(dialogue.newest(0))) > limit:
        with pytest.raises(UserError, match="tokens long"):
            each.fit(talk(*texts), limit)
        return
    prompt = each.fit(talk(*texts), limit)
    kept = len(dialogue.rounds) - prompt.dropped_rounds
    assert prompt.ids == each.write(dialogue.newest(kept))
    assert len(prompt.ids) <= limit
    assert not prompt.dropped_rounds or len(each.write(dialogue.newest(kept + 1))) > limit


def test_a_system_message_is_never_left_out(formats: dict[Family, ChatFormat]):
    each = formats["chatglm3"]
    turns = (ChatMessage.of("system", "Be brief."), *talk(*["words and words"] * 9))
    prompt = each.fit(turns, len(each.write(Dialogue.of(turns))) - 1)
    assert prompt.dropped_rounds == 1
    assert prompt.ids == each.write(Dialogue.of((turns[0], *turns[3:])))


def test_tools_are_offered_to_those_that_know_them(formats: dict[Family, ChatFormat]):
    (offered,) = formats["chatglm3"].offer([{"name": "look"}], "Be brief.")
    assert offered.role == "system"
    assert offered.text.startswith("Be brief.\n[\n")
    with pytest.raises(UserError, match="not trained to call tools"):
        formats["chatglm"].offer([{"name": "look"}])


def test_calls_go_back_to_the_model_as_it_wrote_them(formats: dict[Family, ChatFormat]):
    each = formats["chatglm3"]
    asked, told = talk("?"), ChatMessage.of("tool", "sunny")
    call = ToolCall("1", "look", '{"at": "sky"}')
    as_parts = ChatMessage("assistant", (call,))
    as_text = ChatMessage.of("assistant", "look\n```python\ntool_call(at='sky')\n```")
    written = each.write(Dialogue.of((*asked, as_parts, told)))
    assert written == each.write(Dialogue.of((*asked, as_text, told)))
    said = ChatMessage("assistant", (call, Text("let me see")))
    assert len(each.write(Dialogue.of((*asked, said, told)))) > len(written)
    wrong = ChatMessage("assistant", (ToolCall("1", "look", "{"),))
    as_text = ChatMessage.of("assistant", "look\n{")
    assert each.write(Dialogue.of((*asked, wrong, told))) == each.write(Dialogue.of((*asked, as_text, told)))


def test_a_message_that_cannot_fit_is_refused_with_numbers(formats: dict[Family, ChatFormat]):
    with pytest.raises(UserError, match=r"\d+ tokens long and only 20 fit.*max_length"):
        formats["chatglm"].fit(talk("word " * 100), 20)
    with pytest.raises(UserError, match=r"is \d,\d{3} tokens long and only 1,200 fit"):
        formats["chatglm"].fit(talk("word " * 500), 1200)


# --- going on from the cache ---


@pytest.mark.parametrize("family", ["chatglm2", "chatglm3"])
def test_the_second_question_adds_only_its_own_tokens(formats: dict[Family, ChatFormat], family: Family):
    each = formats[family]
    first = each.fit(talk("q1"), 500)
    cached = CachedConversation(talk("q1", "a1"), [*first.ids, 260, 261, 262])
    second = each.fit(talk("q1", "a1", "q2"), 500, cached)
    assert second.ids[: len(cached.ids)] == cached.ids
    added = second.ids[len(cached.ids) :]
    assert each.follow(1, talk("q2")) == added
    assert 0 < len(added) < len(each.write(Dialogue.of(talk("q1", "a1", "q2"))))


def test_an_edited_conversation_does_not_go_on(formats: dict[Family, ChatFormat]):
    each = formats["chatglm2"]
    cached = CachedConversation(talk("q1", "a1"), [1, 2, 3])
    for turns in (talk("other", "a1", "q2"), talk("q1"), talk("q1", "a1", "q2", "a2")):
        assert each.fit(turns, 500, cached).ids == each.write(Dialogue.of(turns))


def test_going_on_past_the_limit_starts_over(formats: dict[Family, ChatFormat]):
    each = formats["chatglm2"]
    cached = CachedConversation(talk("q1", "a1"), [260] * 499)
    assert each.fit(talk("q1", "a1", "q2"), 500, cached).ids == each.write(
        Dialogue.of(talk("q1", "a1", "q2"))
    )


def test_left_out_rounds_are_not_numbered(formats: dict[Family, ChatFormat]):
    each = formats["chatglm2"]
    turns = talk("q1", "a1", "q2", "a2")
    cached = CachedConversation(turns, [1, 2, 3], dropped_rounds=1)
    prompt = each.fit((*turns, ChatMessage.of("user", "q3")), 500, cached)
    assert prompt.dropped_rounds == 1
    assert prompt.ids == [1, 2, 3, *(each.follow(1, talk("q3")) or [])]


def test_no_torch_is_needed(tmp_path: Path):
    import subprocess
    import sys

    code = (
        "import sys, glmtui.models.chat_formats.formats, glmtui.hub.catalog; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
