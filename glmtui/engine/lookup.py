"""Prompt lookup: guesses the next tokens, so that one pass over the weights checks several at once.

What followed the last few tokens where they stood before, in the prompt or in the answer, may follow again:
in a text that is rewritten, code that is edited, an answer from documents. The guesses change no answer:
every token is still drawn from the logits at its own place, and a guess only says which of these are
computed together.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

LONGEST, SHORTEST = 4, 2
"""How many of the last tokens are looked for: the longer the match, the better the guess."""
FIRST, MOST = 3, 15
"""Tokens guessed at first, and at most: with the token before them they are the 16 rows a kernel takes."""
PLAIN = 8
"""Passes without guesses whose median tells what a token costs; half as many come before the first guess."""
GUESSED = 5
"""Passes with guesses whose median tells what each guess costs."""
START, SHARE = 0.5, 0.01
"""Passes that guesses may waste, and how many more for each token of the answer: what keeps an answer that
never repeats anything as fast as without."""
CREDIT = 2.0
"""What guesses saved allows no more waste than this, later in the same answer."""


class NGrams:
    """Where the last few tokens of a sequence stood before."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # what ends at this index, the last time
        self._found: dict[int, int] = {}  # by length: what came after the same tokens begins there
        for token in ids:
            self.add(token)

    def add(self, token: int) -> None:
        """Continue the sequence."""
        ids = self._ids
        ids.append(token)
        self._found.clear()
        for length in range(SHORTEST, min(LONGEST, len(ids)) + 1):
            key = tuple(ids[-length:])
            if (before := self._after.get(key)) is not None:
                self._found[length] = before
            self._after[key] = len(ids)

    def following(self, count: int, shortest: int = SHORTEST) -> list[int]:
        """Return `count` tokens that may come next, or none.

        The longest match counts, of at least `shortest` tokens, and of equal ones the last. Where it
        overlaps the end, as in a list that repeats itself, the repetition goes on.
        """
        if not (lengths := [length for length in self._found if length >= shortest]):
            return []
        first = self._found[max(lengths)]
        period = len(self._ids) - first
        return [self._ids[first + i % period] for i in range(count)]


class Lookup:
    """Decides when to guess, and how much: by what earlier guesses of the same answer saved and cost.

    Args:
        prompt: token ids.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._grams = NGrams(prompt)
        self._width, self._shortest = FIRST, SHORTEST
        self._plain: deque[float] = deque(maxlen=PLAIN)
        self._extra: deque[float] = deque(maxlen=GUESSED)  # of plain passes, what each guess added to one
        self._allowance, self._losses = START, 0
        self.passes = self.accepted = 0
        """Passes with guesses, and how many of these turned out right."""

    def add(self, token: int) -> None:
        """Take on a token of the answer."""
        self._grams.add(token)
        self._allowance = min(self._allowance + SHARE, CREDIT)

    def guess(self, most: int) -> list[int]:
        """Return up to `most` tokens that may follow, or none where guessing does not pay."""
        if len(self._plain) < PLAIN // 2 or self._allowance <= 0:
            return []
        return self._grams.following(max(min(self._width, most), 0), self._shortest)

    def note(self, guessed: int, accepted: int, seconds: float) -> None:
        """Learn from a pass: how many of the guessed tokens came, and how long it took."""
        if not guessed:
            self._plain.append(seconds)
            return
        self.passes += 1
        self.accepted += accepted
        # No pass takes longer than its tokens one by one, but where another program held it up.
        self._extra.append(min((seconds / statistics.median(self._plain) - 1) / guessed, 1.0))
        saved = accepted - guessed * statistics.median(self._extra)
        self._losses += saved < 0
        # What one such pass seems to have wasted must not end all guessing: it is tried again, ever later.
        self._allowance = max(min(self._allowance + saved, CREDIT), -self._losses)
        if accepted == guessed:
            self._width = min(2 * max(self._width, 1), MOST)
        elif 2 * accepted < guessed:
            self._width = max(self._width // 2, 1)
        self._shortest = SHORTEST if accepted else min(self._shortest + 1, LONGEST)
