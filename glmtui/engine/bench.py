"""Measures a model: prompts, decoding compared with the memory's bandwidth, and conversations."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from glmtui.engine.generate import Generation
from glmtui.engine.prefix_cache import PrefixCache
from glmtui.models.base import LanguageModel
from glmtui.protocol.sampling import Sampling
from glmtui.quant import cpu
from glmtui.quant.linear import QuantizedEmbedding, QuantizedLinear

READ_AT_LEAST = 512 << 20
"""Bytes read to measure the bandwidth: far more than any cache holds."""


@dataclass(frozen=True)
class Report:
    """What was measured."""

    load_s: float
    prefill: dict[int, list[float]]
    """Tokens per second of every run, by the length of the prompt."""
    token_seconds: list[float]
    """What every token took, after the shortest prompt."""
    bytes_per_token: int
    """Weights that a token reads."""
    bandwidths: list[float]
    """Bytes per second of only reading the weights, measured between the runs."""
    peak_rss: int
    """Bytes resident at most, weights that are mapped from a file included."""

    @property
    def tokens_per_s(self) -> float:
        """Decoding, by the median token."""
        return 1 / statistics.median(self.token_seconds)

    @property
    def bandwidth(self) -> float:
        """Bytes per second of reading, by the median."""
        return statistics.median(self.bandwidths)

    @property
    def share(self) -> float:
        """How much of the bandwidth decoding reaches."""
        return self.bytes_per_token * self.tokens_per_s / self.bandwidth

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        shortest, longest = _quartiles(self.token_seconds)
        return {
            "load_s": round(self.load_s, 3),
            "prefill": [
                {"tokens": tokens, "tokens_per_s": round(statistics.median(speeds), 3)}
                for tokens, speeds in self.prefill.items()
            ],
            "decode": {
                "tokens_per_s": round(self.tokens_per_s, 3),
                "tokens_per_s_quartiles": [round(1 / longest, 3), round(1 / shortest, 3)],
                "bytes_per_token": self.bytes_per_token,
                "bytes_per_s": round(self.bytes_per_token * self.tokens_per_s),
            },
            "bandwidth_bytes_per_s": round(self.bandwidth),
            "bandwidth_share": round(self.share, 4),
            "peak_rss_bytes": self.peak_rss,
        }


def measure(
    network: LanguageModel,
    *,
    load_s: float,
    prompts: Sequence[int],
    generate: int,
    repeat: int,
    step: Callable[[str], None] = lambda _text: None,
) -> Report:
    """Run every prompt and the decoding `repeat` times, reading in between. `step` is told what runs."""
    weights = weights_read(network)
    memory = _memory(weights, next(iter(network.parameters())).device)
    prefill: dict[int, list[float]] = {length: [] for length in sorted(prompts)}
    tokens: list[float] = []
    bandwidths: list[float] = []
    _run(network, prompt_ids(network, min(16, *prompts)), 2)  # pages are mapped, threads started
    for number in range(repeat):
        for length in prefill:
            bandwidths.append(_read(memory))
            step(f"{number + 1}/{repeat} · {length}")
            first = length == min(prefill)
            seconds = _run(network, prompt_ids(network, length), 1 + (generate if first else 0))
            prefill[length].append(length / seconds[0])
            tokens += seconds[1:]
    bandwidths.append(_read(memory))
    size = sum(tensor.nbytes for tensor in weights)
    return Report(load_s, prefill, tokens, size, bandwidths, peak_rss())


@dataclass(frozen=True, slots=True)
class Round:
    """One question of the conversation, and what its first token cost."""

    number: int
    prompt: int
    """Tokens of the conversation up to and with the question."""
    read: int
    """Tokens of these that had to be read: the others' keys and values were cached."""
    seconds: list[float]
    """To the first token of the answer, in every run."""

    @property
    def first_token_s(self) -> float:
        """The median of the runs."""
        return statistics.median(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        return {
            "round": self.number,
            "prompt_tokens": self.prompt,
            "read_tokens": self.read,
            "first_token_s": round(self.first_token_s, 4),
        }


def measure_rounds(
    network: LanguageModel,
    rounds: int,
    *,
    question: int,
    answer: int,
    repeat: int = 1,
    step: Callable[[str], None] = lambda _text: None,
) -> list[Round]:
    """Hold a conversation of `rounds` questions `repeat` times, each question and answer equally long.

    What one answer leaves in the cache serves the next question as far as the architecture allows, just as
    in the app. Rounds that would pass the model's longest context are left out.

    Args:
        network: any architecture.
        rounds: how many questions.
        question: tokens of each.
        answer: tokens of each answer.
        repeat: conversations, of which medians count.
        step: told what runs.
    """
    fitting = min(rounds, network.config.max_length // (question + answer))
    ends = _ending(network)
    found: list[Round] = []
    for run in range(repeat):
        said: list[int] = []
        prefixes: PrefixCache[None] = PrefixCache(limit=0)  # the newest stays in any case
        for number in range(fitting):
            step(f"{run + 1}/{repeat} · {number + 1}/{fitting}")
            said += _random_ids(network, question - len(ends), seed=number)
            prompt = [*said, *ends]
            prefix = prefixes.take(prompt)
            read = len(prompt) - (prefix.length if prefix is not None else 0)
            sampling = Sampling(max_length=len(prompt) + answer, temperature=0.0)
            generation = Generation(network, prompt, sampling, cache=prefix, lookup=False)
            start = time.perf_counter()
            tokens: list[int] = []
            for token in generation:
                if not tokens:
                    seconds = time.perf_counter() - start
                tokens.append(token)
            if run == 0:
                found.append(Round(number + 1, len(prompt), read, []))
            found[number].seconds.append(seconds)
            assert generation.cache is not None
            prefixes.put(generation.cache, [*prompt, *tokens], None)
            said += tokens
    return found


@torch.inference_mode()
def measure_pictures(network: LanguageModel, repeat: int) -> float:
    """Look at as many pictures, each another; return the seconds that one took, by the median."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    seconds = []
    for _run in range(repeat + 1):  # the first brings pages and threads there
        pixels = torch.randint(0, 256, (480, 640, 3), dtype=torch.uint8, generator=generator)
        start = time.perf_counter()
        network.encode_image(Image.fromarray(pixels.numpy()))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def prompt_ids(network: LanguageModel, length: int) -> list[int]:
    """Return a prompt of `length` tokens as the model wants it: ChatGLM-6B's ends with ``[gMASK] <sop>``."""
    ids, ending = _random_ids(network, length, seed=length), _ending(network)
    return ids[: -len(ending)] + ending if ending and length > len(ending) else ids


def _random_ids(network: LanguageModel, length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    size = min(network.config.vocab_size, 60000)
    return [int(token) for token in torch.randint(6, size, (length,), generator=generator)]


def _ending(network: LanguageModel) -> list[int]:
    """Return what every prompt of the architecture ends with: ``[gMASK] <sop>`` for ChatGLM-6B."""
    tokens = [getattr(network.config, name, None) for name in ("gmask_token_id", "bos_token_id")]
    return [int(token) for token in tokens if token is not None] if None not in tokens else []


def weights_read(network: nn.Module) -> list[Tensor]:
    """Return the tensors that one token reads: all but the embedding, unless it is the output layer too."""
    found: dict[int, Tensor] = {}
    vision = getattr(network, "VISION", None)
    for name, module in network.named_modules():
        if vision is not None and vision.search(f"{name}."):
            continue
        tensors: list[Tensor] = []
        if isinstance(module, QuantizedLinear):
            skipped = getattr(module.weight, "low", None)  # of that plane a token reads next to nothing
            tensors = [*module.weight.buffers(), *module.parameters(recurse=False)]
            tensors = [tensor for tensor in tensors if tensor is not skipped]
        elif not isinstance(module, nn.Embedding | QuantizedEmbedding):
            tensors = list(module.parameters(recurse=False))
        found |= {tensor.data_ptr(): tensor for tensor in tensors}
    return list(found.values())


def peak_rss() -> int:
    """Return the most memory that this process ever had resident, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _run(network: LanguageModel, prompt: list[int], count: int) -> list[float]:
    """Generate `count` tokens; return the seconds that each took, the first with the prompt."""
    sampling = Sampling(max_length=len(prompt) + count, temperature=0.0)
    seconds = []
    before = time.perf_counter()
    for _token in Generation(network, prompt, sampling, lookup=False):
        now = time.perf_counter()
        seconds.append(now - before)
        before = now
    return seconds


def _memory(weights: list[Tensor], device: torch.device) -> list[Tensor]:
    """Return what is read to measure the bandwidth: the weights, or other bytes where they are few."""
    memory = [tensor.view(torch.uint8).flatten() for tensor in weights if tensor.nbytes >= 1 << 20]
    if sum(tensor.nbytes for tensor in memory) < READ_AT_LEAST:
        memory = [torch.ones(READ_AT_LEAST, dtype=torch.uint8, device=device)]
    return memory


def _read(memory: list[Tensor]) -> float:
    """Return the bytes per second of reading `memory`, all on one device."""
    kernels = cpu.load() if memory[0].device.type == "cpu" else None
    start = time.perf_counter()
    for tensor in memory:
        if kernels is not None:
            kernels.read(tensor)
        else:
            tensor[: tensor.nbytes // 8 * 8].view(torch.int64).sum().item()
    return sum(tensor.nbytes for tensor in memory) / (time.perf_counter() - start)


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _median, high = statistics.quantiles(values, n=4, method="inclusive")  # within what was measured
    return low, high
