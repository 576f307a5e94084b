"""Keys and values with one byte a number, and a scale for every head and token: for the CPU, by the kernels.

Half of what float16 takes, so that a long conversation costs a token half as much memory to read. Queries and
the weights of the softmax keep 15 bits; sums are exact, so that a token gets the same numbers alone as among
others. See ``cpu/cached.h``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glmtui import memory
from glmtui.errors import UnavailableError
from glmtui.models.base import Attend, LanguageModel, Storage
from glmtui.models.chatglm import ChatGLM
from glmtui.models.chatglm2 import ChatGLM2
from glmtui.protocol.phrases import NOTHING, Option, Phrase, _
from glmtui.quant import cpu

SCALE_BYTES = 4
"""What a head's scale takes, next to a byte for each of its columns."""
MULTIPLE = 16
"""What the kernels want the columns of a head to be a multiple of."""
WIDEST_HEAD = 1024
"""Columns that a sum of 32 bits holds at most: their products, of 8 bits times 15, have 21."""


class Int8Storage(Storage):
    """Pages ``[2, 1, groups, capacity / PAGE, PAGE (head_dim + 4)]`` of uint8 per layer, laid out by the
    kernels."""

    unit = cpu.PAGE

    def __init__(self) -> None:
        super().__init__(torch.uint8)

    def new(self, keys: Tensor, capacity: int) -> Tensor:
        groups, head_dim = keys.shape[1], keys.shape[3]
        shape = (2, 1, groups, capacity // cpu.PAGE, cpu.PAGE * (head_dim + SCALE_BYTES))
        return memory.empty_bytes(shape)

    def larger(self, buffer: Tensor, capacity: int) -> Tensor:
        return memory.empty_bytes((*buffer.shape[:3], capacity // self.unit, *buffer.shape[4:]))

    def put(self, buffer: Tensor, start: int, keys: Tensor, values: Tensor) -> None:
        keys, values = (_rows(each) for each in (keys, values))
        _kernels().put_cached(keys, values, start, buffer[:, 0])

    def attend(self, attend: Attend, q: Tensor, buffer: Tensor, columns: int, mask: Tensor | None) -> Tensor:
        """Attend by the kernels, whatever `attend` would do."""
        if mask is not None:
            mask = mask.expand(*mask.shape[:-2], q.shape[2], columns).contiguous()
        found = _kernels().attend_cached(_rows(q), buffer[:, 0], columns, mask)
        return found.transpose(0, 1)[None].to(q.dtype)


def use(network: LanguageModel, *, asked_for: bool) -> None:
    """Let the caches of `network` be like this from now on, if they can.

    Raises:
        UnavailableError: they cannot, and it was `asked_for`.
    """
    problem = _problem(network)
    if not problem:
        network.cache_storage = Int8Storage()
    elif asked_for:
        raise UnavailableError(problem)


def _problem(network: LanguageModel) -> Phrase:
    """Say why keys and values of `network` cannot lie in bytes."""
    columns = network.config.head_dim if isinstance(network, ChatGLM | ChatGLM2) else None
    fits = columns is not None and columns % MULTIPLE == 0 and columns <= WIDEST_HEAD
    if not fits or any(parameter.device.type != "cpu" for parameter in network.parameters()):
        message = _("Keys and values with 8 bits are for ChatGLM models on the CPU. Choose {option}.")
        return message.format(option=Option("cache", "float"))
    if cpu.load() is None:
        message = _("Keys and values with 8 bits need the compiled kernels: {reason}")
        return message.format(reason=cpu.status().reason)
    return NOTHING


def _rows(x: Tensor) -> Tensor:
    """Return ``[1, heads, n, head_dim]`` as the kernels take it, float32 ``[heads, n, head_dim]``."""
    x = x[0].float()
    return x if x.stride(2) == 1 else x.contiguous()


def _kernels() -> cpu.Kernels:
    kernels = cpu.load()
    if kernels is None:
        raise UnavailableError(cpu.status().reason)
    return kernels
