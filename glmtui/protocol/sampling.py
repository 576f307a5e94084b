"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """The defaults are ChatGLM-6B's own (`chat` in its published code)."""

    max_length: int = 2048
    """Prompt and answer together, in tokens."""
    max_new_tokens: int | None = None
    """The answer alone, in tokens; None: as many as `max_length` leaves."""
    temperature: float = 0.95
    """0 takes the likeliest token (greedy)."""
    top_p: float = 0.7
    top_k: int = 50
    """0 switches it off. 50 is transformers' default, which the published `chat` inherits."""
    repetition_penalty: float = 1.0
    seed: int | None = None
    """None draws a new one for every answer."""
    min_length: int = 0
    """Prompt and answer together, in tokens, before which no answer ends."""


DEFAULT_SAMPLING = Sampling()
