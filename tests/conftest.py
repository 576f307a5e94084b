"""What tests of several rooms need."""

import gc
import io
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from glmtui import failures
from glmtui.errors import UserError
from glmtui.protocol.phrases import Phrase

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin take the processors from other tests
os.environ.pop("PYTHONUNBUFFERED", None)  # a user has none, and it hides what is lost in buffers


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: the tests in pseudo-terminals wait for most of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Let each source of the kernels be compiled once for all tests; the processes of xdist inherit it."""
    if os.name == "posix" and not hasattr(config, "workerinput") and hasattr(config, "cache"):
        import compiled_once

        compiled_once.install(config.cache.mkdir("compiled"))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was imported stays: every look for garbage, as after each model, would go through all of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a failure be told that quotes what no encoding has: pytest-xdist would give up over it."""
    report = yield
    try:
        str(report.longrepr).encode()
    except UnicodeEncodeError:
        report.longrepr = str(report.longrepr).encode("utf-8", "backslashreplace").decode()
    return report


@pytest.fixture(autouse=True)
def no_hidden_faults(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the program outlives must not be overlooked: an unexpected error fails the test in which it comes.

    Tests that provoke one have the mark ``faults``.
    """
    met: list[BaseException] = []
    write_log, describe = failures.write_log, failures.Faults.describe

    def seen_written(error: BaseException) -> Path | None:
        met.append(error)
        return write_log(error)

    def seen_described(self: failures.Faults, error: BaseException) -> tuple[Phrase, bool]:
        met.extend([] if isinstance(error, UserError) else [error])
        return describe(self, error)

    monkeypatch.setattr(failures, "write_log", seen_written)
    monkeypatch.setattr(failures.Faults, "describe", seen_described)
    yield
    if met and request.node.get_closest_marker("faults") is None:
        raise AssertionError(f"unexpected: {met[0]!r}") from met[0]


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


@pytest.fixture
def plain_pages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages of the web be read without trafilatura, by other processes too: it takes a second."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "trafilatura.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(folder)
