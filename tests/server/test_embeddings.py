"""``/v1/embeddings`` with a tiny model of random weights, and what transformers itself makes of the texts."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import transformers
from embedding_model import tiny_bert
from served import Served, end, make

from glmtui.engine.embedding import EmbeddingModel
from glmtui.errors import UserError

TEXTS = ["你 好", "a", "a b a b a b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="module")
def embedding(folder: Path) -> Iterator[Served]:
    served = make(embedder=EmbeddingModel(folder))
    yield served
    end(served)


def ask(served: Served, **body: Any) -> Any:
    return served.client.post("/v1/embeddings", json=body)


@pytest.mark.parametrize("first", [False, True])
def test_vectors_are_those_of_the_model(folder: Path, first: bool) -> None:
    pooling = folder / "1_Pooling" / "config.json"
    pooling.parent.mkdir(exist_ok=True)
    pooling.write_text(json.dumps({"pooling_mode_cls_token": first}))
    vectors, tokens = EmbeddingModel(folder).embed(TEXTS)
    pooling.unlink()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    counted = 0
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = tokenizer(text, return_tensors="pt")
        counted += ids["input_ids"].numel()
        with torch.no_grad():
            hidden = model(**ids).last_hidden_state[0]
        expected = hidden[0] if first else hidden.mean(0)
        torch.testing.assert_close(torch.tensor(vector), expected / expected.norm(), atol=1e-5, rtol=1e-4)
    assert tokens == counted


def test_openais_own_client_gets_them(embedding: Served) -> None:
    openai = pytest.importorskip("openai", reason="needs the openai package")
    client = openai.OpenAI(base_url=f"{embedding.url}/v1", api_key="x")
    found = client.embeddings.create(model="tiny-bert", input=TEXTS * 5)  # in base64, and in two pieces
    plain = ask(embedding, input=TEXTS[0]).json()["data"][0]["embedding"]
    assert [each.index for each in found.data] == list(range(15))
    assert found.data[0].embedding == pytest.approx(plain, abs=1e-5)
    assert math.dist(plain, [0.0] * 8) == pytest.approx(1, abs=1e-5)
    assert found.usage.prompt_tokens == found.usage.total_tokens > 15
    assert [each.id for each in client.models.list()] == ["nano", "tiny-bert"]


def test_a_text_that_is_too_long_is_cut(embedding: Served) -> None:
    assert ask(embedding, input="a " * 5000).json()["usage"]["prompt_tokens"] == 16


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"input": ""}, 400), ({"input": []}, 400), ({"input": [1, 2]}, 400),
        ({"input": ["a"] * 2049}, 400), ({"input": "a", "encoding_format": "x"}, 400),
        ({"input": "a", "dimensions": 4}, 400), ({"input": "a", "model": "nano"}, 404),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(embedding: Served, body: dict[str, Any], status: int) -> None:
    response = ask(embedding, **body)
    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_a_server_ends_while_a_text_is_read() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        name = "slow"

        def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
            begun.set()
            go_on.wait(60)
            return [[1.0]] * len(texts), 1

    served = make(embedder=Slow())
    client = httpx2.Client(base_url=served.url, timeout=60, trust_env=False)

    told: list[int] = []

    def give() -> None:
        told.append(client.post("/v1/embeddings", json={"input": "a"}).status_code)

    asking = threading.Thread(target=give, daemon=True)
    asking.start()
    assert begun.wait(20)
    assert served.health() == "ok"
    end(served)
    go_on.set()
    asking.join(20)
    assert told == [503]


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        EmbeddingModel(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError):
        EmbeddingModel(tmp_path)
