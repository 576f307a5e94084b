"""Measures what one pass over the weights is shared by: long contexts, several answers, guessed tokens."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from glmtui.engine.batching import Batch, Member
from glmtui.engine.bench import prompt_ids
from glmtui.engine.bench_texts import TASKS, Task
from glmtui.engine.generate import Generation
from glmtui.engine.sampling import Sampler
from glmtui.hub.catalog import BUILTIN
from glmtui.models.base import LanguageModel
from glmtui.models.chat_tokenizer import load_tokenizer
from glmtui.protocol.cancellation import CancelToken
from glmtui.protocol.sampling import Sampling

Step = Callable[[str], None]
"""Is told what runs."""


def _quiet(_text: str) -> None:
    return


# --- contexts ---


@dataclass(frozen=True, slots=True)
class Context:
    """Decoding behind a prompt."""

    tokens: int
    """Of the prompt."""
    seconds: list[float]
    """What every token took."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        return {
            "tokens": self.tokens,
            "decode_tokens_per_s": round(1 / statistics.median(self.seconds), 3),
        }


def measure_contexts(
    network: LanguageModel, contexts: Sequence[int], *, generate: int, repeat: int, step: Step = _quiet
) -> list[Context]:
    """Read a prompt of each length, then generate behind all by turns: `repeat` times `generate` tokens.

    Behind prompts next to the model's longest context there are fewer; those without room for one token a run
    are left out.
    """
    rooms = {length: network.config.max_length - length - 1 for length in sorted({*contexts})}
    runs = {length: min(generate, room // repeat) for length, room in rooms.items() if room >= repeat}
    answers: dict[int, Iterator[int]] = {}
    for length, tokens in runs.items():
        step(f"{length}")
        sampling = _greedy(length + tokens * repeat + 1)
        answers[length] = iter(Generation(network, prompt_ids(network, length), sampling, lookup=False))
        next(answers[length])
    found = [Context(length, []) for length in answers]
    for number in range(repeat):
        for each in found:
            step(f"{number + 1}/{repeat} · {each.tokens}")
            for _token in range(runs[each.tokens]):
                before = time.perf_counter()
                next(answers[each.tokens])
                each.seconds.append(time.perf_counter() - before)
    return found


# --- several answers at once ---


@dataclass(frozen=True, slots=True)
class Parallel:
    """Several answers at once."""

    streams: int
    tokens_per_s: list[float]
    """Of all together, in every run."""
    speedups: list[float]
    """Next to one answer by itself, measured just before."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        return {
            "streams": self.streams,
            "tokens_per_s": round(statistics.median(self.tokens_per_s), 3),
            "speedup": round(statistics.median(self.speedups), 3),
        }


def measure_parallel(
    network: LanguageModel,
    streams: Sequence[int],
    *,
    prompt: int,
    generate: int,
    repeat: int,
    step: Step = _quiet,
) -> list[Parallel]:
    """Make one answer, and then as many at once as each of `streams` says, `repeat` times by turns."""
    found = [Parallel(count, [], []) for count in streams]
    for number in range(repeat):
        for each in found:
            step(f"{number + 1}/{repeat} · 1, {each.streams}")
            alone = _decode_together(network, 1, prompt, generate)
            together = _decode_together(network, each.streams, prompt, generate)
            each.tokens_per_s.append(together)
            each.speedups.append(together / alone)
    return found


def _decode_together(network: LanguageModel, streams: int, prompt: int, generate: int) -> float:
    """Return the tokens per second of all, behind their prompts."""
    batch = Batch()
    sampling = _greedy(prompt + streams + generate + 1, generate + 1)
    for i in range(streams):
        answer = Generation(network, prompt_ids(network, prompt + i), sampling, lookup=False)
        batch.begin(CancelToken(), lambda member, answer=answer: _steps(member, answer))  # type: ignore[misc]
    start = time.perf_counter()
    while len(batch):
        batch.step()
    return streams * generate / (time.perf_counter() - start)


def _steps(member: Member, answer: Generation) -> Iterator[None]:
    member.generation = answer
    for _token in answer:
        yield


# --- prompt lookup ---


@dataclass(frozen=True, slots=True)
class Guessing:
    """A task with guesses from prompt and answer, next to the same without."""

    task: str
    speedups: list[float]
    """Of the answer, the prompt left out, in every run."""
    accepted_per_step: float
    """Guessed tokens that turned out right, by pass over the weights."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers under the names of ``glmtui bench --json``."""
        return {
            "task": self.task,
            "speedup": round(statistics.median(self.speedups), 3),
            "accepted_per_step": round(self.accepted_per_step, 3),
        }


def measure_lookup(network: LanguageModel, name: str, *, repeat: int, step: Step = _quiet) -> Guessing:
    """Answer the task `name` with and without prompt lookup, `repeat` times by turns.

    What is answered is given, so that random weights can be measured too: every token is computed as ever,
    and what then is said is the given answer's next token.
    """
    task = TASKS[name]
    speedups: list[float] = []
    accepted = 0.0
    for number in range(repeat):
        step(f"{number + 1}/{repeat} · {name}")
        plain = _answer(network, task, lookup=False)
        guessing = _answer(network, task, lookup=True)
        speedups.append(plain.stats.answer_seconds / guessing.stats.answer_seconds)
        right = 0 if guessing.lookup is None else guessing.lookup.accepted
        accepted += right / (guessing.count - right) / repeat
    return Guessing(name, speedups, accepted)


class _Given(Generation):
    """An answer whose tokens are known."""

    def __init__(
        self, network: LanguageModel, prompt: Sequence[int], answer: Sequence[int], *, lookup: bool
    ) -> None:
        sampling = _greedy(len(prompt) + len(answer))
        super().__init__(network, prompt, sampling, lookup=lookup)
        self._sampler = _Saying(sampling, answer)


class _Saying(Sampler):
    """Chooses as ever, and then says what is given."""

    def __init__(self, sampling: Sampling, answer: Sequence[int]) -> None:
        super().__init__(sampling)
        self._answer = iter(answer)

    def __call__(self, logits: Tensor) -> int:
        super().__call__(logits)
        return next(self._answer)


def _answer(network: LanguageModel, task: Task, *, lookup: bool) -> Generation:
    tokenizer = load_tokenizer(BUILTIN)  # always the same one, so that models can be compared
    question, answer = (_within(tokenizer.encode_text(text), network) for text in task)
    ending = prompt_ids(network, 4)[2:]  # what ChatGLM-6B's prompts end with
    generation = _Given(network, [*question, *ending], answer, lookup=lookup)
    for _token in generation:
        pass
    return generation


def _within(ids: Sequence[int], network: LanguageModel) -> list[int]:
    """Return `ids` such that each is in the vocabulary and none means anything else than text."""
    size = min(network.config.vocab_size, 60000) - 6
    return [6 + token % size for token in ids]


def _greedy(max_length: int, max_new_tokens: int | None = None) -> Sampling:
    return Sampling(max_length=max_length, max_new_tokens=max_new_tokens, temperature=0.0)
