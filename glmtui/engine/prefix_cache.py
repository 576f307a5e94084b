"""Keys and values that earlier answers left, for prompts that begin with the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import psutil
import torch

from glmtui.models.base import KVCache

T = TypeVar("T")

Digests = Sequence[tuple[int, str]]
"""Where in a prompt something else than text begins, such as an image, and the digest of its content."""

LARGEST = 1 << 30
SHARE = 0.1
"""Prefixes may take so much of the memory, and no more than `LARGEST` bytes."""
SHORT = 8
"""Tokens that are rather read again than kept by a copy of what comes before them: it would take less time
than reading one token, but memory from the other sequences."""


def default_limit(device: torch.device) -> int:
    """Return how many bytes prefixes may take: a tenth of the machine's memory, or of what a GPU has free."""
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().total
    return min(LARGEST, int(free * SHARE))


@dataclass(frozen=True, eq=False)
class _Entry(Generic[T]):
    cache: KVCache
    ids: Sequence[int]
    """Those that the cache holds, and perhaps more."""
    digests: Digests
    source: T

    def common(self, ids: Sequence[int], digests: Digests) -> int:
        """Return how many of the first tokens of a prompt are this one's, and stand for the same content."""
        mine, theirs = dict(self.digests), dict(digests)
        different = [at for at in mine.keys() | theirs.keys() if mine.get(at) != theirs.get(at)]
        limit = min(len(ids), self.cache.length, *different)
        return next((i for i in range(limit) if ids[i] != self.ids[i]), limit)


class PrefixCache(Generic[T]):
    """The caches of several sequences, the most recently used last.

    A cache is either in here or in use: `take` hands out one that nobody else has, `put` brings it back. What
    takes more than the limit makes the least recently used ones go, but the newest always stays.

    Args:
        limit: bytes that the caches in here may take.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: list[_Entry[T]] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all caches in here."""
        return sum(entry.cache.nbytes for entry in self._entries)

    def sources(self) -> Iterator[T]:
        """Yield what each sequence was put here with, the most recently used first."""
        return (entry.source for entry in reversed(self._entries))

    def put(self, cache: KVCache, ids: Sequence[int], source: T, digests: Digests = ()) -> None:
        """Store `cache`, which holds the first tokens of `ids`; it belongs to this from now on.

        Others that it can stand for go: the same question asked again and again is kept once.
        """
        if not cache.length:
            return
        self._entries = [
            each
            for each in self._entries
            if cache.reusable(each.ids, each.common(ids, digests)) < each.cache.length
        ]
        self._entries.append(_Entry(cache, tuple(ids), tuple(digests), source))
        while len(self._entries) > 1 and self.nbytes > self.limit:
            del self._entries[0]

    def take(self, ids: Sequence[int], digests: Digests = ()) -> KVCache | None:
        """Return a cache of as many of the first tokens of the prompt `ids` as can be; None if of no token.

        At least the last token is left to be read. Where another sequence may still need the rest of the
        cache, and there is room, it is given a copy of what it has in common.
        """
        best, most = None, 0
        for entry in reversed(self._entries):
            count = entry.cache.reusable(ids, entry.common(ids[:-1], digests))
            if count > most:
                best, most = entry, count
        if best is None:
            return None
        self._entries.remove(best)
        cache = best.cache
        if cache.length - most > SHORT and self.nbytes + 2 * cache.nbytes <= self.limit:
            self._entries.append(best)
            return cache.copy(most)
        cache.truncate(most)
        return cache

    def remove(self, cache: KVCache) -> bool:
        """Forget `cache`; return whether it was here."""
        before = len(self)
        self._entries = [each for each in self._entries if each.cache is not cache]
        return len(self) < before

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
