"""A real llama.cpp server on this machine, or any that is named: what replayed traffic cannot show.

    pip install xllamacpp gguf       # llama.cpp's server from a wheel; the model is a tiny random one
    python -m pytest -m slow tests/engine/test_real_server.py

    GLMTUI_TEST_SERVER=http://127.0.0.1:8000/v1#NAME python -m pytest -m slow tests/engine/test_real_server.py

The second is for one that runs already: `llama-server -m FILE.gguf --port 8000`, `vllm serve DIR`, Ollama
(http://127.0.0.1:11434/v1#NAME), LM Studio (http://127.0.0.1:1234/v1#NAME). Its model must answer and have a
context of at most 40,000 tokens. Its key is read from GLMTUI_API_KEY.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from contracts.engine import text_of, until_end

from glmtui.engine.local import LocalEngine
from glmtui.protocol.events import Cancelled, Done, Failed, Loaded, Started, Tokens
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import RemoteModel
from glmtui.protocol.requests import Complete, Generate, Load
from glmtui.protocol.sampling import Sampling
from glmtui.settings.engines import from_address

pytestmark = pytest.mark.slow

GIVEN = os.environ.get("GLMTUI_TEST_SERVER", "")
CONTEXT = 512
SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.port = sys.argv[1], int(sys.argv[2]), 1, 0
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
SOME = Sampling(max_new_tokens=8, temperature=0.8)


def write_model(path: Path) -> None:
    """Write a llama of two layers with random weights, whose tokens are bytes."""
    gguf = pytest.importorskip("gguf", reason="needs a GGUF writer: pip install gguf")
    hidden, layers, vocabulary = 64, 2, 3 + 256
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // 4)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))])
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_token_types([2, 3, 3, *[6] * 256])  # unknown, control, bytes
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    shapes = {"attn_q": (hidden, hidden), "attn_k": (hidden // 2, hidden), "attn_v": (hidden // 2, hidden)}
    shapes |= {
        "attn_output": (hidden, hidden),
        "ffn_gate": (2 * hidden, hidden),
        "ffn_up": (2 * hidden, hidden),
    }
    shapes |= {"ffn_down": (hidden, 2 * hidden)}
    matrices = {f"blk.{i}.{name}": shape for i in range(layers) for name, shape in shapes.items()}
    matrices |= {"token_embd": (vocabulary, hidden), "output": (vocabulary, hidden)}
    for name, shape in matrices.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.1, shape).astype(np.float32))
    norms = ["output_norm", *(f"blk.{i}.{name}_norm" for i in range(layers) for name in ("attn", "ffn"))]
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteModel]:
    if GIVEN:
        yield from_address(GIVEN)
        return
    pytest.importorskip("xllamacpp", reason="needs llama.cpp (pip install xllamacpp) or GLMTUI_TEST_SERVER")
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_model(path)
    command = [sys.executable, "-c", SERVER, str(path), str(CONTEXT)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield from_address(server.stdout.readline().strip())
        finally:
            server.kill()


@pytest.fixture(scope="module")
def engine(spec: RemoteModel) -> Iterator[LocalEngine]:
    engine = LocalEngine()
    loaded = until_end(engine.submit(Load(spec)))[-1]
    assert isinstance(loaded, Loaded), loaded
    if not GIVEN:
        assert loaded.info.max_length == CONTEXT
    yield engine
    engine.close()
    assert engine.join(60)


def asked(text: str, **options: object) -> Generate:
    return Generate((ChatMessage.of("user", text),), SOME, **options)  # type: ignore[arg-type]


def test_an_answer_comes_with_its_figures(engine: LocalEngine) -> None:
    events = until_end(engine.submit(asked("你好")))
    done = events[-1]
    assert isinstance(done, Done), done
    assert any(isinstance(event, Started) for event in events)
    assert done.stats.prompt_tokens > 0
    assert 0 < done.stats.answer_tokens <= 8


def test_a_text_and_an_answer_are_gone_on_with(engine: LocalEngine) -> None:
    assert isinstance(until_end(engine.submit(Complete("One two", SOME)))[-1], Done)
    begun = (ChatMessage.of("user", "Say it"), ChatMessage.of("assistant", "I will"))
    ended = until_end(engine.submit(Generate(begun, SOME, continue_answer=True)))[-1]
    assert isinstance(ended, Done | Failed)
    assert isinstance(ended, Done) or "cannot continue" in str(ended.phrase)


def test_a_cancel_frees_the_server(engine: LocalEngine) -> None:
    stream = engine.submit(Generate((ChatMessage.of("user", "Count"),), Sampling(temperature=1.5)))
    for event in stream:
        if isinstance(event, Tokens):
            break
    stream.cancel()
    began = time.monotonic()
    assert isinstance(until_end(stream)[-1], Cancelled | Done)
    assert isinstance(until_end(engine.submit(asked("next")))[-1], Done)
    assert time.monotonic() - began < 30


def test_what_is_too_long_is_told(engine: LocalEngine) -> None:
    failed = until_end(engine.submit(asked("word " * (40_000 if GIVEN else 500))))[-1]
    assert isinstance(failed, Failed), text_of([failed])
    assert failed.code == "too_long", failed
