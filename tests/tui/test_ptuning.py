"""A P-tuning prefix is put on the model in the app and taken off again, with the golden's weights."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
from golden_data import GOLDEN, check_golden
from tui.app_support import send, settled, visible_text, wait_until

import glmtui
from glmtui.engine.local import LocalEngine
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui

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
    app = GlmTui(
        AppOptions(
            {"model.source": str(folder), "model.device": "cpu", "model.threads": 1, "ui.language": "en"}
        ),
        engine=LocalEngine(),
    )
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.session.state.activity == "ready", 60)
        for name, value in GREEDY.items():
            await send(pilot, f"/set {name} {value}")

        async def ask() -> str:
            await wait_until(pilot, lambda: app.session.state.activity == "ready")
            await send(pilot, "/new")
            await send(pilot, QUESTION)
            await wait_until(pilot, lambda: len(app.session.conversation.branch()) == 2)
            await wait_until(pilot, lambda: not app.session.busy)
            return app.session.conversation.branch()[-1].text

        async def load(argument: str) -> None:
            loaded = app.session.state.info
            await send(pilot, f"/ptuning {argument}")
            await wait_until(pilot, lambda: app.session.state.info not in (None, loaded))

        assert await ask() == plain
        await load(str(prefix))
        assert await ask() == tuned
        await send(pilot, f"/ptuning {GOLDEN / 'chatglm-ptuning'}")
        await wait_until(pilot, lambda: "was trained on another model" in visible_text(app.chat.transcript))
        await settled(pilot)
        assert app.settings["model.ptuning"] == str(prefix)
        assert await ask() == tuned
        await load("none")
        assert app.settings["model.ptuning"] is None
        assert await ask() == plain
