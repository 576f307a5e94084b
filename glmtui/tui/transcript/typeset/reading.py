"""Markdown read into blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from textual.content import Content, Span
from textual.style import Style

from glmtui.i18n import _
from glmtui.tui.transcript.typeset import latex
from glmtui.tui.transcript.typeset.blocks import Block, Formula, Item, List, Paragraph, Quote, Rule
from glmtui.tui.transcript.typeset.code import Code
from glmtui.tui.transcript.typeset.table import Align, Table

if TYPE_CHECKING:
    from markdown_it.token import Token

LINK = "href"
"""Key of the meta data under a link."""
_SPACE = re.compile(r"\s+")
_TASK = re.compile(r"\[([ xX])\] +(?=\S)")
_ALIGN = re.compile("text-align:(left|right|center)")
_OPENERS = {"em_open": ".text--em", "strong_open": ".text--strong", "s_open": ".text--strike"}


def read(tokens: Sequence[Token], source: str, *, growing: bool = False) -> list[Block]:
    """Return the blocks of the parsed `source`; with `growing`, its last code block may not be complete."""
    return list(_Reading(tokens, source, growing).blocks(depth=0))


class _Reading:
    def __init__(self, tokens: Sequence[Token], source: str, growing: bool) -> None:
        self.tokens = tokens
        self.rows = source.split("\n")
        self.growing = growing
        self.at = 0

    def blocks(self, depth: int, until: str = "") -> Iterator[Block]:
        """Read to the closing token `until` (over it), or to the end."""
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            self.at += 1
            if token.type == until:
                return
            match token.type:
                case "paragraph_open":
                    yield Paragraph(self._inline())
                case "heading_open":
                    yield Paragraph(self._inline(), int(token.tag[1:]))
                case "fence" if not token.markup:
                    yield Formula(token.content.rstrip("\n"))
                case "fence" | "code_block":
                    yield self._code(token)
                case "hr":
                    yield Rule()
                case "blockquote_open":
                    yield Quote(list(self.blocks(depth, "blockquote_close")))
                case "bullet_list_open" | "ordered_list_open":
                    yield self._list(token, depth)
                case "table_open":
                    yield self._table()

    def _inline(self) -> Content:
        content = inline(self.tokens[self.at].children or ())
        self.at += 2  # over the closing token
        return content

    def _code(self, token: Token) -> Code:
        language = re.match(r"[\w+#.-]{1,24}", token.info.strip())
        code = token.content.removesuffix("\n")
        last = self.growing and self.at == len(self.tokens) - self._closers()
        return Code(code, language.group().lower() if language else "", growing=last)

    def _closers(self) -> int:
        number = 0
        while number < len(self.tokens) and self.tokens[-1 - number].nesting < 0:
            number += 1
        return number

    def _list(self, opener: Token, depth: int) -> List:
        ordered = opener.type == "ordered_list_open"
        made = List([], int(opener.attrs.get("start", 1)) if ordered else None, depth)
        while self.tokens[self.at].type == "list_item_open":
            token = self.tokens[self.at]
            self.at += 1
            done = self._task()
            blocks = list(self.blocks(depth + 1, "list_item_close"))
            first, end = token.map or (0, 0)
            made.items.append(Item(blocks, "\n".join(self.rows[first:end]).rstrip(), done))
        self.at += 1
        return made

    def _task(self) -> bool | None:
        """Take the box of a task away from the text before it; return whether it is ticked."""
        inside = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else None
        children = (inside.children or ()) if inside and inside.type == "inline" else ()
        if not children or children[0].type != "text" or not (box := _TASK.match(children[0].content)):
            return None
        children[0].content = children[0].content[box.end() :]
        return box[1] != " "

    def _table(self) -> Table:
        rows: list[list[Content]] = []
        aligns: list[Align] = []
        while (token := self.tokens[self.at]).type != "table_close":
            self.at += 1
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                if token.type == "th_open":
                    align = _ALIGN.search(str(token.attrs.get("style", "")))
                    aligns.append(cast(Align, align[1]) if align else "left")
                rows[-1].append(self._inline())
        self.at += 1
        return Table(rows[0], rows[1:], aligns)


def inline(tokens: Sequence[Token]) -> Content:
    """Return the text of a paragraph with its styles."""
    parts: list[str] = []
    spans: list[Span] = []
    opened: list[tuple[int, list[str | Style]]] = []
    at = 0

    def add(text: str, *styles: str | Style) -> None:
        nonlocal at
        parts.append(text)
        spans.extend(Span(at, at + len(text), style) for style in styles if text)
        at += len(text)

    for token in tokens:
        match token.type:
            case "text":
                add(_SPACE.sub(" ", token.content))
            case "hardbreak":
                add("\n")
            case "softbreak":
                add(" ")
            case "code_inline" if token.markup == "$":
                add(_SPACE.sub(" ", latex.to_unicode(token.content)), ".text--math")
            case "code_inline":
                add(token.content, ".text--code-inline")
            case "link_open":
                opened.append((at, [".text--link", _link(token.attrs.get("href"))]))
            case "image":
                text = "".join(child.content for child in token.children or ()) or _("image")
                add(f"[{text}]", ".text--link", _link(token.attrs.get("src")))
            case kind if style := _OPENERS.get(kind):
                opened.append((at, [style]))
            case kind if kind.endswith("_close") and opened:
                start, styles = opened.pop()
                spans.extend(Span(start, at, style) for style in styles if at > start)
            case _:
                add(token.content)
    return Content("".join(parts), spans)


def _link(target: object) -> Style:
    return Style.from_meta({LINK: str(target or "")})
