import pytest
import torch
from golden_data import golden_json

from glmtui.engine.prefill import read
from glmtui.errors import UserError
from glmtui.models.base import PrefixState
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_layers": 2,
    "num_attention_heads": 2,
    "inner_hidden_size": 64,
    "bos_token_id": 34,
    "eos_token_id": 35,
    "mask_token_id": 30,
    "gmask_token_id": 31,
    "max_sequence_length": 16,
}


@pytest.fixture
def network() -> ChatGLM:
    torch.manual_seed(1)
    return ChatGLM(ChatGLMConfig.from_dict(SMALL)).eval()


def prompt(*context: int) -> torch.Tensor:
    return torch.tensor([*context, 31, 34])


def test_prompts_beyond_the_trained_length_work(network: ChatGLM):
    cache = network.new_cache()
    logits = read(network, prompt(*range(25)), cache)
    assert logits.shape == (27, 40)
    for token in range(25):
        logits = read(network, torch.tensor([token]), cache)
        assert torch.isfinite(logits).all()
    assert cache.length == 52


def test_the_context_is_bidirectional_and_the_answer_causal(network: ChatGLM):
    one, other = read(network, prompt(1, 2, 3)), read(network, prompt(1, 2, 4))
    assert not torch.allclose(one[0], other[0])
    answered = [read(network, torch.cat([prompt(1, 2, 3), torch.tensor([token])])) for token in (5, 6)]
    torch.testing.assert_close(answered[0][:-1], answered[1][:-1])


def test_without_sop_everything_is_context(network: ChatGLM):
    cache = network.new_cache()
    logits = read(network, torch.tensor([1, 2, 3]), cache)
    assert not torch.allclose(logits[0], read(network, torch.tensor([1, 2, 4]))[0])
    assert (cache.context_length, cache.mask_position) == (3, 2)
    assert torch.isfinite(read(network, torch.tensor([5]), cache)).all()


def test_positions_follow_the_published_layout(network: ChatGLM):
    cache = network.new_cache()
    read(network, prompt(1, 2, 3), cache)
    positions = cache.positions(torch.arange(8))[0]
    assert positions.tolist() == [[0, 1, 2, 3, 3, 3, 3, 3], [0, 0, 0, 0, 1, 2, 3, 4]]


def test_one_dimensional_positions():
    network = ChatGLM(ChatGLMConfig.from_dict(SMALL | {"position_encoding_2d": False})).eval()
    cache = network.new_cache()
    read(network, torch.tensor([1, 30, 2, 34]), cache)
    assert cache.positions(torch.arange(6))[0].tolist() == [[0, 1, 2, 1, 1, 1]]
    read(network, prompt(1, 2), fresh := network.new_cache())
    assert fresh.positions(torch.arange(5))[0].tolist() == [[0, 1, 2, 3, 4]]


def test_a_bidirectional_context_is_kept_whole_or_not_at_all(network: ChatGLM):
    cache = network.new_cache()
    first = read(network, prompt(1, 2, 3), cache)
    with pytest.raises(ValueError, match="cannot be cut to 2"):
        cache.truncate(2)
    cache.truncate(4)
    torch.testing.assert_close(read(network, torch.tensor([34]), cache), first[-1:])
    cache.truncate(0)
    torch.testing.assert_close(read(network, prompt(7, 8), cache), read(network, prompt(7, 8)))


def test_a_padded_batch_in_training_gives_the_logits_of_each_alone(network: ChatGLM):
    sequences = [torch.cat([prompt(1, 2, 3), torch.tensor([5, 6])]), prompt(9)]
    longest = max(map(len, sequences))
    ids = torch.full((2, longest), 3)
    positions = torch.zeros(2, 2, longest, dtype=torch.long)
    mask = torch.zeros(2, 1, longest, longest, dtype=torch.bool)
    alone = []
    for i, sequence in enumerate(sequences):
        cache, n = network.new_cache(), len(sequence)
        alone.append(read(network, sequence, cache))
        ids[i, :n] = sequence
        positions[i, :, :n] = cache.positions(torch.arange(n))
        mask[i, 0] = torch.ones(longest, longest).tril().bool()
        mask[i, 0, :, : cache.context_length] = True
    batch = network.logits(network.hidden(network.embed(ids), positions, mask, PrefixState()))
    assert batch.requires_grad
    for logits, expected in zip(batch, alone, strict=True):
        torch.testing.assert_close(logits[: len(expected)].detach(), expected)


def test_a_cache_grows_by_steps(network: ChatGLM):
    cache = network.new_cache(capacity=3)
    read(network, prompt(1), cache)
    size = cache.nbytes
    while cache.length < cache.STEP:
        read(network, torch.tensor([2]), cache)
        assert cache.nbytes == size
    read(network, torch.tensor([2]), cache)
    assert cache.nbytes == 2 * size


def test_the_output_layer_is_the_embedding(network: ChatGLM):
    assert network.lm_head.weight is network.transformer.word_embeddings.weight
    untied = ChatGLM(ChatGLMConfig.from_dict(SMALL | {"tie_word_embeddings": False}))
    assert untied.lm_head.weight is not untied.transformer.word_embeddings.weight


def test_parameter_names_are_the_published_ones(network: ChatGLM):
    published = golden_json("chatglm-fp16-sharded/pytorch_model.bin.index.json")["weight_map"]
    names = set(network.state_dict())
    assert names == {name for name in published if "inv_freq" not in name}


def test_an_incomplete_config_is_named():
    with pytest.raises(UserError, match="inner_hidden_size"):
        ChatGLMConfig.from_dict({name: value for name, value in SMALL.items() if name != "inner_hidden_size"})
    with pytest.raises(UserError, match="32 cannot be divided among 3"):
        ChatGLMConfig.from_dict(SMALL | {"num_attention_heads": 3})


def test_the_first_release_lacks_the_mask_ids():
    first = {name: value for name, value in SMALL.items() if "mask" not in name} | {"bos_token_id": 150004}
    config = ChatGLMConfig.from_dict(first)
    assert (config.mask_token_id, config.gmask_token_id) == (150000, 150001)
