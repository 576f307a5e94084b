"""What tests of quantisation share."""

import pytest
import torch

from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.quant import formats
from glmtui.quant.cpu.build import find_compilers
from glmtui.quant.fused import fuse
from glmtui.quant.policy import bits_of, in_planes, install

needs_compiler = pytest.mark.skipif(not find_compilers(), reason="there is no C compiler here")
SPECIAL = {"bos_token_id": 290, "eos_token_id": 291, "mask_token_id": 292, "gmask_token_id": 293}


def chatglm(**sizes: int) -> ChatGLM:
    """Widths that fill no group of 128 columns, unless others are asked for."""
    shape = {"hidden_size": 192, "num_attention_heads": 4, "inner_hidden_size": 700} | sizes
    return ChatGLM(ChatGLMConfig.from_dict({"vocab_size": 300, "num_layers": 3, **shape, **SPECIAL}))


def chatglm2(**sizes: int) -> ChatGLM2:
    shape = {"hidden_size": 256, "num_attention_heads": 8, "ffn_hidden_size": 300, "kv_channels": 32} | sizes
    return ChatGLM2(ChatGLM2Config.from_dict({"padded_vocab_size": 300, "num_layers": 3, **shape}))


NETWORKS = {
    "ChatGLM": chatglm,
    "ChatGLM with a prefix": lambda: chatglm(hidden_size=256, pre_seq_len=5),
    "ChatGLM with 1-D positions": lambda: chatglm(position_encoding_2d=False),
    "ChatGLM2": chatglm2,
    "ChatGLM2 with a prefix": lambda: chatglm2(kv_channels=64, pre_seq_len=3),
}


def quantized(network: ChatGLM | ChatGLM2, bits: formats.Bits) -> ChatGLM | ChatGLM2:
    """As loading does it; norms and biases are drawn too, which a new network leaves at one and zero."""
    for name, parameter in list(network.named_parameters()):
        parameter.requires_grad_(False)
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) / 4)
        chosen = bits_of(network, name, bits)
        if chosen is not None:
            packed = formats.quantize(parameter, chosen, planes=in_planes(network, name, bits))
            install(network, name, packed)
    fuse(network)
    return network.eval()
