"""GLM-4-9B in its first layout: its tokenizer's file and its prompt."""

import base64
import json
from pathlib import Path

import pytest

import glmtui
from glmtui.errors import UserError
from glmtui.models.chat_formats.formats import Dialogue, Roles
from glmtui.models.chat_formats.tools import ToolCall, parse_tool_call
from glmtui.models.tokenizers.glm4 import GLM4Tokenizer
from glmtui.protocol.messages import ChatMessage

MERGES = ["he", "ll", "hell", "hello", " w", "你".encode()[:2], "你", "好", "你好", "\n\n"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokens = [bytes((byte,)) for byte in range(256)]
    tokens += [each.encode() if isinstance(each, str) else each for each in MERGES]
    lines = [base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)]
    (tmp_path / "tokenizer.model").write_bytes(b"".join(lines))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "chatglm", "padded_vocab_size": 151552}), encoding="utf-8"
    )
    return tmp_path


def test_pairs_are_merged_by_rank_within_words(folder: Path) -> None:
    raw = glmtui.load_tokenizer(folder).raw
    assert raw.encode_text("hello") == [259]
    assert raw.encode_text("hellow") == [259, ord("w")]
    assert raw.encode_text("hello w\n\n") == [259, 260, 265]
    assert raw.encode_text("你好") == [264]
    assert raw.encode_text("你") == [262]


@pytest.mark.parametrize("text", ["hello, 你好！🎉", "  a\r\n\tb ", "<|user|>[gMASK]", "", "１２３ ① ½"])
def test_text_comes_back_and_holds_no_special_token(folder: Path, text: str) -> None:
    raw = glmtui.load_tokenizer(folder).raw
    ids = raw.encode_text(text)
    assert raw.decode(ids) == text
    assert all(token < 266 for token in ids)


def test_half_a_character_is_held_back(folder: Path) -> None:
    stream = glmtui.load_tokenizer(folder).raw.stream()
    pieces = [stream.push(byte) for byte in "🎉".encode()]
    assert pieces == ["", "", "", "🎉"]
    stream.push(0xF0)
    assert stream.finish() == "\ufffd"


def test_the_prompt_has_the_published_form(folder: Path) -> None:
    tokenizer = glmtui.load_tokenizer(folder)
    assert isinstance(tokenizer.format, Roles)
    first = 266  # <|endoftext|>, which is 151329 in the published file
    published = [151331, 151333, 151336, 10, 264, 151337]
    assert tokenizer.encode_chat("你好") == [
        token - 151329 + first if token > 151000 else token for token in published
    ]
    assert tokenizer.format.stop_ids == (first, first + 7, first + 9)


@pytest.mark.parametrize("content", [b"!!! 0\n", b"AA== x\n", b"AA== 0\n", b"\x80\x02}q\x00."])
def test_a_bad_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.model cannot be read"):
        GLM4Tokenizer(folder / "tokenizer.model", {})


def test_tools_and_what_they_say_are_messages_of_their_own(folder: Path) -> None:
    tokenizer = glmtui.load_tokenizer(folder)
    raw, form = tokenizer.raw, tokenizer.format
    offered = form.offer([{"name": "hello"}], "w")
    answer = 'hello\n{"w": 1}'
    turns = (
        *offered,
        ChatMessage.of("user", "你"),
        ChatMessage.of("assistant", answer),
        ChatMessage.of("tool", "好"),
    )
    ids = form.write(Dialogue.of(turns))
    assert parse_tool_call(answer) == ToolCall("hello", {"w": 1})
    names = {number: name.encode() for name, number in raw.special_ids.items()}
    spelled = raw.names()
    written = b"".join(names.get(token) or spelled[token].encode("latin-1") for token in ids).decode()
    assert written == (
        f"[gMASK]<sop><|system|>\n{offered[0].text}<|system|>\nw<|user|>\n你"
        '<|assistant|>hello\n{"w": 1}<|observation|>\n好<|assistant|>'
    )
