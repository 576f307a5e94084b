"""Many lines of any characters through cleaning, Markdown, transcript and composer."""

from __future__ import annotations

import os
import random
import sys
import unicodedata
from collections.abc import Iterator

import pytest
from textual import events
from tui_helpers import NOON, Host

from glmtui.chat.conversation import Message
from glmtui.text.clean import clean, one_line
from glmtui.text.markdown import make_parser
from glmtui.text.word_boundaries import next_word, previous_word, word_spans
from glmtui.tui.composer.composer import Composer
from glmtui.tui.transcript.transcript import Transcript
from glmtui.tui.transcript.typeset.blocks import stack
from glmtui.tui.transcript.typeset.growing import GrowingMarkdown, close_marks, read_all, undecided

pytestmark = pytest.mark.slow

MARKS = "*_`~#>-+=|[]()!<>\\$&:./0123456789 \t\n\n\r\x1b\x07\x9b\u2028\u2029\x85\u200d\ufe0f\u202e\ud83d"
LINES = int(os.environ.get("GLMTUI_TEST_LINES", "20000"))
"""How many; a hundred thousand by hand."""
CHINESE = "的一是不了人我在有他这为之大来以个中上们，。、（）“”《》：；"


def lines(count: int, seed: int) -> Iterator[str]:
    chooser = random.Random(seed)
    anything = [chr(chooser.randrange(sys.maxunicode + 1)) for _each in range(20_000)]
    pools = [MARKS, CHINESE, "abc XYZ", anything]
    for _line in range(count):
        size = chooser.randrange(24)
        yield "".join(chooser.choice(chooser.choice(pools)) for _each in range(size))


def test_many_lines_are_cleaned_set_into_lines_and_split_into_words() -> None:
    parser = make_parser()
    chunk: list[str] = []
    for number, line in enumerate(lines(LINES, 1)):
        cleaned = clean(line)
        assert not {"Cc", "Cs"} & {unicodedata.category(c) for c in cleaned if c not in "\n\t"}
        cleaned.encode()
        one_line(line)
        if number % 10 == 0:
            spans = word_spans(cleaned)
            assert all(start < end for start, end in spans)
            assert (
                0 <= previous_word(cleaned, len(cleaned)) <= next_word(cleaned, 0)
                or not spans
                or len(spans) > 1
            )
        chunk.append(cleaned)
        if len(chunk) == 50:
            text = "\n".join(chunk)
            close_marks(parser, parser.parse(text[: undecided(text)]))
            laid = stack(read_all(text), 40)
            assert all(line.content.cell_length <= 48 for line in laid)
            chunk.clear()


def test_any_text_can_be_streamed_and_laid_out() -> None:
    chooser = random.Random(2)
    for seed in range(40):
        text, growing = "\n".join(lines(12, seed)), GrowingMarkdown()
        while text:
            size = chooser.randint(1, 40)
            growing.add(text[:size])
            stack(growing.blocks, chooser.choice([3, 20, 60]))
            text = text[size:]
        growing.finish()
        drawn = "".join(line.content.plain for line in stack(growing.blocks, 60))
        assert not set("\x1b\x07\x9b\u202e\ud83d") & set(drawn)


async def test_any_text_can_be_read_and_written() -> None:
    transcript, composer = Transcript(), Composer()
    async with Host(transcript, composer).run_test(size=(60, 30)) as pilot:
        texts = ["\n".join(lines(8, 100 + number)) for number in range(24)]
        transcript.show(
            [
                Message.of(str(n), None, "assistant" if n % 2 else "user", text, NOON)
                for n, text in enumerate(texts)
            ]
        )
        for share in (1, 0.6, 0.2, 0):
            transcript.scroll_to(y=transcript.max_scroll_y * share, animate=False, immediate=True)
            await pilot.pause()
        composer.focus()
        keys = [
            "ctrl+left",
            "ctrl+w",
            "up",
            "ctrl+right",
            "left",
            "backspace",
            "ctrl+delete",
            "home",
            "end",
            "down",
        ]
        chooser = random.Random(3)
        for text in texts:
            composer.text = text
            assert composer.text == clean(text)
            composer.prompt.post_message(events.Paste("\n".join(lines(chooser.choice([1, 20]), len(text)))))
            await pilot.press(*chooser.choices(keys, k=4))


async def test_many_lines_are_scrolled_through_and_pasted() -> None:
    every = list(lines(LINES, 7))
    texts = ["\n".join(every[at : at + 500]) for at in range(0, len(every), 500)]
    roles = ["assistant", "user", "user", "user"]
    messages = [Message.of(str(n), None, roles[n % 4], text, NOON) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    transcript, composer = Transcript(), Composer()
    async with Host(transcript, composer).run_test(size=(60, 30)) as pilot:
        transcript.show(messages)
        for number in range(0, len(messages), 4):
            assert transcript.go_to(str(number))
            await pilot.pause()
        size = LINES // 5
        for at in range(0, len(every), size):
            composer.text = "\n".join(every[at : at + size])
            assert composer.text.count("\n") >= size - 1
            await pilot.pause()
