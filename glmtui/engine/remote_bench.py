"""Measures a model behind a server, from here: the time to the first text and the speed after it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from glmtui.engine.remote_model import RemoteChatModel
from glmtui.protocol.events import Stats
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.sampling import Sampling

SAMPLE = 64
"""Words of a first question, which shows how many tokens the server has for one, and wakes it."""
WORDS = ("river", "stone", "light", "seven", "garden", "写", "山", "水", "because", "paper")


@dataclass(frozen=True)
class Prompt:
    """Questions of about one length."""

    tokens: list[int]
    """Of each, as the server counted them."""
    seconds: list[float]
    """To the first text of each answer."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        tokens, seconds = round(statistics.median(self.tokens)), statistics.median(self.seconds)
        return {
            "tokens": tokens,
            "tokens_per_s": round(tokens / seconds, 3),
            "first_token_s": round(seconds, 4),
        }


@dataclass(frozen=True)
class Measured:
    """Figures of all runs, the network's share included."""

    prompts: list[Prompt]
    tokens_per_s: list[float]
    """After the first text; of answers that came in one piece there is none."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        speed = round(statistics.median(self.tokens_per_s), 3) if self.tokens_per_s else None
        return {
            "prefill": [prompt.as_dict() for prompt in self.prompts],
            "decode": {"tokens_per_s": speed},
        }


def measure(
    model: RemoteChatModel,
    *,
    prompts: Sequence[int],
    generate: int,
    repeat: int,
    step: Callable[[str], None] = lambda _text: None,
) -> Measured:
    """Ask `repeat` questions of about every length of `prompts`, in tokens, which no cache can know.

    Raises:
        UserError: the server does not answer.
    """
    step(f"0/{repeat} · {SAMPLE}")
    tokens_per_word = _ask(model, SAMPLE, 1).prompt_tokens / SAMPLE
    found = {length: Prompt([], []) for length in sorted(prompts)}
    speeds: list[float] = []
    for number in range(repeat):
        for length, prompt in found.items():
            step(f"{number + 1}/{repeat} · {length}")
            stats = _ask(model, max(1, round(length / tokens_per_word)), generate)
            prompt.tokens.append(stats.prompt_tokens)
            prompt.seconds.append(stats.prompt_seconds)
            if stats.answer_tokens > 1 and stats.answer_seconds > 0:
                speeds.append((stats.answer_tokens - 1) / stats.answer_seconds)
    return Measured([*found.values()], speeds)


def _ask(model: RemoteChatModel, words: int, generate: int) -> Stats:
    """Return the measure of an answer to so many words."""
    question = ChatMessage.of("user", " ".join(random.choices(WORDS, k=words)))
    answer = model.stream([question], Sampling(max_new_tokens=generate, temperature=0.8))
    for _piece in answer:
        pass
    return answer.stats
