"""The one generator of tokens, behind the app, ``glmtui ask``, ``glmtui bench`` and the Python interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Literal

import torch

from glmtui.engine.cuda_graph import Decoder, recorder_for
from glmtui.engine.pictures import PromptImage
from glmtui.engine.prefill import Check, read
from glmtui.engine.sampling import Sampler
from glmtui.models.base import KVCache, LanguageModel, PlacedImage
from glmtui.protocol.events import Stats
from glmtui.protocol.sampling import Sampling


class Generation:
    """One answer in the making: iterate over it for its token ids, stop token excluded.

    Args:
        model: any architecture.
        prompt: token ids.
        sampling: how tokens are chosen, and `max_length` and `max_new_tokens`.
        limit: prompt and answer together in tokens; by default `sampling.max_length`.
        stop_ids: any of these ends the answer.
        guard_id: see `Sampler`.
        cache: holds the first tokens of `prompt` already, from an earlier answer.
        images: pictures in the prompt, which are looked at when they are needed.
        check: called between the pieces of the prompt, with the fraction that is read, and before every
            token; raises to cancel.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        limit: int | None = None,
        stop_ids: Sequence[int] = (),
        guard_id: int = 5,
        cache: KVCache | None = None,
        images: Sequence[PromptImage] = (),
        check: Check | None = None,
    ) -> None:
        self._sampler = Sampler(sampling, prompt, guard_id, tuple(stop_ids))
        self.images = images
        limit = sampling.max_length if limit is None else limit
        room = limit - len(prompt)
        self.max_new_tokens = room if sampling.max_new_tokens is None else min(room, sampling.max_new_tokens)
        self.prompt = prompt
        self.cache = cache
        self.reason: Literal["stop", "length"] = "length"
        """Why the answer ended, once it has."""
        self._model = model
        self._stop_ids = frozenset(stop_ids)
        self._check = check
        self.count = 0
        """Tokens so far."""
        self._started = self._prompt_read = self._ended = 0.0

    @property
    def stats(self) -> Stats:
        """The measure of the answer so far."""
        now = self._ended or perf_counter()
        read = self._prompt_read or now
        return Stats(len(self.prompt), self.count, read - (self._started or now), now - read)

    def __iter__(self) -> Iterator[int]:
        self._started = perf_counter()
        try:
            if self.max_new_tokens > 0:
                yield from self._tokens()
        finally:
            self._ended = perf_counter()

    def _tokens(self) -> Iterator[int]:
        model, check = self._model, self._check
        cache = self.cache or model.new_cache(len(self.prompt) + min(self.max_new_tokens, KVCache.STEP))
        self.cache = cache
        device = next(model.parameters()).device
        ids = torch.tensor(self.prompt[cache.length :], dtype=torch.long, device=device)
        images = self._look(cache.length)
        logits = read(model, ids, cache, last_only=True, check=check, images=images)
        self._prompt_read = perf_counter()
        decode = Decoder(model, cache, recorder_for(model))
        while True:
            if check is not None:
                check(1.0)
            token = self._sampler(logits[-1])
            if token in self._stop_ids:
                self.reason = "stop"
                return
            self.count += 1
            yield token
            if self.count >= self.max_new_tokens:
                return
            if check is not None:
                check(1.0)
            logits = decode(token)

    def _look(self, read: int) -> list[PlacedImage]:
        """Return the pictures behind the first `read` tokens, which the cache has."""
        check = self._check
        step = None if check is None else lambda: check(0.0)
        return [PlacedImage(each.at, each.look(step)) for each in self.images if each.at >= read]
