"""Measures a conversation: how long the first token takes in its first round, its second, its tenth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from glmtui.engine.generate import Generation
from glmtui.engine.prefix_cache import PrefixCache
from glmtui.models.base import LanguageModel
from glmtui.protocol.sampling import Sampling


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
    ends = _endings(network)
    found: list[Round] = []
    for run in range(repeat):
        said: list[int] = []
        prefixes: PrefixCache[None] = PrefixCache(limit=0)  # the newest stays in any case
        for number in range(fitting):
            step(f"{run + 1}/{repeat} · {number + 1}/{fitting}")
            said += _text(network, question - len(ends), seed=number)
            prompt = [*said, *ends]
            prefix = prefixes.take(prompt)
            read = len(prompt) - (prefix.length if prefix is not None else 0)
            sampling = Sampling(max_length=len(prompt) + answer, temperature=0.0)
            generation = Generation(network, prompt, sampling, cache=prefix)
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


def _endings(network: LanguageModel) -> list[int]:
    """Return what every prompt of the architecture ends with: ``[gMASK] <sop>`` for ChatGLM-6B."""
    tokens = [getattr(network.config, name, None) for name in ("gmask_token_id", "bos_token_id")]
    return [] if None in tokens else [int(token) for token in tokens if token is not None]


def _text(network: LanguageModel, length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    size = min(network.config.vocab_size, 60000)
    return [int(token) for token in torch.randint(6, size, (length,), generator=generator)]
