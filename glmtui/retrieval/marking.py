"""Where in a passage the words of a question stand."""

from __future__ import annotations

import re

from glmtui.retrieval import terms

_WORD = re.compile(r"[^\W_]+")


def spans(text: str, question: str) -> list[tuple[int, int]]:
    """Return from where to where the terms of `question` stand in `text`, in their order, joined."""
    asked = set(terms.asked(question))
    found: list[tuple[int, int]] = []

    def add(start: int, end: int) -> None:
        if found and found[-1][1] >= start:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))

    for match in _WORD.finditer(text):
        word = match[0]
        start = match.start()
        at = 0
        while at < len(word):
            if terms.is_han(word[at]):
                if word[at : at + 2] in asked:
                    add(start + at, start + at + 2)
                elif word[at] in asked:
                    add(start + at, start + at + 1)
                at += 1
                continue
            end = at
            while end < len(word) and not terms.is_han(word[end]):
                end += 1
            if any(term in asked for term in terms.terms(word[at:end])):
                add(start + at, start + end)
            at = end
    return found
