"""Networks of the published shapes with random weights, made without any file: for measuring."""

from __future__ import annotations

import re
from typing import cast

import torch

from glmtui import memory
from glmtui.errors import NotFoundError
from glmtui.hub import catalog
from glmtui.hub.model_dir import TRANSFORMERS
from glmtui.models.base import LanguageModel
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.models.checkpoint import assign, dtype_of, shapes_only
from glmtui.models.visualglm import VisualGLM, VisualGLMConfig
from glmtui.protocol.models import Cache, Quant
from glmtui.protocol.phrases import _
from glmtui.quant import int8_cache
from glmtui.quant.formats import Bits
from glmtui.quant.fused import fuse
from glmtui.quant.policy import bits_of, in_planes, install, random_packed
from glmtui.quant.tiled import tile

_NORM = re.compile(r"(norm|ln_vision)\.weight$")
_FIRST = {"num_attention_heads": 32, "bos_token_id": 130004, "eos_token_id": 130005}
_FIRST |= {"mask_token_id": 130000, "gmask_token_id": 130001}


def random_network(name: str, quant: Quant, dtype: torch.dtype, cache: Cache = "auto") -> LanguageModel:
    """Build the known model `name` with random weights, quantised as if from floating point.

    The `cache` is as in loading for the CPU.

    Raises:
        UserError: there is no such model.
    """
    known = catalog.find(name)
    if known is None or known.family in TRANSFORMERS:
        names = ", ".join(model.name for model in catalog.KNOWN if model.family not in TRANSFORMERS)
        raise NotFoundError(_("{name} is no known model. Known are: {names}").format(name=name, names=names))
    memory.keep_what_products_take()
    with shapes_only():
        network: ChatGLM | ChatGLM2
        if known.family == "chatglm":
            network = ChatGLM(ChatGLMConfig.from_dict({**known.shape, **_FIRST}))
        elif known.family == "visualglm":
            network = VisualGLM(VisualGLMConfig.from_dict({**known.shape, **_FIRST}))
        else:
            network = ChatGLM2(ChatGLM2Config.from_dict({**known.shape, "seq_length": known.max_length}))
    generator = torch.Generator().manual_seed(0)
    bits = cast("Bits | None", None if quant == "none" else int(quant))
    for parameter, empty in list(network.named_parameters()):
        packed_bits = None if bits is None else bits_of(network, parameter, bits)
        if bits is not None and packed_bits is not None:
            rows, columns = empty.shape
            planes = in_planes(network, parameter, bits)
            packed = random_packed(packed_bits, rows, columns, generator, planes=planes)
            install(network, parameter, packed, dtype=dtype)
            continue
        kept = dtype_of(network, parameter, dtype, None if bits is None else torch.bfloat16)
        if empty.dim() >= 2:
            tensor = torch.empty(empty.shape, dtype=kept).normal_(0, 0.02, generator=generator)
            assign(network, parameter, tensor)
        else:
            fill = torch.ones if _NORM.search(parameter) else torch.zeros
            assign(network, parameter, fill(empty.shape, dtype=kept))
    network.tie_weights()
    if bits is not None:
        fuse(network)
    tile(network)
    if cache == "int8" or (cache == "auto" and bits is not None):
        int8_cache.use(network, asked_for=cache == "int8")
    return network.eval()
