"""The second question of a causal model costs only its own tokens; ChatGLM-6B reads everything again."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from golden_data import golden_json
from torch import nn

import glmtui
from glmtui.engine.chat_model import ChatModel
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.chat_formats.thoughts import Piece
from glmtui.models.checkpoint import new_network
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.sampling import Sampling

GREEDY = Sampling(temperature=0, max_new_tokens=6, max_length=4096)


def make_model(folder: Path, config: dict[str, object], tokenizer: str, pieces: bytes) -> Path:
    """Write a folder with random weights and a tokenizer."""
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").touch()
    (folder / tokenizer).write_bytes(pieces)
    torch.manual_seed(1)
    network = new_network(ModelFolder.open(folder)).to_empty(device="cpu")
    state = {name: nn.init.normal_(tensor, std=0.2) for name, tensor in network.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(params=["chatglm2", "chatglm3"])
def causal(request: pytest.FixtureRequest, tmp_path: Path, small_bpe: bytes) -> ChatModel:
    config = golden_json("chatglm2-fp16-sharded/config.json")
    config |= {"_name_or_path": f"THUDM/{request.param}-6b", "padded_vocab_size": 512, "seq_length": 4096}
    folder = make_model(tmp_path, config, "tokenizer.model", small_bpe)
    return glmtui.load(str(folder), device="cpu", dtype="float32")


class Fed:
    """Counts the tokens that a network is given."""

    def __init__(self, network: nn.Module) -> None:
        self.counts: list[int] = []
        embed = network.embed

        def counted(ids: torch.Tensor) -> torch.Tensor:
            self.counts.append(ids.numel())
            return embed(ids)

        network.embed = counted


def joined(answer: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in answer)


def test_later_questions_cost_only_their_own_tokens(causal: ChatModel):
    fed, turns, costs = Fed(causal.network), [], []
    for _round in range(4):
        turns.append(ChatMessage.of("user", "how do I load a model?"))
        fed.counts.clear()
        answer = causal.stream(turns, GREEDY)
        text = joined(answer)
        costs.append(fed.counts[0])
        assert answer.prompt_tokens > sum(costs[:-1])
        turns.append(ChatMessage.of("assistant", text))
    assert (
        max(costs[1:]) - min(costs[1:]) <= 1
    )  # the cache lacks the last token of an answer cut off by its limit
    assert costs[3] < 60


def test_the_answer_is_the_same_as_without_the_cache(causal: ChatModel):
    turns = [ChatMessage.of("user", "你好")]
    first = joined(causal.stream(turns, GREEDY))
    turns += [ChatMessage.of("assistant", first), ChatMessage.of("user", "how?")]
    answer = causal.stream(turns, GREEDY)
    second = joined(answer)
    prompt = answer.generation.prompt
    ids = list(causal.generate(prompt, max_new_tokens=6, stop_ids=causal.format.stop_ids))
    decoder = causal.tokenizer.raw.stream()
    assert causal.format.process_response("".join(map(decoder.push, ids)) + decoder.finish()) == second


def test_an_edited_question_starts_where_it_differs(causal: ChatModel):
    fed = Fed(causal.network)
    first = joined(causal.stream([ChatMessage.of("user", "how do I load a model?")], GREEDY))
    turns = [
        ChatMessage.of("user", "how do I load a 模型?"),
        ChatMessage.of("assistant", first),
        ChatMessage.of("user", "你好"),
    ]
    fed.counts.clear()
    answer = causal.stream(turns, GREEDY)
    joined(answer)
    assert 0 < fed.counts[0] < answer.prompt_tokens


def test_a_bidirectional_context_is_read_whole(tmp_path: Path, small_pieces: bytes):
    from glmtui.models.tokenizers.chatglm import ChatGLMTokenizer

    file = tmp_path / "ice_text.model"
    file.write_bytes(small_pieces)
    tokenizer = ChatGLMTokenizer(file)
    config = golden_json("chatglm-fp16-sharded/config.json") | {
        "vocab_size": 512,
        "max_sequence_length": 4096,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "gmask_token_id": tokenizer.gmask_id,
        "mask_token_id": tokenizer.mask_id,
    }
    model = glmtui.load(
        str(make_model(tmp_path, config, file.name, small_pieces)), device="cpu", dtype="float32"
    )
    fed = Fed(model.network)
    first = joined(model.stream([ChatMessage.of("user", "你好")], GREEDY))
    fed.counts.clear()
    answer = model.stream(
        [ChatMessage.of("user", "你好"), ChatMessage.of("assistant", first), ChatMessage.of("user", "how?")],
        GREEDY,
    )
    joined(answer)
    assert fed.counts[0] == answer.prompt_tokens
