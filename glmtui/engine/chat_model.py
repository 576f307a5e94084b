"""A loaded model as Python and the worker see it: token ids in and out, and conversations in and text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from glmtui.engine.failures import is_out_of_memory
from glmtui.engine.generate import Generation
from glmtui.engine.prefill import Check, read
from glmtui.engine.prefix_cache import PrefixCache, default_limit
from glmtui.errors import OutOfMemoryError, UserError
from glmtui.hub.memory_estimate import context_advice
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import KVCache, LanguageModel
from glmtui.models.chat_formats import formats as prompts
from glmtui.models.chat_tokenizer import ChatTokenizer, load_tokenizer
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.events import Stats
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import ModelInfo
from glmtui.protocol.phrases import Phrase, _, sentences
from glmtui.protocol.sampling import Sampling

ANSWER_ROOM = 512
"""Tokens kept free for the answer when old rounds must be left out, or a quarter of a shorter context. A
model that thinks first always has the quarter."""

History = list[tuple[str, str]]
"""Rounds of (question, answer), as in the published `chat`."""


class ChatModel:
    """A network with its tokenizer and its way of writing conversations. Made by `glmtui.load`.

    One answer at a time: the model's tensors are shared, so two threads must not generate at once.
    """

    def __init__(
        self,
        network: LanguageModel,
        folder: ModelFolder,
        info: ModelInfo,
        tokenizer: ChatTokenizer | None = None,
    ) -> None:
        self.network = network
        self.folder = folder
        self.info = info
        self._tokenizer = tokenizer
        device = next(network.parameters()).device
        self._prefixes: PrefixCache[prompts.Held] = PrefixCache(default_limit(device))

    def __repr__(self) -> str:
        return (
            f"<ChatModel {self.info.name} on {self.info.device}, {self.info.dtype}, quant {self.info.quant}>"
        )

    @property
    def tokenizer(self) -> ChatTokenizer:
        """The model's tokenizer. Raises UserError naming the file where the folder has none."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.folder.path)
        return self._tokenizer

    @property
    def format(self) -> prompts.ChatFormat:
        """How the model wants a conversation to be written."""
        return self.tokenizer.format

    # --- token ids ---

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return float32 logits ``[n, vocab]`` on the CPU for the prompt `ids` ``[n]``."""
        device = next(self.network.parameters()).device
        return read(self.network, torch.as_tensor(ids, dtype=torch.long, device=device)).cpu()

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop_ids: Sequence[int] = (),
    ) -> Iterator[int]:
        """Yield up to `max_new_tokens` token ids that follow the prompt `ids`, through the key/value cache.

        Greedy unless `temperature` is above 0. This is the bare decoding: it goes on after an end token
        unless `stop_ids` (such as ``model.network.config.stop_ids``) say otherwise.
        """
        prompt = [int(token) for token in ids]
        sampling = Sampling(
            max_length=len(prompt) + max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        yield from Generation(self.network, prompt, sampling, stop_ids=stop_ids)

    # --- conversations ---

    def chat(
        self, query: str, history: Sequence[tuple[str, str]] = (), *, system: str = "", **sampling: Any
    ) -> tuple[str, History]:
        """Answer `query`; return the answer and the history with it, as the published `chat` does.

        Keyword arguments are fields of `Sampling`. `history` itself is not changed.
        """
        answer = self.stream(_turns(query, history, system), replace(self.default_sampling, **sampling))
        response = "".join(answer)
        return response, [*history, (query, response)]

    def stream_chat(
        self, query: str, history: Sequence[tuple[str, str]] = (), *, system: str = "", **sampling: Any
    ) -> Iterator[tuple[str, History]]:
        """Yield the answer so far and the history with it, every time there is more text."""
        answer = self.stream(_turns(query, history, system), replace(self.default_sampling, **sampling))
        for text in answer:
            if text:
                yield answer.text, [*history, (query, answer.text)]

    @property
    def default_sampling(self) -> Sampling:
        """What the model's makers chose."""
        return self.info.sampling

    def stream(
        self,
        turns: Sequence[ChatMessage],
        sampling: Sampling | None = None,
        *,
        continue_answer: bool = False,
        check: Check | None = None,
    ) -> Answer:
        """Return the answer to `turns`, for which nothing is computed until it is iterated over.

        If the conversation is too long, its oldest rounds are left out of the prompt.

        Args:
            turns: ends with the user's message, or with `continue_answer` the assistant's own unfinished one.
            sampling: how tokens are chosen; None is `default_sampling`.
            continue_answer: go on where the last turn ends.
            check: called with the fraction of the prompt that is read, and before every token. It may raise
                `OperationCancelled`, which ends the answer with what came until then.

        Raises:
            UserError: there is no tokenizer, or the last message alone is too long.
        """
        sampling = sampling or self.default_sampling
        limit = self.limit(sampling)
        prompt = self._fit(turns, sampling, limit)
        generation = Generation(
            self.network,
            prompt.ids,
            sampling,
            limit=limit,
            stop_ids=(*self.network.config.stop_ids, *self.format.stop_ids),
            guard_id=self.tokenizer.raw.guard_id,
            cache=self._prefixes.take(prompt.ids),
            check=check,
        )
        return Answer(self, tuple(turns), generation, limit, prompt.dropped_rounds, goes_on=continue_answer)

    def count_tokens(self, turns: Sequence[ChatMessage]) -> int:
        """Return the tokens of the whole prompt of `turns`."""
        return len(self.format.write(prompts.Dialogue.of(turns)))

    def limit(self, sampling: Sampling) -> int:
        """Prompt and answer together in tokens: what is asked for, as far as the model was made for it."""
        return min(sampling.max_length, self.network.config.max_length)

    def too_long(self, tokens: int) -> Phrase:
        """Say that memory ran out with a conversation of `tokens`, and what would fit."""
        info = self.info
        message = _("{device} ran out of memory with a conversation of {count} tokens.").format(
            device=info.device_name or info.device, count=tokens
        )
        itemsize = 4 if info.dtype == "float32" else 2
        return sentences(message, context_advice(self.folder.sizes, info.quant, itemsize, tokens))

    def keep(self, written: prompts.Held, cache: KVCache | None) -> None:
        """Keep what an answer leaves in `cache`, for the next question of the same conversation."""
        if cache is not None:
            self._prefixes.put(cache, written.ids, written)

    def forget_prefixes(self) -> None:
        """Give the memory of all earlier conversations' keys and values back."""
        self._prefixes.clear()

    def _fit(self, turns: Sequence[ChatMessage], sampling: Sampling, limit: int) -> prompts.Prompt:
        """Write the prompt so that an answer of fair length has room, or any if the last message is long.

        It continues, token for token, the longest conversation that is cached and that `turns` go on from.
        """
        usual = limit if self.format.thinks else ANSWER_ROOM
        room = min(sampling.max_new_tokens or usual, limit // 4)
        written = None
        if self.format.keeps_cache:
            fitting = (each for each in self._prefixes.sources() if _begins(turns, each.turns))
            written = max(fitting, key=lambda each: len(each.turns), default=None)
        try:
            return self.format.fit(turns, limit - room, written)
        except UserError:
            return self.format.fit(turns, limit - 1, written)


class Answer:
    """One answer to a conversation as it comes: iterate for its text, once.

    Yields a string per token, empty while a character is held back, and one more for what is held back last.
    """

    def __init__(
        self,
        model: ChatModel,
        turns: tuple[ChatMessage, ...],
        generation: Generation,
        limit: int,
        dropped_rounds: int,
        *,
        goes_on: bool,
    ) -> None:
        self.limit = limit
        """Prompt and answer together may not pass this, in tokens."""
        self.dropped_rounds = dropped_rounds
        """How many of the oldest rounds the prompt leaves out."""
        self.reason: Literal["stop", "length", "stopped"] = "stopped"
        """Why it ended: complete, too long, or stopped by `check`."""
        self._model = model
        self._turns = turns
        self._generation = generation
        self._goes_on = goes_on
        self._before = turns[-1].text if goes_on else ""
        self._decoder = model.format.stream_tokens(self._before)
        self._response = model.format.stream_response(self._before)
        self._ids: list[int] = []
        self._pieces: list[str] = []

    def __iter__(self) -> Iterator[str]:
        try:
            for token in self._generation:
                self._ids.append(token)
                yield self._add(self._response.push(self._decoder.push(token)))
            self.reason = self._generation.reason
        except OperationCancelled:
            pass
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._model.forget_prefixes()
            raise OutOfMemoryError(self._model.too_long(self.prompt_tokens + self.answer_tokens)) from error
        yield self._add(self._response.push(self._decoder.finish()) + self._response.finish())
        turns = self._turns[:-1] if self._goes_on else self._turns
        written = prompts.Held(
            (*turns, ChatMessage.of("assistant", self._before + self.text)),
            [*self._generation.prompt, *self._ids],
            self.dropped_rounds,
        )
        self._model.keep(written, self._generation.cache)

    @property
    def text(self) -> str:
        """What has come so far."""
        return "".join(self._pieces)

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self._generation.prompt)

    @property
    def answer_tokens(self) -> int:
        """How many tokens have come so far."""
        return self._generation.count

    @property
    def stats(self) -> Stats:
        """The measure of the answer so far."""
        return self._generation.stats

    def _add(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text


def _begins(turns: Sequence[ChatMessage], first: Sequence[ChatMessage]) -> bool:
    return tuple(turns[: len(first)]) == tuple(first)


def _turns(query: str, history: Sequence[tuple[str, str]], system: str) -> list[ChatMessage]:
    turns = [ChatMessage.of("system", system)] if system else []
    for question, answer in history:
        turns += [ChatMessage.of("user", question), ChatMessage.of("assistant", answer)]
    return [*turns, ChatMessage.of("user", query)]
