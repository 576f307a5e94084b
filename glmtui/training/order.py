"""Which rows come when: shuffled anew for every epoch, and the same whenever the same run asks."""

from __future__ import annotations

import random


class Order:
    """The endless row of the numbers 0 to `count` - 1, each once an epoch. Nothing needs to be kept to go
    on in it."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._shuffled = -1, list(range(count))

    def __getitem__(self, place: int) -> int:
        epoch, within = divmod(place, self._count)
        if epoch != self._epoch:
            self._shuffled = list(range(self._count))
            random.Random(f"{self._seed}/{epoch}").shuffle(self._shuffled)
            self._epoch = epoch
        return self._shuffled[within]

    def step(self, number: int, batch: int, accumulate: int) -> list[list[int]]:
        """Return the rows of step `number`, counted from 0: `accumulate` micro-batches of `batch`.

        What is begun goes on into the next epoch, as published.
        """
        first = number * batch * accumulate
        places = range(first, first + batch * accumulate)
        rows = [self[place] for place in places]
        return [rows[start : start + batch] for start in range(0, len(rows), batch)]
