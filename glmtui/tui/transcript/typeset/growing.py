"""A Markdown text that comes piece by piece: only its end is read again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmtui.text.clean import clean, split_partial
from glmtui.tui.transcript.typeset.blocks import Block, List, take_all
from glmtui.tui.transcript.typeset.reading import read

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_UNDECIDED = re.compile(
    r"(?:^|(?<=\n))[ \t>]*(?:[-=+_~#|:`*]+|\d{1,9}[.)]?)?[ \t]*\Z"  # a line that may become anything
    r"|[*_~`\\$]+\Z|!?\[\Z"  # a mark that may open or close something
)
_CODE_SPAN = re.compile(r"(`+)(?:(?!\1).)*?\1|\\.", re.DOTALL)


def undecided(text: str) -> int:
    """Return where the end of streamed `text` begins that could still turn into something else.

    Shown at once, a dash would flash as text before it is a list, three backticks as three backticks.
    """
    match = _UNDECIDED.search(text)
    return match.start() if match else len(text)


class GrowingMarkdown:
    """The blocks of a text that grows. What may still change is its last block, in a list its last item."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.text = ""
        """All of it that came, cleaned."""
        self._parser = _parser()
        self._raw = ""
        """The end of what came, not cleaned yet: an escape sequence may be cut in it."""
        self._tail = ""
        """The text from the start of the last block on."""
        self._item = 0
        """Where in it the last item of a list begins."""
        self._shown = 0
        """Characters of `text` that are in `blocks`."""

    def add(self, text: str) -> bool:
        """Take in streamed text; return whether the blocks are others now."""
        ready, self._raw = split_partial(self._raw + text)
        return self._add(clean(ready), final=False)

    def finish(self) -> None:
        """Nothing more comes: what was undecided is decided, as if the text had come at once."""
        self._add(clean(self._raw), final=True)
        self._raw = ""
        blocks = read(self._parser.parse(self.text), self.text)
        take_all(blocks, self.blocks)
        self.blocks = blocks

    def _add(self, text: str, *, final: bool) -> bool:
        self.text += text
        self._tail += text
        tail = self._tail if final else self._tail[: undecided(self._tail)]
        shown = len(self.text) - len(self._tail) + len(tail)
        if shown <= self._shown:
            return False
        self._shown = shown
        self._read(tail, close=not final)
        return True

    def _read(self, tail: str, *, close: bool) -> None:
        """Make the last block anew of `tail`, its source and what follows it."""
        last = self.blocks[-1] if self.blocks else None
        tokens, blocks = self._parse(tail[self._item :], close=close)
        if self._item and isinstance(last, List):
            if blocks and isinstance(blocks[0], List) and _same_kind(blocks[0], last):
                blocks[0] = last.grown(blocks[0])
            else:  # not what its items looked like: the complete list again
                self._item = 0
                tokens, blocks = self._parse(tail, close=close)
        if not self._item:
            take_all(blocks[:1], self.blocks[-1:])
        self.blocks[-1:] = blocks
        self._move(tokens)

    def _move(self, tokens: Sequence[Token]) -> None:
        """Let `_tail` and `_item` begin where the last of `tokens` (made of `_tail[_item:]`) do."""
        tops = [number for number, token in enumerate(tokens) if token.level == 0 and token.map]
        if not tops:
            return
        last = tops[-1]
        items = [token for token in tokens[last:] if token.type == "list_item_open" and token.level == 1]
        text = self._tail[self._item :]
        block_start = _line_start(text, tokens[last].map)
        item_start = _line_start(text, items[-1].map) if items else 0
        if last == 0 and self._item and items:  # the same list as before
            self._item += item_start
        else:
            self._tail = text[block_start:]
            self._item = item_start - block_start if items else 0

    def _parse(self, text: str, *, close: bool) -> tuple[list[Token], list[Block]]:
        tokens = self._parser.parse(text)
        if close:
            close_marks(self._parser, tokens)
        return tokens, read(tokens, text, growing=close)


def _parser() -> MarkdownIt:
    from glmtui.text.markdown import shared_parser  # the first paint has no Markdown to wait for

    return shared_parser()


def read_all(text: str) -> list[Block]:
    """Return the blocks of a text that is complete."""
    text = clean(text)
    return read(_parser().parse(text), text)


def _same_kind(more: List, last: List) -> bool:
    return (more.first is None) == (last.first is None)


def _line_start(text: str, lines: Sequence[int] | None) -> int:
    """Return the offset in `text` of the first of the `lines` that a token spans."""
    offset = 0
    for _line in range(lines[0] if lines else 0):
        offset = text.index("\n", offset) + 1
    return offset


def close_marks(parser: MarkdownIt, tokens: Sequence[Token]) -> None:
    """Close the bold or code that the last paragraph of a growing text has open.

    So bold text is bold from its first character, instead of when its end has come.
    """
    last = next(
        (token for token in reversed(tokens) if token.type in ("inline", "fence", "code_block")), None
    )
    if last is None or last.type != "inline":
        return
    bare = _CODE_SPAN.sub("", last.content)
    if ticks := re.search("`+", bare):
        closer = ticks.group()
    elif bare.count("**") % 2 and not bare.rstrip().endswith("**"):
        closer = "**"
    else:
        return
    last.content = last.content.rstrip() + closer
    last.children = []
    from glmtui.text.markdown import keep_breaks

    parser.inline.parse(last.content, parser, {}, last.children)
    keep_breaks(last.children)
