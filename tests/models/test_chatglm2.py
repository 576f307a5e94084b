import pytest
import torch
from golden_data import golden_json

from glmtui.engine.prefill import read
from glmtui.errors import UserError
from glmtui.models.base import PrefixState
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config, rotary

SMALL = golden_json("chatglm2-fp16-sharded/config.json") | {"seq_length": 16}


@pytest.fixture
def network() -> ChatGLM2:
    torch.manual_seed(1)
    return ChatGLM2(ChatGLM2Config.from_dict(SMALL)).eval()


def test_parameter_names_are_the_published_ones(network: ChatGLM2):
    published = golden_json("chatglm2-fp16-sharded/pytorch_model.bin.index.json")["weight_map"]
    assert set(network.state_dict()) == {name for name in published if "inv_freq" not in name}


def test_prompts_beyond_the_trained_length_work(network: ChatGLM2):
    cache = network.new_cache()
    assert read(network, torch.arange(300), cache, last_only=True).shape == (1, 320)
    assert torch.isfinite(read(network, torch.tensor([5]), cache)).all()
    assert cache.length == 301


def test_attention_is_causal(network: ChatGLM2):
    one, other = read(network, torch.tensor([1, 2, 3, 4])), read(network, torch.tensor([1, 2, 3, 5]))
    torch.testing.assert_close(one[:3], other[:3])


def test_a_cut_cache_goes_on_as_if_nothing_had_come_after(network: ChatGLM2):
    cache = network.new_cache()
    read(network, torch.tensor([1, 2, 3, 4, 5]), cache)
    cache.truncate(2)
    torch.testing.assert_close(
        read(network, torch.tensor([7, 8]), cache), read(network, torch.tensor([1, 2, 7, 8]))[2:]
    )
    with pytest.raises(ValueError, match="cannot truncate 4 tokens to 9"):
        cache.truncate(9)


@pytest.mark.parametrize("pre_seq_len", [None, 3])
def test_a_padded_batch_in_training_gives_the_logits_of_each_alone(pre_seq_len: int | None):
    torch.manual_seed(1)
    network = ChatGLM2(ChatGLM2Config.from_dict(SMALL | {"pre_seq_len": pre_seq_len})).eval()
    sequences = [torch.arange(7), torch.tensor([9, 3])]
    alone = [read(network, each) for each in sequences]
    ids, index, before = torch.zeros(2, 7, dtype=torch.long), torch.arange(7).expand(2, -1), pre_seq_len or 0
    ids[0], ids[1, :2] = sequences
    mask = torch.ones(7, before + 7).tril(before).bool().expand(2, 1, -1, -1)
    batch = network.logits(network.hidden(network.embed(ids), index, mask, PrefixState(network.prefix())))
    for logits, expected in zip(batch, alone, strict=True):
        torch.testing.assert_close(logits[: len(expected)].detach(), expected)
    torch.autograd.backward(batch.sum())
    trained = network.transformer.prefix_encoder
    assert trained is None or trained.embedding.weight.grad.abs().sum() > 0


def test_pairs_are_rotated_of_the_first_half():
    rotation = rotary(torch.tensor([[3]]), head_dim=8, base=10000.0, dtype=torch.float32)
    angles = torch.tensor([3.0, 3.0, 0.03, 0.03])  # two frequencies, 1 and 1/100, each for one pair
    torch.testing.assert_close(rotation.cos[0, 0, 0], torch.cat([angles.cos(), torch.ones(4)]))
    signs = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    torch.testing.assert_close(rotation.sin[0, 0, 0], torch.cat([signs * angles.sin(), torch.zeros(4)]))


def test_rope_ratio_stretches_the_base():
    torch.manual_seed(1)
    stretched = ChatGLM2(ChatGLM2Config.from_dict(SMALL | {"rope_ratio": 50})).eval()
    plain = ChatGLM2(ChatGLM2Config.from_dict(SMALL)).eval()
    plain.load_state_dict(stretched.state_dict())
    ids = torch.arange(40)
    one, other = read(stretched, ids), read(plain, ids)
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[-1], other[-1])


def test_angles_are_exact_at_far_positions():
    far = rotary(torch.tensor([[32767]]), head_dim=128, base=10000.0, dtype=torch.float16)
    assert far.cos[0, 0, 0, 0].item() == pytest.approx(torch.tensor(32767.0).cos().item(), abs=1e-3)


def test_stop_ids_may_be_several():
    assert ChatGLM2Config.from_dict(SMALL).stop_ids == (2,)
    assert ChatGLM2Config.from_dict(SMALL | {"eos_token_id": [2, 7]}).stop_ids == (2, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rmsnorm": False}, "rmsnorm is False"),
        (
            {"apply_residual_connection_post_layernorm": True},
            "apply_residual_connection_post_layernorm is True",
        ),
        ({"multi_query_group_num": 3}, "4 attention heads cannot be shared among 3"),
        ({"kv_channels": None}, "kv_channels"),
    ],
)
def test_a_config_that_cannot_be_run_is_named(change: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        ChatGLM2Config.from_dict(SMALL | change)
