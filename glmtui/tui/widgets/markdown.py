"""Markdown as chat models write it, cheap to stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.await_complete import AwaitComplete
from textual.events import Mount
from textual.geometry import Size
from textual.layout import Layout
from textual.widgets import Markdown

from glmtui.markdown import keep_breaks, make_parser
from glmtui.tui.text import clean, split_partial
from glmtui.tui.widgets.markdown_blocks import (
    ChatBulletList,
    ChatList,
    ChatOrderedList,
    ChatTable,
    MarkdownBlock,
    blocks_of,
    reconcile,
)
from glmtui.tui.widgets.markdown_code import CodeBlock
from glmtui.tui.widgets.stack import STACK

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


class ChatMarkdown(Markdown):
    """A Markdown text that can be given whole (`update`) or piece by piece (`append`, then `finish`).

    Only what may still change is parsed again: the last block, in a list only the last item. Links are
    never opened; they are posted as `Markdown.LinkClicked`.
    """

    DEFAULT_CSS = """
    ChatMarkdown {
        height: auto;
        padding: 0;
        layout: vertical;
        MarkdownHeader {
            width: 1fr;
            margin: 0 0 1 0;
            content-align: left middle;
            background: transparent;
            color: $text-primary;
            text-style: bold;
        }
        MarkdownH1 { text-style: bold underline; }
        MarkdownH2 { text-style: bold; }
        MarkdownH4, MarkdownH5, MarkdownH6 { color: $foreground; }
        MarkdownHorizontalRule {
            height: 1;
            padding: 0;
            margin: 0 0 1 0;
            border: none;
            hatch: "─" $foreground 30%;
        }
        MarkdownBlockQuote {
            margin: 0 0 1 0;
            padding: 0 1;
            background: transparent;
            color: $text-muted;
            border-left: outer $foreground 30%;
        }
        MarkdownBlockQuote:light { border-left: outer $foreground 30%; }
        MarkdownBlockQuote > MarkdownBlockQuote { margin: 0; }
        &:ansi {
            MarkdownHeader { color: ansi_default; }
            MarkdownBlockQuote { color: ansi_default; text-style: dim; }
        }
    }
    """
    BLANK = True
    BLOCKS: dict[str, type[MarkdownBlock]] = {  # noqa: RUF012 - an instance variable to Textual's types
        **Markdown.BLOCKS,
        "bullet_list_open": ChatBulletList,
        "ordered_list_open": ChatOrderedList,
        "table_open": ChatTable,
        "fence": CodeBlock,
        "code_block": CodeBlock,
    }

    def __init__(self, text: str = "", *, classes: str | None = None) -> None:
        super().__init__(classes=classes, open_links=False)
        self._parser = make_parser()
        self._first = text
        self._reset()

    @property
    def layout(self) -> Layout:
        """Blocks one below the other."""
        return STACK

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Without the gap after the last block: what stands below keeps its own distance."""
        height = super().get_content_height(container, viewport, width)
        return max(height - self.children[-1].styles.margin.bottom, 0) if self.children else height

    def _reset(self) -> None:
        self._markdown = ""
        self._raw = ""
        """The end of what came, not cleaned yet: an escape sequence may be cut in it."""
        self._block = ""
        """The text from the start of the last block on."""
        self._item = 0
        """Where in it the last item of a list begins."""
        self._rows = 0
        """Rows of the list before that item."""
        self._last: MarkdownBlock | None = None
        """What shows the start of `_block`."""
        self._decided = 0
        """Characters of the whole text that have been shown."""

    async def _on_mount(self, event: Mount) -> None:  # type: ignore[override] # Textual's own is async
        event.prevent_default()  # Textual's own parses in another thread and posts a table of contents
        if self._first:
            await self.update(self._first)

    def update(self, markdown: str) -> AwaitComplete:
        """Show this text and no other. What is appended later is a text of its own below it."""

        async def replace() -> None:
            async with self.lock:
                self._reset()
                self._markdown = clean(markdown)
                self._decided = len(self._markdown)
                with self.app.batch_update():
                    await self.remove_children()
                    await self.mount_all(self._build(self._markdown)[1])

        return AwaitComplete(replace())

    def append(self, markdown: str) -> AwaitComplete:
        """Add streamed text. What could still turn into something else is shown with the next piece."""
        ready, self._raw = split_partial(self._raw + markdown)
        self._add(clean(ready))
        return AwaitComplete(self._grow(final=False))

    def finish(self) -> AwaitComplete:
        """Show all that came, as the same text given whole would look."""
        self._add(clean(self._raw))
        self._raw = ""
        return AwaitComplete(self._grow(final=True))

    def _add(self, text: str) -> None:
        self._markdown += text
        self._block += text

    async def _grow(self, *, final: bool) -> None:
        async with self.lock:
            text = self._block if final else self._block[: undecided(self._block)]
            decided = len(self._markdown) - len(self._block) + len(text)
            if decided <= self._decided and not final:
                return
            self._decided = decided
            with self.app.batch_update():
                await self._show(text, final=final)
                if final:
                    await self._settle()

    async def _show(self, text: str, *, final: bool) -> None:
        """Make the last block show `text`, its whole source, and mount what follows it."""
        before = self._last
        tokens, blocks = self._build(text[self._item :], close=not final)
        if self._item and not await self._take_items(blocks):
            self._item = self._rows = 0  # not what its items looked like: the whole list again
            tokens, blocks = self._build(text, close=not final)
        if not self._item:
            await reconcile(self, [self._last] if self._last else [], blocks)
        self._last = blocks_of(self)[-1] if blocks else None
        self._move(tokens)
        if isinstance(before, CodeBlock) and before is not self._last and before.is_attached:
            before.finish()

    async def _take_items(self, blocks: list[MarkdownBlock]) -> bool:
        """Give the last list its new rows and mount what follows it; False if they are no rows of it."""
        old = self._last
        if not (isinstance(old, ChatList) and blocks and type(blocks[0]) is type(old)):
            return False
        assert isinstance(blocks[0], ChatList)
        if not await old.take(blocks[0], at=self._rows):
            return False
        if blocks[1:]:
            await self.mount_all(blocks[1:])
        return True

    def _move(self, tokens: Sequence[Token]) -> None:
        """Let `_block` and `_item` begin where the last of `tokens` (made of `_block[_item:]`) do."""
        tops = [number for number, token in enumerate(tokens) if token.level == 0 and token.map]
        if not tops:
            return
        last = tops[-1]
        items = [token for token in tokens[last:] if token.type == "list_item_open" and token.level == 1]
        text = self._block[self._item :]
        block_start = _line_start(text, tokens[last].map)
        if not items:
            self._block, self._item, self._rows = text[block_start:], 0, 0
            return
        item_start = _line_start(text, items[-1].map)
        if last == 0 and self._item:  # the same list as before
            self._item += item_start
            self._rows += len(items) - 1
        else:
            self._block = text[block_start:]
            self._item = item_start - block_start
            self._rows = len(items) - 1

    async def _settle(self) -> None:
        """Compare with the text given whole, and show that where the pieces have led elsewhere."""
        blocks = self._build(self._markdown)[1]
        if [outline(block) for block in blocks_of(self)] != [outline(block) for block in blocks]:
            await self.remove_children()
            await self.mount_all(blocks)
        for code in self.query(CodeBlock):
            code.finish()
        markdown, decided = self._markdown, self._decided
        self._reset()
        self._markdown, self._decided = markdown, decided

    def _build(self, text: str, *, close: bool = False) -> tuple[list[Token], list[MarkdownBlock]]:
        tokens = self._parser.parse(text)
        if close:
            close_marks(self._parser, tokens)
        return tokens, list(self._parse_markdown(tokens))


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
    parser.inline.parse(last.content, parser, {}, last.children)
    keep_breaks(last.children)


def code_blocks(text: str) -> list[str]:
    """Return the content of the code blocks of a Markdown text, without the blank line at their ends."""
    tokens = make_parser().parse(clean(text))
    return [token.content.rstrip("\n") for token in tokens if token.type in ("fence", "code_block")]


Outline = tuple[str, object, list[Any]]


def outline(block: MarkdownBlock) -> Outline:
    """Return what a block shows, the same whether it is mounted or fresh from the parser."""
    mounted = block.is_attached
    name = type(block).__name__
    if isinstance(block, ChatList):
        items = [blocks_of(row) for row in block.rows] if mounted else [item._blocks for item in block.items]
        return name, block.first, [[outline(child) for child in item] for item in items]
    if isinstance(block, ChatTable):
        return name, [[cell.plain for cell in row] for row in block.cells], []
    if isinstance(block, CodeBlock):
        return name, (block.lexer, block.code), []
    spans = [(span.start, span.end, str(span.style)) for span in block._content.spans]
    children = blocks_of(block) if mounted else block._blocks
    return name, (block._content.plain, spans), [outline(child) for child in children]
