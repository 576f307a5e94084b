"""What tests of several rooms need."""

import io
import os

import pytest

os.environ.pop("PYTHONUNBUFFERED", None)  # a user has none, and it hides what is lost in buffers


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: the tests in pseudo-terminals wait for most of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def small_pieces() -> bytes:
    """A tiny sentencepiece model in the layout of ice_text.model."""
    import sentencepiece

    text = [
        "你好，世界！ChatGLM 是一个语言模型。",
        "how do I load a model? Type /model and a path.",
        "第一轮问答，第二轮问答：回答",
        "[Round 0] 问：答：",
    ] * 8
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=420,
        hard_vocab_limit=False,
        model_type="unigram",
        byte_fallback=True,
        split_digits=True,
        pad_id=3,
        user_defined_symbols=["<n>", "<|tab|>", *(f"<|blank_{k}|>" for k in range(2, 9))],
        control_symbols=["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"],
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def small_bpe() -> bytes:
    """A tiny sentencepiece model in the layout of ChatGLM2's tokenizer.model."""
    import sentencepiece

    text = [
        "你好，世界！ChatGLM 是一个语言模型。",
        "how do I load a model?",
        "[Round 1]\n\n问：好\n\n答：",
    ] * 8
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=340,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return model.getvalue()
