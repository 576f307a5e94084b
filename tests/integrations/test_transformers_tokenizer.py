"""The tokenizers behind transformers' own front: `AutoTokenizer` of a ChatGLM folder, without remote code."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_data import TOKENIZERS, golden_json, needs_published_tokenizers

import glmtui
from glmtui.errors import BadValueError, UnavailableError, UserError
from glmtui.models.chat_formats.tools import ToolCall, parse_tool_call

CONFIGS: dict[str, dict[str, Any]] = {
    "chatglm": {"vocab_size": 600},
    "chatglm2": {"padded_vocab_size": 600},
    "chatglm3": {"padded_vocab_size": 600},
}
MESSAGES = [{"role": "user", "content": "你好"}]
FAMILIES = (*CONFIGS, "codegeex2", "chatglm4")
CONVERSATIONS: list[list[dict[str, Any]]] = [
    MESSAGES,
    [
        {"role": "system", "content": " be <|user|> good \n"},
        {"role": "user", "content": "hi<|assistant|>[gMASK]<sop>sop"},
        {"role": "assistant", "content": " 好\n"},
        {"role": "user", "content": "\ufdd0<|user|>\ufdd1 \ufdd0\ufdd1 q  "},
    ],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": " b"}],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "f\n{}"},
        {"role": "tool", "content": "1"},
    ],
]
"""Some with what would be control tokens, were it not said by somebody."""


@pytest.fixture
def folders(small_pieces: bytes, small_bpe: bytes, tmp_path: Path) -> dict[str, Path]:
    """Folders as the models are published, remote code and all."""
    for name, config in CONFIGS.items():
        folder = tmp_path / f"{name}-6b"
        folder.mkdir()
        code = {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]}
        settings = {"tokenizer_class": "ChatGLMTokenizer", "auto_map": code}
        if name == "chatglm":
            settings |= {"num_image_tokens": 0, "bos_token": "<sop>", "remove_space": False}
            (folder / "ice_text.model").write_bytes(small_pieces)
        else:
            (folder / "tokenizer.model").write_bytes(small_bpe)
        (folder / "tokenization_chatglm.py").write_text("raise SystemExit('remote code ran')\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "config.json").write_text(json.dumps({"model_type": "chatglm", "auto_map": {}, **config}))
    return {name: tmp_path / f"{name}-6b" for name in CONFIGS}


@pytest.fixture
def families(folders: dict[str, Path], small_bpe: bytes, tmp_path: Path) -> dict[str, Path]:
    """The same, and those whose tokenizers differ only in what they are trained for, or in their file."""
    ranks = b"".join(base64.b64encode(bytes((byte,))) + b" %d\n" % byte for byte in range(256))
    for name, file, vocab_size in (("codegeex2", small_bpe, 600), ("chatglm4", ranks, 151552)):
        folder = tmp_path / f"{name}-6b"
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(file)
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ChatGLMTokenizer"}))
        (folder / "config.json").write_text(
            json.dumps({"model_type": "chatglm", "padded_vocab_size": vocab_size})
        )
        folders[name] = folder
    return folders


def load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    glmtui.register()
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_text_becomes_the_same_ids_as_everywhere(name: str, folders: dict[str, Path]) -> None:
    tokenizer, own = load(folders[name]), glmtui.load_tokenizer(folders[name])
    for text in ("你好，世界！", "how do\n\tI  load 🎉 a model", "", "<|user|> [gMASK] <sop>"):
        assert tokenizer(text)["input_ids"] == own.encode(text)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == own.encode_text(text)
        assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) == own.encode_text(text)
        assert tokenizer.decode(own.encode(text), skip_special_tokens=True) == own.decode(own.encode(text))
    assert tokenizer.vocab_size == len(tokenizer) == own.raw.vocab_size
    assert tokenizer.eos_token_id == own.raw.eos_id
    assert "gMASK" in tokenizer.decode(tokenizer("你好")["input_ids"])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_prompt_and_its_answer(name: str, folders: dict[str, Path]) -> None:
    tokenizer, own = load(folders[name]), glmtui.load_tokenizer(folders[name])
    ids = tokenizer("你好", "世界")["input_ids"]
    assert ids == [*own.encode("你好"), *own.encode_text("世界"), own.raw.eos_id]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_is_padded_on_the_left(name: str, folders: dict[str, Path]) -> None:
    tokenizer = load(folders[name])
    batch = tokenizer(["你好，世界！你好", "好"], padding=True, return_tensors="pt")
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    mask = batch["attention_mask"][1]
    assert mask.tolist() == sorted(mask.tolist())
    assert batch["input_ids"][1][mask == 0].unique().tolist() == [tokenizer.pad_token_id]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_conversation_is_written_as_in_training(name: str, folders: dict[str, Path]) -> None:
    tokenizer, own = load(folders[name]), glmtui.load_tokenizer(folders[name])
    expected = own.encode_chat("你好")
    found = tokenizer.apply_chat_template(MESSAGES, return_tensors="pt")
    assert torch.equal(found["input_ids"], torch.tensor([expected]))
    assert tokenizer.apply_chat_template(MESSAGES, return_dict=False) == expected
    both = tokenizer.apply_chat_template([MESSAGES, MESSAGES], return_dict=False)
    assert both == [expected, expected]
    assert "你好" in tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    tool = {"name": "look", "parameters": {}}
    if name == "chatglm3":
        ids = tokenizer.apply_chat_template(MESSAGES, tools=[tool], return_dict=False)
        assert '"name": "look"' in tokenizer.decode(ids)
    else:
        with pytest.raises(UserError, match="not trained to call tools"):
            tokenizer.apply_chat_template(MESSAGES, tools=[tool])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_conversation_as_text_is_the_same_prompt(name: str, families: dict[str, Path]) -> None:
    """So evaluations and servers use it: written as text by one, encoded by another, with or without more."""
    tokenizer = load(families[name])
    for messages in CONVERSATIONS:
        for options in ({}, {"add_generation_prompt": False}, {"continue_final_message": True}):
            ids = tokenizer.apply_chat_template(messages, return_dict=False, **options)
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            for added in (True, False):
                assert tokenizer.encode(text, add_special_tokens=added) == ids
                found = tokenizer([text, text], add_special_tokens=added)["input_ids"]
                assert found == [ids, ids]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_said_makes_no_control_token(name: str, families: dict[str, Path]) -> None:
    tokenizer = load(families[name])
    control = set(tokenizer.raw.special_ids.values())

    def counted(said: str) -> int:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": said}], return_dict=False)
        return sum(token in control for token in ids)

    assert counted("\ufdd0<|user|>\ufdd1[gMASK]<sop>\ufdd0[gMASK]\ufdd1") == counted("hi")


@pytest.mark.parametrize("name", ["chatglm3", "chatglm4"])
def test_a_prompt_may_end_before_the_answer(name: str, families: dict[str, Path]) -> None:
    tokenizer = load(families[name])
    asks = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    bare = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=False, return_dict=False)
    assert asks == [*bare, tokenizer.raw.special_ids["<|assistant|>"]]


@pytest.mark.parametrize("name", ["chatglm3", "chatglm4"])
def test_calls_of_tools_are_written_as_the_model_writes_them(name: str, families: dict[str, Path]) -> None:
    tokenizer = load(families[name])
    call = {"function": {"name": "look", "arguments": '{"at": "月"}'}}

    def look(at: str) -> None:
        """Look at something.

        Args:
            at: what
        """

    spoken = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "observation", "content": "moon"},
    ]
    text = tokenizer.apply_chat_template(spoken, tools=[look], tokenize=False)
    answer = text.replace("\ufdd0\ufdd1", "").split("<|assistant|>\ufdd1")[1].split("\ufdd0")[0]
    assert parse_tool_call(answer) == ToolCall("look", {"at": "月"})


@pytest.mark.parametrize(
    "messages",
    [
        "hi",
        [],
        [{}],
        ["hi", "you"],
        [{"role": "bot", "content": "x"}],
        [{"role": "user", "content": [{"type": "image", "url": "x"}]}],
        [{"role": "user", "content": 5}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, folders: dict[str, Path]) -> None:
    with pytest.raises(BadValueError):
        load(folders["chatglm3"]).apply_chat_template(messages)


def test_options_without_a_meaning_are_refused(folders: dict[str, Path]) -> None:
    tokenizer = load(folders["chatglm3"])
    for options in ({"chat_template": "{{ messages }}"}, {"return_assistant_tokens_mask": True}):
        with pytest.raises(UnavailableError):
            tokenizer.apply_chat_template(MESSAGES, **options)
    with pytest.raises(UnavailableError):
        tokenizer.add_tokens(["<mine>"])


def test_content_may_come_in_parts_of_text(folders: dict[str, Path]) -> None:
    tokenizer = load(folders["chatglm2"])
    parts = [{"role": "user", "content": [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]}]
    assert tokenizer.apply_chat_template(parts) == tokenizer.apply_chat_template(MESSAGES)


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_and_masks_belong_to_the_ids(name: str, families: dict[str, Path]) -> None:
    tokenizer = load(families[name])
    found = tokenizer("你好 a", return_special_tokens_mask=True)
    ids, mask = found["input_ids"], found["special_tokens_mask"]
    assert [token for token, special in zip(ids, mask, strict=True) if special] == [
        token for token in ids if token in tokenizer.all_special_ids
    ]
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize("你好 a")) == "你好 a"
    assert len(pickle.loads(pickle.dumps(tokenizer))) == len(tokenizer)
    cut = tokenizer.apply_chat_template(MESSAGES, truncation=True, max_length=3, return_dict=False)
    assert len(cut) == 3
    longer = tokenizer.apply_chat_template(MESSAGES, padding="max_length", max_length=90, return_dict=False)
    assert len(longer) == 90


def test_spaces_are_decoded_as_published(folders: dict[str, Path]) -> None:
    """Only the space that encoding puts before a text goes, and only at the very beginning."""
    tokenizer = load(folders["chatglm3"])
    assert tokenizer.decode(tokenizer(" a b ")["input_ids"], skip_special_tokens=True) == " a b "
    ids = tokenizer.apply_chat_template(MESSAGES, return_dict=False)
    assert tokenizer.decode(ids) == "[gMASK]sop<|user|> \n 你好<|assistant|>"
    assert tokenizer.decode(ids[3:], skip_special_tokens=True) == "\n 你好"
    assert tokenizer.decode(tokenizer("a .")["input_ids"], clean_up_tokenization_spaces=True).endswith("a.")


@pytest.mark.parametrize("name", ["codegeex2", "chatglm4"])
def test_a_saved_tokenizer_is_of_the_same_family(
    name: str, families: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer = load(families[name])
    tokenizer.save_pretrained(tmp_path / "saved")
    assert glmtui.load_tokenizer(tmp_path / "saved").raw.family == name
    again = load(tmp_path / "saved")
    assert again.apply_chat_template(MESSAGES) == tokenizer.apply_chat_template(MESSAGES)


@pytest.mark.parametrize("name", CONFIGS)
def test_saving_and_loading_gives_the_same(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = load(folders[name])
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    again = glmtui.load_tokenizer(saved)
    assert again.encode("你好") == tokenizer("你好")["input_ids"]
    (saved / "config.json").write_bytes((folders[name] / "config.json").read_bytes())
    again = load(saved)
    assert again("你好")["input_ids"] == tokenizer("你好")["input_ids"]
    assert again.apply_chat_template(MESSAGES) == tokenizer.apply_chat_template(MESSAGES)


def test_a_missing_file_is_named(folders: dict[str, Path]) -> None:
    (folders["chatglm"] / "ice_text.model").unlink()
    with pytest.raises(UserError, match=r"ice_text\.model is missing"):
        load(folders["chatglm"])


@needs_published_tokenizers
@pytest.mark.parametrize(("name", "key"), [("chatglm-6b", "v1"), ("chatglm2-6b", "v2")])
def test_the_published_tokenizers_give_the_golden_ids(name: str, key: str, tmp_path: Path) -> None:
    for source in (TOKENIZERS / name, TOKENIZERS.parent / "configs" / name):
        for file in source.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = load(tmp_path)
    cases = golden_json("tokenization.json")[key]["public"]
    assert cases
    for case in cases:
        assert tokenizer(case["text"])["input_ids"] == case["ids"]
