"""Measures a model behind a server, from here: the time to the first text and the speed after it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from glmtui.engine.remote_model import RemoteChatModel
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.sampling import Sampling

WORDS = ("river", "stone", "light", "seven", "garden", "写", "山", "水", "because", "paper")


@dataclass(frozen=True)
class Measured:
    """Figures of all runs, the network's share included."""

    first_token_s: dict[int, list[float]]
    """To the first text, by the length of the prompt as the server counted it."""
    tokens_per_s: list[float]
    """After the first text."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        return {
            "prefill": [
                {
                    "tokens": tokens,
                    "tokens_per_s": round(tokens / statistics.median(times), 3),
                    "first_token_s": round(statistics.median(times), 4),
                }
                for tokens, times in self.first_token_s.items()
            ],
            "decode": {"tokens_per_s": round(statistics.median(self.tokens_per_s), 3)},
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
    first: dict[int, list[float]] = {}
    speeds: list[float] = []
    for number in range(repeat):
        for length in sorted(prompts):
            step(f"{number + 1}/{repeat} · {length}")
            question = " ".join(random.choices(WORDS, k=length))
            answer = model.stream(
                [ChatMessage.of("user", question)], Sampling(max_new_tokens=generate, temperature=0.8)
            )
            for _piece in answer:
                pass
            stats = answer.stats
            first.setdefault(stats.prompt_tokens, []).append(stats.prompt_seconds)
            if stats.answer_tokens > 1 and stats.answer_seconds > 0:
                speeds.append((stats.answer_tokens - 1) / stats.answer_seconds)
    return Measured(first, speeds or [0.0])
