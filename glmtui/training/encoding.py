"""From a row to token ids and labels, as the published ``preprocess_function_train`` makes them.

Two things of it are mended unless a row is to be exactly `as_published`: what is too long loses its oldest
rounds and then the beginning of the question, where the published code cut off the end and with it the
newest question and ``答：``; and for ChatGLM-6B a question with an empty history is the bare question, as
the published ``chat()`` asks it, not ``[Round 0]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from glmtui.errors import TooLongError
from glmtui.models.chat_formats.formats import Dialogue, messages_of
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.phrases import _

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glmtui.models.chat_tokenizer import ChatTokenizer
    from glmtui.training.rows import Row

IGNORED = -100
"""The label of a token that is not learned, as torch's cross entropy has it."""
PAD_IDS = {"chatglm": 3}
"""What short rows are filled up with; 0 in all other families."""


class Cut(NamedTuple):
    """What was left out of a row that is too long; false where nothing was."""

    rounds: int = 0
    """How many of the oldest."""
    prompt: bool = False
    """The beginning of the question; the end, where it is as published."""
    response: bool = False
    """The end of the answer."""

    def __bool__(self) -> bool:
        return any(self)


_NOTHING_CUT = Cut()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row, not filled up."""

    ids: list[int]
    """Prompt, answer, end token."""
    labels: list[int]
    """As many: what is predicted at the position before, `IGNORED` for the prompt. ChatGLM-6B's ``<sop>``,
    the last of the prompt, is a target too."""
    cut: Cut = _NOTHING_CUT


def encode(
    row: Row, tokenizer: ChatTokenizer, max_source: int, max_target: int, *, as_published: bool = False
) -> Encoded:
    """Return the ids and labels of `row`.

    Args:
        row: what to learn.
        tokenizer: the model's.
        max_source: the longest prompt in tokens. As published, ChatGLM-6B's may have one more, and later
            ones' count ``[gMASK] sop`` in.
        max_target: the longest answer in tokens. ChatGLM-6B's counts ``<sop>`` and ``<eop>`` in, later ones'
            the end token not.
        as_published: cut as the published code does.

    Raises:
        TooLongError: what is to stand before every question is too long already.
    """
    first = tokenizer.raw.family == "chatglm"
    messages, prompt, cut = _prompt(row, tokenizer, max_source, as_published=as_published)
    answer = _answer(row.response, messages, tokenizer)
    room = max(max_target - 2 if first else max_target, 0)
    ids = [*prompt, *answer[:room], tokenizer.raw.eos_id]
    context = len(prompt) - 1 if first else len(prompt)
    pad = pad_id(tokenizer)  # as published: not even where the answer has such a token
    labels = [IGNORED] * context + [IGNORED if token == pad else token for token in ids[context:]]
    return Encoded(ids, labels, cut._replace(response=len(answer) > room))


def pad_id(tokenizer: ChatTokenizer) -> int:
    """Return what short rows are filled up with."""
    return PAD_IDS.get(tokenizer.raw.family, 0)


def batch(
    rows: Sequence[Encoded], pad: int, length: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fill up `rows` on the right with `pad`, their labels with `IGNORED`.

    Returns:
        Ids and labels ``[b, n]``, int64; n is `length`, by default that of the longest.
    """
    n = max(len(row.ids) for row in rows) if length is None else length
    ids = np.full((len(rows), n), pad, np.int64)
    labels = np.full((len(rows), n), IGNORED, np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = row.ids
        labels[at, : len(row.labels)] = row.labels
    return ids, labels


def _prompt(
    row: Row, tokenizer: ChatTokenizer, max_source: int, *, as_published: bool
) -> tuple[list[ChatMessage], list[int], Cut]:
    """Return the messages that are left, their ids, and what was cut."""
    history = list(row.history or ())
    first = tokenizer.raw.family == "chatglm"
    messages = messages_of(row.prompt, history, row.system)
    if as_published:
        return messages, *_published_prompt(row, messages, tokenizer, max_source)
    limit = max_source + 1 if first else max_source
    chat = tokenizer.format
    try:
        fitted = chat.fit(messages, limit)
    except TooLongError:
        question = _end_that_fits(row, tokenizer, limit)
        messages = messages_of(question, (), row.system)
        return messages, chat.write(Dialogue.of(messages)), Cut(len(history), prompt=True)
    kept = messages_of(row.prompt, history[fitted.dropped_rounds :], row.system)
    return kept, fitted.ids, Cut(fitted.dropped_rounds)


def _end_that_fits(row: Row, tokenizer: ChatTokenizer, limit: int) -> str:
    """Return the longest end of the question of which the prompt has at most `limit` tokens."""

    def fits(start: int) -> bool:
        messages = messages_of(row.prompt[start:], (), row.system)
        return len(tokenizer.format.write(Dialogue.of(messages))) <= limit

    low, high = 0, len(row.prompt)  # the beginning does not fit
    if not fits(high - 1):
        said = _("no question fits into {limit} tokens next to what stands before every question")
        raise TooLongError(said.format(limit=limit))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return row.prompt[high if high < len(row.prompt) else high - 1 :]


def _published_prompt(
    row: Row, messages: list[ChatMessage], tokenizer: ChatTokenizer, max_source: int
) -> tuple[list[int], Cut]:
    """Return the ids cut off at the end, and ChatGLM-6B's rounds numbered wherever there is a history."""
    if tokenizer.raw.family != "chatglm":
        ids = tokenizer.format.write(Dialogue.of(messages))
        return ids[:max_source], Cut(prompt=len(ids) > max_source)
    if row.history is not None and not row.history:
        text = tokenizer.encode_text(f"[Round 0]\n问：{row.prompt}\n答：")
        marks = tokenizer.format.write(Dialogue.of(messages))[-2:]
    else:
        *text, gmask, sop = tokenizer.format.write(Dialogue.of(messages))
        marks = [gmask, sop]
    return [*text[: max_source - 1], *marks], Cut(prompt=len(text) > max_source - 1)


def _answer(response: str, messages: list[ChatMessage], tokenizer: ChatTokenizer) -> list[int]:
    """Return the answer's ids as the model is to generate them."""
    answered = [*messages, ChatMessage.of("assistant", tokenizer.format.direct(response))]
    prompt, written = (tokenizer.format.write(Dialogue.of(each)) for each in (messages, answered))
    if written[: len(prompt)] == prompt:  # also what a family puts before an answer, such as a line's end
        return written[len(prompt) :]
    return tokenizer.encode_text(response)
