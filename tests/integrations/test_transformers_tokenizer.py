"""The tokenizers behind transformers' own front: `AutoTokenizer` of a ChatGLM folder, without remote code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_data import TOKENIZERS, golden_json, needs_published_tokenizers

import glmtui
from glmtui.errors import UserError

CONFIGS: dict[str, dict[str, Any]] = {
    "chatglm": {"vocab_size": 600},
    "chatglm2": {"padded_vocab_size": 600},
    "chatglm3": {"padded_vocab_size": 600},
}
MESSAGES = [{"role": "user", "content": "你好"}]


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
