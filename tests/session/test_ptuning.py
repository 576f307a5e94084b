"""A P-tuning prefix is put on the model in a chat and taken off again, with the golden's weights."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
from golden_data import GOLDEN, check_golden
from session.conftest import Chat

import glmtui
from glmtui.engine.local import LocalEngine

NAME = "chatglm2-ptuning"
QUESTION = "你好"
GREEDY = {"temperature": 0.0, "max_new_tokens": 6}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The golden's model without its prefix, and a tokenizer small enough for it."""
    target = tmp_path / "chatglm2-base"
    target.mkdir()
    config = json.loads((GOLDEN / NAME / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "pre_seq_len": None}))
    shutil.copy(GOLDEN / NAME / "pytorch_model.bin", target)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["你好问答：[Round 1]", "How do I load a model?"] * 20),
        model_writer=written,
        vocab_size=310,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    (target / "tokenizer.model").write_bytes(written.getvalue())
    return target


def answer(folder: Path, ptuning: Path | None) -> str:
    """What the model says without the app."""
    model = glmtui.load(str(folder), device="cpu", ptuning=str(ptuning) if ptuning else None)
    if ptuning:
        check_golden(NAME, model.network)
    return model.chat(QUESTION, **GREEDY)[0]


async def test_a_prefix_goes_on_and_off_and_a_wrong_one_changes_nothing(folder: Path) -> None:
    prefix = GOLDEN / NAME
    plain, tuned = answer(folder, None), answer(folder, prefix)
    assert plain != tuned
    chat = Chat(LocalEngine())
    chat.settings.set("model.device", "cpu")
    chat.settings.set("model.threads", 1)
    await chat.enter(f"/model {folder}")
    await chat.idle(60)
    for name, value in GREEDY.items():
        await chat.enter(f"/set {name} {value}")

    async def ask() -> str:
        await chat.enter("/new")
        await chat.enter(QUESTION)
        await chat.idle(60)
        return chat.conversation.branch()[-1].text

    async def load(argument: str) -> None:
        await chat.enter(f"/ptuning {argument}")
        await chat.idle(60)

    try:
        assert await ask() == plain
        await load(str(prefix))
        assert await ask() == tuned
        await chat.enter("/new")
        await chat.enter("/ptuning off")
        await chat.enter(QUESTION)
        await chat.idle(60)
        assert chat.conversation.branch()[-1].text == plain, "in this conversation"
        await chat.enter("/compare")
        await chat.until(lambda: chat.comparison and chat.comparison.ended, 60)
        assert chat.comparison is not None
        assert [side.text for side in chat.comparison.sides] == [tuned, plain]
        assert await ask() == tuned, "in all others"
        await load(str(GOLDEN / "chatglm-ptuning"))
        assert "was trained on another model" in chat.notices("error")[-1]
        assert chat.settings["model.ptuning"] == str(prefix)
        assert await ask() == tuned
        await load("none")
        assert chat.settings["model.ptuning"] is None
        assert await ask() == plain
    finally:
        chat.close()
